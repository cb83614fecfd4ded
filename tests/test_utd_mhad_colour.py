"""UTD-MHAD's colour builder, on made-up files in the official forms."""
import zipfile

import numpy as np
import pytest

from actionjax.data.builders import utd_mhad_colour as builder
from actionjax.data.formats import images
from actionjax.errors import RawDataError
from tests import preparing, raw_own, raw_utd

CLIPS = [(1, 1, 1), (27, 8, 4)]


def write(folder, frames=6, skeletons=6, clips=CLIPS):
  raw_utd.write(folder, clips, skeletons, kinds=("skeleton",))
  for number, clip in enumerate(clips):
    raw_own.video(folder / f"RGB-part{number + 1}" / "a{}_s{}_t{}_color.avi".format(*clip), frames,
                  (640, 480), rate=30)
  return folder


def test_record_of_a_clip(tmp_path):
  raw = write(tmp_path / "raw")
  dataset, lines = preparing.prepare("utd_mhad_colour", raw, tmp_path, "uncropped")
  assert "2 of the 861 clips of UTD-MHAD are here" in lines
  assert dataset.info["modality"] == "colour" and dataset.index.clip_id.tolist() == [
      "a1_s1_t1", "a27_s8_t4"]
  record = dataset[1]
  assert (record["label"], record["subject"], record["fps"]) == (26, 8, 30)
  assert len(record["frames"]) == record["num_frames"] == 6
  image = images.decode_frame(record["frames"][3])
  assert image.shape == (256, 341, 3) and abs(raw_own.grey(image) - 66) < 8
  # x_c = 558.1 X/Z + 320, y_c = 240 - 579.5 Y/Z, in an image reduced from 640x480.
  x, y, z = np.moveaxis(record["pose3d"][0].astype(float), -1, 0)
  expected = np.stack([558.1 * x / z + 320, 240 - 579.5 * y / z], -1)
  reduced = (expected + 0.5) * [341 / 640, 256 / 480] - 0.5
  np.testing.assert_allclose(record["pose2d"][0], reduced, atol=2e-3)
  parts = {"a1_s1_t1": "train", "a27_s8_t4": "test"}
  for clip, part in parts.items():
    mask = builder.DATASET.protocols["cross_subject"](dataset.index)[part]
    assert dataset.index.clip_id[mask].tolist() == [clip]


def test_joints_are_those_of_the_depth_builder(tmp_path):
  raw = write(tmp_path / "raw")
  colour, _ = preparing.prepare("utd_mhad_colour", raw, tmp_path / "a", "skeleton")
  depth, _ = preparing.prepare("utd_mhad", raw, tmp_path / "b", "skeleton")
  for ours, other in zip((colour[i] for i in range(2)), (depth[i] for i in range(2))):
    np.testing.assert_array_equal(ours["pose3d"], other["pose3d"])
    # The same camera, with twice the pixels.
    np.testing.assert_allclose(ours["pose2d"], 2 * other["pose2d"], atol=1e-3)


def test_archives_and_another_length(tmp_path):
  raw = write(tmp_path / "raw", frames=6, skeletons=7)
  raw_utd.zipped(raw, tmp_path / "zips", zipfile.ZIP_DEFLATED)
  dataset, lines = preparing.prepare("utd_mhad_colour", tmp_path / "zips", tmp_path, "cropped")
  assert dataset[0]["pose3d"].shape == (1, 6, 20, 3) and len(dataset[0]["frames"]) == 6
  assert any("2 clips, such as a1_s1_t1" in line for line in lines)
  low, high = dataset[0]["boxes"][:, :2].min(0), dataset[0]["boxes"][:, 2:].max(0)
  assert min(1.2 * (high - low)) <= 258


@pytest.mark.parametrize("change, message", [
    (lambda raw: (raw / "RGB-part2/a27_s8_t4_color.avi").unlink(), "but no colour video of it"),
    (lambda raw: (raw / "RGB-part2/a27_s8_t4_color.avi").rename(raw / "a28_s8_t4_color.avi"),
     "a28_s8_t4_color.avi is not a file of UTD-MHAD"),
    (lambda raw: (raw / "RGB-part1/a1_s1_t1_color.avi").write_bytes(b"RIFF"), "fetch it again")])
def test_mistakes(tmp_path, change, message):
  raw = write(tmp_path / "raw")
  change(raw)
  with pytest.raises(RawDataError, match=message):
    preparing.prepare("utd_mhad_colour", raw, tmp_path, "cropped")


def test_another_folder(tmp_path):
  (tmp_path / "readme.txt").write_text("x")
  with pytest.raises(RawDataError, match="holds no .* of UTD-MHAD.* it holds: readme.txt"):
    builder.find(str(tmp_path), video=True, crop=True)
