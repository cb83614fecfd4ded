"""PoseC3D's sampling and cropping against the released code's numbers and by hand."""
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.loading import pose_sampling
from tests import references


def test_test_frames_are_those_of_the_released_code():
  known = references.stored("pose_sampling_mmaction")
  names = [name for name in known.files if name.startswith("uniform_test")]
  assert len(names) == 12
  for name in names:
    _, _, frames, clips = name.split("_")
    frames, clips = int(frames[1:]), int(clips.removeprefix("clips"))
    found = pose_sampling.evaluation_frames(frames, 48, clips)
    assert found.shape == (clips, 48)
    np.testing.assert_array_equal(found.ravel(), known[name], err_msg=name)


def test_compact_is_that_of_the_released_code():
  known = references.stored("pose_sampling_mmaction")
  out, size, box = pose_sampling.compact(known["compact_in"], (1080, 1920))
  np.testing.assert_array_equal(out, known["compact_out"])
  assert size == tuple(known["compact_img_shape"])
  assert (box[3] - box[1], box[2] - box[0]) == size


def test_the_extra_draw_changes_what_is_random_only():
  for frames, same in ((30, True), (60, False), (103, False)):
    plain, extra = (pose_sampling.evaluation_frames(frames, 48, 2, extra_draw=draw)
                    for draw in (False, True))
    assert np.array_equal(plain, extra) == same
  # By hand: one number, then one below the width of every part.
  legacy = np.random.RandomState(255)  # noqa: NPY002
  legacy.rand()
  edges = np.array([0, 25, 51, 77, 103])
  np.testing.assert_array_equal(pose_sampling.evaluation_frames(103, 4, extra_draw=True)[0],
                                edges[:-1] + legacy.randint(np.diff(edges)))


@pytest.mark.parametrize("frames,length", [(1, 4), (3, 4), (4, 4), (7, 4), (8, 4), (103, 48)])
def test_training_frames(frames, length):
  rng = np.random.default_rng(0)
  drawn = np.stack([pose_sampling.uniform_frames(frames, length, rng) for _ in range(300)])
  assert drawn.shape == (300, length) and drawn.min() >= 0 and drawn.max() < frames
  if frames < length:
    np.testing.assert_array_equal(np.diff(drawn) % frames, 1 % frames)
  elif frames < 2 * length:
    assert set(np.diff(drawn).ravel()) <= {1, 2}
  else:
    edges = np.arange(length + 1) * frames // length
    assert (drawn >= edges[:-1]).all() and (drawn < edges[1:]).all()
  counts = np.bincount(drawn.ravel(), minlength=frames)
  assert counts.min() > 0.5 * drawn.size / frames, "every frame has its chance"
  again = pose_sampling.uniform_frames(frames, length, np.random.default_rng(0))
  np.testing.assert_array_equal(again, drawn[0])


def test_compaction_by_hand():
  points = np.array([[[[100.0, 50], [140, 150], [0, 0], [np.nan, 5]]]])
  points[..., 3, 1] = 0
  out, size, box = pose_sampling.compact(points, (200, 300))
  # Half sides 20 and 50, larger by a quarter, then square: 62.5 about (120, 100).
  assert box.tolist() == [57, 37, 182, 162] and size == (125, 125)
  np.testing.assert_array_equal(out[0, 0], [[43, 13], [83, 113], [0, 0], [0, 0]])
  _, size, box = pose_sampling.compact(points, (120, 300), hw_ratio=None, allow_padding=False)
  assert box.tolist() == [95, 37, 145, 120] and size == (83, 50)
  _, size, box = pose_sampling.compact(points, (200, 300), hw_ratio=(1.0, 2.0), padding=0)
  assert box.tolist() == [95, 50, 145, 150]
  for small in (points[..., :1, :], np.zeros((1, 1, 3, 2))):
    same, size, box = pose_sampling.compact(small, (200, 300))
    assert size == (200, 300) and box.tolist() == [0, 0, 300, 200]
    np.testing.assert_array_equal(same, small)


def test_random_boxes_keep_their_bounds():
  rng = np.random.default_rng(0)
  boxes = np.stack([pose_sampling.random_resized_box((640, 800), rng) for _ in range(500)])
  width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
  assert boxes.min() >= 0 and boxes[:, 2].max() <= 800 and boxes[:, 3].max() <= 640
  share, aspect = width * height / (640 * 800), width / height
  assert 0.55 < share.min() < 0.6 and 0.95 < share.max() <= 1.0
  assert 0.74 < aspect.min() < 0.85 and 1.25 < aspect.max() < 1.34
  # Nothing of that shape fits into a strip.
  assert pose_sampling.random_resized_box((20, 100), rng).tolist() == [40, 0, 60, 20]


def test_cropping_and_resizing_leave_missing_joints():
  points = np.array([[30.0, 40], [0, 0]], np.float32)
  cropped = pose_sampling.crop(points, np.array([10, 20, 50, 60]))
  np.testing.assert_array_equal(cropped, [[20, 20], [0, 0]])
  np.testing.assert_array_equal(pose_sampling.resize(cropped, (40, 40), (56, 28)),
                                [[14, 28], [0, 0]])
  assert pose_sampling.short_side((90, 120), 64) == (64, 85)


def test_flip():
  layout = skeletons.layout("coco_17")
  rng = np.random.default_rng(0)
  points, score = rng.uniform(1, 55, (2, 3, 17, 2)), rng.random((2, 3, 17))
  points[0, 0, 5], score[0, 0, 5] = 0, 0
  flipped, scores = pose_sampling.flip(points, score, 56, layout)
  left, right = list(range(1, 17, 2)), list(range(2, 17, 2))
  np.testing.assert_allclose(flipped[..., right, 0][points[..., left, 0] != 0],
                             56 - points[..., left, 0][points[..., left, 0] != 0])
  np.testing.assert_array_equal(flipped[..., left, 1], points[..., right, 1])
  np.testing.assert_array_equal(scores[..., left], score[..., right])
  assert flipped[0, 0, 6].tolist() == [0, 0]
  twice, again = pose_sampling.flip(flipped, scores, 56, layout)
  np.testing.assert_allclose(twice, points)
  np.testing.assert_array_equal(again, score)
