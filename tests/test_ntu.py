"""NTU RGB+D's builders, on files written here in the official form; see test_ntu_skeletons."""
import re
import tracemalloc

import numpy as np
import pytest

from actionjax.data.builders import ntu60, ntu120
from actionjax.data.clips import boxes
from actionjax.data.clips.dataset import Index
from actionjax.data.formats.images import decode_frame
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError
from tests import preparing, raw_ntu
from tests.raw_ntu import CLIP, encode, write_skeleton


def prepare(raw, data, variant="cropped", dataset="ntu60"):
  """Prepares and opens; returns the dataset and the lines that the user sees."""
  return preparing.prepare(dataset, raw, data, variant)


def index_of(names):
  """An index of clips by name, read independently of the builder."""
  rows = []
  for name in names:
    setup, camera, subject, _, action = map(int, re.findall(r"\d{3}", name))
    rows.append({"clip_id": name, "label": action - 1, "subject": subject, "camera": camera,
                 "setup": setup, "num_frames": 1})
  return Index.of(rows)


# ---- classes and protocols -----------------------------------------------------------

def test_classes():
  assert len(ntu120.CLASS_NAMES) == len(set(ntu120.CLASS_NAMES)) == 120
  assert ntu60.CLASS_NAMES == ntu120.CLASS_NAMES[:60]
  # By the numbers of the authors' list of actions.
  for number, name in {1: "drink_water", 9: "stand_up", 24: "kicking_something", 43: "falling_down",
                       50: "punch_slap", 60: "walking_apart", 61: "put_on_headphone",
                       95: "hands_up", 112: "high_five", 120: "rock_paper_scissors"}.items():
    assert ntu120.CLASS_NAMES[number - 1] == name
  for builder in (ntu60, ntu120):
    dataset = builder.DATASET
    assert (dataset.layout, dataset.modality, dataset.fps) == ("kinect_v2_25", "colour", 30)
    assert list(dataset.variants) == ["cropped", "square", "uncropped", "skeleton"]
    assert dataset.persons == 2


def test_training_subjects():
  # 20 of 40 subjects train on NTU-60, and 53 of 106 on NTU-120, which has the same among its
  # first 40.
  assert len(ntu60.TRAIN_SUBJECTS) == 20 and len(ntu120.TRAIN_SUBJECTS) == 53
  assert [s for s in ntu120.TRAIN_SUBJECTS if s <= 40] == list(ntu60.TRAIN_SUBJECTS)
  assert len(set(ntu120.TRAIN_SUBJECTS)) == 53 and max(ntu120.TRAIN_SUBJECTS) == 103
  assert sum(ntu60.TRAIN_SUBJECTS) == 1 + 2 + 4 + 5 + 8 + 9 + sum(range(13, 20)) + (
      25 + 27 + 28 + 31 + 34 + 35 + 38)


def test_protocols_are_rules_over_names():
  names = [raw_ntu.name(s, c, p, 1, a) for s in (1, 2, 17, 18, 32) for c in (1, 2, 3)
           for p in (1, 3, 5, 6, 10, 11, 14, 40, 45, 106) for a in (1, 60)]
  index = index_of(names)
  field = lambda name, start: int(name[start + 1:start + 4])
  train_subject = lambda name: field(name, 8) in {1, 5, 14, 45}
  rules = {  # protocol: (trains, tests)
      "cross_view": (lambda n: n[4:8] != "C001", lambda n: n[4:8] == "C001"),
      "cross_view_small": (lambda n: n[4:8] != "C001" and field(n, 8) <= 5,
                           lambda n: n[4:8] == "C001" and field(n, 8) <= 5),
      "cross_subject": (lambda n: train_subject(n) and field(n, 8) <= 40,
                        lambda n: not (train_subject(n) and field(n, 8) <= 40)),
      "cross_subject_small": (
          lambda n: train_subject(n) and n[4:8] == "C001" and field(n, 8) <= 10,
          lambda n: not train_subject(n) and n[4:8] == "C001" and field(n, 8) <= 10)}
  assert set(rules) == set(ntu60.DATASET.protocols)
  rules120 = {"cross_subject": (train_subject, lambda n: not train_subject(n)),
              "cross_setup": (lambda n: field(n, 0) % 2 == 0, lambda n: field(n, 0) % 2)}
  assert set(rules120) == set(ntu120.DATASET.protocols)
  for protocols, expected in ((ntu60.DATASET.protocols, rules),
                              (ntu120.DATASET.protocols, rules120)):
    for protocol, (train, test) in expected.items():
      masks = protocols[protocol](index)
      assert set(index.clip_id[masks["train"]]) == {n for n in names if train(n)}, protocol
      assert set(index.clip_id[masks["test"]]) == {n for n in names if test(n)}, protocol


