"""What a config is going to do: every step of it checked, with all defaults, before any work.

A config has `name`, `seed`, `data_dir`, `steps` (a tuple) and sections that its steps share:
a step takes each key it knows from the config, and its own values over it. A step of kind "repeat"
holds steps of its own, which run in passes. A kind of step is a module with

  Config: a dataclass of the step's keys
  reads(config) -> names of what the config names: earlier steps, or paths in their place
  parse(config, path): builds the nested sections
  outline(config, path, earlier) -> what the step is going to leave; see `steps.outline`
  run(config, context) -> artifacts, a dict of plain values
"""
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from actionjax import configuration
from actionjax.data import catalogue
from actionjax.errors import UserError
from actionjax.steps.outline import Earlier, Outline

# What a config may hold beside the sections that its steps read.
TOP_KEYS = ("name", "seed", "data_dir", "steps")


@dataclasses.dataclass(frozen=True)
class Step:
  """One validated step.

  Attributes:
    name: unique in its recipe.
    kind: the module's name, as the config gives it.
    module, config: of the kind.
    path: the step's place in the config.
    outline: what it is going to leave.
    after: the earlier steps that it reads.
  """
  name: str
  kind: str
  module: Any
  config: Any
  path: str
  outline: Outline
  after: tuple[str, ...] = ()

  def section(self) -> dict:
    """The step's section in a config, with all defaults filled in."""
    return {"kind": self.kind, **dataclasses.asdict(self.config), **self.outline.section}


@dataclasses.dataclass(frozen=True)
class RepeatConfig:
  """Steps that run again and again, each pass going on from the model of the one before.

  The group's model is that of the best pass; of equally good ones the last, which pruning has
  left the smallest.

  Attributes:
    name: of the whole group.
    steps: of one pass; the last training among them makes the pass' model.
    passes: how many at most.
    monitor: the evaluation among `steps` whose `metric` tells how good a pass is; larger is
      better.
    metric: top1, top5 or mean_class_accuracy.
    patience: the group ends after so many passes in a row below the best so far.
    start: an earlier evaluation that tells how good the model was before the first pass.
    model_from: the earlier training that the first pass goes on from (None: the latest).
  """
  name: str
  steps: tuple[Mapping[str, Any], ...]
  monitor: str
  passes: int = 10
  metric: Literal["top1", "top5", "mean_class_accuracy"] = "top1"
  patience: int = 2
  start: str | None = None
  model_from: str | None = None

  def __post_init__(self):
    for field in ("passes", "patience"):
      if getattr(self, field) < 1:
        raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")


@dataclasses.dataclass(frozen=True)
class Repeat:
  """A validated group of repeated steps."""
  config: RepeatConfig
  steps: tuple[Step, ...]
  path: str
  outline: Outline

  @property
  def name(self) -> str:
    """Of the group."""
    return self.config.name

  def section(self) -> dict:
    """As `Step.section`, of the group and of its steps."""
    return {"kind": "repeat", **dataclasses.asdict(self.config),
            "steps": tuple(step.section() for step in self.steps)}


@dataclasses.dataclass(frozen=True)
class Plan:
  """A whole validated config.

  Attributes:
    problems: what was noted instead of refused: datasets that are not prepared.
  """
  name: str
  seed: int
  data_dir: str | None
  steps: tuple[Step | Repeat, ...]
  problems: tuple[str, ...] = ()

  def flatten(self) -> list[Step]:
    """All steps, those of a repeated group once."""
    return [inner for step in self.steps for inner in
            (step.steps if isinstance(step, Repeat) else (step,))]

  def test_views(self) -> dict[str, dict]:
    """Name of each step with a model -> the views of the first evaluation of it at test.

    Of another split's where there is none at test; a model that is not evaluated is not there.
    """
    found: dict[str, tuple[bool, dict]] = {}
    latest = None
    for step in self.flatten():
      views, outline = step.outline.section.get("views"), step.outline
      if views is not None and outline.metrics is not None:
        name, at_test = step.config.model_from or latest, step.config.split == "test"
        if name not in found or at_test > found[name][0]:
          found[name] = at_test, views
      if outline.model is not None:
        latest = step.name
    return {name: views for name, (_, views) in found.items()}

  def section(self) -> dict:
    """A config of the same run in which nothing is left to defaults, as plain JSON values."""
    return json.loads(json.dumps({
        "name": self.name, "seed": self.seed, "data_dir": self.data_dir,
        "steps": [step.section() for step in self.steps]}, default=dict))


