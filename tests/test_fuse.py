"""Adding the scores of evaluations: sums by hand, and what must not be added."""
import dataclasses
import json

import numpy as np
import pytest

from actionjax import planning
from actionjax.errors import UserError
from actionjax.evaluators import scores as files
from actionjax.evaluators.scores import Scores
from actionjax.steps import fuse, outline
from actionjax.steps.context import Context

IDS = np.array([f"clip{i}" for i in range(6)])
LABELS = np.array([0, 1, 2, 0, 1, 2], np.int32)


def _scores(seed, unreadable=(), streams=()):
  rng = np.random.default_rng(seed)
  draw = lambda: rng.dirichlet(np.ones(3), 6).astype(np.float32)
  return Scores(draw(), LABELS, ~np.isin(np.arange(6), unreadable),
                {name: draw() for name in streams})


@pytest.fixture
def context(tmp_path):
  """A run with two evaluations, and a third one elsewhere."""
  previous = {}
  for name, scores in (("joint", _scores(0, unreadable=(2,))), ("limb", _scores(1)),
                       ("both", _scores(2, streams=("rgb", "pose")))):
    folder = tmp_path / "run" / name
    scores.save(folder, IDS)
    previous[name] = {"scores": f"{name}/scores.npz", "metrics": {"split": "xsub/test"}}
  elsewhere = tmp_path / "other" / "01_test"
  _scores(3).save(elsewhere, IDS)
  (elsewhere / "done.json").write_text(json.dumps({"artifacts": {
      "metrics": {"split": "xset/test"}}}))
  return Context(tmp_path / "run" / "02_fusion", tmp_path / "run", "config.steps[2]", 0, None,
                 None, previous)


def _run(context, *sources):
  return fuse.run(fuse.Config(tuple(sources)), context)


def test_the_test_of_a_run_counts(tmp_path):
  for name in ("00_rgb_test", "03_test", "04_rgb_1_pose_2"):
    _scores(0).save(tmp_path / name, IDS)
  assert files.find(tmp_path) == tmp_path / "03_test/scores.npz"
  assert files.find(tmp_path / "00_rgb_test") == tmp_path / "00_rgb_test/scores.npz"


def test_weighted_sum_by_hand(context):
  found = _run(context, dict(scores="joint", weight=2.0), dict(scores="limb"))
  scores, ids = files.load(context.workdir / found["scores"])
  expected = (2 * _scores(0).probabilities + _scores(1).probabilities) / 3
  np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)
  np.testing.assert_array_equal(ids, IDS)
  # The clip that one of them could not read counts for nothing.
  kept = [0, 1, 3, 4, 5]
  np.testing.assert_array_equal(np.flatnonzero(scores.readable), kept)
  metrics = found["metrics"]
  assert metrics["top1"] == np.mean(expected[kept].argmax(1) == LABELS[kept])
  assert (metrics["clips"], metrics["unreadable"], metrics["split"]) == (5, 1, "xsub/test")
  alone = np.mean(_scores(1).probabilities.argmax(1) == LABELS)
  assert metrics["sources"][1] == {"scores": "limb", "stream": None, "weight": 1.0, "top1": alone}
  confusion = np.load(context.directory / "confusion.npy")
  assert confusion.sum() == 5 and np.trace(confusion) / 5 == metrics["top1"]


def test_streams_of_one_evaluation_and_other_runs(context):
  other = context.workdir.parent / "other"
  for place in (other, other / "01_test", other / "01_test" / "scores.npz"):
    found = _run(context, dict(scores=str(place)), dict(scores="both", stream="pose", weight=3.0))
    scores, _ = files.load(context.workdir / found["scores"])
    expected = (_scores(3).probabilities
                + 3 * _scores(2, streams=("rgb", "pose")).streams["pose"]) / 4
    np.testing.assert_allclose(scores.probabilities, expected, atol=1e-6)
    assert found["metrics"]["split"] == "xset/test"


