"""The official files of a dataset, in folders and in zip archives alike."""
import contextlib
import dataclasses
import errno
import functools
import lzma
import os
import pathlib
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator

from actionjax.data.formats import zip_members
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

# What the standard library raises on damaged or encrypted archives and vanished files.
_UNREADABLE = (OSError, zipfile.BadZipFile, EOFError, ValueError, KeyError, lzma.LZMAError,
               zlib.error, RuntimeError)
# Bytes from a member's beginning to the size of LZMA's dictionary, and the largest that is usual.
_DICTIONARY, _MOST_DICTIONARY = 5, 2**27


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
    # For messages: an archive may call its members anything.
    return shown(f"{self.archive}:{self.name}" if self.archive else self.name, 1000)

  @property
  def base(self) -> str:
    """The file's name without its folder: the same from a zip or a folder."""
    return pathlib.PurePosixPath(self.name).name

  def _open(self):
    if self.archive is None:
      return open(self.name, "rb")
    status = os.stat(self.archive)
    archive = _archive(self.archive, status.st_mtime_ns)
    member, most = archive.getinfo(self.name), zip_members.most_unpacked(status.st_size)
    if member.file_size > most:
      raise ValueError(f"it unpacks to {self.size} bytes, out of an archive of {status.st_size}")
    if member.compress_size > status.st_size:  # which zipfile would set aside before it reads
      raise ValueError(f"it claims {member.compress_size} packed bytes of an archive of "
                       f"{status.st_size}")
    if member.compress_type == zipfile.ZIP_LZMA:
      _check_dictionary(self.archive, member, most)
    return archive.open(member)

  def read(self) -> bytes:
    """The file's bytes. Raises RawDataError if it is truncated, corrupt or gone."""
    try:
      with self._open() as file:
        return file.read()
    except _UNREADABLE as error:
      raise RawDataError(f"{self} cannot be read ({shown(error)}); fetch it again") from None

  def lines(self) -> Iterator[bytes]:
    """The file's lines, read as they are asked for. Raises RawDataError as `read` does."""
    try:
      with self._open() as file:
        yield from file
    except _UNREADABLE as error:
      raise RawDataError(f"{self} cannot be read ({shown(error)}); fetch it again") from None

  def _copy(self, target) -> None:
    try:
      with self._open() as file:
        # Checked to the end by then: the last piece compares the archive's checksum.
        shutil.copyfileobj(file, target, 2**20)
    except _UNREADABLE as error:
      if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise  # the temporary folder's fault, not the archive's
      raise RawDataError(f"{self} cannot be read ({shown(error)}); fetch it again") from None
    target.flush()

  @contextlib.contextmanager
  def on_disk(self):
    """The path of the file for as long as the context lasts; of a copy, if in an archive.

    A RawDataError that is raised within names this file instead of the copy.
    """
    if self.archive is None:
      yield self.name
      return
    with tempfile.NamedTemporaryFile(suffix=pathlib.PurePosixPath(self.name).suffix) as copy:
      self._copy(copy)
      try:
        yield copy.name
      except RawDataError as error:
        raise RawDataError(str(error).replace(copy.name, str(self))) from None


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


def _check_dictionary(path: str, member: zipfile.ZipInfo, most: int) -> None:
  """LZMA's decoder sets aside whatever the member's first bytes ask for."""
  with open(path, "rb") as file:
    file.seek(zip_members.content_offset(path, member) + _DICTIONARY)
    size = int.from_bytes(file.read(4), "little")
  if size > max(most, _MOST_DICTIONARY):
    raise ValueError(f"it asks for a dictionary of {size} bytes")


def _entries(path: str) -> list[zipfile.ZipInfo]:
  try:
    with zipfile.ZipFile(path) as archive:
      return archive.infolist()
  except _UNREADABLE as error:
    raise RawDataError(f"{path} is not a whole zip archive ({shown(error)}); "
                       "fetch it again") from None


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


def require_all(raw_dir: str, kinds: dict[str, dict], clip_id) -> None:
  """Checks that where a dataset has files of a kind, it has one for every clip.

  Args:
    raw_dir: the folder. kinds: a kind's name for the user -> clip -> its file or files; kinds
      without any files are absent. clip_id: a clip's name.

  Raises:
    RawDataError: a clip with files of one kind but not of another, as an unfinished download has.
  """
  clips = sorted(set().union(*kinds.values()))
  for kind, files in kinds.items():
    for clip in clips:
      if clip not in files:
        there = next(other for other, others in kinds.items() if clip in others)
        raise RawDataError(f"{raw_dir} has the {there} of {shown(clip_id(clip))}, but no {kind} "
                           "of it; fetch it, or take all of that kind away")


def nothing_found(raw_dir: str, wanted: str, title: str) -> RawDataError:
  """The error for a folder that holds nothing of a dataset."""
  return RawDataError(f"{raw_dir} holds no {wanted} of {title}, nor zip archives of them; it "
                      f"holds: {contents(raw_dir)}")
