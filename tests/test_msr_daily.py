"""MSRDailyActivity3D's two builders, on files in the official form written here."""
import re
import zipfile

import numpy as np
import pytest

from actionjax.data.builders import msr_daily_activity3d as colour
from actionjax.data.builders import msr_daily_activity3d_depth as depth
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import Index
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError
from tests import preparing, raw_msr

CLIP = "a04_s07_e02"


def test_classes():
  assert len(set(colour.DATASET.class_names)) == 16
  assert colour.DATASET.class_names == depth.DATASET.class_names
  names = dict(enumerate(colour.DATASET.class_names, 1))
  assert (names[1], names[7], names[12], names[15]) == (
      "drink", "use_vacuum_cleaner", "lie_down_on_sofa", "stand_up")


def test_protocols_are_rules_over_names(tmp_path):
  names = [f"a{a:02d}_s{s:02d}_e{e:02d}" for a in range(1, 17) for s in range(1, 11)
           for e in (1, 2)]
  raw = tmp_path / "raw"
  raw.mkdir()
  for name in names:  # as find sees it, only names and sizes matter
    (raw / f"{name}_skeleton.txt").write_text("-")
  found = colour.find(str(raw), **colour.DATASET.variants["skeleton"])
  assert [clip.clip_id for clip in found] == names and found.remarks == ()
  index = Index.of([
      {"clip_id": clip.clip_id, "label": clip.action - 1, "subject": clip.subject, "camera": 0,
       "setup": clip.episode, "num_frames": 1} for clip in found])
  rules = {"cross_subject": {2, 4, 6, 8, 10}} | {f"subject_{s}": {s} for s in range(1, 11)}
  assert set(rules) == set(colour.DATASET.protocols)
  assert depth.DATASET.protocols == colour.DATASET.protocols
  for name, subjects in rules.items():
    test = {n for n in names if int(n[5:7]) in subjects}
    for part, ids in (("train", set(names) - test), ("test", test)):
      rows = protocols.split(index, colour.DATASET.protocols[name], part)
      assert set(index.clip_id[rows]) == ids
    assert len(test) == 32 * len(subjects)


# ---- what a record holds ---------------------------------------------------------------------

def test_skeletons_survive_preparation_exactly(tmp_path):
  raw = raw_msr.write(tmp_path / "raw", [CLIP], frames=5, kinds=("skeleton",))
  dataset, lines = preparing.prepare("msr_daily_activity3d", raw, tmp_path, "skeleton")
  assert lines[0] == "1 of the 320 clips of MSRDailyActivity3D are here"
  assert "cross_subject: 1 train, 0 test" in lines and "subject_7: 0 train, 1 test" in lines
  record, rows = dataset[0], raw_msr.joints(5)
  assert (record["clip_id"], record["label"], record["subject"], record["setup"],
          record["num_frames"], record["fps"]) == (CLIP, 3, 7, 2, 5, 30)
  np.testing.assert_array_equal(record["pose3d"][0], rows[:, :, 0, :3].astype(np.float32))
  # A share of 0 is the outer edge of the first pixel, half a pixel before its centre.
  expected = rows[:, :, 1, :2] * [640, 480] - 0.5
  np.testing.assert_allclose(record["pose2d"][0], expected, atol=1e-4)
  assert (record["pose_score"] == 1).all() and record["image_size"].tolist() == [480, 640]


def test_frames_without_a_person_and_with_two(tmp_path):
  rows = raw_msr.joints(4)
  rows[3, 5, 0, :3] = 0  # as Kinect gives lost joints
  rows[3, 6, 1, 0] = np.nan
  path = tmp_path / f"{CLIP}_skeleton.txt"
  path.write_text(raw_msr.text(rows, [1, 0, 2, 1]).replace("nan", "-1.#IND"))
  record = preparing.encode(colour, tmp_path, "skeleton")
  there = np.ones((4, 20), bool)
  there[1], there[3, 5:7] = False, False
  np.testing.assert_array_equal(record["pose_score"][0], there)
  expected = np.where(there[..., None], rows[:, :, 0, :3], 0).astype(np.float32)
  np.testing.assert_array_equal(record["pose3d"][0], expected)  # the first person, in frame 2 too
  assert np.isfinite(record["pose2d"]).all() and (record["pose2d"][0][~there] == 0).all()
  assert np.isnan(record["boxes"]).all(1).tolist() == [False, True, False, False]


