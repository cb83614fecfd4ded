"""A whole recipe in this process: done once, refused to others, loadable afterwards."""
import copy
import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import cv2
import jax.numpy as jnp
import numpy as np
import pytest

import actionjax
from actionjax import configuration, planning, recipe, workdirs
from actionjax.data import catalogue
from actionjax.data.clips.dataset import ClipDataset
from actionjax.data.loading import pose3d
from actionjax.data.loading.config import DataConfig
from actionjax.errors import UserError
from actionjax.evaluators import classification, metrics
from actionjax.steps.context import Context, step_seed
from actionjax.training import checkpoint
from actionjax.training import metric_writer as metric_files
from actionjax.training import state as states
from actionjax.training.inspection import Inspection

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _config(data_dir, argument="validate,cut,first=4"):
  config = configuration.load(f"{ROOT / 'tests' / 'small_config.py'}:{argument}")
  config.data_dir = data_dir
  return config


@pytest.fixture(scope="module")
def finished(tiny_data_dir, tmp_path_factory):
  """(config, workdir, metrics) of a finished run: one training, one evaluation."""
  workdir = tmp_path_factory.mktemp("runs") / "run"
  config = _config(tiny_data_dir)
  return config, workdir, recipe.run(config, workdir)


def test_metrics_have_the_documented_keys(finished):
  _, workdir, found = finished
  assert json.loads((workdir / "metrics.json").read_text()) == found
  assert set(found) == {"test", "params_digest"}
  assert set(found["test"]) == {"top1", "top5", "mean_class_accuracy", "clips", "unreadable",
                                "skipped_at_preparation", "split", "views", "params_digest"}
  assert found["test"]["clips"] == 12 and found["test"]["unreadable"] == 0
  assert found["test"]["split"] == "cross_subject/test"
  assert found["test"]["params_digest"] == found["params_digest"] and (
      len(found["params_digest"]) == 64)
  for name in ("confusion.png", "curves.png", "config.json"):
    assert (workdir / name).stat().st_size > 0


def test_the_model_shows_clips_as_the_runs_evaluation(finished, tiny_data_dir):
  config, workdir, _ = finished
  model = actionjax.load(workdir)
  assert config.steps[1].validate.get("views") is None and model.views.temporal == 2
  scores = np.load(workdir / "02_test" / "scores.npz")
  dataset = ClipDataset(catalogue.dataset_path(tiny_data_dir, "synthetic_actions", "tiny"))
  for position in (0, 7):
    row, = np.flatnonzero(dataset.index.clip_id == scores["clip_ids"][position])
    np.testing.assert_allclose(model(dataset[int(row)]), scores["probabilities"][position],
                               atol=1e-5)


@pytest.mark.slow
def test_evaluating_again_gives_the_runs_scores(finished, tiny_data_dir, tmp_path):
  _, workdir, found = finished

  def evaluate(*arguments):
    out = tmp_path / f"{len(arguments)}"
    done = subprocess.run(
        [sys.executable, "-m", "actionjax.evaluate", f"--run={workdir}", f"--out={out}",
         f"--data_dir={tiny_data_dir}", *arguments], text=True, capture_output=True, check=False,
        env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)})
    return json.loads(done.stdout)["test"] if done.returncode == 0 else done.stderr

  assert evaluate() == found["test"]
  other = evaluate("--views=3", "--aggregate=max")["views"]
  assert (other["temporal"], other["aggregate"], other["flips"]) == (3, "max", False)
  assert evaluate("--views=many", "--flips", "--memory=1") == (
      "error: flag --views must be a number above 0 or all, got many\n")


def test_scores_explain_the_metrics(finished):
  _, workdir, found = finished
  scores = np.load(workdir / "02_test" / "scores.npz")
  assert scores["readable"].all() and len(set(scores["clip_ids"])) == 12
  np.testing.assert_allclose(scores["probabilities"].sum(1), 1, atol=1e-5)
  again = metrics.summarise(scores["probabilities"], scores["labels"])
  assert {key: found["test"][key] for key in again} == again
  confusion = np.load(workdir / "02_test" / "confusion.npy")
  assert confusion.sum() == 12 and np.trace(confusion) / 12 == found["test"]["top1"]


