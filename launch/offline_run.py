"""Runs a pack of `launch/offline.sh` on the machine without network; reached by its `run.sh`.

  ./run.sh RESULTS MINUTES [--small] [--only=NAME,...] [--skip=NAME,...]

Parts: benchmark, stgcnpp, posec3d, vpn, in this order, each for as long as is left. What is asked
to end saves a checkpoint, and the same line again goes on from there. RESULTS/summary.json and
summary.md say how far everything is; RESULTS/NAME.log is what a part printed.

Needs nothing but the standard library, whatever the machine lacks.
"""
import argparse
import ctypes
import dataclasses
import hashlib
import importlib.metadata
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from offline_summary import describe, progress, read_json, table

# Each part's arguments of actionjax.main: the config, and with --small what replaces it.
TRAININGS = {
    "stgcnpp": ("configs/stgcnpp_utd_mhad.py", "configs/stgcnpp_utd_mhad.py:cpu",
                ("--config.steps[0].epochs=2.0", "--config.steps[1].views.temporal=1")),
    "posec3d": ("configs/posec3d_utd_mhad.py", "configs/posec3d_utd_mhad.py:cpu,epochs=1.0",
                ("--config.steps[1].views.temporal=1",)),
    "vpn": ("configs/vpn_utd_mhad.py", "configs/vpn_utd_mhad.py:cpu,epochs=1.0",
            ("--config.steps[0].epochs=1.0", "--config.steps[2].views.temporal=1")),
}
PARTS = ("benchmark", *TRAININGS)
# Of what is left when it starts; the trainings are worth more, and an unfinished one goes on.
BENCHMARK_SHARE = 0.25
# Between asking a part to end and ending it: a checkpoint takes seconds, compiling a minute.
GRACE, GRACE_SHARE = 45.0, 0.15
CLOSING = 2.0  # seconds for the last summary
STATE, SUMMARY, TABLE = "state.json", "summary.json", "summary.md"
_PROBE = """
import importlib, json, platform, sys
missing = []
for name in ("absl", "array_record.python.array_record_module", "chex", "cv2", "flax",
             "google.protobuf", "grain", "matplotlib", "ml_collections", "numpy", "optax",
             "orbax.checkpoint", "scipy", "tensorboardX", "tqdm", "jax"):
  try:
    importlib.import_module(name)
  except Exception as error:
    missing.append(f"{name} ({type(error).__name__}: {error})")
found = {"missing": missing, "python": platform.python_version()}
if not missing:
  import flax, jax, jaxlib, numpy, optax
  devices = jax.devices()
  found.update(jax=jax.__version__, jaxlib=jaxlib.__version__, flax=flax.__version__,
               optax=optax.__version__, numpy=numpy.__version__, backend=jax.default_backend(),
               device=f"{len(devices)} {devices[0].device_kind}")
print("PROBE" + json.dumps(found))
"""


