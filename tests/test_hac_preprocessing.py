"""The hierarchical-classification paper's sampling, box and windows, end to end.

"Preprocessing": the joints' box grown by 10 % on each side, resized to 256x256; eight frames,
one a segment, from one random offset; one random 224x224 window and a mirror at even odds for
training, the centre and five offsets for testing.
"""
import dataclasses
import itertools
from fractions import Fraction
from math import floor

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionjax.data.builders import synthetic_actions
from actionjax.data.clips import boxes
from actionjax.data.loading import sampling, transforms, video
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig

VIDEO = video.Config(num_frames=8, size=(224, 224))  # the rest are defaults
CONFIG = DataConfig(dataset="synthetic_actions", protocol="cross_subject", flip=0.5,
                    inputs={"video": VIDEO})


def _transform(views=1, **fields):
  config = dataclasses.replace(CONFIG, inputs={"video": dataclasses.replace(VIDEO, **fields)})
  return ClipTransform(config, views=views)


def _record(num_frames=40, height=256, width=256, box=(0, 0, 255, 255)):
  """A clip whose pixels say where they are: red is the column, green the row, blue the frame."""
  rows, columns = np.mgrid[:height, :width]
  frames = [np.stack([columns, rows, np.full_like(rows, t)], -1).astype(np.uint8)
            for t in range(num_frames)]
  return {"frames": frames, "label": 0, "clip_id": "ramp",
          "boxes": np.tile(np.float32(box), (num_frames, 1))}


# ---- sampling ------------------------------------------------------------------------

def test_defaults_are_the_papers():
  assert (VIDEO.sampling, VIDEO.margin, VIDEO.box, VIDEO.square) == (
      "segments", 0.1, "person", False)
  assert round(VIDEO.crop * 256) == 224


def test_five_test_offsets_in_exact_arithmetic():
  for n, j in itertools.product(range(1, 301), range(5)):
    offset = Fraction(2 * j + 1, 10) * Fraction(n, 8)
    expected = [floor(offset + i * Fraction(n, 8)) for i in range(8)]
    assert sampling.segments(n, 8, (j + 0.5) / 5).tolist() == expected, (n, j)


