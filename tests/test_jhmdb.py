"""JHMDB's builder, on files in the official form written here, and on real pickles."""
import pickle
import re
import shutil
import zipfile

import numpy as np
import pytest
import scipy.io

from actionjax import skeletons
from actionjax.data.builders import jhmdb
from actionjax.data.clips import image_frames, protocols
from actionjax.data.formats import images, plain_pickle
from actionjax.data.formats.archives import Source
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError, UserError
from tests import preparing, raw_jhmdb

# A clip's part in the three splits: 1 trains, 2 tests, 0 neither.
CLIPS = {"catch/Ball_#1_f_cm": (1, 2, 2), "catch/b(2)": (2, 1, 1), "wave/hello_1": (1, 1, 2),
         "wave/hello_2": (2, 2, 0)}


def parts(dataset) -> dict:
  """{split: (training ids, test ids)}, as the protocols give them."""
  def ids(name, part):
    try:
      rows = protocols.split(dataset.index, jhmdb.DATASET.protocols[name], part)
    except UserError:  # a part without clips
      return set()
    return set(dataset.index.clip_id[rows])
  return {name: (ids(name, "train"), ids(name, "test")) for name in jhmdb.DATASET.protocols}


def test_classes_and_layout():
  assert len(set(jhmdb.CLASS_NAMES)) == 21 and list(jhmdb.CLASS_NAMES) == sorted(jhmdb.CLASS_NAMES)
  # The order of the joints in the files' README: neck, belly, face, shoulders, hips, elbows, ...
  joints = skeletons.layout(jhmdb.DATASET.layout).joints
  assert joints[:5] == ("neck", "spine", "head", "right_shoulder", "left_shoulder")
  assert joints[-2:] == ("right_ankle", "left_ankle") and len(joints) == jhmdb.JOINTS


# ---- the official files ---------------------------------------------------------------------

def test_joints_and_splits_survive_preparation_exactly(tmp_path):
  raw_jhmdb.write(tmp_path / "raw", CLIPS, kinds=("joints",))
  dataset, lines = preparing.prepare("jhmdb", tmp_path / "raw", tmp_path, "skeleton")
  assert lines[0] == "4 of the 928 clips of JHMDB are here"
  assert dataset.index.clip_id.tolist() == sorted(CLIPS) and dataset.info["modality"] == "none"
  for number, clip in enumerate(dataset.index.clip_id):
    record = dataset[number]
    expected = raw_jhmdb.pixels(4, list(CLIPS).index(clip))
    np.testing.assert_array_equal(record["pose2d"], expected[None].astype(np.float32))
    assert (record["pose_score"] == 1).all() and record["pose3d"].size == 0
    assert record["image_size"].tolist() == [240, 320]
    assert jhmdb.CLASS_NAMES[record["label"]] == clip.partition("/")[0]
    np.testing.assert_allclose(record["boxes"][0], [*expected[0].min(0), *expected[0].max(0)],
                               atol=1e-4)
  for split in range(3):
    assert parts(dataset)[f"split_{split + 1}"] == tuple(
        {clip for clip, given in CLIPS.items() if given[split] == part} for part in (1, 2))


def test_whole_frames(tmp_path):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)}, frames=3)
  record = preparing.encode(jhmdb, tmp_path, "uncropped")
  assert len(record["frames"]) == 3 and (record["frame_to_original"] == np.eye(2, 3)).all()
  for t, frame in enumerate(record["frames"]):
    difference = images.decode_frame(frame).astype(int) - raw_jhmdb.image(t)
    assert np.abs(difference).mean() < 3
  np.testing.assert_array_equal(record["pose2d"][0],
                                raw_jhmdb.pixels(3).astype(np.float32))


def test_cropped_frames_and_joints_share_the_stored_pixels(tmp_path):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)}, frames=3)
  record = preparing.encode(jhmdb, tmp_path, "cropped")
  points = raw_jhmdb.pixels(3)
  low, high = points.min((0, 1)), points.max((0, 1))
  start = np.maximum(np.floor(low - 0.3 * (high - low)), 0).astype(int)
  end = np.minimum(np.ceil(high + 0.3 * (high - low)) + 1, [320, 240]).astype(int)
  assert (end - start).max() < 342  # stored as it is
  np.testing.assert_allclose(record["pose2d"][0], points - start, atol=1e-4)
  assert record["image_size"].tolist() == (end - start)[::-1].tolist()
  for t, frame in enumerate(record["frames"]):
    part = raw_jhmdb.image(t)[start[1]:end[1], start[0]:end[0]]
    assert np.abs(images.decode_frame(frame).astype(int) - part).mean() < 3


