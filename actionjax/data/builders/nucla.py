"""Northwestern-UCLA Multiview Action 3D: 10 actions, 10 subjects, three Kinect v1 views.

Wang, Nie, Xia, Wu, Zhu, "Cross-view action modeling, learning, and recognition", CVPR 2014.
Nothing is downloaded here. From https://wangjiangb.github.io/my_data.html take the frames, and
from a repository of skeleton models (CTR-GCN's README links them as NW-UCLA) the skeletons that
such papers use; either alone will do. Put into one folder, in any subfolders,

  view_1/a01_s01_e00/frame_0_tc_175234_rgb.jpg ...   the official frames, extracted
  a01_s01_e00_v01.json ...                           the skeletons, or a zip of them

  python -m actionjax.prepare --dataset=nucla --raw_dir=FOLDER

The official folders hold depth images, which are not read, and a text file of skeletons for each
frame, which is read where a clip has no JSON file. All takes some minutes and about 1 GB
(`uncropped` keeps the frames' own files); skeletons alone (--variant=skeleton) take seconds.

There are 1,494 clips with frames, and 1,484 in the public JSON files; with test view 3 these
give 1,020 / 464. A clip with frames but no skeleton is kept, whole, with nobody in it: published
video results count it. Skeletons that are shorter or longer than the video are matched to its
frames in proportion. Frames come at about 12 a second. pose2d is not part of the dataset: it is
projected with the coefficients fitted on it (`ops/projection`, "v2").
"""
import dataclasses
import json
import re

import numpy as np

from actionjax.data.builders import _kinect
from actionjax.data.clips import boxes, definition, encoding, image_frames, protocols
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives, images
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError
from actionjax.ops import projection

CLASS_NAMES = ("pick_up_with_one_hand", "pick_up_with_two_hands", "drop_trash", "walk_around",
               "sit_down", "stand_up", "donning", "doffing", "throw", "carry")
