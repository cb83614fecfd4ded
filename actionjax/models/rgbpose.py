"""RGBPose-SlowFast: a slow network of the video and a fast one of the skeletons, joined on the
way (Duan et al., 2022, arXiv:2104.13586, section 3.4; RGBPoseConv3D in the released code).

The video's pathway sees few frames at high resolution, the skeletons' four times as many heat
maps. Lateral connections carry features both ways. The paper says that they sit before res3 and
res4; the code's sit after them, and so do these. Each pathway has its classifier and its loss;
the two scores are added.
"""
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from actionjax import configuration
from actionjax.errors import UserError
from actionjax.models import checked, layers, posec3d
from actionjax.models.heads import ClassificationHead
from actionjax.models.resnet3d import ResNet3D, Stage
from actionjax.ops import images, pooling

# The video's SlowOnly: a ResNet-50 whose last two stages see time. 8 frames of 224 pixels.
RGB = dict(name="resnet3d", depth=50, kernels=("2d", "2d", "3x1x1", "3x1x1"), zero_init=True)
# Stages whose features cross, (video's, skeletons'), 1-based.
CROSSINGS = ((2, 1), (3, 2))
# A lateral brings a quarter of the channels that receive it, by kernels of seven maps (odd).
CHANNEL_RATIO, FUSION_KERNEL = 4, 7
Laterals = Literal["both", "rgb_to_pose", "pose_to_rgb", "none"]