class RunError(Exception):
  """A mistake of the user's; one line that names the remedy."""


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file so that it is there whole or not at all."""
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)


# ---- packages ---------------------------------------------------------------------------

def install(pack: pathlib.Path) -> tuple[pathlib.Path, str]:
  """Puts those wheels that this Python lacks into a folder of this machine.

  Returns:
    the folder, for PYTHONPATH, and one line about it.

  Raises:
    RunError: the wheels are not for this Python, or pip does not work.
  """
  lacking = []
  for wheel in sorted((pack / "wheels").glob("*.whl")):
    try:
      importlib.metadata.version(wheel.name.split("-")[0])
    except importlib.metadata.PackageNotFoundError:
      lacking.append(wheel)
  names = [sys.version, sys.prefix, *(f"{w.name} {w.stat().st_size}" for w in lacking)]
  key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
  site = pathlib.Path(tempfile.gettempdir()) / f"actionjax-{os.getuid()}-{key}"
  line = f"{len(lacking)} packages from wheels" if lacking else "no package from wheels"
  if lacking and not (site / ".complete").exists():
    run = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--no-index", "--no-deps", "--upgrade", f"--target={site}", *map(str, lacking)],
        capture_output=True, text=True)
    if run.returncode:
      last = (run.stderr.strip().splitlines() or ["no message"])[-1]
      packed = read_json(pack / "pack.json", {}).get("python", "another version")
      raise RunError(f"pip cannot install the wheels ({last.removeprefix('ERROR: ')}); they are "
                     f"for Python {packed}, this is {sys.version.split()[0]}: name another one, "
                     "PYTHON=... ./run.sh, or pack anew with its --python and --platform")
    (site / ".complete").touch()
  return site, line


def probe(environment: dict, directory: pathlib.Path) -> dict:
  """Versions and device as a process of its own sees them, so that this one holds no accelerator.

  Raises:
    RunError: a package does not import.
  """
  run = subprocess.run([sys.executable, "-c", _PROBE], env=environment, cwd=directory,
                       capture_output=True, text=True)
  answer = next((line for line in run.stdout.splitlines() if line.startswith("PROBE")), None)
  if answer is None:
    last = (run.stderr.strip().splitlines() or ["it printed nothing"])[-1]
    raise RunError(f"JAX does not start on this machine: {last}")
  found = json.loads(answer.removeprefix("PROBE"))
  if found["missing"]:
    raise RunError(f"does not import here: {'; '.join(found['missing'])}; pack it: leave it out of "
                   "--have of launch/offline.sh")
  return found


# ---- running ----------------------------------------------------------------------------

@dataclasses.dataclass
class Run:
  """One call of run.sh.

  Attributes:
    pack, results: folders. small: for CPUs. deadline: of time.monotonic, all over by then.
    environment: of what is started. state: of all calls in this folder so far, see `save`.
  """
  pack: pathlib.Path
  results: pathlib.Path
  small: bool
  deadline: float
  environment: dict
  state: dict
  child: subprocess.Popen | None = None
  ending: bool = False

  @property
  def left(self) -> float:
    """Seconds until the deadline, without those for the last summary."""
    return self.deadline - CLOSING - time.monotonic()

  def end(self, number, frame) -> None:
    """The signals' handler: asks the running part to end."""
    del number, frame
    first, self.ending = not self.ending, True
    if self.child is not None and self.child.poll() is None:
      self.child.send_signal(signal.SIGTERM if first else signal.SIGKILL)

  def command(self, part: str, minutes: float) -> list[str]:
    """What a part runs, in the checkout."""
    if part == "benchmark":
      return ["-m", "actionjax.benchmark", "--accelerator", f"--out={self._unused(part)}",
              f"--minutes={minutes:.2f}", *(["--small"] if self.small else [])]
    full, small, overrides = TRAININGS[part]
    return ["-m", "actionjax.main", f"--config={small if self.small else full}",
            f"--workdir={self.results / part}", f"--config.data_dir={self.pack / 'data'}",
            *(overrides if self.small else ())]

  def _unused(self, part: str) -> pathlib.Path:
    """A folder for a part that does not go on where it was stopped: each call has its own."""
    names = (part if number == 1 else f"{part}_{number}" for number in itertools.count(1))
    return next(path for path in map(self.results.joinpath, names) if not path.exists())

  def run(self, part: str) -> None:
    """Runs a part until it is done, the time is over, or a signal comes; notes what came of it."""
    row = self.state["parts"].setdefault(part, {"minutes": 0.0})
    grace = min(GRACE, GRACE_SHARE * max(self.left, 0))
    budget = self.left - grace
    if part == "benchmark":
      budget *= BENCHMARK_SHARE
    command = [sys.executable, *self.command(part, budget / 60)]
    row |= {"status": "running", "command": " ".join(["python", *command[1:]])}
    row.pop("error", None)
    # Another call may have run on another machine.
    row["devices"] = sorted({*row.get("devices", ()), self.state["machine"]["device"]})
    self.save()
    print(f"{part}: {row['command']}", flush=True)
    began, log = time.monotonic(), self.results / f"{part}.log"
    # The benchmark keeps to its minutes by itself, but for what it is in the middle of.
    patience = budget + (grace if part == "benchmark" else 0)
    with log.open("a") as out:
      self.child = subprocess.Popen(
          command, cwd=self.pack / "checkout", env=self.environment, stdout=out, stderr=out,
          start_new_session=True, preexec_fn=_die_with_parent if sys.platform == "linux" else None)
      if self.ending:  # came between the last look and now
        self.child.send_signal(signal.SIGTERM)
      over = not _wait(self.child, began + patience, lambda: self.ending)
      if over:
        if not self.ending:
          self.child.terminate()
        if not _wait(self.child, time.monotonic() + grace):
          _kill(self.child)
    code, self.child = self.child.wait(), None
    row["minutes"] = round(row["minutes"] + (time.monotonic() - began) / 60, 3)
    if code == 0:
      row["status"] = "finished"
    elif over or self.ending:
      row["status"] = "stopped"
    else:
      row |= {"status": "failed", "error": f"exit status {code}: {_last_line(log)}"}
    self.save()
    print(f"{part}: {describe(self.summary()['parts'][part])}", flush=True)

  def save(self) -> None:
    """Writes state and summaries."""
    write_text(self.results / STATE, json.dumps(self.state, indent=1) + "\n")
    summary = self.summary()
    write_text(self.results / SUMMARY, json.dumps(summary, indent=1) + "\n")
    write_text(self.results / TABLE, table(summary))

  def summary(self) -> dict:
    """What summary.json holds: machine, pack, and by part what the state and its files tell."""
    parts = {}
    for part in PARTS:
      row = dict(self.state["parts"].get(part, {"status": "not started", "minutes": 0.0}))
      if part in TRAININGS:
        row["steps"] = progress(self.results / part, self.results / f"{part}.log")
        metrics = read_json(self.results / part / "metrics.json", None)
        if metrics is not None:
          row["metrics"] = metrics
      else:
        files = sorted(self.results.glob(f"{part}*/*"))
        row["files"] = [str(file.relative_to(self.results)) for file in files if file.is_file()]
      parts[part] = row
    return {"small": self.small, "machine": self.state["machine"], "pack": self.state["pack"],
            "parts": parts}


