"""Videos in folders or tables: what is stored, what is refused, and a training on the result."""
import csv
import errno
import itertools
import json
import os
import pathlib
import struct
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import av
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax import configuration, recipe
from actionjax.data import catalogue, own
from actionjax.data.clips import boxes, videos
from actionjax.data.formats.findings import Findings
from actionjax.data.formats.images import decode_frame, encode_jpeg
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import parse_data
from actionjax.data.own import columns, folder, listing, validation
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError, UserError
from tests import raw_own

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODECS = (("mp4", "mpeg4", "yuv420p"), ("mkv", "libx264", "yuv420p"), ("mov", "libx264", "yuv444p"),
          ("webm", "libvpx-vp9", "yuv420p"), ("avi", "mjpeg", "yuvj420p"), ("ts", "mpeg2video",
          "yuv420p"), ("gif", "gif", "rgb8"), ("mkv", "ffv1", "gray"), ("wmv", "wmv2", "yuv420p"))


def whole(width, height):
  return boxes.clip_window(None, width, height)


def open_prepared(data, name="folder:mine"):
  return catalogue.open_dataset(str(data), name)


def by_id(dataset):
  return {dataset[i]["clip_id"]: dataset[i] for i in range(len(dataset))}


def table(path, rows, header=("path", "label")) -> pathlib.Path:
  with open(path, "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([header, *rows])
  return pathlib.Path(path)


# ---- videos --------------------------------------------------------------------------

@pytest.mark.parametrize("extension, codec, pixels", CODECS)
def test_codecs(tmp_path, extension, codec, pixels):
  path = raw_own.video(tmp_path / f"a.{extension}", 7, (80, 48), codec, pixels)
  stored = videos.read(path, whole, 100)
  assert (stored.facts.count, stored.fps, len(stored.frames)) == (7, 10.0, 7)
  assert (stored.facts.width, stored.facts.height) == (80, 48)
  for i, frame in enumerate(stored.frames):
    image = decode_frame(frame).astype(int)
    assert image.shape == (48, 80, 3)
    assert abs(raw_own.grey(image) - (30 + raw_own.STEP * i)) < 8
    if pixels != "gray":
      left, right = image[10:38, 8:32].mean((0, 1)), image[6:18, 48:72].mean((0, 1))
      # A palette of 256 colours is coarse, and its dither too.
      tolerance = 30 if codec == "gif" else 12
      np.testing.assert_allclose(left, (200, 20, 20), atol=tolerance)
      np.testing.assert_allclose(right, (20, 200, 20), atol=tolerance)
  assert videos.scan(path) == stored.facts


@pytest.mark.parametrize("codec, pixels, apart", [("ffv1", "bgr0", 1.5), ("ffv1", "yuv420p", 2)])
@pytest.mark.parametrize("size", [(60, 80), (48, 107)])
def test_reduced_frames_are_the_means_of_their_pixels(tmp_path, codec, pixels, apart, size):
  rng = np.random.default_rng(0)
  ramps = 60 + 120 * np.stack(np.meshgrid(np.linspace(0, 1, 320), np.linspace(0, 1, 240)), -1)
  image = np.concatenate([ramps, np.full((240, 320, 1), 100)], -1)
  # Noise of single pixels, which taking every fourth pixel would keep.
  image = (image + 40 * rng.choice([-1, 1], (240, 320, 1))).astype(np.uint8)
  with av.open(str(tmp_path / "a.mkv"), "w") as container:
    stream = container.add_stream(codec, rate=10)
    stream.width, stream.height, stream.pix_fmt = 320, 240, pixels
    container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
    container.mux(stream.encode())
  height, width = size
  stored = videos.read(tmp_path / "a.mkv",
                       lambda *_: boxes.StoredWindow(0, 0, 320, 240, width, height), 9)
  found = decode_frame(stored.frames[0]).astype(float)
  edges = [np.linspace(0, n, m + 1).round().astype(int) for n, m in zip((240, 320), size)]
  expected = np.array([[image[a:b, c:d].mean((0, 1)) for c, d in itertools.pairwise(edges[1])]
                       for a, b in itertools.pairwise(edges[0])])
  assert found.shape == (*size, 3)
  # Blocks of whole pixels are not exactly those of a size that does not divide.
  even = 240 % height == 320 % width == 0
  assert np.abs(found - expected).mean() < (2 * apart if even else 4 * apart)
  np.testing.assert_allclose(found.mean((0, 1)), expected.mean((0, 1)), atol=apart / 2)


def test_long_videos_are_thinned_evenly(tmp_path):
  path = raw_own.video(tmp_path / "a.avi", 19, codec="mjpeg", pixels="yuvj420p")
  for most, positions in ((19, range(19)), (18, range(0, 19, 2)), (10, range(0, 19, 2)),
                          (9, range(0, 19, 4)), (4, range(0, 19, 8)), (2, range(0, 19, 16))):
    stored = videos.read(path, whole, most)
    assert stored.positions.tolist() == list(positions)
    assert stored.fps == 10 / (positions[1] - positions[0])
    levels = [raw_own.grey(decode_frame(frame)) for frame in stored.frames]
    np.testing.assert_allclose(levels, [30 + raw_own.STEP * i for i in positions], atol=8)


def test_memory_does_not_grow_with_the_length(tmp_path):
  peaks = []
  for count in (60, 600):
    path = raw_own.video(tmp_path / f"{count}.mp4", count, (160, 120))
    videos.read(path, whole, 16)  # what is imported and cached on first use does not count
    tracemalloc.start()
    assert len(videos.read(path, whole, 16).frames) <= 16
    peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
  assert peaks[1] < 1.2 * peaks[0]


@pytest.mark.parametrize("matrix, turn", [
    ((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1), ((1, 0, 0, 1), 0)])
def test_turned_phone_videos_are_stored_upright(tmp_path, matrix, turn):
  plain = raw_own.video(tmp_path / "plain.mp4", 3, (64, 48))
  data = bytearray(plain.read_bytes())
  # The matrix of the track header box: version and flags, five words, eight and eight bytes on.
  at = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
  a, b, c, d = (n << 16 for n in matrix)
  assert struct.unpack(">9i", data[at:at + 36]) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
  data[at:at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
  (tmp_path / "turned.mp4").write_bytes(data)
  images = [decode_frame(videos.read(tmp_path / name, whole, 9).frames[1])
            for name in ("plain.mp4", "turned.mp4")]
  np.testing.assert_allclose(np.rot90(images[0], turn).astype(int), images[1], atol=12)


def timed(path, times, codec="mpeg4"):
  """A video whose frames are shown from these milliseconds on."""
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=30)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    stream.codec_context.time_base = Fraction(1, 1000)
    for i, time in enumerate(times):
      frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * i, np.uint8), "rgb24")
      frame.pts, frame.time_base = time, Fraction(1, 1000)
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return path