def test_training_wrote_its_rows_and_its_best(finished):
  _, workdir, _ = finished
  step = workdir / "01_backbone"
  rows = metric_files.read(step / "metrics.jsonl")
  train = [row for row in rows if "loss" in row]
  # 32 clips to fit on, 8 a batch: validated every half epoch.
  validations = [row for row in rows if "validation_top1" in row]
  assert [row["step"] for row in train] == [1, 2, 3, 4]
  assert [row["step"] for row in validations] == [2, 4]
  assert {"clips_per_second", "data_wait_share", "top1", "gradient_norm"} <= set(train[0])
  artifacts = json.loads((step / "done.json").read_text())["artifacts"]
  best = max(validations, key=lambda row: (row["validation_top1"], -row["step"]))
  assert (artifacts["best"], artifacts["best_step"]) == (best["validation_top1"], best["step"])


def _state(folder):
  return {str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.stat().st_size)
          for p in sorted(folder.rglob("*")) if p.is_file()
          and p.parent != folder}  # the reports at the top are drawn again


def test_a_finished_run_does_nothing_more(finished, capsys):
  config, workdir, found = finished
  before = _state(workdir)
  assert recipe.run(config, workdir) == found
  assert _state(workdir) == before
  said = capsys.readouterr().err
  assert [line for line in said.splitlines() if "is done already" not in line] == []
  elsewhere = copy.deepcopy(config)
  # Where the data lies, and who loads it, is no part of the run.
  elsewhere.data_dir = "/moved/since"
  elsewhere.data.update(workers=3, threads=1)
  assert recipe.run(elsewhere, workdir) == found
  # Nor is how it was watched.
  assert recipe.run(config, workdir, Inspection(profile=(1, 1), debug="nan")) == found


def test_the_model_of_an_interrupted_step_is_replaced(tmp_path):
  context = Context(directory=tmp_path / "01_net", workdir=tmp_path, path="config.steps[1]", seed=0,
                    data_dir=None, mesh=None, previous={})
  for value in (1, 2):
    artifacts = context.save_model({"params": {"kernel": jnp.full(3, value)}, "batch_stats": {}},
                                   {"class_names": [f"{value}"]})
  variables, description = checkpoint.load_model(tmp_path / artifacts["model"])
  assert variables["params"]["kernel"].tolist() == [2, 2, 2]
  assert description == {"class_names": ["2"]}
  assert artifacts == {"model": "01_net/model", "params_digest": states.digest(variables)}


@pytest.mark.parametrize("change, key", [
    (lambda c: c.update(seed=5), "config.seed"),
    (lambda c: c.steps[1].optim.update(learning_rate=0.5), "config.steps[1].optim.learning_rate"),
    (lambda c: c.data.video.update(size=(16, 24)), "config.steps[0].data.video.size[1], "
     "config.steps[1].data.video.size[1]"),
    (lambda c: c.update(steps=c.steps[:2]), "config.steps[2]"),
])
def test_another_config_is_refused(finished, change, key):
  config, workdir, found = finished
  other = copy.deepcopy(config)
  change(other)
  with pytest.raises(UserError) as error:
    recipe.run(other, workdir)
  assert str(error.value) == (f"{workdir} holds a run of another config: what has run or begun "
                              f"there differs in {key}; give another --workdir, or delete this one")
  assert recipe.run(config, workdir) == found


def test_a_second_process_is_refused(finished):
  config, workdir, _ = finished
  with workdirs.Lock(workdir):
    with pytest.raises(UserError, match=f"another process is running in {workdir}"):
      recipe.run(config, workdir)
  recipe.run(config, workdir)


