"""Losses against NumPy; padding counts for nothing; gradients stay finite."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from actionjax.training import losses

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(4, 5)).astype(np.float32)
BATCH = {"label": np.array([1, 4, 0, 2], np.int32), "valid": np.array([1, 1, 0, 1], np.float32)}
OUT = {"attention_spatial": RNG.random((4, 2, 3)).astype(np.float32),
       "attention_temporal": special.softmax(RNG.normal(size=(4, 3)), -1).astype(np.float32),
       "embedding_visual": RNG.normal(size=(4, 6)).astype(np.float32),
       "embedding_pose": RNG.normal(size=(4, 6)).astype(np.float32)}


def _valid_mean(values):
  return np.mean(values[BATCH["valid"] > 0])


def _cross_entropy(smoothing=0.0):
  targets = np.eye(5)[BATCH["label"]] * (1 - smoothing) + smoothing / 5
  return _valid_mean(-(targets * special.log_softmax(LOGITS.astype(np.float64), -1)).sum(-1))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
  value, parts = losses.cross_entropy(LOGITS, {}, BATCH, {}, label_smoothing=smoothing)
  assert float(value) == pytest.approx(_cross_entropy(smoothing), rel=1e-5) and parts == {}


def test_two_streams_have_a_loss_each():
  other = np.random.default_rng(5).normal(size=(4, 5)).astype(np.float32)
  value, parts = losses.two_stream(
      other, {"stream_logits": {"pose": other, "rgb": LOGITS}}, BATCH, {}, rgb=2.0, pose=0.5,
      label_smoothing=0.1)
  targets = np.eye(5)[BATCH["label"]] * 0.9 + 0.1 / 5
  pose = _valid_mean(-(targets * special.log_softmax(other.astype(np.float64), -1)).sum(-1))
  assert float(parts["cross_entropy_rgb"]) == pytest.approx(_cross_entropy(0.1), rel=1e-5)
  assert float(parts["cross_entropy_pose"]) == pytest.approx(pose, rel=1e-5)
  assert float(value) == pytest.approx(2 * _cross_entropy(0.1) + 0.5 * pose, rel=1e-5)


def test_vpn_is_the_weighted_sum_of_its_parts():
  # lambda_1 CE + (1 - lambda_1) L_e + lambda_2 L_a with lambda_1 = 0.8, lambda_2 = 1e-5.
  visual, pose = (OUT[key] / np.sqrt(np.square(OUT[key]).sum(-1, keepdims=True) + 0.1)
                  for key in ("embedding_visual", "embedding_pose"))
  embedding = _valid_mean(np.square(visual - pose).sum(-1))
  attention = _valid_mean(np.square(OUT["attention_spatial"]).sum((1, 2))
                          + np.square(1 - OUT["attention_temporal"]).sum(1))
  value, parts = losses.vpn(LOGITS, OUT, BATCH, {})
  assert float(parts["cross_entropy"]) == pytest.approx(_cross_entropy(), rel=1e-5)
  assert float(parts["embedding"]) == pytest.approx(embedding, rel=1e-4)
  assert float(parts["attention"]) == pytest.approx(attention, rel=1e-5)
  assert float(value) == pytest.approx(
      0.8 * _cross_entropy() + 0.2 * embedding + 1e-5 * attention, rel=1e-5)


def test_vpn_leaves_out_what_the_model_does_not_have():
  value, parts = losses.vpn(LOGITS, {"features": 1}, BATCH, {})
  assert float(value) == pytest.approx(0.8 * _cross_entropy(), rel=1e-5)
  assert set(parts) == {"cross_entropy"}
  _, parts = losses.vpn(LOGITS, {"attention_temporal": OUT["attention_temporal"]}, BATCH, {})
  assert float(parts["attention"]) == pytest.approx(
      _valid_mean(np.square(1 - OUT["attention_temporal"]).sum(1)), rel=1e-5)


def test_divergences_and_the_released_distance():
  visual, pose = (OUT[k].astype(np.float64) for k in ("embedding_visual", "embedding_pose"))
  v, p = special.softmax(visual, -1), special.softmax(pose, -1)
  expected = {"kl_visual_pose": special.rel_entr(v, p).sum(-1),
              "kl_pose_visual": special.rel_entr(p, v).sum(-1),
              "manhattan": np.abs(visual - pose).sum(-1) ** 2}
  expected["kl_both"] = expected["kl_visual_pose"] + expected["kl_pose_visual"]
  for kind, value in expected.items():
    np.testing.assert_allclose(
        losses.embedding_distance(OUT["embedding_visual"], OUT["embedding_pose"], kind), value,
        rtol=1e-4)
  with pytest.raises(ValueError, match="unknown embedding_loss 'cosine'"):
    losses.embedding_distance(visual, pose, "cosine")


def test_released_attention_penalty():
  expected = (np.square(1 - OUT["attention_spatial"].sum((1, 2)))
              + np.square(1 - OUT["attention_temporal"].sum(1)))
  np.testing.assert_allclose(losses.attention_penalty(OUT, "released"), expected, rtol=1e-4)
  # It has no gradient for a softmax, whose sum is 1 whatever the scores.
  gradient = jax.grad(lambda z: losses.attention_penalty(
      {"attention_temporal": jax.nn.softmax(z)}, "released").sum())(jnp.arange(3.0)[None])
  np.testing.assert_allclose(gradient, 0, atol=1e-6)
  with pytest.raises(ValueError, match="unknown attention_loss 'mean'"):
    losses.attention_penalty(OUT, "mean")


@pytest.mark.parametrize("loss", [losses.cross_entropy, losses.vpn])
def test_invalid_rows_count_for_nothing(loss):
  changed = LOGITS.copy()
  changed[2] = 100.0
  out = {key: value.copy() for key, value in OUT.items()}
  for value in out.values():
    value[2] = 7.0
  before, _ = loss(LOGITS, OUT, BATCH, {})
  after, _ = loss(changed, out, BATCH, {})
  assert float(before) == float(after)
  nothing = {**BATCH, "valid": np.zeros(4, np.float32)}
  value, gradient = jax.value_and_grad(lambda x: loss(x, OUT, nothing, {})[0])(LOGITS)
  assert float(value) == 0 and not np.asarray(gradient).any()


@pytest.mark.parametrize("kind", ["l2", "manhattan", "kl_both"])
def test_embedding_gradient_is_finite_at_zero(kind):
  zero = jnp.zeros((2, 6))
  for other in (zero, zero + 1.0):
    gradients = jax.grad(lambda v, p: losses.embedding_distance(v, p, kind).sum(), (0, 1))(
        zero, other)
    assert all(np.isfinite(g).all() for g in gradients)
