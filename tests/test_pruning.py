"""Pruning: scores and selection against NumPy, exact zeros, and the compacted network."""
import copy
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

import actionjax
from actionjax import models
from actionjax.benchmarks import pruning as benchmark
from actionjax.data.loading import video
from actionjax.data.loading.config import DataConfig
from actionjax.errors import UserError
from actionjax.models import layers
from actionjax.models.resnet3d import ResNet3D
from actionjax.pruning import compact, masks, scores
from actionjax.report import summary
from actionjax.training import checkpoint, initialise, losses, optim, train_step
from actionjax.training import state as states

pytestmark = pytest.mark.usefixtures("quick_compilation")

BASIC = dict(block="basic", stage_sizes=(2, 1), width=6, spatial_strides=(1, 2),
             temporal_strides=(1, 1))
BOTTLENECK = BASIC | dict(block="bottleneck", width=5)
HAC = dict(name="video_network", levels=(2,),
           backbone=dict(name="resnet3d", **BASIC | dict(stage_sizes=(1, 1))))


def _fill(shapes, seed=0):
  """Random variables of these shapes, as far from their initial values as after a training."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key in ("scale", "var"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    spread = 0.3 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
    return jnp.asarray(rng.normal(0, spread, leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _shapes(model, x):
  return jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))


def _clip(seed=0, size=12):
  return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 3, size, size, 3)), jnp.float32)


def _resnet(seed=0, **fields):
  model = ResNet3D(**fields)
  return model, _fill(_shapes(model, _clip()), seed)


def _hac(config=None):
  return models.create(config or HAC, num_classes=3, layout="kinect_v1_20")


def _hac_batch(seed=0):
  rng = np.random.default_rng(seed)
  return {"video": rng.integers(0, 256, (4, 3, 12, 12, 3)).astype(np.uint8),
          "label": rng.integers(0, 3, 4).astype(np.int32), "valid": np.ones(4, np.float32)}


def _passes(params, count=2, fraction=0.3, scope="by_layers", rule=None):
  alive = masks.unpruned(params)
  for _ in range(count):
    found = scores.filter_scores(masks.apply_masks(params, alive), rule)
    alive = masks.make_masks(found, alive, fraction, scope)
  return alive


def _run(model, variables, x, train=False):
  """(features, endpoints), or with `train` those and the new statistics."""
  kwargs = dict(train=True, mutable=["batch_stats"]) if train else dict(train=False)
  return jax.jit(lambda v, x: model.apply(v, x, **kwargs))(variables, x)


def _size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _flat(tree):
  return dict(zip(states.path_names(tree), jax.tree.leaves(tree)))


# Scores.

@pytest.mark.parametrize("norm", ["l2", "rms"])
def test_scores_are_the_norms_of_the_filters(norm):
  _, variables = _resnet(**BOTTLENECK)
  found = scores.filter_scores(variables["params"], norm=norm)
  kernel = np.asarray(variables["params"]["stage2"]["block0"]["conv2"]["conv"]["kernel"],
                      np.float64)
  expected = [np.linalg.norm(kernel[..., i]) / (kernel[..., i].size ** 0.5 if norm == "rms" else 1)
              for i in range(kernel.shape[-1])]
  np.testing.assert_allclose(found["stage2/block0/conv2/conv/kernel"], expected, rtol=1e-6)
  jitted = jax.jit(lambda p: scores.filter_scores(p, norm=norm))(variables["params"])
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), jitted, found)


@pytest.mark.parametrize("shortcuts,filters", [(True, 26_496), (False, 22_656)])
def test_the_filters_of_a_resnet50(shortcuts, filters):
  # HAC's stacks: counted from the architecture, stem and heads left out.
  params = _shapes(ResNet3D(50), jnp.zeros((1, 2, 32, 32, 3)))["params"]
  kernels = scores.FilterRule(shortcuts=shortcuts).kernels(params)
  assert sum(kernel.shape[-1] for kernel in kernels.values()) == filters
  assert not any("stem" in path for path in kernels)
  rng = np.random.default_rng(0)
  found = {path: rng.random(kernel.shape[-1]) for path, kernel in kernels.items()}
  alive = masks.make_masks(found, masks.unpruned(params), 0.1, "altogether")
  assert sum(a for a, _ in masks.surviving(alive).values()) == filters - filters // 10


def test_rules_pick_by_path_wherever_the_backbone_lies():
  params = _shapes(_hac(), _hac_batch())["params"]
  default = scores.FilterRule().kernels(params)
  assert all(path.startswith("backbone/stage") for path in default) and len(default) == 5
  one = scores.FilterRule(include=("backbone/stem/", r".*/block0/"), exclude=(".*/conv2/",))
  assert set(one.kernels(params)) == {
      "backbone/stem/conv/kernel", "backbone/stage1/block0/conv1/conv/kernel",
      "backbone/stage2/block0/conv1/conv/kernel", "backbone/stage2/block0/shortcut/conv/kernel"}


@pytest.mark.parametrize("fields,word", [
    (dict(include=("stage9/",)), "include pattern 'stage9/'"),
    (dict(exclude=("neck/",)), "exclude pattern 'neck/'"),
    (dict(include=("stage1/",), exclude=("stage",)), "leave no convolution"),
    (dict(include=("head/dense/",)), "matches no convolution")])
def test_patterns_that_match_nothing_are_named(fields, word):
  params = _shapes(ResNet3D(**BASIC), _clip())["params"] | {
      "head": {"dense": {"kernel": jnp.zeros((4, 3))}}}
  with pytest.raises(UserError, match=word):
    scores.FilterRule(**fields).kernels(params)


# Selection.

def _tree(widths):
  """Parameters of a chain of units of these widths, and their kernels' paths."""
  units = {f"unit{i}": {"conv": {"kernel": jnp.zeros((1, 1, 1, 2, width))},
                        "bn": {"scale": jnp.ones(width), "bias": jnp.zeros(width)}}
           for i, width in enumerate(widths)}
  return units, [f"unit{i}/conv/kernel" for i in range(len(widths))]


