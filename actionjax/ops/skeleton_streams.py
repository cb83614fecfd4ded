"""What graph networks read of a skeleton: pre-normalised coordinates, and streams made of them.

The four streams and the two ways of normalising 3D and 2D skeletons are those of PYSKL, whose
published weights expect them.
"""
from collections.abc import Sequence
from typing import Literal, get_args

import jax.numpy as jnp
import numpy as np

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.ops import graphs, skeleton_frames
from actionjax.skeletons import Layout

Stream = Literal["joint", "bone", "joint_motion", "bone_motion"]
STREAMS = get_args(Stream)
Streams = Stream | tuple[Stream, ...]
BonePairs = Literal["tree", "released"]
NORMALISE_3D = ("upright", "translate", "align", "range", "none")
NORMALISE_2D = ("box", "image", "none")
Normalise = Literal["upright", "translate", "align", "range", "box", "image", "none"]

# Where the released bone streams part from the tree: (joint, parent) by layout.
RELEASED_PARENTS = {
    "kinect_v2_25": (("left_hand_tip", "left_thumb"), ("right_hand_tip", "right_thumb")),
    "coco_17": (("left_hip", "nose"), ("right_hip", "nose")),
    "openpose_18": (("nose", "nose"), ("neck", "nose")),
}


def bone_parents(layout: Layout, pairs: str = "released") -> np.ndarray:
  """The joint that each joint's bone starts from, int[J]; a bone from itself is zero.

  Args:
    pairs: "tree": the neighbour nearer to `graphs.centre_joint`; "released": the same but for
      `RELEASED_PARENTS`, as published bone-stream weights were trained.

  Raises:
    UserError: other `pairs`.
  """
  if pairs not in ("tree", "released"):
    raise UserError(f"pairs must be one of tree, released, got {pairs!r}")
  inward = graphs.spatial(layout)[1] > 0
  parents = np.where(inward.any(0), inward.argmax(0), np.arange(layout.num_joints))
  for joint, parent in RELEASED_PARENTS.get(layout.name, ()) if pairs == "released" else ():
    parents[layout.index(joint)] = layout.index(parent)
  return parents


def bones(x, parents, scored: bool = False):
  """Joint minus parent.

  Args:
    x: float[...,J,C].
    parents: int[J]; see `bone_parents`.
    scored: the last channel is a score, of which a bone has its two joints' mean.

  Returns:
    float[...,J,C].
  """
  start = x[..., parents, :]
  return _with_score(x - start, (x + start) / 2, scored)


def motion(x, scored: bool = False):
  """The next frame minus this one, zeros at the last; float[...,T,J,C] -> the same.

  `scored` as in `bones`: the mean of the two frames' scores (zero at the last frame too).
  """
  now, following = x[..., :-1, :, :], x[..., 1:, :, :]
  change = _with_score(following - now, (following + now) / 2, scored)
  return jnp.pad(change, [(0, 0)] * (x.ndim - 3) + [(0, 1), (0, 0), (0, 0)])


def _with_score(values, means, scored):
  return jnp.concatenate([values[..., :-1], means[..., -1:]], -1) if scored else values


def stream(x, name: str, layout: Layout, *, scored: bool = False, pairs: str = "released"):
  """One of `STREAMS` of skeletons, float[...,T,J,C] -> the same.

  Raises:
    UserError: another name.
  """
  if name not in STREAMS:
    raise UserError(f"stream must be one of {', '.join(STREAMS)}, got {name!r}")
  if name.startswith("bone"):
    x = bones(x, bone_parents(layout, pairs), scored)
  return motion(x, scored) if name.endswith("motion") else x


