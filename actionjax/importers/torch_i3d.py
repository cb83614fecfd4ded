"""Inception-v1 I3D from the PyTorch port's checkpoints."""
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.errors import UserError
from actionjax.importers import torch_layout
from actionjax.models.heads import I3DHead
from actionjax.models.i3d import I3D

_LOGITS = "logits.conv3d."


class ImportedI3D(NamedTuple):
  """What a file held.

  Attributes:
    backbone: variables of `I3D(use_bn_scale=...)`: `params` and `batch_stats`.
    head: variables of `I3DHead(num_classes)`: `params`; None if the file has no logits.
    use_bn_scale: what the backbone has to be built with.
    num_classes: of the head, or None.
  """
  backbone: dict[str, Any]
  head: dict[str, Any] | None
  use_bn_scale: bool
  num_classes: int | None


def import_i3d(state: Mapping[str, np.ndarray], use_bn_scale: bool | None = None,
               source: str = "I3D checkpoint") -> ImportedI3D:
  """Converts a PyTorch state (see `torch_layout.read_torch`) of any number of classes.

  Args:
    state: arrays by PyTorch's names, layout [O,I,T,H,W].
    use_bn_scale: False drops the batch norms' weights, which must all be 1 (the
      published files, whose TensorFlow originals have none); True keeps them; None
      drops them where they are 1.
    source: names the file in error messages.

  Raises:
    UserError: lists names that are missing, left over or of the wrong shape; or batch
      norm weights that are not 1 while use_bn_scale is False.
  """
  weights = [name for name in state if name.endswith(".bn.weight")]
  scaled = [name for name in weights if not np.all(np.asarray(state[name]) == 1)]
  if use_bn_scale is None:
    use_bn_scale = bool(scaled)
  if scaled and not use_bn_scale:
    raise UserError(f"{source}: batch norm weights differ from 1, so the network needs "
                    f"use_bn_scale=True: {', '.join(scaled[:3])} and {len(scaled)} in all")

  stem = state.get("Conv3d_1a_7x7.conv3d.weight")
  channels = 3 if stem is None or np.ndim(stem) != 5 else stem.shape[1]
  clip = jax.ShapeDtypeStruct((1, 16, 32, 32, channels), jnp.float32)
  model = I3D(use_bn_scale=use_bn_scale)
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), clip)
  ignored = [name for name in state
             if name.startswith(_LOGITS) or name.endswith(".num_batches_tracked")]
  if not use_bn_scale:
    ignored += weights
  backbone = torch_layout.fill(template, state, _torch_name, source, ignored)

  if not any(name.startswith(_LOGITS) for name in state):
    return ImportedI3D(backbone, None, use_bn_scale, None)
  weight = state.get(_LOGITS + "weight", np.empty((0,)))
  num_classes = weight.shape[0]
  features = jax.ShapeDtypeStruct((1, 2, 7, 7, 1024), jnp.float32)
  template = jax.eval_shape(
      lambda x: I3DHead(num_classes).init(jax.random.key(0), x, train=False), features)
  logits = {name: value for name, value in state.items() if name.startswith(_LOGITS)}
  head = torch_layout.fill(
      template, logits, lambda path: _LOGITS + {"kernel": "weight", "bias": "bias"}[path[-1]],
      source)
  return ImportedI3D(backbone, head, use_bn_scale, num_classes)


def _torch_name(path):
  """("params", "Mixed_3b", "b0", "conv", "kernel") -> "Mixed_3b.b0.conv3d.weight"."""
  _, *modules, part, leaf = path
  if part == "conv":
    return ".".join([*modules, "conv3d", "weight"])
  return ".".join([*modules, "bn", torch_layout.BATCH_NORM[leaf]])
