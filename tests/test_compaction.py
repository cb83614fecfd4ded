"""The compacted network computes and trains like the masked one; its checkpoints."""
import copy
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import actionjax
from actionjax.benchmarks import pruning as benchmark
from actionjax.data.loading import video
from actionjax.data.loading.config import DataConfig
from actionjax.errors import UserError
from actionjax.models import layers
from actionjax.models.resnet3d import ResNet3D
from actionjax.pruning import compact, masks
from actionjax.report import summary
from actionjax.training import checkpoint, initialise
from tests import networks
from tests.networks import BASIC, BOTTLENECK, HAC


def _check_compact(model, section, variables, alive, size=12, atol=1e-5):
  """Compacts a backbone; asserts equal endpoints; returns its config and variables."""
  x = networks.clip(size=size)
  masked = variables | {"params": masks.apply_masks(variables["params"], alive)}
  config, smaller = compact.compact(section, variables, alive)
  small = ResNet3D(**{key: value for key, value in config.items() if key != "name"})
  found, endpoints = networks.run(small, smaller, x)
  expected, expected_endpoints = networks.run(model, masked, x)
  np.testing.assert_allclose(found, expected, atol=atol)
  assert set(endpoints) == set(expected_endpoints)
  for name, value in endpoints.items():
    np.testing.assert_allclose(value, expected_endpoints[name], atol=atol, err_msg=name)
  shapes = networks.shapes(small, x)
  jax.tree.map(lambda a, b: np.testing.assert_equal(a.shape, b.shape), shapes, smaller)
  return config, smaller


@pytest.mark.slow
@pytest.mark.parametrize("fields,scope", [
    (dict(depth=18, width=8), "by_layers"),
    (BASIC | dict(project=True), "altogether"),
    (BOTTLENECK | dict(stage_sizes=(1, 2)), "by_layers"),
    (BOTTLENECK | dict(kernels=("2d", "3x1x1"), temporal_strides=(1, 2)), "altogether"),
    (BASIC | dict(stage_sizes=(1, 1), kernels=("factorised", "r2plus1d")), "by_layers"),
    (BOTTLENECK | dict(stage_sizes=(1, 1), kernels=("r2plus1d", "factorised")), "altogether")])
def test_compacted_outputs_are_the_masked_ones(fields, scope):
  model, variables = networks.resnet(**fields)
  alive = networks.passes(variables["params"], 3, 0.25, scope)
  section = dict(name="resnet3d", **fields)
  config, smaller = _check_compact(model, section, variables, alive)
  assert networks.size(smaller["params"]) < networks.size(variables["params"])
  assert "channels" not in section
  # Nothing dead is left: a filter for each survivor, and in the layers that are pruned no more.
  left = {path: leaf.shape[-1] for path, leaf in networks.flat(smaller["params"]).items()}
  for path, (living, _) in masks.surviving(alive).items():
    assert left[path] == living == len(config["channels"][path.removesuffix("/kernel")])


def test_a_streams_channel_goes_when_all_its_writers_are_dead():
  model, variables = networks.resnet(**BOTTLENECK)
  alive = networks.without(variables["params"], {
      "stage1/block0/shortcut/conv": range(8), "stage1/block0/conv3/conv": range(6),
      "stage1/block1/conv3/conv": range(2, 9), "stage2/block0/conv3/conv": range(0, 40, 2)})
  _, smaller = _check_compact(model, dict(name="resnet3d", **BOTTLENECK), variables, alive)
  inputs = lambda path: networks.flat(smaller["params"])[path].shape[-2]
  # Channels 2 to 5 are dead in all three writers of stage 1's 20, so its readers lose four inputs.
  assert inputs("stage1/block1/conv1/conv/kernel") == 16
  assert inputs("stage2/block0/conv1/conv/kernel") == 16
  assert inputs("stage2/block0/shortcut/conv/kernel") == 16
  # The first block reads the stem, which is whole.
  assert inputs("stage1/block0/conv1/conv/kernel") == 5