def upright(pose, score, layout: Layout):
  """Centres and turns 3D skeletons as PYSKL's PreNormalize3D does, without scaling.

  Everything is moved so that the first person's centre joint at the first frame is the origin,
  turned so that this person's lower spine points along z there, and once more so that the way
  from left to right shoulder points along x. Where a joint of an axis is missing, or it already
  points there (or the opposite way), that turn is left out. A clip whose first frame lacks the
  centre joint is seen from the first frame that has it; PYSKL drops the frames before.

  Args:
    pose: float[B,M,T,J,3] in metres.
    score: float[B,M,T,J], 0 for a missing joint.

  Returns:
    float[B,M,T,J,3]; missing joints are 0.

  Raises:
    UserError: a layout without centre or spine.
  """
  low, high = (layout.index(name) for name in layout.spine)
  left, right = layout.index("left_shoulder"), layout.index("right_shoulder")
  pose = skeleton_frames.translate(pose, score, layout)
  first = jnp.argmax(score[:, 0, :, layout.index(layout.centre)] > 0, axis=1)
  seen = jnp.take_along_axis(score[:, 0], first[:, None, None], axis=1)[:, 0] > 0
  for start, end, axis in ((low, high, (0.0, 0.0, 1.0)), (left, right, (1.0, 0.0, 0.0))):
    frame = jnp.take_along_axis(pose[:, 0], first[:, None, None, None], axis=1)[:, 0]
    usable = seen[:, start] & seen[:, end]
    direction = jnp.where(usable[:, None], frame[:, end] - frame[:, start], 0.0)
    pose = jnp.einsum("bcd,bmtjd->bmtjc", _turn_onto(direction, jnp.array(axis)), pose)
  return pose


def within_range(pose, score):
  """Each axis of a clip scaled to [-1, 1], over its persons, frames and joints.

  What graph networks read of Northwestern-UCLA (CTR-GCN and those after it): neither place nor size
  is left, only what a clip's extremes are to one another.

  Args:
    pose: float[B,M,T,J,3]. score: float[B,M,T,J], 0 for a missing joint.

  Returns:
    float[B,M,T,J,3]; missing joints are 0, and so is an axis along which nothing differs.
  """
  there = (score > 0)[..., None]
  low = jnp.where(there, pose, jnp.inf).min((1, 2, 3), keepdims=True)
  high = jnp.where(there, pose, -jnp.inf).max((1, 2, 3), keepdims=True)
  span = high - low
  usable = jnp.isfinite(span) & (span > 1e-6)
  scaled = 2 * (pose - jnp.where(usable, low, 0)) / jnp.where(usable, span, 1) - 1
  return jnp.where(there & usable, scaled, 0.0)


def _turn_onto(direction, axis):
  """The shortest turn that brings float[B,3] onto a unit vector float[3]; float[B,3,3]."""
  length = jnp.linalg.norm(direction, axis=-1, keepdims=True)
  unit = direction / jnp.maximum(length, 1e-6)
  sine = jnp.cross(unit, axis)
  cosine = (unit @ axis)[:, None, None]
  zero = jnp.zeros_like(sine[:, 0])
  x, y, z = sine.T
  skew = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(-1, 3, 3)
  turn = jnp.eye(3) + skew + skew @ skew / jnp.maximum(1 + cosine, 1e-12)
  clear = (jnp.abs(sine).sum(-1) > 1e-6) & (length[:, 0] > 1e-6)
  return jnp.where(clear[:, None, None], turn, jnp.eye(3))


def image_coordinates(pose, score, size: tuple[int, int]):
  """Pixels as shares of the half image, [-1, 1] (PYSKL's PreNormalize2D).

  Args:
    pose: float[...,J,2], (x, y). score: float[...,J]. size: (height, width) of the image.

  Returns:
    float[...,J,2]; joints with a score up to 0.01 are 0.
  """
  half = jnp.array([size[1] / 2, size[0] / 2])
  return jnp.where(score[..., None] > 0.01, (pose - half) / half, 0.0)


