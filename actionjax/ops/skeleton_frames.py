"""Body-centred coordinates of 3D skeletons."""
import jax.numpy as jnp
import numpy as np

from actionjax import skeletons
from actionjax.skeletons import Layout


def translate(pose, score, layout: Layout):
  """Subtracts the first person's centre at the first frame from everything.

  The released P-I3D and VPN loaders do this and nothing else (joint 2 of Kinect v2, the spine). The
  centre is the middle of the hips where a layout has no joint for it. Clips whose first frame lacks
  it use the first frame that has it.

  Args:
    pose: float[B,M,T,J,3] in metres.
    score: float[B,M,T,J], 0 for a missing joint.

  Returns:
    float[B,M,T,J,3]; missing joints are 0.
  """
  joints = np.array([layout.index(name) for name in layout.middle])
  present = (score[:, 0][..., joints] > 0).all(-1)
  first = jnp.argmax(present, axis=1)
  middle = pose[:, 0][:, :, joints].mean(2)
  origin = jnp.take_along_axis(middle, first[:, None, None], axis=1)
  moved = pose - origin[:, :, None, None]
  return jnp.where(score[..., None] > 0, moved, 0.0)


def align(pose, score, layout: Layout):
  """Translates, turns and scales each skeleton into its first frame's body axes.

  X points from the right hip to the left, Y up the spine, the unit is the length of the lower
  spine (Das' thesis, section 3.3, after the NTU RGB+D protocol); the axes are those of the
  first person's first frame.

  Args, Returns: as `translate`, without unit.
  """
  low, high = (layout.index(name) for name in layout.spine)
  left, right = layout.index("left_hip"), layout.index("right_hip")
  frame = pose[:, 0, 0]
  up = frame[:, high] - frame[:, low]
  length = jnp.linalg.norm(up, axis=-1, keepdims=True)
  up = up / jnp.maximum(length, 1e-6)
  across = frame[:, left] - frame[:, right]
  across = across - (across * up).sum(-1, keepdims=True) * up
  across = across / jnp.maximum(jnp.linalg.norm(across, axis=-1, keepdims=True), 1e-6)
  forward = jnp.cross(across, up)
  axes = jnp.stack([across, up, forward], axis=-1)
  # A first frame without these joints has no axes: such a clip is translated only.
  usable = (score[:, 0, 0][:, jnp.array([low, high, left, right])] > 0).all(-1)
  axes = jnp.where(usable[:, None, None], axes, jnp.eye(3))
  scale = jnp.where(usable[:, None], jnp.maximum(length, 1e-3), 1.0)
  moved = translate(pose, score, layout)
  return jnp.einsum("bmtjc,bcd->bmtjd", moved, axes) / scale[:, None, None, None]


def body_centred(pose, score, layout: str, normalise: str):
  """Skeletons as pose networks read them, and which persons are there.

  Args:
    pose: float[B,M,T,J,3] in metres.
    score: float[B,M,T,J], 0 for a missing joint.
    layout: name of the joint layout.
    normalise: "translate" or "align".

  Returns:
    float[B,M,T,J,3] and bool[B,M].

  Raises:
    ValueError: skeletons of another layout, or an unknown `normalise`.
  """
  frames = {"translate": translate, "align": align}
  if normalise not in frames:
    raise ValueError(f"normalise must be one of translate, align, got {normalise!r}")
  joints = skeletons.layout(layout)
  if pose.shape[3] != joints.num_joints:
    raise ValueError(f"skeletons have {pose.shape[3]} joints, layout {layout} has "
                     f"{joints.num_joints}")
  return frames[normalise](pose, score, joints), (score > 0).any((2, 3))
