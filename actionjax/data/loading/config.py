"""What of a dataset's clips a model reads, and how: the `data` section of configs."""
import dataclasses
from collections.abc import Mapping

import jax
import numpy as np

from actionjax import configuration, skeletons
from actionjax.data import catalogue, own
from actionjax.data.clips.definition import Dataset
from actionjax.data.loading import sampling
from actionjax.data.loading.graph import GraphConfig
from actionjax.data.loading.pose2d import Pose2dConfig
from actionjax.errors import UserError

CROPS = {"centre": ((0.5, 0.5),),
         # Action Machine's three: top left, centre, bottom right (section 4.1).
         "three": ((0.0, 0.0), (0.5, 0.5), (1.0, 1.0))}


@dataclasses.dataclass(frozen=True)
class VideoConfig:
  """How a clip's frames become `video` uint8[T,h,w,channels].

  Attributes:
    num_frames: T.
    size: (h, w) of the network's input.
    sampling: "segments", "strided" or "first_half"; see `sampling`. "uniform": frames are drawn
      one by one, and those of the test clips chosen, as `data.pose2d` does it (as PYSKL without
      that section), though not the same ones.
    stride: distance of frames for the latter two.
    test_size: of the network's input at test; None for the same.
    box: "person" for the clip-level person box, "frame" for the whole stored frame, "pose2d" for
      the very window that `data.pose2d` shows skeletons in, which leaves nothing to margin,
      square, crop and scale_jitter.
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
  test_size: tuple[int, int] | None = None

  def __post_init__(self):
    known = (*sampling.VIDEO_SAMPLINGS, "uniform")
    if self.sampling not in known:
      raise ValueError(f"sampling {self.sampling!r} is none of {', '.join(known)}")
    if self.box not in ("person", "frame", "pose2d"):
      raise ValueError(f"box {self.box!r} is neither person nor frame nor pose2d")
    if self.box == "pose2d":
      fields = {field.name: field.default for field in dataclasses.fields(self)}
      for name in ("margin", "square", "crop", "scale_jitter"):
        if getattr(self, name) != fields[name]:
          raise ValueError(f"{name} says nothing beside box=pose2d: the window is that of "
                           "data.pose2d; leave it out")
    if not 0 < self.crop <= 1:
      raise ValueError(f"crop must lie in (0, 1], not {self.crop}")
    if self.channels not in (1, 3):
      raise ValueError(f"channels must be 1 or 3, not {self.channels}")
    if self.num_frames < 1 or len(self.size) != 2 or len(self.test_size or self.size) != 2:
      raise ValueError(f"num_frames {self.num_frames} and size {self.size} make no video")


@dataclasses.dataclass(frozen=True)
class PoseConfig:
  """How a clip's 3D skeletons become `pose3d` float32[M,t,J,3] and `pose_score` [M,t,J].

  Attributes:
    num_poses: t; one frame out of each of t equal chunks of the clip.
    persons: M, the first ones as stored; absent persons are zeros with score 0.
    turn: training turns the skeleton about the vertical by up to this many degrees.
  """
  num_poses: int
  persons: int = 1
  turn: float = 0.0


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """A dataset, a protocol, and what of its clips a model reads.

  Attributes:
    dataset, variant: a module of `data/builders`, or a user's own as `KIND:NAME`, and one of its
      variants (None: its first).
    protocol: one of its protocols.
    validation: what of the training side is held out as "validation": a fraction of each class,
      or subjects.
    time_jitter: training cuts a random interval of at least 1 - j of the clip, from video and
      pose alike.
    flip: probability of a left/right mirror in training. Datasets whose classes swap under it
      say so (`mirror_classes`), and the label follows.
    video, pose, pose2d, graph: None where the model does not read it. Of the latter three only
      one can be given: all yield `pose_score`.
    threads: of the loader in each process. workers: loader processes (0: none).
    about: what is known of a user's own dataset. Recipes and checkpoints fill it in; elsewhere
      `catalogue.facts(dataset, data_dir)` finds it.
  """
  dataset: str
  protocol: str
  variant: str | None = None
  validation: float | tuple[int, ...] = 0.1
  time_jitter: float = 0.0
  flip: float = 0.0
  video: VideoConfig | None = None
  pose: PoseConfig | None = None
  pose2d: Pose2dConfig | None = None
  graph: GraphConfig | None = None
  threads: int = 4
  workers: int = 0
  about: own.Facts | None = None

  def __post_init__(self):
    given = [f"data.{name}" for name in ("pose", "pose2d", "graph") if getattr(self, name)]
    if len(given) > 1:
      raise UserError(f"{' and '.join(given)} cannot both be given: a batch has one pose_score; "
                      "leave out the one that the model does not read")
    if self.video and (self.video.box == "pose2d") != (self.pose2d is not None):
      raise UserError("data.video.box must be pose2d where there is a data.pose2d, and only there: "
                      "video and skeletons have to show the same part of the image")

  @property
  def mirror_classes(self) -> tuple[int, ...] | None:
    """Label of each class seen in a mirror; None where every one stays itself."""
    return self.source.mirror_classes

  @property
  def source(self) -> Dataset:
    """The dataset. Raises UserError where there is none of that name, or `about` is missing."""
    return catalogue.load(self.dataset, self.about)

  @property
  def layout(self) -> skeletons.Layout | None:
    """Of the dataset's skeletons; None where it has none.

    Raises:
      UserError: poses are wanted that it does not have.
    """
    for section, read in (("pose", "pose3d"), ("pose2d", "pose2d"),
                          ("graph", self.graph and self.graph.source)):
      if getattr(self, section) and read not in self.source.poses:
        raise UserError(f"{self.dataset} has {' and '.join(self.source.poses) or 'no skeletons'}, "
                        f"and the config's data.{section} reads {read}")
    name = self.source.layout
    return skeletons.layout(name) if name else None


def only(config: DataConfig, inputs: tuple[str, ...]) -> DataConfig:
  """The config without the sections that none of a model's `inputs` comes from."""
  video = config.video if "video" in inputs else None
  framed = video is not None and video.box == "pose2d"
  return dataclasses.replace(
      config, video=video,
      pose=config.pose if {"pose3d", "pose_score"} & set(inputs) else None,
      pose2d=config.pose2d if framed or {"pose2d", "pose_score"} & set(inputs) else None,
      graph=config.graph if "pose_score" in inputs else None)


