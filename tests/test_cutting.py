"""Smaller copies of prepared datasets: the same clips, the same pictures, the same places."""
import dataclasses
import json
import pathlib
import zipfile

import numpy as np
import pytest

from actionjax import configuration
from actionjax.data import catalogue
from actionjax.data.clips.dataset import INFO_FILE
from actionjax.data.formats import images
from actionjax.data.loading import pipeline, pose3d, video
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, parse_data
from actionjax.data.preparing import cutting, preparation
from actionjax.errors import UserError
from tests import raw_own, raw_utd

VIDEO = video.Config(num_frames=8, size=(32, 32), margin=0.1, crop=0.9)


@pytest.fixture(scope="module")
def tiny(tiny_data_dir):
  """The generated dataset: colour, 32 pixels."""
  return catalogue.open_dataset(tiny_data_dir, "synthetic_actions", "tiny")


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
  """Made-up files of UTD-MHAD: depth."""
  folder = tmp_path_factory.mktemp("utd")
  raw_utd.write(folder / "raw", [(1, 1, 1), (1, 2, 1), (5, 1, 2)], frames=7)
  preparation.prepare("utd_mhad", str(folder / "raw"), str(folder / "data"), workers=1)
  return catalogue.open_dataset(str(folder / "data"), "utd_mhad")


def reopened(dataset, folder, **settings):
  """The cut of a dataset, opened."""
  made = cutting.cut(dataset, folder, **settings)
  cut = catalogue.open_dataset(str(folder), dataset.info["dataset"], dataset.info["variant"])
  assert str(cut.path) == made["path"]
  return cut


def test_a_cut_of_a_users_dataset_has_its_protocols(tmp_path):
  content = raw_own.annotations(6)
  ids = [one["frame_dir"] for one in content["annotations"]]
  content["split"] = {"train": ids[:3], "val": ids[3:4], "test": ids[4:]}
  raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", content), tmp_path / "data")
  original = catalogue.open_dataset(str(tmp_path / "data"), "annotations:mine")
  cut = reopened(original, tmp_path / "cut", frames=2)
  masks = catalogue.of(cut).protocol("split")(cut.index)
  assert {part: cut.index.clip_id[mask].tolist() for part, mask in masks.items()} == {
      "train": ids[:3], "validation": ids[3:4], "test": ids[4:]}


def loaded(dataset, record, channels=3, **sections):
  config = DataConfig(
      dataset=dataset.info["dataset"], protocol="cross_subject",
      inputs=dict(video=dataclasses.replace(VIDEO, channels=channels, **sections),
                  pose=pose3d.Config(num_poses=5)))
  return ClipTransform(config, views=2).test(record)


@pytest.mark.parametrize("name, channels", [("tiny", 3), ("depth", 1)])
def test_at_the_same_size_a_network_sees_the_same_pixels(name, channels, tmp_path, request):
  original = request.getfixturevalue(name)
  cut = reopened(original, tmp_path)
  assert (cut.index.clip_id == original.index.clip_id).all()
  for i in (0, len(cut) - 1):
    before, after = (loaded(original, d[i], channels) for d in (original, cut))
    np.testing.assert_array_equal(before["video"], after["video"])
    assert before["video"].max() > 0
    assert np.abs(before["pose3d"] - after["pose3d"]).max() <= cutting.POSE3D_GRID / 2
    for key in ("label", "pose_score"):
      np.testing.assert_array_equal(before[key], after[key])
  assert all(images.decode_frame(frame).dtype == np.uint8 for frame in cut[0]["frames"])


def test_smaller_colour_frames_show_nearly_the_same(tiny, tmp_path):
  cut = reopened(tiny, tmp_path, size=24)
  assert all(max(cut[i]["image_size"]) == 24 for i in range(3))
  # At a size that neither has to be enlarged to: 32 pixels hold more than 24 do.
  look = dict(box="frame", crop=1.0, size=(8, 8))
  for i in range(8):
    before = loaded(tiny, tiny[i], **look)["video"].astype(int)
    after = loaded(cut, cut[i], **look)["video"]
    difference = np.abs(before - after).mean()
    assert difference < 7
    assert difference < np.abs(before - np.roll(after, 1, axis=3)).mean() / 2


