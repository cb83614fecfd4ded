"""A backbone of video and a classifier; in hierarchical classification, one after each stage.

Without levels this is the plain classifier on which other recipes build. With levels it is the
network of hierarchical action classification: the early stages tell superclasses apart, the last
one the actions themselves (sections "Network architecture" and "Hierarchical classification" of
the papers). Which class belongs to which superclass is found by `actionjax.hierarchy.search` after
a first training and enters through the loss; the model only knows how many there are.
"""
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from actionjax.models import backbones, checked
from actionjax.models.heads import ClassificationHead
from actionjax.ops import images


class Model(checked.Module):
  """A backbone of stages, and a head on each stage that has a level.

  Attributes:
    num_classes: N, of the last level.
    backbone: `name` of a module of `actionjax.models` with a `Backbone` whose endpoints are
      "stage1", "stage2", ..., and its fields.
    levels: number of superclasses at each stage but the last, None where there is no head. An
      empty tuple is the plain network of the first pass.
    layout: of the dataset's skeletons; not read.
    dropout: before every classifier (the papers found no gain in it).
    scaling: of the video; see `images.scale`.
    dtype: compute type of the backbone; parameters and statistics are float32.
  """
  num_classes: int
  backbone: Mapping[str, Any]
  levels: tuple[int | None, ...] = ()
  layout: str | None = None
  dropout: float = 0.0
  scaling: checked.Scaling = "imagenet"
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return ("video",)

  @property
  def parts(self) -> dict[str, type]:
    """Fields that are sections -> the module that each configures."""
    return {"backbone": backbones.find(self.backbone)}

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `video` uint8[B,T,H,W,C].

    Returns:
      logits float32[B,N] of the last stage, and out: `stage_logits`, a dict from "stage1", ...
      to float32[B,M] for the levels there are; `features` float[B,D] (what the last classifier
      reads); the backbone's endpoints by name.

    Raises:
      ValueError: more levels than stages before the last.
    """
    x = images.scale(batch["video"], self.scaling, jnp.dtype(self.dtype))
    x, endpoints = backbones.build(self.backbone, self.dtype)(x, train=train)
    stages = [name for name in endpoints if name.startswith("stage")]
    if len(self.levels) >= len(stages):
      raise ValueError(f"{len(self.levels)} levels of superclasses, and {len(stages) - 1} stages "
                       "before the last")
    stage_logits = {}
    for stage, size in zip(stages, self.levels):
      if size is not None:
        stage_logits[stage], _ = ClassificationHead(size, self.dropout, name=f"head_{stage}")(
            endpoints[stage], train=train)
    logits, features = ClassificationHead(self.num_classes, self.dropout, name="head")(
        x, train=train)
    return logits, {**endpoints, "stage_logits": stage_logits, "features": features}
