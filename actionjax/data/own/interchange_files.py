"""A format to hand skeleton datasets on: arrays and text, nothing that could be executed.

Version 1 is a folder of two files. `dataset.json` holds

  format        "actionjax-skeletons"
  version       1
  class_names   list of text, by label
  layout        a name of `actionjax.skeletons`
  joints        names of the J joints in order, which spell the layout out
  protocols     list of P names, the rows of `splits`
  sha256        of skeletons.npz in hexadecimal; optional when written by others

and `skeletons.npz` (NumPy's format, best uncompressed: it is then mapped, not read) of N clips:

  clip_id       text[N]         different, not empty, relative like a path
  label         integer[N]
  num_frames    integer[N]      T of each clip
  num_persons   integer[N]      M of each clip, may be 0
  pose3d        float32[R,J,3]  metres in camera coordinates (x right, y up, z away)
  pose2d        float32[R,J,2]  pixels of the original image, x right and y down
  pose_score    float32[R,J]    0 marks a missing joint, whose coordinates are 0
  subject, camera, setup        integer[N], optional
  fps           float32[N]      optional; 0 is unknown
  image_size    integer[N,2]    optional; height and width that pose2d is measured in, 0 unknown
  splits        uint8[P,N]      1 train, 2 validation, 3 test, 0 none of them

One of the poses may be left out. A row is one person in one frame. Clip after clip, a clip's
M * T rows stand person by person, frame after frame; R is the sum of M * T. Labels count from 0.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
from collections.abc import Iterable

import numpy as np

from actionjax import skeletons
from actionjax.data.clips.skeleton_arrays import Skeletons
from actionjax.data.formats import plain_npz, raw_files
from actionjax.data.formats.findings import Findings, shown
from actionjax.errors import RawDataError, UserError

FORMAT, VERSION = "actionjax-skeletons", 1
HEADER_FILE, ARRAYS_FILE = "dataset.json", "skeletons.npz"
REQUIRED = {"clip_id": "U", "label": "iu", "num_frames": "iu", "num_persons": "iu"}
OPTIONAL = {"subject": "iu", "camera": "iu", "setup": "iu", "fps": "f", "image_size": "iu"}
ROWS = {"pose3d": 3, "pose2d": 2, "pose_score": 0}
_MOST_HEADER = 2**24  # bytes of dataset.json


@dataclasses.dataclass(frozen=True)
class Header:
  """What `dataset.json` holds beside format and version."""
  class_names: tuple[str, ...]
  layout: str
  protocols: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Clip:
  """One clip to write: `skeletons` as float32 arrays, scores included, and the columns."""
  clip_id: str
  label: int
  skeletons: Skeletons
  subject: int = 0
  camera: int = 0
  setup: int = 0
  fps: float = 0.0


def write(folder, header: Header, clips: Iterable[Clip], splits: np.ndarray) -> None:
  """Writes a dataset; equal content gives equal bytes, and memory does not grow with it.

  Args:
    folder: made if it does not exist; must not hold a dataset.
    header: of the dataset. clips: in the order to write. splits: uint8[P,N].

  Raises:
    UserError: the folder holds a dataset, or cannot be written to.
    ValueError: clips that do not go together (a caller's defect).
  """
  folder = pathlib.Path(folder)
  try:
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / HEADER_FILE).exists():
      raise UserError(f"{folder} holds a dataset already; choose another folder")
    writer = plain_npz.Writer(folder / ARRAYS_FILE)
  except OSError as error:
    raise UserError(f"cannot write to {folder} ({error.strerror})") from None
  with contextlib.closing(writer):
    _write_rows(writer, header, clips, splits)
    writer.publish()
  content = {"format": FORMAT, "version": VERSION, **dataclasses.asdict(header),
             "joints": list(skeletons.layout(header.layout).joints),
             "sha256": raw_files.digest(folder / ARRAYS_FILE, whole=True)}
  # Written last: a folder with it is whole.
  temporary = folder / (HEADER_FILE + ".tmp")
  temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
  os.replace(temporary, folder / HEADER_FILE)


def _write_rows(writer: plain_npz.Writer, header: Header, clips, splits: np.ndarray) -> None:
  columns: dict[str, list] = {name: [] for name in (*REQUIRED, *OPTIONAL)}
  joints, poses = skeletons.layout(header.layout).num_joints, None
  for clip in clips:
    given = clip.skeletons
    here = [name for name in ("pose3d", "pose2d") if getattr(given, name) is not None]
    persons, frames = given.score.shape[:2]
    if poses not in (None, here) or given.score.shape[2] != joints:
      raise ValueError(f"clip {clip.clip_id}: {here} of {given.score.shape}, expected {poses} of "
                       f"{joints} joints")
    poses = here
    for name in (*poses, "pose_score"):
      value = given.score if name == "pose_score" else getattr(given, name)
      writer.append(name, np.asarray(value, np.float32).reshape(
          persons * frames, joints, *value.shape[3:]))
    for name, value in (("num_frames", frames), ("num_persons", persons),
                        ("image_size", given.image_size or (0, 0))):
      columns[name].append(value)
    for name in ("clip_id", "label", "subject", "camera", "setup", "fps"):
      columns[name].append(getattr(clip, name))
  types = {"clip_id": np.str_, "fps": np.float32}
  for name, values in columns.items():
    writer.append(name, np.array(values, types.get(name, np.int32)))
  writer.append("splits", np.asarray(splits, np.uint8))


class Reader:
  """Reads a dataset of this format; trusts nothing in it.

  Attributes:
    path: its folder. header: the `Header`. columns: {name: array[N]} of the columns that are
      there. splits: uint8[P,N]. poses: which of "pose3d" and "pose2d" there are.
  """

  def __init__(self, folder, findings: Findings, check_sum: bool = False):
    """Opens a dataset and checks all but the poses' values.

    Args:
      folder: with the two files. findings: takes what is wrong with single clips.
      check_sum: compare the arrays' file with the header's checksum, which reads all of it.

    Raises:
      RawDataError: what is wrong with the dataset as a whole; names file and field.
    """
    self.path = pathlib.Path(folder)
    self._file = self.path / ARRAYS_FILE
    content = _header(self.path / HEADER_FILE)
    self.header = Header(tuple(content["class_names"]), content["layout"],
                         tuple(content["protocols"]))
    for name in (HEADER_FILE, ARRAYS_FILE):
      if raw_files.escapes(self.path / name, self.path):
        raise RawDataError(f"{self.path / name} is a link out of the folder; put the file there")
    if check_sum and content.get("sha256") is not None:
      if content["sha256"] != _sum(self._file):
        raise RawDataError(f"{self._file} is not the file that {HEADER_FILE} was written with "
                           "(other sha256); fetch both again")
    arrays = plain_npz.read(self._file, (*REQUIRED, *OPTIONAL, *ROWS, "splits"))
    self._rows = {name: arrays.pop(name) for name in ROWS if name in arrays}
    self.poses = tuple(name for name in ("pose3d", "pose2d") if name in self._rows)
    self.splits = arrays.pop("splits", np.zeros((0, 0), np.uint8))
    self.columns = arrays
    self._check_columns()
    self._check_rows()
    self._check_clips(findings)

  def __len__(self) -> int:
    return len(self.columns["clip_id"])

  def _wrong(self, field: str, what: str) -> RawDataError:
    return RawDataError(f"{self._file}: {field} {what}")

  def _check_columns(self) -> None:
    for name, kinds in {**REQUIRED, **OPTIONAL}.items():
      if name not in self.columns:
        if name in REQUIRED:
          raise self._wrong(name, "is not there")
        continue
      column = self.columns[name]
      shape = (len(self.columns["clip_id"]), 2) if name == "image_size" else (
          self.columns["clip_id"].shape[:1])
      if column.dtype.kind not in kinds or column.shape != shape:
        raise self._wrong(name, f"is {column.dtype}{list(column.shape)}, expected one of kind "
                                f"{'/'.join(kinds)} of shape {list(shape)}")
      if column.dtype.kind in "iu":
        wide = column.astype(np.int64)
        if column.size and (wide.min() < -2**31 or wide.max() >= 2**31 or (
            column.dtype.kind == "u" and column.max() >= 2**31)):
          raise self._wrong(name, "has numbers of more than 32 bits")
        self.columns[name] = wide
    if not len(self):
      raise self._wrong("clip_id", "names no clip")
    shape = (len(self.header.protocols), len(self))
    if not self.header.protocols and not self.splits.size:
      self.splits = np.zeros(shape, np.uint8)
    if self.splits.shape != shape or self.splits.dtype != np.uint8 or self.splits.max(
        initial=0) > 3:
      raise self._wrong("splits", f"is {self.splits.dtype}{list(self.splits.shape)}, expected "
                                  f"uint8{list(shape)} of numbers up to 3")

  def _check_rows(self) -> None:
    frames, persons = self.columns["num_frames"], self.columns["num_persons"]
    if frames.min() < 1 or persons.min() < 0:
      raise self._wrong("num_frames", "must be at least 1, and num_persons 0")
    joints = skeletons.layout(self.header.layout).num_joints
    if not self.poses or "pose_score" not in self._rows:
      raise self._wrong("pose3d", "or pose2d, and pose_score, must be there")
    rows = frames * persons  # of numbers below 2**31; their sum is bounded only after this check
    if rows.max() > len(self._rows["pose_score"]):
      raise self._wrong("num_frames", "times num_persons is more than there are rows of poses")
    self._ends = np.cumsum(rows)
    for name, width in ROWS.items():
      shape = (int(self._ends[-1]), joints) + ((width,) if width else ())
      value = self._rows.get(name)
      if value is not None and (value.shape != shape or value.dtype != np.float32):
        raise self._wrong(name, f"is {value.dtype}{list(value.shape)}, expected float32"
                                f"{list(shape)} by num_frames, num_persons and the layout")

  def _check_clips(self, findings: Findings) -> None:
    seen = set()
    for number, clip in enumerate(self.columns["clip_id"].tolist()):
      problem = raw_files.leads_out(clip)
      if problem is None and not raw_files.is_text(clip):
        problem = "is not valid text"
      if problem is None and clip in seen:
        problem = "names two clips"
      if problem:
        findings.add(f"clip {number}", "clip_id", f"{shown(clip, 80)!r} {problem}")
      seen.add(clip)
      label = self.columns["label"][number]
      if not 0 <= label < len(self.header.class_names):
        findings.add(clip, "label", f"is {label}; there are {len(self.header.class_names)} classes")

  def skeletons(self, number: int) -> Skeletons:
    """The poses of one clip by its place; values are as in the file, unchecked."""
    frames, persons = (int(self.columns[name][number]) for name in ("num_frames", "num_persons"))
    end = int(self._ends[number])
    rows = {name: value[end - frames * persons:end] for name, value in self._rows.items()}
    shaped = {name: value.reshape(persons, frames, *value.shape[1:])
              for name, value in rows.items()}
    size = self.columns.get("image_size")
    known = size is not None and (size[number] > 0).all()
    return Skeletons(shaped.get("pose3d"), shaped.get("pose2d"), shaped["pose_score"],
                     tuple(int(n) for n in size[number]) if known else None)


def _sum(file: pathlib.Path) -> str:
  try:
    return raw_files.digest(file, whole=True)
  except OSError as error:
    raise RawDataError(f"{file} cannot be read ({error.strerror})") from None


def _header(file: pathlib.Path) -> dict:
  """The content of dataset.json, checked. Raises RawDataError."""
  try:
    with open(file, "rb") as opened:
      data = opened.read(_MOST_HEADER + 1)
    if len(data) > _MOST_HEADER:
      raise RawDataError(f"{file} is larger than {_MOST_HEADER} bytes")
    content = json.loads(data.decode("utf-8"))
  except OSError as error:
    raise RawDataError(f"{file} cannot be read ({error.strerror})") from None
  except (ValueError, RecursionError) as error:
    if isinstance(error, RawDataError):
      raise
    raise RawDataError(f"{file} is not JSON ({shown(error, 80)})") from None
  if not isinstance(content, dict) or content.get("format") != FORMAT:
    raise RawDataError(f"{file}: format is not {FORMAT!r}")
  if content.get("version") != VERSION or isinstance(content["version"], bool):
    raise RawDataError(f"{file}: version is {shown(content.get('version'), 20)}, this reads "
                       f"{VERSION}; a newer actionjax may read it")
  content.setdefault("protocols", [])
  for field, least in (("class_names", 2), ("protocols", 0)):
    value = content.get(field)
    if not isinstance(value, list) or len(value) < least or not all(
        isinstance(name, str) and name and name.isprintable() for name in value) or (
            len(set(value)) < len(value)):
      raise RawDataError(f"{file}: {field} must be a list of {least} or more different names")
  layout = content.get("layout")
  try:
    skeletons.layout(layout if isinstance(layout, str) else "")
  except ValueError as error:
    raise RawDataError(f"{file}: layout {shown(layout, 60)!r} is none of "
                       f"{', '.join(sorted(skeletons.LAYOUTS))}") from error
  joints = content.get("joints")
  if joints is not None and joints != list(skeletons.layout(layout).joints):
    raise RawDataError(f"{file}: joints are not those of the layout {layout}, in its order")
  return content


