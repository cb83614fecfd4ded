"""Weights of a Flax model into its twin."""
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import torch
from torch import nn

from actionjax.errors import UserError
from actionjax.importers import torch_layout


def load(module: nn.Module, variables: Mapping[str, Any]) -> None:
  """Copies all parameters and running statistics, or none.

  A module's path is the same on both sides, params/backbone/stem/conv/kernel being
  backbone.stem.conv.weight. Where the twin has a leaf of our own name, it has our layout too.

  Args:
    module: of `twin`, of the same model.
    variables: {"params": ..., "batch_stats": ...} of NumPy or JAX arrays.

  Raises:
    UserError: arrays that are missing, left over or of a wrong shape; all of them.
  """
  state = {name: value for name, value in module.state_dict().items()
           if not name.endswith("num_batches_tracked")}
  transposed = {name for name, part in module.named_modules()
                if isinstance(part, nn.ConvTranspose3d)}
  arrays, wrong = {}, []
  for keys, value in jax.tree_util.tree_flatten_with_path(
      {key: variables[key] for key in ("params", "batch_stats") if key in variables})[0]:
    *path, leaf = (key.key for key in keys[1:])
    where, value = ".".join(path), np.asarray(value, np.float32)
    name = f"{where}.{leaf}"
    if leaf not in ("bias", "kernel") or name not in state:
      name = f"{where}.{torch_layout.BATCH_NORM.get(leaf, 'weight' if leaf == 'kernel' else leaf)}"
      value = torch_layout.to_theirs(leaf, value)
      value = value.swapaxes(0, 1) if where in transposed else value
    if name in state:
      wanted = tuple(state[name].shape)
      # Dense layers there are 1x1 convolutions here, and temporal ones one joint wide.
      padded = value.reshape(*value.shape, *(1,) * (len(wanted) - value.ndim))
      if padded.shape != wanted:
        wrong.append(f"{name} {value.shape}, wanted {wanted}")
      value = padded
    arrays[name] = value
  problems = [f"{title}: {', '.join(names)}" for title, names in (
      ("missing", sorted(set(state) - set(arrays))),
      ("left over", sorted(set(arrays) - set(state))), ("wrong shape", wrong)) if names]
  if problems:
    raise UserError(f"torch_twins: {'; '.join(problems)}")
  with torch.no_grad():
    for name, value in arrays.items():
      state[name].copy_(torch.tensor(value))
