"""The 3D convolution's lowerings against direct XLA operations and numbers worked out by hand."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from actionjax.ops import compilation, convolution, lowerings, pooling

SAME = "SAME"


def _random(shape, seed=0, dtype=np.float32):
  return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def _direct(x, kernel, strides, padding, groups=1):
  return lax.conv_general_dilated(x, kernel, strides, padding, feature_group_count=groups,
                                  dimension_numbers=("NTHWC", "THWIO", "NTHWC"))


def _value_and_gradients(function, x, kernel):
  return _all_values_and_gradients([function], x, kernel)[0]


def _all_values_and_gradients(functions, x, kernel):
  """Of each function, all in one program: most of a test's time is compilation."""
  @jax.jit
  def run(x, kernel):
    found = []
    for function in functions:
      y, pull = jax.vjp(function, x, kernel)
      found.append((y, *pull(_random(y.shape, 7, y.dtype))))
    return found
  return run(x, kernel)


def _close(ours, theirs, tolerance, what=""):
  for name, a, b in zip(("value", "input gradient", "kernel gradient"), ours, theirs):
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    assert a.shape == b.shape, (name, what)
    np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0,
                               err_msg=f"{name} {what}")


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


# Every way for everything, and one that computes each gradient in another way than itself.
WAYS = [*(convolution.Ways(name, name, name) for name in lowerings.WAYS),
        convolution.Ways("stacked", "decomposed", "direct")]


@pytest.mark.parametrize("kernel_size,strides,padding,inputs,size", CASES)
def test_every_lowering_equals_one_direct_convolution(kernel_size, strides, padding, inputs, size,
                                                      monkeypatch):
  x = _random((2, *size, inputs))
  kernel = _random((*kernel_size, inputs, 6), 1)

  def convolve(x, kernel, ways):
    monkeypatch.setattr(convolution, "auto_ways", lambda kind: ways)
    return convolution.conv3d(x, kernel, strides, padding)

  direct, *ours = _all_values_and_gradients(
      [lambda x, k: _direct(x, k, strides, padding),
       *(functools.partial(convolve, ways=ways) for ways in WAYS)], x, kernel)
  for found, ways in zip(ours, WAYS, strict=True):
    _close(found, direct, 1e-5, ways)


def test_each_gradient_takes_its_own_way(monkeypatch):
  called = []
  for name, way in lowerings.WAYS.items():
    def counted(*args, name=name, way=way):
      called.append(name)
      return way(*args)
    monkeypatch.setitem(lowerings.WAYS, name, counted)
  monkeypatch.setattr(convolution, "auto_ways",
                      lambda kind: convolution.Ways("direct", "folded", "stacked"))
  x, kernel = _random((1, 3, 4, 4, 5)), _random((3, 3, 3, 5, 6))
  jax.eval_shape(jax.grad(lambda x, k: convolution.conv3d(x, k).sum(), (0, 1)), x, kernel)
  assert [name for name in called if name != "direct"] == ["folded", "stacked"]
  assert "direct" in called


@pytest.mark.parametrize("kernel,strides,inputs,kind", [
    ((1, 1, 1, 8, 4), (1, 2, 2), 8, "pointwise"), ((1, 3, 3, 8, 4), (1, 1, 1), 8, "spatial"),
    ((1, 7, 7, 17, 4), (1, 2, 2), 17, "spatial_strided"),
    ((5, 1, 1, 8, 4), (1, 1, 1), 8, "temporal"),
    ((7, 7, 7, 3, 64), (2, 2, 2), 3, "stem"), ((1, 7, 7, 3, 64), (1, 2, 2), 3, "stem"),
    ((3, 3, 3, 8, 4), (1, 1, 1), 8, "full"), ((3, 3, 3, 8, 4), (1, 2, 2), 8, "full_strided"),
    ((3, 3, 3, 1, 8), (1, 2, 2), 8, "depthwise"), ((3, 3, 3, 4, 8), (1, 1, 1), 8, "grouped")])
def test_kinds_of_kernels(kernel, strides, inputs, kind):
  assert convolution.kind(kernel, strides, inputs) == kind and kind in convolution.KINDS


def test_auto_reads_what_was_measured_on_the_backend():
  for backend, measured in convolution.measured_file().items():
    assert measured["device"] and measured["date"]
    assert set(measured["max_pool"]) == {"spatial", "full"}
    assert set(measured["max_pool"].values()) <= set(pooling.LOWERINGS[1:])
    for kind, ways in measured["kinds"].items():
      assert kind in convolution.KINDS
      assert convolution.auto_ways(kind, backend) == convolution.Ways(**ways)
      assert set(ways.values()) <= set(lowerings.WAYS)
  assert convolution.auto_ways("full", "cpu") == ("decomposed",) * 3
  # Nothing is measured there: what XLA does by itself.
  assert convolution.auto_ways("full", "another") == ("direct",) * 3
  assert convolution.auto_ways("grouped", "cpu") == ("direct",) * 3


def test_forcing_a_lowering_ends_with_its_block():
  before = convolution.auto_ways("full")
  with pytest.raises(RuntimeError), convolution.forced("stacked"):
    assert convolution.auto_ways("full") == ("stacked",) * 3
    raise RuntimeError
  with convolution.forced("auto"):
    assert convolution.auto_ways("full") == before
  with pytest.raises(ValueError, match="unknown lowering 'fast'"), convolution.forced("fast"):
    pass