def _reference(values, alive, fraction, scope):
  """The selection once more, by repeated search for the smallest."""
  alive = {path: list(found) for path, found in alive.items()}
  groups = [list(values)] if scope == "altogether" else [[path] for path in values]
  for group in groups:
    left = int(fraction * sum(sum(alive[path]) for path in group) + 1e-6)
    while left:
      smallest = None
      for path in group:
        if sum(alive[path]) == 1:
          continue
        for i, (score, lives) in enumerate(zip(values[path], alive[path])):
          if lives and (smallest is None or score < smallest[0]):
            smallest = score, path, i
      if smallest is None:
        break
      alive[smallest[1]][smallest[2]] = False
      left -= 1
  return alive


@pytest.mark.slow
@hypothesis.given(widths=st.lists(st.integers(1, 24), min_size=1, max_size=4),
                  fraction=st.floats(0.02, 0.95), scope=st.sampled_from(masks.SCOPES),
                  levels=st.integers(1, 50), seed=st.integers(0, 999))
@hypothesis.settings(max_examples=40, deadline=None)
def test_the_lowest_go_as_a_plain_search_finds_them(widths, fraction, scope, levels, seed):
  params, paths = _tree(widths)
  rng = np.random.default_rng(seed)
  alive = masks.unpruned(params)
  expected = {path: [True] * width for path, width in zip(paths, widths)}
  for _ in range(3):
    # Few levels: many equal scores.
    found = {path: rng.integers(0, levels, width).astype(np.float32)
             for path, width in zip(paths, widths)}
    expected = _reference(found, expected, fraction, scope)
    before, alive = alive, masks.make_masks(found, alive, fraction, scope)
    for path in paths:
      unit = alive[path.split("/")[0]]
      assert unit["conv"]["kernel"].tolist() == expected[path] and any(expected[path])
      assert unit["bn"]["scale"].tolist() == unit["bn"]["bias"].tolist() == expected[path]
    dead = jax.tree.map(lambda old, new: bool(jnp.any(new & ~old)), before, alive)
    assert not any(jax.tree.leaves(dead)), "a dead filter came back to life"


