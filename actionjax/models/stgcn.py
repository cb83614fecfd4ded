"""ST-GCN (Yan et al., AAAI 2018) and ST-GCN++ (Duan et al., PYSKL, ACM MM 2022)."""
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from actionjax import skeletons
from actionjax.models import checked, graph_layers, layers
from actionjax.ops import graphs, skeleton_streams

Variant = Literal["stgcnpp", "stgcn"]
Graph = Literal["spatial", "partition", "full_partition", "stored"]
Adaptive = Literal["importance", "init", "offset", "none"]
Temporal = Literal["single", "multi_scale"]
InputNorm = Literal["joint", "person", "none"]
GRAPHS = {
    "spatial": graphs.spatial,
    "partition": graphs.spatial_partition,
    "full_partition": lambda layout: graphs.spatial_partition(layout, reach=None),
}
# What a variant is made of; each can be chosen by itself.
_PARTS = {
    "stgcn": dict(graph="partition", adaptive="importance", graph_residual=False,
                  temporal="single"),
    "stgcnpp": dict(graph="spatial", adaptive="init", graph_residual=True,
                    temporal="multi_scale"),
}


def find_graph(name: Graph, layout: skeletons.Layout, subsets: int) -> np.ndarray:
  """float32[K,V,V] of a layout; of "stored", which the weights bring, what it is before."""
  if name == "stored":
    return np.tile(np.eye(layout.num_joints, dtype=np.float32), (subsets, 1, 1))
  return GRAPHS[name](layout)


def choose_parts(net) -> dict[str, Any]:
  """What an `STGCN` or a `Model` is made of: `graph`, `adaptive`, `graph_residual`, `temporal`."""
  chosen = {key: getattr(net, key) for key in _PARTS[net.variant]}
  return _PARTS[net.variant] | {key: v for key, v in chosen.items() if v is not None}


