"""Kinect's camera coordinates in pixels: a pinhole without distortion.

The hierarchical-classification paper ("Preprocessing", equation 1) projects the skeletons of
datasets that come without 2D joints as x = c_x X/Z + 320, y = c_y Y/Z + 240. Its Y grows
downwards. Kinect's skeletons grow upwards, so the sign is turned here: with the printed one
about half of UTD-MHAD's joints fall beside the person, with this one a few in a hundred.

The functions take NumPy arrays (and compute in their precision) or JAX arrays, jitted or not.
"""
import numpy as np

# (c_x, c_y) for 640x480 pixels in the paper's two versions: the first fitted on UTD-MHAD and
# used for Northwestern-UCLA too, the second fitted on the latter.
COEFFICIENTS = {"v1": (558.1, 579.5), "v2": (554.84, 583.68)}
CENTRE = (320.0, 240.0)


def scaled(coefficients: tuple[float, float], centre: tuple[float, float] = CENTRE,
           factor: float = 0.5) -> dict[str, tuple[float, float]]:
  """The arguments of `project` for an image of another size, 0.5 for 320x240 depth maps."""
  return {"coefficients": tuple(factor * value for value in coefficients),
          "centre": tuple(factor * value for value in centre)}


def project(points, coefficients: tuple[float, float] = COEFFICIENTS["v1"],
            centre: tuple[float, float] = CENTRE):
  """Camera coordinates to pixels: (u0 + c_x X/Z, v0 - c_y Y/Z).

  Args:
    points: float[...,3] in metres: x right, y up, z away from the camera.
    coefficients: (c_x, c_y) in pixels.
    centre: (u0, v0), the optical axis' pixel.

  Returns:
    float[...,2]: x right, y down. Joints that are missing (zeros or NaN) or behind the camera
    become 0, as records store what is missing.
  """
  xp = points.__array_namespace__()
  present = _present(points, xp)
  # A missing joint's own depth would divide by zero, and its NaN would reach gradients.
  x, y, z = (xp.where(present, points[..., axis], 1.0) for axis in range(3))
  pixels = xp.stack([centre[0] + coefficients[0] * x / z, centre[1] - coefficients[1] * y / z], -1)
  return xp.where(present[..., None], pixels, 0.0)


def fit_projection(points3d: np.ndarray, points2d: np.ndarray,
                   centre: tuple[float, float] = CENTRE) -> tuple[float, float]:
  """The coefficients (c_x, c_y) with the least squared distance, in pixels, between pairs.

  With the centre given each axis has one unknown and a closed form: c_x is the sum of
  (X/Z)(u - u0) over that of (X/Z)^2. Pairs of which either point is missing (NaN, or all
  zeros) or lies behind the camera are ignored.

  Args:
    points3d: float[...,3] in metres, y up.
    points2d: float[...,2] in pixels, y down.
    centre: (u0, v0).

  Raises:
    ValueError: shapes that do not pair up, or too few pairs off the optical axis to tell.
  """
  points3d, points2d = np.asarray(points3d, np.float64), np.asarray(points2d, np.float64)
  if points3d.shape != (*points2d.shape[:-1], 3) or points2d.shape[-1:] != (2,):
    raise ValueError(f"points of shapes {points3d.shape} and {points2d.shape} are not pairs "
                     "[...,3] and [...,2]")
  usable = (_present(points3d, np) & np.isfinite(points2d).all(-1) & (points2d != 0).any(-1))
  places = points3d[usable][:, :2] / points3d[usable][:, 2:]
  offsets = (points2d[usable] - centre) * [1, -1]
  squares = (places**2).sum(0)
  if not squares.all():
    raise ValueError(f"{usable.sum()} usable pairs do not determine both coefficients")
  c_x, c_y = (places * offsets).sum(0) / squares
  return float(c_x), float(c_y)


def _present(points, xp):
  """bool[...]: joints that are neither lost nor behind the camera; a lost one is NaN or 0."""
  return xp.isfinite(points).all(-1) & (points[..., 2] > 0)
