"""A network, batches and a training small enough for any test."""
import functools

import flax.linen as nn
import jax
import numpy as np

from actionjax.training import checkpoint, loop, losses, optim, sharding
from actionjax.training import state as states
from actionjax.training.train_step import make_train_step


class Toy(nn.Module):
  """Two blocks, as far as freezing is concerned a backbone and a head."""
  width: int = 8
  dropout: float = 0.2
  inputs = ("x",)

  @nn.compact
  def __call__(self, batch, *, train):
    x = batch["x"]
    for name in ("backbone", "neck"):
      x = Block(self.width, name=name)(x, train=train)
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    return nn.Dense(3, name="head")(x), {}


class Block(nn.Module):
  """Dense, batch norm, ReLU."""
  width: int

  @nn.compact
  def __call__(self, x, *, train):
    x = nn.Dense(self.width, name="dense")(x)
    return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))


def batch(step=0, size=8):
  """A batch that depends on the step alone: x float32[size,6] with its label's entry raised."""
  rng = np.random.default_rng(step)
  label = rng.integers(0, 3, size).astype(np.int32)
  x = rng.normal(size=(size, 6)) + np.eye(6)[label] * 2
  return {"x": x.astype(np.float32), "label": label, "valid": np.ones(size, np.float32)}


def batches(step):
  """Batches without end, from a step on."""
  while True:
    yield batch(step)
    step += 1


def trainer(config=None, *, freeze=(), ema=None, total=20, model=None):
  """(state, jitted train step, number of traces so far)."""
  model = model or Toy()
  variables = model.init(jax.random.key(0), batch(), train=False)
  labels = optim.frozen_labels(variables["params"], freeze)
  optimiser = optim.make(config or optim.OptimConfig(learning_rate=1e-2), total, labels)
  step = make_train_step(model, losses.cross_entropy, optimiser, labels, seed=1, ema=ema)
  traces = []

  def traced(state, batch, scale):
    traces.append(1)
    return step(state, batch, scale)

  replicated = sharding.replicated(sharding.make_mesh())
  state = jax.jit(functools.partial(states.create, optimiser=optimiser, ema=ema is not None),
                  out_shardings=replicated)(variables)
  return state, jax.jit(traced, out_shardings=(replicated, None)), traces


def fit(directory, *, setup=None, batches=batches, optimiser=None, validate=None, profile=None,
        **fields):
  """Runs the loop in a directory. `setup` is from `trainer`, `fields` are of `loop.LoopConfig`."""
  state, train_step, _ = setup or trainer()
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
  checkpoints = checkpoint.TrainingCheckpoints(directory / "checkpoints", {"model": "toy"})
  try:
    return loop.fit(
        state, train_step, batches,
        loop.LoopConfig(**({"total_steps": 6, "log_every": 1} | fields)),
        optimiser or optim.OptimConfig(), checkpoints, mesh=sharding.make_mesh(),
        abstract=abstract, directory=directory, batch_size=8, validate=validate,
        profile=profile)
  finally:
    checkpoints.close()
