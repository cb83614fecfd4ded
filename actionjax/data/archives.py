"""The official files of a dataset, in folders and in zip archives alike."""
import contextlib
import dataclasses
import functools
import lzma
import os
import pathlib
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterator

from actionjax.errors import RawDataError

# What the standard library raises on damaged or encrypted archives and vanished files.
_UNREADABLE = (OSError, zipfile.BadZipFile, EOFError, ValueError, KeyError, lzma.LZMAError,
               zlib.error, RuntimeError)


@functools.lru_cache(maxsize=4)
def _archive(path: str, changed: int) -> zipfile.ZipFile:
  # `changed`, the file's time, tells a replaced archive from the cached one. Kept open
  # in each process: reading the directory of 100,000 entries again for each would take hours.
  return zipfile.ZipFile(path)


@dataclasses.dataclass(frozen=True)
class Source:
  """A file: in a folder (archive None) or in a zip archive. `size` in bytes."""
  archive: str | None
  name: str
  size: int

  def __str__(self):
    return f"{self.archive}:{self.name}" if self.archive else self.name

  @property
  def base(self) -> str:
    """The file's name without its folder: the same from a zip or a folder."""
    return pathlib.PurePosixPath(self.name).name

  def _open(self):
    if self.archive is None:
      return open(self.name, "rb")
    return _archive(self.archive, os.stat(self.archive).st_mtime_ns).open(self.name)

  def read(self) -> bytes:
    """The file's bytes. Raises RawDataError if it is truncated, corrupt or gone."""
    try:
      with self._open() as file:
        return file.read()
    except _UNREADABLE as error:
      raise RawDataError(f"{self} cannot be read ({error}); fetch it again") from None

  def lines(self) -> Iterator[bytes]:
    """The file's lines, read as they are asked for. Raises RawDataError as `read` does."""
    try:
      with self._open() as file:
        yield from file
    except _UNREADABLE as error:
      raise RawDataError(f"{self} cannot be read ({error}); fetch it again") from None

  @contextlib.contextmanager
  def on_disk(self):
    """The path of the file for as long as the context lasts; of a copy, if in an archive.

    A RawDataError that is raised within names this file instead of the copy.
    """
    if self.archive is None:
      yield self.name
      return
    with tempfile.NamedTemporaryFile(suffix=pathlib.PurePosixPath(self.name).suffix) as copy:
      copy.write(self.read())
      copy.flush()
      try:
        yield copy.name
      except RawDataError as error:
        raise RawDataError(str(error).replace(copy.name, str(self))) from None


class Found(list):
  """What a builder's `find` gives, with lines for the user about what it left out.

  Attributes:
    remarks: tuple of str.
  """

  def __init__(self, clips, remarks=()):
    super().__init__(clips)
    self.remarks = tuple(remarks)


def listing(raw_dir: str, wanted: re.Pattern, skip: re.Pattern | None = None,
            depth: int = 4) -> list[tuple[re.Match, Source]]:
  """The files below a folder whose path matches, zip archives looked into.

  Args:
    raw_dir: the folder.
    wanted: searched in each path below the folder, or within an archive, "/" between parts.
    skip: names of folders that are not entered, for the sake of speed.
    depth: levels of folders.

  Returns:
    (match, source) in the order of the paths, archives first in each folder.

  Raises:
    RawDataError: no such folder, or a broken archive.
  """
  root = pathlib.Path(raw_dir)
  if not root.is_dir():
    raise RawDataError(f"{raw_dir} is not a folder; --raw_dir names the folder with the "
                       "dataset's files")
  found = []
  for folder, folders, files in os.walk(root, followlinks=True):
    below = pathlib.Path(folder).relative_to(root)
    inner = len(below.parts) < depth
    folders[:] = sorted(f for f in folders if inner and not (skip and skip.fullmatch(f)))
    for name in sorted(files, key=lambda name: (not name.lower().endswith(".zip"), name)):
      path = os.path.join(folder, name)
      if name.lower().endswith(".zip"):
        found += [(match, Source(path, entry.filename, entry.file_size))
                  for entry in _entries(path) if (match := wanted.search(entry.filename))]
      elif match := wanted.search((below / name).as_posix()):
        found.append((match, Source(None, path, _size(path))))
  return found


def _entries(path: str) -> list[zipfile.ZipInfo]:
  try:
    with zipfile.ZipFile(path) as archive:
      return archive.infolist()
  except _UNREADABLE as error:
    raise RawDataError(f"{path} is not a whole zip archive ({error}); fetch it again") from None


def _size(path: str) -> int:
  try:
    return os.stat(path).st_size
  except OSError as error:  # a link to nowhere
    raise RawDataError(f"{path} cannot be read ({error.strerror}); fetch it again") from None


def add(files: dict, key, source: Source) -> None:
  """Notes a file under a key; the same file seen again (extracted beside its archive) is one.

  Raises:
    RawDataError: another file, by name or size, has that key.
  """
  other = files.setdefault(key, source)
  if other.base != source.base or other.size != source.size:
    raise RawDataError(f"two different files for one clip: {other} ({other.size} bytes) and "
                       f"{source} ({source.size} bytes)")


def contents(raw_dir: str) -> str:
  """What a folder holds, in a few words, for errors."""
  there = sorted(os.listdir(raw_dir))
  return ", ".join(there[:5]) + (", ..." if len(there) > 5 else "") or "nothing"
