"""From a record's 2D skeletons to what a network that draws them reads (PoseC3D; Duan et al.,
2022, section 3.2, and the released pipelines).

Frames are drawn, skeletons cut to the square of all their joints, and a window of that square
scaled to the network's input. The `Framing` is all that chance, or the number of a test clip,
decides; a video can go through the same one.
"""
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from actionjax.data.clips.definition import Dataset
from actionjax.data.loading import inputs, pose_sampling, sampling, transforms
from actionjax.data.loading.framing import Framing
from actionjax.skeletons import Layout


@dataclasses.dataclass(frozen=True)
class Config(inputs.Input):
  """How 2D skeletons become `pose2d` float32[M,T,V,2] and `pose_score` float32[M,T,V].

  The defaults are those of the released PoseC3D. Coordinates count pixels of an image of `size`
  in training, of `test_size` at test; joints outside of it keep theirs, and missing ones are 0.

  Attributes:
    num_frames: T.
    sampling: "uniform", a frame out of each of T parts of the clip, as in
      `pose_sampling.uniform_frames`; or "strided", frames `stride` apart, as in `sampling.strided`:
      what the paper compares it with (section 4.3).
    compact: whether skeletons are cut to the square of all their joints; else the whole image is
      shown (the ablation of the same section).
    persons: M, of more the `transforms.main_persons`; absent persons are zeros with score 0. At 0
      M is the most that a clip of the dataset has: all are drawn into the same maps, so that the
      network costs the same.
    size: (h, w) of the image in training, a random window of the joints' square.
    test_size: (h, w) at test.
    short_side: of the square, in pixels, before the window is drawn from whole pixels.
    padding, hw_ratio: of the joints' box; see `pose_sampling.compact`.
    area, aspect: of the window; see `pose_sampling.random_resized_box`.
    test_resize: "square" scales the whole box to `test_size`, whatever its shape (PYSKL);
      "center" takes the largest window of that shape in its middle (MMAction2).
    frames: whose test clips: "pyskl" or "mmaction2"; see `pose_sampling.test_frames`.
  """
  num_frames: int = 48
  sampling: Literal["uniform", "strided"] = "uniform"
  stride: int = 1
  compact: bool = True
  persons: int = 0
  size: tuple[int, int] = (56, 56)
  test_size: tuple[int, int] = (64, 64)
  short_side: int = 64
  padding: float = 0.25
  hw_ratio: float = 1.0
  area: tuple[float, float] = (0.56, 1.0)
  aspect: tuple[float, float] = (3 / 4, 4 / 3)
  test_resize: Literal["square", "center"] = "square"
  frames: pose_sampling.Released = "pyskl"

  arrays: ClassVar = ("pose2d", "pose_score")
  reads: ClassVar = ("pose2d", "pose_score")
  frames_others: ClassVar = True

  def __post_init__(self):
    super().__post_init__()
    for field in ("size", "test_size"):
      if min(getattr(self, field)) < 1:
        raise ValueError(f"{field} must be (height, width), got {getattr(self, field)}")
    for field, least in (("num_frames", 1), ("stride", 1), ("persons", 0), ("short_side", 1)):
      if getattr(self, field) < least:
        raise ValueError(f"{field} must be at least {least}, got {getattr(self, field)}")
    for field, most in (("area", 1), ("aspect", np.inf)):
      low, high = getattr(self, field)
      if not 0 < low <= high <= most:
        raise ValueError(f"{field} must be two rising bounds in (0, {most:g}], got {low}, {high}")
    if self.hw_ratio <= 0 or self.padding < 0:
      raise ValueError("hw_ratio must be above 0 and padding 0 or more, got "
                       f"{self.hw_ratio} and {self.padding}")

  @property
  def room(self) -> bool:
    """The largest window of a box in its middle leaves some beside it; the whole box none."""
    return self.test_resize == "center"

  def of(self, source: Dataset) -> "Config":
    """See `inputs.Input`."""
    return self if self.persons else dataclasses.replace(self, persons=max(1, source.persons))

  def check_model(self, model, layout: Layout | None, path: str) -> None:
    """Raises UserError where a model draws skeletons in another image than this one."""
    if "pose2d" in model.inputs and hasattr(model, "check_pixels"):
      model.check_pixels(self.size, self.test_size)


def spec(config: Config, layout: Layout, test: bool) -> dict:
  """See `inputs`."""
  shape = (config.persons, config.num_frames, layout.num_joints)
  return {"pose2d": ((*shape, 2), np.float32), "pose_score": (shape, np.float32)}


