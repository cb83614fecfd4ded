"""Videos of any kind: what is read of them, and what is refused."""
import errno
import itertools
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

from actionjax.data.clips import boxes, videos
from actionjax.data.formats.images import decode_frame, encode_jpeg
from actionjax.data.own import validation
from actionjax.errors import RawDataError
from tests import raw_own
from tests.conftest import ROOT

CODECS = (("mp4", "mpeg4", "yuv420p"), ("mkv", "libx264", "yuv420p"), ("mov", "libx264", "yuv444p"),
          ("webm", "libvpx-vp9", "yuv420p"), ("avi", "mjpeg", "yuvj420p"), ("ts", "mpeg2video",
          "yuv420p"), ("gif", "gif", "rgb8"), ("mkv", "ffv1", "gray"), ("wmv", "wmv2", "yuv420p"))


def whole(width, height):
  return boxes.clip_window(None, width, height)


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
  record = raw_own.open_prepared(tmp_path / "data")[0]
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
    "half.mp4": lambda path: raw_own.halve(raw_own.video(path, 20)),
    "half.avi": lambda path: raw_own.halve(
        raw_own.video(path, 30, codec="mjpeg", pixels="yuvj420p")),
    "half.mkv": lambda path: raw_own.halve(raw_own.video(path, 40, codec="ffv1")),
    "sound.mp4": lambda path: sound(path),
}


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
  listed = raw_own.table(tmp_path / "clips.csv", rows)
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", "--name=real",
       f"--raw_dir={source}", f"--table={listed}", f"--data_dir={tmp_path}", "--workers=1",
       "--size=64", "--max_frames=120"], cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 0, result.stderr
  assert "thinned: 1 clips, such as test" in result.stdout
  assert "--config.data.dataset=folder:real --config.data.protocol=fraction" in result.stdout
  found = raw_own.by_id(raw_own.open_prepared(tmp_path, "folder:real"))
  assert {name: found[pathlib.Path(name).stem]["num_frames"] for name in counts} == {
      "S001C001P001R001A001_rgb.avi": 103, "demo_skeleton.mp4": 72, "test.avi": 82}
  assert found["test"]["fps"] == 12.5 and found["S001C001P001R001A001_rgb"]["fps"] == 30
  assert decode_frame(found["demo_skeleton"]["frames"][9]).shape == (64, 114, 3)
  # The affine map takes the corners of the stored frame to those of the original, outer edges.
  affine = found["demo_skeleton"]["frame_to_original"].astype(float)
  for stored, original in (((-0.5, -0.5), (-0.5, -0.5)), ((113.5, 63.5), (1919.5, 1079.5))):
    np.testing.assert_allclose(affine[:, :2] @ stored + affine[:, 2], original, atol=1e-3)


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
