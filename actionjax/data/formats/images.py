"""JPEG and PNG images: encoding, decoding, and what a file says of its size, read before any memory
is set aside for it."""
import numpy as np

from actionjax.errors import UnreadableClipError

# A frame above this is a damaged header rather than an image, and would fill the memory alone.
MOST_PIXELS = 2**26

_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
# Start of frame: how the image is coded, and its size. C4, C8 and CC mean something else.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_ALONE = frozenset((0x01, *range(0xD0, 0xD9)))  # markers without a length


def size(data: bytes) -> tuple[int, int] | None:
  """(width, height) of a JPEG or PNG file's bytes, None if they are neither."""
  if data.startswith(_PNG) and len(data) >= 24:
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
  if not data.startswith(b"\xff\xd8"):
    return None
  at = data.find(b"\xff", 2)
  while 0 <= at < len(data) - 9:
    marker = data[at + 1]
    if marker in _FRAMES:
      return (int.from_bytes(data[at + 7:at + 9], "big"),
              int.from_bytes(data[at + 5:at + 7], "big"))
    if marker in (0x00, 0xFF):  # filling
      at += 1
    elif marker in _ALONE:
      at += 2
    else:
      at += 2 + int.from_bytes(data[at + 2:at + 4], "big")
    at = data.find(b"\xff", at)
  return None


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
  """JPEG of a colour image uint8[H,W,3] in RGB order."""
  import cv2
  done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR),
                            [cv2.IMWRITE_JPEG_QUALITY, quality])
  if not done:
    raise ValueError(f"cannot encode an image of {rgb.shape}, {rgb.dtype} as JPEG")
  return data.tobytes()


def encode_depth_png(depth: np.ndarray) -> bytes:
  """16-bit PNG of a depth image uint16[H,W] in millimetres, lossless."""
  import cv2
  if depth.dtype != np.uint16 or depth.ndim != 2:
    raise ValueError(f"depth must be uint16[H,W], got {depth.dtype}{list(depth.shape)}")
  # A person on a background of zeros: without row filters the images are a quarter smaller,
  # and as fast to write and read. OpenCV 4.10 has no such parameter and keeps its default.
  unfiltered = [] if not hasattr(cv2, "IMWRITE_PNG_FILTER") else [
      cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
  done, data = cv2.imencode(".png", depth, unfiltered)
  if not done:
    raise ValueError(f"cannot encode an image of {depth.shape} as PNG")
  return data.tobytes()


def decode_frame(data: bytes, name: str = "a frame") -> np.ndarray:
  """One stored frame.

  Args:
    data: a JPEG or PNG file's bytes.
    name: what to call it in an error, such as the clip and the frame's number.

  Returns:
    uint8[H,W,3] in RGB order, or uint16[H,W] for 16-bit depth.

  Raises:
    UnreadableClipError: truncated, corrupt, too large, or another kind of image.
  """
  import cv2
  declared = size(data)
  if declared is None:
    raise UnreadableClipError(f"{name} is not a readable image ({len(data)} bytes)")
  if declared[0] * declared[1] > MOST_PIXELS:
    raise UnreadableClipError(f"{name} declares {declared[0]}x{declared[1]} pixels; more than "
                              f"{MOST_PIXELS} are not read")
  # libjpeg fills a truncated image with grey and only prints a warning: look at the end.
  if data[:2] == b"\xff\xd8" and not data.endswith(b"\xff\xd9"):
    raise UnreadableClipError(f"{name} is a truncated JPEG image")
  try:
    image = cv2.imdecode(np.frombuffer(data, np.uint8),
                         cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
  except cv2.error:
    image = None
  if image is None:
    raise UnreadableClipError(f"{name} is not a readable image ({len(data)} bytes)")
  if image.dtype == np.uint16 and image.ndim == 2:
    return image
  if image.dtype != np.uint8:
    raise UnreadableClipError(f"{name} is an image of {image.dtype}{list(image.shape)}; "
                              "expected 8-bit colour or 16-bit depth")
  return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def depth_to_grey(depth: np.ndarray, depth_range: np.ndarray) -> np.ndarray:
  """Millimetres uint16[H,W] as uint8[H,W]: 255 is near, 1 far, 0 nothing or behind.

  Args:
    depth_range: (near, far) of the person over the clip, in millimetres.
  """
  near, far = float(depth_range[0]), float(depth_range[1])
  value = np.clip(1 + 254 * (far - depth.astype(np.float32)) / max(far - near, 1.0), 1, 255)
  return np.where((depth == 0) | (depth > far), 0, value).astype(np.uint8)
