"""What a recipe's steps are going to leave, known before any of them has worked.

`recipe` asks every step for its `Outline`, in order, and hands it those of the earlier ones as
`Earlier`: whether a name stands for an earlier step, whether that makes what is wanted of it,
whether shapes, classes and clips go together.
"""
import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp

from actionjax import console, models
from actionjax.data import catalogue
from actionjax.data.clips.dataset import INFO_FILE
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import DataConfig, batch_spec, parse_data
from actionjax.errors import UserError
from actionjax.training import checkpoint, sharding

# What every evaluation measures.
METRICS = ("top1", "top5", "mean_class_accuracy")


@dataclasses.dataclass(frozen=True)
class Model:
  """A model that a step is going to write, or that lies in a folder already.

  Attributes:
    module: the linen module.
    data: what it reads.
    class_names, layout: of its dataset.
    variables: its shapes, {"params", "batch_stats"} of ShapeDtypeStructs; None where they are only
      known once the step has worked.
    streams: names of the pathways with scores of their own.
  """
  module: Any
  data: DataConfig
  class_names: tuple[str, ...]
  layout: str
  variables: Mapping | None
  streams: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outline:
  """What one step is going to leave.

  Attributes:
    model: None for none.
    metrics: names of what it measures; None for nothing.
    scores: names of the streams whose scores it writes beside the fused ones; None for no scores.
    classes: number of classes that its scores tell apart.
    superclasses: how many there are at each stage, None where there is none; None for no grouping.
    prunes: whether it leaves a rule of pruning.
    prepares: (dataset, variant) that it prepares.
    passes: outlines of a repeated group's steps, by name.
    section: what of the step's config is not a plain field: nested sections with all their
      defaults filled in.
    facts: what a plan shows of the step, such as its clips.
    memory: compiles what the step is going to run and returns the bytes that it needs, None where
      the compiler does not tell; None for steps that train nothing.
    at_once: says what of an evaluation goes through the network together; None for other steps.
  """
  model: Model | None = None
  metrics: tuple[str, ...] | None = None
  scores: tuple[str, ...] | None = None
  classes: int = 0
  superclasses: tuple[int | None, ...] | None = None
  prunes: bool = False
  prepares: tuple[str, str] | None = None
  passes: Mapping[str, "Outline"] | None = None
  section: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  memory: Callable[[], int | None] | None = None
  at_once: Callable[[], str] | None = None


@dataclasses.dataclass(frozen=True)
class Earlier:
  """What stands before a step.

  Attributes:
    outlines: of the earlier steps by name, in order.
    data_dir: of prepared datasets.
    mesh: of devices, which batches have to divide over; None where nothing is going to run.
    problems: where to note datasets that are not prepared instead of refusing them; None to
      refuse.
  """
  outlines: Mapping[str, Outline]
  data_dir: str | None = None
  mesh: Any = None
  problems: list[str] | None = None

  def model(self, name: str | None, path: str) -> Model:
    """The model of an earlier step (None: the latest), or in a folder of that name.

    Args:
      path: of the key in the config that names it.

    Raises:
      UserError: there is neither.
    """
    made = {step: outline.model for step, outline in self.outlines.items() if outline.model}
    if name is None:
      if not made:
        raise UserError(f"{path}: no earlier step makes a model")
      return next(reversed(made.values()))
    if name in made:
      return made[name]
    if name not in self.outlines and pathlib.Path(name).is_dir():
      return stored(name)
    raise UserError(f"{path}: {name!r} is neither a folder nor an earlier step that makes a "
                    f"model; those that do: {', '.join(made) or 'none'}")

  def weights(self, name: str, path: str) -> Mapping | None:
    """Shapes of the arrays that a training starts from, by the name of a step or a folder.

    None where they are only known once they are loaded, as those of converted weights are.

    Args:
      path: of the key in the config that names it.

    Raises:
      UserError: there is neither.
    """
    if name not in self.outlines and pathlib.Path(name).is_dir():
      if "model" not in checkpoint.load_description(checkpoint.find_model(name)):
        return None
    return self.model(name, path).variables

  def having(self, field: str, name: str, path: str, what: str) -> Outline:
    """The outline of an earlier step that has a field. Raises UserError, naming those that do.

    Args:
      what: such a step is, for the message.
    """
    fitting = [step for step, outline in self.outlines.items()
               if getattr(outline, field) not in (None, False)]
    if name not in fitting:
      raise UserError(f"{path}: {name!r} is not an earlier {what}; there are: "
                      f"{', '.join(fitting) or 'none'}")
    return self.outlines[name]

  def check_metric(self, name: str, metric: str, path: str) -> None:
    """Raises UserError unless an earlier step measures a metric."""
    measured = self.having("metrics", name, path, "evaluation").metrics
    if metric not in measured:
      raise UserError(f"{path}: step {name!r} does not measure {metric!r}; it measures "
                      f"{', '.join(measured)}")

  def count(self, data: DataConfig, split: str, path: str) -> int | None:
    """How many clips a split has; None where its dataset is going to be prepared first.

    Args:
      path: of the step in the config, for messages.

    Raises:
      UserError: there is no such variant, protocol or split, it has no clips, or the dataset is not
        prepared and no earlier step prepares it.
    """
    with placed(path):
      source = data.source
      source.variant(data.variant)
      source.protocol(data.protocol)
      data.check_reach()
      if split not in pipeline.SPLITS:
        raise UserError(f"split must be one of {', '.join(pipeline.SPLITS)}, got {split!r}")
      folder = catalogue.dataset_path(self.data_dir, data.dataset, data.variant)
      if (folder / INFO_FILE).exists():
        clips = pipeline.open_split(data, self.data_dir, split)
        for line in data.left_out(clips.dataset.info.get("persons", {})):
          _say_once(line)
        return len(clips)
      if any(outline.prepares == (data.dataset, source.variant(data.variant))
             for outline in self.outlines.values()):
        return None
      try:
        catalogue.open_dataset(self.data_dir, data.dataset, data.variant)
      except UserError as error:
        if self.problems is None:
          raise
        self.problems.append(f"{path}: {error}")
      return None

  def check_batch_size(self, size: int, path: str) -> None:
    """Raises UserError where a global batch does not divide over the devices."""
    if size < 1:
      raise UserError(f"{path} must be at least 1, got {size}")
    if self.mesh is not None:
      sharding.check_batch_size(size, self.mesh, path)


