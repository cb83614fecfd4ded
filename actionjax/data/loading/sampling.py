"""Which frames of a clip a network sees. Pure functions to frame indices."""
import numpy as np

VIDEO_SAMPLINGS = ("segments", "strided", "first_half")


def segments(num_frames: int, length: int, position: float) -> np.ndarray:
  """Equally spaced frames, one a segment: floor(o + i * n / length), o = position * n / length.

  The clip is cut into `length` equal segments; the same offset inside each keeps the spacing
  even (hierarchical-classification paper, "Preprocessing", with `length` 8 and five test views).
  Clips shorter than `length` repeat frames, in order, each floor or ceil of length / n times.

  Args:
    num_frames: n, of the clip.
    length: frames to pick.
    position: offset inside the segment in [0, 1); random in training, (j + 0.5) / V for test
      view j of V.

  Returns:
    int[length], in [0, n).
  """
  # The offset apart: (i + position) rounds first, and may fall short of a whole frame.
  offset = position * num_frames / length
  picks = np.floor(offset + np.arange(length) * num_frames / length).astype(int)
  # The sum may round up to n where position is just below 1.
  return np.minimum(picks, num_frames - 1)


def strided(num_frames: int, length: int, stride: int, position: float) -> np.ndarray:
  """Frames a fixed stride apart; a clip too short for them is looped.

  Args:
    position: place of the window in [0, 1): 0 puts it at the start of the clip, just below 1
      at the last place where it still fits.

  Returns:
    int[length], in [0, n).
  """
  places = max(1, num_frames - (length - 1) * stride)
  return (int(position * places) + stride * np.arange(length)) % num_frames


def first_half(num_frames: int, length: int, stride: int, position: float) -> np.ndarray:
  """Frames a fixed stride apart from a start in the clip's first half, looped if short.

  Das' thesis, section 4.3 (implementation details): random start in the first half, stride 2.
  """
  start = int(position * max(1, num_frames // 2))
  return (start + stride * np.arange(length)) % num_frames


def num_stacks(num_frames: int, length: int, stride: int) -> int:
  """How many stacks of frames a fixed stride apart show every frame of a clip; see `stack`."""
  return sum(-(-len(range(phase, num_frames, stride)) // length)
             for phase in range(min(stride, num_frames)))


def stack(num_frames: int, length: int, stride: int, number: int) -> np.ndarray:
  """One of the stacks that together show every frame of a clip (Das' thesis: all 64-frame stacks).

  Frames a stride apart are cut into consecutive stacks, from each of the first `stride` frames on;
  the last of these ends with the clip. A clip with too few frames is looped.

  Args:
    number: in [0, `num_stacks`).

  Returns:
    int[length], in [0, n).
  """
  for phase in range(min(stride, num_frames)):
    frames = np.arange(phase, num_frames, stride)
    stacks = -(-len(frames) // length)
    if number < stacks:
      first = max(0, min(number * length, len(frames) - length))
      return frames[(first + np.arange(length)) % len(frames)]
    number -= stacks
  raise ValueError(f"a clip of {num_frames} frames has fewer stacks")


def chunks(num_frames: int, length: int, positions: np.ndarray) -> np.ndarray:
  """One frame out of each of `length` equal chunks (Das' pose sampling).

  Args:
    positions: float[length] in [0, 1), the place inside each chunk.

  Returns:
    int[length], in [0, n), ascending.
  """
  edges = np.floor(np.arange(length + 1) * num_frames / length).astype(int)
  width = np.maximum(1, edges[1:] - edges[:-1])
  picks = edges[:-1] + (positions * width).astype(int)
  return np.minimum(picks, num_frames - 1)


def drawn(num_frames: int, places: np.ndarray) -> np.ndarray:
  """Frames at some places of a clip, in order; one may come twice.

  Args:
    places: float[t] in [0, 1).

  Returns:
    int[t], in [0, n), ascending.
  """
  return np.sort(np.minimum((places * num_frames).astype(int), num_frames - 1))


def pick_video(num_frames: int, length: int, sampling: str, stride: int,
               position: float) -> np.ndarray:
  """Frame indices int[length] by the sampling of that name (see `VIDEO_SAMPLINGS`)."""
  if sampling == "segments":
    return segments(num_frames, length, position)
  if sampling == "strided":
    return strided(num_frames, length, stride, position)
  if sampling == "first_half":
    return first_half(num_frames, length, stride, position)
  raise ValueError(f"unknown sampling {sampling!r}; known: {', '.join(VIDEO_SAMPLINGS)}")


def cut(num_frames: int, *, shortest: float, draws: tuple[float, float]) -> tuple[int, int]:
  """An interval of a clip: (first frame, length).

  Args:
    shortest: least share of the clip to keep; 1 keeps it whole.
    draws: two numbers in [0, 1): how much of what may go is cut, and where the rest lies.
  """
  length = max(1, round(num_frames * (1 - draws[0] * (1 - shortest))))
  return int(draws[1] * (num_frames - length + 1)), length
