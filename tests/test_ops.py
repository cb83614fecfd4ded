"""Geometry of skeletons and graphs against NumPy, and their invariances."""
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.ops import graphs, images, skeleton_frames

V1, V2 = skeletons.KINECT_V1_20, skeletons.KINECT_V2_25


def test_normalisation_of_three_joints_in_a_row():
  # E + I = [[1,1,0],[1,1,1],[0,1,1]], degrees 2, 3, 2.
  weights = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)
  side = 1 / np.sqrt(6)
  np.testing.assert_allclose(
      graphs.normalise_symmetric(weights),
      [[1 / 2, side, 0], [side, 1 / 3, side], [0, side, 1 / 2]], rtol=1e-6)


def test_normalisation_of_three_joints_with_vpn_weights():
  # Two bones of 5 and the unconnected pair of 2: degrees 8, 11, 8.
  weights = np.array([[0, 5, 2], [5, 0, 5], [2, 5, 0]], np.float32)
  bone = 5 / np.sqrt(88)
  np.testing.assert_allclose(
      graphs.normalise_symmetric(weights),
      [[1 / 8, bone, 2 / 8], [bone, 1 / 11, bone], [2 / 8, bone, 1 / 8]], rtol=1e-6)


@pytest.mark.parametrize("layout", [V1, V2], ids=lambda layout: layout.name)
@pytest.mark.parametrize("pairs", ["listed", "all", "none"])
def test_normalisation_against_the_dense_formula(layout, pairs):
  weights = graphs.vpn_weights(layout, pairs=pairs)
  degrees = np.diag(weights.sum(1) + 1.0) ** 1.0
  root = np.linalg.inv(np.sqrt(degrees))
  expected = root @ (weights + np.eye(layout.num_joints)) @ root
  found = graphs.normalise_symmetric(weights)
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
  assert np.abs(np.linalg.eigvalsh(found)).max() == pytest.approx(1, abs=1e-5)


