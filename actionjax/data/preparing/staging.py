"""Encoded clips on their way into a dataset: a file each, there whole or not at all.

Whoever encodes them, the files are the same, and so is what is made of them; a run that was ended
goes on with the clips that have none yet. In the staging folder, by the hash of the clip's id:

  HASH.clip  the record, and its CRC-32
  HASH.lost  [id, why] of a clip that could not be read
  HASH.note  [id, words] of what is worth counting, such as a skeleton of another length
"""
import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import sys
import threading
import time
import zlib

from actionjax import workers
from actionjax.data.clips.record import canonical, complete
from actionjax.data.preparing import beam
from actionjax.errors import RawDataError, UnreadableClipError, UserError

_REPORT_EVERY = 20.0  # seconds


@dataclasses.dataclass(frozen=True)
class Policy:
  """What happens at a clip that cannot be read.

  Attributes:
    unreadable: "fail" or "skip". most: share of the clips that may be skipped.
  """
  unreadable: str = "fail"
  most: float = 0.05


@dataclasses.dataclass(frozen=True)
class Encoders:
  """Who encodes: processes of this machine, or an Apache Beam pipeline.

  Attributes:
    workers: processes here; None for all cores. beam: options of the pipeline, None without.
  """
  workers: int | None = None
  beam: str | None = None

  @property
  def processes(self) -> int:
    """The number of local processes."""
    return workers.default_workers() if self.workers is None else self.workers

  def __str__(self):
    if self.beam is None:
      return f"{self.processes} worker(s)"
    return f"in a Beam pipeline ({beam.title(self.beam, self.processes)})"


def path(folder: pathlib.Path, clip_id: str) -> pathlib.Path:
  """Where a clip is staged; hashed, because its name may hold anything, slashes included."""
  return folder / f"{hashlib.sha256(clip_id.encode()).hexdigest()[:32]}.clip"


def read(file: pathlib.Path) -> bytes | None:
  """A staged record, or None if there is no whole one (a power cut can leave holes)."""
  try:
    data = file.read_bytes()
  except FileNotFoundError:
    return None
  if len(data) < 4 or zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
    return None
  return data[:-4]


def notes(folder: pathlib.Path, kind: str) -> list[tuple]:
  """What was noted of staged clips, [(clip_id, what), ...] in order."""
  return sorted(tuple(json.loads(file.read_text())) for file in folder.glob(f"*.{kind}"))


def encode_one(encode, folder: pathlib.Path, unreadable: str, raw) -> bool:
  """Encodes one clip into its staged file; returns whether it could be read.

  Args:
    encode: raw clip -> record, see `clips.definition.Dataset.encode`. folder: to stage in.
    unreadable: see `Policy`. raw: the clip.

  Raises:
    RawDataError, UnreadableClipError: it could not, and `unreadable` is "fail".
  """
  file = path(folder, raw.clip_id)
  try:
    made = dict(encode(raw))
  except (RawDataError, UnreadableClipError) as error:
    if unreadable == "fail":
      raise type(error)(f"{error}; --unreadable=skip leaves such clips out") from None
    _put(file.with_suffix(".lost"), json.dumps([raw.clip_id, str(error)]).encode())
    return False
  words = made.pop("notes", ())
  record = complete(made)
  if record["clip_id"] != raw.clip_id:
    raise ValueError(f"clip {raw.clip_id} was encoded as {record['clip_id']}")
  from actionjax.data.preparing import (
    tfds_dataset,  # imports TFDS, which a finished dataset needs not
  )
  data = tfds_dataset.features().serialize_example(record)
  del made, record  # a long video's frames need not be in memory four times
  data = canonical(data)
  if words:  # before the clip, which is not looked at again once it is there
    _put(file.with_suffix(".note"), json.dumps([raw.clip_id, list(words)]).encode())
  _put(file, data, zlib.crc32(data).to_bytes(4, "little"))
  return True