@pytest.mark.parametrize("name, codec", [("a.webm", "libvpx"), ("a.mkv", "mpeg4"),
                                         ("a.mp4", "mpeg4"), ("a.mov", "libx264")])
def test_videos_of_any_rate_and_start_are_whole(tmp_path, name, codec):
  uneven = np.cumsum(np.random.default_rng(0).integers(10, 300, 60)).tolist()
  for times in (uneven, [90_000 + 33 * i for i in range(60)]):
    assert videos.scan(timed(tmp_path / name, times, codec)).count == 60


def test_frames_that_an_edit_list_hides_are_not_missed(tmp_path):
  timed(tmp_path / "whole.mp4", [33 * i for i in range(60)])
  with av.open(str(tmp_path / "whole.mp4")) as source, av.open(
      str(tmp_path / "trimmed.mp4"), "w") as target:
    stream = target.add_stream_from_template(source.streams.video[0])
    for packet in source.demux(video=0):
      if packet.dts is not None:
        packet.stream = stream
        # From the half on; what is before is needed to decode it.
        half = round(1 / packet.time_base)
        packet.pts, packet.dts = packet.pts - half, packet.dts - half
        target.mux(packet)
  facts = videos.scan(tmp_path / "trimmed.mp4")
  assert facts.declared == 60 and 28 <= facts.count <= 31


@pytest.mark.parametrize("name, codec", [("a.webm", "libvpx"), ("a.mkv", "mpeg4")])
def test_a_part_of_a_video_is_truncated(tmp_path, name, codec):
  data = timed(tmp_path / name, [33 * i for i in range(60)], codec).read_bytes()
  for share in (0.5, 0.8):
    (tmp_path / name).write_bytes(data[:round(share * len(data))])
    with pytest.raises(RawDataError, match=r"is truncated: its \d+ frames end after"):
      videos.scan(tmp_path / name)


