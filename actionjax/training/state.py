"""What a training step carries from one call to the next."""
import hashlib
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class TrainState:
  """Everything a gradient step reads and writes, as one pytree.

  Attributes:
    step: int32 scalar, the number of updates made.
    params: the model's parameters.
    batch_stats: running statistics of its batch norms ({} without any).
    opt_state: the optimiser's state.
    masks: the tree of `params`; a leaf is the scalar True where nothing is pruned, else a
      boolean array that broadcasts against the parameter, such as one value a filter.
    ema: exponential moving average of `params`, or None where none is asked for.
  """
  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  masks: Any
  ema: Any = None

  def variables(self) -> dict:
    """The variables that evaluation uses: the averaged parameters where there are any."""
    params = self.params if self.ema is None else self.ema
    return {"params": params, "batch_stats": self.batch_stats}


def create(variables, optimiser, *, ema: bool, masks=None) -> TrainState:
  """The state before the first step; without `masks`, with nothing pruned."""
  params = variables["params"]
  if masks is None:
    masks = jax.tree.map(lambda _: jnp.array(True), params)
  return TrainState(
      step=jnp.zeros((), jnp.int32), params=params,
      batch_stats=variables.get("batch_stats", {}), opt_state=optimiser.init(params),
      masks=masks,
      # A copy: the state is donated to the step, which must not get one buffer twice.
      ema=jax.tree.map(jnp.copy, params) if ema else None)


def path_names(tree) -> list[str]:
  """Path of every leaf as "module/layer/kernel", in the order of `jax.tree.leaves`."""
  return ["/".join(str(getattr(key, "key", getattr(key, "name", key))) for key in path)
          for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def digest(variables) -> str:
  """SHA-256 over parameters and batch statistics: paths, types, shapes and bytes.

  Args:
    variables: {"params", "batch_stats"}, on any devices.
  """
  sha = hashlib.sha256()
  for name, leaf in zip(path_names(variables), jax.tree.leaves(variables)):
    array = np.asarray(leaf)
    sha.update(f"{name} {array.dtype} {array.shape}\n".encode())
    sha.update(np.ascontiguousarray(array).tobytes())
  return sha.hexdigest()
