"""Where the time of a training step goes."""
import dataclasses
import time

import jax
import numpy as np

from actionjax import planning
from actionjax.data.loading import pipeline
from actionjax.ops import compilation
from actionjax.steps import train
from actionjax.training import initialise, optim, sharding, state
from actionjax.training.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class Timing:
  """Medians over the measured steps.

  Attributes:
    name: of the recipe's step.
    batch_size: clips a step.
    compile_s: seconds of the first step.
    loader_ms: milliseconds a batch when only the loader runs.
    device_ms: milliseconds a step on a batch that lies on the devices already.
    together_ms: milliseconds a step when loader and device run side by side, as in training.
    wait_share: share of that time in which the loop waited for the loader.
  """
  name: str
  batch_size: int
  compile_s: float
  loader_ms: float
  device_ms: float
  together_ms: float
  wait_share: float

  def __str__(self):
    return (f"step {self.name} (batches of {self.batch_size}): first step with compilation "
            f"{self.compile_s:.1f} s\n"
            f"  loader alone   {self.loader_ms:9.1f} ms a batch "
            f"({1e3 * self.batch_size / self.loader_ms:8.1f} clips/s)\n"
            f"  device alone   {self.device_ms:9.1f} ms a step  "
            f"({1e3 * self.batch_size / self.device_ms:8.1f} clips/s)\n"
            f"  both           {self.together_ms:9.1f} ms a step  "
            f"({1e3 * self.batch_size / self.together_ms:8.1f} clips/s), "
            f"{100 * self.wait_share:.1f} % of it waiting for data")


def measure(config, *, num_steps: int = 20) -> list[Timing]:
  """Times every training step of a config on its prepared dataset.

  Raises:
    UserError: the config is wrong or its dataset is not prepared.
  """
  mesh = sharding.make_mesh()
  return [_measure_step(step, config.get("data_dir"), mesh, num_steps)
          for step in planning.plan(config).flatten() if isinstance(step.config, train.Config)]


def _measure_step(step, data_dir, mesh, num_steps: int) -> Timing:
  config, parsed = step.config, train.parse(step.config, step.path)
  sharding.check_batch_size(config.batch_size, mesh, f"{step.path}.batch_size")
  clips = pipeline.open_split(parsed.data, data_dir, config.split)
  feed = pipeline.train_batches(clips, parsed.data, batch_size=config.batch_size, seed=0)
  next(feed)
  loader = _median(lambda: next(feed), num_steps)

  variables = initialise.fresh_variables(parsed.model, train.test_spec(parsed), 0, mesh)
  labels = optim.frozen_labels(variables["params"], tuple(config.freeze))
  optimiser = optim.make(parsed.optim, 1000, labels)
  current = state.create(variables, optimiser, ema=config.ema is not None)
  train_step = jax.jit(make_train_step(parsed.model, parsed.loss, optimiser, labels, seed=0,
                                       ema=config.ema), donate_argnums=0,
                       compiler_options=compilation.compiler_options())
  one = np.float32(1)

  def run(batch):
    nonlocal current
    current, metrics = train_step(current, batch, one)
    jax.block_until_ready(metrics)

  to_batch = lambda raw: sharding.to_devices(
      {key: value for key, value in raw.items() if key != "position"}, mesh)
  batch = to_batch(next(feed))
  began = time.perf_counter()
  run(batch)
  compiled = time.perf_counter() - began
  device = _median(lambda: run(batch), num_steps)

  waited, total = [], []
  for _ in range(num_steps):
    began = time.perf_counter()
    raw = next(feed)
    arrived = time.perf_counter()
    run(to_batch(raw))
    waited.append(arrived - began)
    total.append(time.perf_counter() - began)
  return Timing(config.name, config.batch_size, compiled, 1e3 * loader, 1e3 * device,
                1e3 * float(np.median(total)), sum(waited) / sum(total))


def _median(call, count: int) -> float:
  times = []
  for _ in range(count):
    began = time.perf_counter()
    call()
    times.append(time.perf_counter() - began)
  return float(np.median(times))