def test_published_counts_add_up():
  # 56,880 clips less 302, split over 40,091 / 16,487 and 37,646 / 18,932; 114,480 less 535.
  assert ntu60.CLIPS - ntu60.MISSING_SKELETONS == 40091 + 16487 == 37646 + 18932
  assert ntu120.CLIPS - ntu120.MISSING_SKELETONS == 63026 + 50919 == 54468 + 59477
  # A clip has three cameras and two replications: 158 pairs of setup and subject in all.
  assert ntu60.CLIPS == 158 * 60 * 3 * 2


# ---- what a record holds -------------------------------------------------------------

@pytest.fixture(scope="module")
def raw(tmp_path_factory):
  """One clip of 16 frames: a person who hardly moves, and from frame 2 on one who does."""
  folder = tmp_path_factory.mktemp("ntu")
  write_skeleton(folder / "nturgb+d_skeletons", raw_ntu.text(16, {
      "72057594037931101": (0, raw_ntu.body(16, 1, at=(-0.3, 0, 3), sway=0.05)),
      "72057594037931102": (2, raw_ntu.body(14, 2, at=(0.2, 0.1, 2.8), sway=0.5))}))
  raw_ntu.video(folder / "nturgb+d_rgb" / f"{CLIP}_rgb.avi", 16, codec="ffv1")
  return folder


@pytest.fixture(scope="module")
def truth():
  """(pose3d [2,16,25,3], colour [2,16,25,2], there [2,16]) of that clip, the main one first."""
  rows = np.zeros((2, 16, 25, 12))
  rows[0, 2:] = raw_ntu.body(14, 2, at=(0.2, 0.1, 2.8), sway=0.5)
  rows[1] = raw_ntu.body(16, 1, at=(-0.3, 0, 3), sway=0.05)
  there = np.ones((2, 16), bool)
  there[0, :2] = False
  return rows[..., :3], rows[..., 5:7], there


def test_skeletons_survive_preparation_exactly(raw, truth, tmp_path):
  dataset, lines = prepare(raw, tmp_path, "skeleton")
  assert lines[0] == "1 of the 56880 clips of NTU RGB+D are here"
  assert dataset.info["modality"] == "none" and dataset.info["class_names"][6] == "throw"
  record = dataset[0]
  assert (record["clip_id"], record["label"], record["subject"], record["camera"],
          record["setup"], record["num_frames"], record["fps"]) == (CLIP, 6, 8, 2, 3, 16, 30)
  pose, colour, there = truth
  np.testing.assert_array_equal(record["pose3d"], pose.astype(np.float32))
  np.testing.assert_array_equal(record["pose2d"], colour.astype(np.float32))
  np.testing.assert_array_equal(record["pose_score"], np.repeat(there[..., None], 25, -1))
  assert (record["frame_to_original"] == np.eye(2, 3)).all() and record["frames"] == []
  np.testing.assert_array_equal(record["image_size"], [1080, 1920])
  # The box around everybody's joints of a frame.
  seen = np.where(there[..., None, None], colour, np.nan)
  low, high = np.nanmin(seen, (0, 2)), np.nanmax(seen, (0, 2))
  np.testing.assert_array_equal(record["boxes"], np.concatenate([low, high], 1).astype(np.float32))