def test_frames_of_several_sizes_become_the_first(tmp_path):
  rng = np.random.default_rng(0)
  sizes = [(48, 64), (48, 64), (24, 32), (96, 64)]
  data = b"".join(encode_jpeg(np.full((*size, 3), 40 * i, np.uint8) +
                                      rng.integers(0, 3, (*size, 3), np.uint8))
                  for i, size in enumerate(sizes))
  for name in ("a", "b"):
    (tmp_path / "raw" / name).mkdir(parents=True)
    (tmp_path / "raw" / name / "0.mjpeg").write_bytes(data)
  lines = []
  raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data", lines.append)
  record = open_prepared(tmp_path / "data")[0]
  images = [decode_frame(frame) for frame in record["frames"]]
  assert [image.shape for image in images] == [(48, 64, 3)] * 4
  np.testing.assert_allclose([image.mean() for image in images], [1, 41, 81, 121], atol=2)
  assert "resized_frames: 2 clips, such as a/0" in lines
  assert "frames of 3 sizes" in str(
      validation.validate("folder", str(tmp_path / "raw"), {}, 1).findings[0])


def no_frames(path):
  # An AVI header that declares a video stream, and nothing after it.
  raw_own.video(path, 3)
  data = path.read_bytes()
  path.write_bytes(data[:data.index(b"movi") + 4])


BROKEN = {
    "empty.mp4": lambda path: path.write_bytes(b""),
    "text.mp4": lambda path: path.write_text("not a video, although it is called one\n" * 50),
    "zeros.avi": lambda path: path.write_bytes(b"\0" * 5000),
    "header.avi": no_frames,
    "half.mp4": lambda path: halve(raw_own.video(path, 20)),
    "half.avi": lambda path: halve(raw_own.video(path, 30, codec="mjpeg", pixels="yuvj420p")),
    "half.mkv": lambda path: halve(raw_own.video(path, 40, codec="ffv1")),
    "sound.mp4": lambda path: sound(path),
}


def halve(path):
  data = path.read_bytes()
  path.write_bytes(data[:len(data) // 2])


def sound(path):
  with av.open(str(path), "w") as container:
    stream = container.add_stream("aac", rate=8000)
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), "fltp", "mono")
    frame.rate = 8000
    container.mux(stream.encode(frame))
    container.mux(stream.encode())


@pytest.mark.parametrize("name", BROKEN)
def test_broken_videos_are_named(tmp_path, name, capfd):
  path = tmp_path / name
  BROKEN[name](path)
  for function in (videos.scan, lambda path: videos.read(path, whole, 99)):
    with pytest.raises(RawDataError, match=f"{path} (is|has|holds|does not)") as error:
      function(path)
    assert "\n" not in str(error.value)
  assert "Traceback" not in capfd.readouterr().err


def test_places_before_a_file_are_an_error_code_for_the_library(tmp_path):
  (tmp_path / "file").write_bytes(b"12345")
  with open(tmp_path / "file", "rb") as file:
    given = videos._Input(file)
    assert (given.seek(2), given.read(2), given.tell()) == (2, b"34", 4)
    assert given.seek(-9) == given.seek(0, 77) == -errno.EINVAL and given.tell() == 4


def test_playlists_open_nothing_else(tmp_path):
  """FFmpeg follows playlists, to other files and over the network; here they are no videos."""
  target = raw_own.video(tmp_path / "secret.avi", 5)
  playlist = ("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n"
              f"file://{target}\n#EXT-X-ENDLIST\n")
  for name, text in (("a.m3u8", playlist), ("a.mp4", playlist),
                     ("b.avi", f"ffconcat version 1.0\nfile {target}\n")):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RawDataError, match="does not decode"):
      videos.scan(path)
  with av.open(str(tmp_path / "a.m3u8")) as container:  # what is prevented
    assert sum(1 for _ in container.decode(video=0)) == 5


