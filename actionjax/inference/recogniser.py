"""A trained model that classifies clips, from its checkpoint alone."""
import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from actionjax import models, skeletons
from actionjax.data.clips import skeleton_arrays
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, parse_data
from actionjax.errors import UserError
from actionjax.evaluators import classification
from actionjax.ops import compilation, memory
from actionjax.training import checkpoint


@dataclasses.dataclass
class Recogniser:
  """A model with its preprocessing.

  Attributes:
    model: the linen module; variables: its {"params", "batch_stats"}.
    class_names: of its N classes.
    layout: joint layout that its skeletons must have; None for a dataset without any.
    data: how clips are sampled, cropped and resized; see `DataConfig`.
    views: how a clip is shown: as in the evaluation of the run that trained the model.
  """
  model: Any
  variables: dict
  class_names: Sequence[str]
  layout: skeletons.Layout | None
  data: DataConfig
  views: classification.ViewConfig

  def __post_init__(self):
    self._transform = ClipTransform(self.data, views=self.views.temporal,
                                             crops=self.views.crops, flips=self.views.flips)
    self._forward = jax.jit(lambda v, b: self.model.apply(v, b, train=False),
                            compiler_options=compilation.compiler_options())

  @functools.cached_property
  def _step(self):
    """Made when it is first called: counting what the network needs takes a trace of it."""
    return classification.make_view_step(
        self.model, self.views, mirror_classes=self.data.mirror_classes, budget=memory.budget(),
        needed=classification.view_bytes(self.model, self.variables, self.data))

  def __call__(self, clip: dict) -> np.ndarray:
    """Class probabilities of one clip.

    Args:
      clip: a record of a prepared dataset (`dataset[i]`), or arrays: `frames` uint8[T,H,W,3]
        in RGB or uint16[T,H,W] depth in millimetres (with `depth_range`, its near and far
        end), `pose3d` float[M,T,J,3] in metres or `pose2d` float[M,T,J,2] in pixels and
        optionally `pose_score` [M,T,J], `image_size` (height, width) that `pose2d` is measured
        in, `boxes` [T,4]; what the model does not read may be missing.

    Returns:
      float32[N].

    Raises:
      UserError: something that the model reads is missing, or has another shape.
    """
    row = self._transform.test(self._complete(clip))
    batch = {key: value[None] for key, value in row.items()}
    return np.asarray(self._step(self.variables, batch)[0])[0]

  def outputs(self, clip: dict) -> tuple[np.ndarray, dict]:
    """Logits float32[V,N] and every intermediate `out` of the V views of one clip."""
    row = self._transform.test(self._complete(clip))
    views = [jax.device_get(self._forward(self.variables, {
        key: row[key][number:number + 1] for key in self.model.inputs}))
             for number in range(len(row[self.model.inputs[0]]))]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *views)

  def network_inputs(self, clip: dict) -> dict:
    """What the network sees of a clip: `video` uint8[V,T,h,w,C], `pose3d` [V,M,t,J,3], ..."""
    row = self._transform.test(self._complete(clip))
    return {key: row[key] for key in self.data.arrays}

  def _complete(self, clip: dict) -> dict:
    """Checks a clip and fills in what may be left out."""
    clip = {"label": 0, "clip_id": "clip", "boxes": np.zeros((0, 4), np.float32),
            "depth_range": np.zeros(2, np.float32), **clip}
    reads = self.data.reads
    if "frames" in reads and not len(clip.get("frames", ())):
      raise UserError("the clip has no frames, which this model reads")
    if "pose3d" in reads:
      self._complete_pose(clip, "pose3d", 3)
    if "pose2d" in reads:
      self._complete_pose(clip, "pose2d", 2)
      _complete_size(clip)
    return clip

  def _complete_pose(self, clip: dict, name: str, width: int) -> None:
    """Checks a clip's skeletons; joints that are no numbers, or all 0 in 2D, become missing."""
    if name not in clip:
      raise UserError(f"the clip has no {name}, which this model reads")
    pose = np.asarray(clip[name], np.float32)
    if pose.ndim != 4 or pose.shape[1] < 1 or pose.shape[2:] != (self.layout.num_joints, width):
      raise UserError(f"{name} has shape {pose.shape}; this model reads [M, T, "
                      f"{self.layout.num_joints}, {width}] in the layout {self.layout.name}")
    there = np.isfinite(pose).all(-1)
    if width == 2:
      there &= (pose != 0).any(-1)
    given = clip.get("pose_score")
    if given is not None and np.shape(given) != pose.shape[:3]:
      raise UserError(f"pose_score has shape {np.shape(given)}; {name} is {pose.shape}")
    score = np.where(there, 1.0 if given is None else np.nan_to_num(given), 0)
    clip["pose_score"] = score.astype(np.float32)
    clip[name] = np.where(clip["pose_score"][..., None] > 0, pose, 0).astype(np.float32)


def _complete_size(clip: dict) -> None:
  """Checks the size that 2D skeletons are measured in; that of the frames, if it is left out."""
  size = np.ravel(clip.get("image_size", (0, 0))).astype(int)
  if size.shape != (2,) or (size < 0).any():
    raise UserError(f"image_size must be (height, width), got {clip['image_size']}")
  height, width = size.tolist()
  if skeleton_arrays.size_is_swapped(clip["pose2d"], clip["pose_score"], (height, width)):
    raise UserError(f"image_size ({height}, {width}) must be (height, width), but by the "
                    "coordinates it is (width, height)")
  frames = clip.get("frames", ())
  if not size.all() and len(frames) and not isinstance(frames[0], bytes):
    size = np.shape(frames[0])[:2]
  clip["image_size"] = size


def load(path: str | pathlib.Path) -> Recogniser:
  """The model of a run's workdir, of one of its steps, or of a model directory.

  Raises:
    UserError: there is no finished model, or only converted weights.
  """
  directory = checkpoint.find_model(path)
  variables, description = checkpoint.load_model(directory)
  if "class_names" not in description:
    raise UserError(f"{directory} holds weights to start a training from (init_from), not a "
                    "classifier")
  model = models.from_description(description)
  return Recogniser(
      model=model, variables=variables, class_names=tuple(description["class_names"]),
      layout=skeletons.layout(description["layout"]) if description["layout"] else None,
      data=parse_data(description["data"], "the checkpoint's data"),
      views=classification.ViewConfig(**description["views"]))
