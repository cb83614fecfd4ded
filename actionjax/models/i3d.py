"""I3D: Inception-v1 inflated to three dimensions (Carreira & Zisserman, 2017,
arXiv:1705.07750, figure 3), with S3D's factorised kernels as an option (Xie et al.,
2018, arXiv:1712.04851).

The network is a table. Names of endpoints and parameters are those of the published
checkpoints: an endpoint's units are `Mixed_3b/b1b` and the like, each a `conv` and a
`bn`.
"""
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.errors import UserError
from actionjax.models import layers
from actionjax.ops import pooling

# (endpoint, what it is, its numbers). Units: (channels, kernel, stride); pools:
# (window, stride); mixed: channels of b0, b1a, b1b, b2a, b2b, b3b.
TABLE = (
    ("Conv3d_1a_7x7", "unit", (64, (7, 7, 7), (2, 2, 2))),
    ("MaxPool3d_2a_3x3", "pool", ((1, 3, 3), (1, 2, 2))),
    ("Conv3d_2b_1x1", "unit", (64, (1, 1, 1), (1, 1, 1))),
    ("Conv3d_2c_3x3", "unit", (192, (3, 3, 3), (1, 1, 1))),
    ("MaxPool3d_3a_3x3", "pool", ((1, 3, 3), (1, 2, 2))),
    ("Mixed_3b", "mixed", (64, 96, 128, 16, 32, 32)),
    ("Mixed_3c", "mixed", (128, 128, 192, 32, 96, 64)),
    ("MaxPool3d_4a_3x3", "pool", ((3, 3, 3), (2, 2, 2))),
    ("Mixed_4b", "mixed", (192, 96, 208, 16, 48, 64)),
    ("Mixed_4c", "mixed", (160, 112, 224, 24, 64, 64)),
    ("Mixed_4d", "mixed", (128, 128, 256, 24, 64, 64)),
    ("Mixed_4e", "mixed", (112, 144, 288, 32, 64, 64)),
    ("Mixed_4f", "mixed", (256, 160, 320, 32, 128, 128)),
    ("MaxPool3d_5a_2x2", "pool", ((2, 2, 2), (2, 2, 2))),
    ("Mixed_5b", "mixed", (256, 160, 320, 32, 128, 128)),
    ("Mixed_5c", "mixed", (384, 192, 384, 48, 128, 128)),
)
ENDPOINTS = tuple(name for name, _, _ in TABLE)
STRIDED = tuple(name for name, kind, spec in TABLE
                if kind != "mixed" and max(spec[-1]) > 1)


class Mixed(nn.Module):
  """Inception block: 1³; 1³ then 3³; 1³ then 3³; pool then 1³; joined on channels."""
  channels: tuple[int, ...]
  unit: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    b0, b1a, b1b, b2a, b2b, b3b = self.channels
    cube = (3, 3, 3)

    def unit(name, features, x, kernel_size=(1, 1, 1)):
      return self.unit(features, kernel_size, name=name)(x, train=train)

    return jnp.concatenate([
        unit("b0", b0, x),
        unit("b1b", b1b, unit("b1a", b1a, x), cube),
        unit("b2b", b2b, unit("b2a", b2a, x), cube),
        unit("b3b", b3b, pooling.max_pool(x, cube, (1, 1, 1), "SAME")),
    ], -1)


class I3D(nn.Module):
  """The I3D backbone.

  float[B,T,H,W,C] scaled to [-1, 1] -> (float[B,t,h,w,C'], endpoints): the last endpoint, and a
  dict of every endpoint up to it. For 64×224×224 the last is 8×7×7×1024.

  Attributes:
    width: multiplies every width; when it is not 1, widths are rounded to multiples
      of 8, at least 8.
    separable: S3D's factorised 3×3×3 and stem.
    keep_time, keep_space: endpoints (of `STRIDED`) that lose their temporal or
      spatial stride, so that short or small clips keep a map worth attending to. 16
      frames of 56×56 become 2×2×2 as the network stands, and 8×7×7 with
      keep_time=("Conv3d_1a_7x7", "MaxPool3d_4a_3x3") and keep_space=
      ("Conv3d_1a_7x7", "MaxPool3d_3a_3x3").
    final_endpoint: the last one computed, one of `ENDPOINTS`.
    use_bn_scale: gives batch norm a scale. The original has none; the PyTorch port's
      files carry one.
    bn_momentum: share of the old running statistics that is kept: 0.999 in the
      original, 0.99 in the Keras and PyTorch ports.
    dtype: type computed in.

  Raises:
    UserError: an endpoint name that does not exist or has no stride to lose.
  """
  width: float = 1.0
  separable: bool = False
  keep_time: Sequence[str] = ()
  keep_space: Sequence[str] = ()
  final_endpoint: str = "Mixed_5c"
  use_bn_scale: bool = False
  bn_momentum: float = 0.99
  dtype: Any = jnp.float32

  def _features(self, channels):
    if self.width == 1:
      return channels
    return max(8, round(channels * self.width / 8) * 8)

  def _strides(self, name, strides):
    t, h, w = strides
    return (1 if name in self.keep_time else t, *((1, 1) if name in self.keep_space else (h, w)))

  def _check(self):
    if self.final_endpoint not in ENDPOINTS:
      raise UserError(f"I3D: final_endpoint must be one of {', '.join(ENDPOINTS)}, got "
                      f"{self.final_endpoint!r}")
    for field in ("keep_time", "keep_space"):
      for name in getattr(self, field):
        if name not in STRIDED:
          raise UserError(f"I3D: {field} must name strided endpoints ({', '.join(STRIDED)}), "
                          f"got {name!r}")

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
    self._check()

    norm = layers.batch_norm(self.bn_momentum, 1e-3, self.use_bn_scale)

    def unit(features, kernel_size, strides=(1, 1, 1), name=None):
      features = self._features(features)
      return layers.ConvUnit(features, kernel_size, strides, norm, "SAME", dtype=self.dtype,
                             factorised=features if self.separable else None, name=name)

    x = x.astype(self.dtype)
    endpoints = {}
    for name, kind, spec in TABLE:
      if kind == "unit":
        features, kernel_size, strides = spec
        x = unit(features, kernel_size, self._strides(name, strides), name)(x, train=train)
      elif kind == "pool":
        window, strides = spec
        x = pooling.max_pool(x, window, self._strides(name, strides), "SAME")
      else:
        x = Mixed(spec, unit, name=name)(x, train=train)
      endpoints[name] = x
      if name == self.final_endpoint:
        break
    return x, endpoints


Backbone = I3D
