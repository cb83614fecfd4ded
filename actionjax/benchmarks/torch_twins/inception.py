"""Inception-v1 inflated to three dimensions: the twin of `actionjax.models.i3d`."""
import torch
from torch import nn

from actionjax.benchmarks.torch_twins import units
from actionjax.errors import UserError
from actionjax.models import i3d


class Mixed(nn.Module):
  """Inception block, [B,C,T,H,W]; `unit(inputs, features, kernel)` makes a unit."""

  def __init__(self, inputs: int, channels: tuple[int, ...], unit):
    super().__init__()
    b0, b1a, b1b, b2a, b2b, b3b = channels
    self.b0 = unit(inputs, b0, (1, 1, 1))
    self.b1a = unit(inputs, b1a, (1, 1, 1))
    self.b1b = unit(b1a, b1b, (3, 3, 3))
    self.b2a = unit(inputs, b2a, (1, 1, 1))
    self.b2b = unit(b2a, b2b, (3, 3, 3))
    self.b3b = unit(inputs, b3b, (1, 1, 1))
    self.pool = nn.MaxPool3d(3, 1, 1)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)),
                      self.b3b(self.pool(x))], 1)


class I3D(nn.Module):
  """float[B,C,T,H,W] -> the last feature map and no stages.

  Args:
    net: whose fields describe the network.
    channels: C.
  """

  def __init__(self, net: i3d.I3D, channels: int):
    super().__init__()
    if net.final_endpoint not in i3d.ENDPOINTS:
      raise UserError(f"I3D: unknown final_endpoint {net.final_endpoint!r}")
    width = lambda features: (features if net.width == 1 else
                              max(8, round(features * net.width / 8) * 8))
    norm = units.batch_norm(net.bn_momentum, 1e-3, net.use_bn_scale)

    def unit(inputs, features, kernel, strides=(1, 1, 1)):
      return units.ConvUnit(inputs, features, kernel, strides, norm, same=True,
                            factorised=features if net.separable else None)

    self.order, self.outputs = [], channels
    for name, kind, spec in i3d.TABLE:
      if kind == "mixed":
        sizes = tuple(width(features) for features in spec)
        self.add_module(name, Mixed(self.outputs, sizes, unit))
        self.outputs = sizes[0] + sizes[2] + sizes[4] + sizes[5]
      else:
        t, h, w = spec[-1]
        strides = (1 if name in net.keep_time else t,
                   *((1, 1) if name in net.keep_space else (h, w)))
        if kind == "unit":
          self.add_module(name, unit(self.outputs, width(spec[0]), spec[1], strides))
          self.outputs = width(spec[0])
        else:
          self.add_module(name, SamePool(spec[0], strides))
      self.order.append(name)
      if name == net.final_endpoint:
        break

  @property
  def first_weight(self) -> torch.Tensor:
    """Of the convolution that reads the input."""
    return self.Conv3d_1a_7x7.first_weight

  def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    for name in self.order:
      x = getattr(self, name)(x)
    return x, {}


class SamePool(nn.Module):
  """`units.max_pool` as a module."""

  def __init__(self, window: tuple[int, ...], strides: tuple[int, ...]):
    super().__init__()
    self.window, self.strides = window, strides

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return units.max_pool(x, self.window, self.strides)
