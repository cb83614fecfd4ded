"""Pseudo heat maps: skeletons as the volumes that 3D convolutions read.

Every joint becomes a Gaussian about its place, every limb a Gaussian of the distance to its
segment, with confidences as amplitudes (PoseC3D, Duan et al., 2022, arXiv:2104.13586, section
3.2, equations 1 and 2). The host sends coordinates and the device draws: a clip of 48 frames is
a few kilobytes of joints and ten megabytes of maps.

What makes it cheap. A Gaussian is the product of one along x and one along y, so that joints
take one multiplication a pixel. Of a limb, a pixel's places along and across the segment are each
a sum of a term of x and one of y; further persons cost a few additions there and share one
exponential, since the largest of several exponentials is that of the smallest exponent. Windows
ride along in the terms of x and y.
"""
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.skeletons import Layout

Kind = Literal["joint", "limb", "both"]
Merge = Literal["max", "sum"]
KINDS, MERGES = get_args(Kind), get_args(Merge)
THRESHOLD = 1e-3  # Joints and limbs of a lower confidence are not drawn.

# What lies outside of a window is put so far away that no coordinate brings it back. Not
# infinity: its square times a gradient of zero would be NaN.
_FAR = 1e8
# Exponents are cut here, where `_decay` is zero.
_NOTHING = 100.0
# exp(-e / 8) between amplitudes of exp(2) and exp(-17), as a polynomial.
_EIGHTH = np.polynomial.Chebyshev.interpolate(lambda e: np.exp(-e / 8), 7, [-2, 17]).convert(
    kind=np.polynomial.Polynomial).coef


def heatmaps(points: jax.Array, score: jax.Array, size: Sequence[int], layout: Layout, *,
             kind: str = "joint", limbs: Sequence[Sequence[int]] | None = None,
             sigma: float = 0.6, merge: str = "max", windows: bool = True,
             use_scores: bool = True) -> jax.Array:
  """The volume of a clip's skeletons.

  Args:
    points: float[B,M,T,V,2], (x, y) in the maps' pixels, whose centres are whole numbers.
    score: float[B,M,T,V]: confidences, 0 for a missing joint. Amplitudes up to 7 are exact.
    size: (H, W) of the maps.
    layout: of the joints.
    kind: "joint" (K = V), "limb" (K = L) or "both" (K = V + L, joints first).
    limbs: int[L,2], where they are not those of the layout.
    sigma: of the Gaussians, in pixels.
    merge: how several persons share a map: "max", as the released code does, or "sum", as the
      paper has it.
    windows: cut every Gaussian to whole pixels within three sigma of the joint (or of the limb's
      bounding box), as the released code does.
    use_scores: otherwise everything that is drawn has amplitude 1.

  Returns:
    float32[B,T,H,W,K].

  Raises:
    ValueError: unknown kind or merging, shapes that are not the layout's, limbs of joints that it
      does not have, or limbs where none are drawn.
  """
  if kind not in KINDS:
    raise ValueError(f"heat maps of kind {kind!r}; known: {', '.join(KINDS)}")
  if limbs is not None:
    pairs = np.asarray(limbs)
    if kind == "joint":
      raise ValueError("limbs are given, but heat maps of kind 'joint' draw none")
    if (pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu"
        or pairs.min() < 0 or pairs.max() >= layout.num_joints):
      raise ValueError(f"limbs {limbs} are not pairs of the {layout.num_joints} joints of "
                       f"{layout.name}")
  if points.shape != (*score.shape, 2) or score.ndim != 4:
    raise ValueError(f"points {points.shape} and scores {score.shape} are not [B,M,T,V,2] and "
                     "[B,M,T,V]")
  if score.shape[-1] != layout.num_joints:
    raise ValueError(f"{score.shape[-1]} joints are not the {layout.num_joints} of {layout.name}")
  arguments = dict(sigma=sigma, merge=merge, windows=windows, use_scores=use_scores)
  maps = []
  if kind != "limb":
    maps.append(joint_maps(points, score, size, **arguments))
  if kind != "joint":
    maps.append(limb_maps(points, score, size, layout.limbs if limbs is None else limbs,
                          **arguments))
  return maps[0] if len(maps) == 1 else jnp.concatenate(maps, -1)


