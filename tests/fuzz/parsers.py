"""The parsers that are fuzzed: what they read, from which files to begin, what is sound."""
import dataclasses
import io
import json
import pathlib
import pickle
import tempfile
import zipfile
import zlib
from collections.abc import Callable

import cv2
import numpy as np
import scipy.io

from actionjax.data.builders import _ntu_skeletons, nucla, utd_mhad
from actionjax.data.clips import boxes, skeleton_arrays, videos
from actionjax.data.clips.record import complete
from actionjax.data.formats import archives, images, plain_npz, plain_pickle, raw_files
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import Findings
from actionjax.data.own import annotations, columns, folder, interchange_files, listing
from actionjax.data.own import interchange as own_interchange
from tests import raw_ntu, raw_own, raw_utd

MEGABYTE = 2**20


@dataclasses.dataclass(frozen=True)
class Parser:
  """One parser.

  Attributes:
    file: the name of its file, in an otherwise empty folder.
    seeds: function () -> files to begin with.
    read: function (path of the file); raises AssertionError where what it gives is not sound.
    modules: whose lines guide the search.
    tokens: what the format is made of.
    repair: makes checksums fit again, bytes -> bytes; None where there are none.
    set_up: function (folder), called once, writes what else there has to be.
    megabytes: that reading one input may need. seconds: of processor time.
  """
  file: str
  seeds: Callable[[], list[bytes]]
  read: Callable[[pathlib.Path], None]
  modules: tuple
  tokens: tuple[bytes, ...] = ()
  repair: Callable[[bytes], bytes] | None = None
  set_up: Callable[[pathlib.Path], None] = lambda folder: None
  megabytes: int = 256
  seconds: float = 5.0


def _source(path: pathlib.Path) -> Source:
  return Source(None, str(path), path.stat().st_size)


def _check_record(record: dict) -> None:
  """What `prepare` would store: complete, finite, missing joints at 0."""
  made = dict(record)
  made.pop("notes", None)
  made = complete(made)
  for name in ("pose3d", "pose2d"):
    if made[name].size:
      assert np.isfinite(made[name]).all(), f"{name} is not finite"
      assert not made[name][made["pose_score"] == 0].any(), f"{name} of a missing joint"
  tfds_label = int(made["label"])
  assert tfds_label >= 0 and made["num_frames"] >= 1


# ---- NTU's .skeleton -----------------------------------------------------------------

def _skeleton_seeds() -> list[bytes]:
  texts = [raw_ntu.text(2, {"7": (0, raw_ntu.body(2))}),
           raw_ntu.text(2, {"1": (0, raw_ntu.body(1)), "2": (1, raw_ntu.body(1, 1))}),
           raw_ntu.NOBODY, "0\r\n", "1\n1\n" + raw_ntu.text(1, {"a": (0, raw_ntu.body(1))})[6:]]
  return [text.encode() for text in texts]


def _read_skeleton(path: pathlib.Path) -> None:
  source = _source(path)
  _ntu_skeletons.tracks_somebody(source)
  skeleton = _ntu_skeletons.read(source)
  persons, frames = skeleton.score.shape[:2]
  assert 1 <= persons <= 2 and frames >= 1 and skeleton.score.shape[2] == 25
  assert skeleton.pose3d.shape == (persons, frames, 25, 3)
  assert skeleton.pose2d.shape == (persons, frames, 25, 2)
  _check_record({"clip_id": "a", "label": 0, "num_frames": frames, "pose3d": skeleton.pose3d,
                 "pose2d": skeleton.pose2d, "pose_score": skeleton.score})


# ---- UTD-MHAD's .mat -----------------------------------------------------------------

def _mat(variables: dict, **kwargs) -> bytes:
  file = io.BytesIO()
  scipy.io.savemat(file, variables, **kwargs)
  return file.getvalue()


def _mat_seeds() -> list[bytes]:
  skeleton, depth = raw_utd.skeleton(2), raw_utd.depth(1)
  depth[60:200] = (depth[60:200] > 0) * np.uint16(2500)  # constant: little to write
  return [_mat({"d_skel": skeleton}), _mat({"d_skel": skeleton}, do_compression=True),
          _mat({"d_skel": skeleton[..., 0]}, format="4"),
          _mat({"d_depth": depth}, do_compression=True),
          _mat({"x": {"a": np.zeros(2), "b": "text"}, "d_skel": skeleton[:, :, :1]}),
          _mat({"c": np.array([[1, 2], [3, 4j]]), "o": np.array(["a", 1], object)})]