def box_coordinates(pose, score):
  """Pixels as shares of the half box around a clip's joints, [-1, 1] in x and in y.

  Needs no image size (PYSKL's PreNormalize2D in its mode "auto"). A box of at most ten pixels
  in either direction leaves the clip's coordinates alone.

  Args:
    pose: float[B,M,T,J,2]. score: float[B,M,T,J].

  Returns:
    float[B,M,T,J,2]; joints with a score up to 0.01 are 0.
  """
  there = score[..., None] > 0.01
  low = jnp.where(there, pose, jnp.inf).min((1, 2, 3), keepdims=True)
  high = jnp.where(there, pose, -jnp.inf).max((1, 2, 3), keepdims=True)
  fits = (high - low > 10).all(-1, keepdims=True)
  middle, half = jnp.where(fits, (low + high) / 2, 0.0), jnp.where(fits, (high - low) / 2, 1.0)
  return jnp.where(there, (pose - middle) / half, 0.0)


def inputs(layout: str, dimensions: int | None = None) -> tuple[str, ...]:
  """Names of the arrays that `graph_input` reads from a batch.

  Raises:
    UserError: other dimensions than 2 and 3.
  """
  dimensions = skeletons.layout(layout).dimensions if dimensions is None else dimensions
  if dimensions not in (2, 3):
    raise UserError(f"dimensions must be 2 or 3, got {dimensions}")
  return ("pose3d" if dimensions == 3 else "pose2d", "pose_score")


def graph_input(batch, layout: str, *, dimensions: int | None = None, normalise: str | None = None,
                stream_name: str | Sequence[str] = "joint", pairs: str = "released",
                image_size: tuple[int, int] = (1080, 1920), scores: bool = True):
  """What a graph network reads: one stream of normalised skeletons, or several.

  Args:
    batch: `pose3d` float[B,M,T,J,3] or `pose2d` float[B,M,T,J,2], and `pose_score`
      float[B,M,T,J].
    layout: name of the joint layout.
    dimensions: 3 reads `pose3d`; 2 reads `pose2d`, and the score becomes a third channel;
      None: the layout's.
    normalise: one of `NORMALISE_3D` (`upright` and, as "range", `within_range`; the others of
      `skeleton_frames`) or `NORMALISE_2D` ("box" and "image": `box_coordinates`,
      `image_coordinates`); None: the first of them.
    stream_name: one of `STREAMS`, or several, whose channels follow one another.
    pairs: see `bone_parents`. image_size: (height, width), for "image".
    scores: False leaves 2D skeletons without their scores.

  Returns:
    float32[B,M,T,J,C], three channels a stream or, in 2D without scores, two; absent persons are
    zeros.

  Raises:
    UserError: a normalisation or a stream that does not exist. ValueError: skeletons of another
      layout.
  """
  joints = skeletons.layout(layout)
  source, _ = inputs(layout, dimensions)
  dimensions = 3 if source == "pose3d" else 2
  pose, score = batch[source], batch["pose_score"]
  if pose.shape[-2] != joints.num_joints:
    raise ValueError(f"skeletons have {pose.shape[-2]} joints, layout {joints.name} has "
                     f"{joints.num_joints}")
  known = NORMALISE_3D if dimensions == 3 else NORMALISE_2D
  normalise = known[0] if normalise is None else normalise
  if normalise not in known:
    raise UserError(f"normalise must be one of {', '.join(known)} for {dimensions}D skeletons, "
                    f"got {normalise!r}")
  pose, score = pose.astype(jnp.float32), score.astype(jnp.float32)
  if normalise in ("translate", "align"):
    pose, _ = skeleton_frames.body_centred(pose, score, layout, normalise)
  elif normalise == "upright":
    pose = upright(pose, score, joints)
  elif normalise == "range":
    pose = within_range(pose, score)
  elif normalise == "image":
    pose = image_coordinates(pose, score, image_size)
  elif normalise == "box":
    pose = box_coordinates(pose, score)
  scored = dimensions == 2 and scores
  if scored:
    pose = jnp.concatenate([pose, score[..., None]], -1)
  names = (stream_name,) if isinstance(stream_name, str) else tuple(stream_name)
  streams = [stream(pose, name, joints, scored=scored, pairs=pairs) for name in names]
  return streams[0] if len(streams) == 1 else jnp.concatenate(streams, -1)
