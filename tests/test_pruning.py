"""Pruning: scores and selection against NumPy, and exact zeros in training."""
import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.errors import UserError
from actionjax.models.resnet3d import ResNet3D
from actionjax.pruning import masks, scores
from tests import networks
from tests.networks import BASIC, BOTTLENECK

# Scores.

@pytest.mark.parametrize("norm", ["l2", "rms"])
def test_scores_are_the_norms_of_the_filters(norm):
  _, variables = networks.resnet(**BOTTLENECK)
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
  params = networks.shapes(ResNet3D(50), jnp.zeros((1, 2, 32, 32, 3)))["params"]
  kernels = scores.FilterRule(shortcuts=shortcuts).kernels(params)
  assert sum(kernel.shape[-1] for kernel in kernels.values()) == filters
  assert not any("stem" in path for path in kernels)
  rng = np.random.default_rng(0)
  found = {path: rng.random(kernel.shape[-1]) for path, kernel in kernels.items()}
  alive = masks.make_masks(found, masks.unpruned(params), 0.1, "altogether")
  assert sum(a for a, _ in masks.surviving(alive).values()) == filters - filters // 10


def test_rules_pick_by_path_wherever_the_backbone_lies():
  params = networks.shapes(networks.hac(), networks.hac_batch())["params"]
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
  params = networks.shapes(ResNet3D(**BASIC), networks.clip())["params"] | {
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
  _, variables = networks.resnet(**BOTTLENECK | dict(width=20))
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
  _, variables = networks.resnet(**BASIC)
  before = masks.unpruned(variables["params"])
  alive = networks.passes(variables["params"], 1)
  assert jax.tree.structure(alive) == jax.tree.structure(variables["params"])
  for path, leaf in networks.flat(alive).items():
    assert isinstance(leaf, jax.Array) and leaf.dtype == bool
    assert leaf.shape == (() if path.startswith("stem") else (leaf.size,))
  assert all(leaf.shape == () for leaf in jax.tree.leaves(before))
  zeroed = masks.apply_masks(variables["params"], alive)["stage1"]["block1"]["conv1"]
  gone = ~np.asarray(alive["stage1"]["block1"]["conv1"]["conv"]["kernel"])
  assert gone.sum() == 1
  for leaf in (zeroed["conv"]["kernel"], zeroed["bn"]["scale"], zeroed["bn"]["bias"]):
    assert not np.asarray(leaf)[..., gone].any() and np.asarray(leaf)[..., ~gone].all()


def test_masks_are_found_again_in_zeroed_parameters():
  _, variables = networks.resnet(**BASIC | dict(kernels="factorised"))
  alive = networks.passes(variables["params"])
  found = masks.find_masks(masks.apply_masks(variables["params"], alive), scores.FilterRule())
  assert masks.surviving(found) == masks.surviving(alive)
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(*np.broadcast_arrays(a, b)),
               found, alive)


@pytest.mark.parametrize("change,word", [
    (dict(fraction=0.0), "got 0.0"), (dict(fraction=1.0), "got 1.0"), (dict(fraction=10), "got 10"),
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

@pytest.mark.slow
def test_dead_filters_stay_exactly_zero_in_training():
  model = networks.hac()
  variables = networks.fill(networks.shapes(model, networks.hac_batch()))
  alive = networks.passes(variables["params"])
  state, step = networks.trainer(model, variables, alive, "adamw")
  for i in range(3):
    state, _ = step(state, networks.hac_batch(i), np.float32(1))
  inner = state.opt_state.inner_states["trained"].inner_state
  # The first moment is a mean of gradients: where it is zero, all of them were.
  moments, = [(part.mu, part.nu) for part in inner if hasattr(part, "mu")]
  mask = networks.flat(alive)
  for tree in (state.params, state.ema, *moments):
    for path, leaf in networks.flat(tree).items():
      kept = np.broadcast_to(np.asarray(mask[path]), leaf.shape)
      assert not np.asarray(leaf)[~kept].any(), path
  for path, leaf in networks.flat(state.params).items():
    kept = np.broadcast_to(np.asarray(mask[path]), leaf.shape)
    before = networks.flat(variables["params"])[path]
    assert np.asarray(leaf)[kept].all() and (np.asarray(leaf) != before)[kept].any(), path
