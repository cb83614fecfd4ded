"""PoseC3D's way from a stored skeleton sequence to a network's input (Duan et al., 2022,
section 3.2): which frames, which part of the image, which crop, which side.

Frames are drawn uniformly over the clip; skeletons are cut to the box of all their joints,
cropped at random, and mirrored. Pure functions of their arguments: what is random comes from a
generator of the caller's. Numbers agree with those of the released code, its test clips frame
by frame.

Points are float[M,T,V,2] in pixels, and a joint at 0 is a missing one: it stays there.
"""
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from actionjax.skeletons import Layout

TEST_SEED = 255
# Whose test clips there are; see `test_frames`.
Released = Literal["pyskl", "mmaction2"]
RELEASED = get_args(Released)


def uniform_frames(num_frames: int, length: int, rng: np.random.Generator) -> np.ndarray:
  """One clip of training frames, int[length] in [0, n), ascending unless the clip is looped.

  A clip is cut into `length` equal parts and one frame drawn from each. One shorter than twice
  the length has parts of one or two frames: of the length + 1 places before, between and after
  the drawn frames, as many skip a frame as there are too many. One shorter than the length is
  played from a random frame on, over and over.

  Args:
    num_frames: n, at least 1.
  """
  def choose(places, count):
    return rng.choice(places, count, replace=False)

  def below(limits):
    return rng.integers(limits)

  start = int(rng.integers(num_frames)) if num_frames < length else 0
  return _uniform(num_frames, length, start, choose, below)


def evaluation_frames(num_frames: int, length: int, num_clips: int = 1, *,
                      seed: int = TEST_SEED, extra_draw: bool = False) -> np.ndarray:
  """The frames of the released code's test clips, int[num_clips,length] in [0, n).

  Every video starts the same random sequence, NumPy's legacy one, so that equally long videos
  give the same frames.

  Args:
    num_frames: n, at least 1.
    seed: of each video.
    extra_draw: PYSKL draws one number before each clip, which it uses for nothing here;
      MMAction2 does not, and so takes other frames of videos that are not shorter than the clip.
  """
  rng = np.random.RandomState(seed)  # noqa: NPY002 - the sequence that results are tied to

  def choose(places, count):
    return rng.choice(places, count, replace=False)

  clips = []
  for clip in range(num_clips):
    if extra_draw:
      rng.rand()
    start = clip if num_frames < num_clips else clip * num_frames // num_clips
    clips.append(_uniform(num_frames, length, start, choose, rng.randint))
  return np.stack(clips)


def test_frames(num_frames: int, length: int, num_clips: int, released: str) -> np.ndarray:
  """The frames of test clips, int[num_clips,length], as the code of `released` chooses them."""
  return evaluation_frames(num_frames, length, num_clips, extra_draw=released == "pyskl")


def _uniform(num_frames, length, start, choose, below):
  """Frames of one clip.

  Args:
    start: first frame of a clip that is shorter than that; others do not use it.
    choose: (places, count) -> that many different numbers below `places`.
    below: array of limits -> a number below each.
  """
  if num_frames < length:
    return (start + np.arange(length)) % num_frames
  if num_frames < 2 * length:
    skips = np.zeros(length + 1, int)
    skips[choose(length + 1, num_frames - length)] = 1
    return np.arange(length) + np.cumsum(skips)[:-1]
  edges = np.arange(length + 1) * num_frames // length
  return edges[:-1] + below(np.diff(edges))