def test_each_pass_takes_its_share_of_the_survivors():
  _, variables = _resnet(**BOTTLENECK | dict(width=20))
  alive = masks.unpruned(variables["params"])
  assert masks.surviving(alive) == {}
  for k in range(1, 6):
    found = scores.filter_scores(masks.apply_masks(variables["params"], alive))
    alive = masks.make_masks(found, alive, 0.1)
    counts = masks.surviving(alive)
    assert set(counts) == set(found)
    for path, (living, filters) in counts.items():
      # Each pass rounds down what it takes, so every pass may leave less than one too many.
      assert 0 <= living - 0.9**k * filters < k, path
  everything = sum(living for living, _ in counts.values())
  assert f"{everything:>6}" in masks.report(alive).splitlines()[-1]


def test_whole_numbers_of_filters_are_not_lost_to_rounding():
  params, (path,) = _tree([100])
  found = {path: np.arange(100.0)}
  alive = masks.make_masks(found, masks.unpruned(params), 0.29)  # 0.29 * 100 = 28.999...96
  assert masks.surviving(alive)[path] == (71, 100)


def test_altogether_thins_weak_layers_and_by_layers_all_alike():
  params, paths = _tree([20, 20])
  found = {paths[0]: np.linspace(1, 2, 20), paths[1]: np.linspace(3, 4, 20)}
  count = lambda scope, fraction: [alive for alive, _ in masks.surviving(
      masks.make_masks(found, masks.unpruned(params), fraction, scope)).values()]
  assert count("by_layers", 0.25) == [15, 15]
  assert count("altogether", 0.25) == [10, 20]
  assert count("altogether", 0.6) == [1, 15], "the weak layer keeps its best filter"
  assert count("altogether", 0.99) == count("by_layers", 0.99) == [1, 1]


def test_masks_share_the_parameters_tree_and_leave_the_rest_scalar():
  _, variables = _resnet(**BASIC)
  before = masks.unpruned(variables["params"])
  alive = _passes(variables["params"], 1)
  assert jax.tree.structure(alive) == jax.tree.structure(variables["params"])
  for path, leaf in _flat(alive).items():
    assert isinstance(leaf, jax.Array) and leaf.dtype == bool
    assert leaf.shape == (() if path.startswith("stem") else (leaf.size,))
  assert all(leaf.shape == () for leaf in jax.tree.leaves(before))
  zeroed = masks.apply_masks(variables["params"], alive)["stage1"]["block1"]["conv1"]
  gone = ~np.asarray(alive["stage1"]["block1"]["conv1"]["conv"]["kernel"])
  assert gone.sum() == 1
  for leaf in (zeroed["conv"]["kernel"], zeroed["bn"]["scale"], zeroed["bn"]["bias"]):
    assert not np.asarray(leaf)[..., gone].any() and np.asarray(leaf)[..., ~gone].all()


def test_masks_are_found_again_in_zeroed_parameters():
  _, variables = _resnet(**BASIC | dict(kernels="factorised"))
  alive = _passes(variables["params"])
  found = masks.find_masks(masks.apply_masks(variables["params"], alive), scores.FilterRule())
  assert masks.surviving(found) == masks.surviving(alive)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(*np.broadcast_arrays(a, b)),
               found, alive)


@pytest.mark.parametrize("change,word", [
    (dict(fraction=0.0), "not 0.0"), (dict(fraction=1.0), "not 1.0"), (dict(fraction=10), "not 10"),
    (dict(scope="global"), "by_layers, altogether"),
    (dict(scores={"unit9/conv/kernel": np.ones(3)}), "unit9"),
    (dict(scores={"unit0/conv/kernel": np.array([1, np.nan])}), "not finite")])
def test_mistakes_in_a_pass_are_named(change, word):
  params, (path,) = _tree([2])
  arguments = dict(scores={path: np.ones(2)}, masks=masks.unpruned(params), fraction=0.5) | change
  with pytest.raises(UserError, match=word):
    masks.make_masks(**arguments)


