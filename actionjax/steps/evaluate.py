"""The step that scores a trained model on a part of its dataset."""
import dataclasses
import functools
import itertools
from collections.abc import Mapping
from typing import Any

import jax

from actionjax import configuration, distributed, models
from actionjax.data import catalogue, own
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import DataConfig, parse_data
from actionjax.errors import UserError
from actionjax.evaluators import classification
from actionjax.evaluators import scores as files
from actionjax.ops import corruption, memory
from actionjax.steps.context import Context
from actionjax.steps.outline import METRICS, Earlier, Outline, trace
from actionjax.training import checkpoint, sharding
from actionjax.training.state import digest


@dataclasses.dataclass(frozen=True)
class Config:
  """An evaluation.

  Attributes:
    name: the key of the result in metrics.json.
    split: of the protocol; "test" if not given.
    model_from: the training step whose model to score (None: the latest), or the path of a
      finished run, step or model directory.
    batch_size: clips a global batch, at most: fewer where a device's memory asks for it.
    memory: GiB that the arrays inside the network may take at once on a device; None for what
      `ops.memory.budget` says. Views and clips go through it in slices that fit.
    views: see `classification.ViewConfig`.
    protocol: another protocol than the model was trained with, by name.
    dataset, variant: another dataset with the same classes, such as one whose skeletons come from
      another pose estimator.
    drop_joints: probability that a person loses one joint of an arm or a leg in a frame; see
      `corruption.drop_limb_joints`.
    drop_seed: of these draws, which depend on it and on the clip alone.
  """
  name: str = "test"
  split: str = "test"
  model_from: str | None = None
  batch_size: int = 16
  memory: float | None = None
  views: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  protocol: str | None = None
  dataset: str | None = None
  variant: str | None = None
  drop_joints: float = 0.0
  drop_seed: int = 0

  def __post_init__(self):
    if self.memory is not None and self.memory <= 0:
      raise ValueError(f"memory must be above 0 GiB, got {self.memory}")


def parse(config: Config, path: str) -> classification.ViewConfig:
  """Builds the nested section; raises UserError where nothing takes a key or value."""
  corruption.check(config.drop_joints, f"{path}.drop_joints")
  return configuration.build(classification.ViewConfig, config.views, f"{path}.views")


