"""The folder of a run: whose it is, and files that are there whole or not at all."""
import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError

CONFIG_FILE = "config.json"
# What may change between the starts of one run: where data lies, who loads it, and how often
# metrics and checkpoints are written.
_FREE = ("data_dir", "raw_dir", "threads", "workers", "log_every", "checkpoint_every")


def step_directory(workdir: pathlib.Path, position: int, name: str) -> pathlib.Path:
  """The folder of a run's step."""
  return workdir / f"{position:02d}_{name}"


def claim(workdir: pathlib.Path, plan: Mapping) -> None:
  """Writes a plan's section as `config.json`, unless steps of another one have begun here.

  Steps that have not begun yet are free to change, and so is what says where data lies and how
  often something is written.

  Args:
    plan: see `planning.Plan.section`.

  Raises:
    UserError: a step that has run or begun differs, or what is known of a user's dataset; names the
      keys.
  """
  file = workdir / CONFIG_FILE
  if file.exists():
    before = json.loads(file.read_text())
    steps, old_steps = plan["steps"], before.get("steps", [])
    begun = [position for position, step in enumerate(old_steps)
             if _begun(workdir, position, step)]
    different = set()
    for position in begun:
      now = steps[position] if position < len(steps) else None
      different |= differences(_fixed(old_steps[position]), _fixed(now),
                               f"config.steps[{position}]")
    if begun:
      different |= differences(before.get("seed"), plan["seed"], "config.seed")
    anew = sorted(path.partition(".about.")[2] for path in different if ".about." in path)
    if anew:
      raise UserError(f"{workdir}: its dataset was prepared anew with another {anew[0]} than this "
                      "run began with; train anew in another --workdir, or prepare it under "
                      "another --name")
    if different:
      names = ", ".join(sorted(different)[:5])
      raise UserError(f"{workdir} holds a run of another config: what has run or begun there "
                      f"differs in {names}; give another --workdir, or delete this one")
  write_json(file, plan)


def _begun(workdir, position, step) -> bool:
  directory = step_directory(workdir, position, step.get("name", step.get("kind", "")))
  return directory.is_dir() and any(directory.iterdir())


def _fixed(config):
  """A section without what may change between starts."""
  if isinstance(config, dict):
    return {key: _fixed(value) for key, value in config.items() if key not in _FREE}
  return [_fixed(value) for value in config] if isinstance(config, list) else config


def differences(a, b, path: str) -> set[str]:
  """Paths of the keys in which two sections differ."""
  if isinstance(a, dict) and isinstance(b, dict):
    return set().union(*(differences(a.get(k), b.get(k), f"{path}.{k}") for k in {*a, *b}))
  if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
    return set().union(set(), *(differences(x, y, f"{path}[{i}]")
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


class Lock:
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
