"""Residual networks inflated to three dimensions, by rule.

One family covers the video and pose networks of this library: HAC's inflated ResNets
(only 3×3 kernels grow in time), Action Machine's and SlowOnly's (the first kernel of a
bottleneck becomes 3×1×1), Pose-SlowOnly (three stages, stem without stride), and
R(2+1)D (factorised kernels). Strides and padding follow PyTorch's ResNets: the stride
sits on a block's 3×3 kernel, k//2 zeros on both sides.

A network can be narrower than its rule says: `channels` lists the filters that each
convolution has kept of the whole network's, which is how pruned networks are rebuilt.
"""
import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from actionjax.errors import UserError
from actionjax.models import checked, layers
from actionjax.ops import pooling

# Depth -> (kind of block, blocks in each stage). He et al., 2016, table 1.
DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
}
BLOCKS = {"basic": 1, "bottleneck": 4}  # Output width over inner width.

# How a stage's kernels extend in time.
Rule = Literal["3x3x3", "3x1x1", "2d", "factorised", "r2plus1d"]
KERNELS = get_args(Rule)


def factorised_width(inputs, outputs, rule):
  """Width between the halves of a factorised 3×3×3 kernel, or None to keep it whole.

  R(2+1)D's width gives both halves together the parameters of the whole kernel
  (Tran et al., 2018, arXiv:1711.11248, section 3.5).
  """
  if rule == "factorised":
    return outputs
  if rule == "r2plus1d":
    return 27 * inputs * outputs // (9 * inputs + 3 * outputs)
  return None


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def place(x: jax.Array, source: tuple[int, ...], target: tuple[int, ...]) -> jax.Array:
  """Rearranges channels, [..., len(source)] -> [..., len(target)].

  Channel i of `x` is number source[i] of a wider map; the result holds numbers `target`
  of that map, zero where `x` has no such channel.
  """
  if source == target:
    return x
  column = {channel: i for i, channel in enumerate(source)}
  present = np.array([channel in column for channel in target])
  index = np.array([column.get(channel, 0) for channel in target])
  x = x.at[..., index].get(mode="promise_in_bounds")
  return x if present.all() else jnp.where(present, x, jnp.zeros((), x.dtype))


def _place_forward(x, source, target):
  return place(x, source, target), None


def _place_backward(source, target, _, cotangent):
  # The transpose is the placement back. Derived from the gather it would be a scatter,
  # which XLA's CPU backend runs one channel at a time.
  return (place(cotangent, target, source),)


place.defvjp(_place_forward, _place_backward)


def _placed_unit(source, target, initialising):
  """A `ConvUnit` of len(target) channels that has parameters for `source` alone.

  The filters are placed, not what comes out of them: rearranging a feature map's channels
  costs a CPU more than the multiplications by zero.
  """
  if source == target:
    return layers.ConvUnit

  def move(variables, source, target):
    # Of a factorised unit only the second half writes these channels.
    return {collection: {
        name: jax.tree.map(lambda leaf: place(leaf, source, target), module)
        if name in ("conv", "bn") else module for name, module in modules.items()}
        for collection, modules in variables.items()}

  return nn.map_variables(
      layers.ConvUnit, ("params", "batch_stats"), init=initialising, mutable=True,
      trans_in_fn=lambda variables: move(variables, source, target),
      trans_out_fn=lambda variables: move(variables, target, source))


def inputs_and_streams(channels: Mapping[str, Sequence[int]],
                       ) -> tuple[dict[str, tuple | None], dict[str, tuple[int, ...]]]:
  """Which channels every convolution reads, and which flow between the blocks.

  A channel of a stage's residual stream exists as long as one of those that add to it
  has it: the shortcut's convolution (or, without one, the stage before) and the last
  convolution of every block.

  Args:
    channels: as the field of `ResNet3D`, of all its convolutions.

  Returns:
    Path of every convolution -> the channels that it reads, None for the network's input;
    and "stem", "stage1", ... -> the channels of that stream. Both name channels by their
    number in the whole network.
  """
  streams = {"stem": tuple(channels["stem/conv"])}
  reads = {"stem/conv": None}
  incoming = streams["stem"]
  stages = {}
  for path in channels:
    if path.startswith("stage"):
      stage, block, unit = path.split("/", 2)
      stages.setdefault(int(stage[5:]), {}).setdefault(int(block[5:]), []).append(unit)
  for number, blocks in sorted(stages.items()):
    name = f"stage{number}"
    path = lambda block, unit, name=name: f"{name}/block{block}/{unit}"
    # A unit's spatial half, where it has one, comes before its `conv`.
    chains = {block: sorted((unit for unit in units if unit != "shortcut/conv"),
                            key=lambda unit: (unit.split("/")[0], unit.endswith("/conv")))
              for block, units in blocks.items()}
    writers = [channels[path(block, chain[-1])] for block, chain in chains.items()]
    writers.append(channels.get(path(0, "shortcut/conv"), incoming))
    stream = streams[name] = tuple(sorted(set().union(*writers)))
    for block, chain in sorted(chains.items()):
      reads[path(block, "shortcut/conv")] = previous = incoming
      for unit in chain:
        reads[path(block, unit)] = previous
        previous = tuple(channels[path(block, unit)])
      incoming = stream
  return {path: reads[path] for path in channels}, streams


