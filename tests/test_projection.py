"""Kinect's projection: by hand, against least squares, and on real depth maps."""
import io
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io

from actionjax.data.builders import utd_mhad
from actionjax.ops import projection


def _points(count=50, seed=0):
  rng = np.random.default_rng(seed)
  return rng.uniform([-1.5, -1.2, 1.5], [1.5, 1.2, 4.0], (count, 3))


def test_by_hand():
  # Half a metre right of and above the axis, two metres away: a quarter of the coefficients.
  at = np.array([0.5, 0.5, 2.0])
  np.testing.assert_allclose(projection.project(at), (320 + 139.525, 240 - 144.875))
  np.testing.assert_allclose(projection.project(at, projection.COEFFICIENTS["v2"]),
                             (320 + 138.71, 240 - 145.92))
  np.testing.assert_allclose(projection.project(at, **projection.scaled((558.1, 579.5))),
                             (160 + 69.7625, 120 - 72.4375))
  np.testing.assert_array_equal(projection.project(np.array([0.0, 0.0, 3.0])), (320, 240))


@pytest.mark.parametrize("lost", [(0, 0, 0), (np.nan,) * 3, (0.1, np.nan, 2), (0.1, 0.2, -1),
                                  (np.inf, 0, 2)])
def test_lost_joints_are_zero_and_harm_no_gradient(lost):
  points = _points(3)
  points[1] = lost
  found = projection.project(points)
  np.testing.assert_array_equal(found[1], 0)
  np.testing.assert_array_equal(found[[0, 2]], projection.project(points[[0, 2]]))
  gradient = jax.grad(lambda p: projection.project(p).sum())(jnp.asarray(points, jnp.float32))
  assert np.isfinite(gradient).all() and not gradient[1].any() and gradient[0].any()


def test_jitted_as_in_numpy():
  points = _points().reshape(2, 5, 5, 3)
  assert projection.project(points).dtype == np.float64
  found = jax.jit(projection.project)(points.astype(np.float32))
  assert found.shape == (2, 5, 5, 2) and found.dtype == jnp.float32
  np.testing.assert_allclose(found, projection.project(points), rtol=1e-5)


@pytest.mark.parametrize("version", projection.COEFFICIENTS)
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_known_coefficients_are_recovered(version, factor):
  camera = projection.scaled(projection.COEFFICIENTS[version], factor=factor)
  points = _points().reshape(5, 10, 3)
  found = projection.fit_projection(points, projection.project(points, **camera),
                                    camera["centre"])
  np.testing.assert_allclose(found, camera["coefficients"], rtol=1e-12)


def _noisy(seed=1):
  rng = np.random.default_rng(seed)
  points = _points(400, seed)
  return points, projection.project(points, (570.0, 565.0)) + rng.normal(0, 5, (400, 2))


def test_noise_gives_the_least_squares_solution():
  points, pixels = _noisy()
  found = projection.fit_projection(points, pixels)
  for axis, sign in ((0, 1), (1, -1)):
    design = sign * points[:, axis:axis + 1] / points[:, 2:]
    expected = np.linalg.lstsq(design, pixels[:, axis] - projection.CENTRE[axis], rcond=None)[0]
    np.testing.assert_allclose(found[axis], expected[0], rtol=1e-10)
  # The error's standard deviation is 5 px over the root of the summed squares: about 0.7 px.
  np.testing.assert_allclose(found, (570, 565), atol=3)


def test_lost_joints_are_ignored():
  points, pixels = _noisy()
  expected = projection.fit_projection(points[10:], pixels[10:])
  points[:2], points[2:4], points[4, 1], points[5, 2] = 0, np.nan, np.nan, -2
  pixels[6:8], pixels[8:10] = 0, np.nan
  assert projection.fit_projection(points, pixels) == expected


def test_too_little_to_fit():
  points, pixels = _noisy()
  with pytest.raises(ValueError, match=r"\(400, 3\) and \(399, 2\) are not pairs"):
    projection.fit_projection(points, pixels[1:])
  with pytest.raises(ValueError, match="0 usable pairs"):
    projection.fit_projection(np.zeros((4, 3)), np.ones((4, 2)))
  with pytest.raises(ValueError, match="1 usable pairs"):  # above the camera: nothing of c_x
    projection.fit_projection(np.array([[0, 1.0, 2.0]]), np.array([[320, 100.0]]))


def test_joints_of_real_clips_lie_on_the_person(real_data):
  """The sign of y: about 94 % do with y up, and half as the formula is printed."""
  names = [f"a{a}_s{1 + a % 8}_t{1 + a % 4}" for a in range(1, 27)]
  hits = {"up": [], "printed": []}
  with (zipfile.ZipFile(real_data / "utd_mhad/Depth.zip") as depths,
        zipfile.ZipFile(real_data / "utd_mhad/Skeleton.zip") as skeletons):
    def read(archive, title, name, variable):
      data = archive.read(f"{title}/{name}_{title.lower()}.mat")
      return scipy.io.loadmat(io.BytesIO(data))[variable]
    for name in names:
      depth = read(depths, "Depth", name, "d_depth")
      joints = read(skeletons, "Skeleton", name, "d_skel").transpose(2, 0, 1)
      times = np.arange(len(joints))[:, None]
      for sign, pose in (("up", joints), ("printed", joints * [1, -1, 1])):
        pixels = np.rint(utd_mhad.project(pose)).astype(int)
        u, v = np.clip(pixels[..., 0], 0, 319), np.clip(pixels[..., 1], 0, 239)
        hits[sign].append((depth[v, u, times] > 0).ravel())
  shares = {sign: np.concatenate(found).mean() for sign, found in hits.items()}
  assert 0.92 < shares["up"] < 0.96, shares
  assert 0.45 < shares["printed"] < 0.55, shares
