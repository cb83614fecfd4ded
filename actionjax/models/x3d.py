"""X3D, shallow: the lightest backbone of PoseC3D (Duan et al., 2022, appendix).

X3D-S (Feichtenhofer, 2020, arXiv:2004.04730) without its first stage, as PYSKL has it: inverted
bottlenecks with depthwise 3×3×3 kernels, no squeeze-and-excitation, and no activation
after the depthwise convolution, where the original has a swish.
"""
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.models import layers


class _Unit(nn.Module):
  """Convolution, batch norm, ReLU, depthwise or not; parameters `conv`, `bn`."""
  features: int
  kernel_size: tuple[int, int, int]
  norm: Any
  strides: tuple[int, int, int] = (1, 1, 1)
  depthwise: bool = False
  activate: bool = True
  zero_scale: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train):
    x = layers.Conv3D(self.features, self.kernel_size, self.strides,
                      tuple((k // 2, k // 2) for k in self.kernel_size), dtype=self.dtype,
                      feature_group_count=self.features if self.depthwise else 1, name="conv")(x)
    scale = {"scale_init": nn.initializers.zeros_init()} if self.zero_scale else {}
    x = self.norm(train=train, dtype=self.dtype, name="bn", **scale)(x)
    return nn.relu(x) if self.activate else x


class Block(nn.Module):
  """An inverted bottleneck: [B,T,H,W,C] -> [B,T,ceil(H/stride),ceil(W/stride),features].

  Attributes:
    features, inner: widths of the output and of the depthwise convolution.
  """
  features: int
  inner: int
  stride: int
  norm: Any
  zero_init: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    common = {"norm": self.norm, "dtype": self.dtype}
    strides = (1, self.stride, self.stride)
    y = _Unit(self.inner, (1, 1, 1), name="conv1", **common)(x, train=train)
    y = _Unit(self.inner, (3, 3, 3), strides=strides, depthwise=True, activate=False,
              name="conv2", **common)(y, train=train)
    y = _Unit(self.features, (1, 1, 1), activate=False, zero_scale=self.zero_init, name="conv3",
              **common)(y, train=train)
    if self.stride > 1 or x.shape[-1] != self.features:
      x = _Unit(self.features, (1, 1, 1), strides=strides, activate=False, name="shortcut",
                **common)(x, train=train)
    return nn.relu(x + y)


class X3D(nn.Module):
  """float[B,T,H,W,C] -> ([B,T,h,w,C'], endpoints); T × H/16 × W/16 × 216 as the defaults are.

  Endpoints are `stem`, `stage1`, ..., `conv5`; parameters `stem_spatial`, `stem_temporal/bn`,
  `stage1_block0/{conv1,conv2,conv3,shortcut}/{conv,bn}`, `conv5/{conv,bn}`.

  Attributes:
    width: channels of stem and first stage; they double with every stage.
    sizes: blocks in each stage, the first of which halves the map.
    expansion: inner width of the blocks over their width.
    zero_init: last batch norm scale of every block starts at 0.
    bn_momentum: share of the old running statistics that is kept.
    dtype: type computed in.
  """
  width: int = 24
  sizes: Sequence[int] = (2, 5, 3)
  expansion: float = 2.25
  zero_init: bool = True
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    common = {"norm": layers.batch_norm(self.bn_momentum), "dtype": self.dtype}
    x = layers.Conv3D(self.width, (1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)),
                      dtype=self.dtype, name="stem_spatial")(x.astype(self.dtype))
    x = _Unit(self.width, (5, 1, 1), depthwise=True, name="stem_temporal", **common)(
        x, train=train)
    endpoints = {"stem": x}
    for stage, size in enumerate(self.sizes, 1):
      features = self.width * 2**(stage - 1)
      inner = round(features * self.expansion)
      for block in range(size):
        x = Block(features, inner, 1 if block else 2, zero_init=self.zero_init,
                  name=f"stage{stage}_block{block}", **common)(x, train=train)
      endpoints[f"stage{stage}"] = x
    x = _Unit(inner, (1, 1, 1), name="conv5", **common)(x, train=train)
    endpoints["conv5"] = x
    return x, endpoints


Backbone = X3D
