"""Optimisers and schedules against hand-worked numbers and plain NumPy."""
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from actionjax.errors import UserError
from actionjax.training import optim
from actionjax.training.optim import OptimConfig


def _rates(total, **fields):
  rate = optim.schedule(OptimConfig(**fields), total)
  return np.array([float(rate(step)) for step in range(total)])


def test_constant_with_warmup():
  np.testing.assert_allclose(_rates(10, learning_rate=0.4, warmup=0.4),
                             [0.1, 0.2, 0.3, 0.4] + [0.4] * 6, rtol=1e-6)


def test_cosine_with_warmup():
  rates = _rates(12, learning_rate=1.0, schedule="cosine", warmup=1 / 6, final_ratio=0.1)
  expected = 0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi * np.arange(10) / 10))
  np.testing.assert_allclose(rates, [0.5, 1.0, *expected], rtol=1e-5)


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_drops_fall_at_their_share_of_the_whole_training(warmup):
  rates = _rates(10, learning_rate=1.0, schedule="steps", drops=(0.4, 0.8), drop=0.1,
                 warmup=warmup)
  np.testing.assert_allclose(rates[2:], [1, 1] + [0.1] * 4 + [0.01] * 2, rtol=1e-5)


@pytest.mark.parametrize("fields, message", [
    (dict(name="lamb"), "name must be one of adam, adamw, sgd, got 'lamb'"),
    (dict(schedule="poly"), "schedule must be one of constant, cosine, steps, got 'poly'"),
    (dict(learning_rate=0.0), "learning_rate must be above 0"),
    (dict(warmup=1.0), "warmup must be a share"),
    (dict(plateau_factor=1.5), "plateau_factor must lie in"),
])
def test_wrong_values_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    OptimConfig(**fields)


PARAMS = {"backbone": {"conv": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full(2, 1.0)}},
          "head": {"kernel": jnp.full((2, 3), -1.0)}}
GRADIENTS = {"backbone": {"conv": {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0]]),
                                   "bias": jnp.array([5.0, 6.0])}},
             "head": {"kernel": jnp.full((2, 3), 0.5)}}


def _update(config, freeze=(), steps=1, params=PARAMS):
  labels = optim.frozen_labels(params, freeze)
  optimiser = optim.make(config, 10, labels)
  state = optimiser.init(params)
  for _ in range(steps):
    updates, state = optimiser.update(GRADIENTS, state, params)
    params = optax.apply_updates(params, updates)
  return params, state


def test_sgd_with_momentum_and_decay_on_kernels_only():
  config = OptimConfig(name="sgd", learning_rate=0.1, momentum=0.5, weight_decay=0.01)
  found, _ = _update(config, steps=2)
  def by_hand(value, gradient, decay):
    momentum = 0.0
    for _ in range(2):
      momentum = 0.5 * momentum + gradient + decay * value
      value = value - 0.1 * momentum
    return value
  conv = found["backbone"]["conv"]
  np.testing.assert_allclose(conv["kernel"], by_hand(np.full((2, 2), 2.0), np.array(
      [[1.0, 2.0], [3.0, 4.0]]), 0.01), rtol=1e-6)
  np.testing.assert_allclose(conv["bias"], by_hand(np.ones(2), np.array([5.0, 6.0]), 0.0),
                             rtol=1e-6)


def test_decay_on_the_kernels_of_one_module():
  config = OptimConfig(name="sgd", learning_rate=0.1, momentum=0.0, weight_decay=0.5,
                       decay_on=("head/",))
  found, _ = _update(config)
  np.testing.assert_allclose(found["head"]["kernel"], -1 - 0.1 * (0.5 + 0.5 * -1), rtol=1e-6)
  np.testing.assert_allclose(found["backbone"]["conv"]["kernel"],
                             2 - 0.1 * np.array([[1.0, 2.0], [3.0, 4.0]]), rtol=1e-6)


def test_decoupled_decay_is_not_divided_by_adams_scale():
  # First step: Adam's update is the gradient's sign, whatever its size.
  decoupled, _ = _update(OptimConfig(name="adamw", learning_rate=0.1, weight_decay=0.5))
  np.testing.assert_allclose(decoupled["head"]["kernel"], -1 - 0.1 * (1 + 0.5 * -1), rtol=1e-5)
  coupled, _ = _update(OptimConfig(name="adam", learning_rate=0.1, weight_decay=0.25))
  # gradient 0.5 + 0.25 * -1 = 0.25: the sign is what counts.
  np.testing.assert_allclose(coupled["head"]["kernel"], -1.1, rtol=1e-5)
  bias = decoupled["backbone"]["conv"]["bias"]
  np.testing.assert_allclose(bias, 0.9, rtol=1e-5)  # no decay on vectors
  everything, _ = _update(OptimConfig(name="adamw", learning_rate=0.1, weight_decay=0.5,
                                      decay_all=True))
  np.testing.assert_allclose(everything["backbone"]["conv"]["bias"], 1 - 0.1 * 1.5, rtol=1e-5)


def test_frozen_parameters_count_for_nothing_in_the_norm():
  config = OptimConfig(name="sgd", learning_rate=1.0, momentum=0.0, clip_norm=0.1)
  found, state = _update(config, freeze=("backbone/",))
  np.testing.assert_array_equal(found["backbone"]["conv"]["kernel"], 2.0)
  # The head's gradient alone has norm 0.5 * sqrt(6).
  np.testing.assert_allclose(found["head"]["kernel"], -1 - 0.1 / np.sqrt(6), rtol=1e-5)
  moments = {leaf.shape for leaf in _leaves(state) if leaf.ndim}
  assert moments == {(2, 3)}  # none for the backbone's (2, 2) and (2,)


def _leaves(tree):
  import jax
  return jax.tree.leaves(tree)


def test_clipping_by_value():
  config = OptimConfig(name="sgd", learning_rate=1.0, momentum=0.0, clip_value=0.25)
  np.testing.assert_allclose(_update(config)[0]["head"]["kernel"], -1.25)


def test_freezing_by_path():
  labels = optim.frozen_labels(PARAMS, (".*/bias", "head/"))
  assert labels == {"backbone": {"conv": {"kernel": "trained", "bias": "frozen"}},
                    "head": {"kernel": "frozen"}}
  # Patterns are matched from the start of the path.
  with pytest.raises(UserError) as error:
    optim.frozen_labels(PARAMS, ("conv/",))
  assert str(error.value) == ("freeze pattern 'conv/' matches no parameter; top-level modules: "
                              "backbone, head")
  with pytest.raises(UserError, match="leave nothing to train"):
    optim.frozen_labels(PARAMS, ("backbone/", "head"))
