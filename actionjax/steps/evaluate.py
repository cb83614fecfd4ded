"""The step that scores a trained model on a part of its dataset."""
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from actionjax import configuration, models
from actionjax.data import pipeline
from actionjax.errors import UserError
from actionjax.evaluators import classification, metrics
from actionjax.steps.context import Context
from actionjax.steps.train import parse_data
from actionjax.training import checkpoint, sharding
from actionjax.training.state import digest


@dataclasses.dataclass(frozen=True)
class Config:
  """An evaluation.

  Attributes:
    name: the key of the result in metrics.json.
    part: of the protocol; "test" if not given.
    model_from: name of the training step whose model to score (None: the latest).
    batch_size: clips a global batch.
    views: see `classification.ViewConfig`.
    protocol: another protocol than the model was trained with, by name.
  """
  name: str = "test"
  part: str = "test"
  model_from: str | None = None
  batch_size: int = 16
  views: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  protocol: str | None = None


def parse(config: Config, path: str) -> classification.ViewConfig:
  """Builds the nested section; raises UserError where nothing takes a key or value."""
  return configuration.build(classification.ViewConfig, config.views, f"{path}.views")


def run(config: Config, context: Context) -> dict:
  """Scores every clip of the part.

  Writes `scores.npz` (probabilities, labels, clip_ids, readable) and `confusion.npy`.

  Returns:
    Artifacts: `metrics` (top1, top5, mean_class_accuracy in [0, 1], clips, unreadable,
    skipped_at_preparation, views, split, params_digest) and `scores` (file, relative to the
    workdir).
  """
  views = parse(config, context.path)
  sharding.check_batch_size(config.batch_size, context.mesh, f"{context.path}.batch_size")
  variables, description = checkpoint.load_model(context.model_of(config.model_from),
                                                 sharding.replicated(context.mesh))
  data = parse_data(description["data"], "the checkpoint's data")
  if config.protocol is not None:
    data = dataclasses.replace(data, protocol=config.protocol)
  model = models.create(description["model"], num_classes=len(description["class_names"]),
                        layout=description["layout"], path="the checkpoint's model")
  clips = pipeline.open_part(data, context.data_dir, config.part)
  scores = classification.evaluate(
      classification.make_view_step(model, views), variables, clips, data, views,
      batch_size=config.batch_size, mesh=context.mesh)
  readable = scores.readable
  if not readable.any():
    raise UserError(f"none of the {len(readable)} clips of {config.part} could be read")
  probabilities, labels = scores.probabilities[readable], scores.labels[readable]
  result = metrics.summarise(probabilities, labels) | {
      "unreadable": int((~readable).sum()),
      "skipped_at_preparation": len(clips.dataset.info.get("skipped", ())),
      "split": f"{data.protocol}/{config.part}",
      "views": {"temporal": views.temporal, "crops": views.crops, "aggregate": views.aggregate},
      "params_digest": digest(jax.device_get(variables))}
  if jax.process_index() == 0:
    context.directory.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        context.directory / "scores.npz", probabilities=scores.probabilities,
        labels=scores.labels, readable=readable,
        clip_ids=clips.dataset.index.clip_id[clips.rows])
    np.save(context.directory / "confusion.npy", metrics.confusion_matrix(
        labels, metrics.top_1(probabilities), probabilities.shape[1]))
  return {"metrics": result,
          "scores": str((context.directory / "scores.npz").relative_to(context.workdir))}
