"""A plan checks everything before any work, and says all of it."""
import copy
import json

import numpy as np
import pytest

from actionjax import configuration, planning, recipe, workdirs
from actionjax.data.preparing import preparation
from actionjax.errors import UserError
from actionjax.report import plan as text
from actionjax.training import checkpoint
from tests.conftest import ROOT


def _load(name, data_dir):
  config = configuration.load(f"{ROOT / 'tests' / name}")
  config.data_dir = data_dir
  config.unlock()
  return config


@pytest.fixture(scope="module")
def vpn(tiny_data_dir):
  """prepare, backbone, joint, test."""
  return _load("small_config.py:validate=True", tiny_data_dir)


@pytest.fixture(scope="module")
def hac(tiny_data_dir):
  """crop, its evaluations, groups, full, its evaluations, gradients, pruning, compaction, table."""
  return _load("small_hac_config.py", tiny_data_dir)


def _step(config, name):
  """A step of a config by name, those of repeated groups too."""
  for step in config.steps:
    if step.get("name", step.kind) == name:
      return step
    for inner in step.get("steps", ()):
      if inner.get("name", inner.kind) == name:
        return inner
  raise KeyError(name)


def _retype(section, **fields):
  """Gives fields values of another type."""
  with section.ignore_type():
    section.update(fields)


def _refused(config, change):
  changed = copy.deepcopy(config)
  change(lambda name: _step(changed, name))
  with pytest.raises(UserError) as error:
    planning.plan(changed)
  return str(error.value)


# Values that only the second training, or what comes after it, would have met.
@pytest.mark.parametrize("change, message", [
    (lambda s: s("joint").model.update(attention="foo"),
     "config.steps[2].model.attention must be one of both, spatial, temporal, none, got 'foo'"),
    (lambda s: s("joint").model.update(embedding="foo"),
     "config.steps[2].model.embedding must be one of thesis, released, none, got 'foo'"),
    (lambda s: s("joint").model.update(normalise="foo"), "config.steps[2].model.normalise must be"),
    (lambda s: s("joint").model.update(dtype="float8"), "config.steps[2].model.dtype must be one"),
    (lambda s: _retype(s("joint").model, dropout="much"),
     "config.steps[2].model.dropout must be a number, got 'much'"),
    (lambda s: s("joint").model.pose.update(name="cnn"),
     "config.steps[2]: model.pose.name must be one of gcn, lstm, got 'cnn'"),
    (lambda s: s("joint").model.pose.update(pairs="some"),
     "config.steps[2]: model.pose.pairs must be one of listed, all, none, got 'some'"),
    (lambda s: s("joint").model.backbone.update(block="wide"),
     "config.steps[2]: model.backbone.block must be one of basic, bottleneck, got 'wide'"),
    (lambda s: s("joint").loss.update(embedding_loss="foo"),
     "config.steps[2].loss.embedding_loss must be one of l2, manhattan, kl_visual_pose, "
     "kl_pose_visual, kl_both, got 'foo'"),
    (lambda s: s("joint").loss.update(attention_loss="foo"), "config.steps[2].loss.attention_loss"),
    (lambda s: s("joint").update(num_steps=0), "config.steps[2]: num_steps must be above 0, got 0"),
    (lambda s: s("joint").update(batch_size=0),
     "config.steps[2]: batch_size must be above 0, got 0"),
    (lambda s: s("joint").update(batch_size="eight"),
     "config.steps[2].batch_size must be an integer, got 'eight'"),
    (lambda s: s("joint").update(split="tset"),
     "config.steps[2]: split must be one of train, fit, validation, test, got 'tset'"),
    (lambda s: s("joint").update(freeze=("neck/.*",)),
     "config.steps[2].freeze: freeze pattern 'neck/.*' matches no parameter"),
    (lambda s: s("joint").update(ema=2.0), "config.steps[2]: ema must lie in (0, 1), got 2.0"),
    (lambda s: s("joint").update(init_from=(dict(source="backbnoe"),)),
     "config.steps[2].init_from[0].source: 'backbnoe' is neither a folder nor an earlier step that "
     "makes a model; those that do: backbone"),
    (lambda s: s("joint").update(init_from=(dict(source="backbone", include=("neck/",)),)),
     "config.steps[2].init_from[0]: backbone does not fit this model"),
    (lambda s: s("joint").update(init_from=(dict(source="backbone", include=("(",)),)),
     "config.steps[2].init_from[0]: include '(' must be a regular expression"),
    (lambda s: s("joint").update(data=dict(protocol="cross_planet")),
     "config.steps[2]: unknown protocol 'cross_planet'"),
    (lambda s: s("joint").update(data=dict(variant="huge")),
     "config.steps[2]: unknown variant 'huge'"),
    (lambda s: s("joint").update(data=dict(validation=0.0), split="validation"),
     "config.steps[2]: split 'validation' has no clips"),
    (lambda s: s("backbone").update(monitor="top2"),
     "config.steps[1].monitor must be one of top1, top5, mean_class_accuracy, loss, got 'top2'"),
    (lambda s: s("backbone").validate.update(split="valid"),
     "config.steps[1].validate: split must be one of train, fit, validation, test, got 'valid'"),
    (lambda s: s("backbone").validate.update(every_epochs=0.0),
     "config.steps[1].validate: every_epochs must be above 0, got 0.0"),
    (lambda s: s("test").update(split="tset"), "config.steps[3]: split must be one of"),
    (lambda s: s("test").update(protocol="cross_planet"), "config.steps[3]: unknown protocol"),
    (lambda s: s("test").update(variant="huge"), "config.steps[3]: unknown variant 'huge'"),
    (lambda s: s("test").update(batch_size=0), "config.steps[3].batch_size must be at least 1"),
    (lambda s: s("test").update(model_from="bakcbone"),
     "config.steps[3].model_from: 'bakcbone' is neither a folder nor an earlier step"),
    (lambda s: s("test").update(dataset="utd_mhad"),
     "config.steps[3].dataset=utd_mhad does not go with the model"),
    (lambda s: s("test").update(drop_joints=2.0), "config.steps[3].drop_joints must lie in [0, 1]"),
])
def test_what_later_steps_would_have_met(vpn, change, message):
  assert _refused(vpn, change).startswith(message)


