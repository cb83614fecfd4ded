"""Runs a config's steps in order, and finds the one to go on with.

A config has `name`, `seed`, `data_dir`, `steps` (a tuple) and sections that its steps share:
a step takes each key it knows from the config, and its own values over it. A finished step
leaves `done.json`, written atomically, with its artifacts; a run that is started again begins
with the first step that has none. A step of kind "repeat" holds steps of its own, which run
in passes until a metric no longer rises; the passes' done-markers decide where it goes on.
"""
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import time
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from actionjax import configuration, console, distributed
from actionjax.data import catalogue
from actionjax.errors import UserError
from actionjax.steps.context import Context
from actionjax.training import sharding
from actionjax.training.inspection import NOTHING, Inspection

# What a config may hold beside the sections that its steps read.
TOP_KEYS = ("name", "seed", "data_dir", "steps")


@dataclasses.dataclass(frozen=True)
class Step:
  """One validated step: its kind's module, its config, and its place."""
  name: str
  module: Any
  config: Any
  path: str


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
  metric: str = "top1"
  patience: int = 2
  start: str | None = None
  model_from: str | None = None


@dataclasses.dataclass(frozen=True)
class Repeat:
  """A validated group of repeated steps."""
  config: RepeatConfig
  steps: tuple[Step, ...]
  path: str

  @property
  def name(self) -> str:
    """Of the group."""
    return self.config.name


def plan(config: Mapping) -> list[Step | Repeat]:
  """Checks a whole config and lists its steps, without any work.

  Raises:
    UserError: a key or value that nothing takes, two steps of one name, no steps.
  """
  settings = catalogue.resolve_all(configuration.to_dict(config))
  for key in ("name", "steps"):
    if not settings.get(key):
      raise UserError(f"config lacks {key}")
  shared = {key: value for key, value in settings.items() if key not in TOP_KEYS}
  used: set[str] = set()
  steps = _plan(settings["steps"], shared, used, set(), "config.steps")
  for key in set(shared) - used:
    configuration.check_keys({key: None}, used | set(TOP_KEYS), "config")
  return steps


def flatten(steps: Iterable[Step | Repeat]) -> list[Step]:
  """All steps, those of a repeated group once."""
  return [inner for step in steps for inner in
          (step.steps if isinstance(step, Repeat) else (step,))]


def _plan(sections, shared: dict, used: set[str], names: set[str], path: str):
  """Validates a sequence of steps; adds to the shared keys `used` and to the `names` taken."""
  steps: list[Step | Repeat] = []
  for position, own in enumerate(sections):
    where = f"{path}[{position}]"
    own = dict(own)
    kind = own.pop("kind", None)
    if kind is None:
      raise UserError(f"{where} lacks kind, such as train or evaluate")
    step = (_plan_repeat(own, shared, used, names, where) if kind == "repeat" else
            _plan_step(kind, own, shared, used, where))
    if step.name in names:
      raise UserError(f"{where}: there is already a step named {step.name!r}")
    if isinstance(step, Step) and hasattr(step.module, "needs"):
      lacking = sorted(set(step.module.needs(step.config)) - names)
      if lacking:
        raise UserError(f"{where}: there is no earlier step {lacking[0]!r}; "
                        f"known: {', '.join(sorted(names))}")
    names.add(step.name)
    steps.append(step)
  return steps


def _plan_step(kind: str, own: dict, shared: dict, used: set[str], path: str) -> Step:
  step_config = configuration.plugin("actionjax.steps", kind, "Config", f"{path}.kind")
  known = {field.name for field in dataclasses.fields(step_config)}
  used |= known & set(shared)
  section = configuration.merge({k: v for k, v in shared.items() if k in known}, own)
  module = configuration.plugin("actionjax.steps", kind, "run", f"{path}.kind")
  built = configuration.build(step_config, section, path)
  module = __import__(module.__module__, fromlist=["run"])
  module.parse(built, path)
  return Step(built.name, module, built, path)


