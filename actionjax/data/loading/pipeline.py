"""Batches as a pure function of seed and step, with Grain.

Batch g is rows g*B ... (g+1)*B-1 of one seeded, shuffled, endlessly repeated `MapDataset`,
random draws included. A process reads its contiguous rows of each batch; the position is the
step and nothing else, so that a run goes on with the same batches on another number of
processes, threads or workers.
"""
import dataclasses
import functools
import math
import os
from typing import Literal

import grain
import jax
import numpy as np
from absl import flags

from actionjax import workers
from actionjax.data import catalogue, own
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import ClipDataset
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, batch_spec
from actionjax.errors import UnreadableClipError, UserError

SPLITS = protocols.SPLITS
# Bytes that a process loads ahead of the batch that is worked on.
AHEAD = 2**30


@dataclasses.dataclass(frozen=True)
class Clips:
  """One split of a dataset as a Grain source: `clips[i]` is (position, record or None).

  Attributes:
    dataset: a `clips.dataset.ClipDataset`.
    rows: int[n], the split's records.
    padding: rows of None at the end, which fill the last evaluation batch.
  """
  dataset: ClipDataset
  rows: np.ndarray
  padding: int = 0

  def __len__(self):
    return len(self.rows) + self.padding

  def __getitem__(self, position):
    position = int(position)
    if position >= len(self.rows):
      return position, None
    return position, self.dataset[int(self.rows[position])]


def open_split(config: DataConfig, data_dir: str | None, split: str) -> Clips:
  """The clips of a protocol's split, one of `SPLITS`.

  Raises:
    UserError: the dataset is not prepared, or has no such variant, protocol or split, or no
      frames where they are asked for.
  """
  dataset = catalogue.open_dataset(data_dir, config.dataset, config.variant)
  if own.is_own(config.dataset) and config.about is not None:
    catalogue.check_same(config.about, dataset)
  reader = next((name for name, read in config.inputs.items() if "frames" in read.reads), None)
  if reader and dataset.info["modality"] == "none":
    raise UserError(f"{config.dataset}{f'/{config.variant}' if config.variant else ''} holds "
                    f"skeletons alone, but data.{reader} asks for frames; prepare it with its "
                    "videos")
  rows = protocols.split(dataset.index, catalogue.of(dataset).protocol(config.protocol), split,
                         validation=config.validation,
                         validation_from=config.validation_from)
  return Clips(dataset, np.asarray(rows))


