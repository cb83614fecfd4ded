"""Records: encoding of frames, reading prepared files, agreement with TFDS."""
import concurrent.futures
import multiprocessing
import pathlib
import pickle
import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest

from actionjax.data import catalogue
from actionjax.data.clips.dataset import default_data_dir
from actionjax.data.clips.record import (
  ARRAYS,
  FIELDS,
  INTEGERS,
  _example_class,
  _make_example_class,
  canonical,
  complete,
  features,
  parse,
)
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import UnreadableClipError, UserError
from tests import raw_utd

CLIPS = [(a, s, 1) for a in (1, 2, 27) for s in (1, 2)]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  root = tmp_path_factory.mktemp("records")
  raw_utd.write(root / "raw", CLIPS)
  preparation.prepare("utd_mhad", str(root / "raw"), str(root / "data"), workers=1,
                      report=lambda line: None)
  return root / "data"


@pytest.fixture(scope="module")
def dataset(prepared):
  return catalogue.open_dataset(prepared, "utd_mhad")


def _same(a, b):
  assert a.keys() == b.keys()
  for name in a:
    np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_agrees_with_tfds(dataset):
  import tensorflow_datasets as tfds
  source = tfds.builder_from_directory(str(dataset.path)).as_data_source("clips")
  assert len(source) == len(dataset) == len(CLIPS)
  for ours, theirs in zip((dataset[i] for i in range(len(dataset))), source):
    assert set(ours) == set(theirs) == set(FIELDS)
    assert ours["clip_id"] == theirs["clip_id"].decode()
    assert ours["frames"] == list(theirs["frames"])
    for name in (*ARRAYS, *INTEGERS, "fps"):
      np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
      assert np.shape(ours[name]) == np.shape(theirs[name]), name
    for name, (dtype, _) in ARRAYS.items():
      assert ours[name].dtype == theirs[name].dtype == dtype
      ours[name][...] = 1  # writable


def test_empty_modalities_agree_with_tfds():
  fields = features()
  record = complete({"clip_id": "x", "label": 3, "num_frames": 2})
  data = fields.serialize_example(record)
  ours, theirs = parse(data), fields.deserialize_example_np(data)
  for name, (_, shape) in ARRAYS.items():
    assert ours[name].shape == theirs[name].shape == tuple(n or 0 for n in shape)
  assert ours["frames"] == [] and len(theirs["frames"]) == 0
  np.testing.assert_array_equal(ours["frame_to_original"], [[1, 0, 0], [0, 1, 0]])


def test_canonical_bytes_do_not_depend_on_the_order_of_fields():
  example = _example_class()
  data = features().serialize_example(
      complete({"clip_id": "x", "label": 3, "num_frames": 2}))
  table = example.FromString(data).features.feature
  backwards = example()
  for name in sorted(table, reverse=True):
    backwards.features.feature[name].CopyFrom(table[name])
  assert canonical(backwards.SerializeToString()) == canonical(data)
  _same(parse(canonical(data)), parse(data))


def test_index_describes_the_records(dataset):
  assert dataset.index.clip_id.tolist() == [
      "a1_s1_t1", "a1_s2_t1", "a27_s1_t1", "a27_s2_t1", "a2_s1_t1", "a2_s2_t1"]
  assert dataset.index.label.tolist() == [0, 0, 26, 26, 1, 1]
  assert dataset.index.subject.tolist() == [1, 2, 1, 2, 1, 2]
  assert dataset.index.num_frames.tolist() == [4] * 6
  for i in range(len(dataset)):
    assert dataset[i]["clip_id"] == dataset.index.clip_id[i]
    frame = images.decode_frame(dataset[i]["frames"][0])
    np.testing.assert_array_equal(dataset[i]["image_size"], frame.shape)
  assert dataset.info["class_names"][26] == "squat"
  assert (dataset.info["layout"], dataset.info["modality"]) == ("kinect_v1_20", "depth")
  for i in (-1, 6):
    with pytest.raises(IndexError):
      dataset[i]


def _read_in_worker(dataset, i):
  return dataset[i]


def test_threads_processes_and_pickles_read_the_same(dataset):
  rows = [dataset[i] for i in range(len(dataset))]
  assert len(pickle.dumps(dataset)) < 20_000  # readers do not travel
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    for i, row in zip(range(240), pool.map(lambda i: dataset[i % 6], range(240))):
      _same(row, rows[i % 6])
  with concurrent.futures.ProcessPoolExecutor(
      1, mp_context=multiprocessing.get_context("spawn")) as pool:
    _same(pool.submit(_read_in_worker, dataset, 4).result(), rows[4])


def test_reading_imports_neither_tfds_nor_tensorflow(prepared):
  code = ("import sys; from actionjax.data import catalogue;"
          f"catalogue.open_dataset({str(prepared)!r}, 'utd_mhad')[0];"
          "print([m for m in ('tensorflow_datasets', 'tensorflow') if m in sys.modules])")
  out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                       cwd=pathlib.Path(__file__).parents[1])
  assert out.stdout.strip() == "[]"