def test_the_norm_behind_a_convolution():
  conv, norm = {"kernel": jnp.zeros((1, 1, 2, 4))}, {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
  params = {"a": {"conv": conv, "bn": norm, "spatial": conv, "bn_spatial": norm},
            "b": {"Conv_0": conv, "BatchNorm_0": norm},
            "c": {"conv": conv | {"bias": norm["bias"]}},
            "d": {"x": conv, "y": conv, "norm_x": norm, "norm_y": norm},
            "e": {"conv": conv, "bn": {"bias": norm["bias"]}}}
  assert masks.norm_path("a/spatial/kernel", params) == "a/bn_spatial"
  assert masks.norm_path("b/Conv_0/kernel", params) == "b/BatchNorm_0"
  assert masks.norm_path("c/conv/kernel", params) is None
  assert masks.channel_leaves("c/conv/kernel", params) == ["c/conv/kernel", "c/conv/bias"]
  with pytest.raises(UserError, match="which batch norm follows d/x/kernel"):
    masks.norm_path("d/x/kernel", params)
  with pytest.raises(UserError, match="e/bn has no scale"):
    masks.make_masks({"e/conv/kernel": np.ones(4)}, masks.unpruned(params), 0.5)


# Training.

def _trainer(model, variables, alive, name, ema=0.9):
  labels = optim.frozen_labels(variables["params"], ())
  optimiser = optim.make(optim.OptimConfig(name=name, learning_rate=1e-2, weight_decay=0.1,
                                           decay_all=True), 10, labels)
  loss = functools.partial(losses.cross_entropy, params=None)
  step = jax.jit(train_step.make_train_step(
      model, lambda logits, out, batch, params: loss(logits, out, batch), optimiser, labels,
      seed=0, ema=ema))
  state = states.create({**variables, "params": masks.apply_masks(variables["params"], alive)},
                        optimiser, ema=ema is not None)
  return state.replace(masks=alive), step


@pytest.mark.slow
def test_dead_filters_stay_exactly_zero_in_training():
  model = _hac()
  variables = _fill(_shapes(model, _hac_batch()))
  alive = _passes(variables["params"])
  state, step = _trainer(model, variables, alive, "adamw")
  for i in range(3):
    state, _ = step(state, _hac_batch(i), np.float32(1))
  inner = state.opt_state.inner_states["trained"].inner_state
  # The first moment is a mean of gradients: where it is zero, all of them were.
  moments, = [(part.mu, part.nu) for part in inner if hasattr(part, "mu")]
  mask = _flat(alive)
  for tree in (state.params, state.ema, *moments):
    for path, leaf in _flat(tree).items():
      kept = np.broadcast_to(np.asarray(mask[path]), leaf.shape)
      assert not np.asarray(leaf)[~kept].any(), path
  for path, leaf in _flat(state.params).items():
    kept = np.broadcast_to(np.asarray(mask[path]), leaf.shape)
    assert np.asarray(leaf)[kept].all() and (np.asarray(leaf) != _flat(variables["params"])[path]
                                             )[kept].any(), path


@pytest.mark.slow
def test_the_compacted_network_trains_like_the_masked_one():
  model, batch = _hac(), _hac_batch()
  variables = _fill(_shapes(model, batch))
  alive = _passes(variables["params"])
  config, smaller = compact.compact(HAC, variables, alive)
  small_model = _hac(config)
  # Plain gradient steps: Adam divides what is nearly zero by what is nearly zero.
  masked, step = _trainer(model, variables, alive, "sgd")
  small, small_step = _trainer(small_model, smaller, masks.unpruned(smaller["params"]), "sgd")
  for i in range(2):
    masked, metrics = step(masked, _hac_batch(i), np.float32(0.1))
    small, small_metrics = small_step(small, _hac_batch(i), np.float32(0.1))
    np.testing.assert_allclose(small_metrics["loss"], metrics["loss"], rtol=1e-5)
  trained = {"params": masked.params, "batch_stats": masked.batch_stats, "ema": masked.ema}
  expected = compact.compact(HAC, trained, alive)[1]
  close = functools.partial(np.testing.assert_allclose, rtol=1e-3, atol=1e-4)
  jax.tree.map(close, small.params, expected["params"])
  jax.tree.map(close, small.batch_stats, expected["batch_stats"])
  jax.tree.map(close, small.ema, expected["ema"])


# The compacted network.

def _check_compact(model, section, variables, alive, x, atol=1e-5):
  """Compacts a backbone; asserts equal endpoints; returns its config and variables."""
  masked = variables | {"params": masks.apply_masks(variables["params"], alive)}
  config, smaller = compact.compact(section, variables, alive)
  small = ResNet3D(**{key: value for key, value in config.items() if key != "name"})
  found, endpoints = _run(small, smaller, x)
  expected, expected_endpoints = _run(model, masked, x)
  np.testing.assert_allclose(found, expected, atol=atol)
  assert set(endpoints) == set(expected_endpoints)
  for name, value in endpoints.items():
    np.testing.assert_allclose(value, expected_endpoints[name], atol=atol, err_msg=name)
  shapes = _shapes(small, x)
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
  model, variables = _resnet(**fields)
  alive = _passes(variables["params"], 3, 0.25, scope)
  section = dict(name="resnet3d", **fields)
  config, smaller = _check_compact(model, section, variables, alive, _clip())
  assert _size(smaller["params"]) < _size(variables["params"])
  assert "channels" not in section
  # Nothing dead is left: a filter for each survivor, and in the layers that are pruned no more.
  left = {path: leaf.shape[-1] for path, leaf in _flat(smaller["params"]).items()}
  for path, (living, _) in masks.surviving(alive).items():
    assert left[path] == living == len(config["channels"][path.removesuffix("/kernel")])


def _without(params, dead):
  """Masks with the given channels dead, by convolution."""
  flat = _flat(masks.unpruned(params))
  sizes = {path: leaf.shape[-1] for path, leaf in _flat(params).items()}
  for module, channels in dead.items():
    for leaf in masks.channel_leaves(f"{module}/kernel", params):
      flat[leaf] = jnp.asarray(~np.isin(np.arange(sizes[leaf]), list(channels)))
  return jax.tree.unflatten(jax.tree.structure(params), list(flat.values()))


def test_a_streams_channel_goes_when_all_its_writers_are_dead():
  model, variables = _resnet(**BOTTLENECK)
  alive = _without(variables["params"], {
      "stage1/block0/shortcut/conv": range(8), "stage1/block0/conv3/conv": range(6),
      "stage1/block1/conv3/conv": range(2, 9), "stage2/block0/conv3/conv": range(0, 40, 2)})
  _, smaller = _check_compact(model, dict(name="resnet3d", **BOTTLENECK), variables, alive, _clip())
  inputs = lambda path: _flat(smaller["params"])[path].shape[-2]
  # Channels 2 to 5 are dead in all three writers of stage 1's 20, so its readers lose four inputs.
  assert inputs("stage1/block1/conv1/conv/kernel") == 16
  assert inputs("stage2/block0/conv1/conv/kernel") == 16
  assert inputs("stage2/block0/shortcut/conv/kernel") == 16
  # The first block reads the stem, which is whole.
  assert inputs("stage1/block0/conv1/conv/kernel") == 5


def test_a_stage_without_projection_carries_the_stems_channels():
  fields = BASIC | dict(stage_sizes=(2,), spatial_strides=(1,), temporal_strides=(1,))
  model, variables = _resnet(**fields)
  dead = {"stage1/block0/conv2/conv": (0, 1, 2), "stage1/block1/conv2/conv": (0, 1, 3)}
  section = dict(name="resnet3d", **fields)
  _, smaller = _check_compact(model, section, variables, _without(variables["params"], dead),
                              _clip())
  assert _flat(smaller["params"])["stage1/block1/conv1/conv/kernel"].shape[-2] == 6
  # With the stem's channels dead too, they go (1 is kept alive by the stem).
  dead["stem/conv"] = (0, 3)
  _, smaller = _check_compact(model, section, variables, _without(variables["params"], dead),
                              _clip())
  assert _flat(smaller["params"])["stage1/block1/conv1/conv/kernel"].shape[-2] == 5
  assert _flat(smaller["params"])["stage1/block0/conv1/conv/kernel"].shape[-2] == 4


@pytest.mark.slow
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=3, deadline=None, derandomize=True)
def test_any_masks_compact_exactly(data):
  fields = data.draw(st.sampled_from([BASIC, BOTTLENECK]))
  model, variables = _resnet(**fields)
  dead = {}
  for path, width in model.widths().items():
    share = data.draw(st.sampled_from([0.0, 0.3, 0.8, 1.0]), label=path)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dead[path] = np.flatnonzero(rng.random(width) < share)
  alive = _without(variables["params"], dead)
  _check_compact(model, dict(name="resnet3d", **fields), variables, alive, _clip(size=8))


