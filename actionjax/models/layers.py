"""Convolution and normalisation over clips, float[B,T,H,W,C], as modules."""
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.ops import convolution

# He et al.'s initialiser by fan-out, as the residual networks here are trained with.
he_fan_out = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Conv3D(nn.Module):
  """3D convolution, float[B,T,H,W,I] -> float[B,T',H',W',features].

  Parameters: `kernel` [t,h,w,I/feature_group_count,features] and, with use_bias, `bias`
  [features]; the same for every lowering, so a checkpoint moves between backends.

  Attributes:
    features: output channels.
    kernel_size, strides: (t, h, w).
    padding, lowering, feature_group_count: as in `convolution.conv3d`.
    dtype: type computed in (None: that of input and parameters together).
    param_dtype: type of the parameters.
  """
  features: int
  kernel_size: Sequence[int]
  strides: Sequence[int] = (1, 1, 1)
  padding: str | Sequence[tuple[int, int]] = "SAME"
  use_bias: bool = False
  feature_group_count: int = 1
  lowering: str = "auto"
  dtype: Any = None
  param_dtype: Any = jnp.float32
  kernel_init: Callable = he_fan_out
  bias_init: Callable = nn.initializers.zeros_init()

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if x.ndim != 5:
      raise ValueError(f"{self.name or 'Conv3D'} wants [B,T,H,W,C], got shape {x.shape}")
    shape = (*self.kernel_size, x.shape[-1] // self.feature_group_count, self.features)
    kernel = self.param("kernel", self.kernel_init, shape, self.param_dtype)
    bias = (self.param("bias", self.bias_init, (self.features,), self.param_dtype)
            if self.use_bias else None)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    x = convolution.conv3d(x, kernel, self.strides, self.padding, self.lowering,
                           self.feature_group_count)
    return x if bias is None else x + bias


def batch_norm(momentum: float = 0.9, epsilon: float = 1e-5, use_scale: bool = True,
               **kwargs) -> Callable[..., nn.BatchNorm]:
  """A partial of flax's BatchNorm; call it with `train` and a name to get the module.

  Statistics and parameters stay float32 whatever the input's type. Under jit with a
  sharded batch the statistics are those of the global batch. `momentum` is the share
  of the old running mean that is kept: PyTorch's 0.1 is 0.9 here. PyTorch and flax
  differ in the running variance: flax stores the biased one.
  """
  def make(*, train: bool, **more):
    return nn.BatchNorm(use_running_average=not train, momentum=momentum, epsilon=epsilon,
                        use_scale=use_scale, param_dtype=jnp.float32, **kwargs, **more)
  return make


class ConvUnit(nn.Module):
  """Convolution, batch norm, ReLU; [B,T,H,W,I] -> [B,T',H',W',features].

  Parameters are `conv` and `bn`. With `factorised`, a kernel that extends in both space
  and time becomes 1×k×k, batch norm, ReLU (`spatial`, `bn_spatial`), then k×1×1.

  Attributes:
    norm: from `batch_norm`.
    padding: "SAME", or None for (k//2, k//2), PyTorch's habit.
    activate: whether the ReLU at the end is there.
    zero_scale: starts the last batch norm's scale at 0 instead of 1.
    factorised: width between the two halves, or None for one whole kernel.
  """
  features: int
  kernel_size: tuple[int, int, int]
  strides: tuple[int, int, int] = (1, 1, 1)
  norm: Callable[..., nn.BatchNorm] = batch_norm()
  padding: str | None = None
  activate: bool = True
  zero_scale: bool = False
  factorised: int | None = None
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    def conv(features, kernel_size, strides, name):
      padding = self.padding or tuple((k // 2, k // 2) for k in kernel_size)
      return Conv3D(features, kernel_size, strides, padding, dtype=self.dtype, name=name)

    (kt, kh, kw), (st, sh, sw) = self.kernel_size, self.strides
    if self.factorised and kt > 1 and kh * kw > 1:
      x = conv(self.factorised, (1, kh, kw), (1, sh, sw), "spatial")(x)
      x = nn.relu(self.norm(train=train, dtype=self.dtype, name="bn_spatial")(x))
      kh = kw = sh = sw = 1
    x = conv(self.features, (kt, kh, kw), (st, sh, sw), "conv")(x)
    scale = {"scale_init": nn.initializers.zeros_init()} if self.zero_scale else {}
    x = self.norm(train=train, dtype=self.dtype, name="bn", **scale)(x)
    return nn.relu(x) if self.activate else x
