"""`.skeleton` files: who is the main person, and malformed ones."""
import re

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.data.builders import _ntu, _ntu_skeletons
from actionjax.data.formats import archives
from actionjax.errors import RawDataError
from tests import raw_ntu
from tests.raw_ntu import CLIP, NOBODY, encode, write_skeleton

# ---- who is the main person ----------------------------------------------------------

def persons(num_frames, bodies, tmp_path):
  path = write_skeleton(tmp_path, raw_ntu.text(num_frames, bodies))
  return _ntu_skeletons.read(archives.Source(None, str(path), 1))


def test_motion_is_the_sum_of_variances():
  rows = raw_ntu.body(30, 5, sway=1.0)
  expected = sum(rows[..., axis].reshape(-1).var() for axis in range(3))
  assert _ntu_skeletons.motion(rows[..., [0, 1, 2, 5, 6]]) == pytest.approx(expected, rel=1e-12)
  rows[3:9, 4, :3] = 0  # lost joints do not count
  kept = np.delete(rows[..., :3].reshape(-1, 3), [25 * t + 4 for t in range(3, 9)], axis=0)
  assert _ntu_skeletons.motion(rows[..., [0, 1, 2, 5, 6]]) == pytest.approx(
      sum(kept[:, axis].var() for axis in range(3)), rel=1e-12)


def test_persons_are_ordered_by_motion_and_two_remain(tmp_path):
  sways = {"a": 0.2, "b": 1.5, "c": 0.7}
  bodies = {name: (0, raw_ntu.body(30, seed, at=(seed - 1, 0, 3), sway=sway))
            for seed, (name, sway) in enumerate(sways.items())}
  skeleton = persons(30, bodies, tmp_path)
  assert skeleton.pose3d.shape == (2, 30, 25, 3)
  for person, name in enumerate("bc"):
    np.testing.assert_array_equal(skeleton.pose3d[person], bodies[name][1][..., :3])
    np.testing.assert_array_equal(skeleton.pose2d[person], bodies[name][1][..., 5:7])


def test_a_person_found_again_under_another_number_is_one(tmp_path):
  whole, other = raw_ntu.body(60, 1, sway=2.0), raw_ntu.body(60, 2, at=(1, 0, 3), sway=0.1)
  skeleton = persons(60, {"1": (0, whole[:40]), "2": (0, other), "3": (45, whole[45:])}, tmp_path)
  assert len(skeleton.score) == 2
  lost = np.zeros(60, bool)
  lost[40:45] = True
  np.testing.assert_array_equal(skeleton.score[0], np.repeat(~lost[:, None], 25, 1))
  np.testing.assert_array_equal(skeleton.pose3d[0][~lost], whole[~lost][..., :3])
  np.testing.assert_array_equal(skeleton.pose3d[1], other[..., :3])


def test_short_and_flat_bodies_are_noise_unless_alone(tmp_path):
  person, chair = raw_ntu.body(40, 1, sway=0.1), raw_ntu.body(40, 2, sway=3.0)
  chair[..., 1] = (chair[..., 1] - 0.5) / 8  # 0.5 m wide, 0.2 m tall, and it "moves"
  short = raw_ntu.body(11, 3, sway=5.0)
  skeleton = persons(40, {"1": (0, person), "2": (0, chair), "3": (4, short)}, tmp_path)
  assert len(skeleton.score) == 1
  np.testing.assert_array_equal(skeleton.pose3d[0], person[..., :3])
  for alone in ((0, chair), (4, short)):  # better than nobody
    assert persons(40, {"1": alone}, tmp_path).score.any(-1).sum() == len(alone[1])
  longer = raw_ntu.body(12, 3, sway=5.0)
  assert len(persons(40, {"1": (0, person), "3": (4, longer)}, tmp_path).score) == 2


def test_two_bodies_of_one_number_in_a_frame_stay_two(tmp_path):
  text = raw_ntu.text(15, {"5": (0, raw_ntu.body(15, 1)), "6": (0, raw_ntu.body(15, 2, sway=1.0))})
  path = write_skeleton(tmp_path, text.replace("\r\n6 0 1", "\r\n5 0 1"))
  skeleton = _ntu_skeletons.read(archives.Source(None, str(path), 1))
  np.testing.assert_array_equal(skeleton.pose3d[0], raw_ntu.body(15, 2, sway=1.0)[..., :3])
  np.testing.assert_array_equal(skeleton.pose3d[1], raw_ntu.body(15, 1)[..., :3])


def test_lost_joints_have_score_zero(tmp_path):
  rows = raw_ntu.body(6)
  rows[0, 3, 0] = np.nan
  rows[1, 4, :3] = 0
  rows[2, 5, 2] = -1.5  # behind the camera
  rows[3, 6, 5] = np.inf  # no place in the image
  rows[4, 7, 1] = 1e30
  text = raw_ntu.text(6, {1: (0, rows)})
  for written, found in (("nan", "NaN"), ("inf", "1.#INF")):
    for variant in (text, text.replace(written, found)):
      path = write_skeleton(tmp_path, variant)
      skeleton = _ntu_skeletons.read(archives.Source(None, str(path), 1))
      lost = np.zeros((6, 25), bool)
      lost[range(5), [3, 4, 5, 6, 7]] = True
      np.testing.assert_array_equal(skeleton.score[0], ~lost)
      assert (skeleton.pose3d[0][lost] == 0).all() and (skeleton.pose2d[0][lost] == 0).all()
      np.testing.assert_array_equal(skeleton.pose3d[0][~lost], rows[~lost][..., :3])


# ---- malformed files -----------------------------------------------------------------