class GraphUnit(checked.Module):
  """relu(bn(sum_k A_k^T x W_k) + residual), [N,V,T,C] -> [N,V,T,features].

  Attributes:
    graph: float[K,V,V], [from, to].
    stored: the graph is a constant among the weights (`graph`, beside the statistics), and this one
      only what it is before they are loaded.
    adaptive: "importance": A times learnt weights that start at 1 (`importance`); "init": A
      itself is learnt (`adjacency`); "offset": A plus learnt weights that start near 0
      (`offset`); "none": A as it is.
    residual: add the input, through `shortcut` where widths differ; else 0.
  """
  features: int
  graph: Any
  adaptive: Adaptive = "importance"
  residual: bool = False
  stored: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    graph = jnp.asarray(self.graph, jnp.float32)
    k, c = len(graph), x.shape[-1]
    if self.stored and self.adaptive != "init":
      graph = graph_layers.stored_graph(self, graph)
    if self.adaptive == "importance":
      graph = graph * self.param("importance", nn.initializers.ones, graph.shape, jnp.float32)
    elif self.adaptive == "init":
      graph = self.param("adjacency", lambda *_: graph)
    elif self.adaptive == "offset":
      graph = graph + self.param("offset", graph_layers.near_zero, graph.shape, jnp.float32)
    kernel = self.param("kernel", layers.he_fan_out, (c, k * self.features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (k * self.features,), jnp.float32)
    x, graph, kernel, bias = nn.dtypes.promote_dtype(x, graph, kernel, bias, dtype=self.dtype)
    y = graph_layers.graph_convolution(
        x, graph, kernel.reshape(c, k, self.features).swapaxes(0, 1))
    # The biases of the K subsets pass the graph too, so that each joint gets its own.
    y = y + (graph.sum(1).T @ bias.reshape(k, self.features))[:, None]
    y = graph_layers.norm(train=train, dtype=self.dtype, name="bn")(y)
    if self.residual:
      if c != self.features:
        x = graph_layers.Pointwise(self.features, dtype=self.dtype, name="shortcut")(
            x, train=train)
      y = y + x
    return nn.relu(y)


class TemporalUnit(checked.Module):
  """[N,V,T,C] -> [N,V,ceil(T/stride),C], without activation.

  Attributes:
    kind: "single": a convolution of 9 frames and batch norm (`conv`, `bn`); "multi_scale":
      ReLU of `graph_layers.MultiScaleTemporal` (`scales`), then 1x1 and batch norm (`transform`).
    dropout: at the end.
  """
  kind: Temporal = "single"
  stride: int = 1
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    features = x.shape[-1]
    if self.kind == "single":
      x = graph_layers.TemporalConv(features, 9, self.stride, dtype=self.dtype, name="conv")(x)
      x = graph_layers.norm(train=train, dtype=self.dtype, name="bn")(x)
    else:
      x = nn.relu(graph_layers.MultiScaleTemporal(
          features, self.stride, dtype=self.dtype, name="scales")(x, train=train))
      x = graph_layers.Pointwise(features, dtype=self.dtype, name="transform")(x, train=train)
    return nn.Dropout(self.dropout, deterministic=not train)(x)


class STGCN(checked.Module):
  """Skeletons float[B,M,T,V,C] -> feature map float[B,M,V,T',C'].

  Attributes: see `Model`.
  """
  layout: str
  variant: Variant = "stgcnpp"
  graph: Graph | None = None
  adaptive: Adaptive | None = None
  graph_residual: bool | None = None
  temporal: Temporal | None = None
  width: int = 64
  stage_sizes: tuple[int, ...] = (4, 3, 3)
  block_dropout: float = 0.0
  subsets: int = 3
  input_norm: InputNorm = "joint"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    parts = choose_parts(self)
    graph = find_graph(parts["graph"], skeletons.layout(self.layout), self.subsets)
    b, m = x.shape[:2]
    x = graph_layers.InputNorm(
        persons=self.input_norm == "person", normalise=self.input_norm != "none",
        dtype=self.dtype, name="input")(x, train=train)
    index = 0
    for stage, size in enumerate(self.stage_sizes):
      for block in range(size):
        stride = 2 if stage and not block else 1
        x = Block(self.width * 2 ** stage, graph, parts["adaptive"], parts["graph_residual"],
                  parts["temporal"], stride, residual=index > 0,
                  dropout=self.block_dropout if index else 0.0,
                  stored=parts["graph"] == "stored", dtype=self.dtype,
                  name=f"block{index}")(x, train=train)
        index += 1
    return x.reshape(b, m, *x.shape[1:])


class Block(nn.Module):
  """relu(temporal(graph(x)) + shortcut(x)); `residual` False: without the shortcut."""
  features: int
  graph: Any
  adaptive: str
  graph_residual: bool
  temporal: str
  stride: int = 1
  residual: bool = True
  dropout: float = 0.0
  stored: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    y = GraphUnit(self.features, self.graph, self.adaptive, self.graph_residual, self.stored,
                  self.dtype, name="graph_unit")(x, train=train)
    y = TemporalUnit(self.temporal, self.stride, self.dropout, self.dtype,
                     name="temporal_unit")(y, train=train)
    if self.residual:
      if x.shape[-1] != self.features or self.stride != 1:
        x = graph_layers.Pointwise(self.features, self.stride, self.dtype, name="shortcut")(
            x, train=train)
      y = y + x
    return nn.relu(y)


class Model(checked.Module):
  """Skeletons -> one stream -> ST-GCN or ST-GCN++ -> mean over joints, frames, persons -> dense.

  Attributes:
    num_classes: N.
    layout: joint layout.
    variant: "stgcnpp" or "stgcn".
    dimensions: 3 reads `pose3d`, 2 `pose2d` with its scores as third channel; None: the layout's.
    normalise: of skeletons, see `skeleton_streams.graph_input`; None: "upright" in 3D, "box" in
      2D.
    image_size: (height, width) that `pose2d` is measured in, for normalise="image".
    stream: "joint", "bone", "joint_motion" or "bone_motion"; or several, whose channels follow one
      another (what PYSKL's networks of six input channels read).
    scores: whether scores are a further channel of 2D skeletons.
    bone_pairs: "released" or "tree"; see `skeleton_streams.bone_parents`.
    graph: "spatial", "partition" (ST-GCN's, as released), "full_partition" (as in the paper), or
      "stored": constants that an imported checkpoint brings along; None here and below: the
      variant's own.
    subsets: K of a stored graph.
    adaptive: "importance", "init", "offset" or "none"; see `GraphUnit`.
    graph_residual: whether the graph unit adds its input.
    temporal: "single" or "multi_scale"; see `TemporalUnit`.
    width: of the first stage; doubles with every further one.
    stage_sizes: blocks of each stage; stages after the first begin with a temporal stride of 2.
    input_norm: statistics of the input: "joint", one for each coordinate of a joint, "person", for
      each person's too (which ties weights to a number of persons), or "none".
    dropout: before the classifier. block_dropout: after each temporal unit but the first.
    dtype: compute type; parameters and statistics are float32.
  """
  num_classes: int
  layout: str
  variant: Variant = "stgcnpp"
  dimensions: Literal[2, 3] | None = None
  normalise: skeleton_streams.Normalise | None = None
  image_size: tuple[int, int] = (1080, 1920)
  stream: skeleton_streams.Streams = "joint"
  scores: bool = True
  bone_pairs: skeleton_streams.BonePairs = "released"
  graph: Graph | None = None
  adaptive: Adaptive | None = None
  graph_residual: bool | None = None
  temporal: Temporal | None = None
  width: int = 64
  stage_sizes: tuple[int, ...] = (4, 3, 3)
  subsets: int = 3
  input_norm: InputNorm = "joint"
  dropout: float = 0.0
  block_dropout: float = 0.0
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return skeleton_streams.inputs(self.layout, self.dimensions)

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch.

    Args:
      batch: `pose3d` float[B,M,T,J,3] or `pose2d` float[B,M,T,J,2], `pose_score`
        float[B,M,T,J].

    Returns:
      logits float32[B,N] and out: `features` float[B,C], `feature_map` float[B,M,J,T',C].
    """
    x = skeleton_streams.graph_input(
        batch, self.layout, dimensions=self.dimensions, normalise=self.normalise,
        stream_name=self.stream, pairs=self.bone_pairs, image_size=self.image_size,
        scores=self.scores)
    feature_map = STGCN(
        self.layout, self.variant, self.graph, self.adaptive, self.graph_residual, self.temporal,
        self.width, self.stage_sizes, self.block_dropout, self.subsets, self.input_norm,
        jnp.dtype(self.dtype), name="backbone")(x, train=train)
    logits, features = graph_layers.PersonHead(self.num_classes, self.dropout, name="head")(
        feature_map, train=train)
    return logits, {"features": features, "feature_map": feature_map}