def compact(points: np.ndarray, image_size: tuple[int, int], *, padding: float = 0.25,
            threshold: float = 10, hw_ratio: float | tuple[float, float] | None = 1,
            allow_padding: bool = True) -> tuple[np.ndarray, tuple[int, int], np.ndarray]:
  """Cuts skeletons to the box of all their joints, in all frames and of all persons.

  Args:
    points: float[...,2]; NaN counts as missing.
    image_size: (height, width) in pixels.
    padding: share by which the box grows.
    threshold: boxes narrower or lower than this many pixels leave everything as it is.
    hw_ratio: height over width of the box, or its bounds (low, high), to which the shorter side
      is extended; None keeps the box.
    allow_padding: the box may leave the image, which is then filled up; otherwise it is cut.

  Returns:
    points in the box, its (height, width), and the box int[4] (x0, y0, x1, y1).
  """
  height, width = image_size
  points = np.nan_to_num(points)
  whole = np.array([0, 0, width, height])
  sides = []
  for axis in (0, 1):
    values = points[..., axis]
    values = values[values != 0]
    sides.append((values.min(initial=np.inf), values.max(initial=-np.inf)))
  (x0, x1), (y0, y1) = sides
  # Also where there is not one joint: the sides are minus infinity.
  if x1 - x0 < threshold or y1 - y0 < threshold:
    return points, (height, width), whole
  centre_x, centre_y = (x0 + x1) / 2, (y0 + y1) / 2
  half_w, half_h = (x1 - x0) / 2 * (1 + padding), (y1 - y0) / 2 * (1 + padding)
  if hw_ratio is not None:
    low, high = hw_ratio if isinstance(hw_ratio, Sequence) else (hw_ratio, hw_ratio)
    half_h = max(low * half_w, half_h)
    half_w = max(half_h / high, half_w)
  corners = [centre_x - half_w, centre_y - half_h, centre_x + half_w, centre_y + half_h]
  if not allow_padding:
    corners = [max(0, corners[0]), max(0, corners[1]), min(width, corners[2]),
               min(height, corners[3])]
  box = np.array([int(corner) for corner in corners])
  return _shift(points, box), (int(box[3] - box[1]), int(box[2] - box[0])), box


def random_resized_box(image_size: tuple[int, int], rng: np.random.Generator, *,
                       area: tuple[float, float] = (0.56, 1.0),
                       aspect: tuple[float, float] = (3 / 4, 4 / 3),
                       attempts: int = 10) -> np.ndarray:
  """A random box of an image, int[4] (x0, y0, x1, y1).

  Args:
    image_size: (height, width).
    area: bounds of its share of the image's area, drawn evenly.
    aspect: bounds of width over height, drawn evenly in the logarithm.
    attempts: boxes to draw until one fits; if none does, the largest square in the middle.
  """
  height, width = image_size
  ratios = np.exp(rng.uniform(*np.log(aspect), attempts))
  areas = rng.uniform(*area, attempts) * height * width
  widths = np.round(np.sqrt(areas * ratios)).astype(int)
  heights = np.round(np.sqrt(areas / ratios)).astype(int)
  for w, h in zip(widths, heights):
    if w <= width and h <= height:
      x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
      return np.array([x, y, x + w, y + h])
  side = min(height, width)
  x, y = (width - side) // 2, (height - side) // 2
  return np.array([x, y, x + side, y + side])


def crop(points: np.ndarray, box: np.ndarray) -> np.ndarray:
  """float[...,2] within a box (x0, y0, x1, y1); missing joints stay at 0."""
  return _shift(points, box)


def resize(points: np.ndarray, image_size: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
  """Scales float[...,2] from an image of (height, width) to another; the aspect may change.

  Plain multiplication, as in the released code: pixels count from their upper left corners.
  """
  return points * np.array([size[1] / image_size[1], size[0] / image_size[0]], points.dtype)


def short_side(image_size: tuple[int, int], length: int) -> tuple[int, int]:
  """(height, width) of an image whose shorter side is resized to `length`."""
  height, width = image_size
  factor = length / min(height, width)
  return int(height * factor + 0.5), int(width * factor + 0.5)


def flip(points: np.ndarray, score: np.ndarray, width: int,
         layout: Layout) -> tuple[np.ndarray, np.ndarray]:
  """Skeletons in a mirror: x becomes width - x, left and right joints change places.

  Limbs are drawn of joints, so their maps come out mirrored too.

  Args:
    points: float[...,V,2]. score: float[...,V].
  """
  x = points[..., 0]
  mirrored = np.stack([np.where(x != 0, width - x, x), points[..., 1]], -1)
  return mirrored[..., layout.mirror, :].astype(points.dtype), score[..., layout.mirror]


def _shift(points, box):
  """Moves joints by a box's corner; each coordinate that is 0 stays, as in the released code."""
  return np.where(points != 0, points - np.asarray(box[:2], points.dtype), points)