def draw(config: Config, record: dict, shared: inputs.Shared, rng: np.random.Generator) -> Framing:
  """A random framing of a part of a clip. Raises UserError where it lacks skeletons."""
  transforms.check_skeletons(record, shared.layout, "pose2d", "data.pose2d")
  first, length = sampling.cut(record["pose2d"].shape[1], shortest=shared.shortest,
                               draws=shared.interval)
  frames = first + (
      pose_sampling.uniform_frames(length, config.num_frames, rng) if config.sampling == "uniform"
      else sampling.strided(length, config.num_frames, config.stride, shared.position))
  size, box = _compact(config, record, frames)
  resized = pose_sampling.short_side(size, config.short_side)
  window = pose_sampling.random_resized_box(resized, rng, area=config.area, aspect=config.aspect)
  return Framing(frames, _within(box, size, resized, window), config.size,
                 config.size[1] if shared.mirror else None, config.frames)


def views(config: Config, record: dict, shared: Sequence[inputs.Shared]) -> list[Framing]:
  """The framings of all test clips, which share one box. Raises UserError as `draw`.

  The released code mirrors maps, which takes x to w - 1 - x. Of the maps themselves this is the
  mirror image but for the outermost pixels of each joint's window, which the released code cuts
  asymmetrically.
  """
  transforms.check_skeletons(record, shared[0].layout, "pose2d", "data.pose2d")
  count = record["pose2d"].shape[1]
  if config.sampling == "uniform":
    frames = pose_sampling.test_frames(count, config.num_frames, len(shared), config.frames)
  else:
    frames = np.stack([sampling.strided(count, config.num_frames, config.stride, view.position)
                       for view in shared])
  size, box = _compact(config, record, frames.ravel())
  return [Framing(clip, _test_box(config, size, box, view.at), config.test_size,
                  config.test_size[1] - 1 if view.mirror else None, config.frames)
          for clip, view in zip(frames, shared)]


def apply(config: Config, record: dict, shared: inputs.Shared, choice: Framing) -> dict:
  """`pose2d` float32[M,T,V,2] and `pose_score` float32[M,T,V] of a framing."""
  points, score = _picked(config, record, choice.frames)
  scale = np.array(choice.size[::-1]) / (choice.box[2:] - choice.box[:2])
  points = np.where(score[..., None] > 0, (points - choice.box[:2]) * scale, 0)
  if choice.mirror is not None:
    points, score = pose_sampling.flip(points, score, choice.mirror, shared.layout)
  return {"pose2d": points.astype(np.float32), "pose_score": score.astype(np.float32)}


def image_size(record: dict) -> tuple[int, int]:
  """(height, width) of the stored frame; where the record does not know it, what holds all joints.

  It only matters for skeletons that are too small to be cut out (see `pose_sampling.compact`).
  """
  height, width = (int(side) for side in record.get("image_size", (0, 0)))
  if height > 0 and width > 0:
    return height, width
  points = record["pose2d"][record["pose_score"] > 0]
  width, height = (int(np.ceil(side)) for side in points.max(0, initial=1))
  return height, width


def _picked(config, record, frames):
  """Skeletons in some frames; a joint that is no number counts as missing."""
  # Where no dataset says how many there may be, all of this clip.
  persons = config.persons or max(1, len(record["pose2d"]))
  points, score = transforms.pick_pose(record["pose2d"], record["pose_score"], frames, persons)
  there = (score > 0) & np.isfinite(points).all(-1)
  return np.where(there[..., None], points, 0).astype(np.float64), np.where(there, score, 0)


def _compact(config, record, frames):
  """Size (h, w) and box of the part of the image that the skeletons are in."""
  if not config.compact:
    height, width = image_size(record)
    return (height, width), np.array([0, 0, width, height])
  points, _ = _picked(config, record, frames)
  _, size, box = pose_sampling.compact(
      points, image_size(record), padding=config.padding, hw_ratio=config.hw_ratio)
  return size, box


def _test_box(config, size, box, at):
  """float[4] of a test view: the whole box, or of its largest window the one at (x, y)."""
  if config.test_resize == "square":
    return np.asarray(box, np.float64)
  # The scale of the shape's tighter side; MMAction2 knows squares alone.
  scale = max(config.test_size[0] / size[0], config.test_size[1] / size[1])
  resized = tuple(int(side * scale + 0.5) for side in size)
  h, w = config.test_size
  x, y = int(at[0] * (resized[1] - w)), int(at[1] * (resized[0] - h))
  return _within(box, size, resized, (x, y, x + w, y + h))


def _within(box, size, resized, window):
  """A window in the pixels of a resized box, float[4] in those that the box is in."""
  scale = np.array([size[1] / resized[1], size[0] / resized[0]] * 2)
  return np.tile(box[:2], 2) + np.asarray(window) * scale