def test_a_stage_without_projection_carries_the_stems_channels():
  fields = BASIC | dict(stage_sizes=(2,), spatial_strides=(1,), temporal_strides=(1,))
  model, variables = networks.resnet(**fields)
  dead = {"stage1/block0/conv2/conv": (0, 1, 2), "stage1/block1/conv2/conv": (0, 1, 3)}
  section = dict(name="resnet3d", **fields)
  _, smaller = _check_compact(model, section, variables,
                              networks.without(variables["params"], dead))
  assert networks.flat(smaller["params"])["stage1/block1/conv1/conv/kernel"].shape[-2] == 6
  # With the stem's channels dead too, they go (1 is kept alive by the stem).
  dead["stem/conv"] = (0, 3)
  _, smaller = _check_compact(model, section, variables,
                              networks.without(variables["params"], dead))
  assert networks.flat(smaller["params"])["stage1/block1/conv1/conv/kernel"].shape[-2] == 5
  assert networks.flat(smaller["params"])["stage1/block0/conv1/conv/kernel"].shape[-2] == 4


@pytest.mark.slow
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
def test_any_masks_compact_exactly(data):
  fields = data.draw(st.sampled_from([BASIC, BOTTLENECK]))
  model, variables = networks.resnet(**fields)
  dead = {}
  for path, width in model.widths().items():
    share = data.draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]), label=path)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dead[path] = np.flatnonzero(rng.random(width) < share)
  alive = networks.without(variables["params"], dead)
  _check_compact(model, dict(name="resnet3d", **fields), variables, alive, size=8)


@pytest.mark.slow
def test_a_compacted_network_can_be_pruned_and_compacted_again():
  fields = BOTTLENECK | dict(stage_sizes=(1, 1))
  _, variables = networks.resnet(**fields)
  section = dict(name="resnet3d", **fields)
  first = networks.passes(variables["params"])
  config, smaller = compact.compact(section, variables, first)
  small = ResNet3D(**{key: value for key, value in config.items() if key != "name"})
  second = networks.passes(smaller["params"], 1, 0.4)
  final, _ = _check_compact(small, config, smaller, second)
  for path, kept in final["channels"].items():
    assert set(kept) <= set(config["channels"][path]), "numbers of the first network"
  assert final["channels"] != config["channels"]


def test_a_channel_that_still_emits_a_constant_stays():
  model, variables = networks.resnet(**BASIC)
  alive = copy.deepcopy(masks.unpruned(variables["params"]))
  alive["stage1"]["block0"]["conv1"]["conv"]["kernel"] = jnp.arange(6) > 2  # its norm lives on
  config, _ = _check_compact(model, dict(name="resnet3d", **BASIC), variables, alive)
  assert len(config["channels"]["stage1/block0/conv1/conv"]) == 6


def test_heads_on_the_stages_read_the_compacted_network():
  model, batch = networks.hac(), networks.hac_batch()
  variables = networks.fill(networks.shapes(model, batch))
  alive = networks.passes(variables["params"], 3)
  config, smaller = compact.compact(HAC, variables, alive)
  masked = variables | {"params": masks.apply_masks(variables["params"], alive)}
  expected, out = networks.run(model, masked, batch)
  found, small_out = networks.run(networks.hac(config), smaller, batch)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(small_out["stage_logits"]["stage1"], out["stage_logits"]["stage1"],
                             atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, smaller["params"]["head"],
               variables["params"]["head"])


def test_two_backbones_are_told_apart_by_name():
  params = {name: networks.resnet(seed, **BASIC)[1]["params"]
            for seed, name in enumerate(("rgb", "pose"))}
  section = dict(name="resnet3d", **BASIC)
  alive = masks.unpruned(params) | {"pose": networks.passes(params["pose"])}
  config, smaller = compact.compact(dict(name="both", rgb=section, pose=section),
                                    {"params": params}, alive)
  assert networks.size(smaller["params"]["pose"]) < networks.size(smaller["params"]["rgb"])
  jax.tree.map(np.testing.assert_array_equal, smaller["params"]["rgb"], params["rgb"])
  with pytest.raises(UserError, match="section a configures cannot be told"):
    compact.compact(dict(name="both", a=section, b=section), {"params": params}, alive)


