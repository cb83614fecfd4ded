"""NTU RGB+D's `.skeleton` text files, and who in them is the main person.

A file holds the number of frames; for each frame the number of bodies; for each body a line
of ten fields that begins with the body's number, the number of joints, and a line of twelve
numbers for each joint: x, y, z in metres, x, y in the depth image, x, y in the colour image
(1920x1080), an orientation of four, and a tracking state.

Kinect gives a new number to a body that it lost and finds again, and sometimes takes a chair
for a body. So a clip's bodies become persons as in the pipelines behind the published
results: bodies that are hardly seen or wider than tall are dropped where others remain; the
rest are ordered by their motion, as the dataset's authors advise (the variances of X, Y and Z
over all joints and frames, added up), and placed one after the other in the first of two
persons that is not yet there in the same frames.
"""
import dataclasses

import numpy as np

from actionjax.data.builders import _kinect
from actionjax.data.clips import boxes
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError

JOINTS = 25
MAX_PERSONS = 2
# A body seen in this many frames or fewer is noise, and so is one that in most of its frames
# is wider than this share of its height.
NOISE_FRAMES, NOISE_WIDTH, NOISE_SHARE = 11, 0.8, 0.7
_HEADER_FIELDS, _JOINT_FIELDS = 10, 12
# An hour at 30 frames a second: 100 MB for a person, however short the lines of a file are.
_MOST_BODIES, _MOST_JOINTS, _MOST_FRAMES = 1000, 10**8, 108_000


@dataclasses.dataclass(frozen=True)
class Skeleton:
  """The persons of a clip, the main one first.

  Attributes:
    pose3d: float64[M,T,25,3], metres: x right in the image, y up, z away.
    pose2d: float64[M,T,25,2], pixels of the colour image of 1920x1080.
    score: float32[M,T,25], 0 where a joint (in 3D or in the image) or the whole person is
      lost, whose coordinates are then 0.
  """
  pose3d: np.ndarray
  pose2d: np.ndarray
  score: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Slot:
  """A person being put together: joints float[T,25,5], and in which frames it has a body."""
  joints: np.ndarray
  taken: np.ndarray


class _Lines:
  """The lines of a file, read one after the other with errors that name file and line."""

  def __init__(self, source: Source, data: bytes):
    self.source, self.next = source, 0
    self.lines = data.decode("ascii", "replace").split("\n")
    while self.lines and not self.lines[-1].strip():
      self.lines.pop()

  def error(self, text: str, line: int | None = None) -> RawDataError:
    number = self.next if line is None else line
    return RawDataError(f"{self.source}, line {number}: {text}; fetch the file again")

  def take(self, count: int, what: str) -> list[str]:
    if self.next + count > len(self.lines):
      raise self.error(f"the file ends before {what}", len(self.lines))
    self.next += count
    return self.lines[self.next - count:self.next]

  def count(self, what: str, most: int) -> int:
    text = self.take(1, f"the number of {what}")[0].strip()
    # int() would take "1_0" and digits of other scripts too.
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= most):
      raise self.error(f"{text[:40]!r} is not a number of {what}")
    return int(text)


def _body(lines: _Lines) -> tuple[str, np.ndarray]:
  """One body of one frame: its number and float64[25,5], x, y, z and colour x, y."""
  header = lines.take(1, "a body")[0].split()
  if len(header) != _HEADER_FIELDS:
    raise lines.error(f"a body's line has {len(header)} fields instead of {_HEADER_FIELDS}")
  joints = lines.count("joints", _MOST_JOINTS)
  if joints != JOINTS:
    raise lines.error(f"a body has {joints} joints instead of {JOINTS}")
  rows = [line.split() for line in lines.take(JOINTS, "a body's joints")]
  for i, row in enumerate(rows):
    if len(row) != _JOINT_FIELDS:
      raise lines.error(f"a joint has {len(row)} numbers instead of {_JOINT_FIELDS}",
                        lines.next - JOINTS + 1 + i)
  wanted = [[row[i] for i in (0, 1, 2, 5, 6)] for row in rows]
  try:
    return header[0], np.array(wanted, dtype=np.float64)
  except ValueError:
    pass
  try:
    return header[0], np.array([[_kinect.number(text) for text in row] for row in wanted])
  except ValueError as error:
    raise lines.error(f"a joint is not made of numbers ({error})") from None


