"""Videos in folders or tables: what is found, what is refused, what prepares anew."""
import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.data.formats.findings import Findings
from actionjax.data.formats.images import decode_frame
from actionjax.data.own import columns, folder, listing, validation
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError, UserError
from tests import raw_own
from tests.conftest import ROOT

# ---- what there is -------------------------------------------------------------------

def test_a_folder_a_class(tmp_path):
  raw_own.folder(tmp_path / "raw", ("wave", "clap"))
  raw_own.video(tmp_path / "raw/wave/deep/er/9.MP4", 4)
  (tmp_path / "raw/notes.txt").write_text("x")
  (tmp_path / "raw/.hidden.mp4").write_text("x")
  summary = raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data")
  assert summary["classes"] == {"clap": 3, "wave": 4}
  dataset = raw_own.open_prepared(tmp_path / "data")
  assert dataset.index.clip_id.tolist() == ["clap/0", "clap/1", "clap/2", "wave/0", "wave/1",
                                            "wave/2", "wave/deep/er/9"]
  assert dataset.index.num_frames.tolist() == [6, 7, 8, 6, 7, 8, 4]
  # A third of each class is tested, a quarter of four rounded: 1 of 3, 1 of 4.
  assert summary["protocols"] == {"fraction": {"train": 5, "test": 2}}
  assert dataset.info["layout"] == "" and dataset.info["modality"] == "colour"
  record = raw_own.by_id(dataset)["wave/1"]
  assert record["label"] == 1 and record["fps"] == 10 and not record["boxes"].size
  assert abs(raw_own.grey(decode_frame(record["frames"][5])) - 90) < 8


def test_train_and_test_folders(tmp_path):
  for part, clips in (("train", 3), ("Val", 1), ("test", 2)):
    raw_own.folder(tmp_path / "raw" / part, clips=clips)
  summary = raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data")
  assert summary["classes"] == {"clap": 6, "wave": 6}
  assert summary["protocols"] == {"split": {"train": 6, "validation": 2, "test": 4}}


def test_clips_beside_train_and_test(tmp_path):
  for part in ("Training", "testing"):
    raw_own.folder(tmp_path / "raw" / part, clips=2)
  (tmp_path / "raw/info").mkdir()
  (tmp_path / "raw/info/readme.txt").write_text("x")
  summary = raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data")
  assert summary["protocols"] == {"split": {"train": 4, "test": 4}}
  raw_own.video(tmp_path / "raw/info/9.mp4", 3)
  with pytest.raises(RawDataError, match="info: split: has clips beside Training and testing"):
    raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data")


def test_an_annotation_is_one_clips(tmp_path):
  raw_own.folder(tmp_path / "raw", clips=2)
  content = {"split": {"train": ["0"], "test": ["1"]},
             "annotations": [raw_own.annotation(str(i), 0, seed=i) for i in range(2)]}
  raw_own.dump(tmp_path / "poses.pkl", content)
  with pytest.raises(RawDataError, match="wave/0: skeletons: and clap/0 would both get those of "
                                         "frame_dir 0"):
    raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data",
                    options={"skeletons": str(tmp_path / "poses.pkl")})


def test_the_lists_of_an_annotation_file_are_protocols(tmp_path):
  raw_own.folder(tmp_path / "raw", clips=2)
  names = ["clap/0", "clap/1", "wave/0", "wave/1"]
  content = {"split": {"mine_train": names[:3], "mine_val": names[3:], "two_train": ["wave/1"],
                       "two_val": ["clap/1", "elsewhere"]},
             "annotations": [raw_own.annotation(name, 0, seed=i) for i, name in enumerate(names)]}
  raw_own.dump(tmp_path / "poses.pkl", content)
  summary = raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data",
                            options={"skeletons": str(tmp_path / "poses.pkl")})
  assert summary["protocols"] == {"mine": {"train": 3, "test": 1}, "two": {"train": 1, "test": 1}}


@pytest.mark.parametrize("pose, factor, message", [
    ("pose2d", 1 / 64, "a/0: pose2d: has no coordinate above"),
    ("pose3d", 1000, "a/0: pose3d: has a coordinate of"),
    ("pose2d", np.nan, "a/0: skeletons: has nobody")])
