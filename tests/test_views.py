"""Views of a clip: slices of them that fit into memory, what counts of them, whose they are."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import planning
from actionjax.evaluators import classification
from actionjax.evaluators.classification import ViewConfig, fitting_batch, views_at_once
from actionjax.ops import memory


class _Mean:
  """A model whose two logits are the mean of a view and its negative."""
  inputs = ("pose2d",)

  def apply(self, variables, batch, train):
    mean = batch["pose2d"].mean((1, 2, 3, 4)) * variables["scale"]
    return jnp.stack([mean, -mean], -1), {"stream_logits": {"mean": jnp.stack([mean, mean], -1)}}


def _batch(size=3, views=6):
  pose = np.random.default_rng(0).normal(size=(size, views, 1, 2, 3, 2)).astype(np.float32)
  return {"pose2d": pose, "label": np.zeros(size, np.int32), "valid": np.ones(size, np.float32)}


def _probabilities(batch, scale=3.0):
  mean = batch["pose2d"].mean((2, 3, 4, 5)) * scale
  return np.stack([1 / (1 + np.exp(-2 * mean)), 1 / (1 + np.exp(2 * mean))], -1)  # [B,V,2]


@pytest.mark.parametrize("budget", [1, 100, 200, 10**6])
@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_slices_change_nothing(budget, aggregate):
  views = ViewConfig(temporal=6, aggregate=aggregate)
  step = classification.make_view_step(_Mean(), views, needed=30, budget=budget)
  found, streams = step({"scale": 3.0}, _batch())
  expected = getattr(_probabilities(_batch()), aggregate)(1)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(streams["mean"], np.full((3, 2), 0.5), rtol=1e-5)


def test_slices_really_are_small():
  """The program is a loop of three turns, two views each."""
  views = ViewConfig(temporal=6)
  step = classification.make_view_step(_Mean(), views, needed=30, budget=200)  # 2 views x 3 clips
  program = step.trace({"scale": 3.0}, _batch()).jaxpr.jaxpr
  loops = [equation for equation in _equations(program) if equation.primitive.name == "scan"]
  assert [loop.params["length"] for loop in loops] == [3]


def _equations(program):
  for equation in program.eqns:
    yield equation
    for inner in memory.inner_programs(equation):
      yield from _equations(inner)


@pytest.mark.parametrize("aggregate", ["mean", "max"])
def test_views_that_are_none_count_for_nothing(aggregate):
  batch = _batch() | {"view_valid": np.float32([[1] * 6, [1, 1, 0, 0, 0, 0], [0] * 6])}
  step = classification.make_view_step(_Mean(), ViewConfig(temporal="all", aggregate=aggregate))
  found, _ = step({"scale": 3.0}, batch)
  every = _probabilities(batch)
  np.testing.assert_allclose(found[0], getattr(every[0], aggregate)(0), rtol=1e-5)
  np.testing.assert_allclose(found[1], getattr(every[1, :2], aggregate)(0), rtol=1e-5)
  assert np.isfinite(found[2]).all()


@pytest.mark.parametrize("views, clips, needed, budget, expected", [
    (20, 8, 100, 10**6, 20), (20, 8, 100, 8 * 100 * 9, 5), (20, 8, 100, 8 * 100 * 10, 10),
    (20, 8, 100, 1, 1), (7, 1, 1, 6, 1), (1, 4, 5, 100, 1)])
def test_views_at_once_divide(views, clips, needed, budget, expected):
  assert views_at_once(views, clips, needed, budget) == expected


@pytest.mark.parametrize("batch_size, devices, needed, budget, expected", [
    (16, 1, 100, 10**6, 16), (16, 1, 100, 350, 3), (16, 1, 100, 1, 1), (16, 4, 100, 250, 8),
    (16, 4, 100, 1, 4), (16, 8, 0, 1, 8)])
def test_batches_fit(batch_size, devices, needed, budget, expected):
  assert fitting_batch(batch_size, devices, needed, budget) == expected


def test_peak_of_a_chain_is_its_two_neighbours():
  kilo = jax.ShapeDtypeStruct((256,), jnp.float32)  # 1 KiB

  def chain(x):
    for _ in range(5):
      x = jnp.sin(x)
    return x
  assert memory.peak_bytes(chain, kilo) == 2 * 1024
  # What is still to be read lives on: x, three sines, and the sum that is made of two of them.
  keep = lambda x: functools.reduce(jnp.add, [jnp.sin(x * k) for k in (1.0, 2.0, 3.0)])
  assert 4 * 1024 <= memory.peak_bytes(keep, kilo) <= 5 * 1024 + 64
  # Within a call or a loop as outside.
  assert memory.peak_bytes(jax.jit(chain), kilo) == 2 * 1024
  looped = lambda x: jax.lax.map(lambda y: jnp.outer(y, y).sum(), x)
  matrix = jax.ShapeDtypeStruct((4, 256), jnp.float32)
  assert memory.peak_bytes(looped, matrix) > 256 * 1024  # one outer product, not four
  assert memory.peak_bytes(looped, matrix) < 2 * 256 * 1024 + 8 * 1024


def test_views_of_the_runs_evaluation_are_the_models(tiny_data_dir):
  data = dict(dataset="synthetic_actions", variant="tiny", protocol="cross_subject",
              pose=dict(num_poses=4))
  model = dict(name="pose_network", pose=dict(name="gcn", features=8, conv_features=(8,)))
  train = dict(kind="train", model=model, num_steps=1)
  plan = planning.plan(dict(name="x", data_dir=tiny_data_dir, data=data, batch_size=4, steps=(
      dict(train, name="first"), dict(train, name="second"), dict(train, name="third"),
      dict(kind="evaluate", name="a", split="train", model_from="first", views=dict(temporal=2)),
      dict(kind="evaluate", name="b", model_from="first", views=dict(temporal=3)),
      dict(kind="evaluate", name="c", model_from="first", views=dict(temporal=4)),
      dict(kind="evaluate", name="d", split="train", views=dict(temporal=5, aggregate="max")))))
  views = plan.test_views()
  assert {name: found["temporal"] for name, found in views.items()} == {"first": 3, "third": 5}
  assert views["third"]["aggregate"] == "max"