@pytest.mark.slow
def test_flops_and_parameters_after_four_passes():
  fields = dict(block="bottleneck", stage_sizes=(1, 1, 1, 1), width=16)
  model = ResNet3D(**fields)
  x = jnp.zeros((1, 2, 32, 32, 3))
  variables = networks.fill(networks.shapes(model, x))
  alive = networks.passes(variables["params"], 4, 0.1)
  config, smaller = compact.compact(dict(name="resnet3d", **fields), variables, alive)
  config.pop("name")

  def flops(model, variables):
    return jax.jit(lambda v, x: model.apply(v, x, train=False)[0]).lower(
        variables, x).cost_analysis()["flops"]

  assert flops(ResNet3D(**config), smaller) < 0.7 * flops(model, variables)
  assert networks.size(smaller["params"]) < 0.55 * networks.size(variables["params"])


@pytest.mark.parametrize("section,dead,word", [
    (dict(name="i3d"), {}, "has none"),
    (dict(name="resnet3d", **BASIC | dict(width=7)), {}, "do not fit the model's config"),
    (dict(name="resnet3d", **BASIC), {"neck/conv": (0,)}, "neck/conv/kernel is pruned and lies")])
def test_what_cannot_be_compacted_is_named(section, dead, word):
  params = networks.shapes(ResNet3D(**BASIC), networks.clip())["params"]
  params = networks.fill(params) | {"neck": {"conv": {"kernel": jnp.ones((1, 1, 1, 2, 4))}}}
  with pytest.raises(UserError, match=word):
    compact.compact(section, {"params": params}, networks.without(params, dead))


@pytest.mark.parametrize("change,word", [
    ({"stage1/block0/conv1/conv": ()}, "at least one"),
    ({"stage1/block0/conv1/conv": (1, 0)}, "rising"),
    ({"stage1/block0/conv1/conv": (6,)}, "from 0 to 5"),
    ({"stage3/block0/conv1/conv": (0,)}, "not a convolution here")])
def test_channels_of_another_network_are_refused(change, word):
  model = ResNet3D(**BASIC)
  channels = {path: tuple(range(width)) for path, width in model.widths().items()} | change
  with pytest.raises(UserError, match=word):
    networks.shapes(ResNet3D(**BASIC, channels=channels), networks.clip())


# Training.

@pytest.mark.slow
def test_the_compacted_network_trains_like_the_masked_one():
  model, batch = networks.hac(), networks.hac_batch()
  variables = networks.fill(networks.shapes(model, batch))
  alive = networks.passes(variables["params"])
  config, smaller = compact.compact(HAC, variables, alive)
  small_model = networks.hac(config)
  # Plain gradient steps: Adam divides what is nearly zero by what is nearly zero.
  masked, step = networks.trainer(model, variables, alive, "sgd")
  small, small_step = networks.trainer(small_model, smaller,
                                       masks.unpruned(smaller["params"]), "sgd")
  for i in range(2):
    masked, metrics = step(masked, networks.hac_batch(i), np.float32(0.1))
    small, small_metrics = small_step(small, networks.hac_batch(i), np.float32(0.1))
    np.testing.assert_allclose(small_metrics["loss"], metrics["loss"], rtol=1e-5)
  trained = {"params": masked.params, "batch_stats": masked.batch_stats, "ema": masked.ema}
  expected = compact.compact(HAC, trained, alive)[1]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, small.params, expected["params"])
  jax.tree.map(close, small.batch_stats, expected["batch_stats"])
  jax.tree.map(close, small.ema, expected["ema"])


# Checkpoints.

def _description(config):
  data = DataConfig("synthetic_actions", "cross_subject", "tiny",
                    inputs={"video": video.Config(3, (12, 12))})
  return {"format": 1, "model": config, "class_names": ["a", "b", "c"], "layout": "kinect_v1_20",
          "data": data.section(), "views": {}}


@pytest.fixture(scope="module")
def pruned():
  """(model, masked variables, masks) of a small hierarchical classifier."""
  model = networks.hac()
  variables = networks.fill(networks.shapes(model, networks.hac_batch()))
  alive = networks.passes(variables["params"])
  return model, variables | {"params": masks.apply_masks(variables["params"], alive)}, alive