def _read_mat(path: pathlib.Path) -> None:
  source = _source(path)
  for skeleton, depth in ((source, None), (None, source)):
    try:
      found = utd_mhad.encode(utd_mhad.RawClip("a", 1, 1, 1, depth, skeleton))
    except utd_mhad.RawDataError as error:
      if skeleton is not None and "has no variable d_skel" in str(error):
        continue
      raise
    _check_record(found)
    return


# ---- N-UCLA's JSON, text and images --------------------------------------------------

_CLIP = "a08_s03_e01_v02"


def _nucla_clip(**files) -> nucla.RawClip:
  return nucla.RawClip(_CLIP, 8, 3, 1, 2, **({"frames": (), "texts": (), "skeleton": None} | files))


def _json_seeds() -> list[bytes]:
  pose = np.round(np.linspace([-0.3, -0.8, 2.4], [0.3, 0.7, 2.6], 40).reshape(2, 20, 3), 3)
  content = {"file_name": _CLIP, "skeletons": pose.tolist(), "label": 7}
  return [json.dumps(content).encode(), json.dumps(content | {"skeletons": []}).encode(),
          json.dumps({"skeletons": pose[:1].tolist(), "x": {"y": [None, True, 1e9]}}).encode()]


def _read_json(path: pathlib.Path) -> None:
  _check_record(nucla.encode(_nucla_clip(skeleton=_source(path)),
                             **nucla.DATASET.variants["skeleton"]))


def _text_seeds() -> list[bytes]:
  lines = ["0", *(f"{0.1 * j},{-0.05 * j},{2 + 0.01 * j},2" for j in range(20))]
  return ["\n".join(lines).encode(), "\n".join(lines * 2).encode(), b""]


def _read_text(path: pathlib.Path) -> None:
  clip = _nucla_clip(texts=((1, _source(path)),))
  _check_record(nucla.encode(clip, **nucla.DATASET.variants["skeleton"]))


def _image_seeds() -> list[bytes]:
  image = np.full((16, 24, 3), 90, np.uint8)
  image[4:9] = 20, 200, 240
  found = [images.encode_jpeg(image, 80), images.encode_depth_png(image[..., 0] * np.uint16(9)),
           *(cv2.imencode(f".{kind}", image)[1].tobytes() for kind in (
               "png", "bmp", "tiff", "webp", "ppm"))]
  return found


def _read_image(path: pathlib.Path) -> None:
  _check_record(nucla.encode(_nucla_clip(frames=((1, _source(path)),)),
                             **nucla.DATASET.variants["cropped"]))


# ---- a user's own --------------------------------------------------------------------

_CSV = ("path,label,subject,split,camera\nclap/0.mp4,clap,1,train,1\nclap/1.mp4,clap,2,test,1\n"
        "wave/0.mp4,wave,1,train,2\n\"wave/1.mp4\",wave,2,test,2\n")


def _csv_seeds() -> list[bytes]:
  return [_CSV.encode(), _CSV.replace(",subject,split,camera", "").encode("utf-8-sig"),
          b"label,path\nclap,clap/0.mp4\nwave,wave/1.mp4\n",
          _CSV.replace("1,train", "anna,val").encode()]


def _csv_files(root: pathlib.Path) -> None:
  for name in ("clap/0", "clap/1", "wave/0", "wave/1"):
    path = root / f"{name}.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(name.encode())
  (root.parent / "outside.mp4").write_bytes(b"secret")
  (root / "link.mp4").symlink_to(root.parent / "outside.mp4")


def _check_survey(found, findings: Findings) -> None:
  assert all("\n" not in str(finding) for finding in findings.all)
  if findings.errors:
    return
  ids = [clip.clip_id for clip in found.clips]
  assert len(set(ids)) == len(ids) > 0
  assert all(not raw_files.leads_out(name) for name in ids)
  assert all(0 <= clip.label < len(found.facts.class_names) for clip in found.clips)
  assert all(set().union(*parts.values()) <= set(ids) for parts in found.splits.values())


def _read_csv(path: pathlib.Path) -> None:
  findings = Findings()
  found = folder.survey(str(path), findings, **folder.OPTIONS)
  root = path.parent.resolve()
  for clip in found.clips:
    assert pathlib.Path(clip.video or clip.skeleton).resolve().is_relative_to(root), clip
  _check_survey(found, findings)
  findings.stop()


