"""Annotation files of PYSKL and MMAction2; and that nothing in a pickle is executed."""
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data import catalogue, own
from actionjax.data.clips import protocols
from actionjax.data.formats import plain_pickle
from actionjax.data.own import validation
from actionjax.errors import RawDataError, UserError
from tests import raw_own

ROOT = pathlib.Path(__file__).resolve().parent.parent


# ---- annotations ---------------------------------------------------------------------

@pytest.mark.parametrize("width, shape, layout", [
    (2, (2, 5, 17), "coco_17"), (3, (1, 4, 25), "kinect_v2_25"), (3, (2, 3, 20), "kinect_v1_20")])
def test_records_hold_the_annotations_numbers(tmp_path, width, shape, layout):
  content = raw_own.annotations(width=width, shape=shape)
  summary = raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", content),
                            tmp_path / "data")
  assert summary["protocols"] == {"xsub": {"train": 6, "test": 2}}
  dataset = raw_own.open_prepared(tmp_path / "data", "annotations:mine")
  assert dataset.info["layout"] == layout and dataset.info["class_names"] == ["0", "1"]
  field, other = ("pose2d", "pose3d") if width == 2 else ("pose3d", "pose2d")
  assert dataset.info["poses"] == [field] and dataset.info["modality"] == "none"
  found = raw_own.by_id(dataset)
  for given in content["annotations"]:
    record = found[given["frame_dir"]]
    np.testing.assert_array_equal(record[field], given["keypoint"].astype(np.float32))
    score = given.get("keypoint_score", np.ones(shape))
    np.testing.assert_array_equal(record["pose_score"], np.asarray(score, np.float32))
    assert record["label"] == given["label"] and record["num_frames"] == shape[1]
    assert not record["frames"] and not record[other].size
    if width == 2:
      points = given["keypoint"].astype(np.float32)
      np.testing.assert_array_equal(record["boxes"][:, :2], points.min((0, 2)))
      np.testing.assert_array_equal(record["boxes"][:, 2:], points.max((0, 2)))


def test_older_files_are_lists_named_by_their_part(tmp_path):
  content = raw_own.annotations(8)
  for part, rows in (("train", slice(0, 5)), ("val", slice(5, 8))):
    raw_own.dump(tmp_path / f"ntu60_xsub_{part}.pkl", content["annotations"][rows])
  # The same clips on other sides of another protocol, as these datasets come.
  raw_own.dump(tmp_path / "ntu60_xview_train.pkl", content["annotations"][::2])
  raw_own.dump(tmp_path / "ntu60_xview_val.pkl", content["annotations"][1::2])
  found, findings = raw_own.survey_annotations(tmp_path)
  assert not findings.all and len(found.clips) == 8
  ids = [one["frame_dir"] for one in content["annotations"]]
  assert found.splits == {
      "ntu60_xsub": {"train": set(ids[:5]), "test": set(ids[5:])},
      "ntu60_xview": {"train": set(ids[::2]), "test": set(ids[1::2])}}
  changed = dict(content["annotations"][0], label=1)
  raw_own.dump(tmp_path / "ntu60_xview_train.pkl", [changed])
  _, findings = raw_own.survey_annotations(tmp_path)
  assert "names two different annotations (ntu60_xsub_train.pkl and ntu60_xview_train.pkl)" in str(
      findings.errors[0])


def test_split_names(tmp_path):
  content = raw_own.annotations(6)
  ids = [one["frame_dir"] for one in content["annotations"]]
  content["split"] = {"train1": ids[:2], "test1": ids[2:], "train2": ids[3:], "test2": ids[:3],
                      "train": ids[:3], "val": ids[3:4], "test": ids[4:], "xset_train": ids[:1],
                      "xset_val": np.array(ids[1:]), "everything": ids, "one_train": ids + ["gone"]}
  found, findings = raw_own.survey_annotations(raw_own.dump(tmp_path / "a.pkl", content))
  assert found.splits["split1"] == {"train": set(ids[:2]), "test": set(ids[2:])}
  assert found.splits["split2"] == {"train": set(ids[3:]), "test": set(ids[:3])}
  assert found.splits["split"] == {"train": set(ids[:3]), "validation": {ids[3]},
                                   "test": set(ids[4:])}
  assert found.splits["xset"] == {"train": {ids[0]}, "test": set(ids[1:])}
  assert found.splits["one"] == {"train": set(ids)}
  assert found.info["ignored_splits"] == ["'everything'"] and not findings.errors
  expected = ("'everything' names neither a train, val nor test list", "lists 1 ids without",
              "split one: test: there is no clip to test on")
  assert len(findings.all) == 3
  for words, warning in zip(expected, findings.all):
    assert words in str(warning)


