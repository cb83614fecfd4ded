"""Every lowering of the 3D convolution on every kind of kernel that the networks here have.

Each of the convolution, its input's and its kernel's gradient is a program of its own, with arrays
in the library's order of axes at both ends (`channels_first`: in its own, as between two such
convolutions). Lowerings that come to the same program are measured once.
"""
import concurrent.futures
import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.benchmarks.accelerator import device, flops
from actionjax.ops import compilation, convolution, lowerings, pooling

PASSES = convolution.Ways._fields


class Kernel(NamedTuple):
  """A convolution of one of the networks.

  Attributes:
    name: where it stands.
    size: (t, h, w) of the kernel. strides: likewise.
    inputs, outputs: channels.
    clip: T, H, W of the input.
    batch: clips.
    groups: of channels.
  """
  name: str
  size: tuple[int, int, int]
  strides: tuple[int, int, int]
  inputs: int
  outputs: int
  clip: tuple[int, int, int]
  batch: int
  groups: int = 1


_PLAIN = (1, 1, 1)
_HALF = (1, 2, 2)
_FIVE = (16, 28, 28)
# The most telling first.
KERNELS = (
    Kernel("1x1x1", (1, 1, 1), _PLAIN, 64, 256, _FIVE, 32),
    Kernel("1x3x3", (1, 3, 3), _PLAIN, 64, 64, _FIVE, 32),
    Kernel("1x3x3, stride 2", (1, 3, 3), _HALF, 64, 64, _FIVE, 32),
    Kernel("3x1x1", (3, 1, 1), _PLAIN, 64, 64, _FIVE, 32),
    Kernel("3x3x3", (3, 3, 3), _PLAIN, 64, 64, _FIVE, 32),
    Kernel("Pose-SlowOnly's stem 1x7x7", (1, 7, 7), _PLAIN, 17, 32, (48, 56, 56), 32),
    Kernel("Pose-SlowOnly's 3x1x1", (3, 1, 1), _PLAIN, 256, 64, (48, 14, 14), 64),
    Kernel("I3D's stem 7x7x7, stride 2", (7, 7, 7), (2, 2, 2), 3, 64, (64, 224, 224), 8),
    Kernel("ResNet's stem 1x7x7, stride 2", (1, 7, 7), _HALF, 3, 64, (8, 224, 224), 32),
    Kernel("I3D's 3x3x3 of 32x56x56", (3, 3, 3), _PLAIN, 64, 192, (32, 56, 56), 8),
    Kernel("I3D's 3x3x3 of 32x28x28", (3, 3, 3), _PLAIN, 128, 192, (32, 28, 28), 8),
    Kernel("I3D's 3x3x3 of 16x14x14", (3, 3, 3), _PLAIN, 144, 288, (16, 14, 14), 8),
    Kernel("I3D's 3x3x3 of 16 channels", (3, 3, 3), _PLAIN, 16, 32, (32, 28, 28), 8),
    Kernel("HAC's 3x3x3 of 8x7x7", (3, 3, 3), _PLAIN, 512, 512, (8, 7, 7), 32),
    Kernel("HAC's 3x3x3, stride 2", (3, 3, 3), _HALF, 128, 128, (8, 56, 56), 32),
    Kernel("lateral 7x1x1, stride 4", (7, 1, 1), (4, 1, 1), 128, 32, (32, 28, 28), 32),
    Kernel("depthwise 3x3x3", (3, 3, 3), _PLAIN, 64, 64, _FIVE, 32, 64),
    Kernel("depthwise 5x1x1", (5, 1, 1), _PLAIN, 64, 64, _FIVE, 32, 64),
)
_TRANSPOSED = "transposed 7x1x1, stride 4"
# Name, window, strides, channels, T H W, batch.
POOLS = (
    ("pool 1x3x3 (Pose-SlowOnly)", (1, 3, 3), (1, 1, 1), 32, (48, 56, 56), 32),
    ("pool 1x3x3, stride 2", (1, 3, 3), _HALF, 64, (32, 112, 112), 8),
    ("pool 3x3x3", (3, 3, 3), (1, 1, 1), 192, (32, 28, 28), 8),
)