@pytest.mark.parametrize("name, size", [("tiny", 20), ("depth", 100)])
def test_every_place_stays_where_it_is_in_the_original(name, size, tmp_path, request):
  original = request.getfixturevalue(name)
  cut = reopened(original, tmp_path, size=size)
  for i in range(3):
    before, after = original[i], cut[i]
    height, width = images.decode_frame(after["frames"][0]).shape[:2]
    assert after["image_size"].tolist() == [height, width] and max(height, width) == size

    def in_original(record, points):
      affine = record["frame_to_original"].astype(np.float64)
      return points @ affine[:, :2].T + affine[:, 2]

    scale = np.abs(after["frame_to_original"][:, :2]).max()
    present = before["pose_score"] > 0
    assert present.any()
    np.testing.assert_allclose(in_original(after, after["pose2d"])[present],
                               in_original(before, before["pose2d"])[present],
                               atol=scale * cutting.POSE2D_GRID)
    assert (after["pose2d"][~present] == 0).all()
    np.testing.assert_allclose(in_original(after, after["boxes"].reshape(-1, 2, 2)),
                               in_original(before, before["boxes"].reshape(-1, 2, 2)), atol=1e-3)
    # The corners of the frames are those of the same rectangle.
    for record, corner in ((before, before["image_size"][::-1]), (after, (width, height))):
      record["corners"] = in_original(record, np.array([[-0.5, -0.5], np.array(corner) - 0.5]))
    np.testing.assert_allclose(after["corners"], before["corners"], atol=1e-2)


def test_thinned_clips_keep_frames_and_skeletons_together(depth, tmp_path):
  cut = reopened(depth, tmp_path, frames=3)
  for i in range(len(cut)):
    before, after = depth[i], cut[i]
    kept = [1, 3, 5]  # the middles of thirds of seven frames
    assert after["num_frames"] == len(after["frames"]) == len(after["boxes"]) == 3
    assert after["fps"] == pytest.approx(30 * 3 / 7)
    np.testing.assert_allclose(after["pose3d"], before["pose3d"][:, kept],
                               atol=cutting.POSE3D_GRID)
    np.testing.assert_array_equal(after["boxes"], before["boxes"][kept])
    one = {**after, "frames": [after["frames"][1]] * 7, "boxes": before["boxes"]}
    other = {**before, "frames": [before["frames"][3]] * 7}
    np.testing.assert_array_equal(loaded(cut, one, 1)["video"], loaded(depth, other, 1)["video"])
  assert cut.info["num_frames"] == 9 and (cut.index.num_frames == 3).all()


def test_held_frames_leave_every_skeleton(depth, tmp_path):
  cut = reopened(depth, tmp_path, frames=3, hold=True)
  before, after = depth[0], cut[0]
  assert after["num_frames"] == len(after["frames"]) == 7 and after["fps"] == before["fps"]
  np.testing.assert_allclose(after["pose3d"], before["pose3d"], atol=cutting.POSE3D_GRID)
  assert [after["frames"].index(frame) for frame in after["frames"]] == [0, 0, 0, 3, 3, 5, 5]


def test_short_clips_are_left_whole(depth, tmp_path):
  assert reopened(depth, tmp_path, frames=50)[0]["num_frames"] == 7


def test_skeletons_only(depth, tmp_path):
  cut = reopened(depth, tmp_path, skeletons_only=True)
  assert cut.info["modality"] == "none" and not cut[0]["frames"]
  np.testing.assert_array_equal(cut[0]["image_size"], depth[0]["image_size"])
  np.testing.assert_allclose(cut[0]["pose2d"], depth[0]["pose2d"], atol=cutting.POSE2D_GRID)
  config = DataConfig(dataset="utd_mhad", protocol="cross_subject", inputs={"video": VIDEO})
  with pytest.raises(UserError, match="holds skeletons alone"):
    pipeline.open_split(config, str(tmp_path), "train")


