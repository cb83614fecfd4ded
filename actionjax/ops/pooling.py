"""Maxima and means over windows of clips, [B,T,H,W,C]."""
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.ops import convolution, lowerings

LOWERINGS = ("auto", "direct", "decomposed")


def max_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             lowering: str = "auto") -> jax.Array:
  """Maximum over windows (t, h, w) of [B,T,H,W,C]; padding counts as minus infinity.

  "direct" is XLA's reduce-window. On CPU its gradient scatters one window at a time;
  "decomposed" takes maxima of shifted views, axis after axis, four to twenty times as
  fast forward and backward. Values are equal. Gradients are too, except among equal
  largest values: "direct" gives all to the first, "decomposed" shares it between
  them (halving at each comparison). After a ReLU most ties are zeros, whose gradient
  the ReLU stops either way.

  Raises:
    ValueError: unknown lowering or malformed padding.
  """
  if lowering not in LOWERINGS:
    raise ValueError(f"unknown lowering {lowering!r}; known: {', '.join(LOWERINGS)}")
  strides = tuple(strides or window)
  padding = convolution.resolve_padding(padding, x.shape[1:4], window, strides)
  if lowering == "auto":
    lowering = convolution.measured_file().get(jax.default_backend(), {}).get("max_pool", "direct")
  if lowering == "direct":
    return nn.max_pool(x, tuple(window), strides, padding)
  x = lowerings.pad(x, padding, -jnp.inf)
  for axis in range(3):
    one = [1, 1, 1]
    one[axis] = window[axis]
    step = [1, 1, 1]
    step[axis] = strides[axis]
    x = functools.reduce(jnp.maximum, lowerings.windows(x, one, step))
  return x


def avg_pool(x: jax.Array, window: Sequence[int], strides: Sequence[int] | None = None,
             padding: str | Sequence[tuple[int, int]] = "VALID",
             count_include_pad: bool = False) -> jax.Array:
  """Mean over windows (t, h, w) of [B,T,H,W,C].

  Padded positions are left out of the mean (TensorFlow's way) unless
  count_include_pad, PyTorch's default.

  Raises:
    ValueError: malformed padding.
  """
  strides = tuple(strides or window)
  padding = convolution.resolve_padding(padding, x.shape[1:4], window, strides)
  return nn.avg_pool(x, tuple(window), strides, padding, count_include_pad=count_include_pad)
