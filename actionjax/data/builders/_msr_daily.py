"""What the two builders of MSRDailyActivity3D share: colour and depth come with one skeleton.

A skeleton file is made of numbers: that of the frames, that of the joints (20); for each frame the
number of rows, 40 a person, and as many rows of four. A joint has two: x, y, z in metres, and its
place in the image from 0 to 1, with depth. The fourth number "is supposed to be the confidence
value, but it is not useful", as the authors say. Where there are two persons they take the first.

A depth file has three int32, frames, columns and rows; then for each frame and row an int32 of
millimetres for each column, followed by a byte for each, the number of the person there.
"""
import dataclasses
import re

import numpy as np

from actionjax.data.builders import _kinect
from actionjax.data.clips import boxes, definition, encoding, protocols, videos
from actionjax.data.formats import archives, images
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

CLASS_NAMES = ("drink", "eat", "read_book", "call_cellphone", "write_on_paper", "use_laptop",
               "use_vacuum_cleaner", "cheer_up", "sit_still", "toss_paper", "play_game",
               "lie_down_on_sofa", "walk", "play_guitar", "stand_up", "sit_down")
TITLE, CLIPS, SUBJECTS, EPISODES, JOINTS = "MSRDailyActivity3D", 320, 10, 2, 20
FPS = 30.0
PROTOCOLS = {
    "cross_subject": protocols.cross_subject((1, 3, 5, 7, 9)),
    **{f"subject_{subject}": protocols.leave_one_subject_out(subject)
       for subject in range(1, SUBJECTS + 1)},
}
# Of the colour and the depth video; a joint's place in the image is told as a share of either.
COLOUR, DEPTH = (640, 480), (320, 240)
MAX_FRAMES = 10_000  # longer than any clip: none is thinned
# Colour, depth and skeletons are recorded by threads of their own, and drop frames of their own.
APART = 0.5
_FILE = re.compile(r"(?:^|/)a(\d+)_s(\d+)_e(\d+)(?:_(skeleton\.txt|rgb\.avi|depth\.bin)|(\.txt))$",
                   re.IGNORECASE)
_KINDS = {"skeleton.txt": "skeleton", ".txt": "skeleton", "rgb.avi": "colour video",
          "depth.bin": "depth video"}
_MOST_FRAMES = 10**6


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files, of colour or depth; either may be None."""
  clip_id: str
  action: int
  subject: int
  episode: int
  skeleton: Source | None
  video: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    return tuple((source.base, source.size) for source in (self.skeleton, self.video) if source)


def _clip_id(clip: tuple[int, int, int]) -> str:
  return "a{:02d}_s{:02d}_e{:02d}".format(*clip)


def find(raw_dir: str, frames: str) -> definition.Found:
  """The clips in a folder, however its files are spread over zip archives and subfolders.

  Args:
    raw_dir: the folder. frames: "colour video", "depth video", or "" for none.

  Raises:
    RawDataError: nothing of the dataset in the folder, a broken archive, a file that the dataset
      does not have, different files for one clip, or a clip of which only one of two present
      kinds exists; names the file.
  """
  kinds = {}
  for match, source in archives.listing(raw_dir, _FILE):
    kind = _KINDS[(match[4] or match[5]).lower()]
    clip = tuple(int(number) for number in match.groups()[:3])
    if not all(1 <= n <= most for n, most in zip(clip, (len(CLASS_NAMES), SUBJECTS, EPISODES))):
      raise RawDataError(f"{source} is not a file of {TITLE} (actions 1-{len(CLASS_NAMES)}, "
                         f"subjects 1-{SUBJECTS}, episodes 1-{EPISODES})")
    if kind in ("skeleton", frames):
      archives.add(kinds.setdefault(kind, {}), clip, source)
  if not kinds:
    ending = {"colour video": " or _rgb.avi", "depth video": " or _depth.bin", "": ""}[frames]
    raise archives.nothing_found(raw_dir, f"a*_s*_e*_skeleton.txt{ending} files", TITLE)
  archives.require_all(raw_dir, kinds, _clip_id)
  clips = sorted(set().union(*kinds.values()))
  remarks = [f"{len(clips)} of the {CLIPS} clips of {TITLE} are here"] * (len(clips) != CLIPS)
  return definition.Found([RawClip(_clip_id(clip), *clip, kinds.get("skeleton", {}).get(clip),
                                 kinds.get(frames, {}).get(clip)) for clip in clips], remarks)


# ---- skeletons -------------------------------------------------------------------------------

def skeleton(source: Source) -> tuple[np.ndarray, np.ndarray]:
  """The first person of each frame as the file has it.

  Returns:
    joints float64[T,20,3] in metres and their places float64[T,20,2], shares of the image's
    width and height; NaN in frames without a person.

  Raises:
    RawDataError: the file ends early, goes on after its end, or is not made of what the module's
      description says; names the file, and the frame.
  """
  numbers = _numbers(source)
  frames, joints = (int(n) if n.is_integer() else -1 for n in numbers[:2])
  if not 1 <= frames < len(numbers) or joints != JOINTS:
    raise RawDataError(f"{source} does not begin with a number of frames and {JOINTS}, that of "
                       "joints; fetch it again")
  found, at = np.full((frames, JOINTS, 2, 3), np.nan), 2
  for t in range(frames):
    rows = numbers[at] if at < len(numbers) else 0
    if not (0 <= rows <= 1000 and rows % (2 * JOINTS) == 0):
      raise RawDataError(f"{source}: frame {t + 1} of {frames} has {rows:g} rows, which is not a "
                         f"multiple of {2 * JOINTS}; fetch it again")
    end = at + 1 + 4 * int(rows)
    if at >= len(numbers) or end > len(numbers):
      raise RawDataError(f"{source} ends in frame {t + 1} of {frames}; fetch it again")
    if rows:
      found[t] = numbers[at + 1:at + 1 + 8 * JOINTS].reshape(JOINTS, 2, 4)[..., :3]
    at = end
  if at < len(numbers):
    raise RawDataError(f"{source} goes on after its {frames} frames; fetch it again")
  return found[:, :, 0], found[:, :, 1, :2]


def _numbers(source: Source) -> np.ndarray:
  """All numbers of a text file, float64[n], n >= 2. Raises RawDataError."""
  words = source.read().decode("ascii", "replace").split()
  if len(words) < 2:
    raise RawDataError(f"{source} is empty; fetch it again")
  try:
    return np.array(words, np.float64)
  except ValueError:
    pass
  try:
    return np.array([_kinect.number(word) for word in words])
  except ValueError as error:
    raise RawDataError(f"{source} is not made of numbers ({shown(error, 60)}); "
                       "fetch it again") from None


def pose(source: Source, size: tuple[int, int]) -> encoding.Pose:
  """The person of a skeleton file, in pixels of an image of (width, height).

  Raises:
    RawDataError: malformed (see `skeleton`), or without a single usable joint.
  """
  joints, places = skeleton(source)
  pose3d, score = _kinect.split_lost(joints[None])
  with np.errstate(invalid="ignore"):
    score = score * (np.abs(places[None] * size) < boxes.FARTHEST_PIXEL).all(-1)
  if not score.any():
    raise RawDataError(f"{source}: no joint of its {len(joints)} frames is usable; fetch it again")
  there = score[..., None] > 0
  points = np.where(there, places[None] * size - 0.5, 0)
  return encoding.Pose(points, score.astype(np.float32), size, np.where(there, pose3d, 0))


# ---- records ---------------------------------------------------------------------------------

def encode(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip with colour video as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only; a clip without skeleton
      is stored whole.

  Raises:
    RawDataError: an unreadable or malformed file, or a video and a skeleton of lengths that
      cannot belong together; names the files.
  """
  found = pose(raw.skeleton, COLOUR) if raw.skeleton else None
  read = encoding.reader(raw.video, MAX_FRAMES) if video else None
  return _record(raw, found, read, video=video, crop=crop)


