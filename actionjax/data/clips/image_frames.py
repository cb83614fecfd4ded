"""Videos that come as one image file a frame."""
from collections.abc import Callable, Sequence

import numpy as np

from actionjax.data.clips import boxes, videos
from actionjax.data.formats import images
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError, UnreadableClipError


def decode(source: Source, expected: tuple[int, ...] | None = None) -> tuple[bytes, np.ndarray]:
  """A colour image's file and pixels uint8[H,W,3].

  Raises:
    RawDataError: unreadable, of another kind, or of another shape than expected.
  """
  data = source.read()
  try:
    image = images.decode_frame(data, str(source))
  except UnreadableClipError as error:
    raise RawDataError(f"{error}; fetch it again") from None
  if image.ndim != 3 or image.shape != (expected or image.shape):
    raise RawDataError(f"{source} is an image of {list(image.shape)}, the clip's first of "
                       f"{list(expected or ())}; fetch it again")
  return data, image


def read(sources: Sequence[Source], place: Callable[[int, int], boxes.StoredWindow],
         fps: float) -> videos.Stored:
  """All images of a clip, cut and encoded one by one; as `videos.read` does of one file.

  Args:
    sources: in order of time. place: (width, height) -> the window to store. fps: of the clip.

  Raises:
    RawDataError: an image that is unreadable, or of another size than the first; names it.
  """
  frames, shape, window = [], None, None
  for source in sources:
    _, image = decode(source, shape)
    if window is None:
      shape = image.shape
      window = place(shape[1], shape[0])
    frames.append(images.encode_jpeg(window.cut(image)))
  facts = videos.Facts(len(frames), len(frames), fps=fps, width=shape[1], height=shape[0],
                       sizes={shape[1::-1]})
  return videos.Stored(frames, np.arange(len(frames)), window, fps, facts)

