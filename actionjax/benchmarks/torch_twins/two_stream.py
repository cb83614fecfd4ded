"""RGBPose-SlowFast: the twin of `actionjax.models.rgbpose`."""
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from actionjax import configuration
from actionjax.benchmarks.torch_twins import drawing, resnet, units
from actionjax.errors import UserError
from actionjax.models import posec3d, resnet3d, rgbpose


class Upsampler(nn.ConvTranspose3d):
  """Transposed convolution in time to `stride` times the length, batch norm, ReLU."""

  def __init__(self, inputs: int, features: int, stride: int, length: int):
    super().__init__(inputs, features, (length, 1, 1), (stride, 1, 1), (length // 2, 0, 0),
                     (stride - 1, 0, 0), bias=False)
    self.bn = nn.BatchNorm3d(features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    return F.relu(self.bn(super().forward(x)), inplace=True)


class Pathways(nn.Module):
  """Both pathways with what they tell each other; see `rgbpose.Pathways`.

  Args:
    model: `rgbpose.Model`.
    channels: of the video and of the heat maps.
  """

  def __init__(self, model: rgbpose.Model, channels: tuple[int, int]):
    super().__init__()
    self.to_rgb = model.laterals in ("both", "pose_to_rgb")
    self.to_pose = model.laterals in ("both", "rgb_to_pose")
    nets = [_net(getattr(model, name), name) for name in ("rgb", "pose")]
    added = {}, {}
    for number, (after_rgb, after_pose) in enumerate(rgbpose.CROSSINGS, 1):
      rgb, pose = (net.width * 2**(after - 1) * resnet3d.BLOCKS[net.plan()[0]]
                   for net, after in zip(nets, (after_rgb, after_pose)))
      if self.to_rgb:
        added[0][after_rgb + 1] = rgb // rgbpose.CHANNEL_RATIO
        length = rgbpose.FUSION_KERNEL
        self.add_module(f"pose_to_rgb{number}", units.Conv(
            pose, rgb // rgbpose.CHANNEL_RATIO, (length, 1, 1), (model.speed_ratio, 1, 1)))
      if self.to_pose:
        added[1][after_pose + 1] = pose // rgbpose.CHANNEL_RATIO
        self.add_module(f"rgb_to_pose{number}", Upsampler(
            rgb, pose // rgbpose.CHANNEL_RATIO, model.speed_ratio, rgbpose.FUSION_KERNEL))
    self.rgb, self.pose = (resnet.ResNet3D(net, *rest)
                           for net, *rest in zip(nets, channels, added))

  def forward(self, rgb: torch.Tensor, pose: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    next_rgb = next_pose = 0
    for number, (after_rgb, after_pose) in enumerate(rgbpose.CROSSINGS, 1):
      rgb = self.rgb.run(rgb, next_rgb, after_rgb)
      pose = self.pose.run(pose, next_pose, after_pose)
      next_rgb, next_pose = after_rgb + 1, after_pose + 1
      to_rgb = getattr(self, f"pose_to_rgb{number}")(pose) if self.to_rgb else None
      to_pose = getattr(self, f"rgb_to_pose{number}")(rgb) if self.to_pose else None
      if to_rgb is not None:
        rgb = torch.cat([rgb, to_rgb], 1)
      if to_pose is not None:
        pose = torch.cat([pose, to_pose], 1)
    return (self.rgb.run(rgb, next_rgb, self.rgb.stages),
            self.pose.run(pose, next_pose, self.pose.stages))


def _net(fields: Mapping[str, Any], name: str) -> resnet3d.ResNet3D:
  fields = dict(fields)
  if fields.pop("name", "resnet3d") != "resnet3d":
    raise UserError(f"model.{name}.name: the pathways of rgbpose are resnet3d")
  return configuration.build(resnet3d.ResNet3D, fields, f"model.{name}", parent=None)


class RGBPose(nn.Module):
  """`rgbpose.Model`: two pathways, each with its classifier.

  Args:
    model: whose fields describe it.
    channels: of the video.
  """

  def __init__(self, model: rgbpose.Model, channels: int):
    super().__init__()
    maps = posec3d.make_maps(model.maps)
    if maps.jitters:
      raise UserError("model.maps: rotate, stretch and shift move the skeletons, and not the video "
                      "beside them")
    self.video = units.Video("imagenet", channels)
    self.maps = drawing.Maps(maps, model.layout)
    self.backbone = Pathways(model, (channels, self.maps.channels))
    for name in ("rgb", "pose"):
      self.add_module(f"head_{name}", units.ClassificationHead(
          getattr(self.backbone, name).outputs, model.num_classes, model.dropout))
    shares = torch.tensor([float(weight) for weight in model.fusion])
    self.register_buffer("log_shares", (shares / shares.sum()).log()[:, None, None],
                         persistent=False)

  def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
    paths = self.backbone
    rgb, pose = paths(self.video(batch["video"], paths.rgb.first_weight),
                      units.channels_first(self.maps(batch), paths.pose.first_weight))
    logits = {"rgb": self.head_rgb(rgb), "pose": self.head_pose(pose)}
    scores = torch.stack(list(logits.values())).log_softmax(-1)
    return torch.logsumexp(scores + self.log_shares, 0), {"stream_logits": logits}
