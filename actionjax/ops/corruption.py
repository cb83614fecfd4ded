"""Skeletons with joints missing, to train with and to test against (Duan et al., 2022, 4.4.2)."""
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from actionjax.errors import UserError
from actionjax.skeletons import Layout


def drop_limb_joints(pose: jax.Array, score: jax.Array, layout: Layout, probability: float,
                     keys: jax.Array) -> tuple[jax.Array, jax.Array]:
  """In every frame each person loses, with a probability, one joint of an arm or a leg.

  Which one is drawn evenly from `layout.limb_joints`. What is dropped grows with the probability:
  under the same keys, everything that is lost at 1/8 is lost at 1/4 as well.

  Args:
    pose: float[B,...,V,C], in 2D or 3D. score: float[B,...,V].
    layout: of the V joints.
    probability: in [0, 1].
    keys: one a clip, [B]: what a clip loses does not depend on the others of its batch.

  Returns:
    the same with zeros for the dropped joints, coordinates and score alike.
  """
  joints = jnp.asarray(layout.limb_joints)

  def draw(key):
    whether, which = jax.random.split(key)
    frames = score.shape[1:-1]
    loses = jax.random.uniform(whether, frames) < probability
    joint = joints[jax.random.randint(which, frames, 0, len(joints))]
    return loses[..., None] & (joint[..., None] == jnp.arange(layout.num_joints))

  dropped = jax.vmap(draw)(keys)
  return jnp.where(dropped[..., None], 0, pose), jnp.where(dropped, 0, score)


def drop_from_batch(batch: dict, layout: Layout, probability: float, keys: jax.Array) -> dict:
  """A batch whose `pose2d` or `pose3d`, and `pose_score`, went through `drop_limb_joints`."""
  changed = dict(batch)
  for name in ("pose2d", "pose3d"):
    if name in batch:
      changed[name], changed["pose_score"] = drop_limb_joints(
          batch[name], batch["pose_score"], layout, probability, keys)
  return changed


def check(probability: float, path: str, inputs: Sequence[str] | None = None,
          motion: bool = False) -> None:
  """Checks a config's probability of dropping joints.

  Args:
    path: its place in the config.
    inputs: names of the arrays that the model reads; None: not known yet.
    motion: whether they are differences of frames, in which a missing joint leaves two marks.

  Raises:
    UserError: it does not lie in [0, 1], or is not 0 for a model that reads motion or no skeletons.
  """
  if not 0 <= probability <= 1:
    raise UserError(f"{path} must lie in [0, 1], got {probability}")
  if probability and inputs is not None and "pose_score" not in inputs:
    raise UserError(f"{path}: the model reads no skeletons")
  if probability and motion:
    raise UserError(f"{path}: data.graph.motion is taken before joints are dropped; use a stream "
                    "of joints or bones")
