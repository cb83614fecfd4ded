"""Pose-SlowOnly beside the same network in PyTorch.

Forward pass and gradient of one clip's heat maps, float32, batch norm as in training. PyTorch runs
in both of its memory layouts; the better one counts. The contestants take turns in one process, so
that whatever else the machine does falls on all of them alike. Of a turn's calls the first one does
not count, which finds the others' threads still spinning; the table gives medians of the rest.
"""
import importlib.util
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.models import posec3d
from actionjax.models.resnet3d import Backbone
from actionjax.ops import compilation

SHAPE = (1, 48, 56, 56, 17)  # B, T, H, W, K


def run(rounds: int = 5, calls: int = 3, shape: tuple[int, ...] = SHAPE, **fields) -> list[dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each contestant, after one that is not counted (it compiles).
    calls: of a turn, at least 2.
    shape: of the heat maps.
    **fields: of the `ResNet3D`, over those of `posec3d.SLOWONLY`.

  Returns:
    One dict for "forward" and one for "gradient": `pass`, milliseconds a clip by contestant
    ("ours", and with PyTorch "torch contiguous" and "torch channels last") and `ratio`, ours to
    PyTorch's best (None without it).
  """
  network = {key: value for key, value in (posec3d.SLOWONLY | fields).items() if key != "name"}
  contestants = {"ours": _ours(network, shape), **_torch(network, shape)}
  rows = []
  for which in ("forward", "gradient"):
    times = {name: [] for name in contestants}
    for turn in range(rounds + 1):
      for name, passes in contestants.items():
        for call in range(calls):
          start = time.perf_counter()
          passes[which]()
          if turn and call:
            times[name].append((time.perf_counter() - start) * 1e3 / shape[0])
    row = {"pass": which, **{name: statistics.median(taken) for name, taken in times.items()}}
    best = min((row[name] for name in contestants if name != "ours"), default=None)
    rows.append(row | {"ratio": row["ours"] / best if best else None})
  print(table(rows, shape))
  return rows


def table(rows: list[dict], shape: tuple[int, ...]) -> str:
  """The rows of `run` as text."""
  device = jax.devices()[0]
  names = [name for name in rows[0] if name not in ("pass", "ratio")]
  lines = [f"Pose-SlowOnly, heat maps {'x'.join(map(str, shape))}, float32, ms a clip; "
           f"{device.device_kind} ({device.platform})",
           f"{'pass':<10}" + "".join(f"{name:>20}" for name in (*names, "ours/best torch"))]
  for row in rows:
    ratio = "-" if row["ratio"] is None else f"{row['ratio']:.2f}"
    lines.append(f"{row['pass']:<10}" + "".join(f"{row[name]:>20.1f}" for name in names)
                 + f"{ratio:>20}")
  return "\n".join(lines)


def _ours(network, shape):
  """Name of a pass -> function that runs it to its end."""
  model = Backbone(**network)
  x = jnp.asarray(np.random.default_rng(0).random(shape, np.float32))
  variables = jax.jit(lambda: model.init(jax.random.key(0, impl="rbg"), x, train=False),
                      compiler_options={"xla_backend_optimization_level": 0})()

  def forward(variables, x):
    (features, _), _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
    return features.mean()

  def gradient(variables, x):
    return jax.grad(lambda params: forward(variables | {"params": params}, x))(variables["params"])

  compiled = {name: jax.jit(function, compiler_options=compilation.compiler_options())
              for name, function in (("forward", forward), ("gradient", gradient))}
  return {name: (lambda function=function: jax.block_until_ready(function(variables, x)))
          for name, function in compiled.items()}


def _torch(network, shape):
  """The same for PyTorch in each memory layout; empty without PyTorch, or on other devices."""
  if jax.default_backend() != "cpu" or not importlib.util.find_spec("torch"):
    return {}
  import torch

  from actionjax.benchmarks.torch_twins import resnet
  maps = np.moveaxis(np.random.default_rng(0).random(shape, np.float32), -1, 1).copy()
  found = {}
  for name, layout in (("torch contiguous", torch.contiguous_format),
                       ("torch channels last", torch.channels_last_3d)):
    model = resnet.ResNet3D(Backbone(**network), shape[-1]).to(memory_format=layout)
    x = torch.tensor(maps).contiguous(memory_format=layout)
    found[name] = {"forward": lambda model=model, x=x: _torch_forward(model, x),
                   "gradient": lambda model=model, x=x: _torch_gradient(model, x)}
  return found


def _torch_forward(model, x):
  import torch
  with torch.no_grad():
    return model(x)[0].mean()


def _torch_gradient(model, x):
  model.zero_grad(set_to_none=True)
  model(x)[0].mean().backward()
