"""A clip's poses and frames, whatever files they come from, as the fields of a record."""
import dataclasses
from collections.abc import Callable

import numpy as np

from actionjax.data.clips import boxes, videos
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError

# Of frames' shorter side in pixels, or of the persons' where they are cut; see `boxes.clip_window`.
STORED_SHORT_SIDE = 256
# What all builders of colour video offer, as keyword arguments of their `find` and `encode`.
VARIANTS = {
    "cropped": {"crop": True, "video": True},     # the persons, grown 30 %
    "square": {"crop": "square", "video": True},  # with what the squares around them reach
    "uncropped": {"crop": False, "video": True},  # whole frames, the short side at most 256
    "skeleton": {"crop": False, "video": False},  # skeletons alone, pose2d in original pixels
}
STRETCHED = "skeletons matched in proportion to a video of another length"


@dataclasses.dataclass(frozen=True)
class Pose:
  """The persons of a clip, M of them, in T frames.

  Attributes:
    points: float64[M,T,J,2], pixels of an image of `size`.
    score: float32[M,T,J], 0 where a joint is lost.
    size: (width, height) of that image.
    pose3d: float64[M,T,J,3] in metres, or None.
  """
  points: np.ndarray
  score: np.ndarray
  size: tuple[int, int]
  pose3d: np.ndarray | None = None

  @property
  def num_frames(self) -> int:
    """T."""
    return self.score.shape[1]

  def at(self, picks: np.ndarray) -> "Pose":
    """The poses of some frames, int[t]."""
    return dataclasses.replace(
        self, points=self.points[:, picks], score=self.score[:, picks],
        pose3d=None if self.pose3d is None else self.pose3d[:, picks])

  def scaled(self, width: int, height: int) -> "Pose":
    """The same in the pixels of an image of another size."""
    factor = np.array([width, height]) / self.size
    return dataclasses.replace(self, points=(self.points + 0.5) * factor - 0.5,
                               size=(width, height))


Read = Callable[[Callable[[int, int], boxes.StoredWindow]], videos.Stored]


def reader(video: Source | None, max_frames: int) -> Read | None:
  """Reads a video file for `fields`; None where there is none. See `videos.read`."""
  if video is None:
    return None

  def read(place):
    with video.on_disk() as path:
      return videos.read(path, place, max_frames)

  return read


def fields(pose: Pose | None, read: Read | None, *, crop: bool | str, video: bool,
           names: tuple[object, object] = ("the video", "its skeletons"),
           apart: float = 0.1) -> dict:
  """The fields of a record that come from poses and from frames; of either alone, too.

  Poses of another number than the frames are matched to them in proportion, which a note says:
  the two are counted by clocks of their own.

  Args:
    pose: None where the clip has none; then frames are stored whole.
    read: reads the frames, given a function (width, height) -> the window to store, as
      `videos.read` does; None where the clip has none.
    crop: store the persons only; "square" with what squares around them reach.
    video: whether frames are wanted; where they are, pixels are those that frames would be reduced
      to.
    names: of the files of frames and of poses, for the error.
    apart: how much two lengths that belong together may differ, as a share of the frames.

  Raises:
    RawDataError: what `read` raises, or frames and poses of lengths too far apart.
  """
  if read is None:
    return pose_fields(pose, window(pose, *pose.size, crop, reduce=video))
  seen = pose

  def place(width: int, height: int) -> boxes.StoredWindow:
    nonlocal seen
    # Videos may have been reduced; the joints are in the pixels of the original.
    seen = pose and pose.scaled(width, height)
    return window(seen, width, height, crop)

  stored = read(place)
  count, kept = len(stored.frames), stored.window
  record = {"frames": stored.frames, "num_frames": count,
            "frame_to_original": kept.to_original, "image_size": kept.size}
  if pose is None:
    return record
  # Clocks may differ by two frames in the shortest of clips.
  if abs(count - pose.num_frames) > max(2, apart * count):
    raise RawDataError(f"{names[0]} has {count} frames, but {names[1]} has {pose.num_frames}; "
                       "fetch both again")
  if count != pose.num_frames:
    seen = seen.at(resample(pose.num_frames, count))
    record["notes"] = (STRETCHED,)
  return record | pose_fields(seen, kept)


def window(pose: Pose | None, width: int, height: int, crop: bool | str,
           reduce: bool = True) -> boxes.StoredWindow:
  """What is stored of frames of a size: the persons' window, or all, at the size for it."""
  if crop and pose is not None:
    around = boxes.pose_boxes(pose.points, pose.score)
    if np.isfinite(around).any():
      return boxes.clip_window(around, width, height, STORED_SHORT_SIDE, square=crop == "square")
  return boxes.whole_window(width, height, STORED_SHORT_SIDE if reduce else None)


def pose_fields(pose: Pose, kept: boxes.StoredWindow) -> dict:
  """The fields that come from poses, in the pixels of the stored window's original."""
  around = boxes.pose_boxes(pose.points, pose.score)
  record = {"num_frames": pose.num_frames, "frame_to_original": kept.to_original,
            "image_size": kept.size, "pose_score": pose.score,
            "boxes": kept.to_stored(around.reshape(-1, 2, 2)).reshape(-1, 4),
            "pose2d": np.where(pose.score[..., None] > 0, kept.to_stored(pose.points), 0)}
  return record if pose.pose3d is None else record | {"pose3d": pose.pose3d}


def resample(length: int, target: int) -> np.ndarray:
  """Which of `length` poses belongs to each of `target` frames of the same time, int[target]."""
  return ((2 * np.arange(target) + 1) * length // (2 * target)).astype(int)