@pytest.mark.parametrize("variant", ["cropped", "uncropped"])
def test_video_and_joints_share_the_stored_pixels(raw, truth, tmp_path, variant):
  dataset, _ = prepare(raw, tmp_path, variant)
  record, (_, colour, there) = dataset[0], truth
  images = raw_ntu.video(tmp_path / "again.avi", 16, codec="ffv1")  # of 192x108
  assert len(record["frames"]) == 16 and dataset.info["modality"] == "colour"
  # The joints are in pixels of 1920x1080, ten times the video's; centres at integers.
  small = (colour + 0.5) / 10 - 0.5
  seen = small[there].reshape(-1, 2)
  x0 = y0 = 0
  x1, y1 = 192, 108
  if variant == "cropped":
    (x0, y0), (x1, y1) = seen.min(0), seen.max(0)
    dx, dy = 0.3 * (x1 - x0), 0.3 * (y1 - y0)
    x0, y0 = max(0, int(np.floor(x0 - dx))), max(0, int(np.floor(y0 - dy)))
    x1, y1 = min(192, int(np.ceil(x1 + dx)) + 1), min(108, int(np.ceil(y1 + dy)) + 1)
    assert 0 < x0 < x1 < 192
  np.testing.assert_allclose(record["frame_to_original"], [[1, 0, x0], [0, 1, y0]])
  np.testing.assert_allclose(record["pose2d"][there], small[there] - [x0, y0], atol=1e-3)
  assert (record["pose2d"][~there] == 0).all()
  frames = np.stack([decode_frame(frame) for frame in record["frames"]])
  assert frames.shape == (16, y1 - y0, x1 - x0, 3)
  difference = np.abs(frames.astype(int) - images[:, y0:y1, x0:x1])
  assert difference.mean() < 3  # JPEG, of an image with hard edges
  # Not a frame too early or too late: the square moves by two pixels a frame.
  assert np.abs(frames[:-1].astype(int) - images[1:, y0:y1, x0:x1]).mean() > 1.5 * difference.mean()


def test_large_frames_are_reduced_but_keep_256_real_pixels(tmp_path):
  write_skeleton(tmp_path / "raw", raw_ntu.text(3, {1: (0, raw_ntu.body(3))}))
  raw_ntu.video(tmp_path / "raw" / f"{CLIP}_rgb.avi", 3, size=(1920, 1080))
  whole, cropped, square = (encode(tmp_path / "raw", variant)
                            for variant in ("uncropped", "cropped", "square"))
  assert decode_frame(whole["frames"][0]).shape == (256, 455, 3)
  # The box of 202 x 517 pixels, grown by 10 % on each side: the side that a network stretches has
  # fewer than 256 pixels and loses none; of a square the longer side counts.
  points = raw_ntu.body(3)[..., 5:7].reshape(-1, 2)
  assert (cropped["frame_to_original"][:, :2] == np.eye(2)).all()
  for record, expected in ((cropped, points.max(0) - points.min(0)), (square, [83.5, 213.3])):
    size = record["boxes"][:, 2:].max(0) - record["boxes"][:, :2].min(0)
    np.testing.assert_allclose(size, expected, rtol=0.01)
  # All map back to the same pixels of the original.
  for record in (whole, cropped, square):
    affine = record["frame_to_original"].astype(np.float64)
    back = record["pose2d"][0] @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(back, raw_ntu.body(3)[..., 5:7], atol=0.01)


def test_skeletons_or_videos_alone(tmp_path):
  poses = raw_ntu.write(tmp_path / "poses", [CLIP], kinds=("skeleton",))
  dataset, _ = prepare(poses, tmp_path)
  assert dataset.info["modality"] == "none" and dataset[0]["pose3d"].shape == (1, 12, 25, 3)
  films = raw_ntu.write(tmp_path / "films", [CLIP, raw_ntu.name(4)], kinds=("video",))
  dataset, _ = prepare(films, tmp_path / "films data")
  record = dataset[0]
  assert len(dataset) == 2 and record["pose3d"].size == record["boxes"].size == 0
  assert decode_frame(record["frames"][0]).shape == (108, 192, 3)
  with pytest.raises(RawDataError, match="holds no .skeleton files of NTU RGB.*nturgb"):
    ntu60.find(str(films), **ntu60.DATASET.variants["skeleton"])


