"""3D convolution of clips, float[B,T,H,W,C].

One convolution serves every network here. What it computes never depends on the backend; how it is
computed does (`ops.lowerings`). Which way is fastest was measured for each kind of kernel, and for
the convolution and its two gradients apart: `lowerings.json` holds what `auto` takes on a backend,
with card and date. `python -m actionjax.benchmark --accelerator` measures it anew and writes such a
file; `--convolutions` compares on a CPU.
"""
import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from actionjax.ops import lowerings

LOWERINGS = ("auto", *lowerings.WAYS)
# What a kernel looks like, as far as the best way to compute it depends on it.
KINDS = ("pointwise", "spatial", "spatial_strided", "temporal", "full", "full_strided", "stem",
         "depthwise", "grouped")
_FILE = pathlib.Path(__file__).with_name("lowerings.json")
_forced: list["Ways"] = []


class Ways(NamedTuple):
  """Names of `LOWERINGS` but "auto", for the convolution and its gradients."""
  forward: str
  input: str
  kernel: str


def same_padding(sizes: Sequence[int], window: Sequence[int], strides: Sequence[int],
                 ) -> tuple[tuple[int, int], ...]:
  """TensorFlow's SAME padding, ((low, high), ...): what is odd goes to the high side."""
  padding = []
  for size, width, stride in zip(sizes, window, strides):
    total = max((-(-size // stride) - 1) * stride + width - size, 0)
    padding.append((total // 2, total - total // 2))
  return tuple(padding)


def resolve_padding(padding: str | Sequence[tuple[int, int]], sizes: Sequence[int],
                    window: Sequence[int], strides: Sequence[int]) -> tuple[tuple[int, int], ...]:
  """"SAME", "VALID" or explicit pairs as ((low, high),)*3. Raises ValueError otherwise."""
  if padding == "SAME":
    return same_padding(sizes, window, strides)
  if padding == "VALID":
    return ((0, 0),) * 3
  if isinstance(padding, str) or len(padding) != 3:
    raise ValueError(f"padding must be 'SAME', 'VALID' or three pairs (low, high), got {padding!r}")
  return tuple((int(low), int(high)) for low, high in padding)


def conv3d(x: jax.Array, kernel: jax.Array, strides: Sequence[int] = (1, 1, 1),
           padding: str | Sequence[tuple[int, int]] = "SAME", lowering: str = "auto",
           feature_group_count: int = 1) -> jax.Array:
  """3D convolution (cross-correlation) of clips.

  Args:
    x: float[B,T,H,W,I].
    kernel: float[t,h,w,I/feature_group_count,O].
    strides: (t, h, w).
    padding: "SAME" (TensorFlow's), "VALID", or ((low, high),)*3 of zeros.
    lowering: one of `LOWERINGS`. "auto" is what was measured to be fastest on this backend for
      such a kernel, "direct" one XLA convolution; see `ops.lowerings` for the others. All agree to
      rounding, in value and gradient.
    feature_group_count: channel groups.

  Returns:
    float[B,T',H',W',O] in x's type.

  Raises:
    ValueError: unknown lowering or malformed padding.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  strides = tuple(strides)
  padding = resolve_padding(padding, x.shape[1:4], kernel.shape[:3], strides)
  ways = (auto_ways(kind(kernel.shape, strides, x.shape[-1]))
          if lowering == "auto" else Ways(lowering, lowering, lowering))
  if len(set(ways)) == 1:
    return lowerings.WAYS[ways.forward](x, kernel, strides, padding, feature_group_count)
  return _mixed(x, kernel, strides, padding, feature_group_count, ways)


def kind(kernel_shape: Sequence[int], strides: Sequence[int], inputs: int) -> str:
  """Which of `KINDS` a convolution is.

  Args:
    kernel_shape: (t, h, w, I/groups, O).
    strides: (t, h, w).
    inputs: I.
  """
  t, h, w, group, outputs = kernel_shape
  if group != inputs:
    return "depthwise" if group == 1 and outputs == inputs else "grouped"
  if (t, h, w) == (1, 1, 1):
    return "pointwise"
  if inputs <= 4:
    return "stem"
  if (h, w) == (1, 1):
    return "temporal"
  extent = "spatial" if t == 1 else "full"
  return extent if max(strides) == 1 else f"{extent}_strided"


def auto_ways(kind: str, backend: str | None = None) -> Ways:
  """What "auto" means for a kind of kernel on a backend (None: the present one)."""
  if _forced:
    return _forced[-1]
  return _measured(backend or jax.default_backend()).get(kind, Ways("direct", "direct", "direct"))


@functools.cache
def measured_file() -> dict:
  """The contents of `lowerings.json`: backend -> `device`, `date`, `kinds` of kernels and
  `max_pool`, by `pooling.kind`."""
  return json.loads(_FILE.read_text())


@functools.cache
def _measured(backend: str) -> Mapping[str, Ways]:
  kinds = measured_file().get(backend, {}).get("kinds", {})
  return {kind: Ways(**ways) for kind, ways in kinds.items()}


@contextlib.contextmanager
def forced(lowering: str) -> Iterator[None]:
  """Makes "auto" mean one lowering for what is traced inside, such as whole networks side by side.

  What JAX has traced before, and keeps, stays as it was traced: trace functions of one's own.
  "auto" itself changes nothing.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  if lowering == "auto":
    yield
    return
  _forced.append(Ways(lowering, lowering, lowering))
  try:
    yield
  finally:
    _forced.pop()


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def _mixed(x, kernel, strides, padding, groups, ways):
  """A convolution whose gradients are computed in other ways than itself. In reverse mode only."""
  return lowerings.WAYS[ways.forward](x, kernel, strides, padding, groups)


def _mixed_forward(x, kernel, strides, padding, groups, ways):
  return _mixed(x, kernel, strides, padding, groups, ways), (x, kernel)


def _mixed_backward(strides, padding, groups, ways, saved, dy):
  x, kernel = saved
  # Linear in either argument: what is computed forward here is dropped by the compiler.
  _, of_input = jax.vjp(
      lambda x: lowerings.WAYS[ways.input](x, kernel, strides, padding, groups), x)
  _, of_kernel = jax.vjp(
      lambda kernel: lowerings.WAYS[ways.kernel](x, kernel, strides, padding, groups), kernel)
  return *of_input(dy), *of_kernel(dy)


_mixed.defvjp(_mixed_forward, _mixed_backward)
