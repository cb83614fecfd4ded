"""Hierarchical classification: model, loss, superclasses and the plan of its recipe."""
import pathlib

import jax
import numpy as np
import pytest

from actionjax import configuration, recipe
from actionjax.errors import UserError
from actionjax.models import video_network
from actionjax.steps import gradients, group
from actionjax.training import losses

ROOT = pathlib.Path(__file__).resolve().parent.parent
BACKBONE = dict(name="resnet3d", block="basic", stage_sizes=(1, 1, 1, 1), width=4,
                stem_kernel=(1, 3, 3), stem_pool=())
SUPERCLASSES = (None, (0, 0, 1, 1, 2, 2), (0, 1, 0, 1, 0, 1))
WEIGHTS = (None, 0.0625, 0.25, 1.0)


@pytest.fixture(scope="module")
def network():
  """(model, variables, batch) with levels at stages 2 and 3."""
  model = video_network.Model(num_classes=6, backbone=BACKBONE, levels=(None, 3, 2))
  rng = np.random.default_rng(0)
  batch = {"video": rng.integers(0, 255, (3, 2, 16, 16, 3), dtype=np.uint8),
           "label": np.array([0, 3, 5], np.int32), "valid": np.array([1, 1, 0], np.float32)}
  variables = jax.jit(lambda key: model.init({"params": key}, batch, train=False))(
      jax.random.key(0, impl="rbg"))
  return model, variables, batch


def _cross_entropy(logits, label):
  logits = np.asarray(logits, np.float64)
  return np.log(np.exp(logits).sum()) - logits[label]


def test_levels_read_their_stage(network):
  model, variables, batch = network
  logits, out = jax.jit(lambda v: model.apply(v, batch, train=False))(variables)
  assert logits.shape == (3, 6) and {k: v.shape for k, v in out["stage_logits"].items()} == {
      "stage2": (3, 3), "stage3": (3, 2)}
  for name, found in (("head_stage2", out["stage_logits"]["stage2"]), ("head", logits)):
    dense = variables["params"][name]["dense"]
    stage = out["stage2" if name == "head_stage2" else "stage4"]
    expected = np.asarray(stage).mean((1, 2, 3)) @ np.asarray(dense["kernel"]) + dense["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_too_many_levels():
  model = video_network.Model(num_classes=6, backbone=BACKBONE, levels=(2, 3, 2, 2))
  batch = {"video": np.zeros((1, 2, 16, 16, 3), np.uint8)}
  with pytest.raises(ValueError, match="4 levels of superclasses, and 3 stages"):
    jax.eval_shape(lambda: model.init({"params": jax.random.key(0)}, batch, train=False))


def test_loss_is_the_weighted_sum_of_the_levels(network):
  model, variables, batch = network
  logits, out = jax.jit(lambda v: model.apply(v, batch, train=False))(variables)
  total, parts = losses.hierarchical(logits, out, batch, None, weights=WEIGHTS,
                                     superclasses=SUPERCLASSES)
  # By hand: the padded third clip does not count.
  expected = 0.0
  for weight, found, classes in ((0.0625, out["stage_logits"]["stage2"], SUPERCLASSES[1]),
                                 (0.25, out["stage_logits"]["stage3"], SUPERCLASSES[2]),
                                 (1.0, logits, range(6))):
    expected += weight * np.mean([_cross_entropy(found[i], classes[batch["label"][i]])
                                  for i in range(2)])
  np.testing.assert_allclose(total, expected, rtol=1e-5)
  assert set(parts) == {"cross_entropy", "cross_entropy_stage2", "cross_entropy_stage3"}
  with pytest.raises(ValueError, match="stage2, but the loss has no superclasses"):
    losses.hierarchical(logits, out, batch, None, weights=WEIGHTS)
  with pytest.raises(ValueError, match="stage2, but the loss has no weight"):
    losses.hierarchical(logits, out, batch, None, weights=(None, None, 0.25, 1.0),
                        superclasses=SUPERCLASSES)


@pytest.mark.slow
def test_level_gradients_are_those_of_the_parts(network):
  model, variables, batch = network
  layer = "backbone/stage1/block0/conv2/conv/kernel"
  found = jax.jit(lambda v: gradients.level_gradients(
      model, v, batch, layer=layer, weights=WEIGHTS, superclasses=SUPERCLASSES))(variables)
  assert list(found) == ["level 2", "level 3", "level 4"]

  def level(params, part, weight):
    logits, out = model.apply({**variables, "params": params}, batch, train=False)
    return weight * losses.hierarchical(logits, out, batch, None, weights=WEIGHTS,
                                        superclasses=SUPERCLASSES)[1][part]

  for name, part, weight in (("level 2", "cross_entropy_stage2", 0.0625),
                             ("level 4", "cross_entropy", 1.0)):
    whole = jax.grad(level)(variables["params"], part, weight)
    leaf = whole["backbone"]["stage1"]["block0"]["conv2"]["conv"]["kernel"]
    np.testing.assert_allclose(found[name], np.abs(leaf).mean((0, 1, 2)), rtol=1e-4, atol=1e-9)


def test_soft_and_hard_confusions():
  probabilities = np.array([[0.6, 0.4, 0.0], [0.3, 0.7, 0.0], [0.2, 0.5, 0.3]])
  labels = np.array([0, 0, 2])
  np.testing.assert_array_equal(group.confusions(probabilities, labels, "hard"),
                                [[1, 1, 0], [0, 0, 0], [0, 1, 0]])
  np.testing.assert_allclose(group.confusions(probabilities, labels, "soft"),
                             [[0.9, 1.1, 0], [0, 0, 0], [0.2, 0.5, 0.3]])


@pytest.mark.parametrize("levels, sizes, message", [
    ((None, (0, 0, 1)), (2,), "has 2 superclasses at stage 1, the grouping none"),
    (((0, 0, 1),), (2, 2), "has 2 superclasses at stage 2, the grouping none"),
    (((0, 0, 1),), (3,), "groups 3 classes into 2, the model wants 3 into 3"),
    (((0, 1),), (2,), "groups 2 classes into 2, the model wants 3 into 2")])
def test_grouping_of_another_model(levels, sizes, message):
  with pytest.raises(UserError, match=message):
    group.check_levels(levels, sizes, 3, "config")


def _config(data_dir, argument):
  config = configuration.load(f"{ROOT / 'tests' / 'small_hac_config.py'}:{argument}")
  config.data_dir = data_dir
  return config


@pytest.mark.parametrize("history, stalled", [
    ([0.5], 0), ([0.5, 0.4], 1), ([0.5, 0.4, 0.3], 2), ([0.5, 0.4, 0.6, 0.5], 1),
    ([0.5, 0.6, 0.55, 0.58], 2), ([0.5, 0.5], 0), ([0.5, 0.4, 0.5, 0.4], 1)])
def test_two_passes_in_a_row_below_the_best(history, stalled):
  assert recipe._stalled(history) == stalled