def test_video_of_another_length_is_matched_in_proportion(tmp_path):
  frames = 20
  path = write_skeleton(tmp_path, raw_ntu.text(frames, {1: (0, raw_ntu.body(frames))}))
  film = tmp_path / f"{CLIP}_rgb.avi"
  raw_ntu.video(film, 18)
  record = encode(tmp_path, "uncropped")
  assert record["num_frames"] == len(record["frames"]) == record["pose3d"].shape[1] == 18
  # Frame t of 18 lies at (t + 0.5) 20 / 18 of the skeleton's time.
  picks = np.floor((np.arange(18) + 0.5) * 20 / 18).astype(int)
  np.testing.assert_array_equal(record["pose3d"][0],
                                raw_ntu.body(frames)[picks, :, :3].astype(np.float32))
  _, lines = prepare(tmp_path, tmp_path / "data", "uncropped")
  assert any(line.startswith("skeletons matched in proportion") and "1 clips" in line
             for line in lines)
  raw_ntu.video(film, 12)
  with pytest.raises(RawDataError, match=f"{re.escape(str(film))} has 12 frames, but "
                                         f"{re.escape(str(path))} has 20; fetch both again"):
    encode(tmp_path, "uncropped")


def test_memory_does_not_grow_with_the_length(tmp_path):
  peaks = []
  for frames in (10, 60):
    folder = tmp_path / str(frames)
    raw_ntu.video(folder / f"{CLIP}_rgb.avi", frames, size=(640, 360))
    clip = ntu60.find(str(folder), **ntu60.DATASET.variants["uncropped"])[0]
    tracemalloc.start()
    record = ntu60.DATASET.encode(clip, **ntu60.DATASET.variants["uncropped"])
    peaks.append(tracemalloc.get_traced_memory()[1] - sum(map(len, record["frames"])))
    tracemalloc.stop()
  assert peaks[1] - peaks[0] < 640 * 360 * 3  # 50 frames more, and less than one of them


# ---- files and missing skeletons -----------------------------------------------------

NAMES = [raw_ntu.name(1, c, p, 1, 3) for c in (1, 2, 3) for p in (1, 2)]


def test_archives_give_the_same_clips_and_records(tmp_path):
  raw = raw_ntu.write(tmp_path / "raw", NAMES[:2])
  zips = raw_ntu.zipped(raw, tmp_path / "zips")
  options = ntu60.DATASET.variants["cropped"]
  ours, theirs = ntu60.find(str(raw), **options), ntu60.find(str(zips), **options)
  assert preparation.fingerprint(ours) == preparation.fingerprint(theirs)
  for a, b in zip(ours, theirs):
    a, b = ntu60.DATASET.encode(a, **options), ntu60.DATASET.encode(b, **options)
    assert a["frames"] == b["frames"]
    np.testing.assert_array_equal(a["pose3d"], b["pose3d"])
  # An archive beside what was extracted from it counts once; another file does not.
  raw_ntu.zipped(raw, raw)
  assert len(ntu60.find(str(raw), **options)) == 2
  with (raw / f"nturgb+d_skeletons/{NAMES[0]}.skeleton").open("a") as file:
    file.write("\n")
  with pytest.raises(RawDataError, match=f"two different files for one clip: .*{NAMES[0]}"):
    ntu60.find(str(raw), **options)


