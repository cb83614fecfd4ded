"""Runs a classifier over a part of a dataset, each clip in several views."""
import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import annotations
from actionjax.data.loading import pipeline
from actionjax.data.loading.clip_transform import CROPS
from actionjax.data.loading.config import DataConfig
from actionjax.evaluators.scores import Scores
from actionjax.ops import compilation
from actionjax.training import contracts, sharding, train_step


@dataclasses.dataclass(frozen=True)
class ViewConfig:
  """How a clip is shown at test time.

  Attributes:
    temporal: views along time.
    crops: "center" or "three" spatial windows a view.
    flips: show each of them in the mirror too.
    aggregate: "mean" or "max" (the thesis' choice) over the views' probabilities.
  """
  temporal: int = 1
  crops: Literal["center", "three"] = "center"
  flips: bool = False
  aggregate: Literal["mean", "max"] = "mean"

  def __post_init__(self):
    annotations.check_fields(self)
    if self.temporal < 1:
      raise ValueError(f"temporal views must be at least 1, got {self.temporal}")

  @property
  def count(self) -> int:
    """Views a clip."""
    return self.temporal * (1 + self.flips) * len(CROPS[self.crops])


def make_view_step(model, views: ViewConfig, corrupt=None, mirror_classes=None):
  """Jitted `(variables, batch) -> (float32[B,N], streams)`: all views in one call, aggregated.

  Keep the result: another call of this function compiles again.

  Args:
    corrupt: `corrupt(batch) -> batch`, applied before the model sees the batch.
    mirror_classes: the label of each class seen in a mirror; None where every one stays itself.

  Returns:
    the step; its streams are a dict of float32[B,N], empty for a model without `stream_logits`.
  """
  eval_step = train_step.make_eval_step(model)
  combine = jnp.mean if views.aggregate == "mean" else jnp.max

  def aggregate(probabilities, size):
    by_view = probabilities.reshape(size, views.temporal, 1 + views.flips, -1,
                                    probabilities.shape[-1])
    if views.flips and mirror_classes is not None:
      by_view = by_view.at[:, :, 1].set(by_view[:, :, 1][..., np.array(mirror_classes)])
    return combine(by_view, axis=(1, 2, 3))

  def view_step(variables, batch):
    contracts.check_batch(batch, reads=(*model.inputs, "label"), views=views.count,
                          layout=getattr(model, "layout", None))
    size = batch["label"].shape[0]
    if corrupt is not None:
      batch = corrupt(batch)
    merged = {key: batch[key].reshape(-1, *batch[key].shape[2:]) for key in model.inputs}
    return jax.tree.map(lambda p: aggregate(p, size), eval_step(variables, merged))

  return jax.jit(view_step, compiler_options=compilation.compiler_options())


def evaluate(view_step, variables, clips: pipeline.Clips, config: DataConfig,
             views: ViewConfig, *, batch_size: int, mesh) -> Scores:
  """Scores every clip once, on any number of devices and processes.

  Args:
    view_step: from `make_view_step`.
    variables: replicated on the mesh.
    clips: the part to evaluate.
    batch_size: clips a global batch; a clip counts once, however many views it has.
  """
  found = []
  for batch in pipeline.test_batches(clips, config, batch_size=batch_size, views=views.temporal,
                                     crops=views.crops, flips=views.flips):
    device_batch = sharding.to_devices(
        {key: value for key, value in batch.items() if key != "unreadable"}, mesh)
    probabilities = view_step(variables, device_batch)
    rows = {key: batch[key] for key in ("position", "label", "valid")}
    if jax.process_count() > 1:
      rows = sharding.to_host(sharding.to_devices(rows, mesh))
    found.append((sharding.to_host(probabilities), rows))
  count = len(clips.rows)
  empty = jax.tree.map(lambda p: np.zeros((count, p.shape[1]), np.float32), found[0][0])
  result = Scores(empty[0], np.zeros(count, np.int32), np.zeros(count, bool), empty[1])
  for (probabilities, streams), rows in found:
    real = rows["position"] < count
    at = rows["position"][real]
    result.probabilities[at] = probabilities[real]
    for name, stream in streams.items():
      result.streams[name][at] = stream[real]
    result.labels[at] = rows["label"][real]
    result.readable[at] = rows["valid"][real] > 0
  return result