def test_missing_and_damaged_datasets_are_named(prepared, tmp_path):
  with pytest.raises(UserError, match=rf"{tmp_path}.*python -m actionjax.prepare "
                     r"--dataset=utd_mhad --raw_dir=\S+ --data_dir=\S+ --variant=skeleton"):
    catalogue.open_dataset(tmp_path, "utd_mhad", "skeleton")
  with pytest.raises(UserError, match="unknown dataset 'ucf'; known: .*utd_mhad"):
    catalogue.open_dataset(tmp_path, "ucf")
  with pytest.raises(UserError, match="unknown variant 'x' of utd_mhad; known: cropped"):
    catalogue.open_dataset(tmp_path, "utd_mhad", "x")
  import shutil
  shutil.copytree(prepared, tmp_path / "copy")
  shard = next((tmp_path / "copy/utd_mhad/cropped/1.1.0").glob("*array_record*"))
  shard.write_bytes(shard.read_bytes()[:-1])
  with pytest.raises(UserError, match=f"{shard}.*prepare the dataset again"):
    catalogue.open_dataset(tmp_path / "copy", "utd_mhad")


def test_default_data_dir(monkeypatch):
  monkeypatch.setenv("ACTIONJAX_DATA", "/somewhere")
  assert default_data_dir() == pathlib.Path("/somewhere")
  monkeypatch.setenv("ACTIONJAX_DATA", "")
  assert default_data_dir() == pathlib.Path.home() / ".cache/actionjax"


def test_depth_is_stored_without_loss():
  rng = np.random.default_rng(0)
  depth = rng.integers(0, 65536, (37, 53)).astype(np.uint16)
  depth[:5] = 0
  depth[0, 0] = 65535
  decoded = images.decode_frame(images.encode_depth_png(depth))
  assert decoded.dtype == np.uint16
  np.testing.assert_array_equal(decoded, depth)
  with pytest.raises(ValueError, match="uint16"):
    images.encode_depth_png(depth.astype(np.int32))


def test_colour_keeps_its_channel_order():
  image = np.zeros((32, 48, 3), np.uint8)
  image[:, :24], image[:, 24:] = (200, 40, 10), (10, 60, 220)
  decoded = images.decode_frame(images.encode_jpeg(image))
  assert decoded.dtype == np.uint8 and decoded.shape == image.shape
  np.testing.assert_allclose(decoded[16, 8].astype(int), (200, 40, 10), atol=3)
  np.testing.assert_allclose(decoded[16, 40].astype(int), (10, 60, 220), atol=3)
  grey = cv2.imencode(".jpg", image[..., 0])[1].tobytes()
  assert images.decode_frame(grey).shape == image.shape


def test_unreadable_frames():
  image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
  jpeg, png = images.encode_jpeg(image), images.encode_depth_png(image[..., 0].astype("u2"))
  with pytest.raises(UnreadableClipError, match="frame 7 of clip x is a truncated JPEG"):
    images.decode_frame(jpeg[:-100], "frame 7 of clip x")
  wrong = cv2.imencode(".png", image.astype(np.uint16))[1].tobytes()
  for data in (b"", b"\0" * 50, png[:60], png[: len(png) // 2], jpeg[:20] + jpeg[-20:], wrong):
    with pytest.raises(UnreadableClipError, match="frame"):
      images.decode_frame(data)


@pytest.mark.parametrize("wrong, message", [
    ({"colour": 1}, "unknown fields .'colour'"),
    ({"num_frames": 0}, "num_frames is 0"),
    ({"frames": [b"a"]}, "1 frames, but num_frames is 2"),
    ({"boxes": np.zeros((3, 4))}, "3 boxes"),
    ({"boxes": np.zeros((2, 5))}, "boxes has shape"),
    ({"image_size": (240, 0)}, r"image_size is .240, 0"),
    ({"image_size": (-1, 3)}, r"image_size is .-1, 3"),
    ({"pose3d": np.zeros((1, 2, 20, 3))}, "scores of"),
    ({"pose2d": np.zeros((1, 3, 20, 2)), "pose_score": np.zeros((1, 3, 20))}, "num_frames 2"),
])
def test_inconsistent_records_are_refused(wrong, message):
  with pytest.raises(ValueError, match=message):
    complete({"clip_id": "x", "label": 0, "num_frames": 2} | wrong)


def test_threads_share_one_message_class():
  """Two classes with a pool each, one freed while the other parses, crash the process."""
  for _ in range(20):
    _make_example_class.cache_clear()
    barrier = threading.Barrier(8)

    def first_use(barrier=barrier):
      barrier.wait()
      return _example_class()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
      found = [future.result() for future in [pool.submit(first_use) for _ in range(8)]]
    assert len({id(message) for message in found}) == 1
