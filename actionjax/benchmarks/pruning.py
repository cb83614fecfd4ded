"""A pruned network as it was trained, its dead filters masked, beside the compacted one.

The inflated ResNet-50 with random weights, evaluated on one clip after some passes that each
take a share of the filters of every layer. Both networks take turns in one process, so that
whatever else the machine does falls on them alike; the table gives medians.
"""
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.models.resnet3d import ResNet3D
from actionjax.ops import compilation
from actionjax.pruning import compact, masks, scores


def run(rounds: int = 9, shape: tuple[int, ...] = (1, 8, 112, 112, 3), passes: int = 4,
        fraction: float = 0.1, **fields) -> dict[str, dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each network, after two that are not counted.
    shape: B, T, H, W, C of the input.
    passes: of pruning, by layers.
    fraction: of the living filters that goes in each pass.
    **fields: of `ResNet3D`.

  Returns:
    "masked", "compacted" and "ratio" (compacted / masked) -> `ms`, `gflops` (of one forward
    pass, before XLA optimises it) and `parameters`; "masked" has `difference` too, the largest
    between the two outputs.
  """
  model = ResNet3D(**fields)
  x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), jnp.float32)
  key = jax.random.key(0, impl="rbg")
  variables = jax.jit(lambda: model.init(key, x, train=False),
                      compiler_options={"xla_backend_optimization_level": 0})()
  alive = masks.unpruned(variables["params"])
  for _ in range(passes):
    params = masks.apply_masks(variables["params"], alive)
    alive = masks.make_masks(scores.filter_scores(params), alive, fraction)
  masked = variables | {"params": masks.apply_masks(variables["params"], alive)}
  section, smaller = compact.compact({"name": "resnet3d", **fields}, masked, alive)
  section.pop("name")
  rows = {"masked": _Contestant(model, masked, x),
          "compacted": _Contestant(ResNet3D(**section), smaller, x)}
  times = {name: [] for name in rows}
  for turn in range(rounds + 2):
    for name, contestant in rows.items():
      start = time.perf_counter()
      contestant()
      if turn >= 2:
        times[name].append((time.perf_counter() - start) * 1e3)
  found = {name: {"ms": statistics.median(times[name]), "gflops": row.flops / 1e9,
                  "parameters": sum(leaf.size for leaf in jax.tree.leaves(
                      row.variables["params"]))} for name, row in rows.items()}
  found["ratio"] = {key: value / found["masked"][key]
                    for key, value in found["compacted"].items()}
  found["masked"]["difference"] = float(jnp.abs(rows["masked"]() - rows["compacted"]()).max())
  print(table(found, shape, passes, fraction))
  return found


def table(found: dict[str, dict], shape, passes: int, fraction: float) -> str:
  """What `run` found, as text."""
  device = jax.devices()[0]
  lines = [f"Forward pass, input {'x'.join(map(str, shape))}, float32, {device.device_kind} "
           f"({device.platform}); {passes} passes of {100 * fraction:g} % by layers",
           f"{'network':<10}{'ms':>10}{'GFLOPs':>10}{'parameters':>13}"]
  for name in ("masked", "compacted"):
    row = found[name]
    lines.append(f"{name:<10}{row['ms']:>10.1f}{row['gflops']:>10.2f}{row['parameters']:>13,}")
  ratio = found["ratio"]
  lines.append(f"{'ratio':<10}{ratio['ms']:>10.2f}{ratio['gflops']:>10.2f}"
               f"{ratio['parameters']:>13.2f}")
  lines.append(f"{1 / ratio['ms']:.2f} times as fast; largest difference of outputs "
               f"{found['masked']['difference']:.1e}")
  return "\n".join(lines)


class _Contestant:
  """A network's forward pass on one input, compiled."""

  def __init__(self, model, variables, x):
    self.variables, self._x = variables, x
    lowered = jax.jit(lambda variables, x: model.apply(variables, x, train=False)[0],
                      compiler_options=compilation.compiler_options()).lower(variables, x)
    self.flops = lowered.cost_analysis()["flops"]
    self._compiled = lowered.compile()

  def __call__(self):
    return jax.block_until_ready(self._compiled(self.variables, self._x))
