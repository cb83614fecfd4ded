"""VPN: the twin of `actionjax.models.vpn` and of its graph network of the skeletons."""
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from actionjax import configuration, skeletons
from actionjax.benchmarks.torch_twins import poses, units
from actionjax.errors import UserError
from actionjax.models import pose_backbones
from actionjax.ops import graphs


class MaskedBatchNorm(nn.BatchNorm2d):
  """Batch norm, in training over the rows of [N,C,T,J] that a mask counts; the mean over counted
  rows cannot be had of PyTorch's own, so that it is written out where there is a mask."""

  def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """mask: float[N,1,1,1] of 0 and 1, None for all rows."""
    if mask is None or not self.training:
      return super().forward(x)
    rows = x.float()
    count = mask.sum() * (x.shape[2] * x.shape[3])
    mean = (rows * mask).sum((0, 2, 3), keepdim=True) / count
    moved = rows - mean
    variance = (moved * moved * mask).sum((0, 2, 3), keepdim=True) / count
    with torch.no_grad():
      self.running_mean.lerp_(mean.flatten(), self.momentum)
      self.running_var.lerp_(variance.flatten(), self.momentum)
    scale = self.weight[:, None, None] * torch.rsqrt(variance + self.eps)
    return (moved * scale + self.bias[:, None, None]).to(x.dtype)


class PerStepDense(nn.Module):
  """A dense layer with weights of its own for every frame, and ELU: [N,T,J,C] -> [N,T,J,features].

  The ELU comes while frames are outermost, as in the products before it: behind the transpose,
  compiled gradients of it come in another memory order than PyTorch's compiler expects.
  """

  def __init__(self, steps: int, inputs: int, features: int):
    super().__init__()
    self.kernel = nn.Parameter(torch.randn(steps, inputs, features) * inputs**-0.5)
    self.bias = nn.Parameter(torch.zeros(steps, 1, features))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    n, t, j, c = x.shape
    if len(self.kernel) == 1:
      return F.elu(F.linear(x, self.kernel[0].T, self.bias[0, 0]))
    y = torch.baddbmm(self.bias, x.transpose(0, 1).reshape(t, n * j, c), self.kernel)
    return F.elu(y).reshape(t, n, j, -1).transpose(0, 1)


