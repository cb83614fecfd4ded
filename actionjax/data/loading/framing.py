"""The part of a clip, in time and in the image, that several inputs show alike."""
import dataclasses

import numpy as np

from actionjax.data.loading import transforms


@dataclasses.dataclass(frozen=True)
class Framing:
  """Which frames of a clip, and which part of the image.

  Attributes:
    frames: int[T].
    box: float[4] x0, y0, x1, y1 in pixels of the stored frame, counted from pixels' corners; may
      leave the image.
    size: (h, w) that the box is scaled to.
    mirror: None, or the sum of a joint's x and its mirror image's.
    released: whose code chooses the frames of test clips; see `pose_sampling.RELEASED`.
  """
  frames: np.ndarray
  box: np.ndarray
  size: tuple[int, int]
  mirror: int | None = None
  released: str = "pyskl"

  def window(self, size: tuple[int, int]) -> transforms.Window:
    """The box for a video, as whole pixels; see `snapped`."""
    x0, y0, x1, y1 = (int(corner) for corner in self.box)
    return transforms.Window(x0, y0, x1, y1, size, self.mirror is not None)

  def snapped(self) -> "Framing":
    """The same with a box of whole pixels, at least one: video and skeletons then agree."""
    low = np.round(self.box[:2])
    return dataclasses.replace(
        self, box=np.concatenate([low, np.maximum(np.round(self.box[2:]), low + 1)]))
