"""Boxes around persons, and the part of a video that records store.

Boxes are x0, y0, x1, y1 in pixels; coordinates as in `data/clips/record.py` (the centre of
the first pixel is (0, 0)).
"""
import dataclasses

import numpy as np

# What is stored of frames that are cut to the persons: their box over the whole clip, grown on each
# of the four sides by this share of its width and height.
GROW = 0.3
# What networks see of it has a smaller margin, again as a share of the sides.
MARGIN = 0.1
# A square around some frames' joints, whose sides are longer than those of the joints' box by this
# share at most, lies in what is stored as square, whichever frames they are: it reaches beyond the
# box of all frames by half its own side, where those joints lie in one line at the edge.
SQUARE = 0.35
# Joints beyond the image's edges have pixels too, but not this far away.
FARTHEST_PIXEL = 1e5


def pose_boxes(points: np.ndarray, score: np.ndarray) -> np.ndarray:
  """The box around all persons' joints in each frame.

  Args:
    points: float[M,T,J,2]. score: float[M,T,J]. Joints of score 0 are ignored, and so are
      those at NaN or exactly (0, 0), as which raw files give lost ones.

  Returns:
    float32[T,4]; NaN in frames without a joint.
  """
  found = np.isfinite(points).all(-1) & (points != 0).any(-1)
  present = ((score > 0) & found)[..., None]
  # `initial`: a clip may be without persons.
  low = np.where(present, points, np.inf).min((0, 2), initial=np.inf)
  high = np.where(present, points, -np.inf).max((0, 2), initial=-np.inf)
  boxes = np.concatenate([low, high], -1).astype(np.float32)
  boxes[~present.any((0, 2, 3))] = np.nan
  return boxes


def foreground_boxes(foreground: np.ndarray) -> np.ndarray:
  """The box around the foreground of each frame, float32[T,4]; NaN where there is none.

  Args:
    foreground: bool[T,H,W].
  """
  boxes = np.full((len(foreground), 4), np.nan, np.float32)
  for box, columns, rows in zip(boxes, foreground.any(1), foreground.any(2)):
    if columns.any():
      xs, ys = np.flatnonzero(columns), np.flatnonzero(rows)
      box[:] = xs[0], ys[0], xs[-1], ys[-1]
  return boxes


@dataclasses.dataclass(frozen=True)
class StoredWindow:
  """The rectangle of the original frames that a record stores, and at which size.

  Attributes:
    x0, y0, x1, y1: pixels of the original, the ends exclusive.
    width, height: of the stored frame.
  """
  x0: int
  y0: int
  x1: int
  y1: int
  width: int
  height: int

  @property
  def size(self) -> tuple[int, int]:
    """(height, width) of the stored frame."""
    return self.height, self.width

  @property
  def to_original(self) -> np.ndarray:
    """Affine map float32[2,3] of stored pixel coordinates to original ones."""
    sx, sy = (self.x1 - self.x0) / self.width, (self.y1 - self.y0) / self.height
    return np.array([[sx, 0, self.x0 + (sx - 1) / 2], [0, sy, self.y0 + (sy - 1) / 2]],
                    np.float32)

  def to_stored(self, points: np.ndarray) -> np.ndarray:
    """Original pixel coordinates float[...,2] in the stored frame, float32[...,2]."""
    affine = self.to_original.astype(np.float64)
    return ((points - affine[:, 2]) / np.diag(affine)).astype(np.float32)

  def cut(self, frame: np.ndarray) -> np.ndarray:
    """The stored part of an original frame [H,W,...]: depth keeps its values unmixed."""
    part = frame[self.y0:self.y1, self.x0:self.x1]
    if part.shape[:2] == (self.height, self.width):
      return np.ascontiguousarray(part)
    import cv2
    # Averaging depth over an outline would invent surfaces between person and background.
    if frame.dtype == np.uint16:
      return cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)
    # A mean of means is a mean, and OpenCV takes those of two by two pixels in a fraction of the
    # time that others need, which was more than half of preparing large videos.
    rows, columns = part.shape[:2]
    while _halves(rows, self.height) and _halves(columns, self.width):
      rows, columns = rows // 2, columns // 2
      part = cv2.resize(part, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_AREA)


def _halves(length: int, target: int) -> bool:
  """Whether a side can be halved on its way to another; blocks of an odd size must stay whole."""
  return length >= 2 * target and length % 2 == 0 and (length % target or length // target % 2 == 0)


def clip_window(boxes: np.ndarray | None, width: int, height: int, shortest: int = 256, *,
                square: bool = False) -> StoredWindow:
  """One window for a whole clip: the union of its boxes, grown, within the image.

  Its frames are reduced as far as no network notices: of the box with a margin of `MARGIN`, which
  networks see, the shorter side keeps `shortest` pixels, or all that it has. Of the persons'
  square, which is not stretched, it is the longer side.

  Args:
    boxes: float[T,4] in original pixels; None (or nothing but NaN) keeps the whole image as it is.
    width, height: of the original frames.
    shortest: in pixels; frames are never enlarged.
    square: store what the squares around parts of the box reach (see `SQUARE`), not only the box.
  """
  if boxes is not None:
    boxes = boxes[np.isfinite(boxes).all(-1)]
  if boxes is None or not len(boxes):
    return whole_window(width, height)
  low, high = boxes[:, :2].min(0).astype(np.float64), boxes[:, 2:].max(0).astype(np.float64)
  size, image = high - low, np.array([width, height])
  margin = np.maximum(GROW * size, (1 + SQUARE) / 2 * size[::-1]) if square else GROW * size
  # Kept non-empty even where every joint is projected outside the image.
  x0, y0 = np.clip(np.floor(low - margin), 0, image - 1).astype(int).tolist()
  x1, y1 = np.clip(np.ceil(high + margin) + 1, [x0 + 1, y0 + 1], image).astype(int).tolist()
  seen = np.clip(high + MARGIN * size, 0, image) - np.clip(low - MARGIN * size, 0, image)
  scale = min(1.0, shortest / max(1.0, seen.max() if square else seen.min()))
  return _reduced(x0, y0, x1, y1, scale)


def whole_window(width: int, height: int, shortest: int | None = None) -> StoredWindow:
  """Whole frames, their shorter side reduced to so many pixels; None leaves them as they are."""
  scale = 1.0 if shortest is None else min(1.0, shortest / min(width, height))
  return _reduced(0, 0, width, height, scale)


def _reduced(x0, y0, x1, y1, scale) -> StoredWindow:
  return StoredWindow(x0, y0, x1, y1, max(1, round((x1 - x0) * scale)),
                      max(1, round((y1 - y0) * scale)))