def test_the_info_says_that_it_is_a_cut_and_preparing_makes_it_whole(depth, tmp_path):
  import tensorflow_datasets as tfds
  cut = reopened(depth, tmp_path, size=64, frames=4)
  info = json.loads((cut.path / INFO_FILE).read_text())
  assert {"size": 64, "frames": 4, "bits": 8, "hold": False}.items() <= info["cut"].items()
  assert info["key"] != depth.info["key"] == info["cut"]["from_key"]
  assert len(tfds.builder_from_directory(cut.path).as_data_source("clips")) == 3
  with pytest.raises(UserError, match="is a cut itself"):
    cutting.cut(cut, tmp_path / "again")
  with pytest.raises(UserError, match="is there already"):
    cutting.cut(depth, tmp_path)
  raw = depth.path.parents[3] / "raw"
  assert preparation.prepare("utd_mhad", str(raw), str(tmp_path), workers=1)["done"]
  assert "cut" not in catalogue.open_dataset(str(tmp_path), "utd_mhad").info


@pytest.mark.parametrize("settings, message", [
    (dict(size=3), "--size=3 must be at least 16"), (dict(frames=0), "--frames=0 must be"),
    (dict(hold=True), "--hold says nothing without"), (dict(mib=0), "--mib=0 must be above 0"),
    (dict(skeletons_only=True, size=64), "--size says nothing beside"),
    (dict(mib=0.001), r"the cut takes .* MiB, more than --mib=0.001; its skeletons alone")])
def test_what_cannot_be_cut(depth, tmp_path, settings, message):
  with pytest.raises(UserError, match=message):
    cutting.cut(depth, tmp_path, **settings)
  assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_it_says_would_fit_fits(tiny, tmp_path):
  with pytest.raises(UserError, match="would fit") as caught:
    cutting.cut(tiny, tmp_path, mib=0.5)
  frames = int(str(caught.value).split("--frames=")[1].split()[0])
  assert frames >= 1
  assert cutting.cut(tiny, tmp_path, mib=0.5, frames=frames)["bytes"] <= 0.5 * 2**20


def test_real_clips(real_data, tmp_path):
  raw = tmp_path / "raw"
  raw.mkdir()
  for kind in ("Depth", "Skeleton"):
    with zipfile.ZipFile(real_data / "utd_mhad" / f"{kind}.zip") as archive:
      for name in archive.namelist():
        if pathlib.PurePosixPath(name).name.startswith(("a1_s1_t1_", "a27_s2_t1_", "a9_s4_t2_")):
          (raw / pathlib.PurePosixPath(name).name).write_bytes(archive.read(name))
  preparation.prepare("utd_mhad", str(raw), str(tmp_path / "data"), workers=1)
  original = catalogue.open_dataset(str(tmp_path / "data"), "utd_mhad")
  assert len(original) == 3
  config = configuration.load(f"{configuration.shipped_directory()}/vpn_utd_mhad.py")
  transform = ClipTransform(parse_data(config.data, "config.data"))
  whole = reopened(original, tmp_path / "whole")
  small = reopened(original, tmp_path / "small", size=168, frames=40, hold=True)
  for i in range(3):
    before, same, less = (transform.test(dataset[i]) for dataset in (original, whole, small))
    np.testing.assert_array_equal(before["video"], same["video"])
    difference = np.abs(before["video"].astype(int) - less["video"])
    assert before["video"].mean() > 20 and difference.mean() < 8
    # What is nothing stays nothing, but at the person's outline.
    assert np.mean((before["video"] == 0) != (less["video"] == 0)) < 0.08
    assert np.abs(before["pose3d"] - less["pose3d"]).max() <= cutting.POSE3D_GRID / 2
  total = [sum(shard["bytes"] for shard in dataset.info["shards"]) for dataset in (original, small)]
  assert total[1] < total[0]
