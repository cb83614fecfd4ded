"""Inflated residual networks: the twin of `actionjax.models.resnet3d`."""
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from actionjax.benchmarks.torch_twins import units
from actionjax.models import resnet3d


class Block(nn.Module):
  """A residual block, [B,C,T,H,W]; see `resnet3d.Block`."""

  def __init__(self, inputs, features, kind, kernels, strides, project, norm):
    super().__init__()
    self.outputs = features * resnet3d.BLOCKS[kind]

    def unit(inputs, outputs, kernel, strides=(1, 1, 1), activate=True):
      factorised = (resnet3d.factorised_width(inputs, outputs, kernels)
                    if min(kernel) > 1 else None)
      return units.ConvUnit(inputs, outputs, kernel, strides, norm, activate=activate,
                            factorised=factorised)

    square = (1, 3, 3) if kernels in ("2d", "3x1x1") else (3, 3, 3)
    if kind == "basic":
      self.conv1 = unit(inputs, features, square, strides=strides)
      self.conv2 = unit(features, features, square, activate=False)
      self.conv3 = None
    else:
      self.conv1 = unit(inputs, features, (3, 1, 1) if kernels == "3x1x1" else (1, 1, 1))
      self.conv2 = unit(features, features, square, strides=strides)
      self.conv3 = unit(features, self.outputs, (1, 1, 1), activate=False)
    self.shortcut = None
    if project or inputs != self.outputs or strides != (1, 1, 1):
      self.shortcut = unit(inputs, self.outputs, (1, 1, 1), strides=strides, activate=False)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.conv2(self.conv1(x))
    if self.conv3 is not None:
      y = self.conv3(y)
    if self.shortcut is not None:
      x = self.shortcut(x)
    # Batch norm's gradient does not read what it put out.
    return F.relu(y.add_(x), inplace=True)


class ResNet3D(nn.Module):
  """float[B,C,T,H,W] -> the last feature map and every stage's by name.

  Parameters are called as in `resnet3d.ResNet3D`, with dots.

  Args:
    net: whose fields describe the network.
    channels: C.
    added: stage (1-based) -> channels that it reads beside those of the stage before.

  Raises:
    UserError: pruned channels, or what `net` refuses itself.
  """

  def __init__(self, net: resnet3d.ResNet3D, channels: int, added: Mapping[int, int] | None = None):
    super().__init__()
    units.refuse(backbone__channels=net.channels)
    kind, sizes, kernels = net.plan()
    norm = units.batch_norm(net.bn_momentum)
    self.stem = units.ConvUnit(channels, net.width, net.stem_kernel, net.stem_strides, norm)
    window = tuple(net.stem_pool)
    self.pool = nn.Identity()
    if window:
      self.pool = nn.MaxPool3d(window, tuple(net.stem_pool_strides), tuple(k // 2 for k in window))
    self.stages, self.outputs = len(sizes), net.width
    for i, size in enumerate(sizes):
      features, space = net.width * 2**i, net.spatial_strides[i]
      inputs = self.outputs + (added or {}).get(i + 1, 0)
      blocks = []
      for j in range(size):
        blocks.append(Block(inputs, features, kind, kernels[i],
                            (1, 1, 1) if j else (net.temporal_strides[i], space, space),
                            net.project and not j, norm))
        inputs = blocks[-1].outputs
      self.add_module(f"stage{i + 1}", units.named("block", blocks))
      self.outputs = inputs

  @property
  def first_weight(self) -> torch.Tensor:
    """Of the convolution that reads the input."""
    return self.stem.first_weight

  def run(self, x: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """The stages from `first` to `last`; 0 is the stem."""
    if first == 0:
      x = self.pool(self.stem(x))
    for i in range(max(first, 1), last + 1):
      x = getattr(self, f"stage{i}")(x)
    return x

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    x = self.run(x, 0, 0)
    endpoints = {}
    for i in range(1, self.stages + 1):
      x = endpoints[f"stage{i}"] = self.run(x, i, i)
    return x, endpoints