# The actions' numbers in file names, by label.
ACTIONS = (1, 2, 3, 4, 5, 6, 8, 9, 11, 12)
FPS = 12.0
WIDTH, HEIGHT = 640, 480
SUBJECTS, VIEWS, JOINTS = 10, 3, 20
_FILE = re.compile(
    r"(?:^|/)(?:a(\d+)_s(\d+)_e(\d+)_v(\d+)\.json"
    r"|view_(\d+)/a(\d+)_s(\d+)_e(\d+)/frame_(\d+)_[^/]*?(rgb\.jpg|skeletons?\.txt))$",
    re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files.

  Attributes:
    frames, texts: (frame number, file) of images and of skeletons, in order of the numbers.
    skeleton: the JSON file, or None.
  """
  clip_id: str
  action: int
  subject: int
  episode: int
  view: int
  frames: tuple[tuple[int, Source], ...]
  texts: tuple[tuple[int, Source], ...]
  skeleton: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    files = [file for _, file in (*self.frames, *self.texts)]
    return tuple((file.base, file.size) for file in (*files, self.skeleton) if file)


def find(raw_dir: str, video: bool = True, crop: bool | str = True) -> definition.Found:
  """The clips in a folder of frames, of skeletons, or of both.

  Args:
    raw_dir: the folder. video: whether frames are wanted; without, clips that have no
      skeleton are left out. crop: unused here.

  Raises:
    RawDataError: nothing of N-UCLA in the folder, a broken archive, a file that N-UCLA does
      not have, different files for one clip, or a clip with a skeleton but no frames where
      others have frames; names the file.
  """
  del crop
  kinds = {"json": {}, "rgb.jpg": {}, "txt": {}}
  for match, source in archives.listing(raw_dir, _FILE):
    if match[1]:
      kind, clip, key = "json", tuple(int(n) for n in match.groups()[:4]), ()
    else:
      kind = "rgb.jpg" if match[10].lower() == "rgb.jpg" else "txt"
      clip, key = tuple(int(match[n]) for n in (6, 7, 8, 5)), (int(match[9]),)
    if not (clip[0] in ACTIONS and 1 <= clip[1] <= SUBJECTS and 1 <= clip[3] <= VIEWS):
      raise RawDataError(f"{source} is not a file of N-UCLA (actions "
                         f"{', '.join(map(str, ACTIONS))}, subjects 1-{SUBJECTS}, views 1-{VIEWS})")
    archives.add(kinds[kind].setdefault(clip, {}), key, source)
  if not video:
    kinds["rgb.jpg"] = {}
  clips = sorted(set().union(*kinds.values()))
  if not clips:
    wanted = "view_V/aAA_sSS_eEE/frame_*_rgb.jpg or a*.json" if video else "a*.json"
    raise RawDataError(f"{raw_dir} holds no {wanted} files of N-UCLA; it holds: "
                       f"{archives.contents(raw_dir)}")
  if kinds["rgb.jpg"]:
    lacking = [clip for clip in clips if clip not in kinds["rgb.jpg"]]
    if lacking:
      raise RawDataError(f"{raw_dir} has the skeleton of {_clip_id(lacking[0])}, but no frames of "
                         "it; fetch them, or take all frames away")
  nobody = [_clip_id(clip) for clip in clips
            if clip not in kinds["json"] and clip not in kinds["txt"]]
  remarks = [f"{len(nobody)} clip(s) without a skeleton, such as {nobody[0]}"] if nobody else []
  return definition.Found(
      [RawClip(_clip_id(clip), *clip, _in_order(kinds["rgb.jpg"].get(clip, {})),
               _in_order(kinds["txt"].get(clip, {})), kinds["json"].get(clip, {}).get(()))
       for clip in clips], remarks)


def _in_order(files: dict) -> tuple[tuple[int, Source], ...]:
  return tuple((number, files[number,]) for number, in sorted(files))


def _clip_id(clip) -> str:
  return "a{:02d}_s{:02d}_e{:02d}_v{:02d}".format(*clip)


def _json_pose(raw: RawClip) -> np.ndarray:
  """float64[T,20,3] of a JSON file. Raises RawDataError naming file and field."""
  source = raw.skeleton
  try:
    content = json.loads(source.read().decode())
  except RawDataError:
    raise
  except (ValueError, RecursionError) as error:
    raise RawDataError(f"{source} is not a readable JSON file ({error}); "
                       "fetch it again") from None
  if not isinstance(content, dict):
    raise RawDataError(f"{source} is not a JSON object with file_name, skeletons and label")
  label = ACTIONS.index(raw.action) + 1
  for field, expected in (("file_name", raw.clip_id), ("label", label)):
    if content.get(field, expected) != expected:
      raise RawDataError(f"{source}: {field} is {shown(content[field], 60)!r}, but the file's name "
                         f"says {expected!r}; fetch it again")
  if "skeletons" not in content:
    raise RawDataError(f"{source} has no skeletons; it holds: "
                       f"{shown(', '.join(content))}")
  try:
    pose = np.array(content["skeletons"])
  except (ValueError, OverflowError):  # lists of different lengths
    pose = np.array(None)
  if pose.dtype.kind not in "fi" or pose.ndim != 3 or pose.shape[1:] != (JOINTS, 3):
    raise RawDataError(f"{source}: skeletons is {pose.dtype}{list(pose.shape)}, expected "
                       f"numbers [T,{JOINTS},3]; fetch it again")
  return pose.astype(np.float64)


def _text_pose(source: Source) -> np.ndarray:
  """The person nearest to the camera in one frame, float64[20,3]; NaN where nobody is.

  A file has for each person a line with a number and 20 lines "x,y,z,...", and is empty
  where nobody is tracked. Raises RawDataError naming file and line.
  """
  lines = source.read().decode("ascii", "replace").split("\n")
  lines = [line for line in lines if line.strip()]
  if len(lines) % (JOINTS + 1):
    raise RawDataError(f"{source} has {len(lines)} lines, which is not a multiple of a person's "
                       f"{JOINTS + 1}; fetch it again")
  people = []
  for first in range(0, len(lines), JOINTS + 1):
    try:
      rows = [line.split(",")[:3] for line in lines[first + 1:first + JOINTS + 1]]
      people.append(np.array([[float(text) for text in row] for row in rows]).reshape(JOINTS, 3))
    except ValueError as error:
      raise RawDataError(f"{source}: the joints after line {first + 1} are not x,y,z each "
                         f"({error}); fetch it again") from None
  nearest, best = np.full((JOINTS, 3), np.nan), np.inf
  for pose in people:
    found, score = _kinect.split_lost(pose)
    if score.any() and (distance := found[score > 0][:, 2].mean()) < best:
      nearest, best = pose, distance
  return nearest


def _pose(raw: RawClip) -> tuple[np.ndarray, np.ndarray] | None:
  """Skeleton float64[1,T,20,3] and score float32[1,T,20] for each frame; None without files.

  T is the number of frames, or of skeletons where there are no frames.

  Raises:
    RawDataError: a malformed file, or a JSON file without a single usable joint.
  """
  numbers = [number for number, _ in raw.frames] or [number for number, _ in raw.texts]
  if raw.skeleton is not None:
    pose = _json_pose(raw)
    if not _kinect.split_lost(pose)[1].any():
      raise RawDataError(f"{raw.skeleton}: no joint of its {len(pose)} skeletons is usable; "
                         "fetch it again")
    if raw.frames:
      pose = pose[encoding.resample(len(pose), len(raw.frames))]
  elif raw.texts:
    texts = dict(raw.texts)
    pose = np.stack([_text_pose(texts[number]) if number in texts else np.full((JOINTS, 3), np.nan)
                     for number in numbers])
  else:
    return None
  pose, score = _kinect.split_lost(pose[None])
  return pose, score


def encode(raw: RawClip, video: bool = True, crop: bool | str = True) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only; a clip in which
      nobody is tracked is stored whole.

  Raises:
    RawDataError: an unreadable or malformed file, or frames of different sizes; names it.
  """
  posed = _pose(raw)
  size = (WIDTH, HEIGHT)
  if video and raw.frames:
    first = image_frames.decode(raw.frames[0][1])[1].shape
    size = first[1], first[0]
  if posed is None:
    shape = (1, len(raw.frames), JOINTS)
    posed = np.zeros((*shape, 3)), np.zeros(shape, np.float32)
  pose, score = posed
  points = projection.project(pose, projection.COEFFICIENTS["v2"])
  # Frames may have been reduced; the coefficients are those of 640x480.
  points = (points + 0.5) * [size[0] / WIDTH, size[1] / HEIGHT] - 0.5
  around = boxes.pose_boxes(points, score)
  window = boxes.clip_window(around if crop else None, *size, encoding.STORED_SHORT_SIDE,
                             square=crop == "square")
  record = {
      "clip_id": raw.clip_id, "label": ACTIONS.index(raw.action), "subject": raw.subject,
      "camera": raw.view, "fps": FPS, "num_frames": len(around),
      "frame_to_original": window.to_original, "image_size": window.size,
      "boxes": window.to_stored(around.reshape(-1, 2, 2)).reshape(-1, 4),
      "pose3d": pose, "pose_score": score,
      "pose2d": np.where(score[..., None] > 0, window.to_stored(points), 0)}
  if video and raw.frames:
    whole = (window.width, window.height) == size
    frames = []
    for _, source in raw.frames:
      data, image = image_frames.decode(source, first)
      # A whole frame stays the file it was: encoding it again would only lose.
      frames.append(data if whole else images.encode_jpeg(window.cut(image)))
    record["frames"] = frames
  return record


DATASET = Dataset(
    name="nucla",
    version="1.2.0",
    class_names=CLASS_NAMES,
    layout="kinect_v1_20",
    modality="colour",
    fps=FPS,
    variants={
        "cropped": {"crop": True, "video": True},     # the person, grown 30 %
        "square": {"crop": "square", "video": True},  # with what the squares around it reach
        "uncropped": {"crop": False, "video": True},  # whole frames of 640x480, as they are
        "skeleton": {"crop": False, "video": False},  # skeletons alone, pose2d in 640x480
    },
    protocols={
        **{f"view_{view}": protocols.cross_view(test_cameras=(view,))
           for view in range(1, VIEWS + 1)},
        # The authors' cross-subject setting leaves one subject out at a time.
        **{f"subject_{subject}": protocols.leave_one_subject_out(subject)
           for subject in range(1, SUBJECTS + 1)}},
    find=find,
    encode=encode)