def test_colour_frames_are_reduced_and_joints_with_them(tmp_path):
  raw = raw_msr.write(tmp_path / "raw", [CLIP], frames=3, kinds=("skeleton", "rgb"))
  dataset, _ = preparing.prepare("msr_daily_activity3d", raw, tmp_path, "uncropped")
  record = dataset[0]
  assert dataset.info["modality"] == "colour" and record["image_size"].tolist() == [256, 341]
  assert [images.decode_frame(frame).shape for frame in record["frames"]] == [(256, 341, 3)] * 3
  shares = raw_msr.joints(3)[:, :, 1, :2]
  np.testing.assert_allclose(record["pose2d"][0], shares * [341, 256] - 0.5, atol=1e-3)


def test_colour_video_of_another_length(tmp_path):
  raw_msr.write(tmp_path, [CLIP], frames=8, kinds=("skeleton",))
  raw_msr.write(tmp_path, [CLIP], frames=6, kinds=("rgb",))
  record = preparing.encode(colour, tmp_path)
  picks = np.floor((np.arange(6) + 0.5) * 8 / 6).astype(int)
  np.testing.assert_array_equal(record["pose3d"][0],
                                raw_msr.joints(8)[picks, :, 0, :3].astype(np.float32))
  raw_msr.write(tmp_path, [CLIP], frames=20, kinds=("skeleton",))
  with pytest.raises(RawDataError, match=r"_rgb.avi has 6 frames, but .*_skeleton.txt has 20"):
    preparing.encode(colour, tmp_path)


def test_depth_frames_survive_preparation_exactly(tmp_path):
  raw = raw_msr.write(tmp_path / "raw", [CLIP], frames=3)
  dataset, _ = preparing.prepare("msr_daily_activity3d_depth", raw, tmp_path, "uncropped")
  record, video = dataset[0], raw_msr.depth(3)
  assert dataset.info["modality"] == "depth" and record["image_size"].tolist() == [240, 320]
  for frame, expected in zip(record["frames"], video, strict=True):
    np.testing.assert_array_equal(images.decode_frame(frame), expected)
  shares = raw_msr.joints(3)[:, :, 1, :2]
  np.testing.assert_allclose(record["pose2d"][0], shares * [320, 240] - 0.5, atol=1e-4)
  # Of the person at 2.4 to 2.6 m, not of the wall at 4 m.
  person = np.sort(video[video < 3000])
  np.testing.assert_allclose(record["depth_range"], np.quantile(person, [0.001, 0.999]), atol=1)


def test_cropped_depth(tmp_path):
  raw_msr.write(tmp_path, [CLIP], frames=3)
  record = preparing.encode(depth, tmp_path, "cropped")
  points = (raw_msr.joints(3)[:, :, 1, :2] * [320, 240] - 0.5).reshape(-1, 2)
  low, high = points.min(0), points.max(0)
  start = np.maximum(np.floor(low - 0.3 * (high - low)), 0).astype(int)
  end = np.minimum(np.ceil(high + 0.3 * (high - low)) + 1, [320, 240]).astype(int)
  np.testing.assert_array_equal(images.decode_frame(record["frames"][1]),
                                raw_msr.depth(3)[1, start[1]:end[1], start[0]:end[0]])


def test_depth_alone_has_the_range_of_everything(tmp_path):
  raw_msr.write(tmp_path, [CLIP], frames=2, kinds=("depth",))
  record = preparing.encode(depth, tmp_path)
  assert record["pose3d"].size == 0 and record["depth_range"][1] == 4000
  assert 2400 <= record["depth_range"][0] <= 2405