def test_the_real_videos_through_the_command(real_data, tmp_path):
  source = real_data / "videos"
  counts = {"S001C001P001R001A001_rgb.avi": 103, "demo_skeleton.mp4": 72, "test.avi": 164}
  if not all((source / name).is_file() for name in counts):
    pytest.skip("no videos among the real data")
  rows = [(name, label) for name, label in zip(counts, ("drink", "touch", "face"))]
  listed = table(tmp_path / "clips.csv", rows)
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", "--name=real",
       f"--raw_dir={source}", f"--table={listed}", f"--data_dir={tmp_path}", "--workers=1",
       "--size=64", "--max_frames=120"], cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr
  assert "thinned: 1 clips, such as test" in result.stdout
  assert "--config.data.dataset=folder:real --config.data.protocol=fraction" in result.stdout
  found = by_id(open_prepared(tmp_path, "folder:real"))
  assert {name: found[pathlib.Path(name).stem]["num_frames"] for name in counts} == {
      "S001C001P001R001A001_rgb.avi": 103, "demo_skeleton.mp4": 72, "test.avi": 82}
  assert found["test"]["fps"] == 12.5 and found["S001C001P001R001A001_rgb"]["fps"] == 30
  assert decode_frame(found["demo_skeleton"]["frames"][9]).shape == (64, 114, 3)
  # The affine map takes the corners of the stored frame to those of the original, outer edges.
  affine = found["demo_skeleton"]["frame_to_original"].astype(float)
  for stored, original in (((-0.5, -0.5), (-0.5, -0.5)), ((113.5, 63.5), (1919.5, 1079.5))):
    np.testing.assert_allclose(affine[:, :2] @ stored + affine[:, 2], original, atol=1e-3)


# ---- what there is -------------------------------------------------------------------

def test_a_folder_a_class(tmp_path):
  raw_own.folder(tmp_path / "raw", ("wave", "clap"))
  raw_own.video(tmp_path / "raw/wave/deep/er/9.MP4", 4)
  (tmp_path / "raw/notes.txt").write_text("x")
  (tmp_path / "raw/.hidden.mp4").write_text("x")
  summary = raw_own.prepare("folder:mine", tmp_path / "raw", tmp_path / "data")
  assert summary["classes"] == {"clap": 3, "wave": 4}
  dataset = open_prepared(tmp_path / "data")
  assert dataset.index.clip_id.tolist() == ["clap/0", "clap/1", "clap/2", "wave/0", "wave/1",
                                            "wave/2", "wave/deep/er/9"]
  assert dataset.index.num_frames.tolist() == [6, 7, 8, 6, 7, 8, 4]
  # A third of each class is tested, a quarter of four rounded: 1 of 3, 1 of 4.
  assert summary["protocols"] == {"fraction": {"train": 5, "test": 2}}
  assert dataset.info["layout"] == "" and dataset.info["modality"] == "colour"
  record = by_id(dataset)["wave/1"]
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
  table(tmp_path / "raw/clips.csv", rows, ("Path", "label", "subject", "split", "camera"))
  lines = []
  summary = raw_own.prepare("folder:mine", tmp_path / "raw/clips.csv", tmp_path / "data",
                            lines.append)
  dataset = open_prepared(tmp_path / "data")
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
    ("path,label\na.mp4,\n", "line 2: label: '' is no name of a class"),
    ('path,label\na.mp4,"x\ny"\n', "label: .* is no name of a class"),
    ("path,label\na.mp4,x\na.mp4,y\n", "a.mp4: path: is listed twice"),
    ("path,label\na.mp4,x\n./a.avi,y\n", "a.avi: path: and a.mp4 claim one clip id"),
    ("path,label,split\na.mp4,x,train\nb.mp4,y,dev2\n", "b: split: 'dev2' is none of train, val"),
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
  BROKEN["half.mp4"](raw / "half.mp4")
  np.savez(raw / "clap/0.npz", pose2d=raw_own.poses(0, (1, 6, 17)))
  np.savez(raw / "clap/1.npz", pose2d=raw_own.poses(0, (1, 7, 16)), pose_score=np.ones(3))
  np.savez(raw / "clap/2.npz", pose3d=raw_own.poses(0, (1, 8, 17), width=3), layout="x")
  rows = [("clap/0.mp4", "clap"), ("clap/1.mp4", "clap"), ("clap/2.mp4", "clap"),
          ("wave/0.mp4", "wave"), ("gone.mp4", "wave"), ("../x.mp4", "wave"), ("half.mp4", "wave")]
  listed = table(raw / "clips.csv", rows)
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
      ("wave/7.doc", "is no video by its name: passed over", True)}


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


# ---- skeletons -----------------------------------------------------------------------