@pytest.mark.slow
def test_a_compacted_network_can_be_pruned_and_compacted_again():
  fields = BOTTLENECK | dict(stage_sizes=(1, 1))
  _, variables = _resnet(**fields)
  section = dict(name="resnet3d", **fields)
  first = _passes(variables["params"])
  config, smaller = compact.compact(section, variables, first)
  small = ResNet3D(**{key: value for key, value in config.items() if key != "name"})
  second = _passes(smaller["params"], 1, 0.4)
  final, _ = _check_compact(small, config, smaller, second, _clip())
  for path, kept in final["channels"].items():
    assert set(kept) <= set(config["channels"][path]), "numbers of the first network"
  assert final["channels"] != config["channels"]


def test_a_channel_that_still_emits_a_constant_stays():
  model, variables = _resnet(**BASIC)
  alive = copy.deepcopy(masks.unpruned(variables["params"]))
  alive["stage1"]["block0"]["conv1"]["conv"]["kernel"] = jnp.arange(6) > 2  # its norm lives on
  config, _ = _check_compact(model, dict(name="resnet3d", **BASIC), variables, alive, _clip())
  assert len(config["channels"]["stage1/block0/conv1/conv"]) == 6


def test_heads_on_the_stages_read_the_compacted_network():
  model, batch = _hac(), _hac_batch()
  variables = _fill(_shapes(model, batch))
  alive = _passes(variables["params"], 3)
  config, smaller = compact.compact(HAC, variables, alive)
  masked = variables | {"params": masks.apply_masks(variables["params"], alive)}
  expected, out = _run(model, masked, batch)
  found, small_out = _run(_hac(config), smaller, batch)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(small_out["stage_logits"]["stage1"], out["stage_logits"]["stage1"],
                             atol=1e-5)
  jax.tree.map(np.testing.assert_array_equal, smaller["params"]["head"],
               variables["params"]["head"])


