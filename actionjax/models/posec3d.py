"""PoseC3D: skeletons drawn as heat maps, and a 3D network that sees nothing else (Duan et al.,
2022, arXiv:2104.13586, section 3).

The batch brings coordinates; drawing is the model's first line. Any backbone reads the volume:
Pose-SlowOnly (the dictionaries below, for `resnet3d`), `c3d` or `x3d`.
"""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax import annotations, configuration, skeletons
from actionjax.errors import UserError
from actionjax.models import backbones, checked
from actionjax.models.heads import ClassificationHead
from actionjax.ops import affine, heatmaps

# Pose-SlowOnly (table 2), the released "463": 1 994 080 parameters with 17 maps. Its temporal
# stride of 2 is missing in the table, but part of the 15.9 GFLOPs that the paper counts.
SLOWONLY = dict(name="resnet3d", block="bottleneck", stage_sizes=(4, 6, 3), width=32,
                kernels=("2d", "3x1x1", "3x1x1"), spatial_strides=(2, 2, 2),
                temporal_strides=(1, 1, 2), stem_strides=(1, 1, 1),
                stem_pool_strides=(1, 1, 1), zero_init=True)
# The one for Kinetics-400, 3 003 360 parameters.
SLOWONLY_346 = {**SLOWONLY, "stage_sizes": (3, 4, 6)}
# The narrow one for Volleyball (section 4.4.3), 508 336 parameters.
SLOWONLY_NARROW = {**SLOWONLY, "width": 16}
# Beside a colour network (section 3.4): all 32 frames stay.
SLOWONLY_FUSED = {**SLOWONLY, "temporal_strides": (1, 1, 1)}
# The order of the limbs' maps that PYSKL's and MMAction2's code has by default, for `Maps.limbs`.
# All released limb models were given another one, which is the layout's here.
MMACTION_LIMBS = ((0, 1), (0, 2), (1, 3), (2, 4), (0, 5), (5, 7), (7, 9), (0, 6), (6, 8), (8, 10),
                  (5, 11), (11, 13), (13, 15), (6, 12), (12, 14), (14, 16), (11, 12))
C3D = dict(name="c3d")
X3D = dict(name="x3d")


