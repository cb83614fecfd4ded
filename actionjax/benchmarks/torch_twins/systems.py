"""From a Flax model to its twin, and the systems that need little beside a backbone."""
from collections.abc import Mapping
from typing import Any

import flax.linen
import torch
from torch import nn

from actionjax import configuration
from actionjax.benchmarks.torch_twins import (
    drawing,
    graph_networks,
    inception,
    resnet,
    two_stream,
    units,
    video_pose,
)
from actionjax.errors import UserError
from actionjax.models import i3d, msg3d, posec3d, resnet3d, rgbpose, stgcn, video_network, vpn


def twin(model: flax.linen.Module, batch: Mapping[str, Any] | None = None) -> nn.Module:
  """A model of this library as a PyTorch module.

  The module's forward takes the library's batch, tensors by name on its own device: `video`
  uint8[B,T,H,W,C], `pose3d` float[B,M,T,J,3], `pose2d` float[B,M,T,J,2] and `pose_score`
  float[B,M,T,J], as far as the model reads them. It returns logits float32[B,N] and a dict of
  what the losses read, shaped and named as the library's. `model.dtype` is not read: precision is
  a matter of autocast there.

  Args:
    model: a `Model` of `posec3d`, `hac`, `vpn`, `rgbpose`, `stgcn` or `msg3d`.
    batch: arrays (or anything else with a `shape`) of the batches to come, by name. VPN with a
      pose backbone has a weight for each place and time of its map, and MS-G3D statistics for
      each person, so that these need it; the others read only the number of the video's
      channels, which is 3 without.

  Raises:
    UserError: a model or a field of it that has no counterpart here, or a missing batch.
  """
  shapes = {name: tuple(value.shape) for name, value in (batch or {}).items()}
  if isinstance(model, posec3d.Model):
    return PoseC3D(model)
  if isinstance(model, video_network.Model):
    return HAC(model, _channels(shapes))
  if isinstance(model, vpn.Model):
    return VPN(model, shapes)
  if isinstance(model, rgbpose.Model):
    return two_stream.RGBPose(model, _channels(shapes))
  if isinstance(model, stgcn.Model):
    return graph_networks.GraphModel(model, graph_networks.STGCN(model))
  if isinstance(model, msg3d.Model):
    source = model.inputs[0]
    return graph_networks.GraphModel(
        model, graph_networks.MSG3D(model, _shape(shapes, source, model)[1]))
  raise UserError(f"torch_twins: {type(model).__module__}.{type(model).__name__} has no "
                  "counterpart in PyTorch here")


def _channels(shapes):
  return shapes["video"][-1] if "video" in shapes else 3


def _shape(shapes, name, model):
  if name not in shapes:
    raise UserError(f"torch_twins: {type(model).__module__} has weights that depend on the shape "
                    f"of {name}; give twin() a batch")
  return shapes[name]


def make_backbone(fields: Mapping[str, Any], channels: int) -> nn.Module:
  """The backbone of a config's section `model.backbone`, for inputs of `channels`.

  Raises:
    UserError: its `name` is neither resnet3d nor i3d, or it has fields that cannot be rebuilt.
  """
  fields = dict(fields)
  known = {"resnet3d": (resnet3d.Backbone, resnet.ResNet3D), "i3d": (i3d.Backbone, inception.I3D)}
  name = fields.pop("name")
  if name not in known:
    raise UserError(f"torch_twins: model.backbone.name={name!r} has no counterpart in PyTorch "
                    f"here; {' and '.join(known)} have")
  ours, theirs = known[name]
  return theirs(configuration.build(ours, fields, "model.backbone", parent=None), channels)


class PoseC3D(nn.Module):
  """`posec3d.Model`: heat maps, a backbone, a classifier."""

  def __init__(self, model: posec3d.Model):
    super().__init__()
    self.maps = drawing.Maps(posec3d.make_maps(model.maps), model.layout)
    self.backbone = make_backbone(model.backbone, self.maps.channels)
    self.head = units.ClassificationHead(self.backbone.outputs, model.num_classes, model.dropout)

  def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
    volume = units.channels_first(self.maps(batch), self.backbone.first_weight)
    return self.head(self.backbone(volume)[0]), {}


class HAC(nn.Module):
  """`hac.Model`: a backbone, and a classifier at each stage that has a level."""

  def __init__(self, model: video_network.Model, channels: int):
    super().__init__()
    self.video = units.Video(model.scaling, channels)
    self.backbone = make_backbone(model.backbone, channels)
    stages = getattr(self.backbone, "stages", 0)
    if len(model.levels) >= stages:
      raise UserError(f"model.levels: {len(model.levels)} levels of superclasses, and {stages} "
                      "stages of the backbone")
    self.levels = []
    for i, size in enumerate(model.levels, 1):
      if size is not None:
        width = getattr(self.backbone, f"stage{i}")[-1].outputs
        self.add_module(f"head_stage{i}", units.ClassificationHead(width, size, model.dropout))
        self.levels.append(f"stage{i}")
    self.head = units.ClassificationHead(self.backbone.outputs, model.num_classes, model.dropout)

  def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
    x, endpoints = self.backbone(self.video(batch["video"], self.backbone.first_weight))
    levels = {stage: getattr(self, f"head_{stage}")(endpoints[stage]) for stage in self.levels}
    return self.head(x), {"stage_logits": levels}


class VPN(nn.Module):
  """`vpn.Model`: a backbone, the coupler or none, and a classifier."""

  def __init__(self, model: vpn.Model, shapes: Mapping[str, tuple[int, ...]]):
    super().__init__()
    channels = _channels(shapes)
    self.video = units.Video(model.scaling, channels)
    self.backbone = make_backbone(model.backbone, channels)
    self.vpn, maps = None, 1
    if model.pose["name"] != "none":
      size = _shape(shapes, "video", model)[1:4]
      self.vpn = video_pose.Coupler(model, _map_shape(model.backbone, channels, size),
                                    _shape(shapes, "pose3d", model)[2])
      maps = self.vpn.maps
    self.head = units.ClassificationHead(maps * self.backbone.outputs, model.num_classes,
                                         model.dropout)

  def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
    x, _ = self.backbone(self.video(batch["video"], self.backbone.first_weight))
    out = {}
    if self.vpn is not None:
      x, out = self.vpn(x, batch)
    return self.head(x), out


def _map_shape(fields, channels, size):
  """(C, t, h, w) of the backbone's map of a video of T x H x W; nothing is computed."""
  with torch.device("meta"), torch.no_grad():
    backbone = make_backbone(fields, channels).eval()
    return tuple(backbone(torch.empty(1, channels, *size))[0].shape[1:])
