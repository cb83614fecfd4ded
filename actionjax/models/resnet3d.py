"""Residual networks inflated to three dimensions, by rule.

One family covers the video and pose networks of this library: HAC's inflated ResNets
(only 3×3 kernels grow in time), Action Machine's and SlowOnly's (the first kernel of a
bottleneck becomes 3×1×1), Pose-SlowOnly (three stages, stem without stride), and
R(2+1)D (factorised kernels). Strides and padding follow PyTorch's ResNets: the stride
sits on a block's 3×3 kernel, k//2 zeros on both sides.
"""
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.errors import UserError
from actionjax.models import layers

# Depth -> (kind of block, blocks in each stage). He et al., 2016, table 1.
DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}
BLOCKS = {"basic": 1, "bottleneck": 4}  # Output width over inner width.

# How a stage's kernels extend in time.
KERNELS = ("3x3x3", "3x1x1", "2d", "factorised", "r2plus1d")


def _factorised_width(inputs, outputs, rule):
  """Width between the halves of a factorised 3×3×3 kernel, or None to keep it whole.

  R(2+1)D's width gives both halves together the parameters of the whole kernel
  (Tran et al., 2018, arXiv:1711.11248, section 3.5).
  """
  if rule == "factorised":
    return outputs
  if rule == "r2plus1d":
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)
  return None


class Block(nn.Module):
  """A residual block: [B,T,H,W,C] -> [B,T/st,H/s,W/s,features·expansion].

  Attributes:
    features: inner width.
    kind: "basic" (two 3×3 kernels) or "bottleneck" (1×1, 3×3, 1×1 to 4 times the width).
    kernels: the stage's rule, one of `KERNELS`.
    strides: (t, h, w).
    project: a 1×1×1 convolution on the shortcut even where shapes agree.
    norm: from `layers.batch_norm`.
    zero_init: the last batch norm's scale starts at 0, so the block starts as its
      shortcut.
  """
  features: int
  kind: str
  kernels: str
  strides: tuple[int, int, int]
  project: bool
  norm: Any
  zero_init: bool
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    outputs = self.features * BLOCKS[self.kind]

    def unit(name, features, kernel_size, x, **kwargs):
      whole = min(kernel_size) > 1
      factorised = _factorised_width(x.shape[-1], features, self.kernels) if whole else None
      return layers.ConvUnit(features, kernel_size, norm=self.norm, factorised=factorised,
                             dtype=self.dtype, name=name, **kwargs)(x, train=train)

    square = (1, 3, 3) if self.kernels in ("2d", "3x1x1") else (3, 3, 3)
    last = {"activate": False, "zero_scale": self.zero_init}
    if self.kind == "basic":
      y = unit("conv1", self.features, square, x, strides=self.strides)
      y = unit("conv2", self.features, square, y, **last)
    else:
      first = (3, 1, 1) if self.kernels == "3x1x1" else (1, 1, 1)
      y = unit("conv1", self.features, first, x)
      y = unit("conv2", self.features, square, y, strides=self.strides)
      y = unit("conv3", outputs, (1, 1, 1), y, **last)
    if self.project or x.shape[-1] != outputs or self.strides != (1, 1, 1):
      x = unit("shortcut", outputs, (1, 1, 1), x, strides=self.strides, activate=False)
    return nn.relu(x + y)


class Stage(nn.Module):
  """`size` blocks, the first of which carries the stride; blocks are named block0…"""
  size: int
  features: int
  kind: str = "bottleneck"
  kernels: str = "3x3x3"
  strides: tuple[int, int, int] = (1, 1, 1)
  project: bool = False
  norm: Any = layers.batch_norm()
  zero_init: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    for i in range(self.size):
      first = i == 0
      x = Block(self.features, self.kind, self.kernels, self.strides if first else (1, 1, 1),
                self.project and first, self.norm, self.zero_init, self.dtype,
                name=f"block{i}")(x, train=train)
    return x


