"""The builders of CAD-60 and CAD-120, on files in the official form written here."""
import re
import shutil
import zipfile

import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.builders import cad60, cad120
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import Index
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError
from tests import preparing, raw_cad, raw_jhmdb

CLIPS = {"1/0512164529": "brushing teeth", "1/0512164800": "random",
         "3/0511124349": "cooking (chopping)", "4/0512150451": "talking on the phone"}
LONG = ["1/arranging_objects/0510175411", "5/having_meal/0511121410",
        "5/taking_food/0511121954", "3/stacking_objects/1204142055"]


def pixels(positions: np.ndarray, factor: float) -> np.ndarray:
  """Equation 1's first version with Y upwards, as plain numbers, for an image of 640 * factor."""
  x, y, z = np.moveaxis(positions, -1, 0)
  return factor * np.stack([320 + 558.1 * x / z, 240 - 579.5 * y / z], -1)


def test_layout_is_the_order_of_the_files():
  joints = skeletons.layout("cad_15").joints
  assert joints[:5] == ("head", "neck", "spine", "left_shoulder", "left_elbow")
  assert joints[11:] == ("left_hand", "right_hand", "left_foot", "right_foot")
  assert len(set(cad60.CLASS_NAMES)) == 14 and len(set(cad120.CLASS_NAMES)) == 10


@pytest.mark.parametrize("builder, subjects", [(cad60, (1, 2, 3, 4)), (cad120, (1, 3, 4, 5))])
def test_protocols_leave_one_subject_out(builder, subjects):
  index = Index.of([
      {"clip_id": f"{s}_{i}", "label": i, "subject": s, "camera": 0, "setup": 0, "num_frames": 1}
      for s in subjects for i in range(3)])
  assert set(builder.DATASET.protocols) == {f"subject_{s}" for s in subjects}
  for left_out in subjects:
    test = protocols.split(index, builder.DATASET.protocols[f"subject_{left_out}"], "test")
    train = protocols.split(index, builder.DATASET.protocols[f"subject_{left_out}"], "train")
    assert set(index.subject[test]) == {left_out} and len(test) == 3 and len(train) == 9


# ---- what a record holds --------------------------------------------------------------------

def test_cad60_survives_preparation_exactly(tmp_path):
  raw = raw_cad.cad60(tmp_path / "raw", CLIPS)
  dataset, lines = preparing.prepare("cad60", raw, tmp_path, "uncropped")
  assert lines[0] == "4 of the 68 clips of CAD-60 are here"
  assert "subject_1: 2 train, 2 test" in lines and "subject_2: 4 train, 0 test" in lines
  found = {dataset[i]["clip_id"]: dataset[i] for i in range(4)}
  for seed, (clip, activity) in enumerate(CLIPS.items()):
    record = found[f"subject{clip.replace('/', '_')}"]
    name = cad60.CLASS_NAMES[record["label"]]
    assert name == re.sub("[() ]+", "_", activity).strip("_")
    assert (record["subject"], record["num_frames"], record["fps"]) == (int(clip[0]), 4, 30)
    positions = raw_cad.joints(4, seed)
    np.testing.assert_array_equal(record["pose3d"][0], (positions / 1000).astype(np.float32))
    np.testing.assert_allclose(record["pose2d"][0], pixels(positions, 0.5), atol=1e-3)
    assert record["image_size"].tolist() == [240, 320] and (record["pose_score"] == 1).all()
    for t, frame in enumerate(record["frames"], 1):
      assert np.abs(images.decode_frame(frame).astype(int) - raw_jhmdb.image(t)).mean() < 3


def test_cad120_survives_preparation_exactly(tmp_path):
  raw = raw_cad.cad120(tmp_path / "raw", LONG, frames=3)
  dataset, lines = preparing.prepare("cad120", raw, tmp_path, "uncropped")
  assert lines[0] == "4 of the 124 clips of CAD-120 are here"
  assert "subject_5: 2 train, 2 test" in lines
  found = {dataset[i]["clip_id"]: dataset[i] for i in range(4)}
  for seed, clip in enumerate(LONG):
    subject, activity, name = clip.split("/")
    record = found[f"subject{subject}_{name}"]
    assert cad120.CLASS_NAMES[record["label"]] == activity and record["subject"] == int(subject)
    positions = raw_cad.joints(3, seed)
    np.testing.assert_array_equal(record["pose3d"][0], (positions / 1000).astype(np.float32))
    # Stored at 341x256: the outer edges of pixels stay where they are.
    stored = (pixels(positions, 1) + 0.5) * [341 / 640, 256 / 480] - 0.5
    np.testing.assert_allclose(record["pose2d"][0], stored, atol=1e-3)
    assert [images.decode_frame(f).shape for f in record["frames"]] == [(256, 341, 3)] * 3