class _Load:
  """Applies a transform; an unreadable or padded row becomes zeros that count for nothing."""

  def __init__(self, config: DataConfig, transform, views: int | None = None,
               valid: bool = False):
    """Args:
      views: leading axis that empty rows of a test have, as the others.
      valid: whether rows say which of their views count.
    """
    self.transform = transform
    inputs = config.arrays if views else ()
    self.spec = {key: ((views, *value.shape[1:]) if key in inputs else value.shape[1:],
                       value.dtype)
                 for key, value in batch_spec(config, 1, test=views is not None).items()}
    if valid:
      self.spec["view_valid"] = (views,), np.dtype(np.float32)

  @property
  def row_bytes(self) -> int:
    """Of one row."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in self.spec.values())

  def __call__(self, element, *rng):
    position, record = element
    row = {key: np.zeros(shape, dtype) for key, (shape, dtype) in self.spec.items()}
    unreadable = False
    if record is not None:
      try:
        row = self.transform(record, *rng)
      except UnreadableClipError:
        unreadable = True
        row["label"] = np.int32(record["label"])
    return row | {"position": np.int32(position), "unreadable": np.float32(unreadable)}


class _RandomLoad(_Load, grain.transforms.RandomMap):

  def random_map(self, element, rng):
    return self(element, rng)


class _TestLoad(_Load, grain.transforms.Map):

  def map(self, element):
    return self(element)


@functools.lru_cache(maxsize=8)
def _order(seed: int, epoch: int, length: int) -> np.ndarray:
  """The permutation of an epoch, int64[length]."""
  return np.random.default_rng((seed, epoch)).permutation(length)


class _Shuffled(grain.MapDataset):
  """Every epoch in an order of its own, drawn by NumPy.

  Grain's own shuffle computes single elements of a permutation without storing it. For a few
  hundred elements some of its seeds leave the order nearly as it was: clips of a class then come
  one after another, and batch norm sees batches of one class for a whole epoch.
  """

  def __init__(self, parent, seed: int):
    super().__init__(parent)
    self._seed = seed

  def __len__(self):
    return len(self._parent)

  def __str__(self):
    return f"Shuffled(seed={self._seed})"

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    with self._stats.record_self_time():
      epoch, place = divmod(index, len(self))
      position = int(_order(self._seed, epoch, len(self))[place])
    return self._parent[position]


class _ProcessRows(grain.MapDataset):
  """This process' contiguous rows of every global batch, as one dataset.

  It stands after the random map: slicing before it would change the draws.
  """

  def __init__(self, parent, batch_size: int, process: int, processes: int):
    super().__init__(parent)
    self._batch, self._rows = batch_size, batch_size // processes
    self._first = process * self._rows

  def __len__(self):
    return len(self._parent) // self._batch * self._rows

  def __str__(self):
    return f"ProcessRows(rows={self._rows}, first={self._first})"

  def __getitem__(self, index):
    if isinstance(index, slice):
      return self.slice(index)
    with self._stats.record_self_time():
      batch, row = divmod(index, self._rows)
    return self._parent[batch * self._batch + self._first + row]


def train_batches(clips: Clips, config: DataConfig, *, batch_size: int, seed: int, step: int = 0,
                  process: int | None = None, processes: int | None = None):
  """Endless iterator over this process' rows of the batches from `step` on.

  Args:
    batch_size: of the global batch.
    process, processes: this one and their number (default: JAX's).

  Yields:
    dicts of NumPy arrays as `batch_spec` has them, plus `position` int32[b] (row within the
    split) and `unreadable` float32[b].
  """
  load = _RandomLoad(config, ClipTransform(config).train)
  rows = _Shuffled(grain.MapDataset.source(clips).seed(seed), seed).repeat().random_map(load)
  return _iterate(rows, config, batch_size, process, processes, load.row_bytes, step)


def test_batches(clips: Clips, config: DataConfig, *, batch_size: int,
                 views: int | Literal["all"] = 1, crops: str = "center", flips: bool = False,
                 process: int | None = None, processes: int | None = None):
  """Iterator over this process' rows of every clip once, in order, the last batch padded.

  Args:
    views: "all": as many as show every frame of the longest clip.

  Yields:
    as `train_batches`, model inputs with a further axis [b, V, ...] of `ClipTransform`'s views;
    `valid` is 0 for padding and for clips that could not be read. With `views="all"` there is
    `view_valid` float32[b, V], 0 for views beyond a clip's own.
  """
  padded = dataclasses.replace(clips, padding=-len(clips.rows) % batch_size)
  transform = ClipTransform(config, views=views, crops=crops, flips=flips,
                            longest=longest(clips) if views == "all" else None)
  load = _TestLoad(config, transform.test, transform.count, valid=views == "all")
  return _iterate(grain.MapDataset.source(padded).map(load), config, batch_size, process,
                  processes, load.row_bytes)


def longest(clips: Clips) -> int:
  """Frames of the longest clip."""
  return int(clips.dataset.index.num_frames[clips.rows].max())


def _iterate(rows, config: DataConfig, batch_size: int, process: int | None,
             processes: int | None, row_bytes: int, step: int = 0):
  """Batches of this process' rows, loaded ahead by its threads or its workers.

  Each of them loads whole batches; where what they hold then does not fit into `AHEAD`, rows.
  """
  processes = jax.process_count() if processes is None else processes
  process = jax.process_index() if process is None else process
  if processes > 1:
    rows = _ProcessRows(rows, batch_size, process, processes)
  size = batch_size // processes
  # A worker holds two that it reads and one that it hands over.
  ahead = 3 * config.workers if config.workers else 2 * config.threads
  whole = ahead * size * row_bytes <= AHEAD
  read = rows.batch(size, drop_remainder=True)[step:] if whole else rows[step * size:]
  if config.workers:
    dataset = _by_workers(read.to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=2 if whole else 1)), config.workers)
  else:
    fitting = ahead if whole else max(1, AHEAD // row_bytes)
    dataset = read.to_iter_dataset(grain.ReadOptions(
        num_threads=min(config.threads, fitting), prefetch_buffer_size=fitting))
  return iter(dataset if whole else dataset.batch(size, drop_remainder=True))


def _by_workers(dataset, count: int):
  """The dataset, read by worker processes."""
  # Grain reads absl's flags when it starts processes; outside a command nobody parsed them.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()
  return dataset.mp_prefetch(
      grain.MultiprocessingOptions(num_workers=count),
      worker_init_fn=functools.partial(_start_worker, parent=os.getpid()))


def _start_worker(index: int, count: int, *, parent: int) -> None:
  """Makes a loader process end with the one that trains: after SIGKILL it would live on."""
  del index, count
  workers.die_with_parent(parent)