GOOD = raw_ntu.text(2, {72057594037931101: (0, raw_ntu.body(2))})
LINES = GOOD.split("\r\n")


def change(line, text):
  lines = list(LINES)
  lines[line] = text
  return "\n".join(lines)


@pytest.mark.parametrize("text, message", [
    ("", "is empty; fetch it again"),
    ("\n \n", "is empty"),
    (GOOD[:len(GOOD) // 2].rpartition("\r\n")[0],
     r"line \d+: the file ends before a body's joints"),
    ("\n".join(LINES[:29]), "line 29: the file ends before the number of bodies"),
    ("\n".join(LINES[:30]), "line 30: the file ends before a body"),
    (change(0, "two"), "line 1: 'two' is not a number of frames"),
    (change(0, "3"), "the file ends before the number of bodies"),
    (change(0, "1"), "the file goes on after its 1 frames"),
    (change(1, "-1"), "line 2: '-1' is not a number of bodies"),
    (change(1, "1e9"), "is not a number of bodies"),
    (change(3, "20"), "line 4: a body has 20 joints instead of 25"),
    (change(3, "26"), "line 4: a body has 26 joints instead of 25"),
    (change(2, "72057594037931101 0 1"), "line 3: a body's line has 3 fields instead of 10"),
    (change(7, "0.1 0.2 3.0"), "line 8: a joint has 3 numbers instead of 12"),
    (change(4, LINES[4].replace(LINES[4].split()[0], "left")),
     "a joint is not made of numbers .*left"),
    (NOBODY.replace("0\r\n0\r\n", "0\r\n1\r\n", 1), "line 4: a body's line has 1 fields"),
    (NOBODY[:-3] + "1\r\n", "line 4: the file ends before a body"),
    (re.sub(r"(?m)^\S+ \S+ \S+ (?=\S+ \S+ \S+ \S+ \S+ \S+ \S+ \S+ 2\r)", "nan 0 0 ", GOOD),
     "has no usable joint in any of its 2 frames"),
])
def test_malformed_skeletons_are_errors_that_name_file_and_line(tmp_path, text, message):
  path = write_skeleton(tmp_path, text)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}") as caught:
    encode(tmp_path)
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text, message", [
    ("0\n", "has no usable joint in any of its 0 frames"),
    # A kilobyte of memory for each of these short lines.
    ("108001\n" + "0\n" * 108001, "line 1: '108001' is not a number of frames")])
def test_no_frames_and_too_many(tmp_path, text, message):
  path = write_skeleton(tmp_path, text)
  with pytest.raises(RawDataError, match=message):
    _ntu_skeletons.read(archives.Source(None, str(path), 1))


def test_nobody_at_all_is_an_error_where_it_is_encoded(tmp_path):
  path = write_skeleton(tmp_path, NOBODY)
  clip = _ntu.RawClip(CLIP, 3, 2, 8, 1, 7, archives.Source(None, str(path), 12), None)
  with pytest.raises(RawDataError, match="has no usable joint in any of its 3 frames"):
    _ntu.encode(clip, video=False, crop=False)


def check_that_only_the_documented_error_comes(folder, text):
  """Reads a skeleton file in whatever state it is, as `prepare` would."""
  path = write_skeleton(folder, text)
  try:
    record = encode(folder)
  except RawDataError as error:
    assert "\n" not in str(error) and str(folder) in str(error), path
    return
  score = record["pose_score"]
  assert record["pose3d"].shape == (*score.shape, 3) and 1 <= len(score) <= 2
  for name in ("pose3d", "pose2d"):
    assert np.isfinite(record[name]).all() and (record[name][score == 0] == 0).all()


@st.composite
def mutated(draw):
  """A good file with some of its bytes, words or lines changed, moved or left out."""
  data = bytearray(raw_ntu.text(3, {1: (0, raw_ntu.body(3)), 2: (1, raw_ntu.body(2, 1))}).encode())
  for _ in range(draw(st.integers(1, 3))):
    kind = draw(st.sampled_from(["cut", "byte", "line", "word", "double", "number"]))
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if kind == "cut":
      data = data[:at]
    elif kind == "byte" and data:
      data[at] = draw(st.integers(0, 255))
    elif kind in ("line", "double", "number"):
      lines = bytes(data).split(b"\n")
      i = draw(st.integers(0, len(lines) - 1))
      # The structure sits in the first lines of each body: aim there half of the time.
      i = draw(st.sampled_from([i, min(i, 3)]))
      if kind == "line":
        del lines[i]
      elif kind == "double":
        lines.insert(i, lines[i])
      else:
        lines[i] = draw(st.sampled_from([b"0", b"-3", b"25", b"26", b"1000000000", b"9" * 5000,
                                         "٣".encode(), b"1_0", b"", b"nan", b"\0"]))
      data = bytearray(b"\n".join(lines))
    else:
      words = bytes(data).split(b" ")
      i = draw(st.integers(0, len(words) - 1))
      words[i] = draw(st.sampled_from([b"nan", b"inf", b"-1.#IND", b"1e400", b"-1e30", b"0", b"x",
                                       b"1e-300", b"0x10", b"", b"1\n2", b"#"]))
      data = bytearray(b" ".join(words))
  return bytes(data)


@hypothesis.given(text=mutated())
@hypothesis.settings(max_examples=150, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_mutated_skeletons_give_the_documented_error_or_a_sound_record(tmp_path, text):
  check_that_only_the_documented_error_comes(tmp_path, text)


@pytest.mark.slow
@hypothesis.given(text=st.one_of(mutated(), st.binary(max_size=400)))
@hypothesis.settings(max_examples=600, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_more_mutated_skeletons(tmp_path, text):
  check_that_only_the_documented_error_comes(tmp_path, text)
