"""The interchange format: exact round trips, and files that cannot be trusted."""
import hashlib
import json
import pathlib
import shutil
import zipfile

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.data import catalogue
from actionjax.data.clips import protocols
from actionjax.data.clips.record import complete
from actionjax.data.clips.skeleton_arrays import Skeletons
from actionjax.data.formats import plain_npz
from actionjax.data.formats.findings import Findings
from actionjax.data.own import interchange as kind
from actionjax.data.own import interchange_files, validation
from actionjax.data.preparing import export
from actionjax.errors import RawDataError, UserError
from tests import preparing, raw_own, raw_utd

JOINTS = 20


def made_clips(count: int = 6, seed: int = 0) -> list[interchange_files.Clip]:
  """Clips of 0, 1 or 2 persons and 3, 4, ... frames; a tenth of the joints missing."""
  rng = np.random.default_rng(seed)
  clips = []
  for i in range(count):
    shape = (i % 3, 3 + i, JOINTS)
    score = (rng.uniform(size=shape) > 0.1).astype(np.float32) * rng.uniform(0.5, 1, shape)
    if shape[0]:
      score[:, 0, 0] = 1
    score = score.astype(np.float32)
    there = score[..., None] > 0
    clips.append(interchange_files.Clip(
        f"c{i:02d}", i % 2,
        Skeletons(np.where(there, rng.normal(size=(*shape, 3)), 0).astype(np.float32),
                  np.where(there, rng.uniform(1, 99, (*shape, 2)), 0).astype(np.float32), score,
                  (240, 320) if i else None),
        subject=i % 3, camera=i % 2, setup=i, fps=30.0 if i else 0.0))
  return clips


HEADER = interchange_files.Header(("clap", "wave ä"), "kinect_v1_20", ("xsub", "own"))
SPLITS = np.array([[1, 1, 1, 3, 3, 0], [1, 2, 3, 1, 1, 3]], np.uint8)


def write(folder, clips=None, header=HEADER, splits=SPLITS) -> pathlib.Path:
  interchange_files.write(folder, header, made_clips() if clips is None else clips, splits)
  return pathlib.Path(folder)


def read(folder, **kwargs):
  findings = Findings()
  return interchange_files.Reader(folder, findings, **kwargs), findings


def test_round_trip_is_exact_and_files_are_the_same_bytes(tmp_path):
  write(tmp_path / "a")
  write(tmp_path / "b")
  for name in ("dataset.json", "skeletons.npz"):
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
  assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["dataset.json", "skeletons.npz"]
  reader, findings = read(tmp_path / "a", check_sum=True)
  assert not findings.all and reader.header == HEADER and reader.poses == ("pose3d", "pose2d")
  np.testing.assert_array_equal(reader.splits, SPLITS)
  for i, clip in enumerate(made_clips()):
    given = reader.skeletons(i)
    for name in ("pose3d", "pose2d", "score"):
      np.testing.assert_array_equal(getattr(given, name), getattr(clip.skeletons, name))
      assert getattr(given, name).dtype == np.float32
    assert given.image_size == clip.skeletons.image_size
    for name in ("clip_id", "label", "subject", "camera", "setup", "fps"):
      assert reader.columns[name][i] == getattr(clip, name)


def test_numpy_reads_the_documented_arrays(tmp_path):
  write(tmp_path)
  header = json.loads((tmp_path / "dataset.json").read_text())
  data = (tmp_path / "skeletons.npz").read_bytes()
  assert header["sha256"] == hashlib.sha256(data).hexdigest()
  assert (header["format"], header["version"]) == ("actionjax-skeletons", 1)
  assert header["joints"][3] == "head" and len(header["joints"]) == JOINTS
  with np.load(tmp_path / "skeletons.npz", allow_pickle=False) as arrays:
    rows = [(i % 3) * (3 + i) for i in range(6)]
    assert arrays["pose3d"].shape == (sum(rows), JOINTS, 3)
    assert arrays["clip_id"].tolist() == [f"c{i:02d}" for i in range(6)]
    # Clip 2 has two persons of five frames; its second person's first row is its sixth.
    second = made_clips()[2].skeletons
    np.testing.assert_array_equal(arrays["pose2d"][sum(rows[:2]) + 5], second.pose2d[1, 0])