def test_lists_of_other_clips(tmp_path):
  content = raw_own.annotations(4)
  content["split"] = {"xsub_train": ["a"], "xsub_val": ["b"]}
  _, findings = raw_own.survey_annotations(raw_own.dump(tmp_path / "a.pkl", content))
  assert [str(error) for error in findings.errors] == [
      "split xsub: ids: none of them is the frame_dir of an annotation"]


def test_protocols_of_a_prepared_file(tmp_path):
  content = raw_own.annotations(8)
  ids = [one["frame_dir"] for one in content["annotations"]]
  content["split"] = {"train": ids[:4], "val": ids[4:6], "test": ids[6:7]}
  raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", content), tmp_path / "d")
  dataset = raw_own.open_prepared(tmp_path / "d", "annotations:mine")
  protocol = own.of_prepared(dataset).protocol("split")

  def clips(part):
    return dataset.index.clip_id[protocols.split(dataset.index, protocol, part, 0.5)].tolist()

  # The dataset's own validation clips, not half of the training side.
  assert clips("train") == clips("fit") == ids[:4]
  assert clips("validation") == ids[4:6] and clips("test") == ids[6:7]


def test_absent_persons_missing_joints_and_empty_clips(tmp_path):
  content = raw_own.annotations(4)
  first, second, third, _ = content["annotations"]
  first["keypoint"][1], first["keypoint_score"][1] = 0, 0
  second["keypoint"][0, 2, 3] = np.nan
  second["keypoint"][1, 0, 0, 1] = np.inf
  second["keypoint_score"][0, 1, 5] = 0
  third["keypoint"][:], third["keypoint_score"][:] = 0, 0
  lines = []
  raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", content), tmp_path / "data",
                  lines.append)
  dataset = raw_own.open_prepared(tmp_path / "data", "annotations:mine")
  found = raw_own.by_id(dataset)
  assert found["clip00"]["pose2d"].shape == (1, 5, 17, 2)
  record = found["clip01"]
  lost = [(0, 2, 3), (1, 0, 0), (0, 1, 5)]
  assert all(record["pose_score"][at] == 0 and not record["pose2d"][at].any() for at in lost)
  assert (record["pose_score"] > 0).sum() == record["pose_score"].size - 3
  # Kept, so that a test side is as long as others', with nobody in it.
  assert found["clip02"]["pose2d"].shape == (0, 5, 17, 2) and found["clip02"]["num_frames"] == 5
  assert dataset.info["notes"] == {"nonfinite": ["clip01"], "no_person": ["clip02"]}
  assert "no_person: 1 clips, such as clip02" in lines


def test_image_size_in_the_wrong_order_is_seen(tmp_path):
  content = raw_own.annotations(4, image_size=(30, 100))
  for one in content["annotations"][:2]:
    one["keypoint"][..., 0] = np.linspace(50, 99, 17, dtype=np.float16)
    one["keypoint"][..., 1] = np.linspace(5, 29, 17, dtype=np.float16)
  for one in content["annotations"][2:]:
    one["keypoint"][...] = 20  # fits either way
  content["annotations"][1]["img_shape"] = (100, 30)
  content["annotations"][3]["img_shape"] = (100, 30)
  path = raw_own.dump(tmp_path / "a.pkl", content)
  found = validation.validate("annotations", str(path), {}, 1)
  assert [str(finding) for finding in found.findings] == [
      "clip01: img_shape: (100, 30) must be (height, width), but by the coordinates it is "
      "(width, height), and is taken as that"]
  raw_own.prepare("annotations:mine", path, tmp_path / "data")
  dataset = raw_own.open_prepared(tmp_path / "data", "annotations:mine")
  assert dataset.info["notes"] == {"swapped_image_size": ["clip01"]}
  assert [dataset[i]["image_size"].tolist() for i in range(4)] == [
      [30, 100], [30, 100], [30, 100], [100, 30]]