@functools.cache
def _say_once(line: str) -> None:
  """Says what several steps would say alike; a cache remembers it."""
  console.say(line)


@contextlib.contextmanager
def placed(path: str):
  """Puts a place in the config before the message of a UserError that names none."""
  try:
    yield
  except UserError as error:
    raise error if str(error).startswith("config") else UserError(f"{path}: {error}") from error


def stored(directory: str) -> Model:
  """The model that a run, step or model directory holds. Raises UserError."""
  description = checkpoint.load_description(checkpoint.find_model(directory))
  if "model" not in description:
    raise UserError(f"{directory} holds converted weights alone; a config that says which network "
                    "they are evaluates them, such as configs/posec3d_ntu60.py:test=DIR")
  data = parse_data(description["data"], f"{directory}'s data")
  module = models.from_description(description)
  variables, streams = trace(module, data, directory)
  return Model(module, data, tuple(description["class_names"]), description["layout"], variables,
               streams)


_traced: dict[str, tuple] = {}  # of equal networks in several steps, which are traced once


def trace(module, data: DataConfig, path: str, loss: Callable | None = None,
          batch_size: int = 2) -> tuple[Mapping, tuple[str, ...]]:
  """Runs a network on shapes alone: at test, and in training where a loss is given.

  Args:
    loss: `loss(logits, out, batch, params) -> (scalar, parts)`.

  Returns:
    Its variables' shapes, and the names of its streams.

  Raises:
    UserError: it refuses its fields, or what it reads.
  """
  spec, test_spec = (batch_spec(data, size, test=test)
                     for size, test in ((batch_size, False), (1, True)))
  key = repr((module, spec, test_spec, loss))
  if key not in _traced:
    keys = {name: jax.random.key(0) for name in ("params", "dropout")}

    def run(test_batch, batch):
      (logits, out), variables = module.init_with_output(keys, test_batch, train=False)
      chex.assert_shape(logits, (None, module.num_classes))
      if loss is not None:
        (logits, trained), _ = module.apply(variables, batch, train=True,
                                            rngs={"dropout": keys["dropout"]},
                                            mutable=["batch_stats"])
        chex.assert_shape(logits, (batch_size, module.num_classes))
        loss(logits, trained, batch, variables["params"])
      return variables, {name: jnp.zeros(()) for name in out.get("stream_logits", {})}

    try:
      variables, streams = jax.eval_shape(run, test_spec, spec)
    except ValueError as error:
      text = str(error).strip().splitlines()[0]
      raise UserError(f"{path}: {text}") from error
    _traced[key] = dict(variables), tuple(streams)
  return _traced[key]