def test_ntu60_is_a_part_of_ntu120s_folder(tmp_path):
  names = [raw_ntu.name(17, 1, 1, 1, 60), raw_ntu.name(18, 1, 41, 1, 61)]
  raw_ntu.write(tmp_path, names, kinds=("skeleton",))
  options = ntu60.DATASET.variants["skeleton"]
  assert [clip.clip_id for clip in ntu60.find(str(tmp_path), **options)] == names[:1]
  assert [clip.clip_id for clip in ntu120.find(str(tmp_path), **options)] == names
  record = ntu120.DATASET.encode(ntu120.find(str(tmp_path), **options)[1], **options)
  assert (record["label"], record["setup"], record["subject"]) == (60, 18, 41)


def test_clips_without_a_tracked_body_are_left_out_and_counted(tmp_path, monkeypatch):
  raw = raw_ntu.write(tmp_path / "raw", NAMES)
  poses = raw / "nturgb+d_skeletons"
  (poses / f"{NAMES[1]}.skeleton").write_text(raw_ntu.NOBODY)
  (poses / f"{NAMES[2]}.skeleton").write_text("0\n")
  (poses / f"{NAMES[4]}.skeleton").unlink()
  monkeypatch.setattr(ntu60, "CLIPS", 6)
  monkeypatch.setattr(ntu60, "MISSING_SKELETONS", 3)
  dataset, lines = prepare(raw, tmp_path)
  assert dataset.index.clip_id.tolist() == [NAMES[0], NAMES[3], NAMES[5]]
  out = ", ".join(sorted((NAMES[1], NAMES[2], NAMES[4])))
  assert lines[:2] == [f"3 clips ({out}) without a tracked skeleton left out",
                       "that many (3) are left out in published results too"]
  assert "cross_view: 2 train, 1 test" in lines
  # Another number than the published one in a full set is a warning, in a part of it is not.
  for published, total, line in (
      (4, 6, "warning: 3 of the 6 clips of NTU RGB+D have no tracked skeleton; published results "
             "leave out 4: "), (3, 9, "6 of the 9 clips of NTU RGB+D are here")):
    monkeypatch.setattr(ntu60, "CLIPS", total)
    monkeypatch.setattr(ntu60, "MISSING_SKELETONS", published)
    assert ntu60.find(str(raw), **ntu60.DATASET.variants["cropped"]).remarks[1].startswith(line)
  # The authors' list, beside the data, is obeyed.
  (raw / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text(
      f"4 of the captured samples ...\n\n{NAMES[1]}\n{NAMES[5]}\nS001C001P009R001A001\n")
  found = ntu60.find(str(raw), **ntu60.DATASET.variants["cropped"])
  assert [clip.clip_id for clip in found] == [NAMES[0], NAMES[3]]
  assert found.remarks[0].endswith("left out, 1 of them by a list of missing skeletons alone")


def test_missing_videos_are_said_and_missing_setups_are_errors(tmp_path):
  raw = raw_ntu.write(tmp_path, NAMES[:2])
  (raw / f"nturgb+d_rgb/{NAMES[1]}_rgb.avi").unlink()
  found = ntu60.find(str(raw), **ntu60.DATASET.variants["uncropped"])
  assert [clip.clip_id for clip in found] == NAMES[:1]
  assert found.remarks[-1] == f"warning: 1 clip ({NAMES[1]}) left out: the video is not there"
  assert len(ntu60.find(str(raw), **ntu60.DATASET.variants["skeleton"])) == 2
  raw_ntu.write(raw, [raw_ntu.name(5)], kinds=("skeleton",))
  with pytest.raises(RawDataError, match="skeletons of setup 5, but no video of theirs; fetch"):
    ntu60.find(str(raw), **ntu60.DATASET.variants["cropped"])
  raw_ntu.write(raw, [raw_ntu.name(5)])
  raw_ntu.write(raw, [raw_ntu.name(6)], kinds=("video",))
  with pytest.raises(RawDataError, match="videos of setup 6, but no skeleton of theirs"):
    ntu60.find(str(raw), **ntu60.DATASET.variants["cropped"])


@pytest.mark.parametrize("name", ["S033C001P001R001A061", "S001C004P001R001A001",
                                  "S001C001P107R001A001", "S001C001P001R003A001",
                                  "S001C001P001R001A061", "S018C001P001R001A001",
                                  "S000C001P001R001A001"])
def test_files_of_another_dataset_are_named(tmp_path, name):
  write_skeleton(tmp_path, raw_ntu.NOBODY, name)
  for builder in (ntu60, ntu120):
    with pytest.raises(RawDataError, match=f"{name}.skeleton is not a file of NTU RGB"):
      builder.find(str(tmp_path), **builder.DATASET.variants["skeleton"])


def test_no_files(tmp_path):
  options = ntu60.DATASET.variants["cropped"]
  with pytest.raises(RawDataError, match="nowhere is not a folder"):
    ntu60.find(str(tmp_path / "nowhere"), **options)
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(RawDataError, match="holds no .skeleton or _rgb.avi files of NTU RGB.D, nor "
                                         "zip archives of them; it holds: notes.txt"):
    ntu60.find(str(tmp_path), **options)
  write_skeleton(tmp_path, raw_ntu.NOBODY)
  with pytest.raises(RawDataError, match="none of the 1 clips of NTU RGB.D 120 has all its files"):
    ntu120.find(str(tmp_path), **options)
  (tmp_path / "nturgbd_rgb_s001.zip").write_bytes(b"PK\x03\x04 cut off")
  with pytest.raises(RawDataError, match="nturgbd_rgb_s001.zip is not a whole zip archive"):
    ntu60.find(str(tmp_path), **options)


def test_damaged_videos(tmp_path):
  raw_ntu.write(tmp_path, [CLIP], frames=30)
  film = tmp_path / f"nturgb+d_rgb/{CLIP}_rgb.avi"
  whole = film.read_bytes()
  for data in (whole[:len(whole) // 2], whole[:3000], b"", b"not a video" * 100):
    film.write_bytes(data)
    with pytest.raises(RawDataError, match=re.escape(str(film))):
      encode(tmp_path, "cropped")
  film.write_bytes(whole[:int(0.9 * len(whole))])  # a few frames less than announced
  with pytest.raises(RawDataError, match="is truncated: 2[5-7] frames decode of the 30"):
    encode(tmp_path, "cropped")
  film.write_bytes(whole)
  zips = raw_ntu.zipped(tmp_path, tmp_path / "zips", method=0)
  archive = zips / "nturgbd_rgb_s001.zip"
  data = bytearray(archive.read_bytes())
  middle = len(data) // 2
  data[middle:middle + 400] = bytes(400)
  archive.write_bytes(data)
  with pytest.raises(RawDataError, match=f"{archive}:nturgb.*_rgb.avi cannot be read"):
    encode(zips, "cropped")


# ---- a real video --------------------------------------------------------------------

@pytest.mark.slow
def test_real_video(real_data, tmp_path):
  """An official clip of 103 frames of 1920x1080, with a skeleton made up."""
  name = "S001C001P001R001A001"
  (tmp_path / f"{name}_rgb.avi").symlink_to(real_data / "videos" / f"{name}_rgb.avi")
  write_skeleton(tmp_path, raw_ntu.text(103, {1: (0, raw_ntu.body(103))}), name)
  record = encode(tmp_path, "cropped")
  assert len(record["frames"]) == 103 and record["label"] == 0
  around = boxes.pose_boxes(raw_ntu.body(103)[None, ..., 5:7], np.ones((1, 103, 25)))
  window = boxes.clip_window(around, 1920, 1080, 256)
  np.testing.assert_array_equal(record["frame_to_original"], window.to_original)
  import av
  with av.open(str(tmp_path / f"{name}_rgb.avi")) as container:
    for t, frame in enumerate(container.decode(video=0)):
      if t % 20 == 0:
        expected = window.cut(frame.to_ndarray(format="rgb24")).astype(int)
        found = decode_frame(record["frames"][t]).astype(int)
        assert np.abs(found - expected).mean() < 3
