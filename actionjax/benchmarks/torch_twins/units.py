"""What the networks are made of, over float[B,C,T,H,W] in either memory layout.

Where PyTorch's habits and ours differ, these keep ours in the form that costs PyTorch least:
TensorFlow's SAME padding is the layer's own wherever it is the same at both ends.
"""
from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from actionjax.errors import UserError
from actionjax.ops import convolution, images


def refuse(**fields) -> None:
  """Raises UserError for the fields that are set; a twin cannot rebuild them."""
  for field, value in fields.items():
    if value:
      raise UserError(f"torch_twins: {field.replace('__', '.')}={value!r} has no counterpart in "
                      "PyTorch here")


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5,
               scale: bool = True) -> Callable[[int], nn.Module]:
  """What makes a batch norm of clips; `momentum` is the share that is kept, as in `layers`."""
  kind = nn.BatchNorm3d if scale else UnscaledBatchNorm
  return lambda features: kind(features, eps=epsilon, momentum=1 - momentum)


class UnscaledBatchNorm(nn.BatchNorm3d):
  """Batch norm with a bias alone. Its scale of ones stays, as cuDNN takes both or neither."""

  def __init__(self, features: int, **kwargs):
    super().__init__(features, **kwargs)
    del self.weight
    self.register_buffer("weight", torch.ones(features), persistent=False)


class Conv(nn.Conv3d):
  """3D convolution without bias; `same`: TensorFlow's padding, else k//2 at both ends."""

  def __init__(self, inputs: int, features: int, kernel: Sequence[int],
               strides: Sequence[int] = (1, 1, 1), same: bool = False):
    super().__init__(inputs, features, tuple(kernel), tuple(strides),
                     tuple(k // 2 for k in kernel), bias=False)
    self.same = same

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    if not self.same:
      return super().forward(x)
    pairs = convolution.same_padding(x.shape[2:], self.kernel_size, self.stride)
    return F.conv3d(_pad_excess(x, pairs, 0.0), self.weight, None, self.stride,
                    tuple(low for low, _ in pairs))


def _pad_excess(x, pairs, value):
  """Pads what the high ends have more of than the low ones, which the layer pads itself."""
  if all(low == high for low, high in pairs):
    return x
  return F.pad(x, [side for low, high in reversed(pairs) for side in (0, high - low)],
               value=value)


def max_pool(x: torch.Tensor, window: Sequence[int], strides: Sequence[int]) -> torch.Tensor:
  """Maximum over windows with TensorFlow's SAME padding."""
  pairs = convolution.same_padding(x.shape[2:], window, strides)
  low = tuple(low for low, _ in pairs)
  # With a stride, a window that hangs over the high end by one is what `ceil_mode` adds.
  hangs = all(high == low or stride > 1 for (low, high), stride in zip(pairs, strides))
  if not hangs:
    x = _pad_excess(x, pairs, float("-inf"))
  return F.max_pool3d(x, tuple(window), tuple(strides), low, ceil_mode=hangs)


class ConvUnit(nn.Module):
  """Convolution, batch norm, ReLU; see `layers.ConvUnit`, whose names these are."""

  def __init__(self, inputs: int, features: int, kernel: Sequence[int],
               strides: Sequence[int], norm: Callable[[int], nn.Module], same: bool = False,
               activate: bool = True, factorised: int | None = None):
    super().__init__()
    (kt, kh, kw), (st, sh, sw) = kernel, strides
    self.spatial = None
    if factorised and kt > 1 and kh * kw > 1:
      self.spatial = Conv(inputs, factorised, (1, kh, kw), (1, sh, sw), same)
      self.bn_spatial = norm(factorised)
      inputs, kh, kw, sh, sw = factorised, 1, 1, 1, 1
    self.conv = Conv(inputs, features, (kt, kh, kw), (st, sh, sw), same)
    self.bn = norm(features)
    self.activate = activate

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    if self.spatial is not None:
      x = F.relu(self.bn_spatial(self.spatial(x)), inplace=True)
    x = self.bn(self.conv(x))
    return F.relu(x, inplace=True) if self.activate else x

  @property
  def first_weight(self) -> torch.Tensor:
    """Of the convolution that reads the unit's input."""
    return (self.conv if self.spatial is None else self.spatial).weight


def named(prefix: str, modules: Sequence[nn.Module]) -> nn.Sequential:
  """A sequence whose modules are called prefix0, prefix1, ..."""
  return nn.Sequential(OrderedDict((f"{prefix}{i}", m) for i, m in enumerate(modules)))


def dropout(rate: float) -> nn.Module:
  """Dropout; nothing at all where the rate is 0, which PyTorch would draw a mask for."""
  return nn.Dropout(rate) if rate else nn.Identity()


class ClassificationHead(nn.Module):
  """Mean over time and space, dropout, dense: [B,C,T,H,W] -> float32[B,num_classes]."""

  def __init__(self, inputs: int, num_classes: int, rate: float):
    super().__init__()
    self.dropout = dropout(rate)
    self.dense = nn.Linear(inputs, num_classes)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return self.dense(self.dropout(x.mean((2, 3, 4), dtype=torch.float32))).float()


class Video(nn.Module):
  """uint8[B,T,H,W,C] -> float32[B,C,T,H,W], scaled as by `images.scale`."""

  def __init__(self, scaling: str, channels: int):
    super().__init__()
    if scaling == "signed":
      factor, offset = 1 / 127.5, -1.0
    elif scaling == "imagenet":
      mean, std = images.IMAGENET_MEAN, images.IMAGENET_STD
      if channels != 3:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
      factor, offset = 1 / (255 * std), -mean / std
    else:
      raise UserError(f"model.scaling must be one of signed, imagenet, got {scaling!r}")
    self.register_buffer("factor", torch.tensor(factor, dtype=torch.float32), persistent=False)
    self.register_buffer("offset", torch.tensor(offset, dtype=torch.float32), persistent=False)

  def forward(self, video: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """`weight` [O,C,t,h,w] is that of the convolution which reads the result."""
    return channels_first((video * self.factor).add_(self.offset), weight)


def channels_last(module: nn.Module) -> nn.Module:
  """Lays out all kernels channels-last, of 2D and 3D convolutions alike; the activations follow.

  (`module.to(memory_format=...)` takes a module with kernels of one rank alone.)
  """
  for parameter in module.parameters():
    layout = {4: torch.channels_last, 5: torch.channels_last_3d}.get(parameter.dim())
    if layout is not None:
      parameter.data = parameter.data.contiguous(memory_format=layout)
  return module


def channels_first(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
  """[B,T,H,W,C] -> [B,C,T,H,W], a view for a network whose weights are channels-last, else a
  copy: the one place where the layout of the activations is chosen."""
  x = x.permute(0, 4, 1, 2, 3)
  if weight.is_contiguous(memory_format=torch.channels_last_3d):
    return x
  return x.contiguous()
