"""From a folder of videos to a result: plans, trainings, and the commands' messages."""
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import actionjax
from actionjax import configuration, planning, recipe
from actionjax.data.own import columns
from actionjax.errors import UserError
from tests import raw_own
from tests.conftest import ROOT


def own_config(data, name="folder:mine", **changes):
  config = configuration.load(
      f"{configuration.shipped_directory()}/own_data.py:tiny,protocol=fraction,dataset={name}")
  config.data_dir = str(data)
  for key, value in changes.items():
    config[key] = value
  return config


@pytest.mark.slow
def test_training_and_evaluation_on_an_own_folder(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=5)
  (raw / "wave/4.mp4").write_bytes(b"broken")
  raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip", max_unreadable=0.2)
  config = own_config(tmp_path / "data")
  config.steps[0].epochs = 2.0
  found = recipe.run(config, tmp_path / "run")
  assert found["test"]["clips"] == 3 and found["test"]["split"] == "fraction/test"
  # Five and five, one of which is broken; 30 % of each five are tested, drawn before any is read.
  assert found["test"]["skipped_at_preparation"] == 1 and found["test"]["unreadable"] == 0
  scores = np.load(tmp_path / "run/01_test/scores.npz")
  assert set(scores["clip_ids"]) == columns.fraction(
      [f"{name}/{i}" for name in ("clap", "wave") for i in range(5)], [0] * 5 + [1] * 5)["test"] - {
          "wave/4"}
  # Without the prepared dataset, the model knows what it needs.
  (tmp_path / "data/folder").rename(tmp_path / "data/away")
  model = actionjax.load(tmp_path / "run")
  assert model.class_names == ("clap", "wave") and model.layout is None
  assert model({"frames": np.zeros((9, 40, 50, 3), np.uint8)}).sum() == pytest.approx(1)
  with pytest.raises(UserError, match="folder:mine is not prepared in .*; run: python -m "
                                      "actionjax.prepare --dataset=folder --name=mine"):
    planning.plan(config)
  (tmp_path / "data/away").rename(tmp_path / "data/folder")
  # Prepared anew with a class more, it is not what the model was trained for.
  raw_own.video(raw / "jump/0.mp4", 4)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", unreadable="skip", max_unreadable=0.2)
  (tmp_path / "run/01_test/done.json").unlink()
  with pytest.raises(UserError, match="was prepared anew with another class_names than this run "
                                      "began with; train anew in another --workdir"):
    recipe.run(config, tmp_path / "run")


def test_planning_knows_the_own_dataset(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", ("clap", "jump", "wave"), clips=4)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  config = own_config(tmp_path / "data")
  step = planning.plan(config).steps[0]
  parsed = step.module.parse(step.config, step.path)
  assert parsed.model.num_classes == 3 and parsed.data.about.class_names == (
      "clap", "jump", "wave")
  assert config.data.get("about") is None  # found again by every run, not part of the config
  description = step.module.describe(step.config, parsed)
  assert json.loads(json.dumps(description))["class_names"] == ["clap", "jump", "wave"]
  with pytest.raises(UserError, match="folder:other is not prepared in .*prepared there: "
                                      "folder:mine"):
    planning.plan(own_config(tmp_path / "data", "folder:other"))
  config = own_config(tmp_path / "data")
  config.data.protocol = "split"
  with pytest.raises(UserError, match="unknown protocol 'split' of folder:mine; known: fraction"):
    recipe.run(config, tmp_path / "run")
  config = configuration.load(f"{configuration.shipped_directory()}/own_data.py:tiny,inputs=pose,"
                              "dataset=folder:mine,protocol=fraction")
  config.data_dir = str(tmp_path / "data")
  with pytest.raises(UserError, match="folder:mine has no skeletons, and the config's data.pose"):
    recipe.run(config, tmp_path / "run2")


def test_skeletons_alone_are_no_video(tmp_path):
  raw_own.prepare("annotations:mine", raw_own.dump(tmp_path / "a.pkl", raw_own.annotations(8)),
                  tmp_path / "data")
  config = configuration.load(f"{configuration.shipped_directory()}/own_data.py:tiny,"
                              "dataset=annotations:mine,protocol=xsub")
  config.data_dir = str(tmp_path / "data")
  with pytest.raises(UserError, match="annotations:mine holds skeletons alone, but data.video"):
    recipe.run(config, tmp_path / "run")


@pytest.mark.slow
def test_from_the_folder_to_metrics_by_the_commands(tmp_path):
  raw = raw_own.folder(tmp_path / "raw")
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "ACTIONJAX_DATA": str(tmp_path / "data")}
  run = dict(cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=folder", "--name=mine",
       f"--raw_dir={raw}", "--workers=2"], **run)
  assert result.returncode == 0, result.stderr
  result = subprocess.run(
      [sys.executable, "-m", "actionjax.main", f"--workdir={tmp_path / 'run'}",
       "--config=configs/own_data.py:tiny,epochs=2,dataset=folder:mine,protocol=fraction"], **run)
  assert result.returncode == 0, result.stderr
  assert json.loads((tmp_path / "run/metrics.json").read_text())["test"]["clips"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("flags, message", [
    (("--dataset=folder",), "--name is missing: configs will call the dataset folder:NAME"),
    (("--dataset=folder:a/b",), "'a/b' cannot name a dataset"),
    (("--dataset=folder", "--name=x"), "folder:x is not prepared in "),
    (("--dataset=folder", "--name=x", "--export=out"), "folder:x is not prepared in "),
    (("--dataset=utd_mhad", "--size=64"), "--size says nothing to --dataset=utd_mhad"),
    (("--dataset=annotations", "--name=x", "--table=a.csv"), "--table says nothing to"),
    (("--dataset=utd_mhad", "--name=x"), "--name is for datasets of your own"),
    (("--dataset=folder", "--validate"), "--raw_dir is missing: it names what to validate"),
    (("--dataset=utd_mhad", "--raw_dir=.", "--validate"), "--validate reads annotations, folder"),
])
def test_the_command_names_mistakes(tmp_path, flags, message):
  result = subprocess.run([sys.executable, "-m", "actionjax.prepare", f"--data_dir={tmp_path}",
                           *flags], cwd=ROOT, capture_output=True, text=True, check=False)
  assert result.returncode == 1 and result.stdout == ""
  assert result.stderr.startswith(f"error: {message}") and result.stderr.count("\n") == 1
  assert not list(tmp_path.iterdir())
