"""Random affine maps of points in the image plane, one a clip, for training on few clips."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def random_affine(points: jax.Array, middle: Sequence[float], keys: jax.Array, *,
                  rotate: float = 0.0, stretch: float = 0.0, shift: float = 0.0) -> jax.Array:
  """Turns, stretches and moves all points of a clip alike, about a point of the plane.

  Args:
    points: float[B,...,2], (x, y) with y downwards.
    middle: (x, y), which only the shift moves.
    keys: one a clip, [B]: what becomes of a clip does not depend on the others of its batch.
    rotate: degrees, at most, either way.
    stretch: the logarithm, at most, of the factor of both sides; half as much again makes one
      side longer and the other shorter.
    shift: at most, along either axis, in the unit of the points.

  Returns:
    float32[B,...,2].
  """
  middle = jnp.asarray(middle, jnp.float32)

  def one(points, key):
    draws = jax.random.uniform(key, (5,), minval=-1, maxval=1)
    angle = jnp.deg2rad(rotate) * draws[0]
    size, aspect = stretch * draws[1], stretch * draws[2] / 2
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    sides = jnp.exp(jnp.stack([size + aspect, size - aspect]))
    matrix = sides[:, None] * jnp.array([[cos, -sin], [sin, cos]])
    # Written out: a product with so small a matrix would be taken in low precision on a TPU.
    x, y = (points - middle)[..., 0], (points - middle)[..., 1]
    moved = [matrix[axis, 0] * x + matrix[axis, 1] * y for axis in (0, 1)]
    return jnp.stack(moved, -1) + middle + shift * draws[3:]

  return jax.vmap(one)(points.astype(jnp.float32), keys)
