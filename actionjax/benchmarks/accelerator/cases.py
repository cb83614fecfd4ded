"""The networks that are measured: paper sizes, and small ones that try the whole thing on a CPU."""
import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np

from actionjax import models, skeletons
from actionjax.models import posec3d
from actionjax.training import losses
from actionjax.training.optim import OptimConfig

_SGD = dict(name="sgd", learning_rate=1e-3, momentum=0.9, weight_decay=3e-4, decay_all=True)


@dataclasses.dataclass(frozen=True)
class Case:
  """A network, what it reads, and how it is trained.

  Attributes:
    title: for tables.
    model: section of the model; `dtype` is set by `build`.
    classes: N.
    layout: of the skeletons.
    batch_size: clips.
    video: [T,H,W,C] of the video, or ().
    pose: name of the skeletons' array ("pose2d", "pose3d") and [M,T] of it, or ().
    side: pixels of the image that `pose2d` lies in.
    loss: name and arguments.
    optim: fields of `OptimConfig`.
    small: fields that replace these on a CPU.
  """
  title: str
  model: Mapping[str, Any]
  classes: int
  layout: str
  batch_size: int
  video: tuple[int, ...] = ()
  pose: tuple = ()
  side: int = 56
  loss: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(name="cross_entropy"))
  optim: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(_SGD))
  small: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _superclasses(classes: int, *counts: int) -> tuple[tuple[int, ...], ...]:
  return tuple(tuple(label * count // classes for label in range(classes)) for count in counts)


_I3D_SMALL = dict(width=0.25, final_endpoint="Mixed_3b")
_RESNET_SMALL = dict(block="basic", stage_sizes=(1, 1, 1, 1), width=8)
_HAC = Case(
    "HAC ResNet-50, 8x224x224", dict(name="video_network", backbone=dict(name="resnet3d", depth=50),
                                     levels=(2, 6, 20)),
    60, "kinect_v2_25", 32, video=(8, 224, 224, 3),
    loss=dict(name="hierarchical", weights=(0.125, 0.25, 0.5, 1.0),
              superclasses=_superclasses(60, 2, 6, 20)),
    optim=dict(name="adam", learning_rate=1e-4),
    small=dict(batch_size=2, video=(4, 32, 32, 3),
               model=dict(name="video_network", levels=(2, 6, 20),
                          backbone=dict(name="resnet3d", **_RESNET_SMALL))))

# By name, the most important first.
CASES: dict[str, Case] = {
    "posec3d": Case(
        "Pose-SlowOnly, 48x56x56, maps drawn", dict(name="posec3d", backbone=posec3d.SLOWONLY),
        60, "coco_17", 64, pose=("pose2d", 2, 48), optim=dict(_SGD, clip_norm=40.0),
        small=dict(batch_size=2, pose=("pose2d", 2, 8), side=16, model=dict(
            name="posec3d", maps=dict(size=(16, 16)),
            backbone={**posec3d.SLOWONLY, "stage_sizes": (1, 1, 1), "width": 8}))),
    "i3d_resnet50": Case(
        "I3D-ResNet-50, 8x224x224",
        dict(name="video_network", backbone=dict(name="resnet3d", depth=50)), 60,
        "kinect_v2_25", 32, video=(8, 224, 224, 3), optim=dict(name="adam", learning_rate=1e-4),
        small=dict(batch_size=2, video=(4, 32, 32, 3), model=dict(
            name="video_network", backbone=dict(name="resnet3d", **_RESNET_SMALL)))),
    "vpn": Case(
        "VPN on Inception I3D, 64x224x224", dict(
            name="vpn", backbone=dict(name="i3d"), pose=dict(name="gcn"), dropout=0.3),
        120, "kinect_v2_25", 8, video=(64, 224, 224, 3), pose=("pose3d", 2, 20),
        loss=dict(name="vpn"), optim=dict(name="adam", learning_rate=1e-4),
        small=dict(batch_size=2, video=(8, 32, 32, 3), model=dict(
            name="vpn", backbone=dict(name="i3d", **_I3D_SMALL), dropout=0.3,
            pose=dict(name="gcn", features=16, conv_features=(16, 16, 16))))),
    "hac": _HAC,
    "rgbpose": Case(
        "RGBPose-SlowFast, 8x224x224 and 32x56x56", dict(name="rgbpose"), 60, "coco_17", 8,
        video=(8, 224, 224, 3), pose=("pose2d", 2, 32), side=224, loss=dict(name="two_stream"),
        optim=dict(_SGD, clip_norm=40.0),
        small=dict(batch_size=2, video=(2, 64, 64, 3), pose=("pose2d", 2, 8), side=64, model=dict(
            name="rgbpose", maps=dict(size=(16, 16), scale=0.25),
            rgb=dict(name="resnet3d", block="bottleneck", stage_sizes=(1, 1, 1), width=8,
                     kernels=("2d", "2d", "3x1x1"), spatial_strides=(1, 2, 2),
                     temporal_strides=(1, 1, 1)),
            pose={**posec3d.SLOWONLY_FUSED, "stage_sizes": (1, 1), "width": 8,
                  "kernels": ("2d", "3x1x1"), "spatial_strides": (2, 2),
                  "temporal_strides": (1, 1)}))),
    "stgcnpp": Case(
        "ST-GCN++, 100 frames", dict(name="stgcn"), 60, "kinect_v2_25", 128,
        pose=("pose3d", 2, 100), optim=dict(_SGD, nesterov=True),
        small=dict(batch_size=2, pose=("pose3d", 2, 16), model=dict(
            name="stgcn", width=12, stage_sizes=(1,)))),
    "msg3d": Case(
        "MS-G3D, 100 frames", dict(name="msg3d"), 60, "kinect_v2_25", 128,
        pose=("pose3d", 2, 100), optim=dict(_SGD, nesterov=True),
        small=dict(batch_size=2, pose=("pose3d", 2, 16), model=dict(
            name="msg3d", width=12, scales=2, window_scales=2, windows=(3,)))),
}


def case(name: str, small: bool) -> Case:
  """The case of a name, at paper size or small."""
  found = CASES[name]
  return dataclasses.replace(found, small={}, **found.small) if small else found


def build(case: Case, dtype: str) -> nn.Module:
  """The model, computing in a type."""
  return models.create(dict(case.model, dtype=dtype), num_classes=case.classes,
                       layout=case.layout)


def loss(case: Case):
  """The loss as a training step takes it."""
  fields = dict(case.loss)
  function = getattr(losses, fields.pop("name"))
  return lambda logits, out, batch, params: function(logits, out, batch, params, **fields)


def optim(case: Case) -> OptimConfig:
  """Of the training."""
  return OptimConfig(**case.optim)


def spec(case: Case, batch_size: int) -> dict[str, tuple[tuple[int, ...], type]]:
  """Name -> (shape, dtype) of a batch's arrays."""
  arrays = {"label": ((batch_size,), np.int32), "valid": ((batch_size,), np.float32)}
  if case.video:
    arrays["video"] = ((batch_size, *case.video), np.uint8)
  if case.pose:
    name, persons, frames = case.pose
    joints = skeletons.layout(case.layout).num_joints
    shape = (batch_size, persons, frames, joints)
    arrays[name] = ((*shape, 2 if name == "pose2d" else 3), np.float32)
    arrays["pose_score"] = (shape, np.float32)
  return arrays


def batch(case: Case, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
  """Noise for video, wandering joints; everything is drawn and valid."""
  rng = np.random.default_rng(seed)
  arrays = {}
  for name, (shape, dtype) in spec(case, batch_size).items():
    if name == "label":
      value = rng.integers(0, case.classes, shape)
    elif name == "valid":
      value = np.ones(shape)
    elif name == "video":
      value = rng.integers(0, 256, shape, np.uint8)
    elif name == "pose_score":
      value = rng.uniform(0.3, 1, shape)
    else:
      place = rng.random((*shape[:2], 1, *shape[3:])) + rng.normal(0, 0.01, shape).cumsum(2)
      value = np.clip(place, 0, 1) * (case.side - 1) if name == "pose2d" else place
    arrays[name] = value.astype(dtype)
  return arrays


def variables(abstract: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
  """Random weights without running the network's own initialisers.

  Nothing in them is zero, so that all of a network counts where outputs are compared; biases and
  running statistics are close to those of a network that has begun to learn.

  Args:
    abstract: {"params", "batch_stats"} of arrays' shapes.
  """
  import jax
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    name = path[-1].key
    if name == "kernel" and len(leaf.shape) > 1:
      scale = (2 / np.prod(leaf.shape[:-1])) ** 0.5
      value = rng.standard_normal(leaf.shape, np.float32) * scale
    elif name in ("scale", "var", "importance"):
      value = rng.uniform(0.8, 1.2, leaf.shape)
    else:  # biases, means, what is learnt beside graphs
      value = rng.normal(0, 0.05, leaf.shape)
    return value.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, dict(abstract))
