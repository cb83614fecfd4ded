"""Finished runs, scored with joints missing and on other datasets."""
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import recipe
from actionjax.data import catalogue
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import batch_spec, parse_data
from actionjax.errors import UserError
from actionjax.evaluators import scores
from actionjax.ops import corruption
from actionjax.papers import posec3d_robustness as paper
from actionjax.steps import train
from actionjax.training import checkpoint

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Model(nn.Module):
  """A classifier of where the joints are that are there."""
  num_classes: int
  inputs = ("pose3d", "pose_score")

  @nn.compact
  def __call__(self, batch, *, train):
    pose = batch["pose3d"] * batch["pose_score"][..., None]
    return nn.Dense(self.num_classes)(20 * pose.mean((1, 2)).reshape(len(pose), -1)), {}


GCN = dict(name="stgcn", width=4, stage_sizes=(1,), normalise="translate", temporal="single")


@pytest.fixture(scope="module")
def runs(tiny_data_dir, tmp_path_factory):
  """Two networks as they were drawn, saved as finished runs."""
  del tiny_data_dir
  found = {}
  for row, model in (("cnn", dict(name="tests.test_robustness")), ("gcn", GCN)):
    config = train.Config(
        name=row, model=model, batch_size=4, num_steps=1,
        data=dict(dataset="synthetic_actions", variant="tiny", protocol="cross_subject",
                  pose=dict(num_poses=6, persons=2)))
    parsed = train.parse(config, "config")
    batch = {name: jnp.zeros(spec.shape, spec.dtype)
             for name, spec in batch_spec(parsed.data, 1).items()}
    variables = parsed.model.init(jax.random.key(0), batch, train=False)
    folder = tmp_path_factory.mktemp(row) / "00_network" / "model"
    checkpoint.save_model(folder, {"batch_stats": {}, **variables},
                          train.describe(config, parsed))
    found[row] = str(folder.parent.parent)
  return found


@pytest.fixture(scope="module")
def finished(runs, tiny_data_dir, tmp_path_factory):
  """(config, workdir, metrics) of the study."""
  workdir = tmp_path_factory.mktemp("study") / "run"
  config = paper.robustness(runs, views=dict(temporal=2), drop_seed=3) | {"data_dir": tiny_data_dir}
  return config, workdir, recipe.run(config, workdir)


def _scores(workdir, step):
  path, = workdir.glob(f"*_{step}/scores.npz")
  return scores.load(path)[0].probabilities


@pytest.mark.slow
def test_scores_are_those_of_skeletons_without_the_joints(finished, runs, tiny_data_dir):
  _, workdir, _ = finished
  variables, description = checkpoint.load_model(checkpoint.find_model(runs["cnn"]))
  data = parse_data(description["data"], "data")
  clips = pipeline.open_split(data, tiny_data_dir, "test")
  weights, bias = (np.asarray(variables["params"]["Dense_0"][key]) for key in ("kernel", "bias"))
  for probability in (0.0, 1 / 4, 1.0):
    found = _scores(workdir, paper.step_name("cnn", probability))
    for batch in pipeline.test_batches(clips, data, batch_size=1, views=2):
      clip = int(batch["position"][0])
      key = jax.random.fold_in(jax.random.key(3), clip)
      pose, score = map(np.asarray, corruption.drop_limb_joints(
          batch["pose3d"], batch["pose_score"], data.layout, probability, key[None]))
      lost = ((batch["pose_score"] > 0) & (score == 0)).sum(-1)
      # A joint that is lost may have been missing before.
      assert lost.max() == bool(probability) and (probability < 1 or lost[0, :, 0].mean() > 0.6)
      logits = (20 * (pose * score[..., None]).mean((2, 3))).reshape(2, -1) @ weights + bias
      softmax = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
      np.testing.assert_allclose(found[clip], softmax.mean(0), atol=1e-5)


