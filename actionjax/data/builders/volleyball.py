"""Volleyball: what a group does, 8 activities in 4,830 clips of 55 matches.

Ibrahim, Muralidharan, Deng, Vahdat, Mori, "A hierarchical deep temporal model for group activity
recognition", CVPR 2016. Nothing is downloaded here. Put into one folder, extracted or as zip
archives, in any subfolders, what https://github.com/mostafa-saad/deep-activity-rec links:

  videos/VIDEO/annotations.txt     a line a clip: its activity, and box and action of every player
  videos/VIDEO/CLIP/FRAME.jpg      41 frames around frame CLIP, 1280x720 or 1920x1080
  .../VIDEO/CLIP/CLIP.txt          optional, volleyball_tracking_annotation.zip (Sendo and Ukita,
                                   MVA 2019): the players' boxes in every frame
  joints/VIDEO/CLIP.pickle         optional, 2D skeletons by HRNet, as COMPOSER spreads them
                                   (https://github.com/hongluzhou/composer; Zhou et al., ECCV 2022)

  python -m actionjax.prepare --dataset=volleyball --raw_dir=FOLDER

The activities and boxes alone hold no skeletons: networks that read them need the joints. A clip is
stored with 20 frames, ten before the annotated one and nine after it, where tracks and joints are;
PoseC3D sees 12 of them. Without tracks and joints the players' boxes are those of the annotated
frame throughout. A record has no place for what single players do: `read_annotations` gives it.

Protocol `split` trains on the official training and validation videos (3,493 clips) and tests on
the others (1,337), as published results do; `validated` keeps the former apart.
"""
import dataclasses
import re

import numpy as np

from actionjax.data.clips import boxes, definition, encoding, image_frames
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives, plain_pickle
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

CLASS_NAMES = ("right_set", "right_spike", "right_pass", "right_winpoint", "left_set", "left_spike",
               "left_pass", "left_winpoint")
# As the files have them, where some are written r-pass.
_ACTIVITIES = {f"{name[0]}_{name.partition('_')[2]}": label
               for label, name in enumerate(CLASS_NAMES)}
ACTIONS = ("blocking", "digging", "falling", "jumping", "moving", "setting", "spiking", "standing",
           "waiting")
TITLE, CLIPS, JOINTS, MAX_PERSONS = "Volleyball", 4830, 17, 13
BEFORE, AFTER = 10, 9
FPS = 30.0  # of most; the files do not say
TRAIN_VIDEOS = (1, 3, 6, 7, 10, 13, 15, 16, 18, 22, 23, 31, 32, 36, 38, 39, 40, 41, 42, 48, 50, 52,
                53, 54)
VALIDATION_VIDEOS = (0, 2, 8, 12, 17, 19, 24, 26, 27, 28, 30, 33, 46, 49, 51)
TEST_VIDEOS = (4, 5, 9, 11, 14, 20, 21, 25, 29, 34, 35, 37, 43, 44, 45, 47)
# The others are of 1280x720.
_LARGE_VIDEOS = (2, 37, 38, 39, 40, 41, 44, 45)
_FILE = re.compile(
    r"(?:^|/)(?:joints/(?P<posed_video>\d+)/(?P<posed>\d+)\.pickle"
    r"|(?P<video>\d+)/(?:annotations\.txt|(?P<clip>\d+)/(?P<frame>\d+)\.jpg"
    r"|(?P<tracked>\d+)/(?P=tracked)\.txt))$")


