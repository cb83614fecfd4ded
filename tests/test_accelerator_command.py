"""The benchmark for accelerators as a command: alone, killed, out of time, and misspelt."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from actionjax.benchmarks.accelerator import cases
from actionjax.ops import convolution
from tests.conftest import ROOT, Runs


def _command(python, out, *arguments, **kwargs):
  return subprocess.Popen(
      [python, "-m", "actionjax.benchmark", "--accelerator", f"--out={out}", *arguments], cwd=ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      text=True, **kwargs)


@pytest.mark.slow
def test_the_command_with_nothing_but_jax_flax_optax_and_numpy(tmp_path):
  """Everything at small sizes, where none of the project's other dependencies is installed."""
  environment = tmp_path / "environment"
  subprocess.run([sys.executable, "-m", "venv", environment], check=True)
  python = str(environment / "bin" / "python")
  installed = subprocess.run([python, "-m", "pip", "install", "--quiet", "jax", "flax", "optax",
                              "numpy"], capture_output=True, text=True, check=False)
  if installed.returncode:
    pytest.skip(f"no packages to be had: {installed.stderr.splitlines()[-1:]}")
  for package in ("grain", "ml_collections", "cv2", "av", "tensorflow_datasets", "matplotlib"):
    assert subprocess.run([python, "-c", f"import {package}"], stderr=subprocess.DEVNULL,
                          check=False).returncode, f"{package} is there"
  out = tmp_path / "out"
  process = _command(python, out, "--small", "--minutes=15")
  printed, _ = process.communicate(timeout=900)
  assert process.returncode == 0, printed
  results = json.loads((out / "results.json").read_text())
  assert results["notes"] == [], printed
  assert [row["case"] for row in results["rows"]] == list(cases.CASES)
  assert len(results["kernels"]) == 14 and len(results["others"]) == 4 + 1 + 3
  for row in results["rows"]:
    assert 0 < row["train"]["ours"]["min"] <= row["train"]["ours"]["median"]
    assert f"| {row['title']} |" in (out / "table.md").read_text()
  assert "SMALL networks" in printed
  chosen = json.loads((out / "lowerings.json").read_text())["cpu"]["kinds"]
  assert {"temporal", "full", "depthwise"} <= set(chosen) <= set(convolution.KINDS)


@pytest.mark.slow
def test_the_command_killed_halfway_leaves_every_finished_row(tmp_path):
  out = tmp_path / "out"
  process = _command(sys.executable, out, "--small", "--notorch", "--only=stgcnpp,msg3d",
                     start_new_session=True)
  results = out / "results.json"
  deadline = time.monotonic() + 240
  while not (results.exists() and json.loads(results.read_text())["rows"]):
    assert process.poll() is None and time.monotonic() < deadline
    time.sleep(0.05)
  process.send_signal(signal.SIGTERM)
  process.communicate(timeout=60)
  assert process.returncode == 128 + signal.SIGTERM
  written = json.loads(results.read_text())
  assert [row["case"] for row in written["rows"]] == ["stgcnpp"]
  assert "stopped by SIGTERM" in written["notes"]
  assert "ST-GCN++" in (out / "table.md").read_text()
  if sys.platform == "linux":
    Runs("").assert_gone(process)


@pytest.mark.slow
def test_the_command_ends_in_its_minutes(tmp_path):
  process = _command(sys.executable, tmp_path / "out", "--small", "--notorch", "--minutes=0.3")
  printed, _ = process.communicate(timeout=120)
  assert process.returncode == 0 and "the time was over" in printed


@pytest.mark.parametrize("arguments,message", [
    (["--small", "--out="], "error: --accelerator needs --out=DIR"),
    (["--only=x"], "error: --only=x is unknown"), ([], "error: no accelerator")])
def test_mistakes_at_the_command_line(arguments, message, tmp_path):
  process = _command(sys.executable, tmp_path / "out", *arguments)
  printed, _ = process.communicate(timeout=120)
  assert process.returncode == 1 and printed.startswith(message) and printed.count("\n") == 1
  assert not pathlib.Path(tmp_path / "out").exists()