def test_two_backbones_are_told_apart_by_name():
  params = {name: _resnet(seed, **BASIC)[1]["params"] for seed, name in enumerate(("rgb", "pose"))}
  section = dict(name="resnet3d", **BASIC)
  alive = masks.unpruned(params) | {"pose": _passes(params["pose"])}
  config, smaller = compact.compact(dict(name="both", rgb=section, pose=section),
                                    {"params": params}, alive)
  assert _size(smaller["params"]["pose"]) < _size(smaller["params"]["rgb"])
  jax.tree.map(np.testing.assert_array_equal, smaller["params"]["rgb"], params["rgb"])
  with pytest.raises(UserError, match="section a configures cannot be told"):
    compact.compact(dict(name="both", a=section, b=section), {"params": params}, alive)


@pytest.mark.slow
def test_flops_and_parameters_after_four_passes():
  fields = dict(block="bottleneck", stage_sizes=(1, 1, 1, 1), width=16)
  model = ResNet3D(**fields)
  x = jnp.zeros((1, 2, 32, 32, 3))
  variables = _fill(_shapes(model, x))
  alive = _passes(variables["params"], 4, 0.1)
  config, smaller = compact.compact(dict(name="resnet3d", **fields), variables, alive)
  config.pop("name")

  def flops(model, variables):
    return jax.jit(lambda v, x: model.apply(v, x, train=False)[0]).lower(
        variables, x).cost_analysis()["flops"]

  assert flops(ResNet3D(**config), smaller) < 0.7 * flops(model, variables)
  assert _size(smaller["params"]) < 0.55 * _size(variables["params"])


@pytest.mark.parametrize("section,dead,word", [
    (dict(name="i3d"), {}, "has none"),
    (dict(name="resnet3d", **BASIC | dict(width=7)), {}, "do not fit the model's config"),
    (dict(name="resnet3d", **BASIC), {"neck/conv": (0,)}, "neck/conv/kernel is pruned and lies")])
def test_what_cannot_be_compacted_is_named(section, dead, word):
  params = _shapes(ResNet3D(**BASIC), _clip())["params"]
  params = _fill(params) | {"neck": {"conv": {"kernel": jnp.ones((1, 1, 1, 2, 4))}}}
  with pytest.raises(UserError, match=word):
    compact.compact(section, {"params": params}, _without(params, dead))


