"""Shared fixtures: where real data lies, and a small generated dataset."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from tests import shapes

shapes.install()  # before anything that it wraps is imported
ROOT = pathlib.Path(__file__).resolve().parent.parent
# Files with the most work come first, so that no worker is left alone with one at the end.
LONGEST_FILES = ("test_notebook.py", "test_hac_recipe.py", "test_interruption.py",
                 "test_multiprocess.py", "test_offline.py", "test_wheel.py", "test_benchmarks.py",
                 "test_accelerator_command.py",
                 "test_configs.py", "test_posec3d.py", "test_vpn.py", "test_training.py",
                 "test_convolution.py", "test_compaction.py", "test_hierarchy.py",
                 "test_recipe.py", "test_graph_clips.py", "test_gcn.py")


def pytest_addoption(parser):
  parser.addoption("--lacking", metavar="FILE", type=pathlib.Path, help=(
      "write the ids of tests that were skipped for a module that is not installed, one a line"))


def pytest_configure(config):
  if config.getoption("lacking") and not hasattr(config, "workerinput"):
    config.pluginmanager.register(Lacking(config.getoption("lacking")))


class Lacking:
  """Writes down what `pytest.importorskip` skipped: tests, and files as a whole."""

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.ids = []

  def pytest_runtest_logreport(self, report):
    if report.skipped and "could not import" in str(report.longrepr):
      self.ids.append(report.nodeid)

  pytest_collectreport = pytest_runtest_logreport

  def pytest_sessionfinish(self):
    self.path.write_text("".join(f"{identity}\n" for identity in dict.fromkeys(self.ids)))


def pytest_collection_modifyitems(items):
  """Sorts the longest files to the front; pytest-xdist hands out files in this order."""
  items.sort(key=lambda item: (LONGEST_FILES.index(item.path.name)
                               if item.path.name in LONGEST_FILES else len(LONGEST_FILES)))


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
  """Folder of the real datasets; the test is skipped where none is named."""
  if not os.environ.get("ACTIONJAX_TEST_DATA"):
    pytest.skip("ACTIONJAX_TEST_DATA names no folder with real datasets")
  return pathlib.Path(os.environ["ACTIONJAX_TEST_DATA"])


@pytest.fixture(scope="session")
def tiny_data_dir(tmp_path_factory) -> str:
  """A data_dir with the generated dataset's `tiny` variant."""
  from actionjax.data.preparing import preparation
  directory = tmp_path_factory.mktemp("data")
  preparation.prepare("synthetic_actions", data_dir=str(directory), variant="tiny", workers=2)
  return str(directory)


@pytest.fixture(scope="session", autouse=True)
def quick_compilation(tmp_path_factory):
  """Programs are compiled with few optimisations, and once in a session: whoever needs one again
  loads it, bit by bit the same, be it the other worker or a process that a test starts."""
  import jax
  session = tmp_path_factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    session = session.parent
  settings = {"jax_disable_most_optimizations": True,
              "jax_compilation_cache_dir": str(session / "compilations"),
              "jax_persistent_cache_min_compile_time_secs": 0.0,
              "jax_persistent_cache_min_entry_size_bytes": -1}
  for name, value in settings.items():
    jax.config.update(name, value)
    os.environ[name.upper()] = str(value)


@pytest.fixture
def optimised(monkeypatch):
  """For the few tests whose time is computing, not compilation; for processes they start, too."""
  import jax
  jax.config.update("jax_disable_most_optimizations", False)
  monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "False")
  yield
  jax.config.update("jax_disable_most_optimizations", True)


class Runs:
  """Starts commands on the small config as processes, and watches them."""

  def __init__(self, data_dir: str):
    self.data_dir = data_dir
    self.environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    self._sessions = []

  def start(self, workdir: pathlib.Path, argument: str, *, prefix=(), more=(),
            config="small_config.py"):
    """The command as a process, leader of a session of its own; output goes to a file."""
    workdir.parent.mkdir(parents=True, exist_ok=True)
    with workdir.with_suffix(".log").open("a") as log:
      process = subprocess.Popen(
          [*prefix, sys.executable, "-m", "actionjax.main", f"--workdir={workdir}",
           f"--config={ROOT / 'tests' / config}:{argument}",
           f"--config.data_dir={self.data_dir}", *more],
          cwd=ROOT, env=self.environment, stdout=log, stderr=log, start_new_session=True)
    self._sessions.append(process)
    return process

  def finish(self, workdir: pathlib.Path, argument: str, **kwargs) -> dict:
    """Runs to the end; returns metrics.json."""
    process = self.start(workdir, argument, **kwargs)
    assert process.wait(timeout=300) == 0, self.log(workdir)
    return json.loads((workdir / "metrics.json").read_text())

  @staticmethod
  def log(workdir: pathlib.Path) -> str:
    """What the processes of a workdir printed."""
    return workdir.with_suffix(".log").read_text()

  @classmethod
  def rows(cls, workdir: pathlib.Path, step: str) -> list[dict]:
    """The metrics that a step has written so far."""
    from actionjax.training import metric_writer
    found = [row for path in workdir.glob(f"*_{step}/metrics.jsonl")
             for row in metric_writer.read(path)]
    return [row for row in found if "loss" in row]

  def wait_for(self, process, workdir, step: str, at: int) -> None:
    """Returns when a training step has got as far as `at`; fails where the process ends first."""
    deadline = time.monotonic() + 240
    while not any(row["step"] >= at for row in self.rows(workdir, step)):
      assert process.poll() is None and time.monotonic() < deadline, self.log(workdir)
      time.sleep(0.002)

  @staticmethod
  def alive(session: int) -> list[int]:
    """Living processes of a session, by their ids."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
      try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
      except OSError:
        continue
      if int(fields[3]) == session and fields[0] != "Z":
        found.append(int(entry.name))
    return found

  def assert_gone(self, process, within: float = 30) -> None:
    """No process of the session is left."""
    deadline = time.monotonic() + within
    while left := self.alive(process.pid):
      assert time.monotonic() < deadline, f"processes {left} outlived the run"
      time.sleep(0.05)

  def close(self) -> None:
    """Ends what a failed test left behind."""
    for process in self._sessions:
      for pid in self.alive(process.pid):
        os.kill(pid, signal.SIGKILL)
      process.wait()


@pytest.fixture(scope="module")
def runs(tiny_data_dir):
  """Real processes of the command; see `Runs`."""
  if sys.platform != "linux":
    pytest.skip("looks for processes in /proc")
  runs = Runs(tiny_data_dir)
  yield runs
  runs.close()