def test_skeletons_crop_the_video_and_follow_it(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1, size=(128, 96))
  pose = raw_own.poses(1, (2, 6, 17), 50, 70)
  score = np.ones((2, 6, 17), np.float32)
  score[1, 2] = 0
  for name in ("clap", "wave"):
    np.savez(raw / name / "0.npz", pose2d=pose, pose_score=score)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"size": 24})
  dataset = open_prepared(tmp_path / "data")
  record = dataset[0]
  assert dataset.info["layout"] == "coco_17" and dataset.info["poses"] == ["pose2d"]
  assert dataset.info["notes"] == {}
  there = score > 0
  low, high = pose[there].min(0), pose[there].max(0)
  x0, y0 = np.floor(low - 0.3 * (high - low))
  x1, y1 = np.ceil(high + 0.3 * (high - low)) + 1
  image = decode_frame(record["frames"][0])
  scale = 24 / max(x1 - x0, y1 - y0)
  assert image.shape == (round((y1 - y0) * scale), round((x1 - x0) * scale), 3)
  np.testing.assert_array_equal(record["image_size"], image.shape[:2])
  affine = record["frame_to_original"].astype(float)
  back = record["pose2d"] @ affine[:, :2].T + affine[:, 2]
  np.testing.assert_allclose(back[there], pose[there], atol=1e-3)
  assert not record["pose2d"][1, 2].any() and not record["pose_score"][1, 2].any()
  frame = record["pose2d"][:, 3].reshape(-1, 2)
  np.testing.assert_array_equal(record["boxes"][3], [*frame.min(0), *frame.max(0)])
  raw_own.prepare("folder:whole", raw, tmp_path / "data",
                  options={"size": 48, "whole_frames": True})
  record = open_prepared(tmp_path / "data", "folder:whole")[0]
  assert decode_frame(record["frames"][0]).shape == (48, 64, 3)
  np.testing.assert_allclose(record["pose2d"][there], (pose[there] + 0.5) / 2 - 0.5, atol=1e-4)


def test_skeletons_of_another_length_or_size_are_stretched_and_counted(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=2)  # of 6 and 7 frames
  pose = raw_own.poses(0, (1, 3, 17), 5, 90)
  same = raw_own.poses(1, (1, 7, 17), 5, 40)
  for name in ("clap", "wave"):
    # Found in a rendition of twice the size.
    np.savez(raw / name / "0.npz", pose2d=pose, image_size=(96, 128))
    np.savez(raw / name / "1.npz", pose2d=same, image_size=(48, 64))
  lines = []
  raw_own.prepare("folder:mine", raw, tmp_path / "data", lines.append)
  assert "stretched_skeleton: 2 clips, such as clap/0" in lines
  found = by_id(open_prepared(tmp_path / "data"))
  for clip, expected in (("wave/0", (pose[:, [0, 0, 1, 1, 2, 2]] + 0.5) / 2 - 0.5),
                         ("wave/1", same)):
    affine = found[clip]["frame_to_original"].astype(float)
    back = found[clip]["pose2d"] @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(back, expected, atol=1e-3)
  warnings = validation.validate("folder", str(raw), {}, 1).findings
  assert [str(w) for w in warnings] == [
      f"{name}/0: skeletons: have 3 frames, the video 6; time is stretched evenly"
      for name in ("clap", "wave")]


def test_skeletons_of_a_thinned_video(tmp_path):
  raw = tmp_path / "raw"
  for name in ("clap", "wave"):
    raw_own.video(raw / name / "0.mp4", 9)
    np.savez(raw / name / "0.npz", pose3d=(np.arange(9 * 20 * 3.0).reshape(1, 9, 20, 3) + 1) / 64)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"max_frames": 5})
  dataset = open_prepared(tmp_path / "data")
  record = dataset[1]
  assert dataset.info["layout"] == "kinect_v1_20" and record["num_frames"] == 5
  assert (record["pose3d"][0, :, 0, 0] * 64).tolist() == [1 + 60 * i for i in (0, 2, 4, 6, 8)]
  assert dataset.info["notes"] == {"thinned": ["clap/0", "wave/0"]}


def test_clips_without_a_skeleton_have_nobody(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=2)
  np.savez(raw / "clap/0.npz", pose3d=raw_own.poses(0, (1, 6, 25), width=3) / 20)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  dataset = open_prepared(tmp_path / "data")
  assert dataset.info["notes"] == {"no_skeleton": ["clap/1", "wave/0", "wave/1"]}
  record = by_id(dataset)["wave/1"]
  assert record["pose3d"].shape == (0, 7, 25, 3) and record["pose_score"].shape == (0, 7, 25)
  config = pipeline.DataConfig(dataset="folder:mine", protocol="fraction",
                               pose=pipeline.PoseConfig(num_poses=4, persons=2),
                               about=own.Facts.of(dataset.info))
  row = pipeline.ClipTransform(config).test(record)
  assert row["pose3d"].shape == (1, 2, 4, 25, 3) and not row["pose_score"].any()


