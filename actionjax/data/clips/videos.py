"""Any video file that PyAV reads, decoded as a stream: memory does not grow with its length."""
import contextlib
import dataclasses
import errno
import os
from collections.abc import Callable, Iterator

import numpy as np

from actionjax.data.clips import boxes
from actionjax.data.formats import images
from actionjax.data.formats.images import MOST_PIXELS
from actionjax.errors import RawDataError

# Headers are a frame or two wrong: a file is truncated if it ends before this share of its time.
_WHOLE = 0.9


@dataclasses.dataclass
class Facts:
  """What decoding a whole video told of it.

  Attributes:
    count: decoded frames. declared: as the header has it, 0 where it does not; an edit list, which
      trimming without encoding leaves behind, may have less of them shown.
    until: when the header has it end, in seconds, 0 where it does not say. end: when the last
      frame does.
    fps: average frame rate, 0 if unknown. width, height: as shown, after rotation.
    sizes: the different (width, height) of its frames.
  """
  count: int = 0
  declared: int = 0
  until: float = 0.0
  end: float = 0.0
  fps: float = 0.0
  width: int = 0
  height: int = 0
  sizes: set = dataclasses.field(default_factory=set)


@dataclasses.dataclass
class Stored:
  """A video as a record stores it.

  Attributes:
    frames: JPEG images. positions: int[n], each one's place among the decoded frames.
    window: the part of the original frames that they show.
    fps: of the stored frames. facts: of the whole video.
  """
  frames: list[bytes]
  positions: np.ndarray
  window: boxes.StoredWindow
  fps: float
  facts: Facts


def scan(path) -> Facts:
  """Decodes a whole video and keeps nothing of it.

  Raises:
    RawDataError: as `read`.
  """
  facts = Facts()
  for _ in _decode(path, facts):
    pass
  return facts


def read(path, place: Callable[[int, int], boxes.StoredWindow], max_frames: int,
         quality: int = 95) -> Stored:
  """A video's frames, cut and encoded one by one.

  A video of more than `max_frames` frames keeps every second, fourth, ... of them: so many that
  at least half of `max_frames` are left.

  Args:
    path: of the file.
    place: (width, height) -> the window to store.
    max_frames: at least 1; a clip is one record, which is read as a whole.
    quality: of the JPEG images.

  Raises:
    RawDataError: the file holds no video, no frame, frames that do not decode, or fewer than its
      header says.
  """
  from av.video.reformatter import VideoReformatter
  facts, frames, positions, stride, window = Facts(), [], [], 1, None
  reformatter = VideoReformatter()  # whose tables serve all frames
  for position, frame in enumerate(_decode(path, facts)):
    if position % stride:
      continue
    if len(frames) == max_frames:
      # Thinning while decoding needs no count, which many containers do not know.
      frames, positions, stride = frames[::2], positions[::2], 2 * stride
      if position % stride:
        continue
    if window is None:
      window = place(facts.width, facts.height)
    frames.append(images.encode_jpeg(_cut(frame, window, facts, reformatter), quality))
    positions.append(position)
  return Stored(frames, np.array(positions), window, facts.fps / stride, facts)


def _cut(frame, window: boxes.StoredWindow, facts: Facts, reformatter) -> np.ndarray:
  """The stored part uint8[H,W,3] of a frame.

  Of frames that are stored whole FFmpeg averages the pixels before they have colours, in less than
  half of the time of converting and then reducing them.
  """
  whole = (window.x0, window.y0, window.x1, window.y1) == (0, 0, facts.width, facts.height)
  if whole and (window.width, window.height) != (frame.width, frame.height) and not _turns(frame):
    return _rgb(frame, reformatter, width=window.width, height=window.height)
  return window.cut(_upright(frame, facts, reformatter))


def _rgb(frame, reformatter, **size: int) -> np.ndarray:
  """uint8[H,W,3] of a frame, reduced to a `width` and `height` where they are given.

  Exact rounding and a colour for every pixel are what FFmpeg leaves out unless asked: its quick way
  is a level darker, so that a frame's brightness would tell whether it was reduced. Planes of
  colour give the same numbers as packed pixels, in a fifth of the time.
  """
  from av.video.reformatter import Interpolation as Flag
  # One thread, as the decoder's.
  return reformatter.reformat(
      frame, format="gbrp", threads=1, **size,
      interpolation=Flag.AREA | Flag.ACCURATE_RND | Flag.FULL_CHR_H_INT).to_ndarray()


