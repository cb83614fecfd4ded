"""Sizes that images declare, against OpenCV; and images of kinds or sizes that are not read."""
import struct
import zlib

import cv2
import numpy as np
import pytest

from actionjax.data.formats import images
from actionjax.errors import UnreadableClipError

IMAGE = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)


def encoded(kind: str, image=IMAGE, *options) -> bytes:
  return cv2.imencode(f".{kind}", image, options)[1].tobytes()


@pytest.mark.parametrize("data", [
    encoded("jpg"), encoded("jpg", IMAGE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    encoded("jpg", IMAGE, cv2.IMWRITE_JPEG_RST_INTERVAL, 1), encoded("jpg", IMAGE[..., 0]),
    encoded("png"), encoded("png", IMAGE[..., 0].astype(np.uint16))])
def test_sizes(data):
  assert images.size(data) == (53, 37)
  assert images.decode_frame(data).shape[:2] == (37, 53)


def test_segments_before_the_size_are_passed_over():
  data = encoded("jpg")
  # A comment that holds what looks like a start of frame, and filling before the next marker.
  comment = b"\xff\xfe\x00\x0f" + b"\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x00\x00\x00" + b"\xff"
  longer = data[:2] + comment + data[2:]
  assert images.size(longer) == (53, 37)
  np.testing.assert_array_equal(images.decode_frame(longer), images.decode_frame(data))


@pytest.mark.parametrize("data", [
    b"", b"\xff", b"\xff\xd8", b"\xff\xd8\xff", b"\xff\xd8\xff\xd9", encoded("png")[:20],
    b"\xff\xd8" + b"\xff" * 100, encoded("bmp"), encoded("tiff"), encoded("webp")])
def test_what_is_no_jpeg_or_png(data):
  assert images.size(data) is None
  with pytest.raises(UnreadableClipError, match="frame 1 is not a readable image"):
    images.decode_frame(data, "frame 1")


def test_declared_sizes_are_compared_with_a_bound():
  head = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
  png = (b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + head
         + struct.pack(">I", zlib.crc32(b"IHDR" + head)) + encoded("png")[33:])
  jpeg = bytearray(encoded("jpg"))
  at = jpeg.index(b"\xff\xc0")
  jpeg[at + 5:at + 9] = b"\xff" * 4
  for data, size in ((png, 60000), (bytes(jpeg), 65535)):
    with pytest.raises(UnreadableClipError, match=f"frame 1 declares {size}x{size} pixels"):
      images.decode_frame(data, "frame 1")
