"""Batches as a pure function of seed and step, with Grain.

Batch g is rows g*B ... (g+1)*B-1 of one seeded, shuffled, endlessly repeated `MapDataset`,
random draws included. A process reads its contiguous rows of each batch; the position is the
step and nothing else, so that a run goes on with the same batches on another number of
processes, threads or workers.
"""
import dataclasses
import functools
import os

import grain
import jax
import numpy as np
from absl import flags

from actionjax import skeletons
from actionjax.data import builders, own, protocols, records, sampling, transforms, workers
from actionjax.errors import UnreadableClipError, UserError

CROPS = {"centre": ((0.5, 0.5),),
         # Action Machine's three: top left, centre, bottom right (section 4.1).
         "three": ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))}


@dataclasses.dataclass(frozen=True)
class VideoConfig:
  """How a clip's frames become `video` uint8[T,h,w,channels].

  Attributes:
    num_frames: T.
    size: (h, w) of the network's input.
    sampling: "segments", "strided" or "first_half"; see `sampling`.
    stride: distance of frames for the latter two.
    box: "person" for the clip-level person box, "frame" for the whole stored frame.
    margin: growth of the person box, as a share of its sides on each side.
    square: extend the person box to a square.
    crop: side of the window relative to the box (224/256 in most papers).
    scale_jitter: training scales the box by a random factor in [1 - j, 1 + j].
    intensity_jitter: training multiplies pixels by a random factor in [1 - j, 1 + j] and adds
      up to j times half the range; a depth map's empty pixels stay 0.
    channels: 1 or 3.
  """
  num_frames: int
  size: tuple[int, int]
  sampling: str = "segments"
  stride: int = 1
  box: str = "person"
  margin: float = 0.1
  square: bool = False
  crop: float = 0.875
  scale_jitter: float = 0.0
  intensity_jitter: float = 0.0
  channels: int = 3

  def __post_init__(self):
    if self.sampling not in sampling.VIDEO_SAMPLINGS:
      raise ValueError(f"sampling {self.sampling!r} is none of "
                       f"{', '.join(sampling.VIDEO_SAMPLINGS)}")
    if self.box not in ("person", "frame"):
      raise ValueError(f"box {self.box!r} is neither person nor frame")
    if not 0 < self.crop <= 1:
      raise ValueError(f"crop must lie in (0, 1], not {self.crop}")
    if self.channels not in (1, 3):
      raise ValueError(f"channels must be 1 or 3, not {self.channels}")
    if self.num_frames < 1 or len(self.size) != 2:
      raise ValueError(f"num_frames {self.num_frames} and size {self.size} make no video")


@dataclasses.dataclass(frozen=True)
class PoseConfig:
  """How a clip's 3D skeletons become `pose3d` float32[M,t,J,3] and `pose_score` [M,t,J].

  Attributes:
    num_poses: t; one frame out of each of t equal chunks of the clip.
    persons: M; absent persons are zeros with score 0.
    turn: training turns the skeleton about the vertical by up to this many degrees.
  """
  num_poses: int
  persons: int = 1
  turn: float = 0.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """A dataset, a protocol, and what of its clips a model reads.

  Attributes:
    dataset, variant: a module of `data/builders` and one of its VARIANTS (None: its first).
    protocol: one of its PROTOCOLS.
    validation: what of the training side is held out as "validation": a fraction of each class,
      or subjects.
    time_jitter: training cuts a random interval of at least 1 - j of the clip, from video and
      pose alike.
    flip: probability of a left/right mirror in training. Datasets whose classes swap under it
      say so (MIRROR_CLASSES), and the label follows.
    video, pose: None where the model does not read it.
    threads: of the loader in each process. workers: loader processes (0: none).
    about: what is known of a user's own dataset. Recipes and checkpoints fill it in; elsewhere
      `own.about(dataset, data_dir)` finds it.
  """
  dataset: str
  protocol: str
  variant: str | None = None
  validation: float | tuple[int, ...] = 0.1
  time_jitter: float = 0.0
  flip: float = 0.0
  video: VideoConfig | None = None
  pose: PoseConfig | None = None
  threads: int = 4
  workers: int = 0
  about: own.About | None = None

  @property
  def builder(self):
    """The dataset's builder module, or what stands in for it; see `data/builders`."""
    return builders.load(self.dataset, self.about)

  @property
  def layout(self) -> skeletons.Layout | None:
    """Of the dataset's skeletons; None where it has none.

    Raises:
      UserError: poses are wanted that it does not have.
    """
    if self.pose and own.is_own(self.dataset) and "pose3d" not in self.builder.POSES:
      raise UserError(f"{self.dataset} has {' and '.join(self.builder.POSES) or 'no skeletons'}, "
                      "and the config's data.pose reads pose3d")
    name = self.builder.LAYOUT
    return skeletons.layout(name) if name else None