def test_a_skeleton_belongs_to_the_image_of_its_number(tmp_path):
  raw = raw_cad.cad60(tmp_path / "raw", {"2/0510163513": "still"}, frames=12)
  path = raw / "data2/0510163513.txt"
  positions = raw_cad.joints(3, 1)
  path.write_text(raw_cad.text(positions, [11, 2, 40]))
  dataset, lines = preparing.prepare("cad60", raw, tmp_path, "uncropped")
  record = dataset[0]
  assert record["pose_score"][0].any(1).tolist() == [n in (2, 11) for n in range(1, 13)]
  np.testing.assert_array_equal(record["pose3d"][0][[10, 1]],
                                (positions[:2] / 1000).astype(np.float32))
  # Images 2 and 10 in order of their numbers, not of their names.
  assert np.abs(images.decode_frame(record["frames"][9]).astype(int)
                - raw_jhmdb.image(10)).mean() < 3
  assert "frames without a skeleton: 1 clips, such as subject2_0510163513" in lines
  # Without images the lines are the frames, in order.
  record = preparing.encode(cad60, raw, "skeleton")
  np.testing.assert_array_equal(record["pose3d"][0],
                                (positions[[1, 0, 2]] / 1000).astype(np.float32))


def test_lost_joints_and_images_alone(tmp_path):
  raw = raw_cad.cad60(tmp_path, {"1/0512164529": "still"}, frames=2)
  positions = raw_cad.joints(2)
  positions[0, 3], positions[1, 14] = 0, np.nan
  (raw / "data1/0512164529.txt").write_text(raw_cad.text(positions).replace("nan", "-1.#QNAN"))
  record = preparing.encode(cad60, raw, "skeleton")
  lost = np.zeros((2, 15), bool)
  lost[0, 3] = lost[1, 14] = True
  np.testing.assert_array_equal(record["pose_score"][0], ~lost)
  assert (record["pose2d"][0][lost] == 0).all() and (record["pose3d"][0][lost] == 0).all()
  (raw / "data1/0512164529.txt").unlink()
  record = preparing.encode(cad60, raw)
  assert len(record["frames"]) == 2 and record["pose3d"].size == 0


def test_folders_and_archives_give_the_same_clips(tmp_path):
  raw_cad.cad60(tmp_path / "raw", CLIPS, frames=2)
  raw_cad.cad60(tmp_path / "named/CAD-60_data", CLIPS, frames=2, folder="Person{}")
  (tmp_path / "zips").mkdir()
  for place in sorted((tmp_path / "raw").iterdir()):  # with the folder's name only on the archive
    with zipfile.ZipFile(tmp_path / f"zips/{place.name}.zip", "w") as archive:
      for file in sorted(place.rglob("*.*")):
        archive.write(file, file.relative_to(place))
  options = cad60.DATASET.variants["cropped"]
  found = [cad60.find(str(tmp_path / name), **options) for name in ("raw", "named", "zips")]
  assert len({preparation.fingerprint(clips) for clips in found}) == 1
  a, b, c = (cad60.DATASET.encode(clips[1], **options)["frames"] for clips in found)
  assert a == b == c and len(a) == 2
  # Another label for a clip is another dataset.
  label = tmp_path / "raw/data1/activityLabel.txt"
  label.write_text(label.read_text().replace("random", "still"))
  assert preparation.fingerprint(cad60.find(str(tmp_path / "raw"), **options)) != (
      preparation.fingerprint(found[0]))


# ---- mistakes -------------------------------------------------------------------------------

