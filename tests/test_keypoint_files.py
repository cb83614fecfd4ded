"""Annotations that keep their key points in other files, as the official ones of Kinetics-400."""
import collections
import pickle
import shutil

import numpy as np
import pytest

from actionjax.data.formats.findings import Findings
from actionjax.data.own import keypoint_files
from actionjax.errors import RawDataError
from tests import raw_own


def skeletons(count: int, seed: int = 0) -> np.ndarray:
  """float16[N,17,3]: pixels of 320x426 and scores."""
  rng = np.random.default_rng(seed)
  return np.concatenate([rng.uniform(5, 300, (count, 17, 2)), rng.uniform(0.1, 1, (count, 17, 1))],
                        -1).astype(np.float16)


def expected(points: np.ndarray, frames, most: int = 10):
  """Person by person what the released loader makes of them, one skeleton after another."""
  names = sorted(set(frames))
  by_frame = collections.defaultdict(list)
  for skeleton, frame in zip(points, frames):
    by_frame[names.index(frame)].append(skeleton)
  persons = max(map(len, by_frame.values()))
  if persons > most:
    for skeletons_of in by_frame.values():
      skeletons_of.sort(key=lambda skeleton: -skeleton[:, 2].astype(float).sum())
  made = np.zeros((min(persons, most), len(names), *points.shape[1:]), points.dtype)
  for frame, skeletons_of in by_frame.items():
    for person, skeleton in enumerate(skeletons_of[:most]):
      made[person, frame] = skeleton
  return made[..., :2], made[..., 2]


@pytest.fixture(scope="module")
def official(real_data):
  """Three official annotations."""
  path = real_data / "real/pyskl/mmaction2/sample.pkl"
  return pickle.loads(path.read_bytes())["annotations"][:3]


def write(root, annotations):
  """The annotations as a file, and a file of skeletons for each clip."""
  ids = [clip["frame_dir"] for clip in annotations]
  raw_own.dump(root / "k400.pkl", {"split": {"train": ids[:2], "val": ids[2:]},
                                   "annotations": annotations})
  made = {}
  for number, clip in enumerate(annotations):
    made[clip["frame_dir"]] = skeletons(len(clip["frame_inds"]), number)
    raw_own.dump(root / "kpfiles" / f"{clip['frame_dir']}.pkl", made[clip["frame_dir"]])
  return made


def test_official_annotations_and_their_key_points(official, tmp_path):
  made = write(tmp_path / "raw", official)
  raw_own.prepare("annotations:k400", tmp_path / "raw" / "k400.pkl", tmp_path)
  dataset = raw_own.open_prepared(tmp_path, "annotations:k400")
  records = raw_own.by_id(dataset)
  assert dataset.info["layout"] == "coco_17" and dataset.info["protocols"] == ["split"]
  for clip in official:
    record = records[clip["frame_dir"]]
    # Frames with anybody in them, which the annotation counts, too: 150, 151 and 136.
    assert record["num_frames"] == clip["valid"][0.5]
    points, score = expected(made[clip["frame_dir"]], clip["frame_inds"].tolist())
    np.testing.assert_array_equal(record["pose2d"], points.astype(np.float32))
    np.testing.assert_array_equal(record["pose_score"], score.astype(np.float32))
    assert record["image_size"].tolist() == list(clip["img_shape"])
    assert record["label"] == clip["label"]
  most = {str(max(collections.Counter(clip["frame_inds"].tolist()).values())) for clip in official}
  assert set(dataset.info["persons"]) == most


def test_files_of_several_clips_and_folders_of_another_machine(official, tmp_path):
  raw = tmp_path / "raw"
  chunk = {clip["frame_dir"]: {"keypoint": skeletons(len(clip["frame_inds"]), number)}
           for number, clip in enumerate(official)}
  annotations = [dict(clip, raw_file="/mnt/far/data/k400/kpfiles/part_0.pkl") for clip in official]
  write(raw, annotations)
  shutil.rmtree(raw / "kpfiles")
  raw_own.dump(raw / "kpfiles" / "deeper" / "part_0.pkl", chunk)
  raw_own.prepare("annotations:k400", raw, tmp_path)
  for record in raw_own.by_id(raw_own.open_prepared(tmp_path, "annotations:k400")).values():
    clip = next(one for one in official if one["frame_dir"] == record["clip_id"])
    points, _ = expected(chunk[record["clip_id"]]["keypoint"], clip["frame_inds"].tolist())
    np.testing.assert_array_equal(record["pose2d"], points.astype(np.float32))


def test_doubtful_boxes_and_crowds():
  frames = np.repeat([3, 5, 9], [12, 2, 1])
  points = skeletons(15)
  found, score = keypoint_files.spread(points, frames)
  given, given_score = expected(points, frames.tolist())
  assert found.shape == (10, 3, 17, 2)
  np.testing.assert_array_equal(found, given)
  np.testing.assert_array_equal(score, given_score)


def test_skeletons_in_doubtful_boxes_are_left_out(tmp_path):
  points, frames = skeletons(6), np.array([1, 1, 2, 4, 4, 6], np.int16)
  box_score = np.array([0.9, 0.3, 0.49, 0.5, 0.8, 0.7], np.float16)
  path = raw_own.dump(tmp_path / "a.pkl", points)
  findings = Findings()
  reference = keypoint_files.Reference(str(path), "kpfiles/a.pkl", "a", frames, box_score, {0.5: 3})
  found, _ = keypoint_files.read(reference, findings)
  np.testing.assert_array_equal(
      found, expected(points[[0, 3, 4, 5]], [1, 4, 4, 6])[0])
  assert not findings.all


@pytest.mark.parametrize("change, message", [
    (lambda root, clip: (root / f"{clip}.pkl").unlink(), "kpfiles/.*pkl is not there; put"),
    (lambda root, clip: raw_own.dump(root / f"{clip}.pkl", skeletons(7)),
     "frame_inds: must be 7 ascending"),
    (lambda root, clip: raw_own.dump(root / f"{clip}.pkl", skeletons(161)[..., :2]),
     r"float16\[161, 17, 2\], expected numbers \[N, V, 3\]"),
    (lambda root, clip: raw_own.dump(root / f"{clip}.pkl", {"other": 1}), "has no key points of"),
])
def test_mistakes_name_the_file(official, tmp_path, change, message):
  write(tmp_path / "raw", official)
  change(tmp_path / "raw" / "kpfiles", official[1]["frame_dir"])
  with pytest.raises(RawDataError, match=message):
    raw_own.prepare("annotations:k400", tmp_path / "raw", tmp_path)
  summary = raw_own.prepare("annotations:k400", tmp_path / "raw", tmp_path, unreadable="skip",
                            max_unreadable=0.5)
  assert summary["clips"] == 2 and summary["skipped"] == 1


def test_without_the_folder(official, tmp_path):
  write(tmp_path / "raw", official)
  shutil.rmtree(tmp_path / "raw" / "kpfiles")
  with pytest.raises(RawDataError, match="put the folder kpfiles .* beside the annotations"):
    raw_own.prepare("annotations:k400", tmp_path / "raw" / "k400.pkl", tmp_path)
