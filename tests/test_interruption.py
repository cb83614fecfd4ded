"""A run that is killed or stopped, started again, ends with the very same model."""
import os
import signal

import pytest

from actionjax.training import checkpoint

pytestmark = pytest.mark.slow

ARGUMENT = "first=30,second=30,save=5,validate"


@pytest.fixture(scope="module")
def whole(runs, tmp_path_factory):
  """(workdir, metrics) of a run that nobody disturbed."""
  workdir = tmp_path_factory.mktemp("whole") / "run"
  return workdir, runs.finish(workdir, ARGUMENT)


def _assert_same(runs, whole, workdir, metrics):
  reference, expected = whole
  assert metrics == expected  # the digest of the parameters among them
  for step in ("backbone", "joint"):
    found, wanted = (runs.rows(w, step) for w in (workdir, reference))
    assert [row["step"] for row in found] == [row["step"] for row in wanted] == list(range(1, 31))
    assert [row["loss"] for row in found] == [row["loss"] for row in wanted]


def test_killed_in_both_trainings(runs, whole, tmp_path):
  workdir = tmp_path / "run"
  for step, at in (("backbone", 7), ("joint", 13)):
    process = runs.start(workdir, ARGUMENT)
    runs.wait_for(process, workdir, step, at)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert runs.rows(workdir, step)[-1]["step"] < 30, "killed too late to show anything"
    runs.assert_gone(process)
  metrics = runs.finish(workdir, ARGUMENT)
  log = runs.log(workdir)
  assert log.count("resuming at step") == 2 and "step backbone is done already" in log
  _assert_same(runs, whole, workdir, metrics)


def test_killed_with_worker_processes(runs, whole, tmp_path):
  workdir = tmp_path / "run"
  process = runs.start(workdir, ARGUMENT, more=("--config.data.workers=2",))
  runs.wait_for(process, workdir, "backbone", 7)
  assert len(runs.alive(process.pid)) >= 3
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  runs.assert_gone(process)
  # Continued with threads: the position is the step, whoever loads.
  _assert_same(runs, whole, workdir, runs.finish(workdir, ARGUMENT))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_on_request(runs, whole, tmp_path, number):
  workdir = tmp_path / "run"
  step, at = ("backbone", 7) if number == signal.SIGTERM else ("joint", 8)
  process = runs.start(workdir, ARGUMENT)
  runs.wait_for(process, workdir, step, at)
  os.kill(process.pid, number)
  assert process.wait(timeout=30) == 1
  runs.assert_gone(process)
  log = runs.log(workdir)
  assert "Traceback" not in log
  stopped = int(log.rpartition("stopped on request at step ")[2].partition(";")[0])
  folder, = workdir.glob(f"*_{step}/checkpoints")
  checkpoints = checkpoint.TrainingCheckpoints(folder, {})
  assert checkpoints.latest("last") == stopped >= at
  checkpoints.close()
  metrics = runs.finish(workdir, ARGUMENT)
  assert f"resuming at step {stopped} of 30" in runs.log(workdir)
  _assert_same(runs, whole, workdir, metrics)
