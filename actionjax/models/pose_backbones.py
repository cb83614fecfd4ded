"""Networks from a skeleton sequence to one feature vector h* (VPN's pose backbones)."""
from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp

from actionjax import configuration, skeletons
from actionjax.errors import UserError
from actionjax.models import checked
from actionjax.ops import graphs


def create(config: Mapping[str, Any], layout: str, name: str) -> nn.Module:
  """The pose backbone that a config's `name`, "gcn" or "lstm", and further fields describe.

  Raises:
    UserError: another name, or a field or value that the backbone does not have.
  """
  fields = dict(config)
  kind = find(fields.pop("name", None))
  extra = {"layout": layout} if kind is GraphBackbone else {}
  return configuration.build(kind, fields, "model.pose", name=name, **extra)


def find(name: str) -> type[nn.Module]:
  """The pose backbone of a name. Raises UserError."""
  kinds = {"gcn": GraphBackbone, "lstm": RecurrentBackbone}
  if name not in kinds:
    raise UserError(f"model.pose.name must be one of {', '.join(kinds)}, got {name!r}")
  return kinds[name]


class PerStepDense(nn.Module):
  """A dense layer with own weights for every time step.

  [B,T,J,C] -> [B,T,J,features].
  """
  features: int
  shared: bool = False

  @nn.compact
  def __call__(self, x):
    steps = 1 if self.shared else x.shape[1]
    kernel = self.param("kernel", nn.initializers.lecun_normal(batch_axis=(0,)),
                        (steps, x.shape[-1], self.features), jnp.float32)
    bias = self.param("bias", nn.initializers.zeros, (steps, 1, self.features), jnp.float32)
    if self.shared:
      return jnp.einsum("btjc,cd->btjd", x, kernel[0]) + bias
    return jnp.einsum("btjc,tcd->btjd", x, kernel) + bias


class GraphBackbone(checked.Module):
  """VPN's GCN pose backbone (Das' thesis, section 4.4): a graph layer per pose, then 2D convs.

  Each pose passes a graph convolution D^-1/2 (E+I) D^-1/2 X W with its own weights; a skip
  connection carries the raw coordinates on; the results, stacked in time to t_p × J × F, pass
  three 3x3 convolutions over time and joints. Persons share all weights and are merged by the
  maximum over those present.

  Attributes:
    layout: joint layout of the input.
    features: of the graph layer.
    conv_features: of the three convolutions.
    pairs: unconnected joint pairs that get weight beta; see `graphs.vpn_weights`.
    identity_filter: a second filter, the identity, beside the graph (released code).
    shared: one graph layer for all time steps.
    skip: "residual" (a linear map of the coordinates is added) or "concat" (released code).
    norm_first: batch norm before instead of after each convolution (released code).
    dense: widths of dense layers on the flattened map, with dropout (released code: 256, 128).
    dropout: after the graph layer and each dense layer; 0.5 on the flattened map where there
      are dense layers.
  """
  layout: str
  features: int = 64
  conv_features: tuple[int, ...] = (64, 64, 128)
  pairs: Literal["listed", "all", "none"] = "listed"
  identity_filter: bool = False
  shared: bool = False
  skip: Literal["residual", "concat"] = "residual"
  norm_first: bool = False
  dense: tuple[int, ...] = ()
  dropout: float = 0.0

  @nn.compact
  def __call__(self, pose, present, *, train: bool):
    """pose float[B,M,T,J,3], body-centred; present bool[B,M] -> h* float[B,D]."""
    b, m, t, j, c = pose.shape
    # Absent persons are zeros that must not enter the statistics of those who are there (one
    # person alone needs no mask; a batch without anybody keeps its zeros).
    counted = None if m == 1 else (present | ~present.any()).reshape(b * m, 1, 1, 1)
    norm = lambda x, name: nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)(
        x, mask=counted)
    drop = lambda rate, x: nn.Dropout(rate, deterministic=not train)(x)
    x = pose.reshape(b * m, t, j, c).astype(jnp.float32)

    weights = graphs.normalise_symmetric(
        graphs.vpn_weights(skeletons.layout(self.layout), pairs=self.pairs))
    neighbours = jnp.einsum("ij,btjc->btic", weights, x)
    if self.identity_filter:
      neighbours = jnp.concatenate([x, neighbours], -1)
    graph = nn.elu(PerStepDense(self.features, self.shared, name="graph")(neighbours))
    graph = drop(self.dropout, graph)
    if self.skip == "residual":
      x = graph + nn.Dense(self.features, name="skip")(x)
    else:
      x = jnp.concatenate([graph, x], -1)

    for i, width in enumerate(self.conv_features):
      if self.norm_first:
        x = norm(x, f"norm{i}")
      x = nn.Conv(width, (3, 3), name=f"conv{i}")(x)
      x = nn.relu(x if self.norm_first else norm(x, f"norm{i}"))
      # The thesis is silent on pooling; the released code halves both axes twice.
      if i > 0 and min(x.shape[1:3]) >= 2:
        x = nn.max_pool(x, (2, 2), strides=(2, 2))
    if self.norm_first:
      x = norm(x, "norm_last")

    x = x.reshape(b, m, -1)
    if self.dense:
      x = drop(0.5, x)
    for i, width in enumerate(self.dense):
      x = drop(self.dropout, nn.relu(nn.Dense(width, name=f"dense{i}")(x)))
    # A clip without any person keeps the network's answer to an all-zero skeleton.
    absent = ~present & present.any(1, keepdims=True)
    return jnp.where(absent[..., None], -jnp.inf, x).max(1)


class RecurrentBackbone(checked.Module):
  """Three stacked LSTMs over the pose vector; h* is all hidden states of the last, flattened.

  Das' thesis, sections 4.2 to 4.4 (the pose backbone of P-I3D and Separable STA).

  Attributes:
    units: of each LSTM (512 for NTU, 128 for N-UCLA).
    depth: number of LSTMs.
  """
  units: int = 512
  depth: int = 3

  @nn.compact
  def __call__(self, pose, present, *, train: bool):
    """pose float[B,M,T,J,3], present bool[B,M] (unused: absent persons are zeros) -> [B,D]."""
    del present, train
    b, m, t, j, c = pose.shape
    x = pose.transpose(0, 2, 1, 3, 4).reshape(b, t, m * j * c).astype(jnp.float32)
    for i in range(self.depth):
      # The parameters are the cell's, so it carries the name.
      x = nn.RNN(nn.OptimizedLSTMCell(self.units, name=f"lstm{i}"))(x)
    return x.reshape(b, -1)
