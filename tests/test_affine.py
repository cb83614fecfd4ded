"""Random affine maps, recovered from what they did to points."""
import jax
import numpy as np
import pytest

from actionjax.ops import affine

MIDDLE = (15.5, 11.5)


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


def recovered(before, after):
  """Matrix [B,2,2] and shift [B,2] of each clip's map about `MIDDLE`, by least squares."""
  found = []
  for one, other in zip(before.reshape(len(before), -1, 2), after.reshape(len(after), -1, 2)):
    known = np.concatenate([one - MIDDLE, np.ones((len(one), 1))], -1)
    solution, residual, rank, _ = np.linalg.lstsq(known, other - MIDDLE, rcond=None)
    assert rank == 3 and residual.max() < 1e-6, "one affine map moves all points of a clip"
    found.append((solution[:2].T, solution[2]))
  return tuple(np.array(part) for part in zip(*found))


def move(points, keys, **how):
  return jax.jit(lambda p, k: affine.random_affine(p, MIDDLE, k, **how))(points, keys)


def moved(count=2000, **how):
  points = np.random.default_rng(0).uniform(0, 32, (count, 1, 3, 4, 2))
  after = move(points.astype(np.float32), keys(count), **how)
  return recovered(points, np.asarray(after, np.float64))


def test_nothing_asked_nothing_moved():
  matrix, shift = moved(count=3)
  np.testing.assert_allclose(matrix, np.broadcast_to(np.eye(2), (3, 2, 2)), atol=1e-5)
  np.testing.assert_allclose(shift, 0, atol=1e-5)


def test_turns_are_uniform_within_their_bound():
  matrix, shift = moved(rotate=20)
  np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-4)
  squares = matrix @ matrix.swapaxes(1, 2)
  np.testing.assert_allclose(squares, np.broadcast_to(np.eye(2), squares.shape), atol=1e-4)
  angles = np.rad2deg(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
  assert np.abs(angles).max() <= 20.01
  np.testing.assert_allclose(np.quantile(angles, [0.1, 0.5, 0.9]), [-16, 0, 16], atol=1.5)
  np.testing.assert_allclose(shift, 0, atol=1e-4)


def test_sides_are_stretched_within_their_bound():
  matrix, _ = moved(stretch=0.3)
  np.testing.assert_allclose(matrix[:, [0, 1], [1, 0]], 0, atol=1e-5)
  sides = np.log(matrix[:, [0, 1], [0, 1]])
  common, aspect = sides.mean(1), sides[:, 0] - sides[:, 1]
  for draws in (common, aspect):
    assert np.abs(draws).max() <= 0.3001
    np.testing.assert_allclose(np.quantile(draws, [0.1, 0.5, 0.9]), [-0.24, 0, 0.24], atol=0.03)
  assert abs(np.corrcoef(common, aspect)[0, 1]) < 0.1


def test_shifts_are_uniform_within_their_bound():
  matrix, shift = moved(shift=4.0)
  np.testing.assert_allclose(matrix, np.broadcast_to(np.eye(2), (2000, 2, 2)), atol=1e-5)
  assert np.abs(shift).max() <= 4.001
  np.testing.assert_allclose(np.quantile(shift, [0.1, 0.5, 0.9], axis=0).T,
                             [[-3.2, 0, 3.2]] * 2, atol=0.4)


def test_a_clip_does_not_depend_on_the_others():
  points = np.random.default_rng(1).uniform(0, 32, (4, 2, 3, 5, 2)).astype(np.float32)
  how = dict(rotate=30, stretch=0.2, shift=3)
  whole = move(points, keys(4), **how)
  alone = move(points[2:3], keys(4)[2:3], **how)
  np.testing.assert_allclose(whole[2:3], alone, atol=1e-5)
  with pytest.raises(AssertionError):
    np.testing.assert_allclose(whole[0], whole[1], atol=1)
