"""Members of zip archives: how large they may become, and where they lie."""
from actionjax.errors import RawDataError

# An archive may unpack to this many times its size, or to this many bytes, whichever is more.
# Skeletons shrink to a third; arrays of zeros alone reach a thousand.
MOST_TIMES = 100
MOST_BYTES = 64 * 2**20
_LOCAL_HEADER = 30  # bytes before a member's name


def most_unpacked(size: int) -> int:
  """How many bytes a file of so many may unpack to."""
  return max(MOST_BYTES, MOST_TIMES * size)


def content_offset(path, member) -> int:
  """Where an uncompressed member's bytes begin; its local header has lengths of its own."""
  with open(path, "rb") as file:
    file.seek(member.header_offset)
    local = file.read(_LOCAL_HEADER)
  if len(local) < _LOCAL_HEADER or local[:4] != b"PK\x03\x04":
    raise RawDataError(f"{path} is damaged")
  return (member.header_offset + _LOCAL_HEADER + int.from_bytes(local[26:28], "little")
          + int.from_bytes(local[28:30], "little"))