def _die_with_parent() -> None:
  ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(child: subprocess.Popen, until: float, ending=lambda: False) -> bool:
  """Waits for a process, no longer than until a time; returns whether it ended."""
  while child.poll() is None:
    if time.monotonic() >= until or ending():
      return False
    time.sleep(0.1)
  return True


def _kill(child: subprocess.Popen) -> None:
  """Ends a process and those it started."""
  try:
    os.killpg(child.pid, signal.SIGKILL)
  except ProcessLookupError:
    pass


def _last_line(log: pathlib.Path) -> str:
  lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
  return lines[-1][:300] if lines else "it printed nothing"


# ---- the command ------------------------------------------------------------------------

class _Parser(argparse.ArgumentParser):
  """Answers a mistake with one line."""

  def error(self, message):
    self.exit(1, f"error: {message}; --help lists the options\n")


def _names(text: str, flag: str) -> set[str]:
  names = {name for name in text.split(",") if name}
  unknown = sorted(names - set(PARTS))
  if unknown:
    raise RunError(f"{flag}={text}: there is no part {unknown[0]!r}; known: {', '.join(PARTS)}")
  return names


def start(arguments) -> tuple[Run, list[str]]:
  """Checks everything, installs, and looks at the machine; returns the run and its parts."""
  pack = pathlib.Path(arguments.pack).resolve()
  results = pathlib.Path(arguments.results).resolve()
  if arguments.minutes <= 0:
    raise RunError(f"MINUTES={arguments.minutes:g} must be above 0")
  deadline = time.monotonic() + 60 * arguments.minutes
  only, skip = _names(arguments.only, "--only"), _names(arguments.skip, "--skip")
  parts = [part for part in PARTS if part not in skip and (not only or part in only)]
  content = read_json(pack / "pack.json", None)
  if content is None:
    raise RunError(f"{pack} holds no whole pack; copy all of the folder, or pack again")
  try:
    results.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise RunError(f"cannot make {results} ({error.strerror}); give another folder") from None
  state = read_json(results / STATE, None) or {"small": arguments.small, "parts": {}}
  if state["small"] != arguments.small:
    raise RunError(f"{results} holds results {'with' if state['small'] else 'without'} --small; "
                   "give another folder")
  site, line = install(pack)
  checkout = pack / "checkout"
  environment = os.environ | {"PYTHONPATH": os.pathsep.join(
      [str(checkout), str(site), *filter(None, [os.environ.get("PYTHONPATH")])])}
  machine = probe(environment, checkout)
  print(f"{machine['device']}, Python {machine['python']}, jax {machine['jax']}; {line}",
        flush=True)
  if machine["backend"] == "cpu" and not arguments.small:
    print("JAX finds no accelerator here: this will be slow; --small is meant for CPUs",
          flush=True)
  state |= {"machine": machine, "pack": {key: content.get(key) for key in (
      "dataset", "variant", "version", "cut", "commit", "changed")}}
  return Run(pack, results, arguments.small, deadline, environment, state), parts


def main() -> int:
  """Runs the parts; returns the exit status."""
  parser = _Parser(prog="./run.sh", description=__doc__, allow_abbrev=False,
                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("pack", help=argparse.SUPPRESS)
  parser.add_argument("results", metavar="RESULTS")
  parser.add_argument("minutes", metavar="MINUTES", type=float)
  parser.add_argument("--small", action="store_true", help="two cores, about a minute each")
  parser.add_argument("--only", default="", help="the parts to run, by commas")
  parser.add_argument("--skip", default="", help="the parts to leave out, by commas")
  try:
    run, parts = start(parser.parse_args())
  except RunError as error:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 1
  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, run.end)
  for part in parts:
    status = run.state["parts"].get(part, {}).get("status")
    if status == "finished":
      print(f"{part}: is done already", flush=True)
    elif run.ending or run.left < 5:
      break
    else:
      run.run(part)
  run.save()
  print(f"summary: {run.results / TABLE}", flush=True)
  if run.ending:
    return 143
  statuses = {part: run.state["parts"].get(part, {}).get("status") for part in parts}
  if any(status == "failed" for part, status in statuses.items() if part != "benchmark"):
    return 1
  if any(status not in ("finished", "failed") for status in statuses.values()):
    print("time is over; the same line again goes on", flush=True)
    return 3
  return 0


if __name__ == "__main__":
  sys.exit(main())
