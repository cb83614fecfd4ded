"""Convolution, pooling and normalisation against direct XLA operations and NumPy."""
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from actionjax.benchmarks import convolutions
from actionjax.models import layers

SAME = "SAME"


def _random(shape, seed=0, dtype=np.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def _direct(x, kernel, strides, padding, groups=1):
  return lax.conv_general_dilated(x, kernel, strides, padding, feature_group_count=groups,
                                  dimension_numbers=("NTHWC", "THWIO", "NTHWC"))


def _value_and_gradients(function, x, kernel):
  @jax.jit
  def both(x, kernel):
    y, pull = jax.vjp(function, x, kernel)
    return (y, *pull(_random(y.shape, 7, y.dtype)))
  return both(x, kernel)


def _close(ours, theirs, tolerance):
  for name, a, b in zip(("value", "input gradient", "kernel gradient"), ours, theirs):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    assert a.shape == b.shape, name
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0, err_msg=name)


CASES = [
    # kernel, strides, padding, input channels, T×H×W
    ((1, 1, 1), (1, 1, 1), SAME, 5, (4, 5, 6)),
    ((1, 1, 1), (2, 2, 2), SAME, 5, (5, 6, 7)),
    ((1, 1, 1), (1, 2, 2), "VALID", 5, (3, 6, 7)),
    ((1, 1, 1), (1, 1, 1), ((1, 0), (0, 1), (0, 0)), 5, (3, 4, 5)),
    ((1, 3, 3), (1, 1, 1), SAME, 5, (3, 6, 7)),
    ((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)), 5, (3, 8, 8)),
    ((1, 3, 3), (2, 2, 2), SAME, 5, (4, 8, 7)),
    ((1, 7, 7), (1, 2, 2), ((0, 0), (3, 3), (3, 3)), 3, (2, 12, 12)),
    ((1, 2, 3), (1, 3, 4), ((0, 0), (0, 0), (1, 1)), 5, (2, 8, 9)),  # pixels that nothing reads
    ((1, 5, 4), (1, 3, 2), ((0, 0), (4, 1), (0, 3)), 5, (2, 10, 9)),
    ((3, 1, 1), (1, 1, 1), SAME, 5, (6, 4, 5)),
    ((3, 1, 1), (2, 1, 1), ((1, 1), (0, 0), (0, 0)), 5, (6, 4, 5)),
    ((3, 1, 1), (2, 2, 2), ((1, 1), (0, 0), (0, 0)), 5, (6, 4, 5)),
    ((3, 1, 1), (1, 1, 1), SAME, 12, (6, 4, 5)),  # narrows: one product for all taps
    ((4, 1, 1), (1, 1, 1), ((0, 2), (0, 0), (0, 0)), 13, (2, 4, 5)),
    ((7, 1, 1), (4, 1, 1), ((3, 3), (0, 0), (0, 0)), 5, (8, 3, 3)),
    ((3, 3, 3), (1, 1, 1), SAME, 5, (4, 6, 7)),
    ((3, 3, 3), (1, 2, 2), ((1, 1), (1, 1), (1, 1)), 5, (4, 8, 8)),
    ((3, 3, 3), (2, 2, 2), SAME, 5, (6, 8, 8)),
    ((3, 3, 3), (1, 1, 1), "VALID", 5, (5, 6, 6)),
    ((3, 3, 3), (1, 1, 1), ((2, 0), (0, 2), (1, 1)), 5, (4, 6, 6)),
    ((5, 3, 3), (1, 1, 1), SAME, 5, (2, 6, 6)),  # more taps than frames
    ((2, 2, 2), (1, 1, 1), SAME, 5, (4, 6, 7)),  # even kernels: one more zero behind
    ((2, 4, 4), (2, 2, 2), SAME, 5, (5, 8, 9)),
    ((7, 7, 7), (2, 2, 2), SAME, 3, (8, 12, 12)),
    ((3, 3, 3), (1, 1, 1), SAME, 3, (4, 6, 6)),
]


