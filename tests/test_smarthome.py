"""Toyota Smarthome's builder, on files in the official form written here."""
import json
import re
import zipfile

import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.builders import smarthome
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import Index
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError
from tests import preparing, raw_smarthome

CLIP = "Drink.Fromcup_p02_r01_v08_c03"


def test_classes_and_layout():
  assert len(smarthome.CLASS_NAMES) == 31 and len(smarthome.CROSS_VIEW_CLASSES) == 19
  assert list(smarthome.CLASS_NAMES) == sorted(smarthome.CLASS_NAMES)
  assert [name for name in smarthome.CLASS_NAMES if name in smarthome.CROSS_VIEW_CLASSES] == list(
      smarthome.CROSS_VIEW_CLASSES)
  # LCR-Net's order: ankles, knees, hips, wrists, elbows and shoulders, right before left; head.
  layout = skeletons.layout(smarthome.DATASET.layout)
  assert [layout.index(joint) for joint in (
      "right_ankle", "left_ankle", "right_hip", "left_wrist", "left_shoulder", "head")] == [
          0, 1, 4, 7, 11, 12]


def test_protocols_are_rules_over_names():
  train = {3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25}
  test = {2, 10, 11, 14, 16, 18, 20}
  assert len(train | test) == 18
  rows = [(name, subject, camera) for name in smarthome.CLASS_NAMES for subject in train | test
          for camera in range(1, 8)]
  index = Index.of([
      {"clip_id": f"{n}_{s}_{c}", "label": smarthome.CLASS_NAMES.index(n), "subject": s,
       "camera": c, "setup": 0, "num_frames": 1} for n, s, c in rows])

  def ids(protocol, part):
    return set(index.clip_id[protocols.split(index, smarthome.DATASET.protocols[protocol], part)])

  def those(rule):
    return {f"{n}_{s}_{c}" for n, s, c in rows if rule(n, s, c)}

  assert ids("cross_subject", "train") == those(lambda n, s, c: s in train)
  assert ids("cross_subject", "test") == those(lambda n, s, c: s in test)
  few = set(smarthome.CROSS_VIEW_CLASSES)
  for protocol, cameras in (("cross_view_1", {1}), ("cross_view_2", {1, 3, 4, 6, 7})):
    assert ids(protocol, "train") == those(lambda n, s, c, of=cameras: n in few and c in of)
    assert ids(protocol, "fit") == ids(protocol, "train")
    assert ids(protocol, "validation") == those(lambda n, s, c: n in few and c == 5)
    assert ids(protocol, "test") == those(lambda n, s, c: n in few and c == 2)


# ---- what a record holds ---------------------------------------------------------------------

def test_skeletons_survive_preparation_exactly(tmp_path):
  raw = raw_smarthome.write(tmp_path / "raw", [CLIP], frames=5, kinds=("skeleton",))
  dataset, lines = preparing.prepare("smarthome", raw, tmp_path, "skeleton")
  assert lines[0] == "1 of the 16115 clips of Toyota Smarthome are here"
  assert "cross_view_1: 0 train, 0 test, 0 validation" in lines
  record, (pose2d, pose3d) = dataset[0], raw_smarthome.poses(5)
  assert (record["clip_id"], record["subject"], record["camera"], record["fps"]) == (CLIP, 2, 3, 20)
  assert smarthome.CLASS_NAMES[record["label"]] == "Drink.Fromcup"
  np.testing.assert_array_equal(record["pose2d"][0], pose2d.astype(np.float32))
  np.testing.assert_array_equal(record["pose3d"][0], pose3d.astype(np.float32))
  assert (record["pose_score"] == 1).all() and record["image_size"].tolist() == [480, 640]


@pytest.mark.parametrize("axes", [(-1, 1, 1), (1, -1, 1), (1, 1, -1), (-1, -1, -1)])
def test_any_right_handed_axes_are_turned_by_what_the_image_shows(tmp_path, axes):
  """x left, y up, z away; a camera's x right, y down, z away; and the two seen from behind."""
  raw_smarthome.write(tmp_path, [CLIP], kinds=("skeleton",), axes=axes)
  record = preparing.encode(smarthome, tmp_path, "skeleton")
  np.testing.assert_array_equal(record["pose3d"][0],
                                raw_smarthome.poses(4)[1].astype(np.float32))


