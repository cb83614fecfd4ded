"""Inflated ResNets: parameter counts derived from the papers, shapes, invariants."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.models.resnet3d import ResNet3D

# Pose-SlowOnly (PoseC3D, table 2): three stages, stem and pool without stride.
POSE = dict(block="bottleneck", width=32, kernels=("2d", "3x1x1", "3x1x1"),
            stage_sizes=(4, 6, 3), spatial_strides=(2, 2, 2), temporal_strides=(1, 1, 2),
            stem_strides=(1, 1, 1), stem_pool_strides=(1, 1, 1))
SMALL = dict(block="basic", stage_sizes=(1, 1), width=8, spatial_strides=(1, 2),
             temporal_strides=(1, 1))


@functools.cache
def _shapes(model, shape):
  clip = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), clip)


def _init(model, x, seed=0):
  key = jax.random.key(seed, impl="rbg")  # compiles ten times as fast as the default
  return jax.jit(lambda key, x: model.init(key, x, train=False))(key, x)


def _count(model, shape):
  _, variables = _shapes(model, shape)
  return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


@pytest.mark.parametrize("depth,count", [(18, 33_147_456), (34, 63_457_088), (50, 46_142_528),
                                         (101, 85_188_672)])
def test_only_square_kernels_inflated(depth, count):
  # HAC's backbones without heads: 33.147, 63.457, 46.143, 85.189 million.
  assert _count(ResNet3D(depth), (1, 8, 224, 224, 3)) == count


@pytest.mark.parametrize("depth,count", [(18, 11_176_512), (50, 23_508_032)])
def test_two_dimensional_counts_are_torchvisions(depth, count):
  assert _count(ResNet3D(depth, kernels="2d"), (1, 8, 224, 224, 3)) == count


@pytest.mark.parametrize("change,count", [
    ({}, 1_994_080), ({"width": 16}, 508_336), ({"stage_sizes": (3, 4, 6)}, 3_003_360)])
def test_pose_slowonly_counts(change, count):
  assert _count(ResNet3D(**{**POSE, **change}), (1, 48, 56, 56, 17)) == count


def test_pose_slowonly_shapes():
  (features, endpoints), _ = _shapes(ResNet3D(**POSE), (2, 48, 56, 56, 17))
  assert {name: value.shape[1:] for name, value in endpoints.items()} == {
      "stem": (48, 56, 56, 32), "stage1": (48, 28, 28, 128), "stage2": (48, 14, 14, 256),
      "stage3": (24, 7, 7, 512)}
  assert features.shape == endpoints["stage3"].shape


def test_every_bottleneck_with_temporal_first_kernel():
  # Action Machine: 5×7×7 stem, 32.20 million.
  model = ResNet3D(50, kernels="3x1x1", stem_kernel=(5, 7, 7))
  assert _count(model, (1, 8, 224, 224, 3)) == 32_204_608


def test_projection_of_stage_one_adds_what_the_sheet_says():
  without, with_ = (_count(ResNet3D(18, project=p), (1, 4, 64, 64, 3)) for p in (False, True))
  assert with_ - without == 64 * 64 + 2 * 64


def test_r2plus1d_width_keeps_the_parameters():
  whole = _count(ResNet3D(18), (1, 8, 64, 64, 3))
  matched = _count(ResNet3D(18, kernels="r2plus1d"), (1, 8, 64, 64, 3))
  assert abs(matched - whole) / whole < 0.01
  assert _count(ResNet3D(18, kernels="factorised"), (1, 8, 64, 64, 3)) < 0.55 * whole


@pytest.mark.slow
def test_centre_inflation_of_a_2d_network_gives_it_frame_by_frame():
  """Independent of padding and strides: a 3×3×3 kernel that is zero but for its middle
  slice is the 2D kernel, so the inflated network is the 2D one on every frame."""
  x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 16, 16, 3)), jnp.float32)
  flat, inflated = ResNet3D(**SMALL, kernels="2d"), ResNet3D(**SMALL)
  variables = _init(flat, x)
  target = _init(inflated, x, 1)

  def inflate(kernel, like):
    if kernel.shape == like.shape:
      return kernel
    return jnp.zeros_like(like).at[1].set(kernel[0])

  grown = jax.tree.map(inflate, variables, target)
  run = lambda model, variables: jax.jit(
      lambda v, x: model.apply(v, x, train=False)[0])(variables, x)
  np.testing.assert_allclose(run(inflated, grown), run(flat, variables), atol=1e-5)


def test_zero_init_starts_every_block_as_its_shortcut():
  x = jnp.ones((1, 2, 16, 16, 3))
  model = ResNet3D(**SMALL, zero_init=True)
  variables = _init(model, x)
  for stage in ("stage1", "stage2"):
    assert float(jnp.abs(variables["params"][stage]["block0"]["conv2"]["bn"]["scale"]).max()) == 0
  _, endpoints = jax.jit(lambda v, x: model.apply(v, x, train=False))(variables, x)
  pooled = jax.lax.reduce_window(endpoints["stem"], -jnp.inf, jax.lax.max, (1, 1, 3, 3, 1),
                                 (1, 1, 2, 2, 1), ((0, 0), (0, 0), (1, 1), (1, 1), (0, 0)))
  np.testing.assert_allclose(endpoints["stage1"], pooled, atol=1e-6)


@pytest.mark.slow
def test_training_updates_statistics_and_bfloat16_keeps_float32_parameters():
  x = jnp.asarray(np.random.default_rng(0).standard_normal((2, 2, 16, 16, 3)), jnp.float32)
  model = ResNet3D(**SMALL, kernels="factorised", dtype=jnp.bfloat16)
  variables = _init(model, x)
  (features, _), new = jax.jit(
      lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(variables, x)
  assert features.dtype == jnp.bfloat16
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(variables))
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), variables["batch_stats"],
                       new["batch_stats"])
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize("fields,word", [
    (dict(depth=20), "depth must be one of 18, 34, 50, 101, got 20"), (dict(kernels="5x5"), "5x5"),
    (dict(depth=18, kernels="3x1x1"), "bottleneck"), (dict(block="wide"), "wide"),
    (dict(spatial_strides=(1, 2)), "spatial_strides has 2 entries for 4"),
    (dict(stage_sizes=(1, 1)), "for 2 stages")])
def test_mistakes_are_named(fields, word):
  with pytest.raises(UserError, match=word):
    _shapes(ResNet3D(**fields), (1, 2, 16, 16, 3))
