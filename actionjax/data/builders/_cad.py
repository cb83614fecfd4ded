"""What the builders of CAD-60 and CAD-120 share: skeleton files, and the clips' files by number.

A skeleton file has a line a frame, and one with END. A line has the frame's number, which is that
of its image too; for each of eleven joints an orientation (nine numbers) with its confidence and
x, y, z with theirs; for each of four more (hands and feet) x, y, z with their confidence. All are
separated by commas, and one more ends the line. Coordinates are millimetres: x to the right, y up,
z away. The confidence, 0 or 1, is not asked, as in published results.
"""
import dataclasses
import pathlib
import re

import numpy as np

from actionjax.data.builders import _kinect
from actionjax.data.clips import definition, encoding, image_frames
from actionjax.data.formats import archives
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError
from actionjax.ops import projection

LAYOUT = "cad_15"
FPS = 30.0
JOINTS, ORIENTED = 15, 11
FIELDS = 1 + ORIENTED * 14 + (JOINTS - ORIENTED) * 4
# Where a line has x, y and z of each joint: after its orientation, where it has one.
_COLUMNS = [[11 + 14 * joint + axis for axis in range(3)] for joint in range(ORIENTED)] + [
    [1 + 14 * ORIENTED + 4 * joint + axis for axis in range(3)]
    for joint in range(JOINTS - ORIENTED)]
_MOST_FRAMES = 10**6


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files.

  Attributes:
    images: (frame's number, file), in order of the numbers. skeleton: None without a file.
    size: (width, height) of the dataset's images.
  """
  clip_id: str
  label: int
  subject: int
  images: tuple[tuple[int, Source], ...]
  skeleton: Source | None
  size: tuple[int, int]

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(name, bytes): the same from a zip or a folder; the label is told by a file of its own."""
    files = [file for file in (*(file for _, file in self.images), self.skeleton) if file]
    return (("label", self.label), *((file.base, file.size) for file in files))


def where(raw_dir: str, match: re.Match, source: Source) -> str:
  """The path of a file below the raw folder, the name of the archive it lies in included."""
  if source.archive is None:
    return match.string
  archive = pathlib.Path(source.archive).relative_to(raw_dir).with_suffix("")
  return f"{archive.as_posix()}/{match.string}"


def clips(raw_dir: str, title: str, total: int, skeletons: dict, images: dict, labels: dict,
          size: tuple[int, int]) -> definition.Found:
  """The clips of the files found.

  Args:
    raw_dir: the folder. title: the dataset's name. total: published number of clips.
    skeletons: (subject, clip's number as text) -> file. images: the same -> {number: file}.
    labels: the same -> label. size: (width, height) of images.

  Raises:
    RawDataError: a clip with files of one of two present kinds only.
  """
  kinds = {kind: files for kind, files in (("skeletons", skeletons), ("images", images)) if files}
  archives.require_all(raw_dir, kinds, _clip_id)
  every = sorted(set().union(*kinds.values()))
  remarks = [f"{len(every)} of the {total} clips of {title} are here"] * (len(every) != total)
  return definition.Found([
      RawClip(_clip_id(clip), labels[clip], clip[0], tuple(sorted(images.get(clip, {}).items())),
              skeletons.get(clip), size) for clip in every], remarks)


def _clip_id(clip: tuple[int, str]) -> str:
  return f"subject{clip[0]}_{clip[1]}"


def skeleton(source: Source) -> dict[int, np.ndarray]:
  """The joints of each frame, {number: float64[15,3] in metres}, in order.

  Raises:
    RawDataError: the file has no END, no frame, a frame twice, or a line that is not as the
      module's description says; names the file and the line.
  """
  lines = source.read().decode("ascii", "replace").split("\n")
  ends = [number for number, line in enumerate(lines) if line.strip(" ,\r") == "END"]
  if not ends:
    raise RawDataError(f"{source} has no END: it is truncated; fetch it again")
  found = {}
  for number, line in enumerate(lines[:ends[0]], 1):
    values = line.strip(" ,\r").split(",")
    if values == [""]:
      continue
    if len(values) != FIELDS:
      raise RawDataError(f"{source}, line {number}: {len(values)} fields instead of {FIELDS}; "
                         "fetch it again")
    try:
      row = np.array([_kinect.number(text) for text in values])
    except ValueError as error:
      raise RawDataError(f"{source}, line {number}: not made of numbers ({shown(error, 60)}); "
                         "fetch it again") from None
    frame = row[0]
    if not (1 <= frame <= _MOST_FRAMES and frame.is_integer()) or int(frame) in found:
      raise RawDataError(f"{source}, line {number}: frame {frame:g} is there twice or no frame's "
                         "number; fetch it again")
    found[int(frame)] = row[_COLUMNS] / 1000
  if not found:
    raise RawDataError(f"{source} has no frame; fetch it again")
  return dict(sorted(found.items()))


def _pose(raw: RawClip) -> encoding.Pose | None:
  """The person in each image, or where there are none in each line; None without a file.

  Raises RawDataError: malformed (see `skeleton`), or no usable joint in any of the frames.
  """
  if raw.skeleton is None:
    return None
  found = skeleton(raw.skeleton)
  lost = np.full((JOINTS, 3), np.nan)
  numbers = [number for number, _ in raw.images] or list(found)
  pose, score = _kinect.split_lost(np.stack([found.get(number, lost) for number in numbers])[None])
  if not score.any():
    raise RawDataError(f"{raw.skeleton}: no joint is usable in any of the {len(numbers)} frames; "
                       "fetch it again")
  pinhole = projection.scaled(projection.COEFFICIENTS["v1"], factor=raw.size[0] / 640)
  points = projection.project(pose, **pinhole)
  return encoding.Pose(np.where(score[..., None] > 0, points, 0), score, raw.size, pose)


def encode(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `clips`. video: store the frames. crop: of the person only.

  Raises:
    RawDataError: an unreadable or malformed file, or frames of different sizes; names it.
  """
  def read(place):
    return image_frames.read([file for _, file in raw.images], place, FPS)

  record = {"clip_id": raw.clip_id, "label": raw.label, "subject": raw.subject, "fps": FPS,
            } | encoding.fields(_pose(raw), read if video and raw.images else None,
                                     crop=crop, video=video)
  if raw.skeleton and raw.images and not record["pose_score"].any((0, 2)).all():
    record["notes"] = ("frames without a skeleton",)
  return record