def _pickle_seeds() -> list[bytes]:
  content = raw_own.annotations(2, shape=(1, 1, 17))
  wide = raw_own.annotations(2, shape=(1, 2, 25), width=3)["annotations"]
  odd = {"split": {"a_train": {"x"}, "b": frozenset("x")}, "annotations": [
      {"frame_dir": "x", "label": np.int64(1), "keypoint": None, "f": (1.5, 2**70, b"x", None)}]}
  return [pickle.dumps(one, protocol=protocol) for protocol, one in (
      (2, content), (4, content), (5, content), (4, wide), (0, odd), (4, odd))]


def _read_pickle(path: pathlib.Path) -> None:
  findings = Findings()
  found = annotations.survey(str(path), findings, **annotations.OPTIONS)
  errors = list(findings.errors)
  for clip in found.clips:
    annotations.examine(clip, findings)
    try:
      made = annotations.encode(clip)
    except annotations.RawDataError as error:
      assert "\n" not in str(error)
    else:
      _check_record(made)
  if not errors:
    _check_survey(found, findings)
  findings.stop()


def _npz(packed: bool, **arrays) -> bytes:
  file = io.BytesIO()
  (np.savez_compressed if packed else np.savez)(file, **arrays)
  return file.getvalue()


def _npz_seeds() -> list[bytes]:
  arrays = {"pose2d": raw_own.poses(shape=(1, 2, 17)), "image_size": np.array([48, 64])}
  score = np.ones((1, 2, 17), np.float16)
  pose3d = raw_own.poses(shape=(2, 1, 25), width=3)
  return [_npz(False, **arrays), _npz(True, **arrays, pose_score=score),
          _npz(False, pose3d=pose3d, layout=np.array("kinect_v2_25"), fps=np.float32(30)),
          _npz(False, pose2d=np.asfortranarray(arrays["pose2d"]).astype(">f8"), pose_score=score)]


def _read_npz(path: pathlib.Path) -> None:
  arrays = plain_npz.read(path, folder.ARRAYS)
  assert all(array.dtype.kind in "biufSU" for array in arrays.values())
  layout, poses = folder._layout([path], "")
  clip = folder.RawClip("a", 0, 0, 0, None, str(path), None, layout, poses, ())
  findings = Findings()
  folder.examine(clip, findings)
  assert all("\n" not in str(finding) for finding in findings.all)
  _check_record(folder.encode(clip, **folder.OPTIONS))


def _interchange_folder(root: pathlib.Path, packed: bool = False) -> None:
  pose = raw_own.poses(shape=(1, 2, 20), width=3)
  clips = [interchange_files.Clip(name, label, skeleton_arrays.Skeletons(
      pose, None, np.ones((1, 2, 20), np.float32)), fps=30.0)
           for label, name in enumerate(("a", "b"))]
  header = interchange_files.Header(("x", "y"), "kinect_v1_20", ("own",))
  interchange_files.write(root, header, clips, np.array([[1, 3]], np.uint8))
  if packed:
    with np.load(root / interchange_files.ARRAYS_FILE) as arrays:
      np.savez_compressed(root / interchange_files.ARRAYS_FILE, **arrays)


def _interchange_seeds(name: str) -> list[bytes]:
  found = []
  for packed in (False, True):
    with tempfile.TemporaryDirectory() as temporary:
      root = pathlib.Path(temporary) / "made"
      _interchange_folder(root, packed)
      found.append((root / name).read_bytes())
  return list(dict.fromkeys(found))


def _interchange_rest(root: pathlib.Path) -> None:
  with tempfile.TemporaryDirectory() as temporary:
    _interchange_folder(pathlib.Path(temporary) / "made")
    for path in (pathlib.Path(temporary) / "made").iterdir():
      data = path.read_bytes()
      if path.name == interchange_files.HEADER_FILE:
        content = json.loads(data)
        del content["sha256"]  # of arrays that are mutated
        data = json.dumps(content).encode()
      (root / path.name).write_bytes(data)


def _read_interchange(path: pathlib.Path) -> None:
  own_interchange._reader.cache_clear()
  findings = Findings()
  found = own_interchange.survey(str(path.parent), findings)
  for clip in found.clips:
    own_interchange.examine(clip, findings)
    record = own_interchange.encode(clip)
    if not findings.errors:
      _check_record(record)
  _check_survey(found, findings)
  findings.stop()


