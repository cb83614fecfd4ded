"""VPN: its start, its modulation against NumPy, its switches, its persons."""
import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from actionjax import configuration, models, skeletons
from actionjax.errors import UserError
from actionjax.models import pose_backbones, vpn
from actionjax.training import initialise, losses
from actionjax.training.state import path_names

LAYOUT = "kinect_v1_20"
BACKBONE = dict(name="resnet3d", block="basic", stage_sizes=(1,), width=8, kernels="2d",
                spatial_strides=(2,), temporal_strides=(2,), stem_pool=())
POSE = dict(name="gcn", features=8, conv_features=(8,))
GRID = (2, 4, 4)  # t, h, w of the feature map of BATCH


def _batch(size=3, persons=1, frames=4, poses=4, joints=20):
  rng = np.random.default_rng(0)
  return {"video": rng.integers(0, 256, (size, frames, 16, 16, 3), np.uint8),
          "pose3d": rng.normal(size=(size, persons, poses, joints, 3)).astype(np.float32),
          "pose_score": np.ones((size, persons, poses, joints), np.float32),
          "label": np.arange(size, dtype=np.int32), "valid": np.ones(size, np.float32)}


def _model(**fields):
  config = dict(name="vpn", backbone=BACKBONE, pose=POSE, embedding_features=8,
                attention_width=(8, 8)) | fields
  return models.create(config, num_classes=5, layout=LAYOUT)


def _init(model, *inputs, seed=0):
  key = jax.random.key(seed, impl="rbg")  # compiles ten times as fast as the default
  return jax.jit(lambda key, *b: model.init({"params": key}, *b, train=False))(key, *inputs)


def _apply(model, variables, *inputs):
  return jax.jit(lambda v, *b: model.apply(v, *b, train=False))(variables, *inputs)


def _shapes(model, batch=None):
  return jax.eval_shape(lambda b: model.init({"params": jax.random.key(0)}, b, train=False),
                        batch or _batch())


@functools.cache
def _default():
  """A default model, its variables with random score weights, and its jitted forward."""
  model = _model()
  variables = flax.core.unfreeze(_init(model, _batch()))
  forward = jax.jit(lambda v, b: model.apply(v, b, train=False))
  return model, variables, forward


@functools.cache
def _training():
  """The default model's jitted forward in training."""
  return jax.jit(lambda v, b: _default()[0].apply(v, b, train=True, mutable=["batch_stats"],
                                                  rngs={"dropout": jax.random.key(1)}))


def _random_scores(variables, seed=1):
  rng = np.random.default_rng(seed)
  flat = flax.traverse_util.flatten_dict(variables)
  for key, value in flat.items():
    if key[-2] in ("spatial_scores", "temporal_scores"):
      flat[key] = jnp.asarray(rng.normal(size=value.shape), jnp.float32)
  return flax.traverse_util.unflatten_dict(flat)


COUPLER = dict(attention_width=(8, 8), embedding_features=8)


@functools.cache
def _coupler_variables():
  batch = _batch()
  return _init(vpn.VPNCoupler(LAYOUT, POSE, **COUPLER), _feature_map(), batch["pose3d"],
               batch["pose_score"])


def _coupler(variables, **fields):
  """(maps, out) of the coupler alone."""
  batch = _batch()
  return _apply(vpn.VPNCoupler(LAYOUT, POSE, **COUPLER, **fields), variables, _feature_map(),
                batch["pose3d"], batch["pose_score"])


def _feature_map(size=3, channels=6):
  return np.random.default_rng(3).normal(size=(size, *GRID, channels)).astype(np.float32)