def test_files_written_with_numpy_alone_are_read(tmp_path):
  """The format as its documentation describes it, compressed, with nothing optional."""
  (tmp_path / "dataset.json").write_text(json.dumps({
      "format": "actionjax-skeletons", "version": 1, "class_names": ["a", "b"],
      "layout": "coco_17", "joints": None}))
  pose = np.random.default_rng(0).uniform(1, 50, (7, 17, 2)).astype(np.float32)
  np.savez_compressed(
      tmp_path / "skeletons.npz", clip_id=np.array(["x", "y"]), label=np.array([1, 0]),
      num_frames=np.array([3, 4]), num_persons=np.array([1, 1]), pose2d=pose,
      pose_score=np.ones((7, 17), np.float32))
  summary = raw_own.prepare("interchange:x", tmp_path, tmp_path / "data")
  assert summary["classes"] == {"a": 1, "b": 1}
  dataset = catalogue.open_dataset(str(tmp_path / "data"), "interchange:x")
  np.testing.assert_array_equal(dataset[1]["pose2d"][0], pose[3:])
  assert dataset[1]["label"] == 0 and dataset.info["protocols"] == ["fraction"]


def test_prepared_records_and_protocols(tmp_path):
  write(tmp_path / "a")
  summary = raw_own.prepare("interchange:mine", tmp_path / "a", tmp_path / "data")
  assert summary["protocols"] == {"xsub": {"train": 3, "test": 2},
                                  "own": {"train": 3, "validation": 1, "test": 2}}
  dataset = catalogue.open_dataset(str(tmp_path / "data"), "interchange:mine")
  assert dataset.info["class_names"] == list(HEADER.class_names)
  assert dataset.info["notes"]["no_person"] == ["c00", "c03"]
  for i, clip in enumerate(made_clips()):
    record = dataset[i]
    for field, name in (("pose3d", "pose3d"), ("pose2d", "pose2d"), ("pose_score", "score")):
      np.testing.assert_array_equal(record[field], getattr(clip.skeletons, name))
    assert (record["setup"], record["fps"]) == (clip.setup, clip.fps)
    np.testing.assert_array_equal(record["image_size"], clip.skeletons.image_size or (0, 0))
  rows = protocols.split(dataset.index, catalogue.of(dataset).protocol("xsub"), "test")
  assert dataset.index.clip_id[rows].tolist() == ["c03", "c04"]


def test_export_and_prepare_go_round(tmp_path):
  write(tmp_path / "a")
  raw_own.prepare("interchange:mine", tmp_path / "a", tmp_path / "data")
  first = catalogue.open_dataset(str(tmp_path / "data"), "interchange:mine")
  export.export(first, tmp_path / "b")
  raw_own.prepare("interchange:again", tmp_path / "b", tmp_path / "data")
  second = catalogue.open_dataset(str(tmp_path / "data"), "interchange:again")
  export.export(second, tmp_path / "c")
  assert preparing.digests(tmp_path / "b") == preparing.digests(tmp_path / "c")
  for i in range(len(first)):
    for name, value in first[i].items():
      np.testing.assert_array_equal(second[i][name], value)
  with pytest.raises(UserError, match="holds a dataset already; choose another folder"):
    export.export(first, tmp_path / "b")


def test_a_published_dataset_is_exported_with_its_protocols(tmp_path):
  raw = raw_utd.write(tmp_path / "raw", [(1, 1, 1), (1, 2, 1), (2, 1, 1), (2, 2, 1)])
  raw_own.prepare("utd_mhad", raw, tmp_path / "data")
  prepared = catalogue.open_dataset(str(tmp_path / "data"), "utd_mhad")
  assert export.export(prepared, tmp_path / "out") == {
      "clips": 4, "poses": ["pose3d", "pose2d"]}
  reader, findings = read(tmp_path / "out")
  assert not findings.all and reader.header.protocols == ("cross_subject",)
  assert reader.splits.tolist() == [[1, 3, 1, 3]]
  assert reader.header.class_names == tuple(prepared.info["class_names"])
  for i in range(4):
    record, given = prepared[i], reader.skeletons(i)
    np.testing.assert_array_equal(given.pose3d, record["pose3d"])
    # In pixels of the 320x240 original, where records have those of the crop.
    matrix = record["frame_to_original"].astype(np.float64)
    expected = np.einsum("ij,mtkj->mtki", matrix[:, :2], record["pose2d"]) + matrix[:, 2]
    there = record["pose_score"] > 0
    np.testing.assert_allclose(given.pose2d[there], expected[there], rtol=1e-5)


