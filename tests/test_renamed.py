"""Names of once: each is refused in one line that gives the new one."""
import importlib
import subprocess
import sys

import pytest

from actionjax import configuration, models, renamed
from actionjax.errors import UserError
from tests.conftest import ROOT


def test_every_new_name_is_there_and_no_old_one():
  for old, new in renamed.MODULES.items():
    for name in new.split(" or "):
      importlib.import_module(name)
    with pytest.raises(ImportError):
      importlib.import_module(old)


@pytest.mark.parametrize("line, old, new", [
    ("from actionjax.data import pipeline", "data.pipeline", "data.loading.pipeline"),
    ("from actionjax.data.pipeline import train_batches", "data.pipeline",
     "data.loading.pipeline"),
    ("import actionjax.data.records", "data.records",
     "data.clips.record or actionjax.data.clips.dataset"),
    ("from actionjax.models import hac, vpn", "models.hac", "models.video_network"),
    ("from actionjax import hierarchy_bounds", "hierarchy_bounds", "hierarchy.bounds")])
def test_an_old_import_in_a_users_config_or_plugin(line, old, new, tmp_path, monkeypatch):
  config = tmp_path / "mine.py"
  config.write_text(f"{line}\n\n\ndef get_config(arg=''):\n  return arg\n")
  with pytest.raises(UserError) as error:
    configuration.load(str(config))
  assert str(error.value) == f"{config}: actionjax.{old} is now actionjax.{new}"
  package = tmp_path / "my_plugins"
  package.mkdir()
  (package / "thing.py").write_text(f"{line}\nModel = 1\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  with pytest.raises(UserError) as error:
    configuration.plugin("actionjax.models", "my_plugins.thing", "Model", "config.model.name")
  assert str(error.value) == (f"config.model.name: my_plugins.thing: actionjax.{old} is now "
                              f"actionjax.{new}")


def test_other_failing_imports_are_the_users_own(tmp_path):
  (tmp_path / "mine.py").write_text("import nothing_of_this_name\n")
  with pytest.raises(ModuleNotFoundError, match="nothing_of_this_name"):
    configuration.load(str(tmp_path / "mine.py"))


def test_an_old_key_and_an_old_flag():
  known = {"split", "name"}
  with pytest.raises(UserError) as error:
    configuration.check_keys({"part": 1}, known, "config.steps[2]")
  assert str(error.value) == "config.steps[2].part is now config.steps[2].split"
  with pytest.raises(UserError, match="has no key 'part'"):  # where the new name is none either
    configuration.check_keys({"part": 1}, {"name"}, "config.steps[2]")
  done = subprocess.run([sys.executable, "-m", "actionjax.evaluate", "--run=x", "--part=test"],
                        cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 1 and done.stderr == "error: --part is now --split\n"


def test_an_old_model_of_a_checkpoint():
  with pytest.raises(UserError, match="'hac' is now 'video_network'"):
    models.from_description({"model": {"name": "hac"}, "class_names": ["a"], "layout": None})