def reads(config: Config) -> tuple[str, ...]:
  """The step that the config names; it may be a folder instead."""
  return () if config.model_from is None else (config.model_from,)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks the model, and that it goes with the data that it is scored on. Raises UserError."""
  views = parse(config, path)
  earlier.check_batch_size(config.batch_size, f"{path}.batch_size")
  model = earlier.model(config.model_from, f"{path}.model_from")
  data = data_of(config, model.data, model.class_names, model.layout, model.module,
                 earlier.data_dir, path)
  corruption.check(config.drop_joints, f"{path}.drop_joints", model.module.inputs,
                   motion=data.motion)
  clips = earlier.count(data, config.split, path)
  variables, _ = trace(model.module, data, path)
  facts = {} if clips is None else {"clips": clips}
  return Outline(metrics=METRICS, scores=model.streams, classes=len(model.class_names),
                 section={"views": dataclasses.asdict(views)},
                 facts=facts, at_once=functools.partial(
                     _at_once, config, views, model.module, variables, data))


def _at_once(config: Config, views: classification.ViewConfig, module, variables,
             data: DataConfig) -> str:
  """What goes through the network together, and what its arrays take, for a plan."""
  needed = classification.view_bytes(module, variables, data)
  devices, room = jax.device_count(), _budget(config)
  clips = classification.fitting_batch(config.batch_size, devices, needed, room) // devices
  if views.count is None:
    return f"{clips} clips a device, their views in turns of {needed * clips / memory.GIB:.2f} GiB"
  together = classification.views_at_once(views.count, clips, needed, room)
  return (f"{clips} clips a device, {together} of {views.count} views at once: "
          f"{needed * clips * together / memory.GIB:.2f} GiB")


def _budget(config: Config) -> int:
  return memory.budget() if config.memory is None else int(config.memory * memory.GIB)


def run(config: Config, context: Context) -> dict:
  """Scores every clip of the split.

  Writes `scores.npz` (probabilities, labels, clip_ids, readable) and `confusion.npy`.

  Returns:
    Artifacts: `metrics` (top1, top5, mean_class_accuracy in [0, 1], clips, unreadable,
    skipped_at_preparation, views, split, params_digest; and `streams`, `dataset`, `drop_joints`,
    `cut` where there are several, another one, any, less of each clip) and `scores` (file, relative
    to the workdir).

  Raises:
    UserError: no such model or dataset, or they do not go together.
  """
  views = parse(config, context.path)
  sharding.check_batch_size(config.batch_size, context.mesh, f"{context.path}.batch_size")
  variables, description = checkpoint.load_model(context.model_of(config.model_from),
                                                 sharding.replicated(context.mesh))
  if "model" not in description:
    raise UserError(f"{context.path}.model_from: {config.model_from} holds converted weights "
                    "alone; a config that says which network they are evaluates them, such as "
                    "configs/posec3d_ntu60.py:test=DIR")
  model = models.from_description(description)
  data = data_of(config, parse_data(description["data"], "the checkpoint's data"),
                 description["class_names"], description["layout"], model, context.data_dir,
                 context.path)
  clips = pipeline.open_split(data, context.data_dir, config.split)
  corrupt = dropper(model, data, config.drop_joints, config.drop_seed, context.path)
  needed, room = classification.view_bytes(model, variables, data), _budget(config)
  devices = context.mesh.size
  view_step = classification.make_view_step(
      model, views, corrupt, data.mirror_classes, needed=needed, budget=room, devices=devices)
  scores = classification.evaluate(
      view_step, variables, clips, data, views, mesh=context.mesh,
      batch_size=classification.fitting_batch(config.batch_size, devices, needed, room))
  result = scores.metrics() | {
      "skipped_at_preparation": len(clips.dataset.info.get("skipped", ())),
      "split": f"{data.protocol}/{_name_of(config.split, data)}",
      "views": dataclasses.asdict(views),
      "params_digest": digest(jax.device_get(variables))}
  if "cut" in clips.dataset.info:
    result["cut"] = clips.dataset.info["cut"]
  if config.dataset is not None or config.variant is not None:
    result["dataset"] = "/".join(filter(None, (data.dataset, data.variant)))
  if config.drop_joints:
    result["drop_joints"] = config.drop_joints
  if distributed.is_first():
    scores.save(context.directory, clips.dataset.index.clip_id[clips.rows])
  return {"metrics": result, "of": (data.dataset, data.protocol),
          "scores": str((context.directory / files.FILE).relative_to(context.workdir))}


def _name_of(split: str, data: DataConfig) -> str:
  """A split's name; that of validation clips says whether they are test clips too."""
  return f"{split} of test" if split == "validation" and data.validation_from == "test" else split


def data_of(config: Config, data: DataConfig, class_names, layout: str, model,
            data_dir: str | None, path: str) -> DataConfig:
  """The data that a model was trained on, or what the evaluation puts in its place.

  Args:
    data, class_names, layout: of its training.
    path: of the step in the config, for messages.

  Raises:
    UserError: another dataset with other classes, joints or kind of frames.
  """
  if config.protocol is not None:
    data = dataclasses.replace(data, protocol=config.protocol)
  if config.dataset is None and config.variant is None:
    return data
  trained, name = data.source, config.dataset or data.dataset
  about = catalogue.facts(name, data_dir) if own.is_own(name) else None
  data = dataclasses.replace(data, dataset=name, variant=config.variant, about=about)
  same = [(f"class {label}", *names) for label, names in enumerate(itertools.zip_longest(
      class_names, data.source.class_names))]
  if "pose_score" in model.inputs:
    same.append(("joint layout", layout, data.source.layout))
  if "video" in model.inputs:
    same.append(("frames", trained.modality, data.source.modality))
  for what, here, there in same:
    if here != there:
      raise UserError(f"{path}.dataset={name} does not go with the model: {what} is "
                      f"{there or 'missing'} there, and {here or 'missing'} where it was trained")
  return data


def dropper(model, data: DataConfig, probability: float, seed: int, path: str):
  """`corrupt(batch) -> batch` that drops joints of every clip by its number in the part.

  None where nothing is dropped. Raises UserError for a model without skeletons, or of motion.
  """
  corruption.check(probability, f"{path}.drop_joints", model.inputs,
                   motion=data.motion)
  if not probability:
    return None
  layout = data.layout
  root = jax.random.key(seed)

  def corrupt(batch):
    keys = jax.vmap(lambda clip: jax.random.fold_in(root, clip))(batch["position"])
    return corruption.drop_from_batch(batch, layout, probability, keys)
  return corrupt