class ClipTransform:
  """record -> one row of a batch. Training draws from Grain's generator, testing from none."""

  def __init__(self, config: DataConfig, *, views: int = 1, crops: str = "centre"):
    builder = config.builder
    self.config = config
    self.layout = config.layout
    self.modality = builder.MODALITY
    self.mirror_classes = getattr(builder, "MIRROR_CLASSES", None)
    self.views = views
    self.crops = CROPS[crops]

  def train(self, record: dict, rng: np.random.Generator) -> dict:
    """A randomly sampled, cropped and mirrored row: `video` [T,...], `pose3d` [M,t,...]."""
    config = self.config
    # All draws happen whether they are used or not: a switched-off augmentation must not
    # change the others.
    draws = dict(position=rng.random(), at=tuple(rng.random(2)), scale=rng.uniform(-1, 1),
                 mirror=rng.random() < config.flip, turn=rng.uniform(-1, 1),
                 interval=tuple(rng.random(2)), intensity=tuple(rng.uniform(-1, 1, 2)))
    places = rng.random(config.pose.num_poses) if config.pose else None
    row = self._row(record, **draws, places=places)
    if draws["mirror"] and self.mirror_classes is not None:
      row["label"] = np.int32(self.mirror_classes[int(row["label"])])
    return row

  def test(self, record: dict) -> dict:
    """All views of a clip, without chance: model inputs get a leading axis [views * crops]."""
    rows = []
    for view in range(self.views):
      position = (view + 0.5) / self.views
      places = np.full(self.config.pose.num_poses, position) if self.config.pose else None
      rows += [self._row(record, position=position, at=at, scale=0.0, mirror=False, turn=0.0,
                         interval=(0.0, 0.0), intensity=(0.0, 0.0), places=places)
               for at in self.crops]
    stacked = dict(rows[0])
    for key in model_inputs(self.config):
      stacked[key] = np.stack([row[key] for row in rows])
    return stacked

  def _row(self, record, *, position, at, scale, mirror, turn, interval, intensity,
           places) -> dict:
    config = self.config
    cut = functools.partial(sampling.cut, shortest=1 - config.time_jitter, draws=interval)
    row = {"label": np.int32(record["label"]), "valid": np.float32(1)}
    if config.video:
      video = config.video
      if not len(record["frames"]):
        raise UnreadableClipError(f"clip {record['clip_id']} has no frames")
      first, length = cut(len(record["frames"]))
      picks = first + sampling.pick_video(length, video.num_frames, video.sampling,
                                          video.stride, position)
      frames = transforms.decode_frames(record, picks)
      size = frames[int(picks[0])].shape[:2]
      boxes = record["boxes"] if video.box == "person" else np.zeros((0, 4), np.float32)
      box = transforms.clip_box(boxes, size, margin=video.margin, square=video.square)
      window = transforms.place_window(box, video.size, crop=video.crop, at=at,
                                       scale=1 + video.scale_jitter * scale, mirror=mirror)
      row["video"] = transforms.window_video(frames, picks, window, video.channels)
      if video.intensity_jitter and intensity != (0.0, 0.0):
        row["video"] = transforms.change_intensity(
            row["video"], 1 + video.intensity_jitter * intensity[0],
            128 * video.intensity_jitter * intensity[1],
            keep_zero=self.modality == "depth")
    if config.pose:
      pose, score = record["pose3d"], record["pose_score"]
      first, length = cut(pose.shape[1])
      picks = first + sampling.chunks(length, config.pose.num_poses, places)
      pose, score = transforms.pick_pose(pose, score, picks, config.pose.persons)
      if config.pose.turn:
        pose = transforms.turn_pose3d(pose, score, np.deg2rad(config.pose.turn) * turn)
      if mirror:
        pose = transforms.mirror_pose3d(pose, self.layout)
        score = score[..., self.layout.mirror]
      row["pose3d"], row["pose_score"] = pose, score
    return row


def only(config: DataConfig, inputs: tuple[str, ...]) -> DataConfig:
  """The config without the sections that none of a model's `inputs` comes from."""
  return dataclasses.replace(
      config, video=config.video if "video" in inputs else None,
      pose=config.pose if {"pose3d", "pose_score"} & set(inputs) else None)


def model_inputs(config: DataConfig) -> tuple[str, ...]:
  """Names of the arrays that a model may read."""
  return (("video",) if config.video else ()) + (("pose3d", "pose_score") if config.pose else ())