def model_inputs(config: DataConfig) -> tuple[str, ...]:
  """Names of the arrays that a model may read."""
  return (("video",) if config.video else ()) + (
      ("pose3d", "pose_score") if config.pose else
      ("pose2d", "pose_score") if config.pose2d else
      (config.graph.source, "pose_score") if config.graph else ())


def batch_spec(config: DataConfig, batch_size: int, *, test: bool = False) -> dict:
  """Shapes and types of a batch, without data: {name: jax.ShapeDtypeStruct}.

  Args:
    test: of a test batch, but for the axis of its views.
  """
  spec = {"label": ((), np.int32), "valid": ((), np.float32)}
  if config.video:
    v = config.video
    size = test and v.test_size or v.size
    spec["video"] = ((v.num_frames, *size, v.channels), np.uint8)
  for p, name, frames in ((config.pose, "pose3d", "num_poses"),
                          (config.pose2d, "pose2d", "num_frames"),
                          (config.graph, config.graph and config.graph.source, "num_frames")):
    if p:
      shape = (p.persons, getattr(p, frames), config.layout.num_joints)
      spec["pose_score"] = (shape, np.float32)
      spec[name] = ((*shape, 3 if name == "pose3d" else 2), np.float32)
  return {key: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
          for key, (shape, dtype) in spec.items()}


def parse_data(section: Mapping, path: str) -> DataConfig:
  """A data section with its nested sections."""
  section = configuration.to_dict(section)
  for key, cls in (("video", VideoConfig), ("pose", PoseConfig),
                   ("pose2d", Pose2dConfig),
                   ("graph", GraphConfig), ("about", own.Facts)):
    if section.get(key) is not None:
      section[key] = configuration.build(cls, section[key], f"{path}.{key}")
  # Dataclasses pass through `build` as they are.
  configuration.check_keys(section, {f.name for f in dataclasses.fields(DataConfig)}, path)
  try:
    return DataConfig(**{k: v for k, v in section.items() if v is not None})
  except TypeError as error:
    raise UserError(f"{path}: {error}") from error