def parse(source: Source, data: bytes) -> tuple[int, dict]:
  """All bodies of a file as they stand in it.

  Returns:
    T, and {body: (frames int[n], joints float64[n,25,5])}, in the order of first appearance.

  Raises:
    RawDataError: the file is empty, ends early, goes on after its end, or is not made of
      what the module's description says; names the file and the line.
  """
  lines = _Lines(source, data)
  if not lines.lines:
    raise RawDataError(f"{source} is empty; fetch it again")
  num_frames = lines.count("frames", _MOST_FRAMES)
  bodies = {}
  for t in range(num_frames):
    seen = {}
    for _ in range(lines.count("bodies", _MOST_BODIES)):
      name, joints = _body(lines)
      # Two bodies of one number in one frame would be two bodies all the same.
      seen[name] = seen.get(name, -1) + 1
      frames, values = bodies.setdefault((name, seen[name]), ([], []))
      frames.append(t)
      values.append(joints)
  if lines.next < len(lines.lines):
    raise lines.error(f"the file goes on after its {num_frames} frames", lines.next + 1)
  return num_frames, {body: (np.array(frames), np.stack(values))
                      for body, (frames, values) in bodies.items()}


def tracks_somebody(source: Source) -> bool:
  """Whether a body is tracked in any frame, by as little reading as possible.

  A file that is not as it should be is taken to track somebody: reading it will say what
  is wrong. Raises RawDataError if it cannot be read at all.
  """
  lines = source.lines()
  if not next(lines, b"").strip().isdigit():
    return True
  # Numbers of bodies; the first that is not 0 is followed by a body.
  return any(line.strip() not in (b"0", b"") for line in lines)


def motion(joints: np.ndarray) -> float:
  """How much a body moves: variances of X, Y and Z over frames and joints, added up (m^2).

  Args:
    joints: float[n,25,5]; lost joints do not count.
  """
  pose, score = _kinect.split_lost(joints[..., :3])
  there = pose[score > 0]
  return float(there.var(0).sum()) if len(there) else 0.0


def _is_noise(joints: np.ndarray) -> bool:
  """Whether a body is too short in time or too flat to be a person."""
  if len(joints) <= NOISE_FRAMES:
    return True
  pose, score = _kinect.split_lost(joints[..., :3])
  seen = score.any(-1)
  if not seen.any():
    return True
  where = (score[seen] > 0)[..., None]
  low = np.where(where, pose[seen], np.inf).min(1)
  high = np.where(where, pose[seen], -np.inf).max(1)
  width, height = (high - low)[:, 0], (high - low)[:, 1]
  return bool((width > NOISE_WIDTH * height).mean() >= NOISE_SHARE)


def persons(num_frames: int, bodies: dict) -> Skeleton:
  """A clip's bodies as up to two persons, the one who moves most first.

  Args:
    num_frames: T. bodies: as `parse` gives them.

  Returns:
    a `Skeleton` of M <= 2 persons; M = 0 where no joint of any body is usable.
  """
  usable = {body: value for body, value in bodies.items()
            if _kinect.split_lost(value[1][..., :3])[1].any()}
  kept = [value for value in usable.values() if not _is_noise(value[1])] or list(usable.values())
  # A stable order: bodies that move equally stay as they appeared.
  kept.sort(key=lambda value: -motion(value[1]))
  slots = []
  for frames, joints in kept:
    free = [slot for slot in slots if not slot.taken[frames].any()]
    if not free and len(slots) < MAX_PERSONS:
      free = [_Slot(np.full((num_frames, JOINTS, 5), np.nan), np.zeros(num_frames, bool))]
      slots += free
    if free:
      free[0].joints[frames], free[0].taken[frames] = joints, True
  values = np.array([slot.joints for slot in slots]).reshape(len(slots), num_frames, JOINTS, 5)
  pose3d, score = _kinect.split_lost(values[..., :3])
  # One score serves both: a joint without a place in the image is lost too.
  with np.errstate(invalid="ignore"):
    score = score * (np.abs(values[..., 3:]) < boxes.FARTHEST_PIXEL).all(-1)
  there = score[..., None] > 0
  return Skeleton(np.where(there, pose3d, 0), np.where(there, values[..., 3:], 0),
                  score.astype(np.float32))


def read(source: Source) -> Skeleton:
  """The persons of a `.skeleton` file.

  Raises:
    RawDataError: unreadable, malformed (see `parse`), or without a single usable joint.
  """
  num_frames, bodies = parse(source, source.read())
  skeleton = persons(num_frames, bodies)
  if not skeleton.score.any():
    raise RawDataError(f"{source} has no usable joint in any of its {num_frames} frames; fetch "
                       "it again, or name its clip in a list of missing skeletons")
  return skeleton
