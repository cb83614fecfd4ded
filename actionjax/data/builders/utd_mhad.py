"""UTD-MHAD: 27 actions, 8 subjects, 4 trials, Kinect v1 depth video and skeletons.

Chen, Jafari, Kehtarnavaz, "UTD-MHAD: A multimodal dataset for human action recognition
utilizing a depth camera and a wearable inertial sensor", ICIP 2015. Read from the
official `Depth.zip` and `Skeleton.zip`, or the folders extracted from them, both or
either alone. Depth is in millimetres with the background removed (0); skeletons are in
metres. Both are recorded frame by frame together.
"""
import dataclasses
import pathlib
import re
import zipfile

import numpy as np

from actionjax import skeletons
from actionjax.data.builders import _kinect
from actionjax.data.clips import boxes, definition, protocols
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import images, matlab
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError
from actionjax.ops import projection

CLASS_NAMES = (
    "swipe_left", "swipe_right", "wave", "clap", "throw", "arm_cross", "basketball_shoot",
    "draw_x", "draw_circle_cw", "draw_circle_ccw", "draw_triangle", "bowling", "boxing",
    "baseball_swing", "tennis_swing", "arm_curl", "tennis_serve", "push", "knock", "catch",
    "pickup_throw", "jog", "walk", "sit_to_stand", "stand_to_sit", "lunge", "squat")
LAYOUT = "kinect_v1_20"
FPS = 30.0

WIDTH, HEIGHT = 320, 240
SUBJECTS, TRIALS, CLIPS = 8, 4, 861
# Camera coordinates to depth pixels: the coefficients fitted on this dataset for 640x480, halved.
_PINHOLE = projection.scaled(projection.COEFFICIENTS["v1"], factor=WIDTH / 640)
# The order of `Skeleton_joint_order.txt`, in the names of `actionjax.skeletons`.
RAW_JOINTS = ("head", "shoulder_centre", "spine", "hip_centre",
              "left_shoulder", "left_elbow", "left_wrist", "left_hand",
              "right_shoulder", "right_elbow", "right_wrist", "right_hand",
              "left_hip", "left_knee", "left_ankle", "left_foot",
              "right_hip", "right_knee", "right_ankle", "right_foot")