def _turns(frame) -> int:
  """Quarter turns, counter-clockwise, that a frame is short of."""
  return round(_rotation(frame) / 90) % 4


def _upright(frame, facts: Facts, reformatter) -> np.ndarray:
  """uint8[H,W,3] as shown: turned as the file says, and of the first frame's size."""
  image = _rgb(frame, reformatter)
  turns = _turns(frame)
  if turns:
    image = np.rot90(image, turns)
  if image.shape[:2] != (facts.height, facts.width):
    import cv2
    image = cv2.resize(image, (facts.width, facts.height), interpolation=cv2.INTER_AREA)
  return image


def _rotation(frame) -> int:
  """Degrees, counter-clockwise, by which a phone's video has to be turned to be upright."""
  return getattr(frame, "rotation", 0)


def _decode(path, facts: Facts) -> Iterator:
  """Yields PyAV's frames and fills in the facts. Raises RawDataError."""
  import av
  try:
    with contextlib.ExitStack() as stack:
      # A file object and no protocols: neither a name such as "http:..." nor a playlist inside
      # the file makes the library open anything else.
      file = stack.enter_context(open(path, "rb"))
      if not os.fstat(file.fileno()).st_size:
        raise RawDataError(f"{path} is empty; fetch it again")
      container = stack.enter_context(av.open(
          _Input(file), metadata_errors="replace", options={"protocol_whitelist": "none"}))
      # FFmpeg would draw a text file's letters as a video.
      if not container.streams.video or container.format.name == "tty":
        raise RawDataError(f"{path} holds no video")
      stream = container.streams.video[0]
      if stream.codec_context is None:
        raise RawDataError(f"{path} holds a video that no decoder here reads")
      stream.codec_context.thread_count = 1  # there is a process for every core
      facts.fps = float(stream.average_rate or 0)
      facts.declared, facts.until = stream.frames, _until(container, stream)
      _check_size(path, stream.codec_context.width or 0, stream.codec_context.height or 0)
      for frame in container.decode(stream):
        size = frame.width, frame.height
        _check_size(path, *size)
        if _turns(frame) % 2:
          size = size[::-1]
        if not facts.count:
          facts.width, facts.height = size
        facts.sizes.add(size)
        facts.count += 1
        facts.end = max(facts.end, _end(frame, facts))
        yield frame
  except (av.FFmpegError, OSError, ValueError, RuntimeError, MemoryError) as error:
    if isinstance(error, RawDataError):
      raise
    where = f" after {facts.count} frames" if facts.count else ""
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    raise RawDataError(f"{path} does not decode{where} ({reason}); fetch it again") from None
  if not facts.count:
    raise RawDataError(f"{path} has no frames")
  if facts.end < _WHOLE * facts.until:
    raise RawDataError(f"{path} is truncated: its {facts.count} frames end after {facts.end:.2f} "
                       f"of the {facts.until:.2f} seconds that it declares; fetch it again")


class _Input:
  """A file for PyAV, which writes a traceback to stderr where seeking raises.

  Damaged files send it to places before their beginning.
  """

  def __init__(self, file):
    self._file = file
    self.name, self.read, self.tell = file.name, file.read, file.tell

  def seek(self, offset: int, whence: int = 0) -> int:
    try:
      return self._file.seek(offset, whence)
    except (OSError, ValueError, OverflowError):
      return -errno.EINVAL  # as FFmpeg's own files answer


def _check_size(path, width: int, height: int) -> None:
  if width * height > MOST_PIXELS:
    raise RawDataError(f"{path} declares frames of {width}x{height}; more than {MOST_PIXELS} "
                       "pixels are not read")


def _until(container, stream) -> float:
  """When a header has a video end, in seconds of the container's clock; 0 if it does not say.

  Time, not frames: their rate may vary, and edit lists hide some.
  """
  if stream.duration:
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
  # Another stream, of sound, may be longer than the video.
  if container.duration is None or len(container.streams) > 1:
    return 0.0
  return container.duration / 1e6


def _end(frame, facts: Facts) -> float:
  """When a frame stops being shown, in seconds of the container's clock."""
  if frame.time is None:
    return facts.count / facts.fps if facts.fps else facts.until
  length = float((frame.duration or 0) * frame.time_base) or (1 / facts.fps if facts.fps else 0)
  return frame.time + length
