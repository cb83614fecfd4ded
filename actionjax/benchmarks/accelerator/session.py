"""The whole measurement: which parts, in which order, until when; writes what is finished."""
import importlib.util
import json
import os
import pathlib
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from actionjax.benchmarks.accelerator import report
from actionjax.benchmarks.accelerator.cases import CASES
from actionjax.benchmarks.accelerator.remote import RemoteError, TimeOver
from actionjax.benchmarks.accelerator.sides import Sides
from actionjax.errors import UserError
from actionjax.ops.convolution import LOWERINGS

# The most important first.
ORDER = (*CASES, "heatmaps", "superclasses", "compacted", "kernels", "largest")
_MARGIN = 5.0  # seconds kept at the end for writing


def run(out: str, *, small: bool = False, only: Sequence[str] = (), minutes: float = 8.0,
        lowerings: Sequence[str] = ("auto",), torch: bool = True,
        profile: bool = False) -> dict:
  """Measures and writes `results.json`, `table.md` and `lowerings.json`.

  Args:
    out: a folder that is new or empty.
    small: small networks and few rounds, for trying it out on any machine.
    only: names of `ORDER`; empty for all.
    minutes: after which it ends, finished or not.
    lowerings: of the convolutions, each network with each, see `ops.convolution`; the kernels
      with these alone, where "auto" is not the only one.
    torch: measure PyTorch beside, where it is installed.
    profile: write each training step's operations and their times as well; everything then runs
      without CUDA graphs.

  Returns:
    What results.json holds: `device`, `peaks`, `rows` of networks, `kernels`, `others`, `notes`.

  Raises:
    UserError: a folder that is not empty, an unknown name, or no accelerator without `small`.
    SystemExit: SIGTERM came; what was finished is written.
  """
  for name in only:
    if name not in ORDER:
      raise UserError(f"--only={name} is unknown; known: {', '.join(ORDER)}")
  for name in lowerings:
    if name not in LOWERINGS:
      raise UserError(f"--lowerings={name} is unknown; known: {', '.join(LOWERINGS)}")
  folder = pathlib.Path(out)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UserError(f"--out={out} is not an empty folder; give a new one")
  session = _Session(folder, small, minutes, torch, tuple(lowerings), profile)
  with session:
    session.run([name for name in ORDER if not only or name in only])
  return session.results


class _Stop(BaseException):
  """SIGTERM came."""