@pytest.mark.parametrize("change, message", [
    (dict(labels=np.array([0, 1, 2, 0, 2, 2], np.int32)), "differ in row 4: label 1 and 2"),
    (dict(clips=IDS[[1, 0, 2, 3, 4, 5]]), "differ in row 0: clip clip0 and clip1"),
    (dict(cut=5), "are of 6 and 5 clips"),
    (dict(probabilities=np.full((6, 4), 0.25, np.float32)), "have 3 and 4 classes")])
def test_other_clips_are_refused(context, change, message):
  scores, ids = _scores(1), change.pop("clips", IDS)
  if "cut" in change:
    rows = slice(change["cut"])
    scores, ids = Scores(scores.probabilities[rows], scores.labels[rows],
                         scores.readable[rows]), ids[rows]
  else:
    scores = dataclasses.replace(scores, **change)
  scores.save(context.workdir / "limb", ids)
  with pytest.raises(UserError, match=message) as error:
    _run(context, dict(scores="joint"), dict(scores="limb"))
  assert "config.steps[2]" in str(error.value) and "\n" not in str(error.value)
  assert not context.directory.exists()


@pytest.mark.parametrize("sources, message", [
    ((dict(scores="joint"),), "must name two evaluations"),
    ((dict(scores="joint", weight=0.0), dict(scores="limb", weight=0.0)), "one with a weight"),
    ((dict(scores="joint", weight=-1.0), dict(scores="limb")), "must not be negative"),
    ((dict(scores="joint", wieght=1.0), dict(scores="limb")), "did you mean 'weight'"),
    ((dict(scores="joint"), dict(scores="nowhere/run")), "nowhere/run holds no scores.npz")])
def test_mistakes_in_the_config(sources, message):
  with pytest.raises(UserError, match=message):
    fuse.parse(fuse.Config(sources), "config.steps[2]")


def test_missing_evaluations_and_streams(context):
  with pytest.raises(UserError, match="no earlier evaluation 'bone'"):
    _run(context, dict(scores="joint"), dict(scores="bone"))
  with pytest.raises(UserError, match="has no stream 'flow'; it has rgb, pose"):
    _run(context, dict(scores="joint"), dict(scores="both", stream="flow"))
  with pytest.raises(UserError, match="has no stream 'rgb'; it has none"):
    _run(context, dict(scores="joint", stream="rgb"), dict(scores="limb"))


def test_a_recipe_names_its_evaluations_before_any_work():
  steps = (dict(kind="fuse", sources=(dict(scores="joint"), dict(scores="limb"))),)
  with pytest.raises(UserError, match=r"config.steps\[0\].sources\[0\].scores: 'joint' is not"):
    planning.plan(dict(name="x", steps=steps))
  earlier = outline.Earlier({name: outline.Outline(metrics=outline.METRICS, scores=("rgb",),
                                                   classes=classes)
                             for name, classes in (("joint", 5), ("limb", 5), ("other", 6))})

  def fused(*sources):
    return fuse.outline(fuse.Config(sources=tuple(map(dict, sources))), "config.steps[3]", earlier)

  assert fused(dict(scores="joint"), dict(scores="limb", stream="rgb")).classes == 5
  with pytest.raises(UserError, match=r"\[3\].sources\[1\].stream: 'limb' has no stream 'flow'"):
    fused(dict(scores="joint"), dict(scores="limb", stream="flow"))
  with pytest.raises(UserError, match=r"sources tell apart 5 classes .joint. and 6 classes .other"):
    fused(dict(scores="joint"), dict(scores="other"))


def test_files_that_hold_no_scores(tmp_path):
  for content in (b"", b"nothing of the kind"):
    (tmp_path / "scores.npz").write_bytes(content)
    with pytest.raises(UserError, match="scores.npz is not a readable .npz archive"):
      files.load(files.find(tmp_path))
  np.savez(tmp_path / "scores.npz", labels=LABELS)
  with pytest.raises(UserError, match="holds no scores of an evaluation: it lacks clip_ids, "):
    files.load(tmp_path / "scores.npz")
  nobody = dataclasses.replace(_scores(0), readable=np.zeros(6, bool))
  with pytest.raises(UserError, match="none of the 6 clips could be read"):
    nobody.metrics()
