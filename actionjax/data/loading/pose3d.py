"""From a record's 3D skeletons to what a network reads in metres: poses out of equal parts of the
clip, as Das' works sample them."""
import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from actionjax.data.loading import inputs, sampling, transforms
from actionjax.skeletons import Layout


@dataclasses.dataclass(frozen=True)
class Config(inputs.Input):
  """How a clip's 3D skeletons become `pose3d` float32[M,t,J,3] and `pose_score` [M,t,J].

  Attributes:
    num_poses: t.
    sampling: "chunks": one frame out of each of t equal chunks of the clip; "drawn": training draws
      t frames of it with replacement and sorts them, test takes them evenly spaced.
    persons: M, of more the `transforms.main_persons`; absent persons are zeros with score 0.
    rotate: training turns the skeleton about the vertical by up to this many degrees.
    tilt: and about the horizontal axis across the image, by up to this many.
    scale: training multiplies sizes by a factor between these two.
  """
  num_poses: int
  sampling: Literal["chunks", "drawn"] = "chunks"
  persons: int = 1
  rotate: float = 0.0
  tilt: float = 0.0
  scale: tuple[float, float] = (1.0, 1.0)

  arrays: ClassVar = ("pose3d", "pose_score")
  reads: ClassVar = ("pose3d", "pose_score")

  def __post_init__(self):
    super().__post_init__()
    for field in ("num_poses", "persons"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
    if not 0 < self.scale[0] <= self.scale[1]:
      raise ValueError(f"scale must be two rising factors above 0, got {self.scale}")


class Choice(NamedTuple):
  """The place of each pose in its chunk, or in the whole clip where they are drawn, float[t] in
  [0, 1); the tilt, in [-1, 1]; and the factor of sizes."""
  places: np.ndarray
  tilt: float = 0.0
  scale: float = 1.0


def spec(config: Config, layout: Layout, test: bool) -> dict:
  """See `inputs`."""
  shape = (config.persons, config.num_poses, layout.num_joints)
  return {"pose3d": ((*shape, 3), np.float32), "pose_score": (shape, np.float32)}


def draw(config: Config, record: dict, shared: inputs.Shared,
         rng: np.random.Generator) -> Choice:
  """All that is random."""
  return Choice(rng.random(config.num_poses), rng.uniform(-1, 1), rng.uniform(*config.scale))


def views(config: Config, record: dict, shared: Sequence[inputs.Shared]) -> list[Choice]:
  """As `draw`: all poses of a view lie at the same place of their chunks."""
  spaced = lambda view: (np.arange(config.num_poses) + view.position) / config.num_poses
  return [Choice(spaced(view) if config.sampling == "drawn" else
                 np.full(config.num_poses, view.position)) for view in shared]


def apply(config: Config, record: dict, shared: inputs.Shared, choice: Choice) -> dict:
  """`pose3d` float32[M,t,J,3] in metres and `pose_score` float32[M,t,J].

  Raises:
    UserError: the record lacks skeletons, or has another layout's.
  """
  transforms.check_skeletons(record, shared.layout, "pose3d", "data.pose")
  pose, score = record["pose3d"], record["pose_score"]
  first, length = sampling.cut(pose.shape[1], shortest=shared.shortest, draws=shared.interval)
  picks = first + (sampling.chunks(length, config.num_poses, choice.places)
                   if config.sampling == "chunks" else sampling.drawn(length, choice.places))
  pose, score = transforms.pick_pose(pose, score, picks, config.persons)
  if config.rotate:
    pose = transforms.turn_pose3d(pose, score, np.deg2rad(config.rotate) * shared.turn)
  if config.tilt:
    pose = transforms.turn_pose3d(pose, score, np.deg2rad(config.tilt) * choice.tilt, axis="x")
  if config.scale != (1.0, 1.0):
    pose = pose * np.float32(choice.scale)
  if shared.mirror:
    pose, score = transforms.mirror_pose(pose, shared.layout), score[..., shared.layout.mirror]
  return {"pose3d": pose, "pose_score": score}
