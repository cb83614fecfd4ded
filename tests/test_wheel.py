"""The package as a wheel, away from the checkout."""
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.slow
def test_wheel_runs_the_quickstart_outside_the_checkout(tmp_path):
  subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
                  "--no-build-isolation", "--wheel-dir", tmp_path, "."], cwd=ROOT, check=True)
  (wheel,) = tmp_path.glob("actionjax-*.whl")
  site = tmp_path / "site"
  subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target",
                  site, wheel], check=True)
  # In front of an editable install of the checkout.
  env = {**os.environ, "PYTHONPATH": str(site)}
  where = subprocess.run(
      [sys.executable, "-c", "import actionjax.configs, actionjax; print(actionjax.__file__)"],
      cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
  assert where.startswith(str(site))
  subprocess.run([sys.executable, "-m", "actionjax.main", "--config=configs/quickstart.py:tiny",
                  f"--workdir={tmp_path / 'run'}", f"--config.data_dir={tmp_path / 'data'}"],
                 cwd=tmp_path, env=env, check=True)
  assert json.loads((tmp_path / "run" / "metrics.json").read_text())["test"]["clips"] == 12
