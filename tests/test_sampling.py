"""Frame picks against their formulas, worked by hand or in plain Python."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actionjax.data.loading import sampling

UNIT = st.floats(0, 1, exclude_max=True)


def test_segments_by_hand():
  # 16 frames in 8 segments of 2: the offset 0.5 picks the second frame of each.
  np.testing.assert_array_equal(sampling.segments(16, 8, 0.0), [0, 2, 4, 6, 8, 10, 12, 14])
  np.testing.assert_array_equal(sampling.segments(16, 8, 0.5), [1, 3, 5, 7, 9, 11, 13, 15])
  # 4 frames in 8 segments: each frame twice.
  np.testing.assert_array_equal(sampling.segments(4, 8, 0.25), [0, 0, 1, 1, 2, 2, 3, 3])


@given(st.integers(1, 300), st.integers(1, 64), UNIT)
def test_segments_one_pick_a_segment(n, length, position):
  picks = sampling.segments(n, length, position)
  assert len(picks) == length and picks.min() >= 0 and picks.max() < n
  assert (np.diff(picks) >= 0).all()
  for i, pick in enumerate(picks):
    assert math.floor(i * n / length) <= pick <= math.ceil((i + 1) * n / length)


def test_strided_reaches_both_ends():
  np.testing.assert_array_equal(sampling.strided(10, 4, 2, 0.0), [0, 2, 4, 6])
  np.testing.assert_array_equal(sampling.strided(10, 4, 2, 0.9999), [3, 5, 7, 9])


def test_strided_loops_a_short_clip():
  np.testing.assert_array_equal(sampling.strided(3, 7, 1, 0.5), [0, 1, 2, 0, 1, 2, 0])


def test_first_half_starts_before_the_middle():
  starts = {int(sampling.first_half(20, 4, 2, p)[0]) for p in np.linspace(0, 0.999, 200)}
  assert starts == set(range(10))
  np.testing.assert_array_equal(sampling.first_half(6, 5, 2, 0.4), [1, 3, 5, 1, 3])


def test_stacks_by_hand():
  stacks = lambda *args: [sampling.stack(*args, i).tolist()
                          for i in range(sampling.num_stacks(*args))]
  # Nine frames, every second: 0 2 4 6 8 and 1 3 5 7, in threes; the last of each ends with them.
  assert stacks(9, 3, 2) == [[0, 2, 4], [4, 6, 8], [1, 3, 5], [3, 5, 7]]
  assert stacks(6, 3, 1) == [[0, 1, 2], [3, 4, 5]]
  assert stacks(5, 4, 2) == [[0, 2, 4, 0], [1, 3, 1, 3]]  # looped
  assert stacks(1, 2, 3) == [[0, 0]]
  # The thesis' 64 frames at a stride of 2 in NTU's longest clips.
  assert sampling.num_stacks(300, 64, 2) == 6


@given(st.integers(1, 200), st.integers(1, 40), st.integers(1, 4))
def test_stacks_show_every_frame(n, length, stride):
  picks = [sampling.stack(n, length, stride, number)
           for number in range(sampling.num_stacks(n, length, stride))]
  assert set(np.concatenate(picks).tolist()) == set(range(n))
  assert all(len(one) == length for one in picks)
  if n >= length * stride:
    assert all((np.diff(one) == stride).all() for one in picks)
  with pytest.raises(ValueError, match="has fewer stacks"):
    sampling.stack(n, length, stride, len(picks))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 2**32))
def test_chunks_stay_in_their_chunk(n, length, seed):
  positions = np.random.default_rng(seed).random(length)
  picks = sampling.chunks(n, length, positions)
  assert (np.diff(picks) >= 0).all() and picks.min() >= 0 and picks.max() < n
  if n >= length:
    low = np.arange(length) * n // length
    high = np.arange(1, length + 1) * n // length
    assert ((low <= picks) & (picks < high)).all()


def test_unknown_sampling_is_named():
  with pytest.raises(ValueError, match="known: segments, strided, first_half"):
    sampling.pick_video(10, 4, "dense", 1, 0.0)


@given(st.integers(1, 300), st.floats(0.1, 1), UNIT, UNIT)
def test_cut_stays_inside_and_keeps_its_share(n, shortest, a, b):
  first, length = sampling.cut(n, shortest=shortest, draws=(a, b))
  assert 0 <= first and first + length <= n
  assert length >= shortest * n - 0.5 - 1e-9 and length >= 1
  assert sampling.cut(n, shortest=1.0, draws=(a, b)) == (0, n)


def test_drawn_frames_are_sorted_and_may_repeat():
  np.testing.assert_array_equal(sampling.drawn(10, np.array([0.95, 0.0, 0.31, 0.39, 0.99999])),
                                [0, 3, 3, 9, 9])
  np.testing.assert_array_equal(sampling.drawn(1, np.array([0.2, 0.9])), [0, 0])
