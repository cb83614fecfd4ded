"""From a record's 2D skeletons to what a network that draws them reads (PoseC3D; Duan et al.,
2022, section 3.2, and the released pipelines).

Frames are drawn, skeletons cut to the square of all their joints, and a window of that square
scaled to the network's input. A `Framing` is all that chance, or the number of a test clip,
decides; a video can go through the same one.
"""
import dataclasses

import numpy as np

from actionjax.data.loading import pose_sampling, transforms
from actionjax.skeletons import Layout

TEST_RESIZE = ("square", "centre")
RELEASED = ("pyskl", "mmaction2")


@dataclasses.dataclass(frozen=True)
class Pose2dConfig:
  """How 2D skeletons become `pose2d` float32[M,T,V,2] and `pose_score` float32[M,T,V].

  The defaults are those of the released PoseC3D. Coordinates count pixels of an image of `size`
  in training, of `test_size` at test; joints outside of it keep theirs, and missing ones are 0.

  Attributes:
    num_frames: T; drawn as in `pose_sampling.uniform_frames`.
    persons: M, the first ones as stored; absent persons are zeros with score 0.
    size: (h, w) of the image in training, a random window of the joints' square.
    test_size: (h, w) at test.
    short_side: of the square, in pixels, before the window is drawn from whole pixels.
    padding, threshold, hw_ratio: of the joints' box; see `pose_sampling.compact`.
    area, aspect: of the window; see `pose_sampling.random_resized_box`.
    test_resize: "square" scales the whole box to `test_size`, whatever its shape (PYSKL);
      "centre" takes the largest window of that shape in its middle (MMAction2).
    frames: whose test clips: "pyskl" or "mmaction2"; see `pose_sampling.evaluation_frames`.
  """
  num_frames: int = 48
  persons: int = 2
  size: tuple[int, int] = (56, 56)
  test_size: tuple[int, int] = (64, 64)
  short_side: int = 64
  padding: float = 0.25
  threshold: float = 10.0
  hw_ratio: float = 1.0
  area: tuple[float, float] = (0.56, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  test_resize: str = "square"
  frames: str = "pyskl"

  def __post_init__(self):
    for field, known in (("test_resize", TEST_RESIZE), ("frames", RELEASED)):
      if getattr(self, field) not in known:
        raise ValueError(f"{field} {getattr(self, field)!r} is neither {' nor '.join(known)}")
    for field in ("size", "test_size"):
      if len(getattr(self, field)) != 2 or min(getattr(self, field)) < 1:
        raise ValueError(f"{field} {getattr(self, field)} is no (height, width)")
    for field in ("num_frames", "persons", "short_side"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
    for field, most in (("area", 1), ("aspect", np.inf)):
      low, high = getattr(self, field)
      if not 0 < low <= high <= most:
        raise ValueError(f"{field} {low}, {high} are no bounds in (0, {most:g}]")
    if self.hw_ratio <= 0 or self.padding < 0:
      raise ValueError(f"hw_ratio {self.hw_ratio} and padding {self.padding} make no box")


@dataclasses.dataclass(frozen=True)
class Framing:
  """Which frames of a clip, and which part of the image.

  Attributes:
    frames: int[T].
    box: float[4] x0, y0, x1, y1 in pixels of the stored frame, counted from pixels' corners; may
      leave the image.
    size: (h, w) that the box is scaled to.
    mirror: None, or the sum of a joint's x and its mirror image's.
  """
  frames: np.ndarray
  box: np.ndarray
  size: tuple[int, int]
  mirror: int | None = None

  def window(self, size: tuple[int, int]) -> transforms.Window:
    """The box for a video, as whole pixels; see `snapped`."""
    x0, y0, x1, y1 = (int(corner) for corner in self.box)
    return transforms.Window(x0, y0, x1, y1, size, self.mirror is not None)

  def snapped(self) -> "Framing":
    """The same with a box of whole pixels, at least one: video and skeletons then agree."""
    low = np.round(self.box[:2])
    return dataclasses.replace(
        self, box=np.concatenate([low, np.maximum(np.round(self.box[2:]), low + 1)]))


def image_size(record: dict) -> tuple[int, int]:
  """(height, width) of the stored frame; where the record does not know it, what holds all joints.

  It only matters for skeletons that are too small to be cut out (`Pose2dConfig.threshold`).
  """
  height, width = (int(side) for side in record.get("image_size", (0, 0)))
  if height > 0 and width > 0:
    return height, width
  points = record["pose2d"][record["pose_score"] > 0]
  width, height = (int(np.ceil(side)) for side in points.max(0, initial=1))
  return height, width


def training(config: Pose2dConfig, record: dict, first: int, length: int, mirror: bool,
             rng: np.random.Generator) -> Framing:
  """A random framing of `length` frames of a clip from `first` on."""
  frames = first + pose_sampling.uniform_frames(length, config.num_frames, rng)
  size, box = _compact(config, record, frames)
  resized = pose_sampling.short_side(size, config.short_side)
  window = pose_sampling.random_resized_box(resized, rng, area=config.area, aspect=config.aspect)
  return Framing(frames, _within(box, size, resized, window), config.size,
                 config.size[1] if mirror else None)


def testing(config: Pose2dConfig, record: dict, clips: int,
            at: tuple[float, float] = (0.5, 0.5)) -> list[Framing]:
  """The framings of all test clips, which share one box.

  Args:
    at: place (x, y) in [0,1]^2 of the window in the room that "centre" leaves.
  """
  frames = test_frames(config, record["pose2d"].shape[1], config.num_frames, clips)
  size, box = _compact(config, record, frames.ravel())
  if config.test_resize == "centre":
    # The scale of the shape's tighter side; MMAction2 knows squares alone.
    scale = max(config.test_size[0] / size[0], config.test_size[1] / size[1])
    resized = tuple(int(side * scale + 0.5) for side in size)
    h, w = config.test_size
    x, y = int(at[0] * (resized[1] - w)), int(at[1] * (resized[0] - h))
    box = _within(box, size, resized, (x, y, x + w, y + h))
  return [Framing(clip, np.asarray(box, np.float64), config.test_size) for clip in frames]


def test_frames(config: Pose2dConfig, num_frames: int, length: int, clips: int) -> np.ndarray:
  """int[clips,length], as the released code of `config.frames` chooses them."""
  return pose_sampling.evaluation_frames(num_frames, length, clips,
                                         extra_draw=config.frames == "pyskl")


def mirrored(framing: Framing) -> Framing:
  """The mirrored test view. The released code reverses the maps, which takes x to w - 1 - x.

  Of the maps themselves this is the mirror image but for the outermost pixels of each joint's
  window, which the released code cuts asymmetrically.
  """
  return dataclasses.replace(framing, mirror=framing.size[1] - 1)


def apply(config: Pose2dConfig, record: dict, framing: Framing,
          layout: Layout) -> tuple[np.ndarray, np.ndarray]:
  """`pose2d` float32[M,T,V,2] and `pose_score` float32[M,T,V] of a framing."""
  points, score = _picked(config, record, framing.frames)
  scale = np.array(framing.size[::-1]) / (framing.box[2:] - framing.box[:2])
  points = np.where(score[..., None] > 0, (points - framing.box[:2]) * scale, 0)
  if framing.mirror is not None:
    points, score = pose_sampling.flip(points, score, framing.mirror, layout)
  return points.astype(np.float32), score


def _picked(config, record, frames):
  """Skeletons in some frames; a joint that is no number counts as missing."""
  points, score = transforms.pick_pose(record["pose2d"], record["pose_score"], frames,
                                       config.persons)
  there = (score > 0) & np.isfinite(points).all(-1)
  return np.where(there[..., None], points, 0).astype(np.float64), np.where(there, score, 0)


def _compact(config, record, frames):
  """Size (h, w) and box of the part of the image that the skeletons are in."""
  points, _ = _picked(config, record, frames)
  _, size, box = pose_sampling.compact(
      points, image_size(record), padding=config.padding, threshold=config.threshold,
      hw_ratio=config.hw_ratio)
  return size, box


def _within(box, size, resized, window):
  """A window in the pixels of a resized box, float[4] in those that the box is in."""
  scale = np.array([size[1] / resized[1], size[0] / resized[0]] * 2)
  return np.tile(box[:2], 2) + np.asarray(window) * scale