@pytest.mark.parametrize("change,word", [
    ({"stage1/block0/conv1/conv": ()}, "at least one"),
    ({"stage1/block0/conv1/conv": (1, 0)}, "rising"),
    ({"stage1/block0/conv1/conv": (6,)}, "from 0 to 5"),
    ({"stage3/block0/conv1/conv": (0,)}, "no convolution here")])
def test_channels_of_another_network_are_refused(change, word):
  model = ResNet3D(**BASIC)
  channels = {path: tuple(range(width)) for path, width in model.widths().items()} | change
  with pytest.raises(UserError, match=word):
    _shapes(ResNet3D(**BASIC, channels=channels), _clip())


# Checkpoints.

def _description(config):
  data = DataConfig("synthetic_actions", "cross_subject", "tiny",
                    inputs={"video": video.Config(3, (12, 12))})
  return {"format": 1, "model": config, "class_names": ["a", "b", "c"], "layout": "kinect_v1_20",
          "data": data.section(), "views": {}}


@pytest.fixture(scope="module")
def pruned():
  """(model, masked variables, masks) of a small hierarchical classifier."""
  model = _hac()
  variables = _fill(_shapes(model, _hac_batch()))
  alive = _passes(variables["params"])
  return model, variables | {"params": masks.apply_masks(variables["params"], alive)}, alive


@pytest.mark.slow
def test_a_compacted_checkpoint_loads_trains_and_initialises(pruned, tmp_path):
  model, variables, alive = pruned
  checkpoint.save_model(tmp_path / "model", variables, _description(HAC))
  description = compact.compact_checkpoint(tmp_path / "model", tmp_path / "small")
  loaded = actionjax.load(tmp_path / "small")
  size, whole = _size(loaded.variables["params"]), _size(variables["params"])
  counts = [(kept, filters) for kept, filters in masks.surviving(alive).values() if kept < filters]
  assert description["compacted"] == {
      "parameters": size, "parameters_before": whole,
      "kept": sum(kept for kept, _ in counts), "filters": sum(filters for _, filters in counts)}
  assert size < 0.6 * whole
  batch = _hac_batch()
  expected, _ = _run(model, variables, batch)
  np.testing.assert_allclose(_run(loaded.model, loaded.variables, batch)[0], expected, atol=1e-5)
  clip = {"frames": batch["video"][0]}
  assert loaded(clip).sum() == pytest.approx(1, abs=1e-5)
  assert summary.parameters(loaded.model, loaded.data) == size

  state, step = _trainer(loaded.model, loaded.variables,
                         masks.unpruned(loaded.variables["params"]), "adam", ema=None)
  history = []
  for _ in range(10):
    state, metrics = step(state, batch, np.float32(1))
    history.append(float(metrics["loss"]))
  assert history[-1] < 0.8 * history[0]

  fresh = _fill(_shapes(_hac(description["model"]), batch), seed=5)
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
  state, step = _trainer(model, variables, alive, "adamw")
  state, _ = step(state, _hac_batch(), np.float32(1))
  state, _ = step(state, _hac_batch(1), np.float32(1))
  checkpoints = checkpoint.TrainingCheckpoints(tmp_path / "checkpoints", _description(HAC))
  checkpoints.save("last", state, checkpoint.Progress())
  checkpoints.close()
  compact.compact_checkpoint(tmp_path / "checkpoints" / "last", tmp_path / "small")
  loaded = actionjax.load(tmp_path / "small")
  expected, _ = _run(model, state.variables(), _hac_batch())
  np.testing.assert_allclose(_run(loaded.model, loaded.variables, _hac_batch())[0], expected,
                             atol=1e-5)
  kept = {path: leaf.shape[-1] for path, leaf in _flat(loaded.variables["params"]).items()}
  assert all(kept[path] == living for path, (living, _) in masks.surviving(alive).items())


def test_a_checkpoint_without_a_resnet_is_refused(tmp_path):
  unit = layers.ConvUnit(3, (1, 1, 1))
  checkpoint.save_model(tmp_path / "model", _fill(_shapes(unit, _clip())),
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