def test_images_go_before_a_video_which_goes_without_them(tmp_path):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)}, frames=5, kinds=("joints", "images", "video"))
  clip, = jhmdb.find(str(tmp_path), **jhmdb.DATASET.variants["cropped"])
  assert len(clip.images) == 5 and clip.video is None
  shutil.rmtree(tmp_path / "Rename_Images")
  clip, = jhmdb.find(str(tmp_path), **jhmdb.DATASET.variants["cropped"])
  assert clip.images == () and clip.video.base == "a.avi"
  record = preparing.encode(jhmdb, tmp_path, "uncropped")
  assert len(record["frames"]) == 5 and record["pose2d"].shape == (1, 5, 15, 2)


def test_joints_of_another_length_are_matched_in_proportion_and_counted(tmp_path):
  raw = raw_jhmdb.write(tmp_path / "raw", {"catch/a": (1, 1, 1)}, frames=6)
  (raw / "Rename_Images/catch/a/00006.png").unlink()
  dataset, lines = preparing.prepare("jhmdb", raw, tmp_path, "uncropped")
  picks = np.floor((np.arange(5) + 0.5) * 6 / 5).astype(int)
  np.testing.assert_array_equal(
      dataset[0]["pose2d"][0], raw_jhmdb.pixels(6)[picks].astype(np.float32))
  assert "skeletons matched in proportion to a video of another length: 1 clips, such as catch/a" \
      in lines
  for number in (3, 4, 5):
    (raw / f"Rename_Images/catch/a/{number:05d}.png").unlink()
  with pytest.raises(RawDataError, match=r"Rename_Images/catch/a has 2 frames, but .*mat has 6"):
    preparing.encode(jhmdb, raw)


def test_video_alone(tmp_path):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)}, kinds=("images",))
  record = preparing.encode(jhmdb, tmp_path)
  assert len(record["frames"]) == 4 and record["pose2d"].size == 0 == record["pose_score"].size
  assert record["image_size"].tolist() == [240, 320]


def test_archives_give_the_same_clips(tmp_path):
  raw = raw_jhmdb.write(tmp_path / "raw", CLIPS, frames=2)
  (tmp_path / "zips").mkdir()
  for part in ("joint_positions", "Rename_Images", "splits"):
    with zipfile.ZipFile(tmp_path / f"zips/{part}.zip", "w") as archive:
      for file in sorted((raw / part).rglob("*.*")):
        archive.write(file, file.relative_to(raw))
  options = jhmdb.DATASET.variants["cropped"]
  ours, theirs = (jhmdb.find(str(tmp_path / name), **options) for name in ("raw", "zips"))
  assert preparation.fingerprint(ours) == preparation.fingerprint(theirs)
  assert jhmdb.encode(ours[1], **options)["frames"] == jhmdb.encode(theirs[1], **options)["frames"]
  # A clip that moves to another side is another dataset.
  raw_jhmdb.splits(raw, CLIPS | {"wave/hello_1": (1, 1, 1)})
  moved = jhmdb.find(str(raw), **options)
  assert preparation.fingerprint(moved) != preparation.fingerprint(ours)


def test_mistakes_in_the_folder(tmp_path):
  def find(variant="cropped"):
    return jhmdb.find(str(tmp_path), **jhmdb.DATASET.variants[variant])
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(RawDataError, match="holds no joint_positions/CLASS.*it holds: notes.txt"):
    find()
  raw_jhmdb.pickled(tmp_path, {"train_1": []})
  with pytest.raises(RawDataError, match="GT_train_1.pkl, notes.txt; to prepare its pickles give "
                                         "--variant=pickled"):
    find()
  raw_jhmdb.write(tmp_path, CLIPS, frames=2)
  (tmp_path / "splits/wave_test_split2.txt").unlink()
  with pytest.raises(RawDataError, match="has no splits/wave_test_split2.txt, which says"):
    find()
  raw_jhmdb.splits(tmp_path, CLIPS)
  path = tmp_path / "splits/catch_test_split3.txt"
  path.write_text("b(2).avi 1\nBall_#1_f_cm.avi 3\n")
  with pytest.raises(RawDataError, match=f"{path}, line 2: 'Ball_#1_f_cm.avi 3' is not a clip's"):
    find()
  path.write_text("b(2).avi 1\nb(2).avi 2\n")
  with pytest.raises(RawDataError, match=f"{path}, line 2: b.2..avi is listed twice"):
    find()
  raw_jhmdb.splits(tmp_path, {clip: CLIPS[clip] for clip in list(CLIPS)[1:]})
  assert find().remarks[1] == "warning: 1 clip(s) that no split lists, such as catch/Ball_#1_f_cm"
  raw_jhmdb.splits(tmp_path, CLIPS)
  shutil.rmtree(tmp_path / "Rename_Images/wave/hello_2")
  with pytest.raises(RawDataError, match="has the joint positions of wave/hello_2, but no frames"):
    find()
  assert len(find("skeleton")) == 4
  raw_jhmdb.joints(tmp_path, "cartwheel/c")
  with pytest.raises(RawDataError, match="is not a file of JHMDB, which has no class cartwheel"):
    find()
  shutil.rmtree(tmp_path / "joint_positions/cartwheel")
  raw_jhmdb.joints(tmp_path / "again", "wave/hello_1", 9)
  with pytest.raises(RawDataError, match="two different files for one clip: .*joint_positions.mat"):
    find()
  (tmp_path / "broken.zip").write_bytes(b"PK\3\4 and no more")
  with pytest.raises(RawDataError, match="broken.zip is not a whole zip archive"):
    find()


