"""Mistakes at the command line: one line that says what is wrong, status 1, no traceback."""
import os
import pathlib
import subprocess
import sys

import pytest

from actionjax import recipe
from actionjax.errors import UserError

ROOT = pathlib.Path(__file__).resolve().parent.parent
SMALL = str(ROOT / "tests" / "small_config.py")


def _main(*arguments, cwd=ROOT):
  return subprocess.run([sys.executable, "-m", "actionjax.main", *arguments], cwd=cwd, text=True,
                        capture_output=True, check=False,
                        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("arguments, message", [
    ((), "error: --config=FILE.py is missing"),
    (("--config=configs/quickstrat.py",),
     "error: config file configs/quickstrat.py does not exist; shipped configs: "),
    (("--config=configs/quickstart.py:tinny",),
     "error: config argument 'tinny' is not known (did you mean 'tiny'?); known: "),
    (("--config=configs/quickstart.py", "--config.bacth_size=3"),
     "error: config has no key 'bacth_size' (did you mean 'batch_size'?); known: "),
    (("--config=configs/quickstart.py", "--config.batch_size=many"),
     "error: config.steps[1].batch_size must be an integer, got 'many'"),
    (("--config=configs/quickstart.py", "--wrokdir=x"), "error: "),
    (("--config=configs/quickstart.py", "--profile=5"),
     "error: --profile=5 must be START:COUNT, two whole numbers from 1 on"),
    (("--config=configs/quickstart.py", "--debug=all"), "error: "),
    (("--config=configs/quickstart.py", "extra"), "error: unexpected argument 'extra'"),
])
def test_wrong_arguments_of_the_command(arguments, message, tmp_path):
  result = _main(*arguments, cwd=tmp_path)
  assert result.returncode == 1 and result.stdout == ""
  assert result.stderr.startswith(message), result.stderr
  assert result.stderr.count("\n") == 1
  assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_unprepared_dataset(tmp_path):
  config = tmp_path / "no_prepare.py"
  config.write_text("from actionjax import configuration\n\n"
                    "def get_config(arg=''):\n"
                    f"  config = configuration.load({SMALL!r})\n"
                    "  config.steps = config.steps[1:]\n"
                    "  return config\n")
  result = _main(f"--config={config}", f"--workdir={tmp_path / 'run'}",
                 f"--config.data_dir={tmp_path / 'data'}")
  errors = [line for line in result.stderr.splitlines() if not line.startswith("step ")]
  assert result.returncode == 1 and result.stdout == ""
  assert len(errors) == 1 and errors[0].startswith(
      f"error: config.steps[0]: synthetic_actions is not prepared in {tmp_path / 'data'}")
  assert "python -m actionjax.prepare --dataset=synthetic_actions" in errors[0]


def test_batch_size_and_devices(monkeypatch, tiny_data_dir, tmp_path):
  # In this process, where the command would only wrap the same error.
  from actionjax import configuration
  from actionjax.training import sharding
  config = configuration.load(SMALL)
  config.data_dir, config.batch_size = tiny_data_dir, 7

  class Mesh:
    size = 2

  monkeypatch.setattr(sharding, "make_mesh", Mesh)
  monkeypatch.setattr(Mesh, "devices", None, raising=False)
  with pytest.raises(UserError, match=r"config.steps\[0\].batch_size=7 does not divide over 2"):
    config.steps = config.steps[1:]  # nothing to prepare
    recipe.run(config, tmp_path / "run")
