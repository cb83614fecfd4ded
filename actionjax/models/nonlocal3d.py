"""The non-local block (Wang et al., CVPR 2018): every place and time attends to every other."""
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax.models import checked, layers
from actionjax.ops import pooling


class NonLocalBlock(checked.Module):
  """x + BN(W y), y_i = sum_j f(x_i, x_j) g(x_j): float[B,T,H,W,C] -> the same shape.

  Parameters are `theta`, `phi`, `g` (1x1x1 to the inner width) and `out`, `bn` (back to C). The
  batch norm's scale starts at 0, so that the block starts as the identity and can be put into
  a trained network (section 4.1).

  Attributes:
    inner: width of theta, phi and g; None: half of C.
    pairwise: f. "embedded_gaussian": softmax over j of theta_i . phi_j; "gaussian": softmax of
      x_i . x_j, without `theta` and `phi`; "dot_product": theta_i . phi_j over the number of
      places j (section 3.2).
    scale: divide the products by the root of the inner width first, as transformers do.
    subsample: j runs over maxima of 1x2x2 places (section 3.3), a quarter of the work.
    zero_scale: start as the identity.
    dtype: compute type; the softmax is in float32.
  """
  inner: int | None = None
  pairwise: Literal["embedded_gaussian", "gaussian", "dot_product"] = "embedded_gaussian"
  scale: bool = False
  subsample: bool = False
  zero_scale: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    b, t, h, w, c = x.shape
    inner = self.inner or max(1, c // 2)
    project = lambda name, y: nn.Dense(
        inner, dtype=self.dtype, kernel_init=nn.initializers.normal(0.01), name=name)(y)
    # A maximum does not commute with a convolution: it comes after phi and g.
    pooled = lambda y: (pooling.max_pool(y, (1, min(2, h), min(2, w))) if self.subsample else y)
    value = pooled(project("g", x)).reshape(b, -1, inner)
    if self.pairwise == "gaussian":
      query, key = x.reshape(b, -1, c), pooled(x).reshape(b, -1, c)
    else:
      query = project("theta", x).reshape(b, -1, inner)
      key = pooled(project("phi", x)).reshape(b, -1, inner)
    if self.scale:
      query = query / query.shape[-1] ** 0.5
    products = jnp.einsum("bic,bjc->bij", query, key)
    if self.pairwise == "dot_product":
      weights = products / products.shape[-1]
    else:
      weights = nn.softmax(products.astype(jnp.float32)).astype(value.dtype)
    y = (weights @ value).reshape(b, t, h, w, inner)
    y = nn.Dense(c, use_bias=False, dtype=self.dtype, kernel_init=layers.he_fan_out,
                 name="out")(y)
    start = nn.initializers.zeros if self.zero_scale else nn.initializers.ones
    y = layers.batch_norm()(train=train, dtype=self.dtype, scale_init=start, name="bn")(y)
    return x + y
