"""What a batch must be, checked where it enters a compiled step.

The checks look at shapes and types alone: they run while a step is traced, and cost nothing
afterwards.
"""
from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from actionjax import skeletons

# Training steps are also measured where nothing but the networks' own libraries is installed.
try:
  import chex
except ModuleNotFoundError:
  chex = None

# Name -> kind of numbers, and axes: B clips, V views of each, M persons, J joints, T frames (Tv of
# the video), H x W pixels of C channels. One letter is one size, wherever it stands.
_OF_CLIPS = {"label": (int, "B"), "valid": (float, "B")}
_OF_VIEWS = {
    "video": (jnp.uint8, "B", "Tv", "H", "W", "C"),
    "pose3d": (float, "B", "M", "T", "J", 3),
    "pose2d": (float, "B", "M", "T", "J", 2),
    "pose_score": (float, "B", "M", "T", "J")}


def check_batch(batch: Mapping, *, reads: Sequence[str] = (), layout: str | None = None,
                views: int | None = None) -> None:
  """Checks a batch's arrays: `video` uint8[B,Tv,H,W,C], `pose3d` float[B,M,T,J,3], `pose2d`
  float[B,M,T,J,2], `pose_score` float[B,M,T,J], `label` int[B], `valid` float[B].

  What else there is may be anything. Without chex, shapes are not checked.

  Args:
    batch: arrays, or what has their shapes and types.
    reads: names that must be there.
    layout: joint layout, whose number of joints J must be; None or "" for any.
    views: V; where it is given, what models read has a second axis, of the views of a clip.

  Raises:
    AssertionError: one of them is not; the message names it.
  """
  lacking = sorted(set(reads) - set(batch))
  if lacking:
    raise AssertionError(f"the batch lacks {', '.join(lacking)}, which the model reads; it has "
                         f"{', '.join(sorted(batch))}")
  sizes = {} if not layout else {"J": skeletons.layout(layout).num_joints}
  if views is not None:
    sizes["V"] = views
  for name, (kind, *axes) in (_OF_CLIPS | _OF_VIEWS).items():
    if chex is None or name not in batch:
      continue
    if views is not None and name in _OF_VIEWS:
      axes.insert(1, "V")
    value = batch[name]
    known = "".join(f", {axis} = {sizes[axis]}" for axis in axes if axis in sizes)
    wanted = (f"batch[{name!r}] must be {getattr(kind, '__name__', kind)}"
              f"[{','.join(map(str, axes))}]{known}; got {value.dtype.name}"
              f"[{','.join(map(str, value.shape))}]")
    chex.assert_type(value, kind, custom_message=wanted)
    chex.assert_shape(value, tuple(sizes.get(axis) if isinstance(axis, str) else axis
                                   for axis in axes), custom_message=wanted)
    sizes |= {axis: size for axis, size in zip(axes, value.shape) if isinstance(axis, str)}