@pytest.mark.parametrize("change, message", [
    (lambda s: s("full").update(superclasses="crop"),
     "config.steps[4].superclasses: 'crop' is not an earlier step that groups classes; there are: "
     "full_superclasses"),
    (lambda s: s("full_superclasses").update(evaluation="crop"),
     "config.steps[3].evaluation: 'crop' is not an earlier evaluation; there are: crop_validation, "
     "crop_test"),
    (lambda s: s("full_superclasses").update(levels=(None, 3, 60)),
     "config.steps[3].levels must lie between 1 and the 12 classes, got 60"),
    (lambda s: s("full_superclasses").update(levels=(None, 4, 6)),
     "config.steps[4].superclasses: stage 2 groups 12 classes into 4, the model wants 12 into 3"),
    (lambda s: s("full_superclasses").update(counts="all"),
     "config.steps[3].counts must be one of hard, soft, got 'all'"),
    (lambda s: s("full").loss.update(weights=(None, 1.0)),
     "config.steps[4]: the model has a level at stage"),
    (lambda s: s("full").update(pruned_by="crop"),
     "config.steps[4].pruned_by: 'crop' is not an earlier step that prunes; there are: none"),
    (lambda s: s("gradients").update(model_from="nobody"), "config.steps[7].model_from: 'nobody'"),
    (lambda s: s("gradients").update(layer="neck/kernel"),
     "config.steps[7].layer 'neck/kernel' matches no parameter"),
    (lambda s: s("by_layers").update(metric="top3"),
     "config.steps[8].metric must be one of top1, top5, mean_class_accuracy, got 'top3'"),
    (lambda s: s("by_layers").update(monitor="retrain"),
     "config.steps[8].monitor: 'retrain' is not an earlier evaluation"),
    (lambda s: s("by_layers").update(passes=0),
     "config.steps[8]: passes must be at least 1, got 0"),
    (lambda s: s("by_layers").update(model_from="nobody"),
     "config.steps[8].model_from: 'nobody' is neither a folder nor an earlier step"),
    (lambda s: s("by_layers").update(start="later"),
     "config.steps[8].start: 'later' is not an earlier evaluation"),
    (lambda s: s("prune").update(include=("neck/",)),
     "config.steps[8].steps[0]: include pattern 'neck/' matches no convolution"),
    (lambda s: s("retrain").update(pruned_by="full"),
     "config.steps[8].steps[1].pruned_by: 'full' is not an earlier step that prunes; there are: "
     "prune"),
    (lambda s: s("ablation").rows[0].update(evaluation="nothing"),
     "config.steps[11].rows[0].evaluation: 'nothing' is not an earlier evaluation"),
    (lambda s: s("ablation").rows[0].update(evaluation="crop"),
     "config.steps[11].rows[0].evaluation: 'crop' is not an earlier evaluation"),
    (lambda s: s("ablation").rows[2].update(evaluation="full_test"),
     "config.steps[11].rows[2].evaluation: 'full_test' is not an earlier evaluation"),
    (lambda s: s("ablation").update(metric="top3"), "config.steps[11].metric must be one of"),
])
def test_what_a_long_recipe_would_have_met_at_its_end(hac, change, message):
  assert _refused(hac, change).startswith(message)


