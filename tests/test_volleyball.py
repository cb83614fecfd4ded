"""Volleyball's official files: real frames and annotations, made-up tracks and skeletons."""
import pickle
import shutil

import cv2
import numpy as np
import pytest

from actionjax import configuration, planning
from actionjax.data.builders import volleyball
from actionjax.data.clips import protocols
from actionjax.data.formats import images
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError
from tests import preparing

FRAMES = range(29875, 29895)  # ten before 29885, nine after


def points(persons: int = 12, seed: int = 0) -> np.ndarray:
  """float64[20,M,17,2] in pixels of 1920x1080."""
  rng = np.random.default_rng(seed)
  return rng.uniform([300, 300], [1600, 900], (persons, 1, 2)) + rng.uniform(
      -60, 60, (len(FRAMES), persons, 17, 2))


def write_joints(root, video: int = 39, clip: int = 29885, persons: int = 12) -> np.ndarray:
  """A file of joints; the number of each joint stands where others have a score."""
  given = points(persons)
  numbers = np.broadcast_to(np.arange(17.0), given.shape[:3])
  content = {frame: np.concatenate([pose, number[..., None]], -1)
             for frame, pose, number in zip(FRAMES, given, numbers)}
  path = root / "joints" / str(video) / f"{clip}.pickle"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(pickle.dumps(content, protocol=4))
  return given


@pytest.fixture(scope="module")
def official(real_data):
  """Frames 29880 to 29889 of a clip, and two lines of annotations."""
  return real_data / "real" / "volleyball"


@pytest.fixture
def raw(official, tmp_path):
  """The same in a folder to which other files can be added."""
  shutil.copytree(official, tmp_path / "raw" / "videos")
  return tmp_path / "raw"


def test_annotations(official):
  path = official / "39" / "annotations.txt"
  clips = volleyball.read_annotations(Source(None, str(path), path.stat().st_size))
  assert list(clips) == [29885, 29905]
  names = [volleyball.CLASS_NAMES[label] for label, _ in clips.values()]
  assert names == ["right_spike", "left_pass"]
  players = clips[29885][1]
  assert len(players) == 12
  # "430 575 82 170 waiting ... 1648 535 70 167 standing"
  assert players[0] == volleyball.Player((430, 575, 512, 745), "waiting")
  assert players[-1] == volleyball.Player((1648, 535, 1718, 702), "standing")


def test_official_frames(official, tmp_path):
  dataset, lines = preparing.prepare("volleyball", official, tmp_path, "uncropped")
  record, = [dataset[i] for i in range(len(dataset))]
  assert any("1 annotated clips, such as 39/29905, left out" in line for line in lines)
  assert any(line.startswith("fewer than 20 frames: 1 clips") for line in lines)
  assert record["clip_id"] == "39/29885" and record["num_frames"] == 10
  assert volleyball.CLASS_NAMES[record["label"]] == "right_spike"
  height, width = record["image_size"].tolist()
  assert min(height, width) == 256
  original = cv2.imread(str(official / "39" / "29885" / "29885.jpg"))[..., ::-1]
  stored = images.decode_frame(record["frames"][5])
  reduced = cv2.resize(original, (width, height), interpolation=cv2.INTER_AREA)
  assert np.abs(stored.astype(int) - reduced).mean() < 5
  # All players' boxes together, from 430 to 1718 and 415 to 781 or so, in stored pixels.
  boxes = [player.box for player in volleyball.find(
      str(official), video=True, crop=False)[0].players]
  x0, y0 = np.min(boxes, 0)[:2]
  x1, y1 = np.max(boxes, 0)[2:]
  rows, columns = original.shape[:2]
  factor = np.array([width / columns, height / rows] * 2) * np.array(
      [columns / 1920, rows / 1080] * 2)
  np.testing.assert_allclose(record["boxes"][3], np.array([x0, y0, x1, y1]) * factor, atol=0.6)


def test_skeletons_of_all_players(raw, tmp_path):
  given = write_joints(raw)
  dataset, _ = preparing.prepare("volleyball", raw, tmp_path, "skeleton")
  record = dataset[0]
  assert dataset.info["persons"] == {"12": 1} and record["num_frames"] == 20
  np.testing.assert_allclose(record["pose2d"], given.transpose(1, 0, 2, 3), atol=1e-3)
  assert (record["pose_score"] == 1).all() and record["image_size"].tolist() == [1080, 1920]


