"""VPN: video-pose networks (Das' thesis, section 4.4; Das et al., ECCV 2020).

A 3D backbone sees the video, a pose backbone the skeletons. From the pose come a spatial and a
temporal attention, coupled by their outer product, that modulate the backbone's feature map; an
embedding ties the two modalities during training. Every part can be switched off, down to the
plain backbone with its classifier, so that each row of the thesis' ablations is an argument.
"""
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from actionjax.models import backbones, checked, pose_backbones
from actionjax.models.heads import ClassificationHead
from actionjax.ops import images, skeleton_frames

# What the released Keras code does otherwise than the thesis (arguments of `Model`); its loss
# goes with `losses.vpn(embedding_loss="manhattan", attention_loss="released")`.
RELEASED = dict(
    pose=dict(name="gcn", identity_filter=True, skip="concat", norm_first=True,
              dense=(256, 128), dropout=0.3),
    attention_width=(256, 128), attention_norm=False, embedding="released",
    embedding_features=256)
Attention = Literal["both", "spatial", "temporal", "none"]
Embedding = Literal["thesis", "released", "none"]


class PoseAttention(nn.Module):
  """h* -> scores of the h x w places and of the t times: z_r = W_r tanh(W_h h* + b) + b'.

  The last layers start at zero, so that every place and time gets the same weight at first.

  Attributes:
    spatial: number of places, h * w; None for no such scores.
    temporal: number of times, t; None for no such scores.
    width: of the two tanh layers (spatial, temporal).
    norm: batch norm of h*, which the thesis does not mention. Thousands of features that are
      all positive let every step of Adam push a tanh the same way whatever the clip: within an
      epoch it saturates, and attention is the same for all clips from then on.
  """
  spatial: int | None
  temporal: int | None
  width: tuple[int, int] = (256, 128)
  norm: bool = True

  @nn.compact
  def __call__(self, h, *, train: bool):
    if self.norm:
      h = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(h)

    def scores(name, size, width):
      if size is None:
        return None
      hidden = nn.tanh(nn.Dense(width, name=f"{name}_hidden")(h))
      return nn.Dense(size, kernel_init=nn.initializers.zeros, name=f"{name}_scores")(hidden)

    return (scores("spatial", self.spatial, self.width[0]),
            scores("temporal", self.temporal, self.width[1]))


class SpatialEmbedding(checked.Module):
  """Both modalities in one space (thesis, "Spatial embedding of RGB and pose").

  Attributes:
    features: D_e, not given in the thesis.
    kind: "thesis": linear maps of the map summed over time and of the spatial scores before
      their sigmoid; "released": sigmoid layers on the whole map and on the attention itself.
  """
  features: int = 256
  kind: Literal["thesis", "released"] = "thesis"

  @nn.compact
  def __call__(self, feature_map, scores):
    """float[B,t,h,w,C] and float[B,h*w] -> two float[B,features]."""
    b = feature_map.shape[0]
    visual = nn.Dense(self.features, name="visual")
    pose = nn.Dense(self.features, name="pose")
    if self.kind == "thesis":
      return visual(feature_map.sum(1).reshape(b, -1)), pose(scores)
    return (nn.sigmoid(visual(feature_map.reshape(b, -1))),
            nn.sigmoid(pose(nn.sigmoid(scores))))


