"""Which filters live: masks over a parameter tree, pass after pass.

A masks tree has the structure of the parameters. Its leaf is the scalar True where nothing
is pruned, else a boolean vector over output channels, which broadcasts against the kernel
[..., O] and against what batch norm keeps for each channel [O]. Masks hold in training
through `TrainState.masks`.
"""
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.errors import UserError
from actionjax.training.state import path_names
from actionjax.training.train_step import apply_masks

__all__ = ["SCOPES", "apply_masks", "channel_leaves", "conv_unit_norm", "find_masks", "living",
           "make_masks", "norm_path", "report", "surviving", "unpruned"]

SCOPES = ("by_layers", "altogether")


def unpruned(params: Mapping):
  """The masks of a network that has all of its filters."""
  return jax.tree.map(lambda _: jnp.array(True), params)


def make_masks(scores: Mapping[str, jax.Array], masks: Mapping, fraction: float,
               scope: str = "by_layers"):
  """One pass of pruning: the masks with the lowest-scored living filters dead.

  A filter's output channel dies whole: its kernel, its bias where there is one, and scale
  and bias of the batch norm behind it, which would otherwise emit a constant. What was dead
  stays dead and is not counted again, so after k passes about (1 - fraction)**k are left.
  In both scopes every layer keeps at least one filter, its best: without it nothing would
  pass the layer, and on a chain without shortcuts nothing would learn again. Equal scores
  fall in the order of layers and channels.

  Args:
    scores: from `filter_scores`.
    masks: the tree of the parameters, from the pass before or from `unpruned`.
    fraction: share in (0, 1) of the living filters that goes, rounded down.
    scope: "by_layers" ranks and counts within each layer; "altogether" puts all layers into
      one ranking, in which whole layers can shrink to their last filter.

  Returns:
    New masks; `masks` stays as it is.

  Raises:
    UserError: a fraction outside (0, 1), an unknown scope, scores that are not finite, or of
      another network, or a layer whose batch norm cannot be told or cannot be switched off.
  """
  if not 0 < fraction < 1:
    raise UserError(f"the pruned fraction of a pass must lie in (0, 1), got {fraction}")
  if scope not in SCOPES:
    raise UserError(f"scope must be one of {', '.join(SCOPES)}, got {scope!r}")
  values = {path: np.asarray(found, np.float32) for path, found in scores.items()}
  flat = dict(zip(path_names(masks), jax.tree.leaves(masks)))
  alive = {}
  for path, found in values.items():
    if path not in flat:
      raise UserError(f"there are scores of {path}, which the masks have not")
    if not np.isfinite(found).all():
      raise UserError(f"the filters of {path} have norms that are not finite")
    alive[path] = living(flat[path], len(found))
  groups = [list(values)] if scope == "altogether" else [[path] for path in values]
  for group in groups:
    for path, channel in _lowest(values, alive, group, fraction):
      alive[path][channel] = False
  for path, kept in alive.items():
    for leaf in channel_leaves(path, masks):
      flat[leaf] = jnp.asarray(kept)
  return jax.tree.unflatten(jax.tree.structure(masks), list(flat.values()))


def _lowest(values, alive, paths, fraction):
  """(path, channel) of the living filters of `paths` that go."""
  total = sum(int(alive[path].sum()) for path in paths)
  candidates = []
  for path in paths:
    channels = np.flatnonzero(alive[path])
    # The best of each layer, the last one among equals, is no candidate.
    best = channels[np.lexsort((channels, values[path][channels]))[-1:]]
    candidates += [(values[path][channel], path, channel) for channel in channels
                   if channel not in best]
  candidates.sort(key=lambda candidate: candidate[0])  # stable
  # A count like 0.29 * 100 comes out a hair below the whole number that is meant.
  count = math.floor(fraction * total + 1e-6)
  return [(path, channel) for _, path, channel in candidates[:count]]


def living(mask, filters: int) -> np.ndarray:
  """bool[filters] from a kernel's mask: a scalar, a vector over filters, or a whole kernel's."""
  mask = np.asarray(mask)
  if mask.ndim == 0:
    return np.full(filters, bool(mask))
  return np.array(mask.reshape(-1, filters).any(0))


def conv_unit_norm(module: str) -> str:
  """Path of the batch norm that `ConvUnit` puts behind its convolution `module`."""
  parent, _, name = module.rpartition("/")
  norm = "bn" if name == "conv" else f"bn_{name}"
  return f"{parent}/{norm}" if parent else norm