def _plan_repeat(own: dict, shared: dict, used: set[str], names: set[str], path: str) -> Repeat:
  built = configuration.build(RepeatConfig, own, path)
  # A pass' names must be free for two groups alike: they are told apart by group and pass.
  inside = set(names)
  steps = _plan(built.steps, shared, used, inside, f"{path}.steps")
  if any(isinstance(step, Repeat) for step in steps):
    raise UserError(f"{path}: a repeated group cannot hold another one")
  for field, name, known in (("monitor", built.monitor, {step.name for step in steps}),
                             ("start", built.start, names),
                             ("model_from", built.model_from, names)):
    if name is not None and name not in known:
      raise UserError(f"{path}.{field}: there is no step {name!r}; "
                      f"known: {', '.join(sorted(known))}")
  if built.passes < 1 or built.patience < 1:
    raise UserError(f"{path}: passes and patience must be at least 1")
  return Repeat(built, tuple(steps), path)


def run(config: Mapping, workdir: str | os.PathLike,
        inspection: Inspection = NOTHING) -> dict:
  """Runs a recipe in a workdir, going on where an earlier run ended.

  Writes `config.json`, a folder a step, `metrics.json`, `confusion.png` and `curves.png`.

  Args:
    config: see the module's docstring.
    workdir: made if it does not exist.
    inspection: what trainings are watched with.

  Returns:
    The content of metrics.json.

  Raises:
    UserError: the config is wrong, the workdir belongs to another config, or another process
      works in it.
  """
  steps = plan(config)
  workdir = pathlib.Path(workdir).resolve()
  chief = distributed.is_first()
  if chief:
    workdir.mkdir(parents=True, exist_ok=True)
  with _Lock(workdir) if chief else contextlib.nullcontext():
    if chief:
      _claim(workdir, config)
    distributed.wait_for_all("claimed")
    runner = _Runner(workdir, config.get("seed") or 0, config.get("data_dir"),
                     sharding.make_mesh(), inspection)
    previous: dict[str, dict] = {}
    for position, step in enumerate(steps):
      directory = workdir / f"{position:02d}_{step.name}"
      if isinstance(step, Repeat):
        previous |= runner.run_repeat(step, directory, previous)
      else:
        previous[step.name] = runner.run_step(step, directory, previous)
    metrics = _summarise(previous)
    if chief:
      write_json(workdir / "metrics.json", metrics)
      from actionjax.report import figures
      figures.write_all(workdir)
    return metrics


@dataclasses.dataclass(frozen=True)
class _Runner:
  """Runs steps, or finds them done."""
  workdir: pathlib.Path
  seed: int
  data_dir: str | None
  mesh: Any
  inspection: Inspection

  def run_step(self, step: Step, directory: pathlib.Path, previous: dict, prefix: str = "") -> dict:
    """A step's artifacts. `prefix` is its group and pass, "pruning/pass1/", where it has one."""
    name = prefix + step.name

    def work():
      return step.module.run(step.config, Context(
          directory=directory, workdir=self.workdir, path=step.path,
          seed=_step_seed(self.seed, name), data_dir=self.data_dir, mesh=self.mesh,
          previous=previous, inspection=self.inspection))
    return self._once(name, directory, work)

  def run_repeat(self, repeat: Repeat, directory: pathlib.Path, previous: dict) -> dict:
    """Artifacts of all passes' steps ("pruning/pass1/train") and of the group under its name."""
    config, found = repeat.config, {}
    before = dict(previous)
    if config.model_from is not None:  # to the end, where the latest model is looked for
      before[config.model_from] = before.pop(config.model_from)
    context = Context(directory, self.workdir, repeat.path, self.seed, self.data_dir, self.mesh,
                      before)
    history = [] if config.start is None else [_value(before[config.start], config, config.start)]
    models = [] if config.start is None else [
        {"model": str(context.model_of(None).relative_to(self.workdir))}]
    first = 1 - len(history)  # number of the pass that history[0] tells of, 0 for the start
    for number in range(1, config.passes + 1):
      prefix, inner = f"{config.name}/pass{number}/", {}
      for position, step in enumerate(repeat.steps):
        inner[step.name] = self.run_step(
            step, directory / f"pass{number:02d}" / f"{position:02d}_{step.name}",
            {**before, **found, **inner}, prefix)
      found |= {prefix + name: artifacts for name, artifacts in inner.items()}
      history.append(_value(inner[config.monitor], config, config.monitor))
      models.append(next((made for made in reversed(inner.values()) if "model" in made), {}))
      if _stalled(history) >= config.patience:
        break
    best = len(history) - 1 - history[::-1].index(max(history))
    group = {"history": history, "first_pass": first, "best_pass": best + first,
             **{key: value for key, value in models[best].items()
                if key in ("model", "params_digest")}}
    console.say(f"{config.name}: best is pass {group['best_pass']} "
                f"({config.monitor} {config.metric} {max(history):.4f})")
    return found | {config.name: self._once(config.name, directory, lambda: group)}

  def _once(self, name: str, directory: pathlib.Path, work) -> dict:
    """`work()`'s artifacts, from its done-marker where there is one."""
    done = directory / "done.json"
    if done.exists():
      console.say(f"step {name} is done already")
      return json.loads(done.read_text())["artifacts"]
    console.say(f"step {name}")
    began = time.time()
    artifacts = work()
    distributed.wait_for_all(f"finished {name}")
    if distributed.is_first():
      directory.mkdir(parents=True, exist_ok=True)
      write_json(done, {"artifacts": artifacts, "minutes": (time.time() - began) / 60,
                        "devices": f"{self.mesh.size} {jax.devices()[0].device_kind}"})
    distributed.wait_for_all(f"recorded {name}")
    return artifacts