@pytest.mark.parametrize("kernel_size,strides,padding,inputs,size", CASES)
def test_decomposed_convolution_equals_the_direct_one(kernel_size, strides, padding, inputs, size):
  x = _random((2, *size, inputs))
  kernel = _random((*kernel_size, inputs, 6), 1)
  decomposed = _value_and_gradients(
      lambda x, k: layers.conv3d(x, k, strides, padding, "decomposed"), x, kernel)
  direct = _value_and_gradients(lambda x, k: _direct(x, k, strides, padding), x, kernel)
  _close(decomposed, direct, 1e-5)


@pytest.mark.parametrize("size,kernel,stride,padding", [
    (9, 3, 3, (1, 1)), (16, 5, 4, (2, 2)), (9, 2, 4, (0, 3)), (12, 3, 2, (2, -1))])
def test_strided_gradients_of_wide_convolutions(size, kernel, stride, padding):
  """As commands compile them, with enough channels for XLA's fast convolutions."""
  x, kernel = _random((2, 1, size, size, 16)), _random((1, kernel, kernel, 16, 32), 1)
  pads = ((0, 0), padding, padding)

  def gradients(convolve):
    return jax.jit(lambda x, k: jax.vjp(convolve, x, k)[1](jnp.sin(jnp.arange(
        convolve(x, k).size, dtype=jnp.float32)).reshape(convolve(x, k).shape)),
                   compiler_options=layers.compiler_options())(x, kernel)

  ours = gradients(lambda x, k: layers.conv3d(x, k, (1, stride, stride), pads, "decomposed"))
  # The reference takes no strides or crops: every pixel, of which some are kept.
  padded = lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0)] * 2 + [(*padding, 0)] * 2 + [(0, 0, 0)])
  dense = gradients(lambda x, k: _direct(padded(x), k, (1, 1, 1), "VALID")[
      :, :, ::stride, ::stride])
  _close(ours, dense, 1e-5)


def test_an_empty_batch_has_gradients():
  x, kernel = jnp.zeros((0, 1, 7, 2, 2)), _random((1, 3, 3, 2, 3))
  found = jax.grad(lambda x: layers.conv3d(x, kernel, (1, 2, 2), SAME, "decomposed").sum())(x)
  assert found.shape == x.shape


@pytest.mark.parametrize("kernel_size,strides", [((1, 3, 3), (1, 2, 2)), ((3, 1, 1), (1, 1, 1)),
                                                 ((3, 3, 3), (1, 1, 1)), ((1, 1, 1), (1, 1, 1))])
def test_bfloat16_keeps_its_type_and_sums_in_float32(kernel_size, strides):
  x = _random((2, 4, 6, 6, 8), dtype=jnp.bfloat16)
  kernel = _random((*kernel_size, 8, 8), 1, jnp.bfloat16)
  ours = _value_and_gradients(
      lambda x, k: layers.conv3d(x, k, strides, SAME, "decomposed"), x, kernel)
  exact = _value_and_gradients(lambda x, k: _direct(x, k, strides, SAME),
                               x.astype(jnp.float32), kernel.astype(jnp.float32))
  assert all(a.dtype == jnp.bfloat16 for a in ours)
  # One rounding to bfloat16 (8 bits), not one for each tap.
  _close(ours, exact, 2**-8)


def test_convolution_on_one_axis_by_hand():
  x = jnp.arange(1.0, 6.0).reshape(1, 5, 1, 1, 1)
  kernel = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1, 1)
  y = layers.conv3d(x, kernel, lowering="decomposed")
  np.testing.assert_array_equal(y.ravel(), [210, 321, 432, 543, 54])


@pytest.mark.parametrize("kernel_size,strides", [((3, 3, 3), (1, 2, 2)), ((5, 1, 1), (1, 1, 1))])
def test_depthwise_equals_the_direct_one(kernel_size, strides):
  x, kernel = _random((2, 5, 6, 6, 4)), _random((*kernel_size, 1, 4), 1)
  ours = _value_and_gradients(
      lambda x, k: layers.conv3d(x, k, strides, SAME, "decomposed", 4), x, kernel)
  _close(ours, _value_and_gradients(lambda x, k: _direct(x, k, strides, SAME, 4), x, kernel), 1e-5)