@pytest.mark.slow
def test_attention_starts_equal():
  _, variables, forward = _default()
  batch = _batch()
  logits, out = forward(variables, batch)
  t, h, w = GRID
  assert out["feature_map"].shape[1:4] == GRID
  np.testing.assert_array_equal(out["attention_spatial"], np.full((3, h, w), 0.5))
  np.testing.assert_allclose(out["attention_temporal"], np.full((3, t), 1 / t), rtol=1e-6)
  # g' = A g + g with A = 0.5 / t everywhere, so its mean is that of g times 1 + 0.5 / t.
  np.testing.assert_allclose(out["features"],
                             np.mean(out["feature_map"], (1, 2, 3)) * (1 + 0.5 / t), rtol=1e-5)
  head = variables["params"]["head"]["dense"]
  np.testing.assert_allclose(logits, out["features"] @ head["kernel"] + head["bias"], atol=1e-5)
  maps, _ = _coupler(_coupler_variables())
  np.testing.assert_allclose(maps[0], _feature_map() * (1 + 0.5 / t), rtol=1e-5)


def _attention_by_hand(variables, h_star):
  p = jax.device_get(variables["params"]["attention"])
  def scores(kind):
    hidden = np.tanh(h_star @ p[f"{kind}_hidden"]["kernel"] + p[f"{kind}_hidden"]["bias"])
    return hidden @ p[f"{kind}_scores"]["kernel"] + p[f"{kind}_scores"]["bias"]
  spatial, temporal = scores("spatial"), scores("temporal")
  e = np.exp(temporal - temporal.max(-1, keepdims=True))
  return spatial, 1 / (1 + np.exp(-spatial)), e / e.sum(-1, keepdims=True)


@pytest.mark.parametrize("attention, coupler", [
    ("both", True), ("spatial", True), ("temporal", True), ("none", True), ("both", False)])
def test_modulation_against_numpy(attention, coupler):
  g, variables = _feature_map(), _random_scores(_coupler_variables())
  maps, out = _coupler(variables, attention=attention, coupler=coupler)
  scores, spatial, temporal = _attention_by_hand(variables, np.asarray(out["pose_features"]))
  t, h, w = GRID
  a_s, a_t = spatial.reshape(3, 1, h, w, 1), temporal.reshape(3, t, 1, 1, 1)
  expected = {("both", True): [a_s * a_t * g + g], ("spatial", True): [a_s * g + g],
              ("temporal", True): [a_t * g + g], ("none", True): [g],
              ("both", False): [a_s * g + g, a_t * g + g]}[attention, coupler]
  assert len(maps) == len(expected)
  for found, by_hand in zip(maps, expected):
    np.testing.assert_allclose(found, by_hand, rtol=1e-4, atol=1e-5)
  assert ("attention_spatial" in out) == (attention in ("both", "spatial"))
  assert ("attention_temporal" in out) == (attention in ("both", "temporal"))
  # The embedding: linear maps of the unmodulated map summed over time, and of the scores.
  e = jax.device_get(variables["params"]["embedding"])
  np.testing.assert_allclose(
      out["embedding_visual"],
      g.sum(1).reshape(3, -1) @ e["visual"]["kernel"] + e["visual"]["bias"], atol=1e-4)
  np.testing.assert_allclose(out["embedding_pose"],
                             scores @ e["pose"]["kernel"] + e["pose"]["bias"], atol=1e-4)


def _names(**fields):
  return set(path_names(_shapes(_model(**fields))))


def _below(names, *prefixes):
  return {n for n in names if n.partition("/")[2].startswith(prefixes)}


def test_every_switch_removes_its_parameters_and_no_others():
  full = _names()
  assert _below(full, "vpn/embedding/visual") and _below(full, "vpn/pose_backbone/graph")
  assert full - _names(embedding="none") == _below(full, "vpn/embedding/")
  assert full - _names(pose=dict(name="none")) == _below(full, "vpn/")
  for attention in ("spatial", "temporal"):
    off = "temporal" if attention == "spatial" else "spatial"
    # The spatial scores stay with the embedding, which reads them.
    gone = _below(full, f"vpn/attention/{off}") if off == "temporal" else set()
    assert full - _names(attention=attention) == gone
    assert full - _names(attention=attention, embedding="none") == (
        _below(full, "vpn/embedding/", f"vpn/attention/{off}"))
  # Without any attention the pose still reaches the loss through the embedding...
  assert full - _names(attention="none") == _below(full, "vpn/attention/temporal")
  # ...and without both nothing reads it.
  assert full - _names(attention="none", embedding="none") == _below(full, "vpn/")
  for fields in (dict(coupler=False), dict(normalise="align")):
    assert _names(**fields) == full


