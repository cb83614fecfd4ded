"""Skeleton datasets in actionjax's interchange format, which `interchange_files.py` describes."""
import dataclasses
import functools
import os
import pathlib

import numpy as np

from actionjax.data import own
from actionjax.data.clips import skeleton_arrays
from actionjax.data.clips.boxes import pose_boxes
from actionjax.data.formats import raw_files
from actionjax.data.formats.findings import Findings
from actionjax.data.own import columns, interchange_files
from actionjax.errors import RawDataError

VERSION = "1.2.0"
OPTIONS: dict = {}


@dataclasses.dataclass(frozen=True)
class RawClip:
  """A clip by its place in the dataset's arrays."""
  clip_id: str
  label: int
  subject: int
  camera: int
  folder: str
  number: int
  sources: tuple


def survey(raw_dir: str, findings: Findings) -> own.Survey:
  """Opens the dataset; checks everything but the poses' values.

  Args:
    raw_dir: folder with the two files. findings: takes what is wrong with single clips.

  Raises:
    RawDataError: what is wrong with the dataset as a whole.
  """
  folder = pathlib.Path(raw_dir)
  if not folder.is_dir():
    raise RawDataError(f"{raw_dir} is not a folder; --raw_dir names the one with "
                       f"{interchange_files.HEADER_FILE} and {interchange_files.ARRAYS_FILE}")
  reader = interchange_files.Reader(folder, findings, check_sum=True)
  sources = tuple(raw_files.source(folder / name, folder, whole=True)
                  for name in (interchange_files.HEADER_FILE, interchange_files.ARRAYS_FILE))
  ids = reader.columns["clip_id"].tolist()
  zeros = np.zeros(len(ids), np.int64)
  labels, subjects, cameras = (reader.columns.get(name, zeros).tolist()
                               for name in ("label", "subject", "camera"))
  clips = [RawClip(*row, str(folder), number, sources)
           for number, row in enumerate(zip(ids, labels, subjects, cameras))]
  splits = own.splits_of(reader.header.protocols, reader.splits, ids)
  if not splits:
    splits = columns.protocols(ids, labels, subjects, None)
  facts = own.Facts(reader.header.class_names, reader.header.layout, "none", reader.poses,
                    tuple(splits))
  return own.Survey(clips, facts, splits)


@functools.lru_cache(maxsize=2)
def _reader(folder: str, changed: int) -> interchange_files.Reader:
  # One for all clips of a process; `changed`, the file's time, tells a replaced file.
  del changed
  return interchange_files.Reader(folder, Findings())


def _open(raw: RawClip) -> interchange_files.Reader:
  file = os.path.join(raw.folder, interchange_files.ARRAYS_FILE)
  try:
    return _reader(raw.folder, os.stat(file).st_mtime_ns)
  except OSError as error:
    raise RawDataError(f"{file} cannot be read ({error.strerror})") from None


def examine(raw: RawClip, findings: Findings) -> own.Examined | None:
  """What is wrong with one clip's poses, and its statistics."""
  given = _open(raw).skeletons(raw.number)
  _check(raw, given, findings)
  poses = skeleton_arrays.clean(given)
  skeleton_arrays.warn(raw.clip_id, poses, findings)
  return own.Examined(given.num_frames, len(poses.score), poses.missing, poses.joints, poses.notes)


def _check(raw: RawClip, given: skeleton_arrays.Skeletons, findings: Findings) -> None:
  if not np.isfinite(given.score).all() or (given.score < 0).any():
    findings.warn(raw.clip_id, "pose_score", "has values below 0 or that are not numbers, which "
                                             "count as missing joints")


def encode(raw: RawClip) -> dict:
  """One clip as a record without frames. Raises RawDataError."""
  reader = _open(raw)
  given = reader.skeletons(raw.number)
  poses = skeleton_arrays.clean(given)
  record = {"clip_id": raw.clip_id, "label": raw.label, "subject": raw.subject,
            "camera": raw.camera, "num_frames": given.num_frames, "pose3d": poses.pose3d,
            "pose2d": poses.pose2d, "pose_score": poses.score, "notes": poses.notes}
  if "setup" in reader.columns:
    record["setup"] = reader.columns["setup"][raw.number]
  if "fps" in reader.columns:
    record["fps"] = np.nan_to_num(reader.columns["fps"][raw.number], posinf=0, neginf=0)
  if poses.pose2d is not None:
    record["boxes"] = pose_boxes(poses.pose2d, poses.score)
    record["image_size"] = poses.image_size
  return record