@given(st.integers(1, 300), st.integers(0, 1023))
def test_any_offset(n, k):
  picks = sampling.segments(n, 8, k / 1024)  # exact in binary
  offset = Fraction(k * n, 8 * 1024)
  assert picks.tolist() == [floor(offset + i * Fraction(n, 8)) for i in range(8)]
  gaps = np.diff(picks)
  assert 0 <= picks[0] and picks[-1] < n and (gaps >= 0).all()
  # Equally spaced, to the rounding of frames; a clip of eight frames or more repeats none.
  assert set(gaps) <= {floor(n / 8), -(-n // 8)}
  assert n < 8 or (gaps > 0).all()
  counts = np.unique(picks, return_counts=True)[1]
  assert n >= 8 or (len(counts) == n and set(counts) <= {floor(8 / n), -(-8 // n)})


def test_training_draws_the_offset_uniformly():
  """40 frames in segments of 5: each of the five first frames a fifth of the time."""
  transform, record = _transform(), _record(height=32, width=32)
  first = [0] * 5
  for seed in range(400):
    frames = transform.train(record, np.random.default_rng(seed))["video"][:, 0, 0, 2].astype(int)
    np.testing.assert_array_equal(np.diff(frames), 5)
    first[frames[0]] += 1
  assert min(first) > 55 and max(first) < 105  # 80 expected, 8 their standard deviation


def test_five_views_of_the_centre():
  record = _record(num_frames=43)
  views = _transform(views=5, box="frame").test(record)["video"]
  assert views.shape == (5, 8, 224, 224, 3)
  for j, view in enumerate(views):
    expected = [floor((j + 0.5) / 5 * 43 / 8 + i * 43 / 8) for i in range(8)]
    for t, frame in zip(expected, view):
      centre = record["frames"][t][16:240, 16:240]
      np.testing.assert_array_equal(frame, centre)


# ---- windows -------------------------------------------------------------------------

def test_training_takes_one_window_for_all_frames_and_mirrors_half():
  transform, record = _transform(box="frame", num_frames=3), _record()
  places, mirrored = [], 0
  for seed in range(100):
    video = transform.train(record, np.random.default_rng(seed))["video"].astype(int)
    for frame in video:
      np.testing.assert_array_equal(frame[..., :2], video[0, ..., :2])
    columns, rows = video[0, 0, :, 0], video[0, :, 0, 1]
    mirrored += columns[0] > columns[-1]
    columns = columns if columns[0] < columns[-1] else columns[::-1]
    np.testing.assert_array_equal(columns, np.arange(columns[0], columns[0] + 224))
    np.testing.assert_array_equal(rows, np.arange(rows[0], rows[0] + 224))
    places.append((columns[0], rows[0]))
  places = np.array(places)
  assert places.min() == 0 and places.max() == 32  # all that 256 leaves to 224
  assert abs(places.mean() - 16) < 3 and abs(np.corrcoef(places.T)[0, 1]) < 0.3
  assert 30 < mirrored < 70
  assert synthetic_actions.MIRROR_CLASSES  # whose labels follow a mirror


@pytest.mark.parametrize("box", [(40, 30, 140, 230), (0, 0, 256, 256), (90, 100, 171, 163)])
@pytest.mark.parametrize("at", [(0.5, 0.5), (0.0, 1.0), (0.25, 0.625)])
def test_a_window_of_the_box_is_the_resized_box_cut(box, at):
  """Cropping before resizing samples each pixel once, and shows what the paper's order does."""
  box, frame = np.float32(box), _record(1)["frames"][0]
  x0, y0, x1, y1 = box.astype(int)
  large = cv2.resize(frame[y0:y1, x0:x1], (256, 256), interpolation=cv2.INTER_LINEAR)
  left, top = round(at[0] * 32), round(at[1] * 32)
  expected = large[top:top + 224, left:left + 224].astype(int)
  found = transforms.place_window(box, (224, 224), crop=0.875, at=at).apply(frame).astype(int)
  # Windows start at whole pixels of the stored frame: half a pixel, and rounding twice.
  assert np.abs(found - expected)[..., :2].max() <= 2


# ---- the box ---------------------------------------------------------------------------

@pytest.mark.parametrize("seed", range(5))
def test_box_against_plain_numpy(seed):
  rng = np.random.default_rng(seed)
  points = rng.uniform([60, 50], [260, 200], (2, 6, 20, 2))  # two persons, 320x240
  score = (rng.random((2, 6, 20)) > 0.3).astype(np.float32)
  score[1, :3] = 0  # the second comes later
  lost = rng.random((2, 6, 20)) < 0.2
  points[lost] = np.where(rng.random(lost.sum()) < 0.5, np.nan, 0.0)[:, None]
  seen = points[(score > 0) & ~lost]
  (left, top), (right, bottom) = seen.min(0), seen.max(0)
  dx, dy = 0.1 * (right - left), 0.1 * (bottom - top)
  expected = [max(0, left - dx), max(0, top - dy), min(320, right + dx), min(240, bottom + dy)]
  found = transforms.clip_box(boxes.pose_boxes(points, score), (240, 320), margin=0.1)
  np.testing.assert_allclose(found, expected, atol=1e-3)


def test_a_lost_joint_leaves_the_frames_others():
  points = np.array([[[[10.0, 20], [30, 50], [np.nan, 40]], [[0, 0], [15, 15], [25, 60]]]])
  found = boxes.pose_boxes(points, np.ones((1, 2, 3), np.float32))
  np.testing.assert_array_equal(found, [[10, 20, 30, 50], [15, 15, 25, 60]])
  found = boxes.pose_boxes(np.full((1, 2, 3, 2), np.nan), np.ones((1, 2, 3), np.float32))
  assert np.isnan(found).all()


def test_cropped_and_whole_frames():
  record = _record(height=240, width=256, box=(40, 20, 140, 220))
  # Grown to 30..150 and 0..240, capped at the top and the bottom: 20 - 20 and 220 + 20.
  person = _transform(crop=1.0).test(record)["video"][0, 0].astype(int)
  whole = _transform(crop=1.0, box="frame").test(record)["video"][0, 0].astype(int)
  for view, (left, right) in ((person, (30, 150)), (whole, (0, 256))):
    np.testing.assert_allclose(view[:, [0, -1], 0], [[left, right - 1]] * 224, atol=1)
    np.testing.assert_allclose(view[[0, -1], :, 1], [[0] * 224, [239] * 224], atol=1)
