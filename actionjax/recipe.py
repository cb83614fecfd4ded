"""Runs a config's steps in order, and finds the one to go on with.

What a config says is `planning`'s; what its folder may hold, `workdir`'s. A finished step leaves
`done.json`, written atomically, with its artifacts; a run that is started again begins with the
first step that has none. The passes of a repeated group go on until a metric no longer rises; their
done-markers decide where it goes on.
"""
import contextlib
import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax

from actionjax import console, distributed, planning, workdirs
from actionjax.errors import UserError
from actionjax.planning import Repeat, RepeatConfig, Step
from actionjax.steps.context import Context, step_seed
from actionjax.training import sharding
from actionjax.training.inspection import NOTHING, Inspection


def run(config: Mapping, workdir: str | os.PathLike,
        inspection: Inspection = NOTHING) -> dict:
  """Runs a recipe in a workdir, going on where an earlier run ended.

  Writes `config.json`, a folder a step, `metrics.json`, `confusion.png` and `curves.png`.

  Args:
    config: see `planning`.
    workdir: made if it does not exist.
    inspection: what trainings are watched with.

  Returns:
    The content of metrics.json.

  Raises:
    UserError: the config is wrong, the workdir belongs to another config, or another process
      works in it.
  """
  mesh = sharding.make_mesh()
  plan = planning.plan(config, mesh=mesh)
  workdir = pathlib.Path(workdir).resolve()
  chief = distributed.is_first()
  if chief:
    workdir.mkdir(parents=True, exist_ok=True)
  with workdirs.Lock(workdir) if chief else contextlib.nullcontext():
    if chief:
      workdirs.claim(workdir, plan.section())
    distributed.wait_for_all("claimed")
    runner = _Runner(workdir, plan.seed, plan.data_dir, mesh, inspection, plan.test_views())
    previous: dict[str, dict] = {}
    for position, step in enumerate(plan.steps):
      directory = workdirs.step_directory(workdir, position, step.name)
      if isinstance(step, Repeat):
        previous |= runner.run_repeat(step, directory, previous)
      else:
        previous[step.name] = runner.run_step(step, directory, previous)
    metrics = _summarise(previous)
    if chief:
      workdirs.write_json(workdir / "metrics.json", metrics)
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
  views: Mapping[str, dict]

  def run_step(self, step: Step, directory: pathlib.Path, previous: dict, prefix: str = "") -> dict:
    """A step's artifacts. `prefix` is its group and pass, "pruning/pass1/", where it has one."""
    name = prefix + step.name

    def work():
      return step.module.run(step.config, Context(
          directory=directory, workdir=self.workdir, path=step.path,
          seed=step_seed(self.seed, name), data_dir=self.data_dir, mesh=self.mesh,
          previous=previous, inspection=self.inspection, run_seed=self.seed,
          views=self.views.get(step.name)))
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
            step, workdirs.step_directory(directory / f"pass{number:02d}", position, step.name),
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
      workdirs.write_json(done, {"artifacts": artifacts, "minutes": (time.time() - began) / 60,
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