def test_vpn_weights_count_bones_and_pairs():
  def count(layout, pairs):
    weights = graphs.vpn_weights(layout, pairs=pairs)
    np.testing.assert_array_equal(weights, weights.T)
    assert not np.diag(weights).any()
    return {value: int((weights == value).sum()) // 2 for value in (5.0, 2.0, 0.0)}
  # 25 joints: 24 bones, 6 listed pairs of 300; the diagonal adds 25 zeros to the count's double.
  assert count(V2, "listed")[5.0] == 24 and count(V2, "listed")[2.0] == 6
  assert count(V2, "all") == {5.0: 24, 2.0: 300 - 24, 0.0: 12}
  assert count(V2, "none")[2.0] == 0 and count(V1, "listed")[5.0] == 19
  # 1-based Kinect v2 numbers of the released code: 12-19, 10-18, 6-14, 8-15, 12-8, 10-6.
  weights = graphs.vpn_weights(V2)
  for a, b in ((12, 19), (10, 18), (6, 14), (8, 15), (12, 8), (10, 6)):
    assert weights[a - 1, b - 1] == 2
  for a, b in ((1, 2), (1, 17), (2, 21), (21, 3), (3, 4), (12, 24), (12, 25), (8, 22), (8, 23)):
    assert weights[a - 1, b - 1] == 5
  with pytest.raises(UserError, match="pairs must be one of"):
    graphs.vpn_weights(V2, pairs="some")


def _skeletons(seed=0, persons=2, layout=V1):
  rng = np.random.default_rng(seed)
  pose = rng.normal(size=(3, persons, 5, layout.num_joints, 3)).astype(np.float32)
  score = np.ones(pose.shape[:-1], np.float32)
  # The reference joints of the first frame stay; others may be missing.
  score[:, :, 1:] = rng.random(score[:, :, 1:].shape) > 0.2
  return pose * score[..., None], score


def _rotation(rng):
  q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
  return q * np.sign(np.linalg.det(q))


def _moved(pose, score, rotation=None, shift=0.0, scale=1.0):
  pose = scale * pose @ (np.eye(3) if rotation is None else rotation).T + shift
  return (pose * score[..., None]).astype(np.float32)


def test_translate_against_numpy():
  pose, score = _skeletons()
  origin = pose[:, 0, 0, V1.index("spine")]
  expected = np.where(score[..., None] > 0, pose - origin[:, None, None, None], 0)
  found = skeleton_frames.translate(pose, score, V1)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  np.testing.assert_array_equal(np.asarray(found)[score == 0], 0)
  np.testing.assert_array_equal(found[:, 0, 0, V1.index("spine")], 0)
  shifted = skeleton_frames.translate(_moved(pose, score, shift=[3, -2, 5]), score, V1)
  np.testing.assert_allclose(shifted, found, atol=1e-5)


def test_translate_takes_the_first_frame_that_has_the_centre():
  pose, score = _skeletons()
  centre = V1.index("spine")
  score[:, 0, 1] = 1
  score[1, 0, 0, centre] = 0
  pose = pose * score[..., None]
  found = np.asarray(skeleton_frames.translate(pose, score, V1))
  np.testing.assert_array_equal(found[1, 0, 1, centre], 0)
  np.testing.assert_allclose(found[1, 0, 0, 3], pose[1, 0, 0, 3] - pose[1, 0, 1, centre],
                             atol=1e-6)


def test_align_ignores_place_orientation_and_size():
  pose, score = _skeletons(1)
  rng = np.random.default_rng(5)
  found = np.asarray(skeleton_frames.align(pose, score, V1))
  for scale in (0.3, 4.0):
    moved = _moved(pose, score, _rotation(rng), rng.normal(size=3), scale)
    np.testing.assert_allclose(skeleton_frames.align(moved, score, V1), found, atol=2e-4)
  np.testing.assert_array_equal(found[score == 0], 0)


def test_align_gives_body_axes():
  pose, score = _skeletons(2)
  found = np.asarray(skeleton_frames.align(pose, score, V1), np.float64)[:, 0, 0]
  up = found[:, V1.index("spine")] - found[:, V1.index("hip_centre")]
  np.testing.assert_allclose(up, np.tile([0, 1, 0], (3, 1)), atol=1e-5)
  across = found[:, V1.index("left_hip")] - found[:, V1.index("right_hip")]
  assert (across[:, 0] > 0).all()
  np.testing.assert_allclose(across[:, 2], 0, atol=1e-5)
  # A rotation, not a mirror: triple products keep their sign and distances their ratio.
  triple = lambda x: np.linalg.det(x[:, [4, 9, 16]] - x[:, [1]])
  length = np.linalg.norm(pose[:, 0, 0, 1] - pose[:, 0, 0, 0], axis=-1)
  np.testing.assert_allclose(triple(found) * length**3,
                             triple(pose[:, 0, 0].astype(np.float64)), rtol=1e-3)


def test_align_without_reference_joints_translates():
  pose, score = _skeletons(3)
  score[1, 0, 0, V1.index("left_hip")] = 0
  pose = pose * score[..., None]
  found = skeleton_frames.align(pose, score, V1)
  np.testing.assert_allclose(found[1], skeleton_frames.translate(pose, score, V1)[1], atol=1e-6)
  assert np.isfinite(found).all()


def test_no_person_at_all_stays_zero():
  zeros = np.zeros((2, 2, 4, 20, 3), np.float32), np.zeros((2, 2, 4, 20), np.float32)
  for frame in (skeleton_frames.translate, skeleton_frames.align):
    np.testing.assert_array_equal(frame(*zeros, V1), 0)


def test_scaling_of_video():
  video = np.array([0, 127, 128, 255], np.uint8).reshape(1, 1, 1, 4, 1)
  np.testing.assert_allclose(images.scale(video, "signed").ravel(),
                             video.ravel() / 127.5 - 1, atol=1e-6)
  colour = np.arange(12, dtype=np.uint8).reshape(1, 1, 2, 2, 3) * 20
  expected = (colour / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
  np.testing.assert_allclose(images.scale(colour, "imagenet"), expected, atol=1e-5)
  assert images.scale(colour, "imagenet", jnp.bfloat16).dtype == jnp.bfloat16
  with pytest.raises(ValueError, match="unknown scaling 'raw'; known: signed, imagenet"):
    images.scale(colour, "raw")
