"""Maxima and means over windows of clips, [B,T,H,W,C]."""
import functools
import itertools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from actionjax.ops import convolution, lowerings

LOWERINGS = ("auto", "direct", "decomposed", "indexed")


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             lowering: str = "auto") -> jax.Array:
  """Maximum over windows (t, h, w), [B,T,H,W,C] -> [B,T',H',W',C]; padding counts as -infinity.

  "direct" is XLA's reduce-window. On CPU its gradient scatters one window at a time;
  "decomposed" takes maxima of shifted views, axis after axis, four to twenty times as
  fast forward and backward. Values are equal. Gradients are too, except among equal
  largest values: "direct" gives all to the first, "decomposed" shares it between
  them (halving at each comparison). After a ReLU most ties are zeros, whose gradient
  the ReLU stops either way. "indexed" keeps, in a byte, which of its places a window's
  maximum came from (the first), and gathers gradients by it: one pass over memory where
  "direct", on GPUs, scatters.

  Raises:
    ValueError: unknown lowering or malformed padding.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  strides = tuple(strides or window)
  padding = convolution.resolve_padding(padding, x.shape[1:4], window, strides)
  if lowering == "auto":
    measured = convolution.measured_file().get(jax.default_backend(), {}).get("max_pool", {})
    lowering = measured.get(kind(window), "direct")
  if lowering == "direct":
    return nn.max_pool(x, tuple(window), strides, padding)
  if lowering == "indexed":
    return _indexed(x, tuple(window), strides, padding)
  x = lowerings.pad(x, padding, -jnp.inf)
  for axis in range(3):
    one = [1, 1, 1]
    one[axis] = window[axis]
    step = [1, 1, 1]
    step[axis] = strides[axis]
    x = functools.reduce(jnp.maximum, lowerings.windows(x, one, step))
  return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _indexed(x, window, strides, padding):
  """The maximum, with a gradient by the places that it came from. In reverse mode only."""
  return _indexed_forward(x, window, strides, padding)[0]


def _indexed_forward(x, window, strides, padding):
  best, place = None, None
  views = lowerings.windows(lowerings.pad(x, padding, -jnp.inf), window, strides)
  for number, view in enumerate(views):
    if best is None:
      best, place = view, jnp.zeros(view.shape, jnp.uint8)
    else:
      place = jnp.where(view > best, jnp.uint8(number), place)
      best = jnp.maximum(best, view)
  # Of the input only shape and type are needed, and those an empty slice has.
  return best, (place, jnp.zeros((0, *x.shape[1:]), x.dtype))


def _indexed_backward(window, strides, padding, saved, dy):
  place, like = saved
  shape = like.shape[1:4]
  total = jnp.zeros((), dy.dtype)
  for number, offsets in enumerate(itertools.product(*map(range, window))):
    # Output o read pixel s * o + offset - low: there goes its gradient, if the maximum lay there.
    config = [(0, 0, 0)]
    for offset, stride, (low, _), size, outputs in zip(offsets, strides, padding, shape,
                                                       dy.shape[1:4]):
      before = offset - low
      config.append((before, size - before - (outputs - 1) * stride - 1, stride - 1))
    part = jnp.where(place == number, dy, jnp.zeros((), dy.dtype))
    total += lax.pad(part, jnp.zeros((), dy.dtype), [*config, (0, 0, 0)])
  return (total,)


_indexed.defvjp(_indexed_forward, _indexed_backward)


def kind(window: Sequence[int]) -> str:
  """"spatial" or "full": whether a window (t, h, w) is one frame long."""
  return "spatial" if window[0] == 1 else "full"


def avg_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             count_include_pad: bool = False) -> jax.Array:
  """Mean over windows (t, h, w), [B,T,H,W,C] -> [B,T',H',W',C].

  Padded positions are left out of the mean (TensorFlow's way) unless
  count_include_pad, PyTorch's default.

  Raises:
    ValueError: malformed padding.
  """
  strides = tuple(strides or window)
  padding = convolution.resolve_padding(padding, x.shape[1:4], window, strides)
  return nn.avg_pool(x, tuple(window), strides, padding, count_include_pad=count_include_pad)
