"""Hierarchical classification's whole recipe in small: passes, masks, table, and kills."""
import json
import os
import pathlib
import signal
import time

import jax
import numpy as np
import pytest

import actionjax
from actionjax import configuration, recipe
from actionjax.training import checkpoint, state

pytestmark = pytest.mark.slow

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _config(data_dir, argument):
  config = configuration.load(f"{ROOT / 'tests' / 'small_hac_config.py'}:{argument}")
  config.data_dir = data_dir
  return config


@pytest.fixture(scope="module")
def finished(tiny_data_dir, tmp_path_factory):
  """(workdir, metrics) of the whole small recipe."""
  workdir = tmp_path_factory.mktemp("hac") / "run"
  return workdir, recipe.run(_config(tiny_data_dir, "scopes=both,kernels=2d"), workdir)


def test_recipe_writes_the_table(finished):
  workdir, metrics = finished
  table = (workdir / "ablation.md").read_text().splitlines()
  labels = [line.split(" | ")[0].removeprefix("| ") for line in table[4:]]
  passes = lambda scope: len([key for key in metrics if key.startswith(f"{scope}/")
                              and key.endswith("_test")])
  assert labels == (["+ crop", "full (crop + hierarchy)"]
                    + [f"pruned altogether, pass {i + 1}" for i in range(passes("altogether"))]
                    + ["the best of them, compacted"]
                    + [f"pruned by layers, pass {i + 1}" for i in range(passes("by_layers"))]
                    + ["the best of them, compacted"])
  full = next(line for line in table if "full" in line)
  assert f"| {100 * metrics['full_test']['top1']:.2f} |" in full
  assert (workdir / "ablation.md").read_text().count("best by validation") <= 2


def test_superclasses_are_balanced_and_drawn(finished):
  workdir, _ = finished
  folder, = workdir.glob("*_full_superclasses")
  found = json.loads((folder / "superclasses.json").read_text())
  assert found["levels"][0] is None and found["split"] == "cross_subject/validation"
  assert sorted(np.bincount(found["levels"][1])) == [4, 4, 4]
  assert sorted(np.bincount(found["levels"][2])) == [2] * 6
  assert (folder / "superclasses.png").stat().st_size > 1000


@pytest.mark.parametrize("scope", ["altogether", "by_layers"])
def test_masks_hold_through_every_pass(finished, scope):
  workdir, _ = finished
  folder, = workdir.glob(f"*_{scope}")
  before = None
  for number, directory in enumerate(sorted(folder.glob("pass*")), 1):
    pruned, _ = checkpoint.load_model(directory / "00_prune" / "model")
    trained, _ = checkpoint.load_model(directory / "01_retrain" / "model")
    flat = lambda tree: dict(zip(state.path_names(tree), map(np.asarray, jax.tree.leaves(tree))))
    pruned, trained = flat(pruned["params"]), flat(trained["params"])
    dead = {name: ~leaf.reshape(-1, leaf.shape[-1]).any(0) for name, leaf in pruned.items()
            if name.startswith("backbone/stage") and name.endswith("conv/kernel")}
    for name, gone in dead.items():
      assert not trained[name][..., gone].any() and trained[name][..., ~gone].any(), name
      norm = name.replace("conv/kernel", "bn")
      for leaf in ("scale", "bias"):
        assert not trained[f"{norm}/{leaf}"][gone].any()
      if before is not None:
        assert gone[before[name]].all()
      if scope == "by_layers":
        alive = len(gone)
        for _ in range(number):
          alive -= int(0.25 * alive)
        assert (~gone).sum() == alive
    done = json.loads((directory / "00_prune" / "done.json").read_text())["artifacts"]
    assert done["alive"] == sum((~gone).sum() for gone in dead.values())
    before = dead
  assert before is not None


def test_group_keeps_the_best_pass(finished):
  workdir, metrics = finished
  for scope in ("altogether", "by_layers"):
    folder, = workdir.glob(f"*_{scope}")
    found = json.loads((folder / "done.json").read_text())["artifacts"]
    history = [metrics["full_validation"]["top1"]] + [
        metrics[f"{scope}/pass{i + 1}/retrain_validation"]["top1"]
        for i in range(len(found["history"]) - 1)]
    assert found["history"] == history and found["first_pass"] == 0
    assert found["best_pass"] == max(n for n, v in enumerate(history) if v == max(history))
    wanted = "01_full" if not found["best_pass"] else f"pass{found['best_pass']:02d}"
    assert wanted.split("_")[-1] in found["model"]
  # The second scope goes on from the full model, not from the first scope's.
  folder, = workdir.glob("*_by_layers")
  pruned, _ = checkpoint.load_model(folder / "pass01" / "00_prune" / "model")
  start, = workdir.glob("*_full/model")
  full, _ = checkpoint.load_model(start)
  alive = np.asarray(pruned["params"]["backbone"]["stage1"]["block0"]["conv1"]["conv"]["kernel"])
  whole = np.asarray(full["params"]["backbone"]["stage1"]["block0"]["conv1"]["conv"]["kernel"])
  kept = alive.reshape(-1, 8).any(0)
  np.testing.assert_array_equal(alive[..., kept], whole[..., kept])


@pytest.mark.parametrize("scope", ["altogether", "by_layers"])
def test_compacted_model_scores_the_same(finished, scope):
  workdir, metrics = finished
  folder, = workdir.glob(f"*_{scope}")
  best = json.loads((folder / "done.json").read_text())["artifacts"]["best_pass"]
  step = f"{scope}/pass{best}/retrain_test" if best else "full_test"
  for key in ("top1", "top5", "mean_class_accuracy"):
    assert metrics[f"{scope}_compact_test"][key] == metrics[step][key]
  scores = lambda path: np.load(next(workdir.glob(path)) / "scores.npz")["probabilities"]
  reference = f"*_{scope}/pass{best:02d}/03_retrain_test" if best else "*_full_test"
  np.testing.assert_allclose(scores(f"*_{scope}_compact_test"), scores(reference), atol=1e-5)


def test_finished_model_loads_and_classifies(finished):
  workdir, _ = finished
  start, = workdir.glob("*_full")
  assert len(actionjax.load(start).class_names) == 12


def test_run_again_does_nothing(finished, tiny_data_dir):
  workdir, metrics = finished
  before = {p: p.stat().st_mtime_ns for p in workdir.glob("*_*/**/done.json")}
  assert recipe.run(_config(tiny_data_dir, "scopes=both,kernels=2d"), workdir) == metrics
  assert {p: p.stat().st_mtime_ns for p in before} == before


def test_killed_anywhere_it_goes_on(runs, tmp_path):
  argument = "steps=25,save=5,scopes=by_layers,passes=2,kernels=2d"
  config = "small_hac_config.py"
  expected = runs.finish(tmp_path / "whole", argument, config=config)
  workdir = tmp_path / "run"
  for moment in ("*_crop/metrics.jsonl", "*_full_superclasses", "*_full/metrics.jsonl",
                 "*_by_layers/pass01/00_prune", "*_by_layers/pass02/01_retrain/metrics.jsonl"):
    process = runs.start(workdir, argument, config=config)
    deadline = time.monotonic() + 240
    while not any(path.stat().st_size for path in workdir.glob(moment)):
      assert process.poll() is None and time.monotonic() < deadline, runs.log(workdir)
      time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (workdir / "metrics.json").exists(), "killed too late to show anything"
    runs.assert_gone(process)
  assert runs.finish(workdir, argument, config=config) == expected