class GraphBackbone(nn.Module):
  """pose float[B,M,T,J,3] and present bool[B,M] -> h* float[B,outputs].

  Args:
    net: whose fields describe the network.
    steps: T.
  """

  def __init__(self, net: pose_backbones.GraphBackbone, steps: int):
    super().__init__()
    layout = skeletons.layout(net.layout)
    if net.skip not in ("residual", "concat"):
      raise UserError(f"model.pose.skip must be one of residual, concat, got {net.skip!r}")
    self.identity_filter, self.norm_first = net.identity_filter, net.norm_first
    weights = graphs.normalise_symmetric(graphs.vpn_weights(layout, pairs=net.pairs))
    self.register_buffer("weights", torch.tensor(weights), persistent=False)
    self.graph = PerStepDense(1 if net.shared else steps, 6 if net.identity_filter else 3,
                              net.features)
    self.skip = nn.Linear(3, net.features) if net.skip == "residual" else None
    self.convs = len(net.conv_features)
    channels, t, j = net.features + (3 if self.skip is None else 0), steps, layout.num_joints
    for i, width in enumerate(net.conv_features):
      self.add_module(f"norm{i}", MaskedBatchNorm(channels if net.norm_first else width))
      self.add_module(f"conv{i}", nn.Conv2d(channels, width, 3, padding=1))
      channels = width
      if i > 0 and min(t, j) >= 2:
        t, j = t // 2, j // 2
    if net.norm_first:
      self.norm_last = MaskedBatchNorm(channels)
    self.dropout = units.dropout(net.dropout)
    self.first_dropout = units.dropout(0.5 if net.dense else 0.0)
    self.outputs, self.layers = t * j * channels, len(net.dense)
    for i, width in enumerate(net.dense):
      self.add_module(f"dense{i}", nn.Linear(self.outputs, width))
      self.outputs = width

  def forward(self, pose: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    b, m = pose.shape[:2]
    counted = None
    if m > 1:
      counted = (present | ~present.any()).reshape(b * m, 1, 1, 1).float()
    x = pose.flatten(0, 1)
    neighbours = torch.einsum("ij,ntjc->ntic", self.weights, x)
    if self.identity_filter:
      neighbours = torch.cat([x, neighbours], -1)
    graph = self.dropout(self.graph(neighbours))
    # A sum has the memory order of its first term: channels last, as the convolutions want it.
    x = torch.cat([graph, x], -1) if self.skip is None else self.skip(x) + graph
    x = x.permute(0, 3, 1, 2)
    for i in range(self.convs):
      conv, norm = getattr(self, f"conv{i}"), getattr(self, f"norm{i}")
      x = conv(norm(x, counted)) if self.norm_first else norm(conv(x), counted)
      x = F.relu(x, inplace=True)
      if i > 0 and min(x.shape[2:]) >= 2:
        x = F.max_pool2d(x, 2)
    if self.norm_first:
      x = self.norm_last(x, counted)
    # In the order of ours, channels last: what follows has a weight for each place.
    x = x.permute(0, 2, 3, 1).reshape(b, m, -1)
    x = self.first_dropout(x)
    for i in range(self.layers):
      x = self.dropout(F.relu(getattr(self, f"dense{i}")(x)))
    if m == 1:
      return x[:, 0]
    absent = ~present & present.any(1, keepdim=True)
    return x.masked_fill(absent[..., None], float("-inf")).amax(1)


class PoseAttention(nn.Module):
  """h* float[B,D] -> scores of places and of times, None where there are none."""

  def __init__(self, inputs: int, spatial: int | None, temporal: int | None,
               width: tuple[int, int], norm: bool):
    super().__init__()
    self.norm = nn.BatchNorm1d(inputs) if norm else nn.Identity()
    self.parts = []
    for name, size, hidden in (("spatial", spatial, width[0]), ("temporal", temporal, width[1])):
      self.parts.append(name if size else None)
      if size:
        self.add_module(f"{name}_hidden", nn.Linear(inputs, hidden))
        self.add_module(f"{name}_scores", nn.Linear(hidden, size))

  def forward(self, h: torch.Tensor) -> list[torch.Tensor | None]:
    h = self.norm(h)
    return [name and getattr(self, f"{name}_scores")(
        torch.tanh(getattr(self, f"{name}_hidden")(h))).float() for name in self.parts]


class SpatialEmbedding(nn.Module):
  """Both modalities in one space; see `vpn.SpatialEmbedding`."""

  def __init__(self, kind: str, map_shape: tuple[int, ...], features: int):
    super().__init__()
    channels, t, h, w = map_shape
    self.kind = kind
    self.visual = nn.Linear(h * w * channels * (t if kind == "released" else 1), features)
    self.pose = nn.Linear(h * w, features)

  def forward(self, feature_map: torch.Tensor, scores: torch.Tensor):
    """float[B,C,t,h,w] and float[B,h*w] -> two float[B,features]."""
    x = feature_map.permute(0, 2, 3, 4, 1)
    if self.kind == "thesis":
      return self.visual(x.sum(1).flatten(1)), self.pose(scores)
    return torch.sigmoid(self.visual(x.flatten(1))), torch.sigmoid(self.pose(scores.sigmoid()))


class Coupler(nn.Module):
  """VPN as a layer, of a model whose pose backbone is "gcn"; see `vpn.VPNCoupler`.

  Args:
    model: `vpn.Model`, whose fields describe it.
    map_shape: (C, t, h, w) of the backbone's feature map.
    steps: frames of the skeletons.
  """

  def __init__(self, model: Any, map_shape: tuple[int, ...], steps: int):
    super().__init__()
    _, t, h, w = map_shape
    self.size = (h, w)
    if model.attention not in ("both", "spatial", "temporal", "none"):
      raise UserError(f"model.attention {model.attention!r} is unknown")
    if model.embedding not in ("thesis", "released", "none"):
      raise UserError(f"model.embedding {model.embedding!r} is unknown")
    self.spatial = model.attention in ("both", "spatial")
    self.temporal = model.attention in ("both", "temporal")
    embeds = model.embedding != "none"
    self.reads_pose = model.attention != "none" or embeds
    self.embedding = None
    if self.reads_pose:
      self.frame = poses.BodyCentred(model.layout, model.normalise)
      self.pose_backbone = GraphBackbone(_graph_net(model.pose, model.layout), steps)
      self.attention = PoseAttention(
          self.pose_backbone.outputs, h * w if self.spatial or embeds else None,
          t if self.temporal else None, model.attention_width, model.attention_norm)
    if embeds:
      self.embedding = SpatialEmbedding(model.embedding, map_shape, model.embedding_features)
    self.maps = 2 if self.spatial and self.temporal and not model.coupler else 1

  def forward(self, feature_map: torch.Tensor, batch: dict[str, torch.Tensor]):
    """-> the modulated map, [B,C * maps,t,h,w], and `out`."""
    if not self.reads_pose:
      return feature_map, {}
    score = batch["pose_score"]
    h_star = self.pose_backbone(self.frame(batch["pose3d"], score), (score > 0).any((2, 3)))
    places, times = self.attention(h_star)
    out, weights = {}, []
    if self.spatial:
      out["attention_spatial"] = places.sigmoid().unflatten(1, self.size)
      weights.append(out["attention_spatial"][:, None, None])
    if self.temporal:
      out["attention_temporal"] = times.softmax(-1)
      weights.append(out["attention_temporal"][:, None, :, None, None])
    modulated = feature_map
    # A x g + g in one pass over the map.
    if self.maps == 2:
      modulated = torch.cat([feature_map * (1 + weight) for weight in weights], 1)
    elif weights:
      modulated = feature_map * (1 + (weights[0] if len(weights) == 1 else
                                      weights[0] * weights[1]))
    if self.embedding is not None:
      out["embedding_visual"], out["embedding_pose"] = self.embedding(feature_map, places)
    return modulated, out


def _graph_net(fields: Mapping[str, Any], layout: str) -> pose_backbones.GraphBackbone:
  fields = dict(fields)
  kind = fields.pop("name")
  if kind != "gcn":
    raise UserError(f"torch_twins: model.pose.name {kind!r} has no counterpart in PyTorch here; "
                    "gcn and none have")
  return configuration.build(pose_backbones.GraphBackbone, fields, "model.pose", layout=layout,
                             parent=None)