def test_grouped_convolution_equals_the_direct_one():
  x, kernel = _random((1, 3, 5, 5, 6)), _random((3, 3, 3, 3, 4), 1)
  ours = layers.conv3d(x, kernel, lowering="decomposed", feature_group_count=2)
  np.testing.assert_allclose(ours, _direct(x, kernel, (1, 1, 1), SAME, 2), atol=1e-5)


@pytest.mark.parametrize("size,window,stride,expected", [
    (224, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (14, 2, 2, (0, 0)), (7, 3, 2, (1, 1)),
    (8, 3, 1, (1, 1)), (8, 2, 1, (0, 1)), (5, 1, 2, (0, 0))])
def test_same_padding_puts_the_odd_zero_behind(size, window, stride, expected):
  assert layers.same_padding((size,), (window,), (stride,)) == (expected,)


@pytest.mark.parametrize("arguments", [dict(lowering="fast"), dict(padding="FULL"),
                                       dict(padding=((1, 1),))])
def test_bad_arguments_are_named(arguments):
  with pytest.raises(ValueError, match="fast|FULL|pairs"):
    layers.conv3d(jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((1, 1, 1, 1, 1)), **arguments)


def test_conv3d_module_has_the_same_parameters_for_every_lowering():
  x = _random((2, 4, 6, 6, 5))
  outputs = []
  for lowering in layers.LOWERINGS:
    module = layers.Conv3D(6, (3, 3, 3), (1, 2, 2), use_bias=True, lowering=lowering)
    variables = module.init(jax.random.key(0), x)
    shapes = jax.tree.map(jnp.shape, variables["params"])
    assert shapes == {"kernel": (3, 3, 3, 5, 6), "bias": (6,)}
    outputs.append(module.apply({"params": {**variables["params"], "bias": jnp.ones(6)}}, x))
  np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
  np.testing.assert_allclose(outputs[1], outputs[2], atol=1e-5)


def test_conv3d_module_wants_a_batch_axis():
  with pytest.raises(ValueError, match="B,T,H,W,C"):
    layers.Conv3D(6, (1, 1, 1)).init(jax.random.key(0), jnp.zeros((4, 6, 6, 3)))


def test_he_initialiser_has_the_fan_out_of_the_whole_kernel():
  kernel = layers.he_fan_out(jax.random.key(0), (3, 3, 3, 16, 64), jnp.float32)
  assert float(kernel.std()) == pytest.approx(np.sqrt(2 / (27 * 64)), rel=0.02)


POOLS = [((3, 3, 3), (1, 1, 1), SAME), ((1, 3, 3), (1, 2, 2), SAME), ((3, 3, 3), (2, 2, 2), SAME),
         ((2, 2, 2), (2, 2, 2), "VALID"), ((1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
         ((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))]


@pytest.mark.parametrize("window,strides,padding", POOLS)
def test_decomposed_max_pool_equals_the_direct_one(window, strides, padding):
  x = _random((2, 5, 7, 8, 3)) - 3  # all negative: zeros as padding would show
  results = []
  for lowering in ("direct", "decomposed"):
    pool = functools.partial(layers.max_pool, window=window, strides=strides, padding=padding,
                             lowering=lowering)
    y, pull = jax.vjp(pool, x)
    results.append((y, pull(_random(y.shape, 3))[0]))
  np.testing.assert_array_equal(results[0][0], results[1][0])
  np.testing.assert_allclose(results[0][1], results[1][1], atol=1e-6)


def test_max_pool_shares_the_gradient_among_equal_values():
  pool = lambda x: layers.max_pool(x, (1, 2, 2), lowering="decomposed").sum()
  np.testing.assert_allclose(jax.grad(pool)(jnp.ones((1, 1, 2, 2, 1))), 0.25)


def test_average_pool_leaves_padding_out_of_the_mean():
  x = jnp.ones((1, 4, 4, 4, 1))
  np.testing.assert_allclose(layers.avg_pool(x, (3, 3, 3), (1, 1, 1), SAME), 1, rtol=1e-6)
  counted = layers.avg_pool(x, (3, 3, 3), (1, 1, 1), SAME, count_include_pad=True)
  assert float(counted[0, 0, 0, 0, 0]) == pytest.approx(8 / 27)


def test_average_pool_against_numpy():
  x = _random((2, 4, 6, 6, 3))
  expected = np.asarray(x).reshape(2, 2, 2, 3, 2, 3, 2, 3).mean((2, 4, 6))
  np.testing.assert_allclose(layers.avg_pool(x, (2, 2, 2)), expected, atol=1e-6)


def test_batch_norm_keeps_float32_statistics_of_bfloat16_input():
  x = _random((4, 3, 5, 5, 2)) * 3 + 1
  module = layers.batch_norm(0.9, 1e-3, use_scale=False)(train=True, dtype=jnp.bfloat16)
  variables = module.init(jax.random.key(0), x)
  assert set(variables["params"]) == {"bias"}
  y, new = module.apply(variables, x.astype(jnp.bfloat16), mutable=["batch_stats"])
  assert y.dtype == jnp.bfloat16
  mean = np.asarray(x).mean((0, 1, 2, 3))
  assert new["batch_stats"]["mean"].dtype == jnp.float32
  np.testing.assert_allclose(new["batch_stats"]["mean"], 0.1 * mean, atol=2e-3)


def test_compiler_options_are_accepted_by_this_jax():
  options = layers.compiler_options()
  assert float(jax.jit(lambda x: x * 2, compiler_options=options)(3.0)) == 6


def test_factorised_unit_has_two_kernels_and_the_whole_units_shape():
  x = _random((1, 4, 6, 6, 5))
  unit = layers.ConvUnit(8, (3, 3, 3), (2, 2, 2), factorised=7)
  y, variables = jax.eval_shape(
      lambda x: unit.init_with_output(jax.random.key(0), x, train=False), x)
  kernels = {name: part["kernel"].shape for name, part in variables["params"].items()
             if "kernel" in part}
  assert kernels == {"spatial": (1, 3, 3, 5, 7), "conv": (3, 1, 1, 7, 8)}
  assert y.shape == (1, 2, 3, 3, 8)


@pytest.mark.slow
def test_convolution_benchmark_reports_every_kernel_and_the_sum(capsys):
  rows = convolutions.run(rounds=1, shape=(1, 2, 4, 4))
  assert [row["kernel"] for row in rows] == [k[0] for k in convolutions.KERNELS] + ["sum"]
  assert rows[-1]["ours"] == pytest.approx(sum(row["ours"] for row in rows[:-1]))
  assert "ours/direct" in capsys.readouterr().out


_SHARDED = """
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from actionjax.models import layers
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
x = jax.random.normal(jax.random.key(0), (8, 4, 6, 6, 8))
kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 8, 8))
def loss(x, kernel):
  y = layers.conv3d(x, kernel, (1, 2, 2), lowering="decomposed")
  return (layers.max_pool(y, (2, 1, 1), lowering="decomposed") ** 2).sum()
step = jax.jit(jax.grad(loss, (0, 1)))
text = step.lower(jax.device_put(x, sharding), kernel).compile().as_text()
for moved in ("all-gather(", "all-to-all(", "collective-permute("):
  assert moved not in text, moved
for one, four in zip(step(x, kernel), step(jax.device_put(x, sharding), kernel)):
  assert float(abs(one - four).max()) <= 1e-5 * float(abs(one).max())
print("agree")
"""


@pytest.mark.slow
def test_a_sharded_batch_stays_on_its_devices():
  environment = {**os.environ, "JAX_PLATFORMS": "cpu",
                 "XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
  result = subprocess.run([sys.executable, "-c", _SHARDED], env=environment, text=True,
                          capture_output=True, timeout=300, check=False)
  assert result.stdout.strip() == "agree", result.stderr