def test_uncoupled_maps_are_classified_together():
  head = _shapes(_model(coupler=False))["params"]["head"]["dense"]["kernel"]
  assert head.shape == (2 * 8, 5)


def test_without_pose_it_is_the_plain_backbone():
  model, full, forward = _default()
  plain = _model(pose=dict(name="none"))
  batch = _batch()
  assert plain.inputs == ("video",) and model.inputs == ("video", "pose3d", "pose_score")
  variables = {kind: {k: v for k, v in tree.items() if k != "vpn"} for kind, tree in full.items()}
  logits, out = _apply(plain, variables, {"video": batch["video"]})
  _, with_pose = forward(full, batch)
  np.testing.assert_allclose(out["feature_map"], with_pose["feature_map"], atol=1e-6)
  features = np.mean(out["feature_map"], (1, 2, 3))
  head = full["params"]["head"]["dense"]
  np.testing.assert_allclose(logits, features @ head["kernel"] + head["bias"], atol=1e-5)


def _body(persons=2, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(3, persons, 4, 20, 3)).astype(np.float32),
          np.ones((3, persons), bool))


def test_persons_are_an_unordered_set():
  body, present = _body(3)
  present[1, 2] = present[2, 1] = False
  module = pose_backbones.GraphBackbone(LAYOUT, features=8, conv_features=(8,))
  variables = _init(module, body, present)
  h = _apply(module, variables, body, present)
  order = [2, 0, 1]
  np.testing.assert_array_equal(
      h, _apply(module, variables, body[:, order], present[:, order]))


def test_absent_persons_change_nothing():
  _, variables, forward = _default()
  variables = _random_scores(variables)
  one = _batch()
  two = dict(one, pose3d=np.concatenate([one["pose3d"], 0 * one["pose3d"]], 1),
             pose_score=np.concatenate([one["pose_score"], 0 * one["pose_score"]], 1))
  np.testing.assert_allclose(forward(variables, two)[0], forward(variables, one)[0], atol=1e-6)
  # In training too: the batch norms' statistics are those of the persons who are there.
  (logits_one, _), stats_one = _training()(variables, one)
  (logits_two, _), stats_two = _training()(variables, two)
  np.testing.assert_allclose(logits_two, logits_one, atol=1e-5)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), stats_two, stats_one)


def test_clips_without_anybody_are_finite():
  _, variables, _ = _default()
  for persons in (1, 2):
    batch = _batch(persons=persons)
    empty = dict(batch, pose3d=0 * batch["pose3d"], pose_score=0 * batch["pose_score"])
    (logits, _), updated = _training()(variables, empty)
    assert np.isfinite(logits).all()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(updated))