def _clip(finished, position):
  config, workdir, _ = finished
  scores = np.load(workdir / "02_test" / "scores.npz")
  dataset = catalogue.open_dataset(config.data_dir, "synthetic_actions", "tiny")
  row = list(dataset.index.clip_id).index(str(scores["clip_ids"][position]))
  assert dataset.index.label[row] == scores["labels"][position]
  return dataset[row], scores["probabilities"][position]


@pytest.mark.parametrize("position", [0, 7])
def test_loaded_model_gives_the_evaluations_scores(finished, position):
  _, workdir, _ = finished
  record, expected = _clip(finished, position)
  model = dataclasses.replace(actionjax.load(workdir), views=classification.ViewConfig(temporal=2))
  np.testing.assert_allclose(model(record), expected, atol=1e-5)
  assert len(model.class_names) == 12 and model.layout.name == "kinect_v1_20"
  # The same clip as arrays, as somebody without a prepared dataset has it.
  frames = np.stack([cv2.cvtColor(cv2.imdecode(np.frombuffer(f, np.uint8), 1), cv2.COLOR_BGR2RGB)
                     for f in record["frames"]])
  arrays = {"frames": frames, "boxes": record["boxes"], "pose3d": record["pose3d"],
            "pose_score": record["pose_score"]}
  np.testing.assert_allclose(model(arrays), expected, atol=1e-5)
  logits, out = model.outputs(record)
  assert logits.shape == (2, 12) and out["feature_map"].shape[0] == 2
  softmax = np.exp(logits - logits.max(-1, keepdims=True))
  np.testing.assert_allclose((softmax / softmax.sum(-1, keepdims=True)).mean(0), expected,
                             atol=1e-5)


def test_models_are_found_from_the_run_the_step_and_their_folder(finished, tmp_path):
  _, workdir, _ = finished
  for path in (workdir, workdir / "01_backbone", workdir / "01_backbone" / "model"):
    assert checkpoint.find_model(path) == workdir / "01_backbone" / "model"
  for path in (tmp_path, tmp_path / "nowhere"):
    with pytest.raises(UserError, match="holds no finished model; give a workdir"):
      actionjax.load(path)


def test_clips_without_what_the_model_reads(finished):
  _, workdir, _ = finished
  record, _ = _clip(finished, 0)
  model = actionjax.load(workdir)
  model({**record, "pose3d": np.zeros((1, 4, 25, 3))})  # a network of the video alone
  model = dataclasses.replace(model, data=dataclasses.replace(
      model.data, inputs=model.data.inputs | {"pose": pose3d.Config(num_poses=4)}))
  for change, message in ((dict(frames=[]), "the clip has no frames"),
                          (dict(pose3d=np.zeros((1, 4, 25, 3))), r"pose3d has shape \(1, 4, 25, 3"
                           r"\); this model reads \[M, T, 20, 3\] in the layout kinect_v1_20")):
    with pytest.raises(UserError, match=message):
      model({**record, **change})


def test_a_killed_run_goes_on_after_the_last_finished_step(finished, tmp_path):
  config, workdir, found = finished
  copied = tmp_path / "copy"
  shutil.copytree(workdir, copied)
  (copied / "02_test" / "done.json").unlink()
  (copied / "02_test" / "scores.npz").unlink()
  before = _state(copied / "01_backbone")
  assert recipe.run(config, copied) == found
  assert _state(copied / "01_backbone") == before
  # Killed between the last training step and the marker: the checkpoint has it all.
  (copied / "01_backbone" / "done.json").unlink()
  shutil.rmtree(copied / "01_backbone" / "model")
  assert recipe.run(config, copied) == found


