"""What turns a backbone's features into class scores."""
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.models import layers
from actionjax.ops import pooling


class ClassificationHead(nn.Module):
  """Mean over time and space, dropout, dense.

  float[B,T,H,W,C] -> logits float32[B,num_classes] and features float32[B,C], the mean
  before dropout.

  With training, needs a `dropout` key unless dropout is 0. The dense layer starts at
  N(0, 0.01) with zero bias, and computes in float32 whatever the features are.
  """
  num_classes: int
  dropout: float = 0.5
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    features = features.astype(jnp.float32).mean((1, 2, 3))
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    x = nn.Dense(self.num_classes, dtype=jnp.float32, param_dtype=self.param_dtype,
                 kernel_init=nn.initializers.normal(0.01), name="dense")(x)
    return x, features


class I3DHead(nn.Module):
  """I3D's own head (Carreira & Zisserman, 2017, figure 3).

  float[B,t,h,w,C] -> logits float32[B,num_classes] and features float32[B,C]: the mean
  over the map that the logits are a linear function of, before dropout.

  Average over 2×7×7 without padding, dropout, a 1×1×1 convolution with bias (`conv`),
  mean over what is left of time (and of space, where the map is larger than 7×7;
  where it is smaller than the window, the window shrinks to it). Because averages
  and the convolution are linear, this weighs the frames at both ends of a clip half.
  """
  num_classes: int
  dropout: float = 0.5
  param_dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, features: jax.Array, *, train: bool) -> tuple[jax.Array, jax.Array]:
    x = features.astype(jnp.float32)
    window = tuple(min(size, limit) for size, limit in zip(x.shape[1:4], (2, 7, 7)))
    x = pooling.avg_pool(x, window, (1, 1, 1), "VALID")
    features = x.mean((1, 2, 3))
    x = nn.Dropout(self.dropout, deterministic=not train)(x)
    x = layers.Conv3D(self.num_classes, (1, 1, 1), use_bias=True, param_dtype=self.param_dtype,
                      kernel_init=nn.initializers.normal(0.01), name="conv")(x)
    return x.mean((1, 2, 3)), features