@pytest.mark.parametrize("changes, message", [
    ({"keypoint": None}, "keypoint: is None, not a NumPy array"),
    ({"keypoint": [[1.0]]}, "keypoint: is a list, not a NumPy array"),
    ({"keypoint": np.zeros((5, 17, 2))}, r"keypoint: has shape \[5, 17, 2\], expected \[persons"),
    ({"keypoint": np.zeros((1, 5, 18, 2))}, "keypoint: has 18 joints; the layout has 17"),
    ({"keypoint": np.zeros((1, 0, 17, 2))}, r"keypoint: has shape \[1, 0, 17, 2\]"),
    ({"keypoint": np.array([["a"]])}, "keypoint: holds <U1, not numbers"),
    ({"keypoint_score": np.zeros((2, 5, 16))}, r"keypoint_score: is float64\[2, 5, 16\], expected"),
    ({"keypoint_score": 1.0}, "keypoint_score: is 1.0, not a NumPy array"),
    ({"total_frames": 6}, "total_frames: is 6, but keypoint has 5 frames"),
    ({"total_frames": "5"}, "total_frames: is '5', but"),
    ({"img_shape": (48,)}, "img_shape: must be .height, width., got"),
    ({"img_shape": (48, -64)}, r"img_shape: must be \(height, width\), got \(48, -64\)"),
    ({"img_shape": 10**5000}, "img_shape: must be .height, width., got a number of mor"),
])
def test_a_broken_annotation_is_named_and_may_be_left_out(tmp_path, changes, message):
  content = raw_own.annotations(8)
  content["annotations"][3].update(changes)
  path = raw_own.dump(tmp_path / "a.pkl", content)
  with pytest.raises(RawDataError, match=f"clip03: {message}"):
    raw_own.prepare("annotations:mine", path, tmp_path / "data")
  summary = raw_own.prepare("annotations:mine", path, tmp_path / "data", unreadable="skip",
                            max_unreadable=0.2)
  assert (summary["clips"], summary["skipped"]) == (7, 1)
  assert summary["protocols"]["xsub"] == {"train": 5, "test": 2}
  info = raw_own.open_prepared(tmp_path / "data", "annotations:mine").info
  assert info["unreadable"] == "skip" and info["max_unreadable"] == 0.2
  assert [clip for clip, _ in info["skipped"]] == ["clip03"]


@pytest.mark.parametrize("change, message", [
    (lambda c: c["annotations"][1].update(label="wave"), "clip01: label: 'wave' is not a class"),
    (lambda c: c["annotations"][1].update(label=-1), "clip01: label: -1 is not a class number"),
    (lambda c: c["annotations"][1].update(label=10**9), "clip01: label: 1000000000 is not a class"),
    (lambda c: c["annotations"][1].update(label=10**5000), "clip01: label: a number of more than"),
    (lambda c: c["annotations"][1].update(label=True), "clip01: label: True is not a class number"),
    (lambda c: c["annotations"][1].pop("label"), "clip01: label: is not there"),
    (lambda c: c["annotations"][1].update(frame_dir="../clip01"), "leads out of the folder"),
    (lambda c: c["annotations"][1].update(frame_dir="/etc/passwd"), "is absolute"),
    (lambda c: c["annotations"][1].update(frame_dir="C:\\clips"), "is absolute"),
    (lambda c: c["annotations"][1].update(frame_dir=5), "annotation 1: frame_dir: 5 is not text"),
    (lambda c: c["annotations"].__setitem__(1, "x"), "annotation 1: annotation: is a str, not a"),
    (lambda c: c["annotations"].append(c["annotations"][0] | {"label": 1}),
     "clip00: frame_dir: names two different"),
    (lambda c: c["split"].update(xsub_val=c["split"]["xsub_train"]), "is in test and in another"),
    (lambda c: c["split"].update(xsub_val=3), "split xsub_val: must be a list of ids"),
    (lambda c: c.update(split=3), "is not an annotation file"),
    (lambda c: c.pop("annotations"), "is not an annotation file"),
    (lambda c: [a.pop("keypoint") for a in c["annotations"]], "no annotation has a keypoint array"),
])
def test_mistakes_in_a_file_are_named(tmp_path, change, message):
  content = raw_own.annotations(4)
  change(content)
  path = raw_own.dump(tmp_path / "a.pkl", content)
  with pytest.raises(RawDataError, match=message) as error:
    raw_own.prepare("annotations:mine", path, tmp_path / "data")
  assert "\n" not in str(error.value)
  found = validation.validate("annotations", str(path), {}, 1)
  assert len(found.errors) >= 1