def test_unreadable_clips_are_counted_and_left_out(finished, tmp_path, monkeypatch):
  config, workdir, found = finished
  scores = np.load(workdir / "02_test" / "scores.npz")
  copied = tmp_path / "copy"
  shutil.copytree(workdir, copied)
  (copied / "02_test" / "done.json").unlink()
  lost = str(scores["clip_ids"][3])
  read = ClipDataset.__getitem__

  def damaged(self, i):
    record = read(self, i)
    return record | {"frames": [b"damaged"] * len(record["frames"])} if (
        record["clip_id"] == lost) else record

  monkeypatch.setattr(ClipDataset, "__getitem__", damaged)
  result = recipe.run(config, copied)["test"]
  keep = np.arange(12) != 3
  expected = metrics.summarise(scores["probabilities"][keep], scores["labels"][keep])
  assert result["unreadable"] == 1 and result["clips"] == 11
  assert result["top1"] == expected["top1"] and result["top5"] == expected["top5"]


# ---- mistakes in a config ----------------------------------------------------------

@pytest.mark.parametrize("change, message", [
    (lambda c: c.update(bacth_size=3),
     "config has no key 'bacth_size' (did you mean 'batch_size'?)"),
    (lambda c: c.steps[1].update(epoch=3), "config.steps[1] has no key 'epoch' (did you mean"),
    (lambda c: c.steps[1].optim.update(lr=3), "config.steps[1].optim has no key 'lr'"),
    (lambda c: c.steps[1].model.update(atention="both"), "config.steps[1].model has no key"),
    (lambda c: c.steps[1].loss.update(smoothing=1), "config.steps[1].loss has no key 'smoothing'"),
    (lambda c: c.steps[1].loss.update(name="hinge"), "config.steps[1].loss.name: there is no loss"),
    (lambda c: c.data.video.update(sice=3), "data.video has no key 'sice' (did you mean 'size'?)"),
    (lambda c: c.data.video.update(crop=2.0), "crop must lie in (0, 1]"),
    (lambda c: c.data.update(dataset="ntu"), "'ntu'"),
    (lambda c: c.steps[1].update(kind="trian"), "config.steps[1].kind: there is no"),
    (lambda c: delattr(c.steps[1], "kind"), "config.steps[1] lacks kind"),
    (lambda c: c.steps[1].update(epochs=2.0), "config.steps[1]: needs one of epochs and num_steps"),
    (lambda c: c.steps[1].update(select="first"),
     "config.steps[1].select must be one of last, best, got 'first'"),
    (lambda c: delattr(c.steps[1], "validate"), "select=best needs config.steps[1].validate"),
    (lambda c: c.steps[2].update(name="backbone"), "already a step named 'backbone'"),
    (lambda c: c.steps[2].views.update(crops="five"),
     "config.steps[2].views.crops must be one of center, three, got 'five'"),
    (lambda c: delattr(c, "name"), "config lacks name"),
    (lambda c: c.update(steps=()), "config lacks steps"),
])
def test_planning_refuses_what_nothing_takes(change, message):
  config = _config(None)
  change(config)
  with pytest.raises(UserError) as error:
    planning.plan(config)
  assert message in str(error.value)


def test_a_model_needs_what_the_data_yields():
  config = _config(None, "first=1")
  del config.data["pose"]
  with pytest.raises(UserError, match="the model reads pose3d, pose_score, which "
                                      r"config.steps\[2\].data does not yield"):
    planning.plan(config)


def test_steps_draw_their_own_numbers():
  seeds = {step_seed(seed, name) for seed in (0, 1) for name in ("a", "b")}
  assert len(seeds) == 4 and all(0 <= seed < 2**31 for seed in seeds)


def test_json_is_there_whole_or_not_at_all(tmp_path):
  path = tmp_path / "x.json"
  workdirs.write_json(path, {"a": 1})
  with pytest.raises(TypeError):
    workdirs.write_json(path, {"a": object()})
  assert json.loads(path.read_text()) == {"a": 1}


def test_pipeline_of_the_description_is_the_trainings(finished):
  config, workdir, _ = finished
  model = actionjax.load(workdir)
  assert isinstance(model.data, DataConfig)
  assert model.data.inputs["video"].size == (16, 16)
  assert model.data.inputs["video"].num_frames == 4
  assert dataclasses.asdict(model.data)["protocol"] == config.data.protocol
