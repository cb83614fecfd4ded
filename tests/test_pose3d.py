"""3D skeletons as networks read them: draws, turns, sizes, ranges."""
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.loading import pose3d, transforms
from actionjax.ops import skeleton_streams
from tests.views import shared

V1 = skeletons.layout("kinect_v1_20")


def _record(frames=30, seed=0):
  pose = np.random.default_rng(seed).normal(size=(1, frames, 20, 3)).astype(np.float32)
  return {"pose3d": pose, "pose_score": np.ones((1, frames, 20), np.float32), "clip_id": "x"}


@pytest.mark.parametrize("axis, fixed", [("x", 0), ("y", 1)])
def test_turns_about_an_axis(axis, fixed):
  pose, score = _record()["pose3d"], np.ones((1, 30, 20), np.float32)
  turned = transforms.turn_pose3d(pose, score, 0.7, axis=axis)
  np.testing.assert_allclose(turned[..., fixed], pose[..., fixed], atol=1e-5)
  centre = pose.mean((0, 1, 2))
  a, b = (i for i in range(3) if i != fixed)
  plane = lambda x: (x[..., a] - centre[a]) + 1j * (x[..., b] - centre[b])
  np.testing.assert_allclose(np.abs(plane(turned)), np.abs(plane(pose)), rtol=1e-4)
  angles = np.angle(plane(turned) / plane(pose))
  np.testing.assert_allclose(np.abs(angles), 0.7, atol=1e-3)
  assert np.ptp(angles) < 1e-2  # all the same way


def test_drawn_poses_tilts_and_sizes():
  record, rng = _record(), np.random.default_rng(3)
  config = pose3d.Config(num_poses=52, sampling="drawn", tilt=60.0, scale=(0.5, 1.5))
  (one,) = shared(V1)
  choices = [pose3d.draw(config, record, one, rng) for _ in range(200)]
  assert all(len(choice.places) == 52 for choice in choices)
  tilts, scales = (np.array([choice[i] for choice in choices]) for i in (1, 2))
  assert -1 <= tilts.min() < -0.9 and 0.9 < tilts.max() <= 1
  assert 0.5 <= scales.min() < 0.55 and 1.45 < scales.max() <= 1.5
  plain = pose3d.Config(num_poses=52, sampling="drawn")
  choice = pose3d.Choice((np.arange(52)[::-1] + 0.5) / 52, 0.0, 2.0)
  kept = pose3d.apply(plain, record, one, choice)["pose3d"]
  np.testing.assert_array_equal(kept, record["pose3d"][:, (2 * np.arange(52) + 1) * 30 // 104])
  larger = pose3d.apply(pose3d.Config(num_poses=52, sampling="drawn", scale=(1.0, 3.0)), record,
                        one, choice)["pose3d"]
  np.testing.assert_allclose(larger, 2 * kept, rtol=1e-6)
  tilted = pose3d.apply(config, record, one, choice._replace(tilt=0.5, scale=1.0))["pose3d"]
  np.testing.assert_allclose(
      tilted, transforms.turn_pose3d(kept, np.ones(kept.shape[:3]), np.pi / 6, axis="x"), rtol=1e-5)
  # At test frames are evenly spaced, and nothing is turned.
  (view,) = pose3d.views(config, record, shared(V1))
  assert view.tilt == 0 and view.scale == 1 and np.ptp(np.diff(view.places)) < 1e-9
  with pytest.raises(ValueError, match="scale must be two rising factors above 0"):
    pose3d.Config(num_poses=2, scale=(1.5, 0.5))


def test_every_axis_of_a_clip_spans_minus_one_to_one():
  rng = np.random.default_rng(0)
  pose = rng.normal(size=(3, 2, 4, 5, 3)).astype(np.float32) * [1, 10, 0.1]
  score = np.ones((3, 2, 4, 5), np.float32)
  score[1, 0, :, 2] = 0
  score[2] = 0
  pose[0, ..., 1] = 7.0  # nothing differs along y
  pose[score == 0] = 0
  found = np.asarray(skeleton_streams.within_range(jnp.asarray(pose), jnp.asarray(score)))
  for clip, axis in ((0, 0), (0, 2), (1, 0), (1, 1), (1, 2)):
    there = pose[clip, ..., axis][score[clip] > 0]
    low, high = there.min(), there.max()
    expected = np.where(score[clip] > 0, (pose[clip, ..., axis] - low) / (high - low) * 2 - 1, 0)
    np.testing.assert_allclose(found[clip, ..., axis], expected, atol=1e-5)
  assert not found[0, ..., 1].any() and not found[2].any() and np.isfinite(found).all()
