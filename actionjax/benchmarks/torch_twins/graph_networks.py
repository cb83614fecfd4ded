"""ST-GCN, ST-GCN++ and MS-G3D: the twins of `actionjax.models.stgcn` and `msg3d`.

Over float[N,C,T,V], as graph networks are usual in PyTorch: 1x1 and temporal convolutions are
Conv2d's, sums over neighbours products with the graph.
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from actionjax import skeletons
from actionjax.benchmarks.torch_twins import poses, units
from actionjax.errors import UserError
from actionjax.models import stgcn
from actionjax.ops import graphs


class Pointwise(nn.Sequential):
  """1x1 convolution (`conv`) of every `stride`-th frame, and batch norm (`bn`)."""

  def __init__(self, inputs: int, features: int, stride: int = 1):
    super().__init__()
    # The batch norm takes a bias off again, but these are the parameters there are.
    self.conv = nn.Conv2d(inputs, features, 1, (stride, 1))
    self.bn = nn.BatchNorm2d(features)


def temporal_conv(inputs: int, features: int, size: int, stride: int = 1,
                  dilation: int = 1) -> nn.Conv2d:
  """Convolution over time, [N,C,T,V] -> [N,features,ceil(T/stride),V]."""
  return nn.Conv2d(inputs, features, (size, 1), (stride, 1),
                   (dilation * (size - 1) // 2, 0), (dilation, 1))


class MultiScaleTemporal(nn.Module):
  """Branches over time, concatenated and normalised; see `graph_layers.MultiScaleTemporal`."""

  def __init__(self, inputs: int, features: int, stride: int = 1, wide: str = "first",
               dilations: tuple[int, ...] = (1, 2, 3, 4)):
    super().__init__()
    branches = len(dilations) + 2
    sizes = [features // branches] * branches
    sizes[0 if wide == "first" else -1] += features % branches
    self.sizes, self.stride = sizes, stride
    self.expand = nn.Conv2d(inputs, features, 1)
    self.expand_bn = nn.BatchNorm2d(features - sizes[-1])
    self.convs = len(dilations)
    for i, dilation in enumerate(dilations):
      self.add_module(f"conv{i}", temporal_conv(sizes[i], sizes[i], 3, stride, dilation))
    self.pool = nn.MaxPool2d((3, 1), (stride, 1), (1, 0))
    self.bn = nn.BatchNorm2d(features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x, plain = self.expand(x).split([sum(self.sizes[:-1]), self.sizes[-1]], 1)
    x = F.relu(self.expand_bn(x), inplace=True)
    *parts, pooled = x.split(self.sizes[:-1], 1)
    parts = [getattr(self, f"conv{i}")(part) for i, part in enumerate(parts)]
    return self.bn(torch.cat([*parts, self.pool(pooled), plain[:, :, ::self.stride]], 1))


class InputNorm(nn.Module):
  """Batch norm of each coordinate of each joint, float[B,M,T,V,C] -> float[B*M,C,T,V].

  Args:
    persons: M where each person has statistics of its own, else 1.
  """

  def __init__(self, joints: int, channels: int, persons: int = 1):
    super().__init__()
    self.persons = persons
    self.bn = nn.BatchNorm1d(persons * joints * channels)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    b, m, t, v, c = x.shape
    if self.persons > 1:
      rows = self.bn(x.transpose(1, 2).reshape(b * t, m * v * c))
      x = rows.view(b, t, m, v, c).transpose(1, 2)
    else:
      x = self.bn(x.reshape(b * m * t, v * c))
    # So few numbers are copied at once; products with the graph leave joints innermost anyway.
    return x.reshape(b * m, t, v, c).permute(0, 3, 1, 2).contiguous()


class PersonHead(nn.Module):
  """Mean over joints, frames and persons, dropout, dense: [B*M,C,T,V] -> float32[B,num_classes]."""

  def __init__(self, inputs: int, num_classes: int, rate: float):
    super().__init__()
    self.dropout = units.dropout(rate)
    self.dense = nn.Linear(inputs, num_classes)

  def forward(self, x: torch.Tensor, batch: int) -> torch.Tensor:
    x = x.mean((2, 3), dtype=torch.float32).unflatten(0, (batch, -1)).mean(1)
    return self.dense(self.dropout(x)).float()


class GraphUnit(nn.Module):
  """relu(bn(sum_k W_k x A_k) + residual), [N,C,T,V] -> [N,features,T,V]; see `stgcn.GraphUnit`."""

  def __init__(self, inputs: int, features: int, graph: torch.Tensor, adaptive: str,
               residual: bool):
    super().__init__()
    self.subsets, self.features, self.adaptive = len(graph), features, adaptive
    if adaptive == "init":
      self.adjacency = nn.Parameter(graph.clone())
    else:
      self.register_buffer("graph", graph.clone(), persistent=False)
    if adaptive == "importance":
      self.importance = nn.Parameter(torch.ones_like(graph))
    elif adaptive == "offset":
      self.offset = nn.Parameter(torch.zeros_like(graph))
    elif adaptive not in ("init", "none"):
      raise UserError("adaptive must be one of importance, init, offset, none, got "
                      f"{adaptive!r}")
    self.weight = nn.Parameter(torch.empty(self.subsets * features, inputs, 1, 1))
    nn.init.kaiming_normal_(self.weight, mode="fan_out")
    self.bias = nn.Parameter(torch.zeros(self.subsets * features))
    self.bn = nn.BatchNorm2d(features)
    self.residual = residual
    self.shortcut = nn.Identity()
    if residual and inputs != features:
      self.shortcut = Pointwise(inputs, features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    if self.adaptive == "init":
      graph = self.adjacency
    elif self.adaptive == "importance":
      graph = self.graph * self.importance
    else:
      graph = self.graph + self.offset if self.adaptive == "offset" else self.graph
    y = F.conv2d(x, self.weight, self.bias)
    y = torch.einsum("nkctv,kvw->nctw", y.unflatten(1, (self.subsets, self.features)), graph)
    y = self.bn(y)
    if self.residual:
      y = y.add_(self.shortcut(x))
    return F.relu(y, inplace=True)


class TemporalUnit(nn.Module):
  """[N,C,T,V] -> [N,C,ceil(T/stride),V], without activation; see `stgcn.TemporalUnit`."""

  def __init__(self, features: int, kind: str, stride: int, rate: float):
    super().__init__()
    self.kind = kind
    if kind == "single":
      self.conv = temporal_conv(features, features, 9, stride)
      self.bn = nn.BatchNorm2d(features)
    elif kind == "multi_scale":
      self.scales = MultiScaleTemporal(features, features, stride)
      self.transform = Pointwise(features, features)
    else:
      raise UserError(f"temporal must be one of single, multi_scale, got {kind!r}")
    self.dropout = units.dropout(rate)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    if self.kind == "single":
      return self.dropout(self.bn(self.conv(x)))
    return self.dropout(self.transform(F.relu(self.scales(x), inplace=True)))


class Block(nn.Module):
  """relu(temporal(graph(x)) + shortcut(x)); see `stgcn.Block`."""

  def __init__(self, inputs: int, features: int, graph: torch.Tensor, parts: dict[str, Any],
               stride: int, residual: bool, rate: float):
    super().__init__()
    self.graph_unit = GraphUnit(inputs, features, graph, parts["adaptive"],
                                parts["graph_residual"])
    self.temporal_unit = TemporalUnit(features, parts["temporal"], stride, rate)
    self.residual = residual
    self.shortcut = nn.Identity()
    if residual and (inputs != features or stride != 1):
      self.shortcut = Pointwise(inputs, features, stride)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.temporal_unit(self.graph_unit(x))
    if self.residual:
      y = y.add_(self.shortcut(x))
    return F.relu(y, inplace=True)


class STGCN(nn.Module):
  """Skeletons float[B,M,T,V,3] -> feature map float[B*M,outputs,T',V]."""

  def __init__(self, model: stgcn.Model):
    super().__init__()
    layout = skeletons.layout(model.layout)
    parts = stgcn.choose_parts(model)
    if parts["graph"] not in stgcn.GRAPHS:
      raise UserError(f"torch_twins: a network with graph={parts['graph']} has no twin")
    graph = torch.tensor(stgcn.GRAPHS[parts["graph"]](layout), dtype=torch.float32)
    self.input = InputNorm(layout.num_joints, 3)
    blocks, self.outputs = [], 3
    for stage, size in enumerate(model.stage_sizes):
      for block in range(size):
        features = model.width * 2 ** stage
        blocks.append(Block(self.outputs, features, graph, parts,
                            2 if stage and not block else 1, residual=bool(blocks),
                            rate=model.block_dropout if blocks else 0.0))
        self.outputs = features
    self.blocks = len(blocks)
    for i, block in enumerate(blocks):
      self.add_module(f"block{i}", block)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.input(x)
    for i in range(self.blocks):
      x = getattr(self, f"block{i}")(x)
    return x


class MultiScaleGraph(nn.Module):
  """relu(bn(sum_k W_k x (A_k + R_k))), [N,C,T,V] -> [N,features,T,V]; see `msg3d`."""

  def __init__(self, inputs: int, features: int, graph: torch.Tensor):
    super().__init__()
    self.register_buffer("graph", graph.clone(), persistent=False)
    self.offset = nn.Parameter(torch.zeros_like(graph))
    self.weight = nn.Parameter(torch.empty(features, len(graph) * inputs, 1, 1))
    nn.init.kaiming_normal_(self.weight, mode="fan_out")
    self.bias = nn.Parameter(torch.zeros(features))
    self.bn = nn.BatchNorm2d(features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    neighbours = torch.einsum("nctv,kvw->nkctw", x, self.graph + self.offset).flatten(1, 2)
    return F.relu(self.bn(F.conv2d(neighbours, self.weight, self.bias)), inplace=True)


class MultiScaleUnit(nn.Module):
  """relu(multi-scale temporal convolution + shortcut); see `msg3d.TemporalUnit`."""

  def __init__(self, inputs: int, features: int, stride: int = 1, activate: bool = True,
               rate: float = 0.0):
    super().__init__()
    self.scales = MultiScaleTemporal(inputs, features, stride, "last")
    self.shortcut = nn.Identity()
    if inputs != features or stride != 1:
      self.shortcut = Pointwise(inputs, features, stride)
    self.activate, self.dropout = activate, units.dropout(rate)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    y = self.scales(x).add_(self.shortcut(x))
    return self.dropout(F.relu(y, inplace=True) if self.activate else y)


class Window(nn.Module):
  """G3D: a graph convolution across a window of frames, which collapses to one; see `msg3d`."""

  def __init__(self, inputs: int, hidden: int, features: int, graph: torch.Tensor, frames: int,
               stride: int):
    super().__init__()
    self.frames, self.stride = frames, stride
    self.graph_unit = MultiScaleGraph(inputs, hidden, graph)
    self.weight = nn.Parameter(torch.randn(features, hidden, frames) * (frames * features)**-0.5)
    self.bias = nn.Parameter(torch.zeros(features))
    self.bn = nn.BatchNorm2d(features)

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    side = (self.frames - 1) // 2
    x = F.pad(x, (0, 0, side, self.frames - 1 - side)).unfold(2, self.frames, self.stride)
    x = self.graph_unit(x.transpose(3, 4).flatten(3))
    # The window is the kernel: a convolution whose output is one wide there.
    x = x.unflatten(3, (self.frames, -1))
    return self.bn(F.conv3d(x, self.weight[:, :, None, :, None], self.bias)[:, :, :, 0])


class MSG3D(nn.Module):
  """Skeletons float[B,M,T,V,3] -> feature map float[B*M,outputs,T',V].

  Args:
    model: `msg3d.Model`.
    persons: M.
  """

  def __init__(self, model: Any, persons: int):
    super().__init__()
    layout = skeletons.layout(model.layout)
    adjacency = graphs.binary(layout)
    joints = torch.tensor(graphs.multi_scale(adjacency, model.scales))
    volumes = [torch.tensor(graphs.multi_scale(graphs.windowed(adjacency, frames),
                                               model.window_scales)) for frames in model.windows]
    self.input = InputNorm(layout.num_joints, 3, persons)
    self.windows, inputs = len(volumes), 3
    for i in range(3):
      width, stride = model.width * 2 ** i, 2 if i else 1
      hidden = inputs if i else width
      self.add_module(f"graph{i}", MultiScaleGraph(inputs, hidden, joints))
      self.add_module(f"graph{i}_temporal0", MultiScaleUnit(hidden, width, stride))
      self.add_module(f"graph{i}_temporal1", MultiScaleUnit(width, width, activate=False))
      for j, (volume, frames) in enumerate(zip(volumes, model.windows)):
        self.add_module(f"window{i}_{j}", Window(inputs, hidden, width, volume, frames, stride))
      self.add_module(f"temporal{i}", MultiScaleUnit(width, width, rate=model.block_dropout))
      inputs = width
    self.outputs = inputs

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.input(x)
    for i in range(3):
      part = lambda name, i=i: getattr(self, name.format(i))
      path = part("graph{}_temporal1")(part("graph{}_temporal0")(part("graph{}")(x)))
      for j in range(self.windows):
        path = path.add_(getattr(self, f"window{i}_{j}")(x))
      x = part("temporal{}")(F.relu(path, inplace=True))
    return x


class GraphModel(nn.Module):
  """A batch -> (float32[B,num_classes], {}): `stgcn.Model` or `msg3d.Model`.

  Args:
    model: whose fields describe it.
    backbone: `STGCN` or `MSG3D`.
  """

  def __init__(self, model: Any, backbone: nn.Module):
    super().__init__()
    self.stream = poses.Stream(model.layout, model.dimensions, model.normalise, model.stream,
                               model.bone_pairs, model.image_size)
    self.backbone = backbone
    self.head = PersonHead(backbone.outputs, model.num_classes, model.dropout)

  def forward(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict]:
    x = self.stream(batch)
    return self.head(self.backbone(x), len(x)), {}