def plan(config: Mapping, *, mesh=None, lenient: bool = False) -> Plan:
  """Checks a whole config, without any work.

  Every key and value, every name of an earlier step, every network on shapes alone, and where a
  dataset is prepared, the clips of every split.

  Args:
    mesh: of devices, which every batch has to divide over; None to leave that open.
    lenient: notes datasets that are not prepared as the plan's `problems`. What depends on the
      classes of a user's own one is then not checked.

  Raises:
    UserError: the first thing that is wrong, with its place in the config.
  """
  settings = configuration.to_dict(config)
  for key in ("name", "steps"):
    if not settings.get(key):
      raise UserError(f"config lacks {key}")
  problems: list[str] = []
  try:
    settings = catalogue.resolve_all(settings)
  except UserError as error:
    if not lenient:
      raise
    problems.append(str(error))
  planner = _Planner({key: value for key, value in settings.items() if key not in TOP_KEYS},
                     settings.get("data_dir"), mesh, problems if lenient else None,
                     known=not problems)
  configuration.check_keys(planner.shared, {
      *_fields(settings["steps"], "config.steps"), *TOP_KEYS}, "config")
  steps = planner.sequence(settings["steps"], {}, "config.steps")
  return Plan(settings["name"], settings.get("seed") or 0, settings.get("data_dir"), tuple(steps),
              tuple(dict.fromkeys(problems)))


def _config_of(kind: str, path: str):
  return configuration.plugin("actionjax.steps", kind, "Config", f"{path}.kind")


def _fields(sections: Iterable, path: str) -> set[str]:
  """Every key that one of the steps takes."""
  found = set()
  for position, section in enumerate(sections):
    place, kind = f"{path}[{position}]", section.get("kind")
    if not isinstance(kind, str):
      raise UserError(f"{place} lacks kind, such as train or evaluate")
    if kind == "repeat":
      found |= _fields(section.get("steps", ()), f"{place}.steps")
    else:
      found |= {field.name for field in dataclasses.fields(_config_of(kind, place))}
  return found


class _Planner:
  """Validates the steps of one config.

  Attributes:
    shared: the sections that steps may take from the config.
  """

  def __init__(self, shared: dict, data_dir: str | None, mesh, problems: list[str] | None, *,
               known: bool):
    self.shared = shared
    self._data_dir, self._mesh, self._problems, self._known = data_dir, mesh, problems, known

  def sequence(self, sections: Iterable, before: Mapping[str, Outline],
               path: str) -> list[Step | Repeat]:
    """The steps of a sequence, after others whose outlines are known."""
    outlines, steps = dict(before), []
    for position, section in enumerate(sections):
      place = f"{path}[{position}]"
      fields = dict(section)
      kind = fields.pop("kind")
      make = self._repeat if kind == "repeat" else self._step
      step = make(kind, fields, outlines, place)
      if step.name in outlines:
        raise UserError(f"{place}: there is already a step named {step.name!r}")
      outlines[step.name] = step.outline
      steps.append(step)
    return steps

  def _step(self, kind: str, fields: dict, outlines: dict, path: str) -> Step:
    kind_config = _config_of(kind, path)
    known = {field.name for field in dataclasses.fields(kind_config)}
    section = configuration.merge(
        {key: value for key, value in self.shared.items() if key in known}, fields)
    config = configuration.build(kind_config, section, path)
    run = configuration.plugin("actionjax.steps", kind, "run", f"{path}.kind")
    module = __import__(run.__module__, fromlist=["run"])
    if self._known:
      outline = module.outline(config, path, Earlier(outlines, self._data_dir, self._mesh,
                                                     self._problems))
    else:
      outline = Outline()
    reads = tuple(dict.fromkeys(module.reads(config)))
    for name in reads:
      if name not in outlines and not pathlib.Path(name).exists():
        raise UserError(f"{path}: {name!r} is neither an earlier step nor a path; "
                        f"steps: {', '.join(outlines) or 'none'}")
    return Step(config.name, kind, module, config, path, outline,
                tuple(name for name in reads if name in outlines))

  def _repeat(self, kind: str, fields: dict, outlines: dict, path: str) -> Repeat:
    del kind
    config = configuration.build(RepeatConfig, fields, path)
    earlier = Earlier(outlines, self._data_dir, self._mesh, self._problems)
    before = dict(outlines)
    if config.model_from is not None and self._known:
      earlier.model(config.model_from, f"{path}.model_from")
    if config.model_from in before:  # to the end, where the latest model is looked for
      before[config.model_from] = before.pop(config.model_from)
    steps = self.sequence(config.steps, before, f"{path}.steps")
    if any(isinstance(step, Repeat) for step in steps):
      raise UserError(f"{path}: a repeated group cannot hold another one")
    passes = {step.name: step.outline for step in steps}
    if self._known:
      Earlier(passes).check_metric(config.monitor, config.metric, f"{path}.monitor")
      if config.start is not None:
        earlier.check_metric(config.start, config.metric, f"{path}.start")
    model = next((outline.model for outline in reversed(passes.values()) if outline.model), None)
    return Repeat(config, tuple(steps), path, Outline(model=model, passes=passes))
