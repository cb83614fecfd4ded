"""A model's parameters, FLOPs and output shapes, from shapes alone."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen import summary as flax_summary

from actionjax.data.loading.config import DataConfig, batch_spec


def table(model: nn.Module, data: DataConfig, *, depth: int = 2,
          batch_size: int = 1) -> str:
  """A row a layer group: outputs, parameters, multiply-adds.

  Nothing is computed: shapes come from abstract evaluation, FLOPs from the lowered program of
  each group (before XLA optimises it), counted for one clip with plain convolutions.

  Args:
    model: a system's module.
    data: what its clips look like.
    depth: levels of modules to list.
    batch_size: of the shapes shown; FLOPs are divided by it.
  """
  batch = {key: jnp.zeros(spec.shape, spec.dtype)
           for key, spec in batch_spec(data, batch_size, test=True).items()}
  # Private, as Flax offers the rows as one text only; a test tells when it changes.
  rows = flax_summary._get_module_table(
      model, depth=depth, show_repeated=False, compute_flops=True, compute_vjp_flops=False)(
          {"params": jax.random.key(0), "dropout": jax.random.key(0)}, batch, train=False)
  lines = [("layer group", "output", "parameters", "GFLOPs")]
  for row in rows:
    outputs = row.outputs[0] if isinstance(row.outputs, (tuple, list)) else row.outputs
    # A group's own count holds only what no listed subgroup counts.
    count = sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(
        row.counted_variables.get("params", {})))
    lines.append(("/".join(row.path) or type(model).__module__.rpartition(".")[2],
                  _shape(outputs), f"{count:,}", f"{row.flops / batch_size / 1e9:.3f}"))
  total = parameters(model, data)
  widths = [max(len(line[i]) for line in lines) for i in range(4)]
  text = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}"
          for a, b, c, d in lines]
  text.insert(1, "-" * len(text[0]))
  text += ["-" * len(text[1]), f"parameters: {total:,} ({total / 1e6:.2f} M)"]
  return "\n".join(text)


def parameters(model: nn.Module, data: DataConfig) -> int:
  """Number of parameters, batch statistics not counted."""
  batch = batch_spec(data, 1, test=True)
  keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
  variables = jax.eval_shape(lambda: model.init(
      keys, {k: jnp.zeros(s.shape, s.dtype) for k, s in batch.items()}, train=False))
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))


def _shape(value) -> str:
  if hasattr(value, "shape"):
    return f"{value.dtype.name}[{','.join(map(str, value.shape))}]"
  return type(value).__name__