# ---- archives and videos -------------------------------------------------------------

def _zip_seeds() -> list[bytes]:
  found = []
  for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
      for i, data in enumerate(_json_seeds()[:2]):
        archive.writestr(zipfile.ZipInfo(f"all_sqe/a0{i + 1}_s03_e01_v02.json"), data[:400], method)
    found.append(file.getvalue())
  return found


def _read_zip(path: pathlib.Path) -> None:
  raw = nucla.find(str(path.parent), **nucla.DATASET.variants["skeleton"])
  for clip in raw:
    assert clip.skeleton.archive == str(path)
    with clip.skeleton.on_disk() as copy:
      assert pathlib.Path(copy).stat().st_size <= 2**16
    assert sum(map(len, clip.skeleton.lines())) == len(clip.skeleton.read())


def repair_zip(data: bytes) -> bytes:
  """A zip archive whose stored members' checksums are those of their bytes.

  Without, every change of a member's content would end at its checksum.
  """
  try:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
      members = archive.infolist()
  except Exception:  # whatever it is, the parser is to say so
    return data
  changed = bytearray(data)
  central = data.find(b"PK\x01\x02")
  for member in members:
    at = member.header_offset
    lengths = [int.from_bytes(data[at + i:at + i + 2], "little") for i in (26, 28)]
    start = at + 30 + sum(lengths)
    if member.compress_type != zipfile.ZIP_STORED or start + member.file_size > len(data):
      continue
    check = zlib.crc32(data[start:start + member.file_size]).to_bytes(4, "little")
    changed[at + 14:at + 18] = check
    if central >= 0:
      changed[central + 16:central + 20] = check
      central = data.find(b"PK\x01\x02", central + 4)
  return bytes(changed[:len(data)])


def _video_seeds() -> list[bytes]:
  with tempfile.TemporaryDirectory() as root:
    return [raw_own.video(f"{root}/a.{extension}", 4, (32, 32), codec, pixels).read_bytes()
            for extension, codec, pixels in (
                ("mp4", "mpeg4", "yuv420p"), ("mkv", "libx264", "yuv420p"),
                ("webm", "libvpx-vp9", "yuv420p"), ("avi", "mjpeg", "yuvj420p"),
                ("ts", "mpeg2video", "yuv420p"), ("gif", "gif", "rgb8"),
                ("wmv", "wmv2", "yuv420p"), ("avi", "ffv1", "bgr0"))]


def _read_video(path: pathlib.Path) -> None:
  stored = videos.read(path, lambda width, height: boxes.clip_window(None, width, height), 3)
  assert 1 <= len(stored.frames) <= 3 and stored.facts.count >= 1
  assert len(stored.positions) == len(stored.frames)
  shapes = {images.decode_frame(frame).shape for frame in stored.frames}
  assert len(shapes) == 1, shapes


# ---- all -----------------------------------------------------------------------------

_JSON_TOKENS = (b"[", b"]", b"{", b"}", b",", b":", b'"', b"null", b"true", b"NaN", b"Infinity",
                b"\\u0000", b"\\ud800", b"[" * 2000, b"\xff", b'"skeletons"', b'"label"')
_ZIP_TOKENS = (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07",
               b"\x01\x00", b"../", b"/", b"\0")
_NPY_TOKENS = (b"\x93NUMPY\x01\x00", b"\x93NUMPY\x03\x00", b"'descr': '|O'", b"(1000000000,)",
               b"True", b"(2, 2)", b"()", b"<f8", b">u4", b"<U9", b"|V8", b"<m8", b"[('a','<f8')]",
               *_ZIP_TOKENS)
_PICKLE_TOKENS = (
    b"cos\nsystem\n", b"cbuiltins\neval\n", b"\x8c\x02os\x94\x8c\x06system\x94\x93", b"R", b"b",
    b"\x81", b"\x82\x01", b"(", b"]", b"}", b"s", b"u", b"a", b"e", b"t", b"\x85", b"\x86", b"\x87",
    b"\x94", b"h\x00", b"q\x00", b"N", b"\x88", b"J\xff\xff\xff\x7f", b"\x8a\x09" + b"\xff" * 9,
    b"\x8b\xff\xff\xff\x7f", b"B\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x7f", b"X\0\0\0\x40",
    b"\x96\0\0\0\0\1\0\0\0", b"\x8f", b"\x90", b"\x91", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n",
    b"cnumpy._core.multiarray\n_reconstruct\n", b"cnumpy._core.multiarray\nscalar\n",
    b"c_codecs\nencode\n", b"c__builtin__\nset\n", b"ccollections\nOrderedDict\n", b"0", b"1", b"2",
    b".", b"I01\n", b"F1e999\n", b"S'x'\n", b"Vx\n", b"P1\n", b"Q", b"ios\nsystem\n", b"o")