class ResNet3D(nn.Module):
  """An inflated ResNet: float[B,T,H,W,C] -> ([B,t,h,w,C'], endpoints).

  Endpoints are `stem` (before its pooling), `stage1`, `stage2`, …; parameters
  `stem/{conv,bn}`, `stage1/block0/{conv1,conv2,conv3,shortcut}/{conv,bn}`.

  Attributes:
    depth: 18, 34, 50 or 101; sets `block` and `stage_sizes` where those are None.
    block: "basic" or "bottleneck".
    stage_sizes: blocks in each stage; any number of stages.
    width: inner width of the first stage; doubles with every stage.
    kernels: how kernels extend in time, one rule for all stages or one for each:
      "3x3x3" (3×3 kernels become 3×3×3, 1×1 stay), "3x1x1" (a bottleneck's first kernel
      becomes 3×1×1, its second 1×3×3), "2d" (none extends), "factorised" (3×3×3 as
      1×3×3, batch norm, ReLU, 3×1×1, of equal width), "r2plus1d" (the same, with the
      width that keeps the number of parameters).
    spatial_strides, temporal_strides: of each stage.
    stem_kernel, stem_strides: (t, h, w); the stem has `width` channels.
    stem_pool, stem_pool_strides: window (t, h, w) of the max-pool after it, () for none.
    project: a convolution on the first shortcut of every stage even where shapes agree
      (stage 1 of basic networks).
    zero_init: last batch norm scale of every block starts at 0.
    bn_momentum: share of the old running statistics that is kept.
    dtype: type computed in.

  Raises:
    UserError: unknown depth, block or rule, or lists of differing lengths.
  """
  depth: int | None = 50
  block: str | None = None
  stage_sizes: Sequence[int] | None = None
  width: int = 64
  kernels: str | Sequence[str] = "3x3x3"
  spatial_strides: Sequence[int] = (1, 2, 2, 2)
  temporal_strides: Sequence[int] = (1, 1, 1, 1)
  stem_kernel: Sequence[int] = (1, 7, 7)
  stem_strides: Sequence[int] = (1, 2, 2)
  stem_pool: Sequence[int] = (1, 3, 3)
  stem_pool_strides: Sequence[int] = (1, 2, 2)
  project: bool = False
  zero_init: bool = False
  bn_momentum: float = 0.9
  bn_epsilon: float = 1e-5
  dtype: Any = jnp.float32

  def plan(self) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """(block, stage sizes, kernel rule of each stage), checked. Raises UserError."""
    block, sizes = self.block, self.stage_sizes
    if block is None or sizes is None:
      if self.depth not in DEPTHS:
        raise UserError(f"ResNet3D: depth {self.depth} is none of {', '.join(map(str, DEPTHS))}; "
                        "give block and stage_sizes for another")
      block, sizes = block or DEPTHS[self.depth][0], sizes or DEPTHS[self.depth][1]
    if block not in BLOCKS:
      raise UserError(f"ResNet3D: block {block!r} is none of {', '.join(BLOCKS)}")
    kernels = self.kernels
    kernels = (kernels,) * len(sizes) if isinstance(kernels, str) else tuple(kernels)
    for rule in kernels:
      if rule not in KERNELS:
        raise UserError(f"ResNet3D: kernels names {rule!r}, none of {', '.join(KERNELS)}")
      if rule == "3x1x1" and block == "basic":
        raise UserError("ResNet3D: kernels 3x1x1 needs bottleneck blocks")
    for field, values in (("kernels", kernels), ("spatial_strides", self.spatial_strides),
                          ("temporal_strides", self.temporal_strides)):
      if len(values) != len(sizes):
        raise UserError(f"ResNet3D: {field} has {len(values)} entries for {len(sizes)} stages")
    return block, tuple(sizes), kernels

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    block, sizes, kernels = self.plan()
    norm = layers.batch_norm(self.bn_momentum, self.bn_epsilon)
    x = layers.ConvUnit(self.width, tuple(self.stem_kernel), tuple(self.stem_strides), norm,
                        dtype=self.dtype, name="stem")(x.astype(self.dtype), train=train)
    endpoints = {"stem": x}
    if self.stem_pool:
      x = layers.max_pool(x, self.stem_pool, self.stem_pool_strides,
                          tuple((k // 2, k // 2) for k in self.stem_pool))
    for i, size in enumerate(sizes):
      space = self.spatial_strides[i]
      name = f"stage{i + 1}"
      x = Stage(size, self.width * 2**i, block, kernels[i],
                (self.temporal_strides[i], space, space), self.project, norm, self.zero_init,
                self.dtype, name=name)(x, train=train)
      endpoints[name] = x
    return x, endpoints


Backbone = ResNet3D