def test_all_mistakes_are_listed_not_only_the_first(tmp_path):
  content = raw_own.annotations(6)
  content["annotations"][0]["label"] = "x"
  content["annotations"][2].update(keypoint_score=None, total_frames=9)
  content["annotations"][2]["keypoint"] = np.zeros((2, 5, 16, 2))
  content["annotations"][2]["img_shape"] = (0, 0)
  content["annotations"][4]["keypoint_score"] = np.zeros(3)
  content["annotations"][5]["frame_dir"] = "../x"
  path = raw_own.dump(tmp_path / "a.pkl", content)
  found = validation.validate("annotations", str(path), {}, 2)
  # The id that leads out is not listed, so that the split's own is without an annotation.
  assert [(f.clip, f.field, f.warning) for f in found.findings if not f.warning] == [
      ("a.pkl, annotation 5", "frame_dir", False), ("clip00", "label", False),
      ("clip02", "img_shape", False), ("clip02", "keypoint", False),
      ("clip04", "keypoint_score", False)]


def test_layouts_are_guessed_or_asked_for(tmp_path):
  ambiguous = raw_own.dump(tmp_path / "a.pkl", raw_own.annotations(4, shape=(1, 3, 15)))
  with pytest.raises(UserError, match="15 joints of 2 coordinates may be of several layouts: give "
                                      "--layout; known: .*jhmdb_15"):
    raw_own.survey_annotations(ambiguous)
  assert raw_own.survey_annotations(ambiguous, layout="jhmdb_15")[0].facts.layout == "jhmdb_15"
  with pytest.raises(UserError, match="15 joints a person, but the layout coco_17 has 17"):
    raw_own.survey_annotations(ambiguous, layout="coco_17")
  with pytest.raises(UserError, match="unknown joint layout 'x'; known: "):
    raw_own.survey_annotations(ambiguous, layout="x")
  # 17 joints of 3 numbers may be COCO's with scores, or Human3.6M's.
  with pytest.raises(UserError, match="17 joints of 3 coordinates"):
    raw_own.survey_annotations(raw_own.dump(tmp_path / "b.pkl", raw_own.annotations(4, width=3)))
  for (joints, width), name in __import__(
      "actionjax.data.clips.skeleton_arrays", fromlist=["x"]).GUESSES.items():
    assert skeletons.layout(name).num_joints == joints and width in (2, 3)


def test_pixels_for_metres_are_seen(tmp_path):
  content = raw_own.annotations(4, shape=(1, 3, 25), width=3)
  content["annotations"][2]["keypoint"][0, 1, 2] = 640
  for one in content["annotations"][:2] + content["annotations"][3:]:
    one["keypoint"] = one["keypoint"] / 40
  found = validation.validate(
      "annotations", str(raw_own.dump(tmp_path / "a.pkl", content)), {}, 1)
  assert [f.clip for f in found.findings] == ["clip02"]
  assert "has a coordinate of 640, which can be no metres" in str(found.findings[0])


def test_class_names_and_ntu_ids(tmp_path):
  ids = [f"S{s:03d}C{c:03d}P{p:03d}R001A{a:03d}" for s, c, p, a in
         ((1, 1, 4, 1), (1, 2, 7, 2), (5, 3, 9, 3), (6, 1, 11, 1))]
  content = {"annotations": [raw_own.annotation(name, i % 3) for i, name in enumerate(ids)]}
  path = raw_own.dump(tmp_path / "a.pkl", content)
  (tmp_path / "names.txt").write_text("drink\neat\n\nbrush\n")
  found, _ = raw_own.survey_annotations(path, class_names=str(tmp_path / "names.txt"))
  assert found.facts.class_names == ("drink", "eat", "brush")
  assert [(c.setup, c.camera, c.subject) for c in found.clips] == [
      (1, 1, 4), (1, 2, 7), (5, 3, 9), (6, 1, 11)]
  # Without lists: subjects in ascending order, the second, fifth, ... tested.
  assert found.splits == {"cross_subject": {"train": {ids[0], ids[2], ids[3]}, "test": {ids[1]}}}
  (tmp_path / "names.txt").write_text("drink\neat\n")
  with pytest.raises(UserError, match="has 2 different names for the labels 0 to 2"):
    raw_own.survey_annotations(path, class_names=str(tmp_path / "names.txt"))
  with pytest.raises(UserError, match="is not a readable text file"):
    raw_own.survey_annotations(path, class_names=str(tmp_path / "none.txt"))