def rewritten(folder, target, **arrays) -> pathlib.Path:
  """A copy whose archive has other arrays; None removes one. The checksum is left out."""
  shutil.copytree(folder, target)
  with np.load(folder / "skeletons.npz") as file:
    content = {name: file[name] for name in file.files}
  content |= arrays
  np.savez(target / "skeletons.npz", **{k: v for k, v in content.items() if v is not None})
  header = json.loads((target / "dataset.json").read_text())
  del header["sha256"]
  (target / "dataset.json").write_text(json.dumps(header))
  return target


@pytest.mark.parametrize("arrays, message", [
    (dict(label=None), "label is not there"),
    (dict(label=np.zeros(5, int)), r"label is int64\[5\], expected one of kind i/u of shape \[6\]"),
    (dict(label=np.zeros(6)), r"label is float64\[6\]"),
    (dict(label=np.full(6, 2**40)), "label has numbers of more than 32 bits"),
    (dict(clip_id=np.arange(6)), r"clip_id is int64\[6\]"),
    (dict(clip_id=np.frombuffer(b"\xff\xff\xff\x7f" * 6, "<U1")), "'clip_id' holds text that is"),
    (dict(clip_id=np.array(["x"] * 6, object)), "holds object, not numbers|is not a readable"),
    (dict(num_frames=np.zeros(6, int)), "num_frames must be at least 1"),
    (dict(num_frames=np.full(6, 2**31 - 1), num_persons=np.full(6, 2**31 - 1)),
     "num_frames times num_persons is more than there are rows"),
    (dict(num_frames=np.full(6, 3)), r"pose3d is float32\[\d+, 20, 3\], expected float32\[18, 20"),
    (dict(pose3d=None, pose2d=None), "pose3d or pose2d, and pose_score, must be there"),
    (dict(pose_score=None), "must be there"),
    (dict(pose3d=np.zeros((36, 20, 3))), "pose3d is float64"),
    (dict(splits=np.full((2, 6), 9, np.uint8)), "numbers up to 3"),
    (dict(splits=np.zeros((1, 6), np.uint8)), r"splits is uint8\[1, 6\], expected uint8\[2, 6\]"),
    (dict(image_size=np.zeros((6, 3), int)), r"image_size is int64\[6, 3\]"),
    (dict(more=np.zeros(3)), "holds 'more.npy', which is not one of its arrays"),
])
def test_wrong_arrays_are_named(tmp_path, arrays, message):
  write(tmp_path / "a")
  folder = rewritten(tmp_path / "a", tmp_path / "b", **arrays)
  with pytest.raises(RawDataError, match=message) as error:
    raw_own.prepare("interchange:x", folder, tmp_path / "data")
  assert str(folder / "skeletons.npz") in str(error.value)
  assert validation.validate("interchange", str(folder), {}, 1).errors


@pytest.mark.parametrize("changes, message", [
    (dict(format="other"), "format is not 'actionjax-skeletons'"),
    (dict(version=2), "version is 2, this reads 1; a newer actionjax may read it"),
    (dict(version=True), "version is True"),
    (dict(layout="x"), "layout 'x' is none of .*coco_17"),
    (dict(layout=["x"]), "layout .* is none of"),
    (dict(joints=["a"]), "joints are not those of the layout kinect_v1_20"),
    (dict(class_names=["a"]), "class_names must be a list of 2 or more different names"),
    (dict(class_names=["a", "a"]), "class_names must be a list"),
    (dict(class_names=["a", "b\n"]), "class_names must be a list"),
    (dict(class_names="ab"), "class_names must be a list"),
    (dict(protocols=[1]), "protocols must be a list of 0 or more"),
    (dict(sha256="0" * 64), "is not the file that dataset.json was written with"),
])
def test_wrong_headers_are_named(tmp_path, changes, message):
  write(tmp_path)
  header = json.loads((tmp_path / "dataset.json").read_text()) | changes
  (tmp_path / "dataset.json").write_text(json.dumps(header))
  with pytest.raises(RawDataError, match=message):
    raw_own.prepare("interchange:x", tmp_path, tmp_path / "data")


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '"x"', "[" * 10**5, "\x00", "{}", "NaN"])
def test_headers_that_are_none(tmp_path, text):
  write(tmp_path)
  (tmp_path / "dataset.json").write_text(text)
  with pytest.raises(RawDataError, match="dataset.json"):
    read(tmp_path)
  (tmp_path / "dataset.json").unlink()
  with pytest.raises(RawDataError, match="dataset.json cannot be read"):
    read(tmp_path)


