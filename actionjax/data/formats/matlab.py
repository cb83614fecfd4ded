"""Arrays of numbers in MATLAB's `.mat` files (version 5), read within bounds of memory.

SciPy reads more of the format, but its parser trusts what a file says of itself: damaged files
crash the process, and a few bytes make it ask for gigabytes. Here every size is compared with the
bytes that are there, and compressed data may not unpack further than an archive's (`zip_members`).
"""
import math
import struct
import zlib

import numpy as np

from actionjax.data.formats import zip_members
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

_HEADER = 128  # bytes: a text, the version and "MI" or, with the bytes swapped, "IM"
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8",
          13: "u8"}  # of elements
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8",
            15: "u8"}  # of arrays, whose numbers may lie in elements of a smaller type
_OTHERS = {1: "cell array", 2: "struct", 3: "object", 4: "text", 5: "sparse array",
           16: "function", 17: "opaque object"}
_MATRIX, _COMPRESSED, _COMPLEX = 14, 15, 0x08


def variable(source: Source, name: str) -> np.ndarray:
  """One array of real numbers of a .mat file, in native byte order.

  Raises:
    RawDataError: damaged, of another version, or without an array of that name; names the file
      and what it holds instead.
  """
  data = source.read()
  try:
    content = read(data, name)
  except (ValueError, struct.error, zlib.error) as error:
    raise RawDataError(f"{source} is not a readable MATLAB file ({shown(error)}); "
                       "fetch it again") from None
  value = content.get(name)
  if isinstance(value, np.ndarray):
    return value
  if value is not None:
    raise RawDataError(f"{source}: {name} is a {value}, not an array of real numbers")
  raise RawDataError(f"{source} has no variable {name}; it holds: "
                     f"{shown(', '.join(content)) or 'nothing'}")


def read(data: bytes, wanted: str) -> dict[str, np.ndarray | str]:
  """The variables of a file's bytes.

  Args:
    data: of the file.
    wanted: the name of the one to read.

  Returns:
    {name: what kind of value it is}, the wanted one's the array itself if it is of real numbers.

  Raises:
    ValueError, struct.error, zlib.error: the bytes are no such file.
  """
  if data[:8] == b"\x89HDF\r\n\x1a\n" or data[:19] == b"MATLAB 7.3 MAT-file":
    raise ValueError("version 7.3; save it as version 7 (save -v7)")
  order = {b"IM": "<", b"MI": ">"}.get(data[126:128])
  if order is None:
    raise ValueError("it does not begin as version 5 does")
  found, at = {}, _HEADER
  most = zip_members.most_unpacked(len(data))
  while at < len(data):
    kind, content, at = _element(data, at, order)
    if kind == _COMPRESSED:
      kind, content, _ = _element(_unpacked(content, most), 0, order)
    if kind != _MATRIX:
      raise ValueError(f"an element of type {kind} where a variable should be")
    name, value = _matrix(content, order, wanted)
    found[name] = value
  return found


def _unpacked(data: memoryview, most: int) -> bytes:
  unpacker = zlib.decompressobj()
  content = unpacker.decompress(data, most)
  if unpacker.unconsumed_tail:
    raise ValueError(f"it unpacks to more than {most} bytes")
  if not unpacker.eof:
    raise ValueError("a compressed variable is cut off")
  return content


def _element(data, at: int, order: str) -> tuple[int, memoryview, int]:
  """The element at a place: its type, its content, and where the next begins."""
  data = memoryview(data)
  kind, = struct.unpack_from(f"{order}I", data, at)
  if kind >> 16:  # up to four bytes stand within the tag
    start, size, kind, end = at + 4, kind >> 16, kind & 0xFFFF, at + 8
    if size > 4:
      raise ValueError(f"{size} bytes in a tag")
  else:
    size, = struct.unpack_from(f"{order}I", data, at + 4)
    start = at + 8
    # Elements begin at multiples of eight bytes, but for what follows compressed ones.
    end = start + size + (0 if kind == _COMPRESSED else -size % 8)
  if start + size > len(data):
    raise ValueError(f"an element of {size} bytes where {len(data) - start} are left")
  return kind, data[start:start + size], end


def _matrix(data: memoryview, order: str, wanted: str) -> tuple[str, np.ndarray | str]:
  """A variable's name and its value, or what it is if it is not read."""
  _, flags, at = _element(data, 0, order)
  flags, = struct.unpack_from(f"{order}I", flags)
  code = flags & 0xFF
  if code == 17:  # has no shape; the name comes first
    return _name(_element(data, at, order)[1]), _OTHERS[code]
  _, shape, at = _element(data, at, order)
  _, name, at = _element(data, at, order)
  name = _name(name)
  if name != wanted or code not in _CLASSES:
    return name, "array of numbers" if code in _CLASSES else _OTHERS.get(code, f"class {code}")
  if (flags >> 8) & _COMPLEX:
    return name, "array of complex numbers"
  shape = np.frombuffer(shape, f"{order}i4").tolist()
  kind, content, _ = _element(data, at, order)
  if kind not in _TYPES:
    raise ValueError(f"{name} has an element of type {kind} for its numbers")
  stored = np.dtype(_TYPES[kind]).newbyteorder(order)
  if min(shape, default=-1) < 0 or math.prod(shape) * stored.itemsize != len(content):
    raise ValueError(f"{name} is {shape[:8]} of {stored}, but has {len(content)} bytes")
  with np.errstate(invalid="ignore"):  # numbers that the class does not have: damage, not ours
    return name, np.frombuffer(content, stored).astype(_CLASSES[code]).reshape(shape, order="F")


def _name(data: memoryview) -> str:
  return bytes(data).decode("latin-1")