def test_coordinates_of_other_units_are_doubted(tmp_path, pose, factor, message):
  raw_own.folder(tmp_path, classes=("a", "b"), clips=1)
  for name in ("a", "b"):
    points = raw_own.poses(width=3 if pose == "pose3d" else 2) / (10 if pose == "pose3d" else 1)
    np.savez(tmp_path / name / "0.npz", **{pose: points * (factor if name == "a" else 1)},
             layout="coco_17")
  found = [str(one) for one in validation.validate("folder", str(tmp_path), {}, 1).findings]
  assert any(one.startswith(message) for one in found), found
  assert not any(one.startswith("b/0") and "frames" not in one for one in found), found


def test_a_table(tmp_path):
  for i in range(6):
    raw_own.video(tmp_path / f"raw/v/{i}.mp4", 3)
  rows = [(f"v/{i}.mp4", f"class {i % 2}", name, split, camera) for i, (name, split, camera) in
          enumerate((("bob", "train", "1"), ("ann", "train", "1"), ("bob", "Train", "2"),
                     ("eve", "val", "1"), ("ann", "test", "2"), ("dan", "test", "2")))]
  raw_own.table(tmp_path / "raw/clips.csv", rows, ("Path", "label", "subject", "split", "camera"))
  lines = []
  summary = raw_own.prepare("folder:mine", tmp_path / "raw/clips.csv", tmp_path / "data",
                            lines.append)
  dataset = raw_own.open_prepared(tmp_path / "data")
  assert dataset.info["subjects"] == ["ann", "bob", "dan", "eve"] and (
      "cameras" not in dataset.info)
  assert dataset.index.subject.tolist() == [1, 0, 1, 3, 0, 2]
  assert dataset.index.camera.tolist() == [1, 1, 2, 1, 2, 2]
  # In ascending order the second and the fifth subject are tested: bob, of four.
  assert summary["protocols"] == {"split": {"train": 3, "validation": 1, "test": 2},
                                  "cross_subject": {"train": 4, "test": 2}}
  assert "split: 3 train, 1 validation, 2 test" in lines


