"""Key points that lie in other files than the annotations, as those of Kinetics-400 do (PYSKL,
MMAction2).

Such an annotation has no `keypoint`. Its N skeletons, of any persons in any frames, are an array
number[N,V,3] of x, y (pixels of `img_shape`) and score; beside it in the annotation stand

  frame_inds  int[N]     the frame of each skeleton, ascending
  box_score   float[N]   optional; of the box that a person was found in
  valid       dict       optional; threshold of box scores -> number of frames with a skeleton above
  raw_file    text       optional; the file with the array

The files are pickles in a folder `kpfiles` beside the annotations, at any depth: of one clip, named
like it (the array, or a dict with `keypoint`), or of several, a dict of those by the clips' names.
Of `raw_file` the name counts, as it has the folders of another machine.
"""
import dataclasses
import functools
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from actionjax.data.formats import plain_pickle, raw_files
from actionjax.data.formats.findings import Findings, shown
from actionjax.errors import RawDataError

FOLDER = "kpfiles"
# The released trainings use skeletons in boxes of at least this score, and of a frame's persons at
# most so many, the surest.
BOX_SCORE, MOST_PERSONS = 0.5, 10


@dataclasses.dataclass(frozen=True)
class Reference:
  """Where a clip's skeletons lie, and what its annotation says of them, not checked yet.

  Attributes:
    path: of the file; None where there is none. name: that it should have, for messages.
    key: of the clip in a file of several.
  """
  path: str | None
  name: str
  key: str
  frame_inds: Any
  box_score: Any
  valid: Any


def listing(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The key point files beside annotations, by their names without the extension."""
  files = {}
  for folder, folders, names in os.walk(root / FOLDER):
    folders.sort()
    for name in sorted(names):
      path = pathlib.Path(folder, name)
      if path.suffix in (".pkl", ".pickle") and not raw_files.escapes(path, root):
        files.setdefault(path.stem, path)
  return files


def reference(annotation: Mapping, key: str,
              files: Mapping[str, pathlib.Path]) -> Reference | None:
  """Where an annotation's skeletons lie; None where it does not keep them in another file."""
  if annotation.get("keypoint") is not None or "frame_inds" not in annotation:
    return None
  named = annotation.get("raw_file")
  names = [key.replace("\\", "/").rpartition("/")[2]]
  if isinstance(named, str):
    names.insert(0, pathlib.PurePosixPath(named.replace("\\", "/")).stem)
  path = next((files[name] for name in names if name in files), None)
  return Reference(path and str(path), f"{FOLDER}/{names[0]}.pkl", key, annotation["frame_inds"],
                   annotation.get("box_score"), annotation.get("valid"))


def load(wanted: Reference) -> np.ndarray:
  """The skeletons number[N,V,3] of a clip. Raises RawDataError naming the file."""
  if wanted.path is None:
    raise RawDataError(f"{wanted.name} is not there; put the folder {FOLDER} with every clip's key "
                       "points beside the annotations")
  content = _content(wanted.path, os.stat(wanted.path).st_mtime_ns)
  if isinstance(content, dict) and "keypoint" not in content:
    if wanted.key not in content:
      raise RawDataError(f"{wanted.path} has no key points of {shown(wanted.key, 80)}")
    content = content[wanted.key]
  if isinstance(content, dict):
    content = content.get("keypoint")
  if not isinstance(content, np.ndarray) or content.dtype.kind not in "fiu" or (
      content.ndim != 3 or content.shape[2] != 3):
    what = (f"{content.dtype}{list(content.shape)}" if isinstance(content, np.ndarray) else
            f"a {type(content).__name__}")
    raise RawDataError(f"{wanted.path}: the key points of {shown(wanted.key, 80)} are {what}, "
                       "expected numbers [N, V, 3]: x, y and score of each joint")
  return content


@functools.lru_cache(maxsize=2)  # files of several clips, which come one after another
def _content(path: str, changed: int):
  del changed  # tells a replaced file from the cached one
  return plain_pickle.load(path)


def read(wanted: Reference, findings: Findings) -> tuple[np.ndarray, np.ndarray] | None:
  """A clip's skeletons as arrays of persons: `spread` of those in sure boxes.

  Returns:
    keypoint [M,T,V,2] and keypoint_score [M,T,V]; None with the reasons among the findings.
  """
  clip = wanted.key
  try:
    points = load(wanted)
  except RawDataError as error:
    findings.add(clip, "raw_file", str(error))
    return None
  frames = wanted.frame_inds
  fits = isinstance(frames, np.ndarray) and frames.dtype.kind in "iu" and (
      frames.shape == points.shape[:1]) and len(frames) > 0
  if not fits or (np.diff(frames.astype(int)) < 0).any():
    findings.add(clip, "frame_inds", f"must be {len(points)} ascending numbers of frames, one for "
                                     f"each skeleton of {wanted.path}, and not none")
    return None
  if wanted.box_score is not None:
    score = wanted.box_score
    if not isinstance(score, np.ndarray) or score.dtype.kind not in "fiu" or (
        score.shape != frames.shape):
      findings.add(clip, "box_score", f"must be {len(frames)} numbers, one for each skeleton")
      return None
    sure = score >= BOX_SCORE
    expected = wanted.valid.get(BOX_SCORE) if isinstance(wanted.valid, dict) else None
    if isinstance(expected, int) and expected != len(np.unique(frames[sure])):
      findings.warn(clip, "valid", f"counts {expected} frames with boxes of {BOX_SCORE} and more; "
                                   f"there are {len(np.unique(frames[sure]))}")
    # A clip of doubtful boxes alone keeps them: it must have a frame.
    if sure.any():
      points, frames = points[sure], frames[sure]
  return spread(points, frames)


def spread(points: np.ndarray, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Skeletons one after another as persons beside each other.

  Frames without a skeleton are left out, as the released trainings do it. The persons of a frame
  come in the order of the file, which follows nobody from frame to frame; where a frame has more
  than `MOST_PERSONS`, those of all frames come in the order of their scores, and as many stay.

  Args:
    points: number[N,V,3], N at least 1. frames: int[N], ascending.

  Returns:
    number[M,T,V,2], zeros where there are fewer persons than M, and the scores [M,T,V].
  """
  _, first, frame, counts = np.unique(frames, return_index=True, return_inverse=True,
                                      return_counts=True)
  persons = np.arange(len(frames)) - first[frame]
  most = int(counts.max())
  if most > MOST_PERSONS:
    order = np.lexsort((-points[..., 2].astype(np.float64).sum(1), frame))
    points = points[order]  # within each frame
    most = MOST_PERSONS
  spread_out = np.zeros((most, len(counts), *points.shape[1:]), points.dtype)
  kept = persons < most
  spread_out[persons[kept], frame[kept]] = points[kept]
  return spread_out[..., :2], spread_out[..., 2]