@pytest.mark.parametrize("content, message", [
    ({"pos_world": np.zeros((2, 15, 4))}, "has no variable pos_img; it holds: pos_world"),
    ({"pos_img": np.zeros((2, 13, 4))}, r"pos_img is float64\[2, 13, 4\], expected places"),
    ({"pos_img": np.zeros((2, 15))}, r"pos_img is float64\[2, 15\], expected places \[2,"),
    ({"pos_img": np.full((2, 15, 4), np.nan)}, r"pos_img is float64\[2, 15, 4\], expected places"),
    (None, "is not a readable MATLAB file"),
])
def test_malformed_joints_are_an_error_that_names_the_file(tmp_path, content, message):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)}, kinds=("joints",))
  path = tmp_path / "joint_positions/catch/a/joint_positions.mat"
  if content is None:
    path.write_bytes(path.read_bytes()[:200])
  else:
    scipy.io.savemat(path, content)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}"):
    preparing.encode(jhmdb, tmp_path, "skeleton")


def test_malformed_images(tmp_path):
  raw_jhmdb.write(tmp_path, {"catch/a": (1, 1, 1)})
  folder = tmp_path / "Rename_Images/catch/a"
  path = folder / "00002.png"
  whole = path.read_bytes()
  for data in (b"not one", whole[:-60]):
    path.write_bytes(data)
    with pytest.raises(RawDataError, match=f"^{path} is not a readable image.*fetch it again"):
      preparing.encode(jhmdb, tmp_path)
  raw_jhmdb.images(tmp_path / "small", 2, (160, 120))
  shutil.copy(tmp_path / "small/00001.png", path)
  with pytest.raises(RawDataError, match=rf"^{path} is an image of \[120, 160, 3\], the clip's"):
    preparing.encode(jhmdb, tmp_path)


def test_images_tell_what_a_video_tells(tmp_path):
  raw_jhmdb.images(tmp_path, 3)
  files = [Source(None, str(path), path.stat().st_size) for path in sorted(tmp_path.iterdir())]
  asked = []

  def place(width, height):
    from actionjax.data.clips import boxes
    asked.append((width, height))
    return boxes.StoredWindow(10, 20, 110, 70, 50, 25)

  stored = image_frames.read(files, place, 12.0)
  assert asked == [(320, 240)] and stored.fps == 12 and stored.positions.tolist() == [0, 1, 2]
  assert (stored.facts.count, stored.facts.width, stored.facts.height) == (3, 320, 240)
  assert [images.decode_frame(frame).shape for frame in stored.frames] == [(25, 50, 3)] * 3


# ---- the pickles ---------------------------------------------------------------------------

def world(frames: int, seed: int) -> np.ndarray:
  return np.round(np.random.default_rng(seed).normal(0, 0.3, (frames, 15, 2)), 3)


def test_pickles_of_all_splits_become_one_dataset(tmp_path):
  a, b, c = ("golf", world(5, 0)), ("golf", world(7, 1)), ("wave", world(4, 2))
  raw = raw_jhmdb.pickled(tmp_path / "raw", {
      "train_1": [a, b], "test_1": [c], "train_2": [c, b], "test_2": [a]})
  dataset, lines = preparing.prepare("jhmdb", raw, tmp_path, "pickled")
  assert lines[:2] == [f"of split 3 there is no GT_{part}_3.pkl" for part in ("train", "test")]
  found = {len(dataset[i]["pose_score"][0]): dataset[i] for i in range(len(dataset))}
  assert len(dataset) == 3 and dataset.info["modality"] == "none"
  for label, pose in (a, b, c):
    record = found[len(pose)]
    assert jhmdb.CLASS_NAMES[record["label"]] == label
    # The README's pos_world of scale 1, solved for the pixels of 320x240, which count from 1.
    pixels = np.stack([(pose[..., 0] * 240 / 320 + 0.5) * 320, (pose[..., 1] + 0.5) * 240], -1) - 1
    np.testing.assert_allclose(record["pose2d"][0], pixels, atol=1e-4)
  ids = {name: found[len(pose)]["clip_id"] for name, (_, pose) in zip("abc", (a, b, c))}
  assert parts(dataset) == {"split_1": ({ids["a"], ids["b"]}, {ids["c"]}),
                            "split_2": ({ids["b"], ids["c"]}, {ids["a"]}),
                            "split_3": (set(), set())}
  # Names do not depend on which of the files are there.
  (raw / "GT_train_1.pkl").unlink()
  again = jhmdb.find(str(raw), **jhmdb.DATASET.variants["pickled"])
  assert {clip.clip_id for clip in again} == set(ids.values())