class Kernels:
  """Called in a process that holds the device."""

  def names(self, small: bool) -> list[str]:
    """Of everything that `measure` knows, the most important first; `small`: one of each sort."""
    if small:
      return ["3x1x1", "3x3x3", KERNELS[-1].name, _TRANSPOSED, POOLS[0][0]]
    return [*(kernel.name for kernel in KERNELS), _TRANSPOSED, *(name for name, *_ in POOLS)]

  def measure(self, name: str, small: bool, ways: Sequence[str] = (),
              dtype: str = "bfloat16") -> list[dict]:
    """One row for each pass: `kernel`, `kind`, `pass`, `flops`, and `ms` by lowering (a text
    where it failed); of the lowerings in `ways` alone, if there are any."""
    rows = []
    for which, candidates in _candidates(name, small, dtype).items():
      kind, count, programs = candidates
      programs = {way: make for way, make in programs.items() if not ways or way in ways}
      with concurrent.futures.ThreadPoolExecutor(1 if small else 8) as pool:
        compiled = list(pool.map(_attempt, programs.values()))
      times = {}
      for label, call in zip(programs, compiled):
        if isinstance(call, str):
          times[label] = call
          continue
        once = device.repeat(call, 1, 1)
        times[label] = 1e3 * device.repeat(call, max(1, min(50, int(0.02 / once))),
                                           1 if small else 5)
      rows.append({"kernel": name, "kind": kind, "pass": which, "flops": count, "ms": times})
    return rows


def choose(rows: list[dict]) -> dict[str, dict[str, str]]:
  """For each kind of kernel the lowering that takes least time, by pass.

  Each kernel's times are taken relative to its fastest, so that none outweighs the others;
  "channels_first" is left out, whose transposes cancel between two of its own only.
  """
  shares: dict[tuple[str, str], dict[str, list[float]]] = {}
  for row in rows:
    ms = {way: value for way, value in row["ms"].items()
          if way in lowerings.WAYS and way != "channels_first" and not isinstance(value, str)}
    if row["kind"] in convolution.KINDS and ms:
      best = min(ms.values())
      entry = shares.setdefault((row["kind"], row["pass"]), {})
      for way, value in ms.items():
        entry.setdefault(way, []).append(value / best)
  chosen: dict[str, dict[str, str]] = {}
  for (kind, which), entry in shares.items():
    most = max(len(values) for values in entry.values())
    chosen.setdefault(kind, {})[which] = min(
        (np.exp(np.mean(np.log(values))), way) for way, values in entry.items()
        if len(values) == most)[1]
  return {kind: ways for kind, ways in chosen.items() if set(ways) == set(PASSES)}


def choose_pools(rows: list[dict]) -> dict[str, str]:
  """For windows of each `pooling.kind` the lowering of the maximum whose gradient takes least time,
  relative to the fastest on each; the gradient's program computes the maximum as well."""
  shares: dict[str, dict[str, list[float]]] = {}
  for row in rows:
    ms = {way: value for way, value in row["ms"].items() if not isinstance(value, str)}
    if row["kind"].startswith("max_pool ") and row["pass"] == "gradient" and ms:
      entry = shares.setdefault(row["kind"].split()[1], {})
      for way, value in ms.items():
        entry.setdefault(way, []).append(value / min(ms.values()))
  return {kind: min((np.mean(values), way) for way, values in entry.items())[1]
          for kind, entry in shares.items()}