@dataclasses.dataclass(frozen=True)
class Maps:
  """How skeletons become a volume.

  Attributes:
    size: (H, W) of the maps. test_size: of those at test; None for the same.
    kind, sigma, merge, windows, use_scores: as in `ops.heatmaps.heatmaps`.
    limbs: pairs of joints that replace the layout's, in the order of the channels, which
      trained weights depend on.
    scale: factor from the batch's pixels to the maps', 0.25 for a video of 224 pixels and maps
      of 56.
    fill: instead scales and moves every clip so that its skeletons fill the maps; which it takes
      for `pose3d`.
    source: "pose2d", or "pose3d" for three views on the channel axis (footnote 3).
    rotate, stretch: of every clip in training, see `affine.random_affine`; each view has its own.
    shift: likewise, as a share of the maps' shorter side.
  """
  size: Sequence[int] = (56, 56)
  kind: heatmaps.Kind = "joint"
  sigma: float = 0.6
  merge: heatmaps.Merge = "max"
  windows: bool = True
  use_scores: bool = True
  limbs: Sequence[Sequence[int]] | None = None
  scale: float = 1.0
  fill: bool = False
  source: Literal["pose2d", "pose3d"] = "pose2d"
  test_size: Sequence[int] | None = None
  rotate: float = 0.0
  stretch: float = 0.0
  shift: float = 0.0

  def __post_init__(self):
    try:
      annotations.check_fields(self)
    except ValueError as error:
      raise UserError(f"model.maps.{error}") from None
    if self.source == "pose3d" and not self.fill:
      raise UserError("model.maps.fill must be True for pose3d, whose metres are not pixels")
    if self.sigma <= 0:
      raise UserError(f"model.maps.sigma must be above 0, got {self.sigma:g}")
    for field in ("size", "test_size"):
      sides = getattr(self, field)
      if sides is not None and (len(sides) != 2 or min(sides) < 1):
        raise UserError(f"model.maps.{field} must be (height, width), got {tuple(sides)}")
    for field in ("rotate", "stretch", "shift"):
      if getattr(self, field) < 0:
        raise UserError(f"model.maps.{field} must be 0 or more, got {getattr(self, field):g}")

  def check_pixels(self, size: Sequence[int], test_size: Sequence[int]) -> None:
    """Checks the (h, w) that a batch's coordinates are pixels of, in training and at test.

    Raises:
      UserError: the maps are not the same image at `scale`.
    """
    for field, maps, pixels in (("size", self.size, size),
                                ("test_size", self.test_size or self.size, test_size)):
      if not self.fill and tuple(maps) != tuple(round(side * self.scale) for side in pixels):
        raise UserError(f"model.maps.{field} is {tuple(maps)}, but data.pose2d.{field} "
                        f"{tuple(pixels)} times model.maps.scale {self.scale:g} is what the "
                        "skeletons lie in")

  @property
  def jitters(self) -> bool:
    """Whether drawing for training needs a random key."""
    return bool(self.rotate or self.stretch or self.shift)

  def draw(self, batch: Mapping[str, jax.Array], layout: str, *, train: bool,
           key: jax.Array | None = None) -> jax.Array:
    """The volume float32[B,T,h,w,K] of a batch's skeletons in a joint layout.

    (h, w) is `size` in training and `test_size` at test.

    Args:
      key: what `rotate`, `stretch` and `shift` are drawn with, where there are any.

    Raises:
      UserError: skeletons or limbs that are not the layout's.
    """
    size = self.size if train else self.test_size or self.size
    points, score = batch[self.source], batch["pose_score"]
    views = heatmaps.three_views(points) if self.source == "pose3d" else (points,)
    volumes = []
    for number, view in enumerate(views):
      view = heatmaps.fit(view, score, size) if self.fill else view * self.scale
      if train and self.jitters:
        keys = jax.random.split(jax.random.fold_in(key, number), len(view))
        view = affine.random_affine(view, [(side - 1) / 2 for side in reversed(size)], keys,
                                    rotate=self.rotate, stretch=self.stretch,
                                    shift=self.shift * min(size))
      try:
        volumes.append(heatmaps.heatmaps(
            view, score, size, skeletons.layout(layout), kind=self.kind, limbs=self.limbs,
            sigma=self.sigma, merge=self.merge, windows=self.windows, use_scores=self.use_scores))
      except ValueError as error:
        raise UserError(f"model.maps: {error}") from error
    return volumes[0] if len(volumes) == 1 else jnp.concatenate(volumes, -1)


def make_maps(fields: Mapping[str, Any]) -> Maps:
  """`Maps` of a config section. Raises UserError on unknown fields and values."""
  return configuration.build(Maps, dict(fields), "model.maps")


class Model(checked.Module):
  """Heat maps, a backbone, and a classifier on the mean.

  Attributes:
    num_classes: N.
    layout: joint layout of the skeletons.
    backbone: `name` of a module of `actionjax.models` with a `Backbone`, and its fields.
    maps: fields of `Maps`.
    dropout: before the classifier.
    dtype: compute type of the backbone; parameters and statistics are float32.
  """
  num_classes: int
  layout: str
  backbone: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(SLOWONLY))
  maps: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  dropout: float = 0.5
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return make_maps(self.maps).source, "pose_score"

  @property
  def parts(self) -> dict[str, type]:
    """Fields that are sections -> what each configures."""
    return {"maps": Maps, "backbone": backbones.find(self.backbone)}

  def check_pixels(self, size: Sequence[int], test_size: Sequence[int]) -> None:
    """See `Maps.check_pixels`."""
    make_maps(self.maps).check_pixels(size, test_size)

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `pose2d` float[B,M,T,V,2] in pixels (or `pose3d` float[B,M,T,V,3]), `pose_score`
        float[B,M,T,V].

    Returns:
      logits float32[B,N] and out: `heatmaps` float32[B,T,H,W,K], `features` [B,D] (what the
      classifier reads), `feature_map` [B,t,h,w,D], and the backbone's endpoints by name.
    """
    maps = make_maps(self.maps)
    volume = maps.draw(batch, self.layout, train=train,
                       key=self.make_rng("dropout") if train and maps.jitters else None)
    feature_map, endpoints = backbones.build(self.backbone, self.dtype)(volume, train=train)
    logits, features = ClassificationHead(self.num_classes, self.dropout, name="head")(
        feature_map, train=train)
    return logits, {**endpoints, "heatmaps": volume, "feature_map": feature_map,
                    "features": features}