def test_every_wrong_clip_is_listed(tmp_path):
  write(tmp_path / "a")
  ids = np.array(["c00", "../c01", "c02", "c02", "", "c05"])
  labels = np.array([0, 1, 2, -1, 0, 1])
  folder = rewritten(tmp_path / "a", tmp_path / "b", clip_id=ids, label=labels)
  found = validation.validate("interchange", str(folder), {}, 1)
  assert [(f.clip, f.field) for f in found.errors] == [
      ("clip 1", "clip_id"), ("clip 3", "clip_id"), ("clip 4", "clip_id"), ("c02", "label"),
      ("c02", "label")]
  with pytest.raises(RawDataError, match=r"clip 1: clip_id: '../c01' leads out .* \(and 4 more; "):
    raw_own.prepare("interchange:x", folder, tmp_path / "data")


def test_values_that_are_no_numbers_are_missing_joints(tmp_path):
  clips = made_clips()
  clips[2].skeletons.pose3d[0, 1, 4] = np.nan
  write(tmp_path / "a", clips)
  found = validation.validate("interchange", str(tmp_path / "a"), {}, 1)
  assert [str(f) for f in found.findings] == [
      "c00: skeletons: has nobody: every joint is missing in every frame",
      "c02: skeletons: has values that are not numbers, which count as missing joints",
      "c03: skeletons: has nobody: every joint is missing in every frame"]
  raw_own.prepare("interchange:mine", tmp_path / "a", tmp_path / "data")
  record = catalogue.open_dataset(str(tmp_path / "data"), "interchange:mine")[2]
  assert record["pose_score"][0, 1, 4] == 0 and not record["pose2d"][0, 1, 4].any()


def test_folders_that_cannot_be_written_or_read(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match=f"cannot write to {tmp_path}/file"):
    write(tmp_path / "file/out")
  with pytest.raises(RawDataError, match="is not a folder; --raw_dir names the one with dataset"):
    raw_own.prepare("interchange:x", tmp_path / "file", tmp_path / "data")
  write(tmp_path / "out")
  (tmp_path / "in").mkdir()
  for name in ("dataset.json", "skeletons.npz"):
    (tmp_path / "in" / name).symlink_to(tmp_path / "out" / name)
  with pytest.raises(RawDataError, match="dataset.json is a link out of the folder"):
    read(tmp_path / "in")


def test_a_failed_export_leaves_nothing(tmp_path):
  clips = made_clips()
  wrong = interchange_files.Clip("x", 0, Skeletons(pose2d=clips[1].skeletons.pose2d,
                                             score=clips[1].skeletons.score))
  with pytest.raises(ValueError, match="clip x"):
    write(tmp_path / "a", [clips[1], wrong])
  assert not list((tmp_path / "a").iterdir())


# ---- archives ------------------------------------------------------------------------

def test_archives_are_read_as_numpy_reads_them(tmp_path):
  arrays = {"a": np.arange(12.0).reshape(3, 4), "b": np.asfortranarray(np.eye(3, 2, dtype="i2")),
            "c": np.array("text"), "d": np.zeros((0, 3), np.float16), "e": np.array(["x", "yz"])}
  for save in (np.savez, np.savez_compressed):
    save(tmp_path / "a.npz", **arrays)
    found = plain_npz.read(tmp_path / "a.npz", arrays)
    assert set(found) == set(arrays)
    for name, value in arrays.items():
      np.testing.assert_array_equal(found[name], value)
      assert found[name].dtype == value.dtype and not found[name].flags.writeable


def member(path, name: str, data: bytes, compress=zipfile.ZIP_DEFLATED) -> pathlib.Path:
  with zipfile.ZipFile(path, "w", compress) as archive:
    archive.writestr(name, data)
  return path