def test_mistakes_in_the_folder_of_cad60(tmp_path):
  def find(variant="cropped"):
    return cad60.find(str(tmp_path), **cad60.DATASET.variants[variant])
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(RawDataError, match="holds no data1/0512164529.txt or .* of CAD-60.*notes"):
    find()
  raw_cad.cad60(tmp_path, CLIPS, frames=1)
  label = tmp_path / "data1/activityLabel.txt"
  whole = label.read_text()
  label.write_text(whole.replace("random", "dancing"))
  with pytest.raises(RawDataError, match=f"{label}, line 2: '0512164800,dancing,' is not a clip's"):
    find()
  label.write_text(whole[:20])
  with pytest.raises(RawDataError, match=f"{label}, line 1: '0512164529,brushing ' is not a"):
    find()
  label.write_text(whole.partition("\n")[0] + "\n")
  with pytest.raises(RawDataError, match="no activityLabel.txt of subject 1 has a line for 05121"):
    find()
  label.write_text(whole)
  shutil.rmtree(tmp_path / "data3/0511124349")
  with pytest.raises(RawDataError, match="the skeletons of subject3_0511124349, but no images of"):
    find()
  assert len(find("skeleton")) == 4
  raw_cad.cad60(tmp_path / "copy", {"3/0511124349": "still"}, frames=3, kinds=("skeleton",))
  with pytest.raises(RawDataError, match="two different files for one clip: .*activityLabel.txt|"
                                         "two different files for one clip: .*0511124349.txt"):
    find()
  (tmp_path / "0511124349.txt").write_text("")
  with pytest.raises(RawDataError, match="0511124349.txt does not tell its subject"):
    find()


def test_mistakes_in_the_folder_of_cad120(tmp_path):
  def find():
    return cad120.find(str(tmp_path), **cad120.DATASET.variants["cropped"])
  with pytest.raises(RawDataError, match="holds no Subject1_annotations.*CAD-120.*nothing"):
    find()
  raw_cad.cad120(tmp_path, LONG, frames=1)
  assert len(find()) == 4
  shutil.rmtree(tmp_path / "Subject3_annotations")
  with pytest.raises(RawDataError, match="the images of subject3_1204142055, but no skeletons of"):
    find()
  raw_cad.cad120(tmp_path, ["3/taking_food/1204142055"], frames=1, kinds=("skeleton",))
  with pytest.raises(RawDataError, match="clip 1204142055 of subject 3 lies in a folder of "
                                         "taking_food too"):
    find()
  raw_cad.cad120(tmp_path, ["2/taking_food/1204142055"], frames=1, kinds=("skeleton",))
  with pytest.raises(RawDataError, match="is not a file of CAD-120 .subjects 1, 3, 4, 5; making"):
    find()


WHOLE = raw_cad.text(raw_cad.joints(3))
FIRST, SECOND, THIRD, END = WHOLE.splitlines(keepends=True)


@pytest.mark.parametrize("text, message", [
    ("", "has no END: it is truncated"),
    (FIRST + SECOND[:500], "has no END: it is truncated"),
    (END, "has no frame"),
    (FIRST + SECOND[:500] + "\n" + END, r"line 2: \d+ fields instead of 171"),
    (FIRST + "," + SECOND[1:].replace("300,", "left,", 1) + END, "line 2: .* fields instead of"),
    (FIRST + SECOND.replace(",300,", ",left,", 1) + END, "line 2: not made of numbers .*'left'"),
    (FIRST + FIRST + END, "line 2: frame 1 is there twice"),
    ("0" + FIRST[1:] + END, "line 1: frame 0 is there twice or no frame's number"),
    (raw_cad.text(np.zeros((2, 15, 3))), "no joint is usable in any of the 2 frames"),
    (raw_cad.text(raw_cad.joints(2) * 1000), "no joint is usable in any of the 2 frames"),
])
def test_malformed_skeletons_are_an_error_that_names_file_and_line(tmp_path, text, message):
  raw = raw_cad.cad60(tmp_path, {"1/0512164529": "still"}, kinds=("skeleton",))
  path = raw / "data1/0512164529.txt"
  path.write_text(text)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}.*fetch it again$"):
    preparing.encode(cad60, raw, "skeleton")


def test_malformed_images(tmp_path):
  raw = raw_cad.cad60(tmp_path, {"1/0512164529": "still"}, frames=2)
  path = raw / "data1/0512164529/RGB_2.png"
  whole = path.read_bytes()
  for data in (b"", whole[:-100]):
    path.write_bytes(data)
    with pytest.raises(RawDataError, match=f"^{path} is not a readable image.*fetch it again"):
      preparing.encode(cad60, raw)