def test_frames_without_a_person_and_more_numbers(tmp_path):
  pose2d, pose3d = raw_smarthome.poses(4)
  path = tmp_path / f"{CLIP}_pose3d.json"
  path.write_text(raw_smarthome.text(pose2d, pose3d * [-1, 1, 1], empty=(0, 2), more=(7, 8, 9)))
  record = preparing.encode(smarthome, tmp_path, "skeleton")
  there = np.array([False, True, False, True])
  assert record["pose_score"][0].tolist() == [[float(value)] * 13 for value in there]
  np.testing.assert_array_equal(record["pose3d"][0][there], pose3d[there].astype(np.float32))
  assert (record["pose3d"][0][~there] == 0).all() and (record["pose2d"][0][~there] == 0).all()
  assert np.isnan(record["boxes"]).all(1).tolist() == (~there).tolist()


def test_cropped_frames_and_joints_share_the_stored_pixels(tmp_path):
  raw = raw_smarthome.write(tmp_path / "raw", [CLIP], frames=4)
  dataset, _ = preparing.prepare("smarthome", raw, tmp_path)
  record = dataset[0]
  assert dataset.info["modality"] == "colour" and len(record["frames"]) == 4
  affine = record["frame_to_original"].astype(np.float64)
  back = record["pose2d"][0] @ affine[:, :2].T + affine[:, 2]
  np.testing.assert_allclose(back, raw_smarthome.poses(4)[0], atol=1e-2)
  shape = images.decode_frame(record["frames"][0]).shape
  low, high = record["boxes"][:, :2].min(0), record["boxes"][:, 2:].max(0)
  assert min(1.2 * (high - low)) <= 258 and record["image_size"].tolist() == list(shape[:2])


def test_clips_without_skeletons_are_kept_with_nobody_in_them(tmp_path):
  empty, other = "Walk_p03_r00_v01_c01", "WatchTV_p25_r00_v01_c07"
  raw = raw_smarthome.write(tmp_path / "raw", [CLIP, empty, other], frames=3)
  (raw / f"json/{other}.json").unlink()
  (raw / f"json/{empty}.json").write_text(json.dumps({"K": 1, "njts": 13, "frames": []}))
  dataset, lines = preparing.prepare("smarthome", raw, tmp_path, "cropped")
  assert f"1 clip(s) without a skeleton, such as {other}" in lines
  assert f"nobody found: 2 clips, such as {empty}" in lines
  for record in (dataset[1], dataset[2]):
    assert record["clip_id"] in (empty, other) and len(record["frames"]) == 3
    assert record["image_size"].tolist() == [256, 341] and np.isnan(record["boxes"]).all()
    assert record["pose3d"].shape == (1, 3, 13, 3) and (record["pose_score"] == 0).all()
  found = smarthome.find(str(raw), **smarthome.DATASET.variants["skeleton"])
  assert [clip.clip_id for clip in found] == [CLIP, empty]
  record = preparing.encode(smarthome, raw, "skeleton", clip=1)
  assert record["num_frames"] == 1 and (record["pose_score"] == 0).all()


def test_lengths(tmp_path):
  raw_smarthome.write(tmp_path, [CLIP], frames=20, kinds=("skeleton",))
  raw_smarthome.write(tmp_path, [CLIP], frames=18, kinds=("video",))
  record = preparing.encode(smarthome, tmp_path)
  picks = np.floor((np.arange(18) + 0.5) * 20 / 18).astype(int)
  affine = record["frame_to_original"].astype(np.float64)
  back = record["pose2d"][0] @ affine[:, :2].T + affine[:, 2]
  np.testing.assert_allclose(back, raw_smarthome.poses(20)[0][picks], atol=1e-2)
  raw_smarthome.write(tmp_path, [CLIP], frames=14, kinds=("video",))
  with pytest.raises(RawDataError, match=r"c03.mp4 has 14 frames, but .*c03.json has 20; fetch"):
    preparing.encode(smarthome, tmp_path)