class _Session:

  def __init__(self, folder, small, minutes, torch, lowerings, profile):
    self._folder, self._small, self._lowerings = folder, small, lowerings
    self._profile = profile
    self._start = time.monotonic()
    self._deadline = self._start + 60 * minutes - _MARGIN
    self._cache = pathlib.Path(tempfile.mkdtemp(prefix="actionjax_compiled"))
    self._log = self._cache / "log.txt"
    self._sides = Sides(self._cache, self._log, self._deadline, small=small,
                        torch=torch and importlib.util.find_spec("torch") is not None,
                        lowering=lowerings[0], profile=profile)
    self.results = {"command": " ".join(sys.argv[1:]), "small": small, "device": {}, "peaks": {},
                    "rows": [], "kernels": [], "others": [], "notes": []}

  def __enter__(self):
    self._before = signal.signal(signal.SIGTERM, self._on_signal)
    return self

  def __exit__(self, *_):
    # A second signal must not end the writing.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    self._sides.close()
    if self.results["peaks"]:
      self.write()
      if self._log.exists():
        shutil.copy(self._log, self._folder / "log.txt")
    shutil.rmtree(self._cache, ignore_errors=True)
    signal.signal(signal.SIGTERM, self._before)

  @staticmethod
  def _on_signal(*_):
    raise _Stop

  def run(self, names: list[str]) -> None:
    """Measures, until all is done or the time is over."""
    try:
      self._describe()
      cases = [name for name in names if name in CASES]
      self._sides.prefetch(cases)
      for name in names:
        step = self._case if name in CASES else getattr(self, f"_{name}")
        self._guarded(name, lambda step=step, name=name: step(name))
        self.write()
        self._sides.prefetch(cases)
    except TimeOver:
      self._note(f"the time was over after {(time.monotonic() - self._start) / 60:.1f} minutes")
    except _Stop:
      self._note("stopped by SIGTERM")
      sys.exit(128 + signal.SIGTERM)

  def write(self) -> None:
    """Writes everything that is finished."""
    self._folder.mkdir(parents=True, exist_ok=True)
    _write(self._folder / "results.json", json.dumps(self.results, indent=1) + "\n")
    _write(self._folder / "table.md", report.markdown(self.results))
    if self.results["kernels"]:
      _write(self._folder / "lowerings.json",
             json.dumps(report.lowerings_file(self.results), indent=1) + "\n")

  def _describe(self):
    remote = self._sides.open("device:Device")
    device = self.results["device"] = remote.call(self._deadline, "describe")
    if device["backend"] == "cpu" and not self._small:
      raise UserError("no accelerator: JAX sees CPUs alone here (is the matching JAX installed, "
                      "as in pip install 'jax[cuda13]'?); --small tries everything out on a CPU")
    self.results["peaks"] = remote.call(self._deadline, "peaks", self._small)
    self._sides.release(remote)
    self.write()
    self._say(report.heading(self.results))

  def _guarded(self, name: str, work: Callable[[], None]) -> None:
    """Runs a part; its failure is a note, not the end."""
    try:
      work()
    except RemoteError as error:
      self._note(f"{name}: {error}")

  def _case(self, name: str) -> None:
    for lowering in self._lowerings:
      self._guarded(name, lambda lowering=lowering: self._network(name, lowering))
    self._sides.forget(name)

  def _network(self, name: str, lowering: str) -> None:
    """One network with one lowering; where its batch does not fit, with half of it."""
    batch_size = None
    while True:
      sides = {}
      try:
        row = self._side_by_side(sides, name, lowering, batch_size)
        return self._finish(row, sides["ours"])
      except RemoteError as error:
        before = batch_size or CASES[name].batch_size
        batch_size = before // 2
        if not error.out_of_memory or batch_size < 1:
          raise
        self._note(f"{name}: a batch of {before} does not fit into the memory")
      finally:
        for remote in sides.values():
          self._sides.release(remote)

  def _side_by_side(self, sides, name, lowering, batch_size):
    """Ours and, with the first lowering, PyTorch's; puts their processes into `sides`."""
    row = {"case": name, "title": CASES[name].title, "lowering": lowering}
    ours = sides["ours"] = self._sides.prepared("jax", name, lowering, batch_size)
    with_torch = self._sides.torch and lowering == self._lowerings[0]
    if with_torch:
      sides["torch"] = self._sides.prepared("torch", name, batch_size=batch_size)
    row |= {"marked": "smaller batch"} if batch_size else {}
    row |= self._sides.tuned(ours)
    measured = {"ours": ours}
    if with_torch:
      measured |= self._torch_side(sides["torch"], row, name)
    if "torch" in measured:
      row["difference"] = _difference(ours.call(self._deadline, "outputs"),
                                      measured["torch"].call(self._deadline, "outputs"))
      if row["difference"] > report.TOLERANCE:
        self._note(f"{name}: outputs differ from PyTorch's by {row['difference']:.3f} of their "
                   "size; no ratio")
    self._sides.settle()
    for which in ("train", "forward"):
      row[which] = self._turns(measured, which, row["batch_size"])
    for side, remote in measured.items():
      row[f"{side}_memory"] = remote.call(self._deadline, "memory")
    return row

  def _finish(self, row, ours):
    self.results["rows"].append(row)
    self.write()
    self._say(report.line(row, self.results["peaks"]))
    if self._profile:
      _write(self._folder / f"profile_{row['case']}_{row['lowering']}.json",
             json.dumps(ours.call(self._deadline, "profile"), indent=0) + "\n")
    elif row["lowering"] == self._lowerings[0] and not (
        self._small and len(self.results["rows"]) > 1):
      row["compile_again_s"] = ours.call(self._deadline, "compile_again")
      self.write()

  def _torch_side(self, remote, row, name):
    """{"torch": PyTorch's side, tuned}, or nothing where it can't be measured."""
    try:
      row["torch"] = remote.result(self._deadline)
      if self.results["device"]["backend"] != {"cuda": "gpu"}.get(row["torch"]["device"], "cpu"):
        self._note(f"PyTorch {row['torch']['torch']} is without CUDA: not measured")
        self._sides.torch = False
        return {}
      row["torch"] |= remote.call(self._deadline, "tune")
      return {"torch": remote}
    except RemoteError as error:
      self._note(f"{name}: PyTorch: {error}")
      row.pop("torch", None)
      return {}

  def _turns(self, sides, which, batch_size) -> dict:
    """Blocks of steps in turns: for each side, clips a second of the blocks."""
    rounds, wanted = (2, 0.02) if self._small else (7, 0.35)
    counts, speeds = {}, {side: [] for side in sides}
    for side, remote in sides.items():
      remote.call(self._deadline, "block", which, 2)
      seconds = remote.call(self._deadline, "block", which, 2) / 2
      counts[side] = max(1, round(wanted / seconds))
    for _ in range(rounds):
      for side, remote in sides.items():
        seconds = remote.call(self._deadline, "block", which, counts[side])
        speeds[side].append(batch_size * counts[side] / seconds)
    return {side: {"median": statistics.median(found), "min": min(found), "max": max(found),
                   "steps": counts[side]} for side, found in speeds.items()}

  def _kernels(self, name):
    remote = self._sides.open("kernels:Kernels")
    for kernel in remote.call(self._deadline, "names", self._small):
      self._sides.settle()
      rows = remote.call(self._deadline, "measure", kernel, self._small,
                         [way for way in self._lowerings if way != "auto"])
      self.results["kernels"] += rows
      self.write()
      for row in rows:
        self._say(report.kernel_line(row, self.results["peaks"]))
    self._sides.release(remote)
    self._say(f"{self._folder / 'lowerings.json'} is what these times choose; its entry goes into "
              "actionjax/ops/lowerings.json")

  def _other(self, name: str) -> None:
    remote = self._sides.open("others:Others")
    self._sides.settle()
    for row in remote.call(self._deadline, name, self._small):
      self.results["others"].append(row)
      self._say(report.other_line(row))
    self._sides.release(remote)

  _heatmaps = _superclasses = _other

  def _compacted(self, name: str) -> None:
    """HAC's network pruned, its dead filters masked and taken out, in turns."""
    sides = {form: self._sides.open("jax_side:JaxSide") for form in ("masked", "compacted")}
    row = {"case": "hac", "title": f"{CASES['hac'].title}, pruned", "lowering": self._lowerings[0]}
    for form, side in sides.items():
      side.start("prepare", "hac", self._small, lowering=row["lowering"], form=form)
    for form, side in sides.items():
      found = side.result(self._deadline) | side.call(self._deadline, "tune")
      row |= {"batch_size": found["batch_size"], form: found}
    self._sides.settle()
    for which in ("train", "forward"):
      row[which] = self._turns(sides, which, row["batch_size"])
    for form, side in sides.items():
      row[form] |= side.call(self._deadline, "memory")
      self._sides.release(side)
    self.results["others"].append(row)
    self._say(report.other_line(row))

  def _largest(self, name):
    """The largest batch of each measured network, from what a step of its batch takes."""
    for row in self.results["rows"]:
      limit = row["ours_memory"]["limit"]
      if row["lowering"] != self._lowerings[0] or not limit or not row["planned"]:
        continue
      candidate = likely_batch(row, limit)
      remote = self._sides.open("jax_side:JaxSide")
      remote.call(self._deadline, "prepare", row["case"], self._small,
                  lowering=row["lowering"])
      for _ in range(4):
        if remote.call(self._deadline, "fits", candidate):
          row["largest_batch"] = candidate
          self._say(f"{row['case']}: a training step of {candidate} clips fits")
          break
        candidate = _rounded(0.85 * candidate)
      self._sides.release(remote)
      self.write()

  def _note(self, text: str) -> None:
    self.results["notes"].append(text)
    self._say(f"note: {text}")

  def _say(self, text: str) -> None:
    print(text, flush=True)
    self._mark(text)

  def _mark(self, text: str) -> None:
    """A line with the time in the log."""
    with self._log.open("a") as file:
      file.write(f"[{time.monotonic() - self._start:7.1f} s] {text}\n")


def likely_batch(row: dict, limit: int) -> int:
  """The largest batch that a training step might have room for, a tenth left free.

  Args:
    row: of a network: its step's `planned` bytes with a batch of `batch_size`.
    limit: bytes of the device.
  """
  # Parameters, gradients and the optimiser's two moments, float32, do not grow with the batch.
  fixed = 4 * 4 * row["parameters"]
  clip = (row["planned"] - fixed) / row["batch_size"]
  return _rounded(0.9 * (limit - fixed) / clip)


def _rounded(batch_size: float) -> int:
  """Down, to a multiple of eight where there are so many."""
  return int(batch_size) // 8 * 8 or max(1, int(batch_size))


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Of logits, relative to their size."""
  return float(np.linalg.norm(ours - theirs) / np.linalg.norm(ours))


def _write(path: pathlib.Path, text: str) -> None:
  """Whole or not at all."""
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)
