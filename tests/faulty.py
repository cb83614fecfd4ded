"""A network with a fault planted in it, for what is to find it."""
import pathlib

import flax.linen as nn
import jax.numpy as jnp


class Model(nn.Module):
  """One layer in blocks that are computed twice, as large networks are."""
  num_classes: int
  fault: str = "none"
  inputs = ("video",)

  @nn.compact
  def __call__(self, batch, *, train):
    x = batch["video"].astype(jnp.float32).mean((1, 2, 3)) / 255
    x = nn.remat(_block)(self, x)
    x = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x)
    return nn.Dense(self.num_classes, name="head")(x), {}


def _block(model, x):
  x = nn.Dense(4, name="dense")(x)
  if model.fault == "division":
    x = x * 0 / (x * 0)  # division
  if model.fault == "gradient":
    x = x + jnp.sqrt(x * 0)  # gradient
  if model.fault == "index":
    x = x + jnp.arange(3.0)[x.argmax(-1) + 5][:, None]  # index
  return x


def place(fault: str) -> str:
  """Where a fault stands, "faulty.py:LINE (FUNCTION)"."""
  lines = pathlib.Path(__file__).read_text().splitlines()
  number, = (i for i, line in enumerate(lines, 1) if line.endswith(f"  # {fault}"))
  return f"faulty.py:{number} (_block)"