@pytest.mark.slow
def test_a_compacted_checkpoint_loads_trains_and_initialises(pruned, tmp_path):
  model, variables, alive = pruned
  checkpoint.save_model(tmp_path / "model", variables, _description(HAC))
  description = compact.compact_checkpoint(tmp_path / "model", tmp_path / "small")
  loaded = actionjax.load(tmp_path / "small")
  size, whole = networks.size(loaded.variables["params"]), networks.size(variables["params"])
  counts = [(kept, filters) for kept, filters in masks.surviving(alive).values() if kept < filters]
  assert description["compacted"] == {
      "parameters": size, "parameters_before": whole,
      "kept": sum(kept for kept, _ in counts), "filters": sum(filters for _, filters in counts)}
  assert size < 0.6 * whole
  batch = networks.hac_batch()
  expected, _ = networks.run(model, variables, batch)
  found, _ = networks.run(loaded.model, loaded.variables, batch)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  clip = {"frames": batch["video"][0]}
  assert loaded(clip).sum() == pytest.approx(1, abs=1e-5)
  assert summary.parameters(loaded.model, loaded.data) == size

  state, step = networks.trainer(loaded.model, loaded.variables,
                         masks.unpruned(loaded.variables["params"]), "adam", ema=None)
  history = []
  for _ in range(10):
    state, metrics = step(state, batch, np.float32(1))
    history.append(float(metrics["loss"]))
  assert history[-1] < 0.8 * history[0]

  fresh = networks.fill(networks.shapes(networks.hac(description["model"]), batch), seed=5)
  started, report = initialise.load_into(
      fresh, loaded.variables,
      initialise.InitFrom(str(tmp_path / "small"), strict=True))
  assert not report.missing and not report.mismatched
  jax.tree.map(np.testing.assert_array_equal, started, loaded.variables)
  with pytest.raises(UserError, match="exists already"):
    compact.compact_checkpoint(tmp_path / "model", tmp_path / "small")


@pytest.mark.slow
def test_a_trainings_own_checkpoint_brings_masks_and_averages(pruned, tmp_path):
  model, variables, alive = pruned
  state, step = networks.trainer(model, variables, alive, "adamw")
  state, _ = step(state, networks.hac_batch(), np.float32(1))
  state, _ = step(state, networks.hac_batch(1), np.float32(1))
  checkpoints = checkpoint.TrainingCheckpoints(tmp_path / "checkpoints", _description(HAC))
  checkpoints.save("last", state, checkpoint.Progress())
  checkpoints.close()
  compact.compact_checkpoint(tmp_path / "checkpoints" / "last", tmp_path / "small")
  loaded = actionjax.load(tmp_path / "small")
  expected, _ = networks.run(model, state.variables(), networks.hac_batch())
  found, _ = networks.run(loaded.model, loaded.variables, networks.hac_batch())
  np.testing.assert_allclose(found, expected, atol=1e-5)
  kept = {path: leaf.shape[-1] for path, leaf in networks.flat(loaded.variables["params"]).items()}
  assert all(kept[path] == living for path, (living, _) in masks.surviving(alive).items())


def test_a_checkpoint_without_a_resnet_is_refused(tmp_path):
  unit = layers.ConvUnit(3, (1, 1, 1))
  checkpoint.save_model(tmp_path / "model", networks.fill(networks.shapes(unit, networks.clip())),
                        _description({"name": "vpn", "backbone": {"name": "i3d"}}))
  with pytest.raises(UserError, match="has none"):
    compact.compact_checkpoint(tmp_path / "model", tmp_path / "small")
  assert not (tmp_path / "small").exists()


@pytest.mark.slow
def test_the_benchmark_compares_equal_networks(capsys):
  found = benchmark.run(rounds=1, shape=(1, 2, 16, 16, 3), **BOTTLENECK | dict(width=12))
  assert found["masked"]["difference"] < 1e-4
  assert found["ratio"]["parameters"] < 0.7 and found["ratio"]["gflops"] < 0.8
  assert "times as fast" in capsys.readouterr().out