def test_skeletons_alone(tmp_path):
  raw = tmp_path / "raw"
  for i, name in enumerate(("clap", "wave")):
    (raw / name).mkdir(parents=True)
    np.savez(raw / name / "0.npz", pose3d=raw_own.poses(i, (1, 4, 15), width=3), layout="cad_15",
             fps=12.5)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  dataset = open_prepared(tmp_path / "data")
  assert dataset.info["layout"] == "cad_15" and dataset.info["modality"] == "none"
  np.testing.assert_array_equal(dataset[1]["pose3d"], raw_own.poses(1, (1, 4, 15), width=3))
  assert dataset[1]["fps"] == 12.5 and not dataset[1]["frames"]


def test_an_annotation_file_gives_the_skeletons(tmp_path):
  raw = tmp_path / "raw"
  clips = {"clap/S1_rgb": "S1", "clap/S2": "S2", "wave/S3": "wave/S3", "wave/S4": None}
  made = []
  for i, (clip, name) in enumerate(clips.items()):
    raw_own.video(raw / f"{clip}.mp4", 5)
    if name:
      made.append(raw_own.annotation(name, 7, seed=i, shape=(1, 5, 17), image_size=(48, 64)))
  raw_own.dump(raw / "poses.pkl", {"annotations": made, "split": {}})
  lines = []
  raw_own.prepare("folder:mine", raw, tmp_path / "data", lines.append,
                  options={"skeletons": "poses.pkl", "whole_frames": True})
  found = by_id(open_prepared(tmp_path / "data"))
  for i, (clip, name) in enumerate(clips.items()):
    if name:
      np.testing.assert_array_equal(found[clip]["pose2d"],
                                    made[i]["keypoint"].astype(np.float32))
      assert found[clip]["label"] == clip.startswith("wave")
    else:
      assert found[clip]["pose2d"].shape == (0, 5, 17, 2)
  assert "no_skeleton: 1 clips, such as wave/S4" in lines
  raw_own.dump(raw / "poses.pkl", raw_own.annotations(4))
  with pytest.raises(RawDataError, match="no frame_dir is the name of a video, such as clap/S1"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"skeletons": "poses.pkl"})


@pytest.mark.parametrize("arrays, message", [
    (dict(pose2d=np.zeros((6, 17, 2))), r"pose2d: has shape \[6, 17, 2\], expected \[persons"),
    (dict(pose2d=np.zeros((1, 6, 17, 3))), "pose2d: has shape"),
    (dict(pose2d=np.full((1, 6, 17, 2), "x")), "pose2d: holds <U1, not numbers"),
    (dict(other=np.zeros(3)), "holds 'other.npy', which is none of its arrays"),
    (dict(pose2d=np.full((1, 6, 17, 2), None)), "holds object, not numbers or text"),
    (dict(pose2d=np.ones((1, 6, 17, 2)), image_size=np.zeros(2)), "image_size: is no"),
    (dict(pose_score=np.ones((1, 6, 17))), "skeletons: has no pose"),
    (b"no archive", "is not a readable .npz archive"), (b"", "is not a readable .npz archive")])
