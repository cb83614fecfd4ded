"""Reads and writes `.npz` archives of plain arrays, within bounds of memory.

`np.load` trusts what an archive says of itself: a few kilobytes may unpack to gigabytes, and a
header may announce an array that is not there. Here every size is compared with the file's
before memory is set aside; uncompressed arrays are mapped rather than read.
"""
import io
import math
import os
import pathlib
import shutil
import zipfile

import numpy as np

from actionjax.data.formats import raw_files, zip_members
from actionjax.errors import RawDataError

_HEADER_BYTES = 10_000  # of a .npy header, at most


def read(path, known=None) -> dict[str, np.ndarray]:
  """The arrays of an archive.

  Args:
    path: of the archive.
    known: names that it may hold, or a function that tells whether it may; None for any.

  Returns:
    {name: array}; uncompressed ones are read-only maps of the file.

  Raises:
    RawDataError: not an archive of arrays, damaged, a name that is not known, objects instead of
      numbers, or more unpacked bytes than the file's size allows; names file and array.
  """
  if known is not None and not callable(known):
    names = frozenset(known)
    known = names.__contains__
  try:
    with open(path, "rb") as file:
      return _read(pathlib.Path(path), file, known)
  except RawDataError:
    raise
  except OSError as error:
    raise RawDataError(f"{path} cannot be read ({error.strerror or error})") from None
  # Damage shows as whatever the archive's or the header's parser trips over.
  except Exception as error:
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    raise RawDataError(f"{path} is not a readable .npz archive ({reason})") from None


def _read(path, file, known) -> dict[str, np.ndarray]:
  size = os.fstat(file.fileno()).st_size
  arrays, unpacked = {}, 0
  with zipfile.ZipFile(file) as archive:
    for member in archive.infolist():
      name, extension = os.path.splitext(member.filename)
      if extension != ".npy" or (known is not None and not known(name)):
        raise RawDataError(f"{path} holds {_shown(member.filename)}, which is not one of its "
                           "arrays")
      if name in arrays:
        raise RawDataError(f"{path} holds {_shown(name)} twice")
      unpacked += member.file_size
      if unpacked > zip_members.most_unpacked(size):
        raise RawDataError(f"{path} of {size} bytes unpacks to {unpacked} and more: no dataset "
                           "shrinks that far, so it is not read")
      arrays[name] = _member(path, archive, member, size)
      if not raw_files.is_unicode(arrays[name]):
        raise RawDataError(f"{path}: {_shown(name)} holds text that is none")
  return arrays


def _shown(name: str) -> str:
  return ascii(name)[:80]


def _member(path, archive, member, size: int) -> np.ndarray:
  with archive.open(member) as content:
    head = io.BytesIO(content.read(min(member.file_size, _HEADER_BYTES + 12)))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
      raise RawDataError(f"{path}: {_shown(member.filename)} is a .npy of version {version}")
    header = (np.lib.format.read_array_header_1_0 if version == (1, 0) else
              np.lib.format.read_array_header_2_0)
    shape, fortran, dtype = header(head, max_header_size=_HEADER_BYTES)
    if dtype.hasobject or dtype.fields or dtype.kind not in "biufSU" or not dtype.itemsize:
      raise RawDataError(f"{path}: {_shown(member.filename)} holds {dtype}, not numbers or text")
    start, length = head.tell(), math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or start + length != member.file_size:
      raise RawDataError(f"{path}: {_shown(member.filename)} says it is {dtype}{list(shape)[:8]}, "
                         f"but has {member.file_size - start} bytes")
    order = "F" if fortran else "C"
    if member.compress_type == zipfile.ZIP_STORED and length and shape:
      offset = zip_members.content_offset(path, member)
      if offset + member.file_size > size:
        raise RawDataError(f"{path} is truncated")
      return np.memmap(path, dtype, "r", offset + start, shape, order).view(np.ndarray)
    content.seek(start)
    # The archive's checksum is compared when the last byte is read.
    data = content.read()
  return np.frombuffer(data, dtype, math.prod(shape)).reshape(shape, order=order)


class Writer:
  """Writes an uncompressed archive piece by piece; equal content gives equal bytes.

  Rows are appended to arrays one after another and lie in temporary files until `publish`, so
  that memory does not grow with the dataset. `close` removes them, published or not.
  """

  def __init__(self, path):
    """Begins an archive at `path`, which is replaced when it is complete."""
    self._path = pathlib.Path(path)
    self._folder = self._path.with_name(self._path.name + ".parts")
    shutil.rmtree(self._folder, ignore_errors=True)
    self._folder.mkdir()
    self._rows, self._files = {}, {}

  def append(self, name: str, rows: np.ndarray) -> None:
    """Adds rows [n,...] to the array of that name; dtype and shape[1:] are the first rows'."""
    rows = np.ascontiguousarray(rows)
    if name not in self._files:
      self._files[name] = open(self._folder / name.encode().hex(), "wb+")
      self._rows[name] = [0, rows.dtype, rows.shape[1:]]
    count, dtype, shape = self._rows[name]
    if (dtype, shape) != (rows.dtype, rows.shape[1:]):
      raise ValueError(f"{name}: rows of {rows.dtype}{rows.shape[1:]} after {dtype}{shape}")
    self._rows[name][0] = count + len(rows)
    self._files[name].write(rows.tobytes())

  def publish(self) -> None:
    """Puts the archive in its place."""
    temporary = self._path.with_name(self._path.name + ".tmp")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
      for name, (count, dtype, shape) in self._rows.items():
        member = zipfile.ZipInfo(f"{name}.npy")  # dated 1980, always
        with archive.open(member, "w", force_zip64=True) as out:
          np.lib.format.write_array_header_1_0(out, {
              "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False,
              "shape": (count, *shape)})
          self._files[name].seek(0)
          shutil.copyfileobj(self._files[name], out, 2**20)
    os.replace(temporary, self._path)

  def close(self) -> None:
    """Removes the temporary files."""
    for file in self._files.values():
      file.close()
    shutil.rmtree(self._folder, ignore_errors=True)