def test_archives_give_the_same_clips(tmp_path):
  raw = raw_smarthome.write(tmp_path / "raw", [CLIP], frames=2)
  (tmp_path / "zips").mkdir()
  with zipfile.ZipFile(tmp_path / "zips/all.zip", "w") as archive:
    for file in sorted(raw.rglob("*.*")):
      archive.write(file, file.relative_to(raw))
  options = smarthome.DATASET.variants["cropped"]
  ours, theirs = (smarthome.find(str(tmp_path / name), **options) for name in ("raw", "zips"))
  assert preparation.fingerprint(ours) == preparation.fingerprint(theirs)
  a, b = (smarthome.encode(found[0], **options)["frames"] for found in (ours, theirs))
  assert a == b and len(a) == 2


# ---- mistakes --------------------------------------------------------------------------------

def test_mistakes_in_the_folder(tmp_path):
  def find(variant="cropped"):
    return smarthome.find(str(tmp_path), **smarthome.DATASET.variants[variant])
  raw_smarthome.write(tmp_path, [CLIP], frames=2, kinds=("video",))
  assert find()[0].skeleton is None
  with pytest.raises(RawDataError, match="holds no ACTIVITY_pNN_rNN_vNN_cNN.json files of Toyota"):
    find("skeleton")
  raw_smarthome.write(tmp_path, [CLIP, "Walk_p03_r00_v01_c01"], frames=2, kinds=("skeleton",))
  with pytest.raises(RawDataError, match="has the skeleton of Walk_p03_r00_v01_c01, but no video"):
    find()
  raw_smarthome.write(tmp_path / "again", [CLIP], frames=3, kinds=("skeleton",))
  with pytest.raises(RawDataError, match=f"two different files for one clip: .*{CLIP}.json"):
    find()
  for name in ("Sleep_p03_r00_v01_c01", "Walk_p01_r00_v01_c01", "Walk_p03_r00_v01_c08"):
    path = tmp_path / "again" / f"{name}.mp4"
    path.write_text("")
    with pytest.raises(RawDataError, match=f"{path} is not a file of Toyota Smarthome, trimmed"):
      find()
    path.unlink()


def text_of(**fields):
  return json.dumps(json.loads(raw_smarthome.text(*raw_smarthome.poses(2))) | fields)


def second(**fields):
  """A file whose second frame has other fields."""
  content = json.loads(text_of())
  content["frames"][1][0] |= fields
  return json.dumps(content)


@pytest.mark.parametrize("text, message", [
    ("", "is not a readable JSON file"),
    (text_of()[:300], "is not a readable JSON file"),
    ("[" * 100000, "is not a readable JSON file"),
    ("[]", "is not an object with a list `frames` and `njts` 13"),
    (text_of(njts=17), "is not an object with a list `frames` and `njts` 13"),
    (text_of(frames={}), "is not an object with a list `frames`"),
    (text_of(frames=[7]), "frame 1 is not a list of persons with pose2d of 26 and pose3d of 39"),
    (text_of(frames=[[], [{}]]), "frame 2 is not a list of persons"),
    (second(pose2d=[1.0] * 34), "frame 2 is not a list of persons"),
    (second(pose3d=[1.0] * 38), "frame 2 is not a list of persons"),
    (second(pose2d=["left"] * 26), "frame 2 is not a list of persons"),
    (second(pose2d=[[1]] * 26), "frame 2 is not a list of persons"),
])
def test_malformed_skeletons_are_an_error_that_names_the_file(tmp_path, text, message):
  path = tmp_path / f"{CLIP}.json"
  path.write_text(text)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}") as caught:
    preparing.encode(smarthome, tmp_path, "skeleton")
  assert "\n" not in str(caught.value)


def test_truncated_video(tmp_path):
  raw_smarthome.write(tmp_path, [CLIP], frames=20, kinds=("video",))
  path = tmp_path / f"mp4/{CLIP}.mp4"
  path.write_bytes(path.read_bytes()[:-3000])
  with pytest.raises(RawDataError, match=re.escape(str(path))):
    preparing.encode(smarthome, tmp_path)