@pytest.mark.parametrize("size,kernel,stride,padding", [
    (9, 3, 3, (1, 1)), (16, 5, 4, (2, 2)), (9, 2, 4, (0, 3)), (12, 3, 2, (2, -1))])
def test_strided_gradients_of_wide_convolutions(size, kernel, stride, padding):
  """As commands compile them, with enough channels for XLA's fast convolutions."""
  x, kernel = _random((2, 1, size, size, 16)), _random((1, kernel, kernel, 16, 32), 1)
  pads = ((0, 0), padding, padding)

  def gradients(convolve):
    return jax.jit(lambda x, k: jax.vjp(convolve, x, k)[1](jnp.sin(jnp.arange(
        convolve(x, k).size, dtype=jnp.float32)).reshape(convolve(x, k).shape)),
                   compiler_options=compilation.compiler_options())(x, kernel)

  ours = gradients(lambda x, k: convolution.conv3d(x, k, (1, stride, stride), pads, "decomposed"))
  # The reference takes no strides or crops: every pixel, of which some are kept.
  padded = lambda x: jax.lax.pad(x, 0.0, [(0, 0, 0)] * 2 + [(*padding, 0)] * 2 + [(0, 0, 0)])
  dense = gradients(lambda x, k: _direct(padded(x), k, (1, 1, 1), "VALID")[
      :, :, ::stride, ::stride])
  _close(ours, dense, 1e-5)


def test_an_empty_batch_has_gradients():
  x, kernel = jnp.zeros((0, 1, 7, 2, 2)), _random((1, 3, 3, 2, 3))
  found = jax.grad(lambda x: convolution.conv3d(x, kernel, (1, 2, 2), SAME, "decomposed").sum())(x)
  assert found.shape == x.shape


@pytest.mark.parametrize("kernel_size,strides", [((1, 3, 3), (1, 2, 2)), ((3, 1, 1), (1, 1, 1)),
                                                 ((3, 3, 3), (1, 1, 1)), ((1, 1, 1), (1, 1, 1))])
def test_bfloat16_keeps_its_type_and_sums_in_float32(kernel_size, strides):
  x = _random((2, 4, 6, 6, 8), dtype=jnp.bfloat16)
  kernel = _random((*kernel_size, 8, 8), 1, jnp.bfloat16)
  ours = _value_and_gradients(
      lambda x, k: convolution.conv3d(x, k, strides, SAME, "decomposed"), x, kernel)
  exact = _value_and_gradients(lambda x, k: _direct(x, k, strides, SAME),
                               x.astype(jnp.float32), kernel.astype(jnp.float32))
  assert all(a.dtype == jnp.bfloat16 for a in ours)
  # One rounding to bfloat16 (8 bits), not one for each tap.
  _close(ours, exact, 2**-8)


def test_convolution_on_one_axis_by_hand():
  x = jnp.arange(1.0, 6.0).reshape(1, 5, 1, 1, 1)
  kernel = jnp.array([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1, 1)
  y = convolution.conv3d(x, kernel, lowering="decomposed")
  np.testing.assert_array_equal(y.ravel(), [210, 321, 432, 543, 54])


@pytest.mark.parametrize("kernel_size,strides", [((3, 3, 3), (1, 2, 2)), ((5, 1, 1), (1, 1, 1))])
def test_depthwise_equals_the_direct_one(kernel_size, strides):
  x, kernel = _random((2, 5, 6, 6, 4)), _random((*kernel_size, 1, 4), 1)
  direct, *ours = _all_values_and_gradients(
      [lambda x, k: _direct(x, k, strides, SAME, 4),
       *(lambda x, k, way=way: convolution.conv3d(x, k, strides, SAME, way, 4)
         for way in lowerings.WAYS)], x, kernel)
  for found, way in zip(ours, lowerings.WAYS, strict=True):
    _close(found, direct, 1e-5, way)


def test_grouped_convolution_equals_the_direct_one():
  x, kernel = _random((1, 3, 5, 5, 6)), _random((3, 3, 3, 3, 4), 1)
  for lowering in lowerings.WAYS:
    ours = convolution.conv3d(x, kernel, lowering=lowering, feature_group_count=2)
    np.testing.assert_allclose(ours, _direct(x, kernel, (1, 1, 1), SAME, 2), atol=1e-5)


@pytest.mark.parametrize("size,window,stride,expected", [
    (224, 7, 2, (2, 3)), (112, 3, 2, (0, 1)), (14, 2, 2, (0, 0)), (7, 3, 2, (1, 1)),
    (8, 3, 1, (1, 1)), (8, 2, 1, (0, 1)), (5, 1, 2, (0, 0))])
def test_same_padding_puts_the_odd_zero_behind(size, window, stride, expected):
  assert convolution.same_padding((size,), (window,), (stride,)) == (expected,)


@pytest.mark.parametrize("arguments", [dict(lowering="fast"), dict(padding="FULL"),
                                       dict(padding=((1, 1),))])
def test_bad_arguments_are_named(arguments):
  with pytest.raises(ValueError, match="fast|FULL|pairs"):
    convolution.conv3d(jnp.zeros((1, 2, 2, 2, 1)), jnp.zeros((1, 1, 1, 1, 1)), **arguments)