def _candidates(name, small, dtype):
  """Pass -> (kind, flops, lowering -> a call that compiles a program and gives the calls of it)."""
  for pool in POOLS:
    if pool[0] == name:
      return _pool_candidates(pool, small, dtype)
  if name == _TRANSPOSED:
    return _transposed_candidates(small, dtype)
  kernel = next(kernel for kernel in KERNELS if kernel.name == name)
  x, weights = _arrays(kernel, small, dtype)
  padding = tuple((k // 2, k // 2) for k in kernel.size)
  kind = convolution.kind(weights.shape, kernel.strides, kernel.inputs)
  count = flops.count(lambda x, k: lowerings.direct(x, k, kernel.strides, padding, kernel.groups),
                      x, weights)
  functions = {}
  for way, lower in lowerings.WAYS.items():
    apply = functools.partial(_called, lower, kernel.strides, padding, kernel.groups)
    functions[way] = _first(apply) if way == "channels_first" else apply
  swapped = {"channels_first": jnp.moveaxis(x, -1, 1)}
  return _passes(kind, count, functions, x, weights, swapped)


def _called(lower, strides, padding, groups, x, k):
  return lower(x, k, strides, padding, groups)


def _first(apply):
  """The same on arrays [B,C,T,H,W]."""
  return lambda x, k: jnp.moveaxis(apply(jnp.moveaxis(x, 1, -1), k), -1, 1)


def _arrays(kernel, small, dtype):
  rng = np.random.default_rng(0)
  clip, batch = kernel.clip, kernel.batch
  if small:
    clip, batch = tuple(min(side, 8) for side in clip), 1
  draw = lambda shape: jnp.asarray(rng.standard_normal(shape, np.float32), dtype)
  return (draw((batch, *clip, kernel.inputs)),
          draw((*kernel.size, kernel.inputs // kernel.groups, kernel.outputs)) * 0.1)


def _passes(kind, count, functions, x, k, swapped=None):
  found = {}
  for which in PASSES:
    programs, seen = {}, {}
    for way, apply in functions.items():
      image = (swapped or {}).get(way, x)
      function, arguments = _pass(which, apply, image, k)
      text = re.sub(r"0x[0-9a-f]+", "", str(jax.make_jaxpr(function)(*arguments)))
      if text in seen:
        continue
      seen[text] = way
      programs[way] = functools.partial(_compile, function, arguments)
    found[which] = (kind, count, programs)
  return found


def _pass(which, apply, x, k):
  """A function and its arguments."""
  if which == "forward":
    return apply, (x, k)
  y = jax.eval_shape(apply, x, k)
  dy = jnp.ones(y.shape, y.dtype)
  if which == "input":
    # What is computed forward here is dropped by the compiler.
    return lambda dy, x, k: jax.vjp(lambda x: apply(x, k), x)[1](dy)[0], (dy, x, k)
  return lambda dy, x, k: jax.vjp(lambda k: apply(x, k), k)[1](dy)[0], (dy, x, k)


def _compile(function, arguments):
  compiled = jax.jit(function, compiler_options=compilation.compiler_options()).lower(
      *arguments).compile()
  return lambda: compiled(*arguments)


def _attempt(make):
  try:
    call = make()
    jax.block_until_ready(call())
  except jax.errors.JaxRuntimeError as error:
    return str(error).splitlines()[0][:120]
  return call


def _pool_candidates(pool, small, dtype):
  _, window, strides, channels, clip, batch = pool
  if small:
    clip, batch = tuple(min(side, 8) for side in clip), 1
  x = jnp.asarray(np.random.default_rng(0).standard_normal((batch, *clip, channels), np.float32),
                  dtype)
  padding = tuple((k // 2, k // 2) for k in window)
  found = {}
  for which in ("forward", "gradient"):
    programs = {}
    for way in pooling.LOWERINGS[1:]:
      apply = functools.partial(pooling.max_pool, window=window, strides=strides, padding=padding,
                                lowering=way)
      function, arguments = apply, (x,)
      if which == "gradient":
        y = jax.eval_shape(apply, x)
        dy = jnp.ones(y.shape, y.dtype)
        function = lambda x, dy, apply=apply: jax.vjp(apply, x)[1](dy)[0]
        arguments = (x, dy)
      programs[way] = functools.partial(_compile, function, arguments)
    found[which] = (f"max_pool {pooling.kind(window)}", 0, programs)
  return found


def _transposed_candidates(small, dtype):
  """RGBPose-SlowFast's lateral: to four times the frames by a kernel of seven."""
  from actionjax.models import rgbpose
  kernel = Kernel("", (7, 1, 1), _PLAIN, 512, 64, (8, 28, 28), 16)
  x, k = _arrays(kernel, small, dtype)

  def dilated(x, k):
    return jax.lax.conv_general_dilated(
        x, k[::-1], (1, 1, 1), ((3, 6), (0, 0), (0, 0)), lhs_dilation=(4, 1, 1),
        dimension_numbers=("NTHWC", "THWIO", "NTHWC"))

  count = 2 * x.size * 7 * kernel.outputs
  functions = {"phases": lambda x, k: rgbpose.upsample_conv(x, k, 4), "dilated": dilated}
  return _passes("transposed", count, functions, x, k)
