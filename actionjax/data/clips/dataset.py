"""Prepared datasets: their files, and random access to their clips.

A prepared dataset is a folder `<data_dir>/<dataset>/<variant>/<version>/` with
TFDS ArrayRecord files (one split, `clips`), `index.npz` (one row per clip, see
`Index`) and `info.json`, which is written last and therefore marks a finished
dataset. The files are plain TFDS: `tfds.builder_from_directory(folder)
.as_data_source("clips")` reads them too. Reading them here avoids importing
TensorFlow Datasets, which costs worker processes time and memory.
"""
import dataclasses
import json
import os
import pathlib
import threading

import numpy as np

from actionjax.data.clips.record import FORMAT, parse
from actionjax.errors import UserError

SPLIT = "clips"
INFO_FILE = "info.json"
INDEX_FILE = "index.npz"


def default_data_dir() -> pathlib.Path:
  """Where prepared datasets live: `$ACTIONJAX_DATA`, else `~/.cache/actionjax`."""
  return pathlib.Path(os.environ.get("ACTIONJAX_DATA") or "~/.cache/actionjax").expanduser()


@dataclasses.dataclass(frozen=True)
class Index:
  """What protocols and summaries need to know of every clip, in the records' order.

  Attributes:
    clip_id: str[N], unique. label, subject, camera, setup, num_frames: int32[N].
  """
  clip_id: np.ndarray
  label: np.ndarray
  subject: np.ndarray
  camera: np.ndarray
  setup: np.ndarray
  num_frames: np.ndarray

  def __len__(self) -> int:
    return len(self.clip_id)

  @classmethod
  def of(cls, records) -> "Index":
    """The index of an iterable of records (dicts with at least the index's fields)."""
    names = [field.name for field in dataclasses.fields(cls)]
    rows = [[record[name] for name in names] for record in records]
    columns = list(zip(*rows)) or [()] * len(names)
    return cls(np.array(columns[0], np.str_), *(np.array(c, np.int32) for c in columns[1:]))

  def save(self, path) -> None:
    """Writes index.npz; the same index gives the same bytes."""
    np.savez(path, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

  @classmethod
  def load(cls, path) -> "Index":
    """Reads what `save` wrote."""
    with np.load(path, allow_pickle=False) as data:
      return cls(**{field.name: data[field.name] for field in dataclasses.fields(cls)})


class ClipDataset:
  """Random access to a prepared dataset's records.

  Cheap to pickle (files are opened on first use, in each process anew) and safe to
  read from several threads at once.

  Attributes:
    path: the dataset's folder.
    info: dict with `dataset, variant, version, class_names, layout, modality, fps,
      fingerprint, unreadable, skipped, num_clips, shards` and more, as `info.json` holds it.
    index: the `Index`, in the order of the records.
  """

  def __init__(self, path):
    self.path = pathlib.Path(path)
    self.info = json.loads((self.path / INFO_FILE).read_text())
    if self.info["format"] != FORMAT:
      raise UserError(f"{self.path} has records of format {self.info['format']}, this is "
                      f"format {FORMAT}; prepare the dataset again")
    self.index = Index.load(self.path / INDEX_FILE)
    self._lengths = np.cumsum([shard["clips"] for shard in self.info["shards"]])
    for shard in self.info["shards"]:
      file = self.path / shard["file"]
      if not file.exists() or file.stat().st_size != shard["bytes"]:
        raise UserError(f"{file} is missing or of another length than when it was prepared; "
                        f"delete {self.path} and prepare the dataset again")
    self._open_readers()

  def _open_readers(self):
    self._lock, self._pid, self._readers = threading.Lock(), None, {}

  def __getstate__(self):
    hidden = ("_lock", "_pid", "_readers")
    return {key: value for key, value in self.__dict__.items() if key not in hidden}

  def __setstate__(self, state):
    self.__dict__.update(state)
    self._open_readers()

  def __len__(self) -> int:
    return len(self.index)

  def __repr__(self) -> str:
    # Grain puts this into checkpoints and error messages: short, and without a path.
    return f"ClipDataset({self.info['dataset']}/{self.info['variant']}, {len(self)} clips)"

  def _reader(self, shard: int):
    with self._lock:
      if self._pid != os.getpid():  # a forked child must not share its parent's readers
        self._pid, self._readers = os.getpid(), {}
      if shard not in self._readers:
        from array_record.python import array_record_module
        self._readers[shard] = array_record_module.ArrayRecordReader(
            str(self.path / self.info["shards"][shard]["file"]),
            options="readahead_buffer_size:0", file_reader_buffer_size=32768)
      return self._readers[shard]

  def __getitem__(self, i) -> dict:
    """Record `i` (0 <= i < len) as `parse` returns it. Raises IndexError."""
    i = i.__index__()
    if not 0 <= i < len(self):
      raise IndexError(f"clip {i} of {len(self)}")
    shard = int(np.searchsorted(self._lengths, i, side="right"))
    first = self._lengths[shard - 1] if shard else 0
    return parse(self._reader(shard).read([int(i - first)])[0])