@pytest.mark.parametrize("content, message", [
    ([], "is not a dict of two lists, pose and label"),
    ({"pose": [world(3, 0)], "label": []}, "is not a dict of two lists"),
    ({"pose": [world(3, 0)], "label": ["fly"]}, "label 0 is 'fly', which is not a class of JHMDB"),
    ({"pose": [world(3, 0)], "label": [world(3, 0)]}, "label 0 is .* which is not a class of"),
    ({"pose": [world(3, 0)[:, :13]], "label": ["run"]}, r"pose 0 is float64\[3, 13, 2\], expected"),
    ({"pose": [world(3, 0) * np.nan], "label": ["run"]}, "expected places"),
    ({"pose": [world(3, 0)] * 2, "label": ["run"] * 2}, "a clip of run is twice in split 1"),
])
def test_malformed_pickles(tmp_path, content, message):
  path = tmp_path / "GT_train_1.pkl"
  path.write_bytes(pickle.dumps(content))
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}"):
    jhmdb.find(str(tmp_path), **jhmdb.DATASET.variants["pickled"])


def test_no_pickles(tmp_path):
  for place, there in ((tmp_path, "nothing"),
                       (tmp_path / "nowhere", "nothing, as it is not a folder")):
    with pytest.raises(RawDataError, match=f"holds no GT_train_1.pkl or .*holds: {there}"):
      jhmdb.find(str(place), **jhmdb.DATASET.variants["pickled"])


def test_real_pickles(real_data, tmp_path):
  raw = real_data / "jhmdb"
  dataset, lines = preparing.prepare("jhmdb", raw, tmp_path, "pickled")
  assert [line for line in lines if line.startswith("split_")] == [
      f"split_{split}: {train} train, {test} test"
      for split, train, test in ((1, 433, 176), (2, 433, 176), (3, 434, 175))]
  assert len(dataset) == 609 and (np.bincount(dataset.index.label, minlength=21) > 0).sum() == 14
  # Every clip of a file is there, with its joints, however the records are ordered.
  content = plain_pickle.load(raw / "GT_test_2.pkl")
  rows = protocols.split(dataset.index, jhmdb.DATASET.protocols["split_2"], "test")
  stored = sorted((jhmdb.CLASS_NAMES[dataset[i]["label"]], dataset[i]["pose2d"][0].sum(dtype=float),
                   len(dataset[i]["boxes"])) for i in rows.tolist())
  given = sorted((label, (pose * 240 + [159, 119]).sum(), len(pose))
                 for label, pose in zip(content["label"], content["pose"]))
  assert [(a, c) for a, _, c in stored] == [(a, c) for a, _, c in given]
  np.testing.assert_allclose([b for _, b, _ in stored], [b for _, b, _ in given], rtol=1e-5)
  # Upright people: scaled to stand about 0.85 of the image's height from face to ankles.
  layout = skeletons.layout(jhmdb.DATASET.layout)
  walking = np.flatnonzero(dataset.index.label == jhmdb.CLASS_NAMES.index("walk"))
  heights = np.concatenate([
      (pose[:, layout.index("left_ankle"), 1] - pose[:, layout.index("head"), 1]).ravel()
      for pose in (dataset[int(i)]["pose2d"][0] for i in walking)])
  assert 0.7 * 240 < np.median(heights) < 240


def test_a_real_clip_has_its_joints_where_they_were_marked(real_data, tmp_path):
  """Official joint positions, read by SciPy: MATLAB's first pixel is 1, a record's is 0."""
  import scipy.io
  place = tmp_path / "raw" / "joint_positions" / "wave" / "clip"
  place.mkdir(parents=True)
  shutil.copy(real_data / "real" / "jhmdb" / "joint_positions.mat", place)
  raw_jhmdb.splits(tmp_path / "raw", {"wave/clip": (1, 1, 2)})
  record = preparing.encode(jhmdb, tmp_path / "raw", "skeleton")
  marked = scipy.io.loadmat(place / "joint_positions.mat")["pos_img"]
  np.testing.assert_allclose(record["pose2d"][0], marked.transpose(2, 1, 0) - 1, atol=1e-4)
  assert record["pose2d"][0, 0, 0].tolist() == [285.5, 105.5]  # the file says 286.5 and 106.5