def _value(artifacts: dict, config: RepeatConfig, name: str) -> float:
  """The monitored metric of an evaluation. Raises UserError where it has none."""
  try:
    return artifacts["metrics"][config.metric]
  except KeyError:
    raise UserError(f"{config.name}: step {name!r} yields no metric {config.metric!r}") from None


def _stalled(history: list[float]) -> int:
  """How many passes in a row, up to now, lie below the best before them."""
  count = 0
  for position in range(len(history) - 1, 0, -1):
    if history[position] >= max(history[:position]):
      break
    count += 1
  return count


def _summarise(previous: dict[str, dict]) -> dict:
  """metrics.json: an object a split evaluated, and the digest of the last trained model."""
  metrics = {name: found["metrics"] for name, found in previous.items() if "metrics" in found}
  digests = [found["params_digest"] for found in previous.values() if "params_digest" in found]
  return metrics | ({"params_digest": digests[-1]} if digests else {})


def _claim(workdir: pathlib.Path, config: Mapping) -> None:
  """Writes the config into a new workdir; refuses one that belongs to another config."""
  text = json.loads(json.dumps(configuration.to_dict(config)))
  file = workdir / "config.json"
  if file.exists():
    there = json.loads(file.read_text())
    there, here = _identity(there), _identity(text)
    if there != here:
      changed = ", ".join(sorted(_differences(there, here))[:5])
      raise UserError(f"{workdir} holds a run of another config (it differs in {changed}); "
                      "give another --workdir, or delete this one")
    return
  write_json(file, text)


def _identity(config):
  """A config without what may change between runs: where data lies, and who loads it."""
  if isinstance(config, dict):
    return {key: _identity(value) for key, value in config.items()
            if key not in ("data_dir", "threads", "workers")}
  return [_identity(value) for value in config] if isinstance(config, list) else config


def _differences(a, b, path: str = "config") -> set[str]:
  if isinstance(a, dict) and isinstance(b, dict):
    return set().union(*(_differences(a.get(k), b.get(k), f"{path}.{k}") for k in {*a, *b}))
  if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    return set().union(set(), *(_differences(x, y, f"{path}[{i}]")
                                for i, (x, y) in enumerate(zip(a, b))))
  return set() if a == b else {path}


def write_json(path: pathlib.Path, content: Any) -> None:
  """Writes a JSON file so that it is there whole or not at all."""
  temporary = path.with_name(path.name + ".tmp")
  with temporary.open("w") as file:
    json.dump(content, file, indent=2)
    file.write("\n")
    file.flush()
    os.fsync(file.fileno())
  os.replace(temporary, path)


def _step_seed(seed: int, name: str) -> int:
  # Own draws for every step, whatever stands before it.
  return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


class _Lock:
  """Keeps a second process out of a workdir; the system lets go when this one ends."""

  def __init__(self, workdir: pathlib.Path):
    self._path = workdir / ".lock"

  def __enter__(self):
    self._file = self._path.open("w")
    try:
      fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      raise UserError(f"another process is running in {self._path.parent}") from None
    return self

  def __exit__(self, *unused):
    self._file.close()