def upsample_conv(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
  """Transposed convolution in time to exactly `stride` times the length.

  Args:
    x: float[B,T,H,W,I].
    kernel: float[t,1,1,I,O] with odd t: frame i adds its product with tap k to frame
      stride * i + k - t // 2.

  Returns:
    float[B,stride*T,H,W,O].
  """
  taps, frames = kernel.shape[0], x.shape[1]
  phases = [0] * stride
  for tap in range(taps):
    # The frames between `stride * i` and the next form the phases of frame i; a product that
    # falls `ahead` frames of the input later moves there.
    ahead, phase = divmod(tap - taps // 2, stride)
    y = x @ kernel[tap, 0, 0]
    pad = [(0, 0), (max(ahead, 0), max(-ahead, 0)), (0, 0), (0, 0), (0, 0)]
    start = max(-ahead, 0)
    phases[phase] += jnp.pad(y, pad)[:, start:start + frames]
  y = jnp.stack(jnp.broadcast_arrays(*phases), 2)
  return y.reshape(x.shape[0], frames * stride, *y.shape[3:])


class Upsampler(nn.Module):
  """Skeleton-rate features of the video: transposed convolution, batch norm, ReLU.

  float[B,T,H,W,I] -> float[B,stride*T,H,W,features]; parameters `kernel`, `bn`.
  """
  features: int
  stride: int
  length: int
  norm: Any
  dtype: Any

  @nn.compact
  def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
    kernel = self.param("kernel", layers.he_fan_out,
                        (self.length, 1, 1, x.shape[-1], self.features))
    x = upsample_conv(x.astype(self.dtype), kernel.astype(self.dtype), self.stride)
    return nn.relu(self.norm(train=train, dtype=self.dtype, name="bn")(x))


class Pathway(nn.Module):
  """A `ResNet3D` that is run stage by stage; its parameters have the same names.

  Attributes:
    fields: of the ResNet3D.
  """
  fields: Mapping[str, Any]
  dtype: Any

  def setup(self):
    net = configuration.build(ResNet3D, dict(self.fields), "model", parent=None)
    if net.channels is not None:
      raise UserError("rgbpose: its pathways cannot be built from pruned channels")
    block, sizes, kernels = net.plan()
    norm = layers.batch_norm(net.bn_momentum)
    self.stem = layers.ConvUnit(net.width, tuple(net.stem_kernel), tuple(net.stem_strides), norm,
                                dtype=self.dtype)
    self.pool = (tuple(net.stem_pool), tuple(net.stem_pool_strides))
    for i, size in enumerate(sizes):
      space = net.spatial_strides[i]
      setattr(self, f"stage{i + 1}", Stage(
          size, net.width * 2**i, block, kernels[i], (net.temporal_strides[i], space, space),
          net.project, norm, net.zero_init, self.dtype))
    self.stages = len(sizes)

  def __call__(self, x: jax.Array, first: int, last: int | None, *, train: bool):
    """Runs the stages from `first` to `last` (None: the final one); 0 is the stem."""
    if first == 0:
      x = self.stem(x.astype(self.dtype), train=train)
      if self.pool[0]:
        x = pooling.max_pool(x, *self.pool, tuple((k // 2, k // 2) for k in self.pool[0]))
    for i in range(max(first, 1), (last or self.stages) + 1):
      x = getattr(self, f"stage{i}")(x, train=train)
    return x


class Pathways(checked.Module):
  """Both pathways with what they tell each other.

  float[B,Tv,H,W,C] and float[B,Tp,h,w,K] -> their last feature maps. Parameters are those of a
  ResNet3D under `rgb` and under `pose`, `pose_to_rgb1/kernel` and `rgb_to_pose1/{kernel,bn}`,
  and the same with 2. The fields are those of `Model`.
  """
  rgb: Mapping[str, Any]
  pose: Mapping[str, Any]
  laterals: Laterals = "both"
  speed_ratio: int = 4
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, video: jax.Array, volume: jax.Array, *,
               train: bool) -> tuple[jax.Array, jax.Array]:
    paths = []
    for name in ("rgb", "pose"):
      fields = dict(getattr(self, name))
      if fields.pop("name", "resnet3d") != "resnet3d":
        raise UserError(f"model.{name}.name: the pathways of rgbpose are resnet3d")
      paths.append(Pathway(fields, self.dtype, name=name))
    rgb, pose, next_rgb, next_pose = video, volume, 0, 0
    for number, (after_rgb, after_pose) in enumerate(CROSSINGS, 1):
      rgb = paths[0](rgb, next_rgb, after_rgb, train=train)
      pose = paths[1](pose, next_pose, after_pose, train=train)
      next_rgb, next_pose = after_rgb + 1, after_pose + 1
      if self.laterals != "none":
        rgb, pose = self._exchange(rgb, pose, number, train)
    return paths[0](rgb, next_rgb, None, train=train), paths[1](pose, next_pose, None, train=train)

  def _exchange(self, rgb, pose, number, train):
    """Each pathway's features with the other's behind them; both from before the exchange."""
    if rgb.shape[2:4] != pose.shape[2:4] or pose.shape[1] != self.speed_ratio * rgb.shape[1]:
      raise UserError(
          f"rgbpose: the video's features are {rgb.shape[1]}x{rgb.shape[2]}x{rgb.shape[3]} and "
          f"the heat maps' {pose.shape[1]}x{pose.shape[2]}x{pose.shape[3]}; laterals need equal "
          f"height and width, and {self.speed_ratio} maps a frame")
    new_rgb, new_pose, ends = rgb, pose, (FUSION_KERNEL // 2,) * 2
    if self.laterals in ("both", "pose_to_rgb"):
      lateral = layers.Conv3D(
          rgb.shape[-1] // CHANNEL_RATIO, (FUSION_KERNEL, 1, 1),
          (self.speed_ratio, 1, 1), (ends, (0, 0), (0, 0)), dtype=self.dtype,
          name=f"pose_to_rgb{number}")(pose)
      new_rgb = jnp.concatenate([rgb, lateral], -1)
    if self.laterals in ("both", "rgb_to_pose"):
      lateral = Upsampler(pose.shape[-1] // CHANNEL_RATIO, self.speed_ratio,
                          FUSION_KERNEL, layers.batch_norm(), self.dtype,
                          name=f"rgb_to_pose{number}")(rgb, train=train)
      new_pose = jnp.concatenate([pose, lateral], -1)
    return new_rgb, new_pose


class Model(checked.Module):
  """Two pathways with their classifiers, and what they tell each other.

  Attributes:
    num_classes: N.
    layout: joint layout of the skeletons.
    rgb, pose: fields of the pathways' ResNet3Ds (`name` must be resnet3d).
    maps: fields of `posec3d.Maps`. The released model has sigma 0.7 and, for a video of 224
      pixels, scale 0.25.
    laterals: "both", "rgb_to_pose", "pose_to_rgb" or "none" (plain late fusion).
    speed_ratio: heat maps for each frame of the video.
    fusion: weights of the two streams' softmax scores, (video, skeletons).
    dropout: before each classifier.
    dtype: compute type of the pathways; parameters and statistics are float32.
  """
  num_classes: int
  layout: str
  rgb: Mapping[str, Any] = dataclasses.field(default_factory=lambda: dict(RGB))
  pose: Mapping[str, Any] = dataclasses.field(
      default_factory=lambda: dict(posec3d.SLOWONLY_FUSED))
  maps: Mapping[str, Any] = dataclasses.field(
      default_factory=lambda: dict(sigma=0.7, scale=0.25))
  laterals: Laterals = "both"
  speed_ratio: int = 4
  fusion: Sequence[float] = (1.0, 1.0)
  dropout: float = 0.5
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return "video", posec3d.make_maps(self.maps).source, "pose_score"

  @property
  def parts(self) -> dict[str, type]:
    """Fields that are sections -> what each configures."""
    return {"maps": posec3d.Maps, "rgb": ResNet3D, "pose": ResNet3D}

  def check_pixels(self, size: Sequence[int], test_size: Sequence[int]) -> None:
    """See `posec3d.Maps.check_pixels`."""
    posec3d.make_maps(self.maps).check_pixels(size, test_size)

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `video` uint8[B,Tv,H,W,C]; `pose2d` float[B,M,Tp,V,2] in its pixels (or `pose3d`
        float[B,M,Tp,V,3]) and `pose_score` float[B,M,Tp,V] with Tp = speed_ratio * Tv.

    Returns:
      logits float32[B,N], the logarithm of the fused scores, and out: `stream_logits`, a dict of
      float32[B,N] by "rgb" and "pose", each of which gets a loss; `rgb_features` [B,D] and
      `pose_features` [B,D'], what they are the means of, `rgb_map` and `pose_map`, `features`, the
      two concatenated; `heatmaps`.

    Raises:
      UserError: unknown laterals, jitter, or maps and video whose lengths or sizes do not go
        together.
    """
    dtype = jnp.dtype(self.dtype)
    maps = posec3d.make_maps(self.maps)
    if maps.jitters:
      raise UserError("model.maps: rotate, stretch and shift move the skeletons, and not the video "
                      "beside them")
    volume = maps.draw(batch, self.layout, train=train)
    pathways = Pathways(self.rgb, self.pose, self.laterals, self.speed_ratio, dtype,
                        name="backbone")
    rgb, pose = pathways(images.scale(batch["video"], "imagenet", dtype), volume, train=train)
    logits, out = {}, {"heatmaps": volume}
    for name, features in (("rgb", rgb), ("pose", pose)):
      out[f"{name}_map"] = features
      logits[name], out[f"{name}_features"] = ClassificationHead(
          self.num_classes, self.dropout, name=f"head_{name}")(features, train=train)
    out["stream_logits"] = logits
    out["features"] = jnp.concatenate([out["rgb_features"], out["pose_features"]], -1)
    return late_fusion(list(logits.values()), self.fusion), out


def late_fusion(logits: Sequence[jax.Array], weights: Sequence[float]) -> jax.Array:
  """log of the weighted mean of the streams' softmax scores, float32[B,N].

  Raises:
    UserError: not one weight a stream, or none above 0.
  """
  if len(weights) != len(logits) or min(weights) < 0 or not sum(weights):
    raise UserError(f"model.fusion must be weights of the {len(logits)} streams, got "
                    f"{tuple(weights)}")
  weights = np.asarray(weights, np.float32) / np.sum(weights)
  return jax.nn.logsumexp(jnp.stack([jax.nn.log_softmax(stream) for stream in logits]),
                          axis=0, b=weights[:, None, None])


def start_from(rgb: str, pose: str) -> tuple[dict, dict]:
  """A joint training's `init_from`: two networks that were trained alone.

  The convolutions that read lateral features get further input channels, which are zero: the
  joint model's first step equals the late fusion of the two (section 3.4). Laterals start as
  they are drawn.

  Args:
    rgb, pose: sources (earlier steps, or runs) of the plain networks, each a `backbone` and a
      `head`, as `video_network` without levels, `posec3d` and the importers have them.

  Returns:
    two sections for `training.initialise.InitFrom`.
  """
  sections = []
  for stream, source, stages in (("rgb", rgb, [after for after, _ in CROSSINGS]),
                                 ("pose", pose, [after for _, after in CROSSINGS])):
    listening = "|".join(str(after + 1) for after in stages)
    sections.append(dict(
        source=source, strict=True, include=(f"backbone/{stream}/", f"head_{stream}/"),
        rename=(("^backbone/", f"backbone/{stream}/"), ("^head/", f"head_{stream}/")),
        pad=(f"backbone/{stream}/stage({listening})/block0/(conv1|shortcut)/conv/kernel",)))
  return tuple(sections)
