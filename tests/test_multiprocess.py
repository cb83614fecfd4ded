"""Two processes of one run on this machine: the same batches, the same numbers, one end."""
import json
import os
import pathlib
import signal
import sys

import numpy as np
import pytest

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAUNCH = (sys.executable, str(ROOT / "launch" / "local.py"), "--processes=2", "--")
ARGUMENT = "first=6,second=4,save=3,validate"


def _processes(runs, process):
  """Ids of the two processes of a run, without their launcher."""
  return [pid for pid in runs.alive(process.pid) if pid != process.pid]


def test_two_processes_compute_what_one_does(runs, tmp_path):
  one, two = tmp_path / "one", tmp_path / "two"
  expected = runs.finish(one, ARGUMENT)
  process = runs.start(two, ARGUMENT, prefix=LAUNCH)
  runs.wait_for(process, two, "backbone", 1)
  assert len(_processes(runs, process)) == 2
  assert process.wait(timeout=240) == 0, runs.log(two)
  runs.assert_gone(process)
  rows = {w: runs.rows(w, "backbone") + runs.rows(w, "joint") for w in (one, two)}
  assert [r["step"] for r in rows[two]] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4]
  # Later steps drift: Adam blows rounding up where a gradient is nearly zero.
  for found, wanted in zip(rows[two][:2], rows[one][:2]):
    assert found["loss"] == pytest.approx(wanted["loss"], abs=1e-5)
  np.testing.assert_allclose([r["loss"] for r in rows[two]], [r["loss"] for r in rows[one]],
                             atol=0.02)
  found = json.loads((two / "metrics.json").read_text())["test"]
  assert found["clips"] == expected["test"]["clips"] == 12 and found["unreadable"] == 0
  scores = [dict(np.load(w / "03_test" / "scores.npz")) for w in (one, two)]
  np.testing.assert_array_equal(scores[0]["clip_ids"], scores[1]["clip_ids"])
  np.testing.assert_array_equal(scores[0]["labels"], scores[1]["labels"])
  np.testing.assert_allclose(scores[0]["probabilities"], scores[1]["probabilities"], atol=0.01)


@pytest.mark.parametrize("which", [0, 1])
def test_one_killed_process_ends_the_other(runs, tmp_path, which):
  workdir = tmp_path / "run"
  process = runs.start(workdir, "first=3000,save=1000,cut", prefix=LAUNCH)
  runs.wait_for(process, workdir, "backbone", 3)
  os.kill(sorted(_processes(runs, process))[which], signal.SIGKILL)
  assert process.wait(timeout=60) not in (0, None)
  runs.assert_gone(process)


def test_killed_launcher_leaves_nobody(runs, tmp_path):
  workdir = tmp_path / "run"
  process = runs.start(workdir, "first=3000,save=1000,cut", prefix=LAUNCH)
  runs.wait_for(process, workdir, "backbone", 3)
  os.kill(process.pid, signal.SIGKILL)
  process.wait()
  runs.assert_gone(process)


def test_stopped_on_request_at_one_step_and_continued_alone(runs, tmp_path):
  workdir = tmp_path / "run"
  process = runs.start(workdir, "first=3000,second=1,save=1000,cut", prefix=LAUNCH)
  runs.wait_for(process, workdir, "backbone", 5)
  os.kill(process.pid, signal.SIGTERM)
  assert process.wait(timeout=60) not in (0, None)
  runs.assert_gone(process)
  log = runs.log(workdir)
  assert "stopped on request at step" in log
  at = int(log.rpartition("stopped on request at step ")[2].partition(";")[0])
  alone = runs.start(workdir, "first=3000,second=1,save=1000,cut")
  runs.wait_for(alone, workdir, "backbone", at + 2)
  assert f"resuming at step {at} of 3000" in runs.log(workdir)
  os.kill(alone.pid, signal.SIGKILL)
  alone.wait()
  runs.assert_gone(alone)