class VPNCoupler(checked.Module):
  """VPN as a layer: modulates any backbone's feature map by the skeletons.

  Attributes:
    layout: joint layout of the skeletons.
    pose: arguments of the pose backbone: `name` "gcn" or "lstm" and its fields.
    attention: "both", "spatial", "temporal" or "none".
    coupler: the outer product A_S x A_T modulates the map, g' = A g + g; without, each
      attention modulates a copy of its own and both are classified together.
    embedding: "thesis", "released" or "none".
    attention_width, attention_norm: see `PoseAttention`.
    normalise: of skeletons: "translate" or "align"; see `skeleton_frames`.
  """
  layout: str
  pose: Mapping[str, Any]
  attention: Attention = "both"
  coupler: bool = True
  embedding: Embedding = "thesis"
  embedding_features: int = 256
  attention_width: tuple[int, int] = (256, 128)
  attention_norm: bool = True
  normalise: checked.BodyFrame = "translate"

  @nn.compact
  def __call__(self, feature_map, pose3d, pose_score, *, train: bool):
    """feature_map float[B,t,h,w,C], pose3d float[B,M,T,J,3], pose_score float[B,M,T,J].

    Returns:
      list of modulated maps float[B,t,h,w,C] (one; two without coupler) and `out`.
    """
    b, t, h, w, _ = feature_map.shape
    map32 = feature_map.astype(jnp.float32)
    if self.attention == "none" and self.embedding == "none":
      return [map32], {}
    body, present = skeleton_frames.body_centred(pose3d, pose_score, self.layout, self.normalise)
    h_star = pose_backbones.create(self.pose, self.layout, name="pose_backbone")(
        body, present, train=train)
    # Scores that nothing reads would be decayed and saved all the same; the embedding reads
    # the spatial ones.
    spatial_scores, temporal_scores = PoseAttention(
        h * w if self.attention in ("both", "spatial") or self.embedding != "none" else None,
        t if self.attention in ("both", "temporal") else None,
        self.attention_width, self.attention_norm, name="attention")(h_star, train=train)

    out = {"pose_features": h_star}
    spatial = temporal = jnp.ones((), jnp.float32)
    if self.attention in ("both", "spatial"):
      out["attention_spatial"] = nn.sigmoid(spatial_scores).reshape(b, h, w)
      spatial = out["attention_spatial"][:, None, :, :, None]
    if self.attention in ("both", "temporal"):
      out["attention_temporal"] = nn.softmax(temporal_scores)
      temporal = out["attention_temporal"][:, :, None, None, None]
    if self.attention == "none":
      maps = [map32]
    elif self.coupler or self.attention != "both":
      maps = [spatial * temporal * map32 + map32]
    else:
      maps = [spatial * map32 + map32, temporal * map32 + map32]
    if self.embedding != "none":
      out["embedding_visual"], out["embedding_pose"] = SpatialEmbedding(
          self.embedding_features, self.embedding, name="embedding")(map32, spatial_scores)
    return maps, out


class Model(checked.Module):
  """A backbone, the VPN coupler or none, and a classifier.

  Attributes:
    num_classes: N.
    backbone: `name` of a module of `actionjax.models` with a `Backbone`, and its fields.
    layout: joint layout of `pose3d`.
    pose: the pose backbone's `name` ("gcn", "lstm") and fields; "none" as name switches
      everything that reads skeletons off and leaves the plain backbone.
    attention, coupler, embedding, embedding_features, attention_width, attention_norm,
      normalise: see `VPNCoupler`.
    dropout: before the classifier.
    scaling: of the video; see `images.scale`.
    dtype: compute type of the backbone; parameters and statistics are float32.
  """
  num_classes: int
  backbone: Mapping[str, Any]
  layout: str
  pose: Mapping[str, Any]
  attention: Attention = "both"
  coupler: bool = True
  embedding: Embedding = "thesis"
  embedding_features: int = 256
  attention_width: tuple[int, int] = (256, 128)
  attention_norm: bool = True
  normalise: checked.BodyFrame = "translate"
  dropout: float = 0.3
  scaling: checked.Scaling = "signed"
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return ("video",) if self.pose["name"] == "none" else ("video", "pose3d", "pose_score")

  @property
  def parts(self) -> dict[str, type]:
    """Fields that are sections -> the module that each configures."""
    parts = {"backbone": backbones.find(self.backbone)}
    if self.pose["name"] != "none":
      parts["pose"] = pose_backbones.find(self.pose["name"])
    return parts

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `video` uint8[B,Tv,H,W,C]; where the pose backbone is not "none", `pose3d`
        float[B,M,Tp,J,3] and `pose_score` float[B,M,Tp,J].

    Returns:
      logits float32[B,N] and out: `feature_map` [B,t,h,w,C'], `features` [B,D] (what the
      classifier reads), the backbone's endpoints by name; and where they exist
      `attention_spatial` [B,h,w], `attention_temporal` [B,t], `embedding_visual` and
      `embedding_pose` [B,D_e], `pose_features`.
    """
    x = images.scale(batch["video"], self.scaling, jnp.dtype(self.dtype))
    feature_map, endpoints = backbones.build(self.backbone, self.dtype)(x, train=train)
    maps, out = [feature_map.astype(jnp.float32)], {}
    if self.pose["name"] != "none":
      maps, out = VPNCoupler(
          self.layout, self.pose, self.attention, self.coupler, self.embedding,
          self.embedding_features, self.attention_width, self.attention_norm, self.normalise,
          name="vpn")(feature_map, batch["pose3d"], batch["pose_score"], train=train)
    # The classifier reads the global mean, so several maps are concatenated on channels.
    logits, features = ClassificationHead(self.num_classes, self.dropout, name="head")(
        jnp.concatenate(maps, -1), train=train)
    return logits, {**endpoints, **out, "feature_map": feature_map, "features": features}