PARSERS = {
    "skeleton": Parser("S001C001P001R001A001.skeleton", _skeleton_seeds, _read_skeleton,
                       (_ntu_skeletons,), (b"\r\n", b"\n", b" ", b"25\r\n", b"0\r\n", b"1\r\n",
                                          b"-1.#IND", b"\x00", b"\xff")),
    "mat": Parser("a1_s1_t1_skeleton.mat", _mat_seeds, _read_mat, (utd_mhad,),
                  (b"MATLAB 5.0 MAT-file", b"IM", b"MI", b"\x0e\0\0\0", b"\x0f\0\0\0", b"d_skel",
                   b"d_depth", b"\x09\0\0\0", b"\x06\0\0\0", b"\x05\0\0\0", b"\x01\0\0\0")),
    "json": Parser(f"{_CLIP}.json", _json_seeds, _read_json, (nucla,), _JSON_TOKENS),
    "text": Parser("frame_1_tc_1_skeletons.txt", _text_seeds, _read_text, (nucla,),
                   (b"\n", b",", b"0\n", b"1e999", b"\xff", b"\x00")),
    "image": Parser("frame_1_tc_1_rgb.jpg", _image_seeds, _read_image, (images, nucla),
                    (b"\xff\xd8", b"\xff\xd9", b"\xff\xc0", b"\xff\xc2", b"\xff\xda", b"IHDR",
                     b"IDAT", b"\xff\xff\xff\xff", b"II*\0", b"MM\0*", b"GIF89a", b"RIFF")),
    "csv": Parser("clips.csv", _csv_seeds, _read_csv, (listing, columns, folder, raw_files),
                  (b",", b'"', b"\n", b"\r", b"../", b"/", b"\\", b"C:\\", b"\0", b"link.mp4",
                   b"path", b"label", b"train", b"val", b"\xff", b"\xed\xa0\x80", b"~", b"clap/"),
                  set_up=_csv_files),
    "pickle": Parser("a.pkl", _pickle_seeds, _read_pickle,
                     (plain_pickle, annotations, skeleton_arrays, raw_files), _PICKLE_TOKENS),
    "npz": Parser("a.npz", _npz_seeds, _read_npz, (plain_npz, folder, skeleton_arrays, raw_files),
                  _NPY_TOKENS, repair_zip),
    "interchange": Parser(interchange_files.ARRAYS_FILE,
                          lambda: _interchange_seeds(interchange_files.ARRAYS_FILE),
                          _read_interchange, (plain_npz, interchange_files, own_interchange),
                          _NPY_TOKENS, repair_zip, _interchange_rest),
    "header": Parser(interchange_files.HEADER_FILE,
                     lambda: _interchange_seeds(interchange_files.HEADER_FILE),
                     _read_interchange, (interchange_files, own_interchange),
                     (*_JSON_TOKENS, b'"sha256"', b'"kinect_v1_20"', b'"protocols"'),
                     set_up=_interchange_rest),
    "zip": Parser("clips.zip", _zip_seeds, _read_zip, (archives, nucla), _ZIP_TOKENS, repair_zip),
    # FFmpeg may use large frames: up to `videos.MOST_PIXELS`, some of them at once.
    "video": Parser("a.mp4", _video_seeds, _read_video, (videos, boxes, images),
                    (b"moov", b"mdat", b"trak", b"\0\0\1\xb3", b"\0\0\0\1\x67", b"RIFF", b"movi",
                     b"\x1a\x45\xdf\xa3", b"#EXTM3U\n", b"ffconcat version 1.0\nfile /etc/passwd\n",
                     b"\0\0\0\0", b"\xff\xff\xff\xff"), megabytes=3072, seconds=20),
}


def named(name: str) -> Parser:
  """A parser of `PARSERS`."""
  return PARSERS[name]