def _put(file: pathlib.Path, *pieces: bytes) -> None:
  """Writes a file so that it is there whole or not at all."""
  temporary = file.with_suffix(f".{os.getpid()}.tmp")
  try:
    with open(temporary, "wb") as out:
      out.writelines(pieces)
    os.replace(temporary, file)
  except OSError as error:
    temporary.unlink(missing_ok=True)
    raise OSError(error.errno, error.strerror, str(file.parent)) from None


def encode_all(encode, clips: list, folder: pathlib.Path, encoders: Encoders, report,
               policy: Policy) -> None:
  """Stages every clip that is not staged yet.

  Args:
    encode: raw clip -> record, picklable. clips: all of the dataset's. folder: to stage in.
    encoders: who encodes. report: called with each line for the user. policy: for clips that
      cannot be read.

  Raises:
    RawDataError, UnreadableClipError: a clip cannot be read, and that is not to be skipped.
    UserError: more clips than allowed cannot be read.
  """
  for left in (*folder.glob("*.tmp"), *folder.glob("*.lost")):
    left.unlink()  # a lost clip is tried again: its file may have been mended
  todo = [clip for clip in clips if read(path(folder, clip.clip_id)) is None]
  if len(todo) < len(clips):
    report(f"going on: {len(clips) - len(todo)} of {len(clips)} clips are encoded already")
  if encoders.beam is not None:
    _encode_by_beam(encode, todo, len(clips), folder, encoders, report, policy)
    return
  work = functools.partial(encode_one, encode, folder, policy.unreadable)
  with _progress(len(clips), len(clips) - len(todo), report) as advance:
    lost = 0
    with contextlib.closing(workers.run(work, todo, encoders.processes)) as finished:
      for readable in finished:
        advance()
        lost += not readable
        _check_lost(folder, lost, len(clips), policy.most)


def _check_lost(folder: pathlib.Path, lost: int, clips: int, most: float) -> None:
  if lost > most * clips:
    clip, why = notes(folder, "lost")[0]
    raise UserError(f"{lost} of {clips} clips cannot be read, more than "
                    f"--max_unreadable={most:g} allows; the first is {clip}: {why}")


def _encode_by_beam(encode, todo, clips, folder, encoders, report, policy) -> None:
  """Stages clips in a pipeline, which tells only by its files what became of them."""
  folder = folder.absolute()
  with _reporting(folder, clips, report):
    beam.run(functools.partial(encode_one, encode, folder, "skip"), todo, encoders.beam,
             encoders.processes)
  lost = notes(folder, "lost")
  known = {clip for clip, _ in lost}
  absent = [clip.clip_id for clip in todo
            if clip.clip_id not in known and read(path(folder, clip.clip_id)) is None]
  if absent:
    raise UserError(f"{len(absent)} clips of the pipeline did not arrive in {folder}, such as "
                    f"{absent[0]}; --data_dir must be one folder for this machine and all workers")
  if lost and policy.unreadable == "fail":
    raise RawDataError(f"{lost[0][1]}; --unreadable=skip leaves such clips out")
  _check_lost(folder, len(lost), clips, policy.most)


@contextlib.contextmanager
def _reporting(folder: pathlib.Path, total: int, report):
  """Reports the number of staged clips now and then, for as long as the context lasts."""
  ended = threading.Event()

  def watch():
    while not ended.wait(_REPORT_EVERY):
      report(f"encoded {sum(1 for _ in folder.glob('*.clip'))} of {total} clips")

  watcher = threading.Thread(target=watch, daemon=True)
  watcher.start()
  try:
    yield
  finally:
    ended.set()
    watcher.join()


@contextlib.contextmanager
def _progress(total: int, done: int, report):
  """Yields a function to call for each clip: a bar on a terminal, else a line now and then."""
  if sys.stderr.isatty():
    from tqdm import tqdm
    with tqdm(total=total, initial=done, unit="clip", desc="encoding") as bar:
      yield bar.update
    return
  last = time.monotonic()

  def advance():
    nonlocal done, last
    done += 1
    if time.monotonic() - last > _REPORT_EVERY:
      last = time.monotonic()
      report(f"encoded {done} of {total} clips")

  yield advance