def test_broken_skeleton_files_are_named(tmp_path, arrays, message):
  raw = raw_own.folder(tmp_path / "raw", clips=1)
  np.savez(raw / "clap/0.npz", pose2d=raw_own.poses())
  if isinstance(arrays, bytes):
    (raw / "wave/0.npz").write_bytes(arrays)
  else:
    np.savez(raw / "wave/0.npz", **arrays)
  with pytest.raises(RawDataError, match=f"wave/0.*{message}"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")


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
  info = open_prepared(tmp_path / "data").info
  assert info["unreadable"] == "skip" and [clip for clip, _ in info["skipped"]] == ["wave/2"]
  # Nothing to do, and then again with the file mended.
  again = raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip",
                          max_unreadable=0.2)
  assert not again["done"] and again["skipped"] == 1
  with pytest.raises(RawDataError, match="wave/2.mp4"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")
  assert len(open_prepared(tmp_path / "data")) == 7
  (raw / "wave/2.mp4").write_bytes(whole_file)
  summary = raw_own.prepare("folder:mine", raw, tmp_path / "data")
  assert (summary["done"], summary["clips"], summary["skipped"]) == (True, 8, 0)
  for wrong in ({"unreadable": "ignore"}, {"max_unreadable": 1.0}, {"max_unreadable": -0.1}):
    with pytest.raises(UserError, match="--(max_)?unreadable="):
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
  first, second = open_prepared(tmp_path / "data"), open_prepared(tmp_path / "whole")
  assert first.info == second.info and len(first.info["skipped"]) == 1
  for shard in first.info["shards"]:
    assert (first.path / shard["file"]).read_bytes() == (second.path / shard["file"]).read_bytes()


def test_what_prepares_anew(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1, size=(320, 240), codec="mjpeg", pixels="yuvj420p")
  rows = [["clap/0.mp4", "clap", "1"], ["wave/0.mp4", "wave", "2"]]
  listed = table(raw / "a.csv", rows, ("path", "label", "subject"))

  def done(**kwargs):
    return raw_own.prepare("folder:mine", listed, tmp_path / "data", **kwargs)["done"]

  assert done() and not done()
  os.utime(raw / "clap/0.mp4")  # its time alone says nothing
  assert not done()
  rows[1][2] = "3"
  table(listed, rows, ("path", "label", "subject"))
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
  original = table(raw / "a.csv", rows, listing.COLUMNS).read_bytes()
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


def _mutated_videos(tmp_path_factory, examples):
  root = tmp_path_factory.mktemp("videos")
  originals = [raw_own.video(root / f"a.{extension}", 4, (32, 32), codec, pixels).read_bytes()
               for extension, codec, pixels in CODECS[:5]]

  # The same files every time: a decoder's crash, should there be one, can then be looked into.
  @hypothesis.settings(max_examples=examples, deadline=None, derandomize=True,
                       suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(which=st.integers(0, 4), positions=st.lists(st.integers(0, 10**6), max_size=6),
                    values=st.lists(st.integers(0, 255), min_size=6, max_size=6),
                    cut=st.none() | st.integers(0, 10**6))
  def read(which, positions, values, cut):
    path = root / "mutated"
    path.write_bytes(raw_own.mutations(originals[which], positions, values, cut))
    try:
      stored = videos.read(path, whole, 3)
      assert 1 <= len(stored.frames) <= 3 and stored.facts.count >= 1
    except RawDataError as error:
      assert str(path) in str(error) and "\n" not in str(error)

  read()


def test_mutated_videos_raise_the_documented_error(tmp_path_factory):
  _mutated_videos(tmp_path_factory, 150)


@pytest.mark.slow
def test_many_mutated_videos_raise_the_documented_error(tmp_path_factory):
  _mutated_videos(tmp_path_factory, 2000)


# ---- from a folder to a result -------------------------------------------------------

def own_config(data, name="folder:mine", **changes):
  config = configuration.load(
      f"{configuration.shipped_directory()}/own_data.py:tiny,protocol=fraction,dataset={name}")
  config.data_dir = str(data)
  for key, value in changes.items():
    config[key] = value
  return config


@pytest.mark.slow
def test_training_and_evaluation_on_an_own_folder(tmp_path, quick_compilation):
  raw = raw_own.folder(tmp_path / "raw", clips=5)
  (raw / "wave/4.mp4").write_bytes(b"broken")
  raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip", max_unreadable=0.2)
  config = own_config(tmp_path / "data")
  config.steps[0].epochs = 2.0
  found = recipe.run(config, tmp_path / "run")
  assert found["test"]["clips"] == 3 and found["test"]["split"] == "fraction/test"
  # Five and five, one of which is broken; 30 % of each five are tested, drawn before any is read.
  assert found["test"]["skipped_at_preparation"] == 1 and found["test"]["unreadable"] == 0
  scores = np.load(tmp_path / "run/01_test/scores.npz")
  assert set(scores["clip_ids"]) == columns.fraction(
      [f"{name}/{i}" for name in ("clap", "wave") for i in range(5)], [0] * 5 + [1] * 5)["test"] - {
          "wave/4"}
  # Without the prepared dataset, the model knows what it needs.
  import actionjax
  (tmp_path / "data/folder").rename(tmp_path / "data/away")
  model = actionjax.load(tmp_path / "run")
  assert model.class_names == ("clap", "wave") and model.layout is None
  assert model({"frames": np.zeros((9, 40, 50, 3), np.uint8)}).sum() == pytest.approx(1)
  with pytest.raises(UserError, match="folder:mine is not prepared in .*; run: python -m "
                                      "actionjax.prepare --dataset=folder --name=mine"):
    recipe.plan(config)
  (tmp_path / "data/away").rename(tmp_path / "data/folder")
  # Prepared anew with a class more, it is not what the model was trained for.
  raw_own.video(raw / "jump/0.mp4", 4)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip", max_unreadable=0.2)
  (tmp_path / "run/01_test/done.json").unlink()
  with pytest.raises(UserError, match="was prepared anew with another class_names .clap, jump, "
                                      "wave. than is expected here .clap, wave."):
    recipe.run(config, tmp_path / "run")


def test_planning_knows_the_own_dataset(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", ("clap", "jump", "wave"), clips=1)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  config = own_config(tmp_path / "data")
  step = recipe.plan(config)[0]
  parsed = step.module.parse(step.config, step.path)
  assert parsed.model.num_classes == 3 and parsed.data.about.class_names == (
      "clap", "jump", "wave")
  assert config.data.get("about") is None  # found again by every run, not part of the config
  description = step.module.describe(step.config, parsed)
  written = json.loads(json.dumps(description))
  assert written["class_names"] == ["clap", "jump", "wave"]
  # As checkpoints of every version have it.
  assert written["data"]["about"] == {
      "class_names": ["clap", "jump", "wave"], "layout": "", "modality": "colour", "poses": [],
      "protocols": ["fraction"]}
  assert parse_data(written["data"], "data") == parsed.data
  with pytest.raises(UserError, match="folder:other is not prepared in .*prepared there: "
                                      "folder:mine"):
    recipe.plan(own_config(tmp_path / "data", "folder:other"))
  config = own_config(tmp_path / "data")
  config.data.protocol = "split"
  with pytest.raises(UserError, match="unknown protocol 'split' of folder:mine; known: fraction"):
    recipe.run(config, tmp_path / "run")
  config = configuration.load(f"{configuration.shipped_directory()}/own_data.py:tiny,inputs=pose,"
                              "dataset=folder:mine,protocol=fraction")
  config.data_dir = str(tmp_path / "data")
  with pytest.raises(UserError, match="folder:mine has no skeletons, and the config's data.pose"):
    recipe.run(config, tmp_path / "run2")


def test_skeletons_alone_are_no_video(tmp_path):
  raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", raw_own.annotations(8)),
                  tmp_path / "data")
  config = configuration.load(f"{configuration.shipped_directory()}/own_data.py:tiny,"
                              "dataset=annotations:mine,protocol=xsub")
  config.data_dir = str(tmp_path / "data")
  with pytest.raises(UserError, match="annotations:mine holds skeletons alone, but data.video"):
    recipe.run(config, tmp_path / "run")


@pytest.mark.slow
def test_from_the_folder_to_metrics_by_the_commands(tmp_path):
  raw = raw_own.folder(tmp_path / "raw")
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "ACTIONJAX_DATA": str(tmp_path / "data")}
  run = dict(cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", "--name=mine",
       f"--raw_dir={raw}", "--workers=2"], **run)
  assert result.returncode == 0, result.stderr
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.main", f"--workdir={tmp_path / 'run'}",
       "--config=configs/own_data.py:tiny,epochs=2,dataset=folder:mine,protocol=fraction"], **run)
  assert result.returncode == 0, result.stderr
  assert json.loads((tmp_path / "run/metrics.json").read_text())["test"]["clips"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("flags, message", [
    (("--dataset=folder",), "--name is missing: configs will call the dataset folder:NAME"),
    (("--dataset=folder:a/b",), "'a/b' cannot name a dataset"),
    (("--dataset=folder", "--name=x"), "folder:x is not prepared in "),
    (("--dataset=folder", "--name=x", "--export=out"), "folder:x is not prepared in "),
    (("--dataset=utd_mhad", "--size=64"), "--size says nothing to --dataset=utd_mhad"),
    (("--dataset=annotations", "--name=x", "--table=a.csv"), "--table says nothing to"),
    (("--dataset=utd_mhad", "--name=x"), "--name is for datasets of your own"),
    (("--dataset=folder", "--validate"), "--raw_dir is missing: it names what to validate"),
    (("--dataset=utd_mhad", "--raw_dir=.", "--validate"), "--validate reads annotations, folder"),
])
def test_the_command_names_mistakes(tmp_path, flags, message):
  result = subprocess.run([sys.executable, "-m", "actionjax.prepare", f"--data_dir={tmp_path}",
                           *flags], cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 1 and result.stdout == ""
  assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
  assert not list(tmp_path.iterdir())