def joint_maps(points: jax.Array, score: jax.Array, size: Sequence[int], *, sigma: float = 0.6,
               merge: str = "max", windows: bool = True, use_scores: bool = True) -> jax.Array:
  """Gaussians about joints, float32[B,T,H,W,V]; arguments as in `heatmaps` (equation 1)."""
  points, score = _by_person(points, score)
  drawn, amplitude = _amplitude(points, score, use_scores)
  points = jnp.where(drawn[..., None], points, 0)
  fade = jnp.log(jnp.where(drawn, amplitude, 1))[..., None, :]
  factors = []
  for axis, length in ((0, size[1]), (1, size[0])):
    place = points[..., None, :, axis]
    pixels = jnp.arange(length, dtype=jnp.float32)[:, None]
    exponent = ((pixels - place) / sigma)**2 / 2
    near = drawn[..., None, :]
    if windows:
      near &= _near(pixels, place, place, sigma)
    # The exponential comes last: XLA computes what is expensive before it is broadcast, and
    # fuses all that follows into the loop over pixels.
    factors.append(jnp.exp(jnp.where(near, fade * axis - exponent, -_NOTHING**2)))
  x, y = factors
  return _merged([y[m][:, :, :, None] * x[m][:, :, None] for m in range(x.shape[0])], merge)


def limb_maps(points: jax.Array, score: jax.Array, size: Sequence[int],
              limbs: Sequence[Sequence[int]], *, sigma: float = 0.6, merge: str = "max",
              windows: bool = True, use_scores: bool = True) -> jax.Array:
  """Gaussians about segments, float32[B,T,H,W,L]; arguments as in `heatmaps` (equation 2).

  A limb has the lower confidence of its ends; one shorter than a pixel is drawn as its first
  joint.

  Args:
    limbs: int[L,2], pairs of joints.
  """
  limbs = np.asarray(limbs)
  points, score = _by_person(points, score)
  ends = jnp.stack([points[..., limbs[:, end], :] for end in (0, 1)])
  scores = jnp.stack([score[..., limbs[:, end]] for end in (0, 1)])
  drawn, amplitudes = _amplitude(ends, scores, use_scores)
  drawn = drawn.all(0)
  a, b = jnp.where(drawn[..., None], ends, 0)
  square = ((b - a)**2).sum(-1)
  short = square < 1
  amplitude = jnp.where(short, amplitudes[0], amplitudes.min(0))
  b = jnp.where(short[..., None], a, b)
  length = jnp.where(short, 1, jnp.sqrt(jnp.where(short, 1, square)))
  along = jnp.where(short[..., None], jnp.array([1.0, 0.0]), b - a)

  # In units in which the exponent is a squared distance.
  unit = (length * sigma * 2**0.5)[..., None, :]
  half = jnp.where(short, 0, square)[..., None, :] / 2 / unit
  middle, low, high = (a + b) / 2, jnp.minimum(a, b), jnp.maximum(a, b)
  terms = []
  for axis, extent in ((0, size[1]), (1, size[0])):
    pixels = jnp.arange(extent, dtype=jnp.float32)[:, None]
    offset = pixels - middle[..., None, :, axis]
    near = jnp.full(offset.shape, True)
    if windows:
      near = _near(pixels, low[..., None, :, axis], high[..., None, :, axis], sigma)
    # The division comes last, as the exponential of the joints does.
    divisor = jnp.where(near, unit, 1)
    parallel = offset * along[..., None, :, axis] / divisor
    across = offset * along[..., None, :, 1 - axis] * (1 if axis else -1)
    terms.append((parallel, jnp.where(near, across, _FAR) / divisor))
  # Confidence as a further distance, so that the nearest of several persons is the largest.
  log_amplitude = jnp.log(jnp.where(drawn, amplitude, 1e-30))
  (px, vx), (py, vy) = terms

  def exponent(m):
    parallel = py[m][:, :, :, None] + px[m][:, :, None]
    across = vy[m][:, :, :, None] + vx[m][:, :, None]
    beyond = jnp.maximum(jnp.abs(parallel) - half[m][:, :, None], 0)
    return across * across + beyond * beyond - log_amplitude[m][:, :, None, None]

  exponents = [exponent(m) for m in range(half.shape[0])]
  if merge == "max":
    return _decay(functools.reduce(jnp.minimum, exponents))
  return _merged([_decay(e) for e in exponents], merge)


