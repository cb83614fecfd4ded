"""C3D, light: the plain 3D network that PoseC3D compares with (Duan et al., 2022, appendix).

Four groups of 3×3×3 convolutions at half of C3D's widths (Tran et al., 2015,
arXiv:1412.0767), halved in space between the groups and never in time. PYSKL's version
averages where the original takes maxima.
"""
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.models import layers
from actionjax.ops import pooling


class C3D(nn.Module):
  """float[B,T,H,W,C] -> ([B,T,h,w,C'], endpoints); T × H/8 × W/8 × 256 as the defaults are.

  Endpoints are `stage1`, ..., the groups before their pooling; parameters
  `conv1a/{conv,bn}`, ..., one letter for each convolution of a group.

  Attributes:
    width: channels of the first group; they double with every group.
    sizes: convolutions in each group.
    bn_momentum: share of the old running statistics that is kept.
    dtype: type computed in.
  """
  width: int = 32
  sizes: Sequence[int] = (1, 1, 2, 2)
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    norm = layers.batch_norm(self.bn_momentum)
    x = x.astype(self.dtype)
    endpoints = {}
    for group, size in enumerate(self.sizes, 1):
      if group > 1:
        x = pooling.avg_pool(x, (1, 2, 2))
      for letter in "abcdefgh"[:size]:
        x = layers.ConvUnit(self.width * 2**(group - 1), (3, 3, 3), norm=norm, dtype=self.dtype,
                            name=f"conv{group}{letter}")(x, train=train)
      endpoints[f"stage{group}"] = x
    return x, endpoints


Backbone = C3D