def test_skeletons_and_frames_meet_by_their_numbers(raw, tmp_path):
  """Five frames before the annotated one and four after it are here; joints have twenty."""
  given = write_joints(raw)
  dataset, _ = preparing.prepare("volleyball", raw, tmp_path)
  record = dataset[0]
  assert len(record["frames"]) == record["num_frames"] == 10
  affine = record["frame_to_original"].astype(np.float64)
  rows, columns = cv2.imread(str(raw / "videos/39/29885/29885.jpg")).shape[:2]
  seen = record["pose2d"].astype(float) @ affine[:, :2].T + affine[:, 2]
  scaled = (given[5:15] + 0.5) * [columns / 1920, rows / 1080] - 0.5
  np.testing.assert_allclose(seen, scaled.transpose(1, 0, 2, 3), atol=0.05)


def test_tracks_tell_the_boxes_of_every_frame(raw, tmp_path):
  folder = raw / "volleyball_tracking_annotation" / "39" / "29885"
  folder.mkdir(parents=True)
  lines = [f'{player} {x} 300 {x + 100} 500 {frame} 0 0 1 "moving"'
           for i, frame in enumerate(FRAMES)
           for player, x in enumerate((100 + i, 110 + i, 120 + i))]
  lines.append('9 0 0 1900 1000 29880 1 0 1 "moving"')  # lost
  (folder / "29885.txt").write_text("\n".join(lines))
  record = preparing.encode(volleyball, raw, "uncropped")
  affine = record["frame_to_original"]
  corners = record["boxes"].reshape(-1, 2, 2) @ affine[:, :2].T + affine[:, 2]
  rows, columns = cv2.imread(str(raw / "videos/39/29885/29885.jpg")).shape[:2]
  expected = np.array([[100 + i, 300, 220 + i, 500] for i in range(5, 15)], float)
  expected = (expected + 0.5) * ([columns / 1920, rows / 1080] * 2) - 0.5
  np.testing.assert_allclose(corners.reshape(-1, 4), expected, atol=0.05)


def test_official_parts():
  parts = (volleyball.TRAIN_VIDEOS, volleyball.VALIDATION_VIDEOS, volleyball.TEST_VIDEOS)
  assert [len(part) for part in parts] == [24, 15, 16]
  assert sorted(sum(parts, ())) == list(range(55))
  mirror = volleyball.DATASET.mirror_classes
  names = volleyball.CLASS_NAMES
  assert all({names[mirror[i]], name} == {f"{side}_{name.partition('_')[2]}"
                                           for side in ("left", "right")}
             for i, name in enumerate(names))


@pytest.mark.parametrize("line, message", [
    ("29885.jpg r_smash 1 2 3 4 moving", "line 1: .* does not begin with a frame's .jpg and"),
    ("29885.jpg r_set 1 2 3 4 flying", "is not a player's x, y, width, height and action"),
    ("29885.jpg r_set 1 2 3 moving", "is not a player's x, y, width, height and action"),
    ("29885.jpg r_set\n29885.jpg l_set", "line 2: frame 29885 is there twice"),
])
def test_malformed_annotations(raw, line, message):
  (raw / "videos/39/annotations.txt").write_text(line)
  with pytest.raises(RawDataError, match=message):
    volleyball.find(str(raw), video=True, crop=True)


def test_the_config_reads_what_is_prepared(raw, tmp_path):
  """Clips of a training and a test video are enough for its plan, which counts both."""
  write_joints(raw)
  for video in ("4", "0"):
    shutil.copytree(raw / "videos" / "39", raw / "videos" / video)
    write_joints(raw, int(video), persons=3)
  dataset, _ = preparing.prepare("volleyball", raw, tmp_path, "skeleton")
  split = volleyball.DATASET.protocols["split"]
  assert dataset.index.clip_id[protocols.split(dataset.index, split, "test")].tolist() == [
      "4/29885"]
  config = configuration.load("configs/posec3d_volleyball.py")
  config.data_dir = str(tmp_path)
  steps = planning.plan(config).flatten()
  assert [step.outline.facts["clips"] for step in steps] == [2, 1]