def test_gradient_of_the_whole_loss_at_the_start_is_finite():
  # At the start the scores, and with them the pose's embedding, are exactly zero.
  model, variables, _ = _default()
  batch = _batch()

  @jax.jit
  def gradient(params):
    def loss(params):
      (logits, out), _ = model.apply({**variables, "params": params}, batch, train=True,
                                     mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
      return losses.vpn(logits, out, batch, params)[0]
    return jax.grad(loss)(params)

  found = gradient(variables["params"])
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
  assert np.abs(found["vpn"]["attention"]["spatial_scores"]["kernel"]).max() > 0
  assert np.abs(found["vpn"]["attention"]["temporal_scores"]["kernel"]).max() > 0


def _first_gradients(model, *terms):
  """Global norm of each loss' gradient before any update, all weights fresh."""
  batch = _batch()
  variables = _init(model, batch)

  @jax.jit
  def norms(params):
    def parts(params):
      (logits, out), _ = model.apply({**variables, "params": params}, batch, train=True,
                                     mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
      return [term(logits, out, batch, params)[0] for term in terms]
    rows = jax.jacrev(parts)(params)
    return [optax.global_norm(row) for row in rows]
  return [float(norm) for norm in norms(variables["params"])]


def test_no_loss_starts_with_a_burst():
  """Adam would keep a first gradient of another order of magnitude for thousands of steps."""
  only = lambda classification, embedding, **fields: functools.partial(
      losses.vpn, classification=classification, embedding=embedding, attention=0.0, **fields)
  entropy, distance, burst = _first_gradients(
      _model(embedding_features=256), only(0.8, 0.0), only(0.0, 0.2),
      only(0.0, 0.2, epsilon=1e-6))
  assert distance < 3 * entropy
  assert burst > 100 * entropy  # what the bound is there for
  # The others have no epsilon to choose: their trainings clip what reaches Adam.
  for argument in ("", "embedding_loss=kl_both", "released=true"):
    for step in configuration.load(f"configs/vpn_ntu120.py:{argument}").steps:
      if step["kind"] == "train" and step["loss"]["name"] == "vpn":
        assert step["optim"]["clip_norm"] <= 5.0


def test_recurrent_pose_backbone():
  model = _model(pose=dict(name="lstm", units=6, depth=2))
  shapes = _shapes(model)["params"]["vpn"]["pose_backbone"]
  assert set(shapes) == {"lstm0", "lstm1"}
  batch = _batch()
  _, out = jax.eval_shape(lambda b: model.init_with_output(
      {"params": jax.random.key(0)}, b, train=False)[0], batch)
  assert out["pose_features"].shape == (3, 4 * 6)  # all hidden states of the last
  module = pose_backbones.RecurrentBackbone(units=6, depth=1)
  body, present = _body(1)
  variables = _init(module, body, present)
  found = _apply(module, variables, body, present).reshape(3, 4, 6)
  # Causal: a later pose changes no earlier state.
  changed = body.copy()
  changed[:, :, 2] += 1
  other = _apply(module, variables, changed, present).reshape(3, 4, 6)
  np.testing.assert_array_equal(found[:, :2], other[:, :2])
  assert np.abs(found[:, 2:] - other[:, 2:]).min() > 0


def test_graph_layer_against_numpy():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 3, 5, 4)).astype(np.float32)
  for shared in (False, True):
    layer = pose_backbones.PerStepDense(6, shared)
    variables = jax.jit(layer.init)(jax.random.key(0, impl="rbg"), x)
    kernel, bias = (np.asarray(variables["params"][k]) for k in ("kernel", "bias"))
    assert kernel.shape == ((1 if shared else 3), 4, 6)
    expected = np.stack([x[:, t] @ kernel[0 if shared else t] + bias[0 if shared else t]
                         for t in range(3)], 1)
    np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)
    # Each step's kernel has the variance of a layer of its own (fan-in 4).
  many = jax.jit(pose_backbones.PerStepDense(256).init)(
      jax.random.key(0, impl="rbg"), np.zeros((1, 8, 1, 64)))
  np.testing.assert_allclose(np.asarray(many["params"]["kernel"]).std((1, 2)), 64**-0.5, rtol=0.03)


def test_released_variant():
  model = _model(**vpn.RELEASED)
  batch = _batch(poses=16)
  shapes = _shapes(model, batch)["params"]["vpn"]
  pose = shapes["pose_backbone"]
  # Two filters: 2 x 3 coordinates to 64 features for each of 16 poses, then xyz beside them.
  assert pose["graph"]["kernel"].shape == (16, 6, 64) and "skip" not in pose
  assert pose["conv0"]["kernel"].shape == (3, 3, 67, 64)
  assert pose["dense0"]["kernel"].shape[1] == 256 and pose["dense1"]["kernel"].shape == (256, 128)
  t, h, w = GRID
  assert shapes["attention"]["spatial_hidden"]["kernel"].shape == (128, 256)
  assert shapes["embedding"]["visual"]["kernel"].shape == (t * h * w * 8, 256)
  assert shapes["embedding"]["pose"]["kernel"].shape == (h * w, 256)


