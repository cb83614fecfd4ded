"""From a record's stored frames to a network's video."""
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from actionjax.data.clips import boxes
from actionjax.data.loading import inputs, pose_sampling, sampling, transforms
from actionjax.errors import UnreadableClipError, UserError
from actionjax.skeletons import Layout

# A window may end a pixel of a small frame beyond what is stored: a share of the persons' box.
_PIXEL = 0.0101


@dataclasses.dataclass(frozen=True)
class Config(inputs.Input):
  """How a clip's frames become `video` uint8[T,h,w,channels].

  Attributes:
    num_frames: T.
    size: (h, w) of the network's input.
    sampling: "segments", "strided" or "first_half"; see `sampling`. "uniform": frames are drawn
      one by one, and those of the test clips chosen, as `data.pose2d` does it (as PYSKL without
      that section), though not the same ones.
    stride: distance of frames for the latter two.
    test_size: of the network's input at test; None for the same.
    box: "person" for the clip-level person box, "frame" for the whole stored frame, "pose2d" for
      the very window that `data.pose2d` shows skeletons in, which leaves nothing to margin,
      square, crop and scale_jitter.
    margin: growth of the person box, as a share of its sides on each side.
    square: extend the person box to a square.
    crop: side of the window relative to the box (224/256 in most papers).
    scale_jitter: training scales the box by a random factor in [1 - j, 1 + j].
    intensity_jitter: training multiplies pixels by a random factor in [1 - j, 1 + j] and adds
      up to j times half the range; a depth map's empty pixels stay 0.
    channels: 1 or 3.
  """
  num_frames: int
  size: tuple[int, int]
  sampling: Literal["segments", "strided", "first_half", "uniform"] = "segments"
  stride: int = 1
  box: Literal["person", "frame", "pose2d"] = "person"
  margin: float = 0.1
  square: bool = False
  crop: float = 0.875
  scale_jitter: float = 0.0
  intensity_jitter: float = 0.0
  channels: Literal[1, 3] = 3
  test_size: tuple[int, int] | None = None

  arrays: ClassVar = ("video",)
  reads: ClassVar = ("frames",)

  def __post_init__(self):
    super().__post_init__()
    if self.box == "pose2d":
      fields = {field.name: field.default for field in dataclasses.fields(self)}
      for name in ("margin", "square", "crop", "scale_jitter"):
        if getattr(self, name) != fields[name]:
          raise ValueError(f"{name} says nothing beside box=pose2d: the window is that of "
                           "data.pose2d; leave it out")
    if not 0 < self.crop <= 1:
      raise ValueError(f"crop must lie in (0, 1], got {self.crop}")
    for field in ("num_frames", "stride"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
    for field in ("size", "test_size"):
      if min(getattr(self, field) or (1,)) < 1:
        raise ValueError(f"{field} must be (height, width), got {getattr(self, field)}")

  @property
  def needs(self) -> tuple[str, ...]:
    """The skeletons whose window a video shows."""
    return ("pose2d",) if self.box == "pose2d" else ()

  def check_beside(self, others) -> None:
    """Raises UserError where skeletons are drawn of another part of the image than is shown."""
    if (self.box == "pose2d") != ("pose2d" in others):
      raise UserError("video.box must be pose2d where there is a section pose2d, and only there: "
                      "video and skeletons have to show the same part of the image")

  def check_reach(self, reach, others) -> None:
    """See `inputs.Input`. What lies beyond the frames would be black, although a camera saw it."""
    if reach is None or self.box == "frame":
      return
    mend = ("prepare it with --variant=square and give data.variant=square (a folder of your own: "
            "prepare it with --crop=square)")
    if self.box == "pose2d":
      shown = others["pose2d"]
      if reach == "square" and shown.hw_ratio == 1 and shown.padding <= boxes.SQUARE:
        return
      if reach == "square":
        raise UserError(
            f"data.pose2d.hw_ratio={shown.hw_ratio:g} and padding={shown.padding:g} look beyond "
            f"the stored squares, which hold hw_ratio=1 and padding up to {boxes.SQUARE}; take "
            "whole frames (variant uncropped, or --crop=none)")
      raise UserError("data.video.box=pose2d shows the square around the skeletons, but the stored "
                      f"frames are cut to the persons' box; {mend}")
    grown = (1 + 2 * self.margin) * (1 + self.scale_jitter)
    if self.square:
      if reach == "square" and grown <= 1 + boxes.SQUARE:
        return
      most = f"squares grown to {1 + boxes.SQUARE} times the box" if reach == "square" else (
          "the persons' box")
      raise UserError(f"data.video.square, grown by margin and scale_jitter to {grown:.3g} times "
                      f"the box, looks beyond the stored frames, which are cut to {most}; "
                      + ("make them smaller" if reach == "square" else mend))
    reach = boxes.GROW if reach == "square" else reach
    if (grown - 1) / 2 > reach + _PIXEL:
      raise UserError(
          f"data.video.margin={self.margin:g} and scale_jitter={self.scale_jitter:g} look "
          f"{(grown - 1) / 2:.3g} of the persons' box beyond each of its sides, but the stored "
          f"frames end after {reach:g}; make them smaller, or take whole frames "
          "(variant uncropped, or --crop=none)")

  @property
  def stacks(self) -> bool:
    """Whether frames lie a fixed stride apart, so that stacks of them can show all of a clip."""
    return self.sampling in ("strided", "first_half")

  @property
  def room(self) -> bool:
    """Whether the window is smaller than what it is taken from."""
    return self.box != "pose2d" and self.crop < 1


class Choice(NamedTuple):
  """Frames int[T] of a clip, and the (h, w) that they become."""
  picks: np.ndarray
  size: tuple[int, int]


def spec(config: Config, layout: Layout | None, test: bool) -> dict:
  """See `inputs`."""
  size = test and config.test_size or config.size
  return {"video": ((config.num_frames, *size, config.channels), np.uint8)}


def draw(config: Config, record: dict, shared: inputs.Shared, rng: np.random.Generator) -> Choice:
  """The frames of a training clip."""
  first, length = sampling.cut(_num_frames(record), shortest=shared.shortest,
                               draws=shared.interval)
  picks = (pose_sampling.uniform_frames(length, config.num_frames, rng)
           if config.sampling == "uniform" else _picks(config, length, shared.position))
  return Choice(first + picks, config.size)


def views(config: Config, record: dict, shared: Sequence[inputs.Shared]) -> list[Choice]:
  """The frames of every view of a test clip."""
  count, size = _num_frames(record), config.test_size or config.size
  if config.sampling == "uniform":
    framing = shared[0].framing
    picks = pose_sampling.test_frames(count, config.num_frames, len(shared),
                                      framing.released if framing else "pyskl")
  else:
    picks = [_picks(config, count, view.position) if view.stack is None else
             sampling.stack(count, config.num_frames, config.stride, view.stack)
             for view in shared]
  return [Choice(frames, size) for frames in picks]


def num_stacks(config: Config, num_frames: int) -> int:
  """How many stacks show every frame of a clip."""
  return sampling.num_stacks(num_frames, config.num_frames, config.stride)


def apply(config: Config, record: dict, shared: inputs.Shared, choice: Choice) -> dict:
  """`video` uint8[T,h,w,C]. Raises UnreadableClipError where a frame cannot be decoded."""
  frames = transforms.decode_frames(record, choice.picks)
  if config.box == "pose2d":
    window = shared.framing.window(choice.size)
  else:
    size = frames[int(choice.picks[0])].shape[:2]
    around = record["boxes"] if config.box == "person" else np.zeros((0, 4), np.float32)
    box = transforms.clip_box(around, size, margin=config.margin, square=config.square)
    window = transforms.place_window(box, choice.size, crop=config.crop, at=shared.at,
                                     scale=1 + config.scale_jitter * shared.zoom,
                                     mirror=shared.mirror)
  pixels = transforms.window_video(frames, choice.picks, window, config.channels)
  if config.intensity_jitter and shared.intensity != (0.0, 0.0):
    gain, offset = shared.intensity
    pixels = transforms.change_intensity(
        pixels, 1 + config.intensity_jitter * gain, 128 * config.intensity_jitter * offset,
        keep_zero=shared.modality == "depth")
  return {"video": pixels}


def _num_frames(record) -> int:
  if not len(record["frames"]):
    raise UnreadableClipError(f"clip {record['clip_id']} has no frames")
  return len(record["frames"])


def _picks(config, num_frames, position):
  return sampling.pick_video(num_frames, config.num_frames, config.sampling, config.stride,
                             position)
