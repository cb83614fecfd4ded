"""From a record's skeletons to what released graph networks read (PYSKL's and MMAction2's pipelines
for ST-GCN, ST-GCN++ and MS-G3D).

A whole sequence is normalised, and its motion taken, before frames are drawn from it: all clips of
a video share one origin and one direction, and motion is that of consecutive frames, however far
apart the drawn ones are.
"""
import dataclasses
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from actionjax.data.loading import inputs, pose_sampling, sampling, transforms
from actionjax.errors import UserError
from actionjax.skeletons import Layout

# Whose pipeline: "mmaction0" is that of MMAction2 before its version 1.
Released = Literal["pyskl", "mmaction2", "mmaction0"]
# Scores up to this are missing joints for PreNormalize2D, which puts them into the middle.
# MMAction2 leaves them where they are: one at (0, 0) becomes (-1, -1).
THRESHOLDS = {"pyskl": 0.01, "mmaction2": None, "mmaction0": None}


@dataclasses.dataclass(frozen=True)
class Config(inputs.Input):
  """How skeletons become normalised `pose3d` float32[M,T,J,3] or `pose2d` [M,T,J,2].

  `pose_score` float32[M,T,J] comes with them. Networks take all of it as it is: with
  `normalise="none"`.

  Attributes:
    num_frames: T; drawn as in `pose_sampling.uniform_frames`.
    persons: M, as in the released code the first ones as stored (in 3D the one seen longest before
      them); absent persons are zeros with score 0.
    dimensions: 3 reads `pose3d`, and moves and turns it as `upright` does; 2 reads `pose2d`, in
      shares of the half image.
    image_size: (height, width) that 2D skeletons are measured in where a record does not say.
    motion: the next frame minus this one instead of the coordinates, and in 2D the mean of both
      frames' scores; zeros at the last frame.
    frames: whose pipeline: test clips, and what becomes of joints with low scores: "pyskl",
      "mmaction2", or "mmaction0" for ST-GCN of MMAction2 before its version 1. That one reads the
      first frames, over and over where there are fewer, of skeletons that nothing is done to but,
      in 2D, to count them from the middle of `image_size` in its shares, and scores from 0.5.
    box: 2D coordinates are instead shares of the half box around all of a clip's joints, unless
      that is ten pixels or less in a direction (PreNormalize2D's mode "auto", PYSKL's for hands).
    threshold: 2D joints with a score up to this are put into the middle of the image, instead of
      those that `frames` says; MMAction2's latest versions have 0.
  """
  num_frames: int = 100
  persons: int = 2
  dimensions: Literal[2, 3] = 3
  image_size: tuple[int, int] = (1080, 1920)
  motion: bool = False
  frames: Released = "pyskl"
  box: bool = False
  threshold: float | None = None

  def __post_init__(self):
    super().__post_init__()
    if self.frames == "mmaction0" and (self.motion or self.box or self.threshold is not None):
      raise ValueError("frames=mmaction0 goes with neither motion nor box nor threshold, which "
                       "MMAction2 does not have there")
    if min(self.image_size) < 1:
      raise ValueError(f"image_size must be (height, width), got {self.image_size}")
    for field in ("num_frames", "persons"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")

  @property
  def source(self) -> str:
    """The field of a record that is read, and the array that it becomes."""
    return f"pose{self.dimensions}d"

  @property
  def arrays(self) -> tuple[str, str]:
    """See `inputs.Input`."""
    return self.source, "pose_score"

  reads = arrays

  def check_model(self, model, layout: Layout | None, path: str) -> None:
    """Raises UserError where a model takes other skeletons than normalised ones, or these cannot be
    made."""
    if "pose_score" not in model.inputs:
      return
    if self.dimensions == 3 and self.frames != "mmaction0":
      _ = layout.spine, layout.centre  # which raise where there are none
    if not hasattr(model, "normalise"):
      raise UserError(f"{path}: data.graph yields normalised skeletons for graph networks, but the "
                      "model draws them in pixels; give data.pose2d instead")
    if model.normalise != "none":
      raise UserError(f"{path}.model.normalise must be none: {path}.data.graph yields normalised "
                      "skeletons")
    streams = getattr(model, "stream", ())
    for stream in (streams,) if isinstance(streams, str) else streams:
      if stream.endswith("_motion"):
        raise UserError(f"{path}.model.stream={stream}: beside {path}.data.graph give "
                        f"data.graph.motion=True and stream={stream.removesuffix('_motion')}, "
                        "so that the motion is that of consecutive frames")


class Clip(NamedTuple):
  """A whole normalised clip: points float32[M,T,J,D], score float32[M,T,J]."""
  points: np.ndarray
  score: np.ndarray

  @property
  def num_frames(self) -> int:
    """T, at least 1."""
    return self.points.shape[1]


def normalised(config: Config, record: dict, layout: Layout) -> Clip:
  """The normalised skeletons of a record.

  Raises:
    UserError: it has none, or others than the layout's; a layout without centre or spine, in 3D.
  """
  transforms.check_skeletons(record, layout, config.source, "data.graph")
  points = np.asarray(record[config.source], np.float32)
  score = np.asarray(record["pose_score"], np.float32)
  finite = np.isfinite(points).all(-1)
  points, score = np.where(finite[..., None], points, 0), np.where(finite, score, 0)
  if config.frames == "mmaction0":
    return Clip(points, score)
  if config.dimensions == 3:
    points, score = upright(points, score, layout)
  else:
    threshold = THRESHOLDS[config.frames] if config.threshold is None else config.threshold
    there = np.full(score.shape, True) if threshold is None else score > threshold
    middle, half = _frame(config, record, points[there])
    points = np.where(there[..., None], (points - middle) / half, 0)
  if config.motion:
    points = _next(points) - points
    points[:, -1] = 0
    if config.dimensions == 2:
      score = (_next(score) + score) / 2
      score[:, -1] = 0
  return Clip(points.astype(np.float32), score.astype(np.float32))


def _frame(config, record, joints):
  """Middle and half size, float32[2] each, of what 2D coordinates are shares of."""
  if config.box:
    if not len(joints):
      return np.zeros(2, np.float32), np.ones(2, np.float32)
    low, high = joints.min(0), joints.max(0)
    if (high - low <= 10).any():
      return np.zeros(2, np.float32), np.ones(2, np.float32)
    return (low + high) / 2, (high - low) / 2
  height, width = (int(side) for side in record.get("image_size", (0, 0)))
  if min(height, width) < 1:
    height, width = config.image_size
  half = np.array([width / 2, height / 2], np.float32)
  return half, half


def upright(points: np.ndarray, score: np.ndarray, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
  """3D skeletons as PreNormalize3D leaves them.

  The person seen in most frames comes first, and frames without that person are dropped. In the
  first frame left, this person's centre joint becomes the origin; the lower spine then points along
  z and, after one more turn, the way from left to right shoulder along x, unless a joint of these
  is missing there or they point the opposite way already. Nothing is scaled.

  Args:
    points: float32[M,T,J,3] in metres. score: float32[M,T,J], 0 for a missing joint.

  Returns:
    points float64[M,T',J,3], missing joints at 0, and score float32[M,T',J].

  Raises:
    UserError: a layout without centre or spine.
  """
  low, high = (layout.index(name) for name in layout.spine)
  left, right = layout.index("left_shoulder"), layout.index("right_shoulder")
  centre = layout.index(layout.centre)
  seen = (score > 0).any(-1)
  points = np.where(score[..., None] > 0, points, 0).astype(np.float64)
  if not seen.any():
    return points, score
  main = int(seen.sum(1).argmax())
  order = [main, *(person for person in range(len(points)) if person != main)]
  points, score = points[order][:, seen[main]], score[order][:, seen[main]]
  # Kinects miss whole persons; other sensors may miss the centre alone, which is no origin then.
  first = int((score[0, :, centre] > 0).argmax())
  points = np.where(score[..., None] > 0, points - points[0, first, centre], 0)
  for start, end, axis in ((low, high, (0, 0, 1)), (left, right, (1, 0, 0))):
    if score[0, first, start] > 0 and score[0, first, end] > 0:
      turn = _turn_onto(points[0, first, end] - points[0, first, start], np.array(axis))
      points = points @ turn.T
  return points, score


def spec(config: Config, layout: Layout, test: bool) -> dict:
  """See `inputs`."""
  shape = (config.persons, config.num_frames, layout.num_joints)
  return {config.source: ((*shape, config.dimensions), np.float32),
          "pose_score": (shape, np.float32)}


def draw(config: Config, record: dict, shared: inputs.Shared,
         rng: np.random.Generator) -> tuple[Clip, np.ndarray]:
  """The normalised clip, and frames int[T] of a part of it."""
  clip = normalised(config, record, shared.layout)
  first, length = sampling.cut(clip.num_frames, shortest=shared.shortest, draws=shared.interval)
  if config.frames == "mmaction0":
    return clip, first + _looped(length, config.num_frames)
  return clip, first + pose_sampling.uniform_frames(length, config.num_frames, rng)


def views(config: Config, record: dict,
          shared: Sequence[inputs.Shared]) -> list[tuple[Clip, np.ndarray]]:
  """As `draw`, one pair for each of the released code's test clips."""
  clip = normalised(config, record, shared[0].layout)
  if config.frames == "mmaction0":
    return [(clip, _looped(clip.num_frames, config.num_frames)) for _ in shared]
  return [(clip, frames) for frames in pose_sampling.test_frames(
      clip.num_frames, config.num_frames, len(shared), config.frames)]


def apply(config: Config, record: dict, shared: inputs.Shared,
          choice: tuple[Clip, np.ndarray]) -> dict:
  """`pose3d` or `pose2d` float32[M,T,J,D] and `pose_score` float32[M,T,J] of some frames."""
  clip, frames = choice
  first = Clip(*(part[:config.persons] for part in clip))
  points, score = transforms.pick_pose(*first, frames, config.persons)
  if config.frames == "mmaction0" and config.dimensions == 2:
    # PoseNormalize, which sees persons that are not there too.
    size = np.array(config.image_size[::-1], np.float32)
    points, score = points / size - np.float32(0.5), score - np.float32(0.5)
  if shared.mirror:
    points, score = (transforms.mirror_pose(points, shared.layout),
                     score[..., shared.layout.mirror])
  return {config.source: points, "pose_score": score}


def _looped(num_frames, length):
  """The first frames, int[length], from the start again where there are fewer (PaddingWithLoop)."""
  return np.arange(length) % num_frames


def _next(x):
  """Each frame's successor, [M,T,...]; the last frame's is itself."""
  return np.concatenate([x[:, 1:], x[:, -1:]], 1)


def _turn_onto(direction, axis):
  """The shortest turn that brings float[3] onto a unit vector; the identity of opposites."""
  cross = np.cross(direction, axis)
  size = np.linalg.norm(cross)
  if size < 1e-6:
    return np.eye(3)
  return Rotation.from_rotvec(cross / size * np.arctan2(size, direction @ axis)).as_matrix()
