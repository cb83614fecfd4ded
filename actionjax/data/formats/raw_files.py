"""Files of raw datasets: what identifies them, and that they lie where they should."""
import hashlib
import os
import pathlib
import sys

import numpy as np

# Up to this size a file is hashed whole, above it its two ends of `_END` bytes: a large video
# that is replaced changes there (or in size), and reading all of a dataset would take hours.
WHOLE = 2**18
_END = 2**15


def digest(path, whole: bool = False) -> str:
  """Hexadecimal sha256 of a small file's content, or of a large one's size and two ends.

  Args:
    path: of the file.
    whole: read a large file whole too, for the few files that hold a whole dataset.

  Raises:
    OSError: it cannot be read.
  """
  size = os.stat(path).st_size
  found = hashlib.sha256()
  with open(path, "rb") as file:
    if whole or size <= WHOLE:
      while piece := file.read(2**20):
        found.update(piece)
    else:
      found.update(str(size).encode() + b"\0" + file.read(_END))
      file.seek(-_END, os.SEEK_END)
      found.update(file.read())
  return found.hexdigest()


def source(path, root, whole: bool = False) -> tuple[str, int, str]:
  """(path relative to the raw folder, bytes, digest): what a fingerprint is made of."""
  path = pathlib.Path(path)
  return path.relative_to(root).as_posix(), path.stat().st_size, digest(path, whole)


def leads_out(name: str) -> str | None:
  """Why a name from a table or an annotation is no path within a folder; None if it is one."""
  if not name or "\0" in name:
    return "is empty or holds a zero byte"
  # Windows' ways to write a path are refused everywhere: a dataset may move.
  parts = name.replace("\\", "/").split("/")
  if not parts[0] or parts[0].endswith(":"):
    return "is absolute; it must be relative to the folder of the dataset"
  if ".." in parts:
    return "leads out of the folder of the dataset (..)"
  return None


def escapes(path: pathlib.Path, root: pathlib.Path) -> bool:
  """Whether a file, its links followed, lies outside a folder."""
  return not path.resolve().is_relative_to(root.resolve())


def is_unicode(array: np.ndarray) -> bool:
  """Whether every number in an array's text is that of a character; others crash NumPy."""
  if array.dtype.kind != "U" or not array.size:
    return True
  flat = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.str[0]}u4")
  return int(flat.max()) <= sys.maxunicode


def is_text(name: str) -> bool:
  """Whether a file's name is valid UTF-8, as records store it."""
  try:
    name.encode("utf-8")
  except UnicodeEncodeError:
    return False
  return True