def encode_depth(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip with depth video as a record; see `encode`."""
  counts = np.zeros(2**16, np.int64)

  def read(place):
    with raw.video.on_disk() as path:
      return _depth_frames(raw.video, path, place, counts)

  found = pose(raw.skeleton, DEPTH) if raw.skeleton else None
  framed = video and raw.video is not None
  record = _record(raw, found, read if framed else None, video=video, crop=crop)
  if framed:
    nobody = np.zeros((1, JOINTS, 3)), np.zeros((1, JOINTS))
    record["depth_range"] = _kinect.depth_range(
        counts, *((found.pose3d, found.score) if found else nobody))
  return record


def _record(raw: RawClip, found, read, *, video: bool, crop: bool | str) -> dict:
  return {"clip_id": raw.clip_id, "label": raw.action - 1, "subject": raw.subject,
          "setup": raw.episode, "fps": FPS} | encoding.fields(
              found, read, crop=crop, video=video, names=(raw.video, raw.skeleton), apart=APART)


def _depth_frames(source: Source, path: str, place, counts: np.ndarray) -> videos.Stored:
  """The frames of a depth file, and how many of their pixels have each depth.

  Args:
    path: of the file on disk, or of its copy. place: (width, height) -> the window to store.
    counts: int64[65536], added to.

  Raises:
    RawDataError: another length than the header says, or depths that are none.
  """
  with open(path, "rb") as file:
    header = np.frombuffer(file.read(12), "<i4")
    count, width, height = (int(n) for n in header) if len(header) == 3 else (0, 0, 0)
    if not (0 < count <= _MOST_FRAMES and width > 0 and height > 0
            and width * height <= videos.MOST_PIXELS):
      raise RawDataError(f"{source} does not begin with the numbers of frames, columns and rows "
                         "of a depth video; fetch it again")
    row = np.dtype([("depth", "<i4", (width,)), ("person", "u1", (width,))])
    expected = 12 + count * height * row.itemsize
    if source.size != expected:
      raise RawDataError(f"{source} has {source.size} bytes, but {count} frames of "
                         f"{width}x{height} are {expected}; fetch it again")
    window, frames = place(width, height), []
    for t in range(count):
      depth = np.frombuffer(file.read(height * row.itemsize), row)["depth"]
      if depth.min() < 0 or depth.max() >= len(counts):
        raise RawDataError(f"{source}: frame {t + 1} has depths from {depth.min()} to "
                           f"{depth.max()}, which are not millimetres; fetch it again")
      kept = window.cut(depth.astype(np.uint16))
      counts += np.bincount(kept.ravel(), minlength=len(counts))
      frames.append(images.encode_depth_png(kept))
  facts = videos.Facts(count, count, fps=FPS, width=width, height=height,
                       sizes={(width, height)})
  return videos.Stored(frames, np.arange(count), window, FPS, facts)