def test_wrong_shapes_and_names_are_named():
  with pytest.raises(ValueError, match="skeletons have 25 joints, layout kinect_v1_20 has 20"):
    _shapes(_model(), _batch(joints=25))
  for fields, message in (
      (dict(attention="all"), "attention must be one of both, spatial, temporal, none, got"),
      (dict(normalise="no"), "normalise must be one of translate, align, got 'no'"),
      (dict(embedding="own"), "embedding must be one of thesis, released, none, got 'own'"),
      (dict(pose=dict(name="cnn")), "model.pose.name must be one of gcn, lstm, got 'cnn'"),
      (dict(pose=dict(POSE, skip="add")), "model.pose.skip must be one of residual, concat, got"),
      (dict(pose=dict(POSE, fetures=3)), "has no key 'fetures'"),
      (dict(backbone=dict(BACKBONE, wdth=3)), "has no key 'wdth'")):
    with pytest.raises(ValueError, match=message):
      _shapes(_model(**fields))
  with pytest.raises(UserError, match="config.model has no key 'atention'"):
    _model(atention="none")
  assert skeletons.layout(LAYOUT).num_joints == 20


@pytest.mark.slow
@pytest.mark.parametrize("pose", [POSE, dict(name="lstm", units=4, depth=1)])
def test_pose_network_hands_its_backbone_to_vpn(pose):
  batch = _batch()
  network = models.create(dict(name="pose_network", pose=pose), num_classes=5, layout=LAYOUT)
  assert network.inputs == ("pose3d", "pose_score")
  trained = _init(network, batch, seed=3)
  logits, out = _apply(network, trained, batch)
  head = trained["params"]["head"]
  np.testing.assert_allclose(logits, out["features"] @ head["kernel"] + head["bias"], atol=1e-5)
  guided = _model(pose=pose)
  variables, report = initialise.load_into(_init(guided, batch), trained, initialise.InitFrom(
      source="pose", include=("vpn/pose_backbone",),
      rename=(("^pose_backbone", "vpn/pose_backbone"),)))
  assert not report.missing and not report.mismatched
  np.testing.assert_array_equal(
      _apply(guided, variables, batch)[1]["pose_features"], out["features"])


@pytest.mark.parametrize("norm", [True, False])
def test_attention_keeps_telling_clips_apart(norm):
  """Features like a ReLU network's, two kinds of clips, Adam: without norm the tanhs saturate."""
  rng = np.random.default_rng(0)
  kinds = np.arange(32) % 2
  patterns = rng.uniform(0.3, 0.7, 3000) + rng.normal(size=(2, 3000)) * 0.03
  features = np.maximum(patterns[kinds] + rng.normal(size=(32, 3000)) * 0.05, 0)
  # Both kinds look at the first place; only one looks at the second.
  wanted = np.stack([np.ones(32), kinds], 1).astype(np.float32)
  module = vpn.PoseAttention(spatial=2, temporal=None, width=(16, 16), norm=norm)
  variables = _init(module, features)
  optimiser = optax.adam(1e-2)

  def loss(params, stats):
    (spatial, _), new = module.apply({"params": params, "batch_stats": stats}, features,
                                     train=True, mutable=["batch_stats"])
    return optax.sigmoid_binary_cross_entropy(spatial, wanted).mean(), new

  @jax.jit
  def step(params, stats, state):
    gradients, new = jax.grad(loss, has_aux=True)(params, stats)
    updates, state = optimiser.update(gradients, state)
    return optax.apply_updates(params, updates), new.get("batch_stats", {}), state

  params, stats = variables["params"], variables.get("batch_stats", {})
  state = optimiser.init(params)
  for _ in range(150):
    params, stats, state = step(params, stats, state)
  spatial, _ = _apply(module, {"params": params, "batch_stats": stats}, features)
  attention = np.asarray(jax.nn.sigmoid(spatial))
  apart = attention[kinds == 1, 1].mean() - attention[kinds == 0, 1].mean()
  assert apart > 0.8 if norm else apart < 0.1
