"""Runs a classifier over a part of a dataset, each clip in several views."""
import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import annotations
from actionjax.data.loading import pipeline
from actionjax.data.loading.clip_transform import CROPS
from actionjax.data.loading.config import DataConfig, batch_spec
from actionjax.evaluators.scores import Scores
from actionjax.ops import compilation, memory
from actionjax.training import contracts, sharding, train_step


@dataclasses.dataclass(frozen=True)
class ViewConfig:
  """How a clip is shown at test time.

  Attributes:
    temporal: views along time; "all": as many as show every frame of a clip, each
      `data.video.num_frames` of them a fixed stride apart (the thesis' test).
    crops: "center" or "three" spatial windows a view.
    flips: show each of them in the mirror too.
    aggregate: "mean" or "max" (the thesis' choice) over the views' probabilities.
  """
  temporal: int | Literal["all"] = 1
  crops: Literal["center", "three"] = "center"
  flips: bool = False
  aggregate: Literal["mean", "max"] = "mean"

  def __post_init__(self):
    annotations.check_fields(self)
    if self.temporal != "all" and self.temporal < 1:
      raise ValueError(f"temporal views must be at least 1, got {self.temporal}")

  @property
  def count(self) -> int | None:
    """Views a clip; None where it depends on the clip."""
    return None if self.temporal == "all" else (
        self.temporal * (1 + self.flips) * len(CROPS[self.crops]))


def view_bytes(model, variables, data: DataConfig) -> int:
  """Bytes of the arrays that are alive at once while a network looks at one view of a clip.

  Args:
    variables: arrays, or their shapes.
  """
  spec = {name: value for name, value in batch_spec(data, 1, test=True).items()
          if name in model.inputs}
  weights = memory.size_bytes(variables)
  return memory.peak_bytes(train_step.make_eval_step(model), variables, spec) - weights


def fitting_batch(batch_size: int, devices: int, needed: int, budget: int) -> int:
  """Clips a global batch: at most `batch_size`, and no more than the budget has room for.

  Args:
    devices: number of devices, which it divides over.
    needed: bytes of one view of a clip; see `view_bytes`.
    budget: bytes on one device.
  """
  return max(1, min(batch_size // devices, budget // max(1, needed))) * devices


def views_at_once(views: int, clips: int, needed: int, budget: int) -> int:
  """How many of a batch's views go through the network together: a divisor of `views`.

  Args:
    clips: of the batch, on one device.
    needed, budget: see `fitting_batch`.
  """
  return max(number for number in range(1, views + 1)
             if views % number == 0 and (number == 1 or number * clips * needed <= budget))


def make_view_step(model, views: ViewConfig, corrupt=None, mirror_classes=None, *,
                   needed: int = 0, budget: int = 0, devices: int = 1):
  """Jitted `(variables, batch) -> (float32[B,N], streams)`: all views in one call, aggregated.

  Keep the result: another call of this function compiles again.

  Args:
    corrupt: `corrupt(batch) -> batch`, applied before the model sees the batch.
    mirror_classes: the label of each class seen in a mirror; None where every one stays itself.
    needed, budget: what one view of a clip needs and a device has, see `fitting_batch`: views go
      through the network in slices that fit. All together where nothing is said.
    devices: that a batch is split over.

  Returns:
    the step; its streams are a dict of float32[B,N], empty for a model without `stream_logits`.
  """
  eval_step = train_step.make_eval_step(model)

  def aggregate(by_view, valid):
    """float32[B,V,N] -> [B,N]; valid float[B,V]."""
    if views.flips and mirror_classes is not None:
      size, count, classes = by_view.shape
      windows = len(CROPS[views.crops])
      sides = by_view.reshape(size, count // (2 * windows), 2, windows, classes)
      sides = sides.at[:, :, 1].set(sides[:, :, 1][..., np.array(mirror_classes)])
      by_view = sides.reshape(by_view.shape)
    if views.aggregate == "max":
      # A clip has at least one view; padding has none and counts for nothing anyway.
      return jnp.max(jnp.where(valid[..., None] > 0, by_view, 0), axis=1)
    return jnp.sum(by_view * valid[..., None], 1) / jnp.maximum(valid.sum(1), 1)[:, None]

  def view_step(variables, batch):
    count = views.count or batch[model.inputs[0]].shape[1]
    contracts.check_batch(batch, reads=(*model.inputs, "label"), views=count,
                          layout=getattr(model, "layout", None))
    size = batch["label"].shape[0]
    if corrupt is not None:
      batch = corrupt(batch)
    together = views_at_once(count, -(-size // devices), needed, budget) if needed else count
    # Slices are cut along the views, so that the clips of a batch stay on their devices.
    sliced = {key: jnp.moveaxis(batch[key].reshape(
        size, count // together, together, *batch[key].shape[2:]), 1, 0) for key in model.inputs}

    def look(part):
      merged = {key: value.reshape(-1, *value.shape[2:]) for key, value in part.items()}
      return jax.tree.map(lambda p: p.reshape(size, together, -1), eval_step(variables, merged))

    if together == count:
      by_view = look({key: value[0] for key, value in sliced.items()})
    else:
      by_view = jax.tree.map(lambda p: jnp.moveaxis(p, 0, 1).reshape(size, count, -1),
                             jax.lax.map(look, sliced))
    valid = batch.get("view_valid", jnp.ones((size, count), jnp.float32))
    return jax.tree.map(lambda p: aggregate(p, valid), by_view)

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