def test_a_linked_file_is_refused(tmp_path):
  raw_own.dump(tmp_path / "out/a.pkl", raw_own.annotations(4))
  (tmp_path / "in").mkdir()
  raw_own.dump(tmp_path / "in/b.pkl", raw_own.annotations(4))
  (tmp_path / "in/a.pkl").symlink_to(tmp_path / "out/a.pkl")
  _, findings = raw_own.survey_annotations(tmp_path / "in")
  assert [str(f) for f in findings.errors] == [
      f"a.pkl: path: is a link out of {tmp_path / 'in'}; put the file itself there"]


def test_other_content_prepares_anew(tmp_path):
  content = raw_own.annotations(4)
  path = raw_own.dump(tmp_path / "a.pkl", content)
  assert raw_own.prepare("annotations:mine", path, tmp_path / "data")["done"]
  assert not raw_own.prepare("annotations:mine", path, tmp_path / "data")["done"]
  size = path.stat().st_size
  content["annotations"][1]["keypoint"][0, 0, 0, 0] += 1
  raw_own.dump(path, content)
  assert path.stat().st_size == size
  assert raw_own.prepare("annotations:mine", path, tmp_path / "data")["done"]


@pytest.mark.slow
def test_jhmdb_through_the_command(real_data, tmp_path):
  source = real_data / "jhmdb"
  if not source.is_dir():
    pytest.skip("no JHMDB among the real data")
  parts = {part: plain_pickle.load(source / f"GT_{part}_1.pkl") for part in ("train", "test")}
  names = sorted(set(parts["train"]["label"]))
  made, split = [], {"train1": [], "test1": []}
  for part, content in parts.items():
    for i, (pose, label) in enumerate(zip(content["pose"], content["label"])):
      made.append({"frame_dir": f"{part}{i:03d}", "label": names.index(label),
                   "total_frames": len(pose), "img_shape": (240, 320), "keypoint": pose[None]})
      split[f"{part}1"].append(f"{part}{i:03d}")
  raw_own.dump(tmp_path / "jhmdb.pkl", {"annotations": made, "split": split})
  (tmp_path / "names.txt").write_text("\n".join(names))
  flags = ["--dataset=annotations", f"--raw_dir={tmp_path / 'jhmdb.pkl'}", "--layout=jhmdb_15",
           f"--class_names={tmp_path / 'names.txt'}", "--workers=1"]
  run = {"cwd": ROOT, "capture_output": True, "text": True, "check": False}
  command = [sys.executable, "-m", "actionjax.prepare"]
  result = subprocess.run([*command, *flags, "--name=jhmdb", f"--data_dir={tmp_path}"], **run)
  assert result.returncode == 0, result.stderr
  assert "split1: 433 train, 176 test" in result.stdout
  dataset = catalogue.open_dataset(str(tmp_path), "annotations:jhmdb")
  assert dataset.info["class_names"] == names and len(dataset) == 609
  record = raw_own.by_id(dataset)["test005"]
  np.testing.assert_array_equal(record["pose2d"][0],
                                np.asarray(parts["test"]["pose"][5], np.float32))
  result = subprocess.run([*command, *flags, "--validate",
                           f"--picture={tmp_path / 'picture.png'}"], **run)
  assert result.returncode == 0 and "no errors" in result.stdout, result.stderr
  lengths = [len(one["keypoint"][0]) for one in made]
  assert f"609 clips, 609 of them readable, {sum(lengths)} frames" in result.stdout
  assert f"least {min(lengths)}, median {np.median(lengths):g}" in result.stdout
  assert (tmp_path / "picture.png").read_bytes()[:4] == b"\x89PNG"
  assert json.loads((dataset.path / "info.json").read_text())["skipped"] == []
