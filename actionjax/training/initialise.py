"""Starting a training from earlier steps or from files, with a report."""
import dataclasses
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from actionjax import console
from actionjax.errors import UserError
from actionjax.training import sharding
from actionjax.training.state import path_names


@dataclasses.dataclass(frozen=True)
class InitFrom:
  """Where a training's first weights come from.

  Attributes:
    source: name of an earlier step, or the path of a run, step or model directory.
    include: regular expressions of the paths to load (matched from the start of
      "backbone/..."); empty loads all that fits.
    exclude: of paths to leave out.
    rename: pairs (pattern, replacement) applied to the source's paths, as `re.sub`, before the
      other patterns; like them, without the collection ("params/", "batch_stats/").
    pad: of arrays that may be larger here than in the source, along any axis: what the source
      has stands first, the rest is zero. A convolution that reads further input channels starts
      as one that does not read them.
    strict: every parameter included must be found in the source.
  """
  source: str
  include: tuple[str, ...] = ()
  exclude: tuple[str, ...] = ()
  rename: tuple[tuple[str, str], ...] = ()
  pad: tuple[str, ...] = ()
  strict: bool = False

  def __post_init__(self):
    patterns = [(field, pattern) for field in ("include", "exclude", "pad")
                for pattern in getattr(self, field)]
    for field, pattern in patterns + [("rename", pair[0]) for pair in self.rename]:
      try:
        re.compile(pattern)
      except re.error as error:
        raise ValueError(f"{field} {pattern!r} must be a regular expression: {error}") from None


@dataclasses.dataclass(frozen=True)
class LoadReport:
  """What was loaded from a source.

  Attributes:
    loaded: paths taken over.
    padded: paths taken over into a larger array, with both shapes.
    missing: paths of the model that were asked for and that the source lacks.
    skipped: paths of the source with no taker, excluded or not included.
    mismatched: paths with another shape, with both shapes.
    summed: paths of kernels that read one channel here and three, of colours, in the source: the
      sum over these is what it computes of a grey video.
  """
  loaded: tuple[str, ...]
  missing: tuple[str, ...]
  skipped: tuple[str, ...]
  mismatched: tuple[str, ...]
  padded: tuple[str, ...] = ()
  summed: tuple[str, ...] = ()

  def summary(self) -> str:
    """One line a list, grouped by top-level module."""
    lines = []
    for field in dataclasses.fields(self):
      paths = getattr(self, field.name)
      groups = {}
      for path in paths:
        # batch_stats and params of one module are counted apart: they may differ.
        key = "/".join(path.split("/")[:2])
        groups[key] = groups.get(key, 0) + 1
      detail = ", ".join(f"{key} ({count})" for key, count in groups.items())
      lines.append(f"{field.name} {len(paths)}" + (f": {detail}" if detail else ""))
    return "; ".join(lines)


def match(variables: Mapping, source: Mapping,
          config: InitFrom) -> tuple[dict[str, str], LoadReport]:
  """Which of a source's arrays go where: shapes alone are looked at.

  Args:
    variables: {"params", "batch_stats"} of arrays or ShapeDtypeStructs.
    source: the same, of another model.

  Returns:
    Path of each array that is loaded -> its path in the source, and the report.

  Raises:
    UserError: nothing fits; or `strict` and something that was asked for is missing; or a
      pattern of `pad` that matches no path.
  """
  offered, shapes = {}, {}
  for original, leaf in zip(path_names(source), jax.tree.leaves(source)):
    collection, _, path = original.partition("/")
    for pattern, replacement in config.rename:
      path = re.sub(pattern, replacement, path)
    offered[f"{collection}/{path}"], shapes[original] = original, leaf.shape
  wanted = lambda name: ((not config.include or _matches(config.include, name))
                         and not _matches(config.exclude, name))
  names = path_names(variables)
  for pattern in config.pad:
    if not any(_matches((pattern,), name) for name in names):
      raise UserError(f"{config.source}: no parameter of this model matches pad {pattern!r}")
  taken: dict[str, str] = {}
  loaded, missing, mismatched, padded, summed = [], [], [], [], []
  for name, leaf in zip(names, jax.tree.leaves(variables)):
    if not wanted(name):
      continue
    if name not in offered:
      missing.append(name)
      continue
    shape = shapes[offered[name]]
    both = f"{name} {shape} for {leaf.shape}"
    if shape == leaf.shape:
      loaded.append(name)
    elif _matches(config.pad, name) and _grows(shape, leaf.shape):
      padded.append(both)
    elif _loses_colour(shape, leaf.shape):
      summed.append(both)
    else:
      mismatched.append(both)
      continue
    taken[name] = offered[name]
  report = LoadReport(tuple(loaded), tuple(missing),
                      tuple(name for name in offered if name not in taken), tuple(mismatched),
                      tuple(padded), tuple(summed))
  if not taken or (config.strict and (missing or mismatched)):
    raise UserError(f"{config.source} does not fit this model: {report.summary()}")
  return taken, report


def load_into(variables: Mapping, source: Mapping, config: InitFrom) -> tuple[dict, LoadReport]:
  """`variables` with the source's values where paths and shapes agree.

  Args:
    variables: {"params", "batch_stats"}, initialised.
    source: the same, of another model.

  Raises:
    UserError: as `match`.
  """
  taken, report = match(variables, source, config)
  console.say(f"initialised from {config.source}: {report.summary()}")
  values = dict(zip(path_names(source), jax.tree.leaves(source)))
  leaves = []
  for name, leaf in zip(path_names(variables), jax.tree.leaves(variables)):
    if name in taken:
      value = values[taken[name]].astype(leaf.dtype)
      if _loses_colour(value.shape, leaf.shape):
        value = value.sum(-2, keepdims=True)
      elif value.shape != leaf.shape:
        value = jnp.pad(value, [(0, new - old) for old, new in zip(value.shape, leaf.shape)])
      leaf = jax.device_put(value, leaf.sharding)
    leaves.append(leaf)
  return jax.tree.unflatten(jax.tree.structure(variables), leaves), report


def _matches(patterns: tuple[str, ...], name: str) -> bool:
  """Whether a pattern matches a path, without its collection, from the start."""
  return any(re.match(pattern, _inside(name)) for pattern in patterns)


def _grows(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
  """Whether an array of one shape fits into one of the other, axis by axis."""
  return len(old) == len(new) and all(a <= b for a, b in zip(old, new))


def _loses_colour(old: tuple[int, ...], new: tuple[int, ...]) -> bool:
  """Whether two convolutions' kernels [..., in, out] differ in reading three channels or one."""
  return (len(old) == len(new) >= 4 and (old[-2], new[-2]) == (3, 1)
          and old[:-2] == new[:-2] and old[-1] == new[-1])


def _inside(name: str) -> str:
  """A path without its collection: "params/backbone/..." as "backbone/..."."""
  return name.partition("/")[2]


def fresh_variables(model, spec: Mapping, seed: int, mesh) -> dict:
  """Fresh variables, replicated on the mesh, from a seed.

  Args:
    model: a system's module.
    spec: name -> what has a `shape` and a `dtype`, of a batch.
  """

  def init(key):
    batch = {name: jnp.zeros(s.shape, s.dtype) for name, s in spec.items()}
    return model.init({"params": key, "dropout": key}, batch, train=False)

  # Runs once: compiling hundreds of random draws well would take longer than drawing them.
  return jax.jit(init, out_shardings=sharding.replicated(mesh),
                 compiler_options={"xla_backend_optimization_level": 0})(jax.random.key(seed))