def npy(shape, length: int, descr: str = "<f4") -> bytes:
  import io
  out = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      out, {"descr": descr, "fortran_order": False, "shape": shape})
  return out.getvalue() + b"\0" * length


def test_bombs_and_lies_are_refused_before_memory_is_set_aside(tmp_path):
  import tracemalloc
  bomb = member(tmp_path / "bomb.npz", "pose2d.npy", npy((25 * 10**6,), 10**8))
  assert bomb.stat().st_size < 10**6
  lies = [member(tmp_path / f"lie{i}.npz", "pose2d.npy", npy(shape, 16), compress)
          for i, (shape, compress) in enumerate((
              ((10**12,), zipfile.ZIP_STORED), ((10**12,), zipfile.ZIP_DEFLATED),
              ((2**40, 2**40), zipfile.ZIP_STORED), ((5,), zipfile.ZIP_STORED),
              ((3,), zipfile.ZIP_DEFLATED), ((-4,), zipfile.ZIP_STORED)))]
  tracemalloc.start()
  with pytest.raises(RawDataError, match="unpacks to 100000128 and more"):
    plain_npz.read(bomb)
  for path in lies:
    with pytest.raises(RawDataError, match="says it is|not a readable"):
      plain_npz.read(path)
  assert tracemalloc.get_traced_memory()[1] < 20e6
  tracemalloc.stop()


@pytest.mark.parametrize("name, data, message", [
    ("../pose2d.npy", npy((4,), 16), "not one of its arrays"),
    ("/etc/pose2d.npy", npy((4,), 16), "not one of its arrays"),
    ("pose2d.txt", b"", "not one of its arrays"),
    ("pose2d.npy", npy((2,), 16, "|O"), "holds object, not numbers or text"),
    ("pose2d.npy", npy((2,), 16, "|V8"), "not numbers or text"),
    ("pose2d.npy", b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('x')    \n",
     "not a readable"),
    ("pose2d.npy", b"\x93NUMPY\x03\x00", "version"), ("pose2d.npy", b"", "not a readable")])
def test_strange_members(tmp_path, name, data, message):
  with pytest.raises(RawDataError, match=message):
    plain_npz.read(member(tmp_path / "a.npz", name, data), ("pose2d",))


def _mutated(tmp_path_factory, examples):
  """Reads mutated datasets whole; whatever happens is the documented error."""
  folder = tmp_path_factory.mktemp("mutated")
  write(folder / "a", made_clips(3), splits=SPLITS[:, :3])
  rewritten(folder / "a", folder / "b")
  with np.load(folder / "b/skeletons.npz") as arrays:
    np.savez_compressed(folder / "packed.npz", **arrays)
  stored, packed = ((folder / name).read_bytes() for name in ("b/skeletons.npz", "packed.npz"))
  header = (folder / "b/dataset.json").read_bytes()

  @hypothesis.settings(max_examples=examples, deadline=None,
                       suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(which=st.integers(0, 2), positions=st.lists(st.integers(0, 10**6), max_size=4),
                    values=st.lists(st.integers(0, 255), min_size=4, max_size=4),
                    cut=st.none() | st.integers(0, 10**6), late=st.booleans())
  def examine(which, positions, values, cut, late):
    original = (header, stored, packed)[which]
    if late:  # where a zip archive has its directory
      positions = [len(original) - 1 - position % 900 for position in positions]
    data = raw_own.mutations(original, positions, values, cut)
    (folder / "b/dataset.json").write_bytes(data if which == 0 else header)
    # A new file: the old one may still be mapped.
    target = folder / "b/skeletons.npz"
    target.unlink(missing_ok=True)
    target.write_bytes(stored if which == 0 else data)
    kind._reader.cache_clear()
    findings = Findings()
    try:
      found = kind.survey(str(folder / "b"), findings)
      for clip in found.clips:
        kind.examine(clip, findings)
        made = dict(kind.encode(clip))
        del made["notes"]
        if not findings.errors:
          complete(made)
    except UserError as error:
      assert "\n" not in str(error)

  examine()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_mutated_datasets_raise_the_documented_error(tmp_path_factory):
  _mutated(tmp_path_factory, 300)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_datasets_raise_the_documented_error(tmp_path_factory):
  _mutated(tmp_path_factory, 2000)