@pytest.mark.parametrize("source, message", [
    ("/nowhere/model", "config.steps[0].source: '/nowhere/model' is neither a folder nor an"),
    (".", "holds no finished model")])
def test_a_checkpoint_to_adopt_has_to_be_there(vpn, source, message, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  config = configuration.config(name="x", data_dir=vpn.data_dir, data=vpn.data, steps=(
      dict(kind="adopt", source=source, model=vpn.steps[1].model),))
  with pytest.raises(UserError) as error:
    planning.plan(config)
  assert message in str(error.value)


def test_converted_weights_start_a_training_and_are_no_model(vpn, tmp_path):
  weights = tmp_path / "converted"
  checkpoint.save_model(weights, {"params": {"x": np.zeros(3, np.float32)}}, {"source": "a.pth"})
  config = copy.deepcopy(vpn)
  _step(config, "joint").init_from = (dict(source=str(weights)),)
  assert planning.plan(config).steps[2].section()["init_from"][0]["source"] == str(weights)
  assert "holds converted weights alone" in _refused(
      config, lambda s: s("test").update(model_from=str(weights)))


def test_batches_divide_over_the_devices(vpn):
  class Mesh:
    size = 3

  with pytest.raises(UserError, match=r"config.steps\[1\].batch_size=8 does not divide over 3"):
    planning.plan(vpn, mesh=Mesh())


# ---- the plan itself -----------------------------------------------------------------

def test_a_plan_is_a_config_in_which_nothing_is_left_to_defaults(hac, vpn):
  for config in (vpn, hac):
    planned = planning.plan(config)
    section = planned.section()
    assert json.loads(json.dumps(section)) == section
    again = planning.plan(section)
    assert again.section() == section
    assert [step.name for step in again.flatten()] == [step.name for step in planned.flatten()]
  joint = planning.plan(vpn).section()["steps"][2]
  # One of each: a default of the step, of its network's backbone, of the loss, of an input.
  assert (joint["select"], joint["model"]["backbone"]["bn_momentum"]) == ("last", 0.9)
  assert joint["loss"]["attention"] == 1e-5 and joint["data"]["video"]["margin"] == 0.1


def test_a_plan_as_text(vpn, tiny_data_dir):
  planned = planning.plan(vpn)
  lines = list(text.lines(planned))
  clips = {line.split()[1]: line for line in lines if line[:2].isdigit()}
  assert "3 updates" in clips["joint"] and "36 clips" in clips["joint"]
  assert "12 clips" in clips["test"] and "(train, after backbone)" in clips["joint"]
  parameters = sum(np.prod(leaf.shape) for leaf in
                   _leaves(planned.steps[2].outline.model.variables["params"]))
  assert f"{parameters:,.0f} parameters" in clips["joint"]
  assert "  learning_rate: 0.002" in "\n".join(lines)
  needed = planned.steps[2].outline.memory()
  # Parameters, two moments of Adam, in four bytes each, are the least that a step holds.
  assert needed > 3 * 4 * parameters
  assert lines[-1] == f"  joint: {needed / 2**20:,.0f} MiB on all devices together"


def _leaves(tree):
  return [leaf for value in tree.values() for leaf in
          (_leaves(value) if hasattr(value, "values") else [value])]


def test_a_dataset_that_is_not_prepared_is_noted_and_the_rest_is_planned(vpn, tmp_path):
  config = copy.deepcopy(vpn)
  config.data_dir = str(tmp_path)
  assert "clips" not in planning.plan(config).steps[1].outline.facts  # the first step prepares it
  config.steps = config.steps[1:]
  with pytest.raises(UserError, match="synthetic_actions is not prepared in .*; run: python -m"):
    planning.plan(config)
  planned = planning.plan(config, lenient=True)
  assert [step.name for step in planned.steps] == ["backbone", "joint", "test"]
  assert all("is not prepared" in problem for problem in planned.problems) and planned.problems
  assert "not yet: " + planned.problems[0] in text.lines(planned)


def test_an_own_dataset_that_is_not_prepared(tmp_path):
  config = configuration.load("configs/own_data.py:tiny,dataset=folder:mine")
  config.data_dir = str(tmp_path)
  with pytest.raises(UserError, match="folder:mine is not prepared"):
    planning.plan(config)
  planned = planning.plan(config, lenient=True)
  assert len(planned.steps) == len(config.steps)
  lines = list(text.lines(planned))
  assert any(line.startswith("not yet: folder:mine is not prepared") for line in lines)
  assert any("kind" not in line and "train" in line for line in lines)
  config.steps[-1].model_from = "nothing"
  with pytest.raises(UserError, match="'nothing' is neither an earlier step nor a path; steps: "):
    planning.plan(config, lenient=True)


def test_every_kind_names_what_it_reads(hac):
  after = {step.name: step.after for step in planning.plan(hac).flatten()}
  assert after["full_superclasses"] == ("crop_validation",)
  assert after["full"] == ("crop", "full_superclasses")  # whose first weights it draws too
  assert after["gradients"] == ("full", "full_superclasses")
  assert after["retrain"] == ("prune", "full_superclasses")
  assert after["by_layers_compact"] == ("by_layers",)
  assert after["ablation"] == ("crop_test", "full_test", "by_layers", "by_layers_compact_test")


# ---- whose a workdir is ------------------------------------------------------------------

def _begin(workdir, *names):
  for name in names:
    (workdir / name).mkdir(parents=True)
    (workdir / name / "done.json").write_text("{}")


def test_only_what_has_begun_is_fixed(vpn, tmp_path):
  section = planning.plan(vpn).section()
  workdirs.claim(tmp_path, section)
  assert json.loads((tmp_path / "config.json").read_text()) == section

  def claim(**changes):
    changed = copy.deepcopy(section)
    for key, value in changes.items():
      name, _, field = key.partition("__")
      next(step for step in changed["steps"] if step["name"] == name)[field] = value
    workdirs.claim(tmp_path, changed)

  claim(backbone__batch_size=2)  # nothing has begun: nothing is claimed
  _begin(tmp_path, "00_prepare", "01_backbone")
  claim(backbone__batch_size=2, joint__num_steps=7, test__split="train")
  claim(backbone__batch_size=2, backbone__log_every=9, backbone__checkpoint_every=9)
  with pytest.raises(UserError, match=r"begun there differs in config.steps\[1\].num_steps; give"):
    claim(backbone__batch_size=2, backbone__num_steps=7)
  workdirs.claim(tmp_path, section | {"steps": [
      step | ({"batch_size": 2} if step["name"] == "backbone" else {})
      for step in section["steps"][:2]]})  # later steps may go
  with pytest.raises(UserError, match=r"differs in config.steps\[1\]"):
    workdirs.claim(tmp_path, section | {"steps": section["steps"][:1]})


def test_a_start_that_fails_for_lack_of_data_claims_nothing(vpn, tmp_path):
  config = copy.deepcopy(vpn)
  config.data_dir, config.steps = str(tmp_path / "data"), vpn.steps[1:2]
  with pytest.raises(UserError, match="is not prepared"):
    recipe.run(config, tmp_path / "run")
  assert not (tmp_path / "run").exists()
  preparation.prepare("synthetic_actions", data_dir=config.data_dir, variant="tiny", workers=1)
  config.steps[0].update(num_steps=1)
  assert recipe.run(config, tmp_path / "run")["params_digest"]