def norm_path(kernel: str, tree: Mapping) -> str | None:
  """Path of the batch norm behind a convolution, None where there is none beside it.

  Those of `ConvUnit` go by their names; elsewhere a module's only norm belongs to its only
  convolution.

  Args:
    kernel: path of the convolution's kernel.
    tree: parameters or anything of their structure.

  Raises:
    UserError: there are norms beside it, and none that is clearly its own.
  """
  module = kernel.removesuffix("/kernel")
  parent = module.rpartition("/")[0]
  beside = _node(tree, parent)
  path = lambda name: f"{parent}/{name}" if parent else name
  norms = [path(name) for name, below in beside.items()
           if isinstance(below, Mapping) and below and set(below) <= {"scale", "bias"}]
  convolutions = [name for name, below in beside.items()
                  if isinstance(below, Mapping) and "kernel" in below]
  if not norms or conv_unit_norm(module) in norms:
    return conv_unit_norm(module) if norms else None
  if len(norms) > 1 or len(convolutions) > 1:
    raise UserError(f"which batch norm follows {kernel} cannot be told from "
                    f"{', '.join(sorted(norms))}; leave it out of the pruned filters")
  return norms[0]


def channel_leaves(kernel: str, tree: Mapping) -> list[str]:
  """Paths of all parameters that hold one filter, or one value, for every output channel.

  Args:
    kernel: path of the convolution's kernel.
    tree: parameters or anything of their structure.

  Raises:
    UserError: the batch norm cannot be told (see `norm_path`), or has no scale.
  """
  module = kernel.removesuffix("/kernel")
  found = [f"{module}/{name}" for name in ("kernel", "bias") if name in _node(tree, module)]
  norm = norm_path(kernel, tree)
  if norm is not None:
    if "scale" not in _node(tree, norm):
      # Its running mean would shine through until it has decayed.
      raise UserError(f"{norm} has no scale, so a dead filter before it would not fall silent; "
                      "build the model with one (i3d: use_bn_scale=True)")
    found += [f"{norm}/{name}" for name in ("scale", "bias") if name in _node(tree, norm)]
  return found


def _node(tree: Mapping, path: str) -> Mapping:
  for key in filter(None, path.split("/")):
    tree = tree[key]
  return tree


def find_masks(params: Mapping, rule):
  """The masks of a network whose dead filters are zero, from its parameters alone.

  A filter is taken for dead where its kernel, and scale and bias behind it, are all exactly
  zero: so a finished model, which carries no masks, can still be compacted or pruned on.

  Args:
    params: the parameters.
    rule: the `scores.FilterRule` of the pruning.

  Raises:
    UserError: see `FilterRule.kernels`.
  """
  masks = unpruned(params)
  flat = dict(zip(path_names(params), jax.tree.leaves(params)))
  found = dict(zip(path_names(masks), jax.tree.leaves(masks)))
  for path, kernel in rule.kernels(params).items():
    leaves = channel_leaves(path, params)
    alive = np.any([np.asarray(flat[leaf]).reshape(-1, kernel.shape[-1]).any(0)
                    for leaf in leaves], 0)
    if not alive.all():
      found |= dict.fromkeys(leaves, jnp.asarray(alive))
  return jax.tree.unflatten(jax.tree.structure(masks), list(found.values()))


def surviving(masks: Mapping) -> dict[str, tuple[int, int]]:
  """Path of every kernel that pruning has looked at -> (living filters, all filters)."""
  return {path: (int(np.sum(living(leaf, leaf.shape[-1]))), leaf.shape[-1])
          for path, leaf in zip(path_names(masks), jax.tree.leaves(masks))
          if path.rpartition("/")[2] == "kernel" and leaf.ndim > 0}


def report(masks: Mapping) -> str:
  """A table of the living filters: a row a layer, and their sum."""
  rows = surviving(masks)
  total = tuple(sum(counts) for counts in zip(*rows.values())) or (0, 0)
  rows = {path.removesuffix("/kernel"): counts for path, counts in rows.items()} | {"sum": total}
  width = max(map(len, rows))
  return "\n".join([f"{'layer':<{width}}  {'alive':>6}  {'of':>6}"] + [
      f"{path:<{width}}  {alive:>6}  {filters:>6}  {100 * alive / max(filters, 1):5.1f} %"
      for path, (alive, filters) in rows.items()])