@dataclasses.dataclass(frozen=True)
class Player:
  """A player in the annotated frame: box (x0, y0, x1, y1) in its pixels, and one of `ACTIONS`."""
  box: tuple[float, float, float, float]
  action: str


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip.

  Attributes:
    video, frame: of the annotated frame, which the clip is called by.
    images: (number, file) of its frames, ascending; none where no video is wanted.
    tracks, joints: files, where there are such.
  """
  video: int
  frame: int
  label: int
  players: tuple[Player, ...]
  images: tuple[tuple[int, Source], ...] = ()
  tracks: Source | None = None
  joints: Source | None = None

  @property
  def clip_id(self) -> str:
    """VIDEO/CLIP."""
    return f"{self.video}/{self.frame}"

  @property
  def sources(self) -> tuple:
    """(file name, bytes): the same from a zip or a folder; the annotations are told beside them."""
    files = (*(source for _, source in self.images), self.tracks, self.joints)
    return (("annotation", repr((self.label, self.players))),
            *((file.base, file.size) for file in files if file))


def read_annotations(source: Source) -> dict[int, tuple[int, tuple[Player, ...]]]:
  """An annotations.txt: number of the annotated frame -> label and players.

  Raises:
    RawDataError: a line that is none of the format, or an activity or action that there is not.
  """
  clips = {}
  for number, line in enumerate(source.read().decode("utf-8", "replace").splitlines(), 1):
    words = line.split()
    if not words:
      continue
    where = f"{source}, line {number}"
    frame, activity = words[0].removesuffix(".jpg"), words[1].replace("-", "_") if words[1:] else ""
    if not frame.isdecimal() or activity not in _ACTIVITIES:
      raise RawDataError(f"{where}: {shown(line, 40)!r} does not begin with a frame's .jpg and one "
                         f"of {', '.join(_ACTIVITIES)}; fetch it again")
    players = []
    for start in range(2, len(words), 5):
      *numbers, action = words[start:start + 5]
      if len(numbers) != 4 or action not in ACTIONS or not all(
          re.fullmatch(r"-?\d{1,5}", value) for value in numbers):
        raise RawDataError(f"{where}: {shown(' '.join(words[start:start + 5]), 60)!r} is not a "
                           f"player's x, y, width, height and action ({', '.join(ACTIONS)}); fetch "
                           "it again")
      x, y, width, height = map(float, numbers)
      players.append(Player((x, y, x + width, y + height), action))
    if int(frame) in clips:
      raise RawDataError(f"{where}: frame {frame} is there twice; fetch it again")
    clips[int(frame)] = _ACTIVITIES[activity], tuple(players)
  return clips


def find(raw_dir: str, *, video: bool, crop: bool | str) -> definition.Found:
  """The clips in a folder, extracted or in zip archives.

  Args:
    raw_dir: the folder. video: whether frames are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of Volleyball in the folder, a broken archive, different files for one
      clip, a malformed annotations.txt, or no clip with all that is wanted; names the file.
  """
  del crop
  annotated, images, tracks, joints = {}, {}, {}, {}
  for match, source in archives.listing(raw_dir, _FILE, depth=6):
    number = int(match["video"] or match["posed_video"])
    if match["frame"]:
      clip, frame = (number, int(match["clip"])), int(match["frame"])
      if video and -BEFORE <= frame - clip[1] <= AFTER:
        archives.add(images.setdefault(clip, {}), frame, source)
    elif match["posed"]:
      archives.add(joints, (number, int(match["posed"])), source)
    elif match["tracked"]:
      archives.add(tracks, (number, int(match["tracked"])), source)
    else:
      archives.add(annotated, number, source)
  if not annotated:
    raise archives.nothing_found(raw_dir, "VIDEO/annotations.txt", TITLE)
  clips, lacking = [], []
  for number, source in sorted(annotated.items()):
    for frame, (label, players) in sorted(read_annotations(source).items()):
      clip = number, frame
      if frame in images.get(clip, ()) if video else clip in joints:
        clips.append(RawClip(number, frame, label, players,
                             tuple(sorted(images.get(clip, {}).items())), tracks.get(clip),
                             joints.get(clip)))
      else:
        lacking.append(f"{number}/{frame}")
  wanted = "frames (VIDEO/CLIP/CLIP.jpg and those around it)" if video else (
      "skeletons (joints/VIDEO/CLIP.pickle)")
  if not clips:
    raise RawDataError(f"{raw_dir}: none of the {len(lacking)} annotated clips has its {wanted}")
  remarks = [f"{len(clips)} of the {CLIPS} clips of {TITLE} are here"] * (len(clips) != CLIPS)
  if lacking:
    remarks.append(f"warning: {len(lacking)} annotated clips, such as {lacking[0]}, left out: "
                   f"their {wanted} are not there")
  for kind, files in (("tracks", tracks), ("skeletons", joints)):
    without = [clip.clip_id for clip in clips if (clip.video, clip.frame) not in files]
    if files and without:
      remarks.append(f"warning: {len(without)} clips without {kind}, such as {without[0]}")
  return definition.Found(clips, remarks)


def _skeletons(raw: RawClip) -> dict[int, np.ndarray]:
  """number[M,17,3] of each frame: x, y and score. Raises RawDataError."""
  with raw.joints.on_disk() as path:
    content = plain_pickle.load(path)
  shapes = {value.shape if isinstance(value, np.ndarray) and value.dtype.kind in "fiu" else None
            for value in content.values()} if isinstance(content, dict) else set()
  shape = next(iter(shapes), None)
  if len(shapes) != 1 or shape is None or len(shape) != 3 or shape[1:] != (JOINTS, 3) or not all(
      isinstance(frame, int) for frame in content):
    raise RawDataError(f"{raw.joints} is not a dict of numbers [players, {JOINTS}, 3] by the "
                       "frames' numbers; fetch it again")
  if shape[0] > MAX_PERSONS:
    raise RawDataError(f"{raw.joints} has {shape[0]} players; there are {MAX_PERSONS} at most")
  found = {}
  for frame, value in content.items():
    value = np.nan_to_num(value.astype(np.float64))
    # COMPOSER's files have the joints' numbers in the place of a score.
    if (value[..., 2] == np.arange(JOINTS)).all():
      value[..., 2] = 1
    points = value[..., :2]
    value[(points == 0).all(-1) | (np.abs(points) > boxes.FARTHEST_PIXEL).any(-1)] = 0
    found[frame] = np.maximum(value, [-np.inf, -np.inf, 0])
  return found


def _tracks(source: Source) -> dict[int, list[tuple[float, ...]]]:
  """The boxes of each frame. Lines: player, xmin, ymin, xmax, ymax, frame, lost, ..., action.

  Raises:
    RawDataError: another kind of line.
  """
  found: dict[int, list] = {}
  for number, line in enumerate(source.read().decode("utf-8", "replace").splitlines(), 1):
    words = line.split()
    if not words:
      continue
    if len(words) < 7 or not all(re.fullmatch(r"-?\d{1,8}", word) for word in words[:7]):
      raise RawDataError(f"{source}, line {number}: {shown(line, 60)!r} is not a player, xmin, "
                         "ymin, xmax, ymax, a frame and 0 or 1 for lost; fetch it again")
    _, *box, frame, lost = map(int, words[:7])
    if not lost:
      found.setdefault(frame, []).append(tuple(map(float, box)))
  return found


def _around(raw: RawClip, frames: list[int]) -> np.ndarray:
  """The box around all players in each frame, float32[T,4], from tracks or the annotated frame."""
  annotated = [player.box for player in raw.players]
  tracked = _tracks(raw.tracks) if raw.tracks else {}
  around = np.full((len(frames), 4), np.nan, np.float32)
  for box, frame in zip(around, frames):
    players = np.array(tracked.get(frame) or annotated or np.full((1, 4), np.nan))
    box[:] = *players[:, :2].min(0), *players[:, 2:].max(0)
  return around


def encode(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of all players together.

  Raises:
    RawDataError: an unreadable or malformed file, or frames of different sizes; names it.
  """
  record = {"clip_id": raw.clip_id, "label": raw.label, "setup": raw.video, "fps": FPS}
  skeletons = _skeletons(raw) if raw.joints else {}
  inside = [frame for frame in sorted(skeletons) if -BEFORE <= frame - raw.frame <= AFTER]
  frames = [number for number, _ in raw.images] if video else inside or [raw.frame]
  size = (1920, 1080) if raw.video in _LARGE_VIDEOS else (1280, 720)
  pose = None
  if skeletons:
    nobody = np.zeros(next(iter(skeletons.values())).shape)
    values = np.stack([skeletons.get(frame, nobody) for frame in frames], 1)
    pose = encoding.Pose(values[..., :2], values[..., 2].astype(np.float32), size)
  if len(frames) < BEFORE + 1 + AFTER:
    record["notes"] = (f"fewer than {BEFORE + 1 + AFTER} frames",)
  if pose is not None:
    read = (lambda place: image_frames.read([file for _, file in raw.images], place, FPS)
            ) if video else None
    return record | encoding.fields(pose, read, crop=crop, video=video)
  around = _around(raw, frames)

  def place(width: int, height: int) -> boxes.StoredWindow:
    nonlocal around
    around = (around + 0.5) * (np.array([width, height] * 2) / [*size, *size]) - 0.5
    return boxes.clip_window(around, width, height, encoding.STORED_SHORT_SIDE,
                             square=crop == "square") if crop else (
                                 boxes.whole_window(width, height, encoding.STORED_SHORT_SIDE))

  stored = image_frames.read([file for _, file in raw.images], place, FPS)
  return record | {
      "frames": stored.frames, "num_frames": len(stored.frames),
      "frame_to_original": stored.window.to_original, "image_size": stored.window.size,
      "boxes": stored.window.to_stored(around.reshape(-1, 2, 2)).reshape(-1, 4)}


def _parts(index) -> dict[str, np.ndarray]:
  return {part: np.isin(index.setup, videos) for part, videos in (
      ("train", TRAIN_VIDEOS), ("validation", VALIDATION_VIDEOS), ("test", TEST_VIDEOS))}


def _split(index) -> dict[str, np.ndarray]:
  parts = _parts(index)
  return {"train": parts["train"] | parts["validation"], "test": parts["test"]}


DATASET = Dataset(
    name="volleyball",
    version="1.0.0",
    class_names=CLASS_NAMES,
    layout="coco_17",
    modality="colour",
    poses=("pose2d",),
    persons=MAX_PERSONS,
    fps=FPS,
    variants=encoding.VARIANTS,
    protocols={"split": _split, "validated": _parts},
    find=find,
    encode=encode,
    # The net stands in the middle: in a mirror the teams change sides.
    mirror_classes=(4, 5, 6, 7, 0, 1, 2, 3))
