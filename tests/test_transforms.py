"""Windows, boxes and mirroring: frames and points must move together."""
import cv2
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.formats import images
from actionjax.data.loading import transforms


def _dot(at, shape=(80, 120)):
  """A frame with a bright blob whose centroid is `at` (x, y)."""
  frame = np.zeros(shape, np.float32)
  frame[at[1], at[0]] = 1
  return cv2.GaussianBlur(frame, (0, 0), 3)


def _centroid(image):
  ys, xs = np.mgrid[:image.shape[0], :image.shape[1]]
  return np.array([(xs * image).sum(), (ys * image).sum()]) / image.sum()


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("window", [(20, 10, 90, 70), (-15, -10, 100, 95), (40, 20, 80, 60)])
def test_points_follow_the_frame(window, mirror):
  w = transforms.Window(*window, size=(56, 64), mirror=mirror)
  image = w.apply(_dot((60, 40)))
  assert image.shape == (56, 64)
  moved = w.apply_points(np.array([[60.0, 40.0]]))[0]
  # The blob is cut nowhere, so its centroid is the point to a small part of a pixel.
  np.testing.assert_allclose(_centroid(image), moved, atol=0.15)


def test_clip_box_by_hand():
  boxes = np.array([[10, 20, 30, 60], [np.nan] * 4, [20, 10, 50, 40]], np.float32)
  # Union 10..50 x 10..60, grown by 10 % of 40 and 50 on each side.
  np.testing.assert_allclose(transforms.clip_box(boxes, (100, 100), margin=0.1), [6, 5, 54, 65])
  # Clipped at the frame.
  np.testing.assert_allclose(transforms.clip_box(boxes, (62, 52), margin=0.1), [6, 5, 52, 62])
  square = transforms.clip_box(boxes, (62, 52), margin=0.1, square=True)
  np.testing.assert_allclose(square, [0, 5, 60, 65])


@pytest.mark.parametrize("boxes", [np.full((3, 4), np.nan), np.zeros((0, 4))])
def test_no_person_is_the_whole_frame(boxes):
  np.testing.assert_array_equal(
      transforms.clip_box(boxes.astype(np.float32), (48, 64), margin=0.1), [0, 0, 64, 48])


def test_place_window_corners():
  box = np.array([0, 0, 256, 256], np.float32)
  corner = transforms.place_window(box, (224, 224), crop=224 / 256, at=(0, 0))
  assert (corner.x0, corner.y0, corner.x1, corner.y1) == (0, 0, 224, 224)
  corner = transforms.place_window(box, (224, 224), crop=224 / 256, at=(1, 1))
  assert (corner.x0, corner.y0, corner.x1, corner.y1) == (32, 32, 256, 256)
  centre = transforms.place_window(box, (224, 224), crop=224 / 256, at=(0.5, 0.5), scale=0.5)
  assert (centre.x0, centre.x1) == (72, 184)


def test_depth_to_grey_by_hand():
  depth = np.array([[0, 1000, 1500, 2000, 2001, 500]], np.uint16)
  grey = images.depth_to_grey(depth, np.array([1000, 2000], np.float32))
  np.testing.assert_array_equal(grey, [[0, 255, 128, 1, 0, 255]])


def test_only_picked_frames_are_decoded():
  ok = cv2.imencode(".jpg", np.full((8, 8, 3), 200, np.uint8))[1].tobytes()
  record = {"frames": [b"broken", ok, b"broken", ok], "clip_id": "c",
            "depth_range": np.zeros(2)}
  picks = np.array([1, 3, 3, 1])
  frames = transforms.decode_frames(record, picks)
  assert sorted(frames) == [1, 3]
  video = transforms.window_video(frames, picks, transforms.Window(0, 0, 8, 8, (4, 4)), 3)
  assert video.shape == (4, 4, 4, 3) and abs(int(video.mean()) - 200) <= 1


@pytest.mark.parametrize("name", skeletons.LAYOUTS)
def test_mirroring_twice_changes_nothing(name):
  layout = skeletons.layout(name)
  pose = np.random.default_rng(0).normal(size=(2, 5, layout.num_joints, 3)).astype(np.float32)
  once = transforms.mirror_pose(pose, layout)
  np.testing.assert_array_equal(transforms.mirror_pose(once, layout), pose)
  left, right = layout.index("left_shoulder"), layout.index("right_shoulder")
  np.testing.assert_array_equal(once[..., left, 0], -pose[..., right, 0])
  np.testing.assert_array_equal(once[..., left, 1:], pose[..., right, 1:])


def test_turn_keeps_heights_lengths_and_missing_joints():
  rng = np.random.default_rng(1)
  pose = rng.normal(size=(1, 4, 20, 3)).astype(np.float32)
  score = np.ones((1, 4, 20), np.float32)
  score[0, 2, 5], pose[0, 2, 5] = 0, 0
  turned = transforms.turn_pose3d(pose, score, np.deg2rad(30))
  np.testing.assert_allclose(turned[..., 1], pose[..., 1], atol=1e-6)
  np.testing.assert_array_equal(turned[0, 2, 5], 0)
  np.testing.assert_allclose(np.linalg.norm(turned[0, 0, 3] - turned[0, 1, 7]),
                             np.linalg.norm(pose[0, 0, 3] - pose[0, 1, 7]), rtol=1e-5)
  back = transforms.turn_pose3d(turned, score, np.deg2rad(-30))
  np.testing.assert_allclose(back, pose, atol=1e-5)


def test_absent_persons_are_zero():
  pose, score = np.ones((1, 6, 20, 3), np.float32), np.ones((1, 6, 20), np.float32)
  chosen, scores = transforms.pick_pose(pose, score, np.array([0, 5]), persons=2)
  assert chosen.shape == (2, 2, 20, 3)
  assert chosen[0].min() == 1 and chosen[1].max() == 0 and scores[1].max() == 0


def test_change_intensity_by_hand():
  video = np.array([0, 10, 100, 250], np.uint8)
  np.testing.assert_array_equal(
      transforms.change_intensity(video, 1.1, -20, keep_zero=False), [0, 0, 90, 255])
  np.testing.assert_array_equal(
      transforms.change_intensity(video, 1.1, -20, keep_zero=True), [0, 1, 90, 255])
  np.testing.assert_array_equal(
      transforms.change_intensity(video, 1, 30, keep_zero=True), [0, 40, 130, 255])
