"""What a convolution's filters are worth, and which convolutions take part."""
import dataclasses
import functools
import math
import re
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp

from actionjax.errors import UserError
from actionjax.training.state import path_names

NORMS = ("l2", "rms")


@dataclasses.dataclass(frozen=True)
class FilterRule:
  """Which kernels' filters may be pruned: patterns over paths ("backbone/stage1/...").

  The default is HAC's choice (section "Pruning": the ResNet stacks): every convolution of
  the stages of every ResNet3D in the tree, without stems and heads.

  Attributes:
    include: regular expressions, matched from the start of a kernel's path.
    exclude: the same, of those to leave alone.
    shortcuts: whether convolutions on shortcuts count; the paper does not say.
  """
  include: Sequence[str] = (r"(.*/)?stage\d+/block\d+/",)
  exclude: Sequence[str] = ()
  shortcuts: bool = True

  def kernels(self, params: Mapping) -> dict[str, jax.Array]:
    """Path of every kernel that takes part -> the kernel, in the tree's order.

    Only convolutions do: parameters named `kernel` with four dimensions or more, the last of
    which counts the filters.

    Raises:
      UserError: a pattern that matches no convolution, or nothing is left.
    """
    convolutions = {path: leaf for path, leaf in zip(path_names(params), jax.tree.leaves(params))
                    if path.rpartition("/")[2] == "kernel" and leaf.ndim >= 4}
    for field in ("include", "exclude"):
      for pattern in getattr(self, field):
        if not any(re.match(pattern, path) for path in convolutions):
          raise UserError(f"{field} pattern {pattern!r} matches no convolution; there are "
                          f"{_groups(convolutions)}")
    matches = lambda patterns, path: any(re.match(pattern, path) for pattern in patterns)
    found = {path: leaf for path, leaf in convolutions.items()
             if matches(self.include, path) and not matches(self.exclude, path)
             and (self.shortcuts or "shortcut" not in path.split("/"))}
    if not found:
      raise UserError("include and exclude leave no convolution to prune; there are "
                      f"{_groups(convolutions)}")
    return found


def _groups(paths) -> str:
  """Where kernels lie, short enough for a message: their first two levels."""
  groups = sorted({"/".join(path.split("/")[:2]) + "/" for path in paths})
  return ", ".join(groups) if groups else "none at all"


def filter_scores(params: Mapping, rule: FilterRule | None = None,
                  norm: str = "l2") -> dict[str, jax.Array]:
  """The norm of every filter, that is of a kernel's weights into one output channel.

  Weights that read a dead channel of the layer before are part of a filter and count, as
  in the paper, although nothing passes through them.

  Args:
    params: parameters of any model.
    rule: which kernels; by default `FilterRule()`.
    norm: "l2" is the paper's plain norm, in which layers of small kernels rank low; "rms"
      divides it by the root of the number of weights, so that layers compare.

  Returns:
    Path of every kernel that takes part -> float32[filters].

  Raises:
    UserError: an unknown norm, or see `FilterRule.kernels`.
  """
  if norm not in NORMS:
    raise UserError(f"norm must be one of {', '.join(NORMS)}, got {norm!r}")
  return {path: _norms(kernel, norm)
          for path, kernel in (rule or FilterRule()).kernels(params).items()}


@functools.partial(jax.jit, static_argnums=1)
def _norms(kernel, norm):
  """[..., O] -> float32[O]."""
  weights = kernel.astype(jnp.float32).reshape(-1, kernel.shape[-1])
  found = jnp.sqrt(jnp.square(weights).sum(0))
  return found / math.sqrt(weights.shape[0]) if norm == "rms" else found
