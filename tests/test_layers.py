"""Convolution, pooling and normalisation against direct XLA operations and NumPy."""
import functools
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax.benchmarks import convolutions
from actionjax.models import layers
from actionjax.ops import compilation, convolution, pooling

SAME = "SAME"


def _random(shape, seed=0, dtype=np.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def test_conv3d_module_has_the_same_parameters_for_every_lowering():
  x = _random((2, 4, 6, 6, 5))

  @functools.partial(jax.jit, static_argnums=1)
  def run(key, module):
    params = module.init(key, x)["params"]
    return params, module.apply({"params": {**params, "bias": jnp.ones(6)}}, x)

  outputs = []
  for lowering in convolution.LOWERINGS:
    params, y = run(jax.random.key(0, impl="rbg"), layers.Conv3D(
        6, (3, 3, 3), (1, 2, 2), use_bias=True, lowering=lowering))
    assert jax.tree.map(jnp.shape, params) == {"kernel": (3, 3, 3, 5, 6), "bias": (6,)}
    outputs.append(y)
  np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
  np.testing.assert_allclose(outputs[1], outputs[2], atol=1e-5)


def test_conv3d_module_wants_a_batch_axis():
  with pytest.raises(ValueError, match="B,T,H,W,C"):
    layers.Conv3D(6, (1, 1, 1)).init(jax.random.key(0), jnp.zeros((4, 6, 6, 3)))


def test_he_initialiser_has_the_fan_out_of_the_whole_kernel():
  kernel = jax.jit(layers.he_fan_out, static_argnums=(1, 2))(
      jax.random.key(0, impl="rbg"), (3, 3, 3, 16, 64), jnp.float32)
  assert float(kernel.std()) == pytest.approx(np.sqrt(2 / (27 * 64)), rel=0.02)


POOLS = [((3, 3, 3), (1, 1, 1), SAME), ((1, 3, 3), (1, 2, 2), SAME), ((3, 3, 3), (2, 2, 2), SAME),
         ((2, 2, 2), (2, 2, 2), "VALID"), ((1, 3, 3), (1, 1, 1), ((0, 0), (1, 1), (1, 1))),
         ((1, 3, 3), (1, 2, 2), ((0, 0), (1, 1), (1, 1)))]


def _value_and_gradient(function, x):
  @jax.jit
  def both(x):
    y, pull = jax.vjp(function, x)
    return y, *pull(_random(y.shape, 3))
  return both(x)


@pytest.mark.parametrize("window,strides,padding", POOLS)
def test_max_pools_equal_the_direct_one(window, strides, padding):
  x = _random((2, 5, 7, 8, 3)) - 3  # all negative: zeros as padding would show
  results = []
  for lowering in ("direct", "decomposed", "indexed"):
    pool = functools.partial(pooling.max_pool, window=window, strides=strides, padding=padding,
                             lowering=lowering)
    results.append(_value_and_gradient(pool, x))
  for values, gradient in results[1:]:
    np.testing.assert_array_equal(results[0][0], values)
    np.testing.assert_allclose(results[0][1], gradient, atol=1e-5)


@pytest.mark.parametrize("window,strides,padding", POOLS)
def test_indexed_max_pool_gives_ties_to_the_first_as_the_direct_one_does(window, strides, padding):
  x = jnp.round(_random((2, 5, 7, 8, 3)))
  pool = lambda lowering: lambda x: pooling.max_pool(x, window, strides, padding, lowering)
  direct, indexed = (_value_and_gradient(pool(lowering), x)[1]
                     for lowering in ("direct", "indexed"))
  np.testing.assert_allclose(indexed, direct, atol=1e-5)


def test_max_pool_shares_the_gradient_among_equal_values():
  pool = lambda x: pooling.max_pool(x, (1, 2, 2), lowering="decomposed").sum()
  np.testing.assert_allclose(jax.grad(pool)(jnp.ones((1, 1, 2, 2, 1))), 0.25)


def test_average_pool_leaves_padding_out_of_the_mean():
  x = jnp.ones((1, 4, 4, 4, 1))
  np.testing.assert_allclose(pooling.avg_pool(x, (3, 3, 3), (1, 1, 1), SAME), 1, rtol=1e-6)
  counted = pooling.avg_pool(x, (3, 3, 3), (1, 1, 1), SAME, count_include_pad=True)
  assert float(counted[0, 0, 0, 0, 0]) == pytest.approx(8 / 27)


def test_average_pool_against_numpy():
  x = _random((2, 4, 6, 6, 3))
  expected = np.asarray(x).reshape(2, 2, 2, 3, 2, 3, 2, 3).mean((2, 4, 6))
  np.testing.assert_allclose(pooling.avg_pool(x, (2, 2, 2)), expected, atol=1e-6)


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
  options = compilation.compiler_options()
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
from actionjax.ops import compilation, convolution, pooling
from actionjax.ops import compilation, convolution, pooling
mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
x = jax.random.normal(jax.random.key(0), (8, 4, 6, 6, 8))
kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 8, 8))
def loss(x, kernel):
  y = convolution.conv3d(x, kernel, (1, 2, 2), lowering="decomposed")
  return (pooling.max_pool(y, (2, 1, 1), lowering="decomposed") ** 2).sum()
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