def test_protocols_follow_from_the_columns():
  ids, labels = [f"c{i}" for i in range(40)], [i // 20 for i in range(40)]
  found = columns.protocols(ids, labels, [0] * 40, None)["fraction"]
  assert {part: len(clips) for part, clips in found.items()} == {"train": 28, "test": 12}
  assert sum(int(clip[1:]) < 20 for clip in found["test"]) == 6
  more = columns.protocols([*ids, "new"], [*labels, 0], [0] * 41, None)["fraction"]
  assert len(found["test"] ^ (more["test"] - {"new"})) <= 1
  for subjects, tested in (((7, 3), {7}), ((5, 1, 9), {5}), ((1, 2, 3, 4, 5, 6), {2, 5})):
    names = [f"s{s}" for s in subjects]
    sides = columns.protocols(names, [0] * len(names), list(subjects), None)
    assert list(sides) == ["cross_subject"]
    assert sides["cross_subject"]["test"] == {f"s{s}" for s in tested}
  findings = Findings()
  assert columns.parts(["a", "b"], ["train", "val"], findings) == {"train": {"a"}, "test": {"b"}}
  assert not findings.all
  columns.parts(["a", "b"], ["train", "train"], findings)
  assert [str(f) for f in findings.all] == ["split: test: no clip has this part"]
  assert columns.class_names(["10", "9", "b"]) == ("10", "9", "b")
  assert columns.class_names(["10", "9"]) == ("9", "10")


@pytest.mark.parametrize("text, message", [
    ("path\na.mp4\n", "has the columns path; expected path, label, and any of subject, split"),
    ("path,label,subjet\n", "has the columns path, label, subjet; expected"),
    ("path,label,label\n", "has the columns path, label, label"),
    ("", "has the columns none"),
    ("path,label\na.mp4\n", "line 2: columns: has not the 2 columns of the first line"),
    ("path,label\na.mp4,b,c\n", "line 2: columns: has not the 2 columns"),
    ("path,label\n../a.mp4,b\n", "line 2: path: '../a.mp4' leads out of the folder"),
    ("path,label\nx/../../a.mp4,b\n", "leads out of the folder"),
    ("path,label\n/etc/passwd,b\n", "line 2: path: '/etc/passwd' is absolute"),
    ("path,label\nhttp://x/a.mp4,b\n", "'http://x/a.mp4' is absolute"),
    ("path,label\nC:\\a.mp4,b\n", "is absolute"),
    ("path,label\nout.mp4,b\n", "out.mp4: path: is a link out of"),
    ("path,label\nnone.mp4,b\n", "none.mp4: path: is not a file of"),
    ("path,label\ndir,b\n", "dir: path: is not a file"),
    ("path,label\n.,b\n", "line 2: path: names no file"),
    ("path,label\n,b\n", "line 2: path: '' is empty"),
    ("path,label\na.mp4,\n", "line 2: label: '' is not the name of a class"),
    ('path,label\na.mp4,"x\ny"\n', "label: .* is not the name of a class"),
    ("path,label\na.mp4,x\na.mp4,y\n", "a.mp4: path: is listed twice"),
    ("path,label\na.mp4,x\n./a.avi,y\n", "a.avi: path: and a.mp4 claim one clip id"),
    ("path,label,split\na.mp4,x,train\nb.mp4,y,dev2\n", "b: split: must be one of train, val"),
    ("path,label,split\na.mp4,x,train\nb.mp4,y,\n", "b: split: is empty, but other clips have"),
    ("path,label,subject\na.mp4,x,1\nb.mp4,y,\n", "b: subject: is empty"),
    ("path,label\na.mp4,x\nb.mp4,x\n", r"label: there is one class only \(x\)"),
    ("path,label\n" + "x" * 5000 + ",b\n", "cannot be read"),
    (b"path,label\n\xff\xfe,b\n", "is not a CSV table in UTF-8"),
    (b"path,label\n\x00,b\n", "is not a CSV table|is empty or holds a zero byte"),
    ('path,label\n"a.mp4,b\n', "is not a CSV table in UTF-8"),
])
def test_mistakes_in_a_table_are_named(tmp_path, text, message):
  raw = tmp_path / "raw"
  (raw / "dir").mkdir(parents=True)
  for name in ("a.mp4", "a.avi", "b.mp4"):
    (raw / name).write_bytes(b"x")
  (tmp_path / "secret.mp4").write_bytes(b"x")
  (raw / "out.mp4").symlink_to(tmp_path / "secret.mp4")
  (raw / "clips.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
  with pytest.raises(RawDataError, match=message) as error:
    raw_own.prepare("folder:mine", raw / "clips.csv", tmp_path / "data")
  assert "\n" not in str(error.value)
  assert not (tmp_path / "data").exists()


def test_all_mistakes_of_a_table_are_listed_and_drawn_nothing_prepared(tmp_path):
  raw = tmp_path / "raw"
  raw_own.folder(raw)
  raw_own.halve(raw_own.video(raw / "half.mp4", 20))
  np.savez(raw / "clap/0.npz", pose2d=raw_own.poses(0, (1, 6, 17)))
  np.savez(raw / "clap/1.npz", pose2d=raw_own.poses(0, (1, 7, 16)), pose_score=np.ones(3))
  np.savez(raw / "clap/2.npz", pose3d=raw_own.poses(0, (1, 8, 17), width=3), layout="x")
  rows = [("clap/0.mp4", "clap"), ("clap/1.mp4", "clap"), ("clap/2.mp4", "clap"),
          ("wave/0.mp4", "wave"), ("gone.mp4", "wave"), ("../x.mp4", "wave"), ("half.mp4", "wave")]
  listed = raw_own.table(raw / "clips.csv", rows)
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", f"--raw_dir={listed}",
       "--validate", "--workers=1", f"--picture={tmp_path / 'a.png'}"],
      cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 1
  errors = [line[7:] for line in result.stdout.splitlines() if line.startswith("ERROR: ")]
  starts = ("clips.csv, line 7: path: '../x.mp4' leads out", "gone.mp4: path: is not a file of",
            "clap/1: pose2d: has 16 joints; the layout has 17", "clap/1: pose_score: ",
            "clap/2: skeletons: has pose3d, other clips have pose2d", "clap/2: layout: is 'x', but",
            "half: video: ")
  for start in starts:
    assert sum(line.startswith(start) for line in errors) == 1, (start, errors)
  assert len(errors) <= len(starts) + 1
  assert result.stderr == f"error: {len(errors)} errors in 5 clips or files; they are listed " \
                          "above\n"
  assert "5 clips, 2 of them readable, 12 frames" in result.stdout
  assert "clap       3" in result.stdout and "wave       2" in result.stdout
  assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"


def test_mistakes_in_a_tree_are_named(tmp_path):
  raw = raw_own.folder(tmp_path / "raw")
  (raw / "0.mp4").write_bytes(b"x")
  (raw / "clap/0.avi").write_bytes(b"x")
  np.savez(raw / "clap/other.npz", pose2d=raw_own.poses())
  (tmp_path / "outside").mkdir()
  (raw / "linked").symlink_to(tmp_path / "outside")
  (tmp_path / "outside/x.mp4").write_bytes(b"x")
  (raw / "wave/linked.mp4").symlink_to(tmp_path / "outside/x.mp4")
  (raw / "wave/7.doc").write_bytes(b"x")
  (raw / "jump").mkdir()
  findings = Findings()
  folder.survey(str(raw), findings, **folder.OPTIONS)
  assert {(f.clip, f.message.split(";")[0], f.warning) for f in findings.all} == {
      ("0.mp4", "lies in no class's folder", False),
      ("clap/0.mp4", "and clap/0.avi claim one clip id", False),
      ("clap/other.npz", "has no video of the same name beside it", False),
      ("linked", "is a link to a folder", False),
      ("jump", "is a folder without a clip", True),
      ("wave/linked.mp4", f"is a link out of {raw}", False),
      ("wave/7.doc", "is not a video by its name: passed over", True)}


@pytest.mark.skipif(sys.platform != "linux", reason="needs names that are no UTF-8")
def test_names_that_are_not_utf_8(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1)
  os.rename(raw / "wave/0.mp4", os.fsencode(raw / "wave") + b"/caf\xe9.mp4")
  with pytest.raises(RawDataError, match=r"wave/caf\\udce9.mp4: path: is not valid UTF-8"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")
  found = validation.validate("folder", str(raw), {}, 1)
  print(*found.findings)  # would raise if it could not be encoded


def test_folders_that_are_none(tmp_path):
  for raw, message in ((tmp_path / "none", "is not a folder; --raw_dir names"),
                       (tmp_path, "holds no clips: expected a folder a class")):
    with pytest.raises(RawDataError, match=message):
      raw_own.prepare("folder:mine", raw, tmp_path / "data")
  for name in ("a b", "../x", "x" * 65, "ä", "-x"):
    with pytest.raises(UserError, match="cannot name a dataset"):
      raw_own.prepare(f"folder:{name}", tmp_path, tmp_path / "data")
  with pytest.raises(UserError, match="folder is a kind of dataset: write folder:NAME"):
    raw_own.prepare("folder", tmp_path, tmp_path / "data")


def test_a_data_dir_that_cannot_be_written(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1)
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot write to .*file"):
    raw_own.prepare("folder:mine", raw, tmp_path / "file")
  if sys.platform == "linux":
    with pytest.raises(UserError, match="cannot write to /proc.*choose another --data_dir"):
      raw_own.prepare("folder:mine", raw, "/proc/self/actionjax")


# ---- unreadable clips, fingerprints --------------------------------------------------

def test_unreadable_clips_are_left_out_where_that_is_asked_for(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=4)
  whole_file = (raw / "wave/2.mp4").read_bytes()
  (raw / "wave/2.mp4").write_bytes(whole_file[:600])
  with pytest.raises(RawDataError, match="wave/2.mp4 .*; --unreadable=skip leaves such clips out"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")
  with pytest.raises(UserError, match="1 of 8 clips cannot be read, more than "
                                      "--max_unreadable=0.05 allows; the first is wave/2: "):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip")
  lines = []
  summary = raw_own.prepare("folder:mine", raw, tmp_path / "data", lines.append,
                            unreadable="skip", max_unreadable=0.2)
  assert (summary["clips"], summary["skipped"]) == (7, 1)
  assert any(line.startswith("left out: wave/2: ") for line in lines)
  info = raw_own.open_prepared(tmp_path / "data").info
  assert info["unreadable"] == "skip" and [clip for clip, _ in info["skipped"]] == ["wave/2"]
  # Nothing to do, and then again with the file mended.
  again = raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip",
                          max_unreadable=0.2)
  assert not again["done"] and again["skipped"] == 1
  with pytest.raises(RawDataError, match="wave/2.mp4"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")
  assert len(raw_own.open_prepared(tmp_path / "data")) == 7
  (raw / "wave/2.mp4").write_bytes(whole_file)
  summary = raw_own.prepare("folder:mine", raw, tmp_path / "data")
  assert (summary["done"], summary["clips"], summary["skipped"]) == (True, 8, 0)
  for wrong in ({"unreadable": "ignore"}, {"max_unreadable": 1.0}, {"max_unreadable": -0.1}):
    with pytest.raises(UserError, match="--(max_)?unreadable must"):
      raw_own.prepare("folder:mine", raw, tmp_path / "data", **wrong)


def test_skipped_clips_survive_an_interruption(tmp_path, monkeypatch):
  raw = raw_own.folder(tmp_path / "raw", clips=3)
  (raw / "clap/0.mp4").write_bytes(b"broken")
  encode, calls = folder.encode, []

  def failing(clip, **options):
    calls.append(clip.clip_id)
    if len(calls) > 3:
      raise KeyboardInterrupt
    return encode(clip, **options)

  monkeypatch.setattr(folder, "encode", failing)
  options = dict(unreadable="skip", max_unreadable=0.5)
  with pytest.raises(KeyboardInterrupt):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", **options)
  monkeypatch.undo()
  raw_own.prepare("folder:mine", raw, tmp_path / "data", **options)
  raw_own.prepare("folder:mine", raw, tmp_path / "whole", **options)
  first, second = (raw_own.open_prepared(tmp_path / name) for name in ("data", "whole"))
  assert first.info == second.info and len(first.info["skipped"]) == 1
  for shard in first.info["shards"]:
    assert (first.path / shard["file"]).read_bytes() == (second.path / shard["file"]).read_bytes()


def test_what_prepares_anew(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1, size=(320, 240), codec="mjpeg", pixels="yuvj420p")
  rows = [["clap/0.mp4", "clap", "1"], ["wave/0.mp4", "wave", "2"]]
  listed = raw_own.table(raw / "a.csv", rows, ("path", "label", "subject"))

  def done(**kwargs):
    return raw_own.prepare("folder:mine", listed, tmp_path / "data", **kwargs)["done"]

  assert done() and not done()
  os.utime(raw / "clap/0.mp4")  # its time alone says nothing
  assert not done()
  rows[1][2] = "3"
  raw_own.table(listed, rows, ("path", "label", "subject"))
  assert done()
  data = bytearray((raw / "clap/0.mp4").read_bytes())
  for at in (100, len(data) - 100):  # content of the same length
    data[at] ^= 1
    (raw / "clap/0.mp4").write_bytes(data)
    clips = folder.survey(str(listed), Findings(), **folder.OPTIONS).clips
    found = preparation.fingerprint(clips)
    data[at] ^= 1
    (raw / "clap/0.mp4").write_bytes(data)
    assert found != preparation.fingerprint(
        folder.survey(str(listed), Findings(), **folder.OPTIONS).clips)
  assert done(options={"size": 32})


# ---- parsers -------------------------------------------------------------------------

def _mutated_tables(tmp_path_factory, examples):
  raw = raw_own.folder(tmp_path_factory.mktemp("raw"), clips=2)
  np.savez(raw / "clap/0.npz", pose2d=raw_own.poses())
  rows = [(f"{name}/{i}.mp4", name, i, ("train", "test")[i], 1)
          for name in ("clap", "wave") for i in range(2)]
  original = raw_own.table(raw / "a.csv", rows, listing.COLUMNS).read_bytes()
  archive = (raw / "clap/0.npz").read_bytes()

  @hypothesis.settings(max_examples=examples, deadline=None,
                       suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(positions=st.lists(st.integers(0, 10**6), max_size=4),
                    values=st.lists(st.integers(0, 255) | st.sampled_from(list(b'",\n\\./\0')),
                                    min_size=4, max_size=4),
                    cut=st.none() | st.integers(0, 10**6), npz=st.booleans())
  def read(positions, values, cut, npz):
    data = archive if npz else original
    data = raw_own.mutations(data, positions, values, cut)
    (raw / "a.csv").write_bytes(original if npz else data)
    (raw / "clap/0.npz").unlink()
    (raw / "clap/0.npz").write_bytes(data if npz else archive)
    findings = Findings()
    try:
      found = folder.survey(str(raw / "a.csv"), findings, **folder.OPTIONS)
      for clip in found.clips[:1]:
        folder.examine(clip, findings)
        folder.encode(clip, **folder.OPTIONS)
    except UserError as error:
      assert "\n" not in str(error)
    assert all("\n" not in str(finding) for finding in findings.all)

  read()


@pytest.mark.filterwarnings("ignore")
def test_mutated_tables_and_skeletons_raise_the_documented_error(tmp_path_factory):
  _mutated_tables(tmp_path_factory, 150)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_tables_and_skeletons(tmp_path_factory):
  _mutated_tables(tmp_path_factory, 1500)
