"""MS-G3D (Liu et al., "Disentangling and Unifying Graph Convolutions", CVPR 2020)."""
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from actionjax import skeletons
from actionjax.models import checked, graph_layers, layers
from actionjax.ops import graphs, skeleton_streams

Graph = Literal["layout", "stored"]


class MultiScaleGraph(nn.Module):
  """relu(bn(sum_k (A_k + R_k)^T x W_k)), [N,V,T,C] -> [N,V,T,features] (section 3.2).

  Attributes:
    graph: float[K,V,V] of `graphs.multi_scale`; R (`offset`) is learnt and starts near 0.
    stored: see `stgcn.GraphUnit`.
  """
  features: int
  graph: Any
  stored: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    k, c = len(self.graph), x.shape[-1]
    graph = jnp.asarray(self.graph, jnp.float32)
    if self.stored:
      graph = graph_layers.stored_graph(self, graph)
    offset = self.param("offset", graph_layers.near_zero, self.graph.shape, jnp.float32)
    kernel = self.param("kernel", layers.he_fan_out, (k * c, self.features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    x, graph, kernel, bias = nn.dtypes.promote_dtype(
        x, graph + offset, kernel, bias, dtype=self.dtype)
    y = graph_layers.graph_convolution(x, graph, kernel.reshape(k, c, self.features)) + bias
    return nn.relu(graph_layers.norm(train=train, dtype=self.dtype, name="bn")(y))


class TemporalUnit(nn.Module):
  """relu(multi-scale temporal convolution + shortcut), [N,V,T,C] -> [N,V,ceil(T/stride),features].

  Attributes:
    activate: whether the ReLU at the end is there. dropout: after it.
  """
  features: int
  stride: int = 1
  activate: bool = True
  dropout: float = 0.0
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    y = graph_layers.MultiScaleTemporal(self.features, self.stride, "last", dtype=self.dtype,
                                        name="scales")(x, train=train)
    if x.shape[-1] != self.features or self.stride != 1:
      x = graph_layers.Pointwise(self.features, self.stride, self.dtype, name="shortcut")(
          x, train=train)
    y = nn.relu(y + x) if self.activate else y + x
    return nn.Dropout(self.dropout, deterministic=not train)(y)


class Window(nn.Module):
  """G3D: a graph convolution across a window of frames, which then collapses to one (3.3).

  [N,V,T,C] -> [N,V,ceil(T/stride),features], without activation.

  Attributes:
    hidden: width of the graph convolution.
    graph: float[K,frames*V,frames*V].
    frames: of a window; zeros stand for those beyond the ends.
    stored: see `stgcn.GraphUnit`.
  """
  features: int
  hidden: int
  graph: Any
  frames: int
  stride: int = 1
  stored: bool = False
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    n, v, t, c = x.shape
    side = (self.frames - 1) // 2
    padded = jnp.pad(x, ((0, 0), (0, 0), (side, self.frames - 1 - side), (0, 0)))
    x = jnp.concatenate([padded[:, :, i:i + t:self.stride] for i in range(self.frames)], 1)
    x = MultiScaleGraph(self.hidden, self.graph, self.stored, self.dtype, name="graph_unit")(
        x, train=train)
    kernel = self.param("kernel", layers.he_fan_out, (self.frames, self.hidden, self.features),
                        jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    x = x.reshape(n, self.frames, v, -1, self.hidden)
    y = sum(x[:, i] @ kernel[i] for i in range(self.frames)) + bias
    return graph_layers.norm(train=train, dtype=self.dtype, name="bn")(y)


class MSG3D(nn.Module):
  """Skeletons float[B,M,T,V,C] -> feature map float[B,M,V,T',C'].

  Attributes: see `Model`.
  """
  layout: str
  width: int = 96
  scales: int = 13
  window_scales: int = 6
  windows: tuple[int, ...] = (3, 5)
  block_dropout: float = 0.0
  graph: Graph = "layout"
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    stored = self.graph == "stored"
    adjacency = graphs.binary(skeletons.layout(self.layout))
    joints = graphs.multi_scale(adjacency, self.scales)
    volumes = [graphs.multi_scale(graphs.windowed(adjacency, frames), self.window_scales)
               for frames in self.windows]
    b, m = x.shape[:2]
    x = graph_layers.InputNorm(persons=True, dtype=self.dtype, name="input")(x, train=train)
    for i in range(3):
      width, stride, c = self.width * 2 ** i, 2 if i else 1, x.shape[-1]
      # The first block widens in its graph convolutions, the others after them. The released code
      # knows by three channels that the windows' are the first.
      hidden = c if i else width
      window_hidden = hidden if c == 3 else c
      path = MultiScaleGraph(hidden, joints, stored, self.dtype, name=f"graph{i}")(x, train=train)
      path = TemporalUnit(width, stride, dtype=self.dtype, name=f"graph{i}_temporal0")(
          path, train=train)
      path = TemporalUnit(width, activate=False, dtype=self.dtype, name=f"graph{i}_temporal1")(
          path, train=train)
      for j, (volume, frames) in enumerate(zip(volumes, self.windows)):
        path = path + Window(width, window_hidden, volume, frames, stride, stored, self.dtype,
                             name=f"window{i}_{j}")(x, train=train)
      x = TemporalUnit(width, dropout=self.block_dropout, dtype=self.dtype, name=f"temporal{i}")(
          nn.relu(path), train=train)
    return x.reshape(b, m, *x.shape[1:])


class Model(checked.Module):
  """Skeletons -> one stream -> MS-G3D -> mean over joints, frames and persons -> dense.

  Attributes:
    num_classes: N.
    layout: joint layout.
    dimensions, normalise, image_size, stream, scores, bone_pairs: of the input; see `stgcn.Model`.
    graph: "layout", or "stored": constants that an imported checkpoint brings along.
    width: of the first of three blocks; doubles with each.
    scales, window_scales: K of the graphs over one frame and over windows.
    windows: frames of each window branch.
    dropout: before the classifier. block_dropout: after each block.
    dtype: compute type; parameters and statistics are float32.
  """
  num_classes: int
  layout: str
  dimensions: Literal[2, 3] | None = None
  normalise: skeleton_streams.Normalise | None = None
  image_size: tuple[int, int] = (1080, 1920)
  stream: skeleton_streams.Streams = "joint"
  scores: bool = True
  bone_pairs: skeleton_streams.BonePairs = "released"
  width: int = 96
  scales: int = 13
  window_scales: int = 6
  windows: tuple[int, ...] = (3, 5)
  graph: Graph = "layout"
  dropout: float = 0.0
  block_dropout: float = 0.0
  dtype: checked.Dtype = "float32"

  @property
  def inputs(self) -> tuple[str, ...]:
    """Names of the arrays that the model reads from a batch."""
    return skeleton_streams.inputs(self.layout, self.dimensions)

  @nn.compact
  def __call__(self, batch, *, train: bool):
    """Classifies a batch; arguments and results as of `stgcn.Model`.

    Each person's place in the batch has input statistics of its own, so that trained weights
    fit one number of persons.
    """
    x = skeleton_streams.graph_input(
        batch, self.layout, dimensions=self.dimensions, normalise=self.normalise,
        stream_name=self.stream, pairs=self.bone_pairs, image_size=self.image_size,
        scores=self.scores)
    feature_map = MSG3D(
        self.layout, self.width, self.scales, self.window_scales, self.windows,
        self.block_dropout, self.graph, jnp.dtype(self.dtype), name="backbone")(x, train=train)
    logits, features = graph_layers.PersonHead(self.num_classes, self.dropout, name="head")(
        feature_map, train=train)
    return logits, {"features": features, "feature_map": feature_map}