def test_archives_give_the_same_clips(tmp_path):
  raw = raw_msr.write(tmp_path / "raw", [CLIP], frames=2)
  (tmp_path / "zips").mkdir()
  with zipfile.ZipFile(tmp_path / "zips/all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for file in sorted(raw.iterdir()):
      archive.write(file, f"MSRDaily/{file.name}")
  for builder in (colour, depth):
    options = builder.DATASET.variants["cropped"]
    ours, theirs = (builder.find(str(tmp_path / name), **options) for name in ("raw", "zips"))
    assert preparation.fingerprint(ours) == preparation.fingerprint(theirs)
    a, b = (builder.DATASET.encode(found[0], **options) for found in (ours, theirs))
    assert a["frames"] == b["frames"] and len(a["frames"]) == 2


# ---- mistakes --------------------------------------------------------------------------------

def test_mistakes_in_the_folder(tmp_path):
  def find(builder=colour, variant="cropped"):
    return builder.find(str(tmp_path), **builder.DATASET.variants[variant])
  raw_msr.write(tmp_path, [CLIP], kinds=("rgb",), frames=2)
  assert len(find()) == 1
  for builder, variant, ending in ((colour, "skeleton", ""), (depth, "cropped", " or _depth.bin")):
    with pytest.raises(RawDataError, match=rf"holds no a\*_s\*_e\*_skeleton.txt{ending} files of "
                                           f"MSRDailyActivity3D.*it holds: {CLIP}_rgb.avi"):
      find(builder, variant)
  raw_msr.write(tmp_path, ["a01_s01_e01"], kinds=("skeleton",))
  with pytest.raises(RawDataError, match=f"has the colour video of {CLIP}, but no skeleton of it"):
    find()
  raw_msr.write(tmp_path, [CLIP], kinds=("skeleton",))
  with pytest.raises(RawDataError, match="has the skeleton of a01_s01_e01, but no colour video"):
    find()
  raw_msr.write(tmp_path / "again", [CLIP], kinds=("skeleton",), frames=9)
  with pytest.raises(RawDataError, match=f"two different files for one clip: .*{CLIP}_skeleton"):
    find()
  (tmp_path / "a17_s01_e01_skeleton.txt").write_text("")
  with pytest.raises(RawDataError, match="a17_s01_e01_skeleton.txt is not a file of MSRDaily"):
    find()


WHOLE = raw_msr.text(raw_msr.joints(3))


@pytest.mark.parametrize("text, message", [
    ("", "is empty"),
    ("3 25\n" + WHOLE[5:], "does not begin with a number of frames and 20"),
    ("0 20\n", "does not begin with a number of frames and 20"),
    (WHOLE[:len(WHOLE) // 2].rpartition("\n")[0], "ends in frame 2 of 3"),
    ("4" + WHOLE[1:], "ends in frame 4 of 4"),
    ("1000000 20\n0\n", "does not begin with a number of frames and 20"),
    ("2" + WHOLE[1:], "goes on after its 2 frames"),
    (WHOLE.replace("\n40\n", "\n39\n", 1), "frame 1 of 3 has 39 rows, which is not a multiple of"),
    (WHOLE.replace("40\n", "x\n", 1), "is not made of numbers.*'x'"),
    ("2 20\n0\n0\n", "no joint of its 2 frames is usable"),
])
def test_malformed_skeletons_are_an_error_that_names_the_file(tmp_path, text, message):
  path = tmp_path / f"{CLIP}_skeleton.txt"
  path.write_text(text)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}.*fetch it again$"):
    preparing.encode(colour, tmp_path, "skeleton")


@pytest.mark.parametrize("change, message", [
    (lambda data: data[:8], "does not begin with the numbers of frames, columns and rows"),
    (lambda data: bytes(4) + data[4:], "does not begin with the numbers of frames"),
    (lambda data: data[:-1], r"has 768011 bytes, but 2 frames of 320x240 are 768012"),
    (lambda data: data + b"\0", "has 768013 bytes"),
    (lambda data: data[:12] + b"\xff" * 4 + data[16:], "frame 1 has depths from -1 to 4000"),
    (lambda data: data[:12] + b"\0\0\1\0" + data[16:], "frame 1 has depths from 2400 to 65536"),
])
def test_malformed_depth(tmp_path, change, message):
  raw_msr.write(tmp_path, [CLIP], frames=2)
  path = tmp_path / f"{CLIP}_depth.bin"
  path.write_bytes(change(path.read_bytes()))
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}.*fetch it again$"):
    preparing.encode(depth, tmp_path)


def test_truncated_video(tmp_path):
  raw_msr.write(tmp_path, [CLIP], frames=20, kinds=("rgb",))
  path = tmp_path / f"{CLIP}_rgb.avi"
  path.write_bytes(path.read_bytes()[:len(path.read_bytes()) // 3])
  with pytest.raises(RawDataError, match=re.escape(str(path))):
    preparing.encode(colour, tmp_path)