@pytest.mark.slow
def test_without_dropping_it_is_the_plain_evaluation(finished, runs, tiny_data_dir, tmp_path):
  _, workdir, found = finished
  plain = recipe.run(dict(name="x", data_dir=tiny_data_dir, steps=(dict(
      kind="evaluate", model_from=runs["gcn"], views=dict(temporal=2)),)), tmp_path / "run")
  assert plain["test"] == found["gcn_0"]
  full = _scores(workdir, "gcn_0")
  np.testing.assert_array_equal(_scores(tmp_path / "run", "test"), full)
  gaps = [np.abs(_scores(workdir, paper.step_name("gcn", p)) - full).mean()
          for p in paper.PROBABILITIES]
  assert gaps == sorted(gaps) and gaps[1] > 0, "the more is lost, the more changes"
  assert found["gcn_0.125"]["drop_joints"] == 0.125


@pytest.mark.slow
def test_an_interrupted_study_goes_on(finished, tmp_path):
  config, workdir, found = finished
  copied = tmp_path / "copy"
  shutil.copytree(workdir, copied)
  folder, = copied.glob("*_gcn_0.5")
  shutil.rmtree(folder)
  assert recipe.run(config, copied) == found


@pytest.mark.slow
def test_the_table_has_our_figures_and_the_papers(finished, runs):
  _, _, found = finished
  lines = paper.robustness_table(found, runs).splitlines()
  rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:2] == "| "]
  assert [row[0] for row in rows] == ["", "---", "3D-CNN, here", "3D-CNN, paper", "GCN, here",
                                      "GCN, paper"]
  assert rows[0][1:6] == ["0", "1/8", "1/4", "1/2", "1"] and len({len(row) for row in rows}) == 1
  ours = [100 * found[paper.step_name("gcn", p)]["top1"] for p in paper.PROBABILITIES]
  assert rows[4][1:6] == [f"{value:.2f}" for value in ours]
  assert rows[5][1:7] == ["92.0", "91.0", "90.2", "86.5", "77.7", "14.3"]
  assert rows[4][7:] == ["12", "cross_subject/test"]


def _evaluate(runs, tiny_data_dir, directory, **fields):
  return recipe.run(dict(name="x", data_dir=tiny_data_dir, steps=(dict(
      kind="evaluate", model_from=runs["cnn"], **fields),)), directory)


@pytest.mark.slow
def test_another_dataset_of_the_same_classes(runs, tiny_data_dir, tmp_path, monkeypatch):
  same = _evaluate(runs, tiny_data_dir, tmp_path / "same", variant="tiny")["test"]
  assert same["dataset"] == "synthetic_actions/tiny" and same["clips"] == 12

  # The records of a second dataset under another name.
  actions, load = catalogue.load("synthetic_actions"), catalogue.load
  names = actions.class_names
  cases = (("class_names", (*names[:3], "hop", *names[4:]),
            f"class 3 is hop there, and {names[3]} where it was trained"),
           ("class_names", names[:-1],
            f"class 11 is missing there, and {names[-1]} where it was trained"),
           ("layout", "coco_17",
            "joint layout is coco_17 there, and kinect_v1_20 where it was trained"))
  for field, value, message in cases:
    other = dataclasses.replace(
        actions, **{"name": "other", "mirror_classes": None, field: value})
    monkeypatch.setattr(catalogue, "load", lambda name, known=None, other=other: (
        other if name == "other" else load(name, known)))
    with pytest.raises(UserError) as error:
      _evaluate(runs, tiny_data_dir, tmp_path / "other", dataset="other")
    assert str(error.value) == (
        f"config.steps[0].dataset=other does not go with the model: {message}")


@pytest.mark.parametrize("fields, message", [
    (dict(drop_joints=1.5), r"config.steps\[0\].drop_joints must lie in \[0, 1\], got 1.5"),
    (dict(model_from="nowhere"), "model_from: 'nowhere' is neither a folder nor an earlier step")])
def test_mistakes(runs, tiny_data_dir, tmp_path, fields, message):
  with pytest.raises(UserError, match=message):
    _evaluate(runs | {"cnn": fields.pop("model_from", runs["cnn"])}, tiny_data_dir,
              tmp_path / "run", **fields)


