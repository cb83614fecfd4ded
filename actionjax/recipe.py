"""Runs a config's steps in order, and finds the one to go on with.

A config has `name`, `seed`, `data_dir`, `steps` (a tuple) and sections that its steps share:
a step takes each key it knows from the config, and its own values over it. A finished step
leaves `done.json`, written atomically, with its artifacts; a run that is started again begins
with the first step that has none.
"""
import dataclasses
import fcntl
import json
import os
import pathlib
import time
import zlib
from collections.abc import Mapping
from typing import Any

import jax

from actionjax import configuration, console
from actionjax.errors import UserError
from actionjax.steps.context import Context
from actionjax.training import sharding

# What a config may hold beside the sections that its steps read.
TOP_KEYS = ("name", "seed", "data_dir", "steps")


@dataclasses.dataclass(frozen=True)
class Step:
  """One validated step: its kind's module, its config, and its place."""
  name: str
  module: Any
  config: Any
  path: str


def plan(config: Mapping) -> list[Step]:
  """Checks a whole config and lists its steps, without any work.

  Raises:
    UserError: a key or value that nothing takes, two steps of one name, no steps.
  """
  settings = configuration.to_dict(config)
  for key in ("name", "steps"):
    if not settings.get(key):
      raise UserError(f"config lacks {key}")
  shared = {key: value for key, value in settings.items() if key not in TOP_KEYS}
  steps, used = [], set()
  for position, own in enumerate(settings["steps"]):
    path = f"config.steps[{position}]"
    own = dict(own)
    kind = own.pop("kind", None)
    if kind is None:
      raise UserError(f"{path} lacks kind, such as train or evaluate")
    step_config = configuration.plugin("actionjax.steps", kind, "Config", f"{path}.kind")
    known = {field.name for field in dataclasses.fields(step_config)}
    used |= known & set(shared)
    section = configuration.merge({k: v for k, v in shared.items() if k in known}, own)
    module = configuration.plugin("actionjax.steps", kind, "run", f"{path}.kind")
    built = configuration.build(step_config, section, path)
    module = __import__(module.__module__, fromlist=["run"])
    module.parse(built, path)
    if built.name in {step.name for step in steps}:
      raise UserError(f"{path}: there is already a step named {built.name!r}")
    steps.append(Step(built.name, module, built, path))
  for key in set(shared) - used:
    configuration.check_keys({key: None}, used | set(TOP_KEYS), "config")
  return steps


def run(config: Mapping, workdir: str | os.PathLike) -> dict:
  """Runs a recipe in a workdir, going on where an earlier run ended.

  Writes `config.json`, a folder a step, `metrics.json`, `confusion.png` and `curves.png`.

  Args:
    config: see the module's docstring.
    workdir: made if it does not exist.

  Returns:
    The content of metrics.json.

  Raises:
    UserError: the config is wrong, the workdir belongs to another config, or another process
      works in it.
  """
  steps = plan(config)
  workdir = pathlib.Path(workdir).resolve()
  chief = jax.process_index() == 0
  if chief:
    workdir.mkdir(parents=True, exist_ok=True)
  with _Lock(workdir) if chief else _nothing():
    if chief:
      _claim(workdir, config)
    _barrier("claimed")
    mesh = sharding.make_mesh()
    previous: dict[str, dict] = {}
    for position, step in enumerate(steps):
      directory = workdir / f"{position:02d}_{step.name}"
      done = directory / "done.json"
      if done.exists():
        previous[step.name] = json.loads(done.read_text())["artifacts"]
        console.say(f"step {step.name} is done already")
        continue
      console.say(f"step {step.name}")
      began = time.time()
      artifacts = step.module.run(step.config, Context(
          directory=directory, workdir=workdir, path=step.path,
          seed=_step_seed(config.get("seed") or 0, step.name),
          data_dir=config.get("data_dir"), mesh=mesh, previous=previous))
      _barrier(f"finished {step.name}")
      if chief:
        directory.mkdir(parents=True, exist_ok=True)
        write_json(done, {"artifacts": artifacts, "minutes": (time.time() - began) / 60,
                          "devices": f"{mesh.size} {jax.devices()[0].device_kind}"})
      _barrier(f"recorded {step.name}")
      previous[step.name] = artifacts
    metrics = _summarise(previous)
    if chief:
      write_json(workdir / "metrics.json", metrics)
      from actionjax.report import figures
      figures.write_all(workdir)
    return metrics


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


class _nothing:

  def __enter__(self):
    return self

  def __exit__(self, *unused):
    pass


def _barrier(name: str) -> None:
  if jax.process_count() > 1:
    from jax.experimental import multihost_utils
    multihost_utils.sync_global_devices(name)
