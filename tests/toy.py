"""A network and batches small enough for any test."""
import flax.linen as nn
import numpy as np


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