_ORDER = [RAW_JOINTS.index(joint) for joint in skeletons.layout(LAYOUT).joints]
_KINDS = {"depth": ("Depth", "d_depth"), "skeleton": ("Skeleton", "d_skel")}
_NAME = re.compile(r"a(\d+)_s(\d+)_t(\d+)_(depth|skeleton)\.mat", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files; either may be None."""
  clip_id: str
  action: int
  subject: int
  trial: int
  video: Source | None
  skeleton: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    return tuple((source.base, source.size)
                 for source in (self.video, self.skeleton) if source)


def _list(raw_dir: pathlib.Path, kind: str) -> list[Source]:
  """The files of one kind, from the archive, its extracted folder, or raw_dir itself."""
  title = _KINDS[kind][0]
  found = []
  archive = raw_dir / f"{title}.zip"
  if archive.exists():
    try:
      with zipfile.ZipFile(archive) as content:
        found += [Source(str(archive), entry.filename, entry.file_size)
                  for entry in content.infolist()]
    except (zipfile.BadZipFile, OSError) as error:
      raise RawDataError(f"{archive} is not a whole zip archive ({error}); "
                         "fetch it again") from None
  for folder in (raw_dir / title, raw_dir):
    if folder.is_dir():
      found += [Source(None, str(file), file.stat().st_size) for file in folder.iterdir()
                if file.is_file()]
  return found


def find(raw_dir: str, video: bool = True, crop: bool = True) -> definition.Found:
  """The clips in a folder that holds the archives, the extracted folders, or the files.

  A file that is there twice (an archive beside its extracted folder) counts once.

  Args:
    raw_dir: folder with `Depth.zip` and `Skeleton.zip`, or `Depth/` and `Skeleton/`, or
      `aA_sS_tT_depth.mat` and `aA_sS_tT_skeleton.mat`; either kind may be absent.
    video: whether depth is wanted. crop: unused here.

  Raises:
    RawDataError: nothing of UTD-MHAD in the folder, a broken archive, a file name that
      UTD-MHAD does not have, different files for one clip, or a clip of which only one
      of two present kinds exists; names the file.
  """
  raw_dir = pathlib.Path(raw_dir)
  if not raw_dir.is_dir():
    raise RawDataError(f"{raw_dir} is not a folder; --raw_dir names the folder with "
                       "UTD-MHAD's Depth.zip and Skeleton.zip")
  kinds = {}
  for kind in ("depth", "skeleton") if video else ("skeleton",):
    files = {}
    for source in _list(raw_dir, kind):
      match = _NAME.fullmatch(pathlib.PurePosixPath(source.name).name)
      if not match or match[4].lower() != kind:
        continue
      clip = tuple(int(number) for number in match.groups()[:3])
      check_clip(clip, source)
      other = files.setdefault(clip, source)
      names = {pathlib.PurePosixPath(s.name).name for s in (source, other)}
      if len(names) > 1 or source.size != other.size:
        raise RawDataError(f"two different files for one clip: {other} ({other.size} bytes) "
                           f"and {source} ({source.size} bytes)")
    if files:
      kinds[kind] = files
  if not kinds:
    there = sorted(path.name for path in raw_dir.iterdir())
    seen = ", ".join(there[:5]) + (", ..." if len(there) > 5 else "") or "nothing"
    wanted = "Depth.zip or Skeleton.zip" if video else "Skeleton.zip"
    raise RawDataError(f"{raw_dir} holds no {wanted} of UTD-MHAD, nor files extracted from "
                       f"one; it holds: {seen}")
  clips = sorted(set().union(*kinds.values()))
  for kind, files in kinds.items():
    for clip in clips:
      if clip not in files:
        name = f"{clip_id(clip)}_{kind}.mat"
        raise RawDataError(f"{raw_dir} has no {name}, but the clip's other file; fetch it, or "
                           f"take all {kind} files away")
  return definition.Found([RawClip(clip_id(clip), *clip, kinds.get("depth", {}).get(clip),
                                 kinds.get("skeleton", {}).get(clip)) for clip in clips],
                        remarks(len(clips)))


def clip_id(clip: tuple[int, int, int]) -> str:
  """Of (action, subject, trial): "a1_s2_t3"."""
  return "a{}_s{}_t{}".format(*clip)


def check_clip(clip: tuple[int, int, int], source: Source) -> None:
  """Raises RawDataError for an (action, subject, trial) that the dataset does not have."""
  if not all(1 <= n <= most for n, most in zip(clip, (len(CLASS_NAMES), SUBJECTS, TRIALS))):
    raise RawDataError(f"{source} is not a file of UTD-MHAD (actions 1-27, subjects 1-8, "
                       "trials 1-4)")


def remarks(clips: int) -> list[str]:
  """What to say to a user who has so many clips."""
  return [f"{clips} of the {CLIPS} clips of UTD-MHAD are here"] * (clips != CLIPS)


def _variable(source: Source, kind: str) -> np.ndarray:
  """The one array of a .mat file, checked. Raises RawDataError naming the file."""
  name = _KINDS[kind][1]
  value = matlab.variable(source, name)
  ok = value.ndim == 3 and value.shape[2] > 0
  if kind == "depth":
    expected = f"uint16[{HEIGHT},{WIDTH},T]"
    ok = ok and value.dtype == np.uint16 and value.shape[:2] == (HEIGHT, WIDTH)
  else:
    expected = f"float64[{len(RAW_JOINTS)},3,T]"
    ok = ok and value.dtype.kind == "f" and value.shape[:2] == (len(RAW_JOINTS), 3)
  if not ok:
    raise RawDataError(f"{source}: {name} is {value.dtype}{list(value.shape)}, "
                       f"expected {expected}")
  return value


def project(pose3d: np.ndarray) -> np.ndarray:
  """Camera coordinates float[...,3] (m) to depth pixels of 320x240, float[...,2]; lost are 0."""
  return projection.project(pose3d, **_PINHOLE)


def read_pose(source: Source) -> tuple[np.ndarray, np.ndarray]:
  """A skeleton file as pose float64[1,T,20,3] in the layout's order and score [1,T,20].

  Raises:
    RawDataError: an unreadable file, or another variable, shape or dtype; names the file.
  """
  return _pose(_variable(source, "skeleton"))


def _pose(skeleton: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  pose = skeleton.transpose(2, 0, 1)[None][:, :, _ORDER]
  return _kinect.split_lost(pose)


def encode(raw: RawClip, video: bool = True, crop: bool = True) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the depth frames. crop: of the person only.

  Raises:
    RawDataError: an unreadable file, a wrong variable, shape or dtype, or a video and a
      skeleton of different lengths; names the files.
  """
  depth = _variable(raw.video, "depth") if raw.video and video else None
  skeleton = _variable(raw.skeleton, "skeleton") if raw.skeleton else None
  if depth is not None and skeleton is not None and depth.shape[2] != skeleton.shape[2]:
    raise RawDataError(f"{raw.video} has {depth.shape[2]} frames, but {raw.skeleton} has "
                       f"{skeleton.shape[2]}")
  record = {"clip_id": raw.clip_id, "label": raw.action - 1, "subject": raw.subject, "fps": FPS}
  pose, score = np.zeros((0, 0, 0, 3)), np.zeros((0, 0, 0), np.float32)
  if skeleton is not None:
    pose, score = _pose(skeleton)
    points = project(pose)
    around = boxes.pose_boxes(points, score)
  else:
    around = boxes.foreground_boxes(depth.transpose(2, 0, 1) > 0)
  window = boxes.clip_window(around if crop else None, WIDTH, HEIGHT)
  record["frame_to_original"], record["image_size"] = window.to_original, window.size
  record["boxes"] = window.to_stored(around.reshape(-1, 2, 2)).reshape(-1, 4)
  record["num_frames"] = len(around)
  if skeleton is not None:
    record["pose3d"], record["pose_score"] = pose, score
    record["pose2d"] = np.where(score[..., None] > 0, window.to_stored(points), 0)
  if depth is not None:
    frames = [window.cut(frame) for frame in depth.transpose(2, 0, 1)]
    record["frames"] = [images.encode_depth_png(frame) for frame in frames]
    counts = np.bincount(np.stack(frames).ravel())
    record["depth_range"] = _kinect.depth_range(counts, pose, score)
  return record


DATASET = Dataset(
    name="utd_mhad",
    version="1.1.0",
    class_names=CLASS_NAMES,
    layout=LAYOUT,
    modality="depth",
    fps=FPS,
    variants={
        "cropped": {"crop": True, "video": True},     # the person, grown 30 %
        "uncropped": {"crop": False, "video": True},  # whole frames of 320x240
        "skeleton": {"crop": False, "video": False},  # poses alone, pose2d in 320x240
    },
    protocols={"cross_subject": protocols.cross_subject((1, 3, 5, 7))},
    find=find,
    encode=encode,
    # Left and right swipes swap, and so do the circles' senses.
    mirror_classes=(1, 0, *range(2, 8), 9, 8, *range(10, 27)))