def three_views(points: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
  """A 3D skeleton as three 2D ones (PoseC3D, footnote 3): from the front, the side and above.

  Args:
    points: float[...,3]: x right, y up, z away from the camera.

  Returns:
    Three float[...,2] whose second coordinate grows downwards: (x, -y), (z, -y), (x, -z). Each
    gets heat maps of its own, which are joined on channels; `fit` brings them to pixels.
  """
  x, y, z = points[..., 0], points[..., 1], points[..., 2]
  return jnp.stack([x, -y], -1), jnp.stack([z, -y], -1), jnp.stack([x, -z], -1)


def fit(points: jax.Array, score: jax.Array, size: Sequence[int],
        padding: float = 0.25) -> jax.Array:
  """Coordinates of any unit in the pixels of maps, one scale and shift a clip.

  Args:
    points: float[B,M,T,V,2]. score: float[B,M,T,V]; joints of score 0 do not count.
    size: (H, W) of the maps.
    padding: the square about all joints of the clip is larger than them by this share.

  Returns:
    float32[B,M,T,V,2]: the square's middle is the maps', its side their shorter one.
  """
  points = points.astype(jnp.float32)
  there = ((score > 0) & jnp.isfinite(points).all(-1))[..., None]
  low = jnp.where(there, points, jnp.inf).min((1, 2, 3), keepdims=True)
  high = jnp.where(there, points, -jnp.inf).max((1, 2, 3), keepdims=True)
  side = (high - low).max(-1, keepdims=True) * (1 + padding)
  # A clip without joints, or with a single place, is moved and not scaled.
  scale = jnp.where(jnp.isfinite(side) & (side > 0), min(size) / jnp.where(side > 0, side, 1), 1)
  middle = jnp.where(jnp.isfinite(low), (low + high) / 2, 0)
  target = jnp.array([(size[1] - 1) / 2, (size[0] - 1) / 2], jnp.float32)
  return jnp.where(there, (points - middle) * scale + target, 0)


def mirror(maps: jax.Array, layout: Layout, kind: str = "joint",
           limbs: Sequence[Sequence[int]] | None = None) -> jax.Array:
  """Maps of the mirrored skeletons, [B,T,H,W,K] -> the same: left and right swapped, x reversed.

  This is the flip of the test pipelines. It takes x to W - 1 - x. `kind` and `limbs` are those
  that the maps were drawn with.

  Raises:
    ValueError: an unknown kind, or limbs one of which has no counterpart.
  """
  limbs = layout.limbs if limbs is None else np.asarray(limbs)
  pairs = [frozenset(pair) for pair in limbs.tolist()]
  opposite = [frozenset(layout.mirror[list(pair)].tolist()) for pair in pairs]
  orders = {"joint": layout.mirror}
  if kind != "joint":
    orders["limb"] = np.array([pairs.index(pair) for pair in opposite])
    orders["both"] = np.concatenate([layout.mirror, layout.num_joints + orders["limb"]])
  if kind not in orders:
    raise ValueError(f"heat maps of kind {kind!r}; known: {', '.join(KINDS)}")
  return maps[:, :, :, ::-1, orders[kind]]


def _by_person(points, score):
  """[B,M,T,...] -> [M,B,T,...], float32."""
  return jnp.moveaxis(points, 1, 0).astype(jnp.float32), jnp.moveaxis(score, 1, 0).astype(
      jnp.float32)


def _amplitude(points, score, use_scores):
  """Which joints are drawn, and their amplitudes (0 where not)."""
  drawn = (score >= THRESHOLD) & jnp.isfinite(points).all(-1)
  return drawn, jnp.where(drawn, score if use_scores else 1.0, 0)


def _near(pixels, low, high, sigma):
  """The window's pixels. Its ends are cut towards zero, not down: a joint up to three sigma and
  one pixel left of the map still reaches the first column."""
  return (pixels >= jnp.trunc(low - 3 * sigma)) & (pixels <= jnp.trunc(high + 3 * sigma))


def _merged(maps, merge):
  if merge not in MERGES:
    raise ValueError(f"persons merged by {merge!r}; known: {', '.join(MERGES)}")
  return functools.reduce(jnp.maximum if merge == "max" else jnp.add, maps)


def _decay(exponent):
  """exp(-exponent), from -2 to infinity, within 2e-6 of the larger of itself and 1.

  On CPU an exponential of the standard library takes twice as long as everything else a limb
  needs. The polynomial's last coefficient is negative, so that it ends below zero.
  """
  exponent = jnp.minimum(exponent, _NOTHING)
  eighth = functools.reduce(lambda p, c: p * exponent + np.float32(c), _EIGHTH[-2::-1],
                            np.float32(_EIGHTH[-1]))
  eighth = jnp.maximum(eighth, 0)
  return ((eighth**2)**2)**2