def test_training_drops_joints_by_seed_and_step(runs, tiny_data_dir):
  variables, description = checkpoint.load_model(checkpoint.find_model(runs["cnn"]))
  del variables
  config = train.Config(name="x", model=description["model"], data=description["data"],
                        batch_size=4, num_steps=1, drop_joints=1.0)
  parsed = train.parse(config, "config")
  augment = jax.jit(train._augment(config, parsed))
  clips = pipeline.open_split(parsed.data, tiny_data_dir, "train")
  batch = next(pipeline.train_batches(clips, parsed.data, batch_size=4, seed=0))
  first, again, other = (augment(batch, jax.random.key(seed)) for seed in (0, 0, 1))
  present = batch["pose_score"][:, 0] > 0
  lost = present & (np.asarray(first["pose_score"])[:, 0] == 0)
  assert lost.sum(-1).max() == 1 and lost.sum(-1).mean() > 0.8  # some were missing before
  assert not np.asarray(first["pose3d"])[:, 0][lost].any()
  np.testing.assert_array_equal(first["pose3d"], again["pose3d"])
  assert (np.asarray(first["pose3d"]) != np.asarray(other["pose3d"])).any()
  np.testing.assert_array_equal(first["label"], batch["label"])
  with pytest.raises(UserError, match="y.drop_joints: the model reads no skeletons"):
    train.parse(dataclasses.replace(
        config, model=dict(name="video_network", backbone=dict(name="resnet3d", depth=18)),
        data=dict(config.data, video=dict(num_frames=2, size=(16, 16)))), "y")
  assert train._augment(dataclasses.replace(config, drop_joints=0.0), parsed) is None


def _command(module, *arguments):
  """A command in a process of its own."""
  return subprocess.run(
      [sys.executable, "-m", f"actionjax.{module}", *arguments], text=True, capture_output=True,
      check=False, cwd=ROOT, env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT),
                                               "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"})


@pytest.mark.slow
def test_the_commands(finished, runs, tiny_data_dir, tmp_path):
  _, workdir, found = finished
  result = _command("robustness", f"--gcn={runs['gcn']}", f"--out={tmp_path / 'r'}", "--views=2",
                    f"--data_dir={tiny_data_dir}", "--seed=3")
  assert result.returncode == 0, result.stderr
  assert result.stdout.strip() == (tmp_path / "r" / "robustness.md").read_text().strip() == (
      paper.robustness_table(found, {"gcn": runs["gcn"]}))

  result = _command("evaluate", f"--run={runs['gcn']}", f"--out={tmp_path / 'e'}", "--views=2",
                    f"--data_dir={tiny_data_dir}", "--seed=3", "--drop_joints=0.5")
  assert json.loads(result.stdout) == {"test": found["gcn_0.5"]}

  places = [str(next(workdir.glob(f"*_{row}_0"))) for row in ("cnn", "gcn")]
  result = _command("fuse", f"--scores={','.join(places)}", "--weights=2,1",
                    f"--out={tmp_path / 'f'}")
  assert json.loads(result.stdout)["fusion"]["clips"] == 12, result.stderr
  np.testing.assert_allclose(
      _scores(tmp_path / "f", "fusion"),
      (2 * _scores(workdir, "cnn_0") + _scores(workdir, "gcn_0")) / 3, atol=1e-6)

  for module, arguments, message in (
      ("robustness", (), "name at least one finished run: --cnn=RUN, --gcn=RUN or"),
      ("evaluate", (f"--run={tmp_path / 'none'}",), f"{tmp_path / 'none'} holds no finished model"),
      ("fuse", (f"--scores={places[0]}", "--weights=1,x"), "--weights: could not convert"),
      ("fuse", (f"--scores={places[0]}", "--weights=1,2"), "--weights gives 2 for 1 of")):
    result = _command(module, *arguments, f"--out={tmp_path / 'x'}")
    assert result.returncode == 1 and result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith(f"error: {message}") and not (tmp_path / "x").exists()