class Block(nn.Module):
  """A residual block: [B,T,H,W,C] -> [B,T',H',W',C'].

  Attributes:
    features: inner width; C' is `BLOCKS[kind]` times as much.
    kind: "basic" (two 3×3 kernels) or "bottleneck" (1×1, 3×3, 1×1 to 4 times the width).
    kernels: the stage's rule, one of `KERNELS`.
    strides: (t, h, w).
    project: a 1×1×1 convolution on the shortcut even where shapes agree.
    norm: from `layers.batch_norm`.
    zero_init: the last batch norm's scale starts at 0, so the block starts as its
      shortcut.
    channels: filters kept of each convolution ("conv1/conv", ...), None for all.
    incoming, stream: channels of the whole network that the input and the output hold, where
      `channels` is given; C' is then their number.
  """
  features: int
  kind: str
  kernels: str
  strides: tuple[int, int, int]
  project: bool
  norm: Any
  zero_init: bool
  dtype: Any
  channels: Mapping[str, tuple[int, ...]] | None = None
  incoming: tuple[int, ...] = ()
  stream: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    outputs = self.features * BLOCKS[self.kind]
    kept = self.channels
    writers = ("shortcut", "conv2" if self.kind == "basic" else "conv3")

    def unit(name, features, kernel_size, x, **kwargs):
      make = layers.ConvUnit
      if kept is None:
        whole = min(kernel_size) > 1
        factorised = factorised_width(x.shape[-1], features, self.kernels) if whole else None
      else:
        filters, spatial = kept[f"{name}/conv"], kept.get(f"{name}/spatial")
        features, factorised = len(filters), spatial and len(spatial)
        if name in writers:
          features = len(self.stream)
          make = _placed_unit(filters, self.stream, self.is_initializing())
      return make(features, kernel_size, norm=self.norm, factorised=factorised,
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
    if kept is None:
      project = self.project or x.shape[-1] != outputs or self.strides != (1, 1, 1)
    else:
      project = "shortcut/conv" in kept
    if project:
      x = unit("shortcut", outputs, (1, 1, 1), x, strides=self.strides, activate=False)
    elif kept is not None:
      x = place(x, self.incoming, self.stream)
    return nn.relu(x + y)


class Stage(nn.Module):
  """`size` blocks, the first of which carries the stride; blocks are named block0…

  `channels` ("block0/conv1/conv", ...), `incoming` and `stream` are as in `Block`.
  """
  size: int
  features: int
  kind: str = "bottleneck"
  kernels: str = "3x3x3"
  strides: tuple[int, int, int] = (1, 1, 1)
  project: bool = False
  norm: Any = layers.batch_norm()
  zero_init: bool = False
  dtype: Any = jnp.float32
  channels: Mapping[str, tuple[int, ...]] | None = None
  incoming: tuple[int, ...] = ()
  stream: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    for i in range(self.size):
      first = i == 0
      x = Block(self.features, self.kind, self.kernels, self.strides if first else (1, 1, 1),
                self.project and first, self.norm, self.zero_init, self.dtype,
                _below(self.channels, f"block{i}"), self.incoming if first else self.stream,
                self.stream, name=f"block{i}")(x, train=train)
    return x


def _below(channels, name):
  """The entries of `channels` under a module, by their paths within it."""
  if channels is None:
    return None
  return {path.removeprefix(f"{name}/"): kept for path, kept in channels.items()
          if path.startswith(f"{name}/")}


class ResNet3D(checked.Module):
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
    channels: path of every convolution ("stage1/block0/conv1/conv") -> the filters that it
      has kept, by their numbers in the whole network, rising; `pruning.compact` writes it.
      Inside, dead channels do not exist; endpoints have their whole width, zero where a
      channel is gone, so that whatever reads them need not know. None: the whole network.

  Raises:
    UserError: unknown depth, block or rule, lists of differing lengths, or `channels` of
      another network.
  """
  depth: int | None = 50
  block: Literal["basic", "bottleneck"] | None = None
  stage_sizes: Sequence[int] | None = None
  width: int = 64
  kernels: Rule | Sequence[Rule] = "3x3x3"
  spatial_strides: Sequence[int] = (1, 2, 2, 2)
  temporal_strides: Sequence[int] = (1, 1, 1, 1)
  stem_kernel: Sequence[int] = (1, 7, 7)
  stem_strides: Sequence[int] = (1, 2, 2)
  stem_pool: Sequence[int] = (1, 3, 3)
  stem_pool_strides: Sequence[int] = (1, 2, 2)
  project: bool = False
  zero_init: bool = False
  bn_momentum: float = 0.9
  dtype: Any = jnp.float32
  channels: Mapping[str, Sequence[int]] | None = None

  def plan(self) -> tuple[str, tuple[int, ...], tuple[str, ...]]:
    """(block, stage sizes, kernel rule of each stage), checked. Raises UserError."""
    block, sizes = self.block, self.stage_sizes
    if block is None or sizes is None:
      if self.depth not in DEPTHS:
        raise UserError(f"ResNet3D: depth must be one of {', '.join(map(str, DEPTHS))}, got "
                        f"{self.depth}; give block and stage_sizes for another")
      block, sizes = block or DEPTHS[self.depth][0], sizes or DEPTHS[self.depth][1]
    kernels = self.kernels
    kernels = (kernels,) * len(sizes) if isinstance(kernels, str) else tuple(kernels)
    for rule in kernels:
      if rule == "3x1x1" and block == "basic":
        raise UserError("ResNet3D: kernels 3x1x1 needs bottleneck blocks")
    for field, values in (("kernels", kernels), ("spatial_strides", self.spatial_strides),
                          ("temporal_strides", self.temporal_strides)):
      if len(values) != len(sizes):
        raise UserError(f"ResNet3D: {field} has {len(values)} entries for {len(sizes)} stages")
    return block, tuple(sizes), kernels

  def widths(self) -> dict[str, int]:
    """Path of every convolution -> its filters in the whole network, in order."""
    block, sizes, kernels = self.plan()
    found = {"stem/conv": self.width}
    inputs = self.width
    for i, size in enumerate(sizes):
      inner, outputs = self.width * 2**i, self.width * 2**i * BLOCKS[block]
      strided = (self.temporal_strides[i], self.spatial_strides[i]) != (1, 1)
      for j in range(size):
        path = f"stage{i + 1}/block{j}"
        units = (("conv1", inner), ("conv2", inner), ("conv3", outputs))
        source = inputs
        for name, width in units[:2] if block == "basic" else units:
          # The units whose kernel extends in all three directions under the factorising rules.
          if block == "basic" or name == "conv2":
            factorised = factorised_width(source, width, kernels[i])
            if factorised:
              found[f"{path}/{name}/spatial"] = factorised
          found[f"{path}/{name}/conv"] = source = width
        if j == 0 and (self.project or strided) or inputs != outputs:
          found[f"{path}/shortcut/conv"] = outputs
        inputs = outputs
    return found

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    block, sizes, kernels = self.plan()
    norm = layers.batch_norm(self.bn_momentum)
    kept = None if self.channels is None else self._kept()
    streams = None if kept is None else inputs_and_streams(kept)[1]

    def endpoint(x, name, width):
      return x if kept is None else place(x, streams[name], tuple(range(width)))

    x = layers.ConvUnit(self.width if kept is None else len(kept["stem/conv"]),
                        tuple(self.stem_kernel), tuple(self.stem_strides), norm,
                        dtype=self.dtype, name="stem")(x.astype(self.dtype), train=train)
    endpoints = {"stem": endpoint(x, "stem", self.width)}
    if self.stem_pool:
      x = pooling.max_pool(x, self.stem_pool, self.stem_pool_strides,
                          tuple((k // 2, k // 2) for k in self.stem_pool))
    before = "stem"
    for i, size in enumerate(sizes):
      space = self.spatial_strides[i]
      name = f"stage{i + 1}"
      flow = () if kept is None else (_below(kept, name), streams[before], streams[name])
      x = Stage(size, self.width * 2**i, block, kernels[i],
                (self.temporal_strides[i], space, space), self.project, norm, self.zero_init,
                self.dtype, *flow, name=name)(x, train=train)
      endpoints[name] = endpoint(x, name, self.width * 2**i * BLOCKS[block])
      before = name
    return endpoints[before], endpoints

  def _kept(self) -> dict[str, tuple[int, ...]]:
    """`channels`, checked against the whole network. Raises UserError."""
    whole = self.widths()
    for path in self.channels:
      if path not in whole:
        raise UserError(f"ResNet3D: channels names {path!r}, which is not a convolution here")
    for path, width in whole.items():
      kept = self.channels.get(path, ())
      if not kept or sorted(set(kept)) != list(kept) or kept[0] < 0 or kept[-1] >= width:
        raise UserError(f"ResNet3D: channels[{path!r}] must list rising numbers from 0 to "
                        f"{width - 1}, at least one")
    return {path: tuple(kept) for path, kept in self.channels.items()}


Backbone = ResNet3D