def batch_spec(config: DataConfig, batch_size: int) -> dict:
  """Shapes and types of a training batch, without data: {name: jax.ShapeDtypeStruct}."""
  spec = {"label": ((), np.int32), "valid": ((), np.float32)}
  if config.video:
    v = config.video
    spec["video"] = ((v.num_frames, *v.size, v.channels), np.uint8)
  if config.pose:
    joints = config.layout.num_joints
    p = config.pose
    spec["pose3d"] = ((p.persons, p.num_poses, joints, 3), np.float32)
    spec["pose_score"] = ((p.persons, p.num_poses, joints), np.float32)
  return {key: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
          for key, (shape, dtype) in spec.items()}


@dataclasses.dataclass(frozen=True)
class Clips:
  """One part of a dataset as a Grain source: `clips[i]` is (position, record or None).

  Attributes:
    dataset: a `records.ClipDataset`.
    rows: int[n], the part's records.
    padding: rows of None at the end, which fill the last evaluation batch.
  """
  dataset: records.ClipDataset
  rows: np.ndarray
  padding: int = 0

  def __len__(self):
    return len(self.rows) + self.padding

  def __getitem__(self, position):
    position = int(position)
    if position >= len(self.rows):
      return position, None
    return position, self.dataset[int(self.rows[position])]


def open_part(config: DataConfig, data_dir: str | None, part: str) -> Clips:
  """The clips of a protocol's part: "train", "fit", "validation" or "test".

  Raises:
    UserError: the dataset is not prepared, or has no such variant, protocol or part.
  """
  dataset = records.open_dataset(data_dir, config.dataset, config.variant)
  builder = builders.of(dataset)
  if own.is_own(config.dataset) and config.about is not None:
    own.check_same(config.about, dataset)
  rows = protocols.split(dataset.index, builders.protocol(builder, config.protocol), part,
                         validation=config.validation)
  return Clips(dataset, np.asarray(rows))


class _Load:
  """Applies a transform; an unreadable or padded row becomes zeros that count for nothing."""

  def __init__(self, config: DataConfig, transform):
    self.transform = transform
    self.spec = {key: (value.shape[1:], value.dtype)
                 for key, value in batch_spec(config, 1).items()}

  def views(self, count: int, inputs):
    """Lets empty rows carry the leading axis of test views."""
    self.spec = {key: ((count, *shape) if key in inputs else shape, dtype)
                 for key, (shape, dtype) in self.spec.items()}
    return self

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
    part) and `unreadable` float32[b].
  """
  rows = _process_rows(
      _Shuffled(grain.MapDataset.source(clips).seed(seed), seed).repeat()
      .random_map(_RandomLoad(config, ClipTransform(config).train)),
      batch_size, process, processes)
  return _iterate(rows, config, step)


def test_batches(clips: Clips, config: DataConfig, *, batch_size: int, views: int = 1,
                 crops: str = "centre", process: int | None = None,
                 processes: int | None = None):
  """Iterator over this process' rows of every clip once, in order, the last batch padded.

  Yields:
    as `train_batches`, model inputs with a further axis [b, views * crops, ...]; `valid` is 0
    for padding and for clips that could not be read.
  """
  padded = dataclasses.replace(clips, padding=-len(clips.rows) % batch_size)
  transform = ClipTransform(config, views=views, crops=crops)
  load = _TestLoad(config, transform.test).views(views * len(CROPS[crops]),
                                                 model_inputs(config))
  rows = _process_rows(grain.MapDataset.source(padded).map(load), batch_size, process, processes)
  return _iterate(rows, config, 0)


def _process_rows(dataset, batch_size, process, processes):
  processes = jax.process_count() if processes is None else processes
  process = jax.process_index() if process is None else process
  if processes > 1:
    dataset = _ProcessRows(dataset, batch_size, process, processes)
  return dataset.batch(batch_size // processes, drop_remainder=True)


def _iterate(batches, config: DataConfig, step: int):
  dataset = batches[step:].to_iter_dataset(
      grain.ReadOptions(num_threads=config.threads, prefetch_buffer_size=2 * config.threads)
      if not config.workers else grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
  if config.workers:
    # Grain reads absl's flags when it starts processes; outside a command nobody parsed them.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=config.workers),
                                  worker_init_fn=functools.partial(
                                      _start_worker, parent=os.getpid()))
  return iter(dataset)


def _start_worker(index: int, count: int, *, parent: int) -> None:
  """Makes a loader process end with the one that trains: after SIGKILL it would live on."""
  del index, count
  workers.die_with_parent(parent)
