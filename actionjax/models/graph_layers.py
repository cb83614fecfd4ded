"""Layers of graph networks over skeletons, float[N,V,T,C]: persons, joints, frames, channels.

Joints stand before frames, so that the sum over a joint's neighbours is one matrix product with
all of a person's frames and channels, and a temporal convolution is a 2D one over N*V sequences.
On two cores this takes a third less than joints innermost; products with the graph come before
the wider 1x1 convolution, which they commute with.
"""
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from actionjax.models import layers

norm = layers.batch_norm()


def near_zero(key, shape, dtype):
  """Initialiser of what is learnt beside a graph: uniform within 1e-6."""
  return nn.initializers.uniform(2e-6)(key, shape, dtype) - 1e-6


def stored_graph(module: nn.Module, initial: jax.Array) -> jax.Array:
  """A graph that a checkpoint brings along: not learnt, and stored as statistics are (`graph`)."""
  return module.variable("batch_stats", "graph", lambda: initial).value


def graph_product(x: jax.Array, graph: jax.Array) -> jax.Array:
  """Sums over neighbours: float[N,V,T,C] and float[V,W] ([from, to]) -> float[N,W,T,C]."""
  n, v, t, c = x.shape
  # The graph is repeated for each person: one product for all would bring joints to the front.
  matrix = jnp.broadcast_to(graph.T.astype(x.dtype), (n, graph.shape[1], v))
  return (matrix @ x.reshape(n, v, t * c)).reshape(n, -1, t, c)


def graph_convolution(x: jax.Array, graph: jax.Array, kernel: jax.Array) -> jax.Array:
  """sum_k (A_k^T x) W_k: float[N,V,T,C], float[K,V,W], float[K,C,O] -> float[N,W,T,O]."""
  if x.shape[-1] < 16:
    # So few channels: the subsets side by side make one product of fair size.
    neighbours = jnp.concatenate([graph_product(x, a) for a in graph], -1)
    return neighbours @ kernel.reshape(-1, kernel.shape[-1])
  return sum(graph_product(x, a) @ w for a, w in zip(graph, kernel))


class Pointwise(nn.Module):
  """1x1 convolution and batch norm: parameters `conv` and `bn`; every `stride`-th frame."""
  features: int
  stride: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    x = nn.Dense(self.features, dtype=self.dtype, kernel_init=layers.he_fan_out, name="conv")(
        x[:, :, ::self.stride])
    return norm(train=train, dtype=self.dtype, name="bn")(x)


class TemporalConv(nn.Module):
  """Convolution over time, [N,V,T,C] -> [N,V,ceil(T/stride),features], zeros at both ends.

  Parameters: `kernel` [size,C,features], `bias` [features].
  """
  features: int
  size: int
  stride: int = 1
  dilation: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x):
    n, v, t, c = x.shape
    kernel = self.param("kernel", layers.he_fan_out, (self.size, c, self.features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
    x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=self.dtype)
    pad = self.dilation * (self.size - 1) // 2
    y = lax.conv_general_dilated(
        x.reshape(n * v, t, 1, c), kernel[:, None], (self.stride, 1), ((pad, pad), (0, 0)),
        rhs_dilation=(self.dilation, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return y.reshape(n, v, -1, self.features) + bias


class MultiScaleTemporal(nn.Module):
  """Branches over time, concatenated and normalised: what ST-GCN++ and MS-G3D share.

  Each branch has a sixth of the features (with four dilations): for each dilation a 1x1
  convolution, batch norm, ReLU and a convolution of 3 frames; a 1x1 convolution, batch norm, ReLU
  and a maximum over 3 frames; a strided 1x1 convolution. The 1x1 convolutions are one layer,
  `expand`, and their batch norms another, `expand_bn`; `bn` normalises all branches.

  Attributes:
    features: of all branches together.
    wide: "first" or "last", the branch that takes the remainder of the division.
    dilations: of the convolutions.
  """
  features: int
  stride: int = 1
  wide: str = "first"
  dilations: Sequence[int] = (1, 2, 3, 4)
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    """float[N,V,T,C] -> float[N,V,ceil(T/stride),features], without activation."""
    branches = len(self.dilations) + 2
    sizes = [self.features // branches] * branches
    sizes[0 if self.wide == "first" else -1] += self.features % branches
    x = nn.Dense(self.features, dtype=self.dtype, kernel_init=layers.he_fan_out,
                 name="expand")(x)
    *parts, plain = jnp.split(x, np.cumsum(sizes)[:-1], -1)
    x = nn.relu(norm(train=train, dtype=self.dtype, name="expand_bn")(
        jnp.concatenate(parts, -1)))
    *convolved, pooled = jnp.split(x, np.cumsum(sizes[:-1])[:-1], -1)
    parts = [TemporalConv(size, 3, self.stride, dilation, self.dtype, name=f"conv{i}")(part)
             for i, (part, size, dilation) in enumerate(zip(convolved, sizes, self.dilations))]
    # After a ReLU, padding with zeros leaves a maximum what it is.
    t = pooled.shape[2]
    padded = jnp.pad(pooled, ((0, 0), (0, 0), (1, 1), (0, 0)))
    parts.append(jnp.maximum(jnp.maximum(padded[:, :, :t], pooled), padded[:, :, 2:])
                 [:, :, ::self.stride])
    parts.append(plain[:, :, ::self.stride])
    return norm(train=train, dtype=self.dtype, name="bn")(jnp.concatenate(parts, -1))


class InputNorm(nn.Module):
  """Batch norm of each coordinate of each joint, and float[B,M,T,V,C] -> float[B*M,V,T,C].

  Attributes:
    persons: each person has statistics of its own (MS-G3D), instead of all the same (ST-GCN).
    normalise: False rearranges alone.
  """
  persons: bool = False
  normalise: bool = True
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x, *, train: bool):
    b, m, t, v, c = x.shape
    x = x.transpose(0, 1, 3, 2, 4)
    if not self.normalise:
      return x.reshape(b * m, v, t, c).astype(self.dtype)
    rows = x.transpose(0, 3, 1, 2, 4) if self.persons else x.transpose(0, 1, 3, 2, 4)
    rows = norm(train=train, dtype=self.dtype, name="bn")(
        rows.reshape(b, t, m * v * c) if self.persons else rows.reshape(b * m, t, v * c))
    if self.persons:
      return rows.reshape(b, t, m, v, c).transpose(0, 2, 3, 1, 4).reshape(b * m, v, t, c)
    return rows.reshape(b * m, t, v, c).transpose(0, 2, 1, 3)


class PersonHead(nn.Module):
  """Mean over joints, frames and persons, dropout, dense (`dense`).

  float[B,M,V,T,C] -> logits float32[B,num_classes] and features float32[B,C]. Absent persons
  count: the network answers to zeros, as in PYSKL.
  """
  num_classes: int
  dropout: float = 0.0

  @nn.compact
  def __call__(self, x, *, train: bool):
    features = x.astype(jnp.float32).mean((1, 2, 3))
    x = nn.Dropout(self.dropout, deterministic=not train)(features)
    return nn.Dense(self.num_classes, kernel_init=nn.initializers.normal(0.01),
                    name="dense")(x), features
