"""Runs a classifier over a part of a dataset, each clip in several views."""
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.data import pipeline
from actionjax.models import layers
from actionjax.training import sharding, steps


@dataclasses.dataclass(frozen=True)
class ViewConfig:
  """How a clip is shown at test time.

  Attributes:
    temporal: views along time.
    crops: "centre" or "three" spatial windows a view.
    aggregate: "mean" or "max" (the thesis' choice) over the views' probabilities.
  """
  temporal: int = 1
  crops: str = "centre"
  aggregate: str = "mean"

  def __post_init__(self):
    if self.crops not in pipeline.CROPS:
      raise ValueError(f"crops {self.crops!r} is none of {', '.join(pipeline.CROPS)}")
    if self.aggregate not in ("mean", "max"):
      raise ValueError(f"aggregate {self.aggregate!r} is neither mean nor max")
    if self.temporal < 1:
      raise ValueError(f"temporal views must be at least 1, not {self.temporal}")

  @property
  def count(self) -> int:
    """Views a clip."""
    return self.temporal * len(pipeline.CROPS[self.crops])


@dataclasses.dataclass(frozen=True)
class Scores:
  """What an evaluation found, for every clip of the part in the index' order.

  Attributes:
    probabilities: float32[n,N], aggregated over views.
    labels: int32[n].
    readable: bool[n]; rows of clips that could not be read are False and count for nothing.
  """
  probabilities: np.ndarray
  labels: np.ndarray
  readable: np.ndarray


def make_view_step(model, views: ViewConfig):
  """Jitted `(variables, batch) -> float32[B,N]`: all views in one call, aggregated.

  Keep the result: another call of this function compiles again.
  """
  eval_step = steps.make_eval_step(model)
  combine = jnp.mean if views.aggregate == "mean" else jnp.max

  def view_step(variables, batch):
    size = batch["label"].shape[0]
    merged = {key: batch[key].reshape(-1, *batch[key].shape[2:]) for key in model.inputs}
    probabilities = eval_step(variables, merged)
    return combine(probabilities.reshape(size, views.count, -1), axis=1)

  return jax.jit(view_step, compiler_options=layers.compiler_options())


def evaluate(view_step, variables, clips: pipeline.Clips, config: pipeline.DataConfig,
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
                                     crops=views.crops):
    device_batch = sharding.to_devices(
        {key: value for key, value in batch.items() if key not in ("position", "unreadable")},
        mesh)
    probabilities = view_step(variables, device_batch)
    rows = {key: batch[key] for key in ("position", "label", "valid")}
    if jax.process_count() > 1:
      rows = sharding.to_host(sharding.to_devices(rows, mesh))
    found.append((sharding.to_host(probabilities), rows))
  count = len(clips.rows)
  result = Scores(np.zeros((count, found[0][0].shape[1]), np.float32),
                  np.zeros(count, np.int32), np.zeros(count, bool))
  for probabilities, rows in found:
    real = rows["position"] < count
    at = rows["position"][real]
    result.probabilities[at] = probabilities[real]
    result.labels[at] = rows["label"][real]
    result.readable[at] = rows["valid"][real] > 0
  return result
