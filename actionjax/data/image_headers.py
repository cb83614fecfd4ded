"""What JPEG and PNG files say of their size, read before any memory is set aside for it."""

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
