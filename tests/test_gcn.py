"""Graph networks: graphs and streams against NumPy, networks against the PyTorch ones."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_gcn, torch_layout
from actionjax.models import graph_layers, msg3d, stgcn
from actionjax.models.nonlocal3d import NonLocalBlock
from actionjax.ops import graphs, skeleton_streams
from actionjax.training import checkpoint
from tests import references

V1, V2, COCO = (skeletons.layout(name) for name in ("kinect_v1_20", "kinect_v2_25", "coco_17"))
ALL = tuple(skeletons.LAYOUTS.values())


def _random(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


# --- Streams --------------------------------------------------------------------------------

def test_streams_against_numpy():
  x = _random(2, 1, 6, 25, 3)
  bone = np.zeros_like(x)
  tree = {child: parent for parent, child in V2.bones} | {
      "spine": "shoulder_centre", "hip_centre": "spine", "shoulder_centre": "shoulder_centre"}
  released = tree | {"left_hand_tip": "left_thumb", "right_hand_tip": "right_thumb"}
  for pairs, parents in (("tree", tree), ("released", released)):
    for joint, parent in parents.items():
      i, j = V2.index(joint), V2.index(parent)
      bone[..., i, :] = x[..., i, :] - x[..., j, :]
    np.testing.assert_array_equal(skeleton_streams.stream(x, "bone", V2, pairs=pairs), bone)
  for name, source in (("joint_motion", x), ("bone_motion", bone)):
    motion = np.zeros_like(x)
    for t in range(5):
      motion[:, :, t] = source[:, :, t + 1] - source[:, :, t]
    np.testing.assert_array_equal(skeleton_streams.stream(x, name, V2), motion)
  np.testing.assert_array_equal(skeleton_streams.stream(x, "joint", V2), x)


def test_scores_of_streams_are_means():
  x = _random(1, 1, 4, 17, 3)
  bone = np.asarray(skeleton_streams.stream(x, "bone", COCO, scored=True))
  elbow, shoulder, nose = (COCO.index(j) for j in ("left_elbow", "left_shoulder", "nose"))
  np.testing.assert_allclose(bone[..., elbow, :2], x[..., elbow, :2] - x[..., shoulder, :2])
  np.testing.assert_allclose(bone[..., elbow, 2], (x[..., elbow, 2] + x[..., shoulder, 2]) / 2)
  np.testing.assert_allclose(bone[..., nose, :], x[..., nose, :] * [0, 0, 1])
  motion = np.asarray(skeleton_streams.stream(x, "joint_motion", COCO, scored=True))
  np.testing.assert_allclose(motion[:, :, 0, :, 2], x[:, :, :2, :, 2].mean(2), rtol=1e-6)
  assert not motion[:, :, -1].any()


def test_upright_against_scipy():
  pose, score = _random(3, 2, 5, 20, 3), np.ones((3, 2, 5, 20), np.float32)
  score[1, 1] = 0  # an absent person
  score[2, 0, 0, V1.index("left_shoulder")] = 0  # the second turn has no axis
  found = np.asarray(jax.jit(lambda p, s: skeleton_streams.upright(p, s, V1))(pose, score))
  low, high, left, right = (V1.index(j) for j in (
      "hip_centre", "spine", "left_shoulder", "right_shoulder"))
  for b in range(3):
    x = (pose[b] - pose[b, 0, 0, high]).reshape(-1, 3).astype(np.float64)
    for start, end, axis in ((low, high, [0, 0, 1]), (left, right, [1, 0, 0]))[:2 if b < 2 else 1]:
      way = x.reshape(2, 5, 20, 3)[0, 0, end] - x.reshape(2, 5, 20, 3)[0, 0, start]
      normal = np.cross(way / np.linalg.norm(way), axis)
      angle = np.arctan2(np.linalg.norm(normal), way @ axis / np.linalg.norm(way))
      x = Rotation.from_rotvec(angle * normal / np.linalg.norm(normal)).apply(x)
    expected = x.reshape(2, 5, 20, 3) * (score[b] > 0)[..., None]
    np.testing.assert_allclose(found[b], expected, atol=2e-5)
  assert not found[1, 1].any()


def test_upright_leaves_bodies_that_have_no_turn():
  pose = np.zeros((1, 1, 2, 20, 3), np.float32)
  pose[..., V1.index("spine"), 2] = 1
  pose[..., V1.index("left_shoulder"), 0], pose[..., V1.index("right_shoulder"), 0] = 1, -1
  score = np.ones(pose.shape[:-1], np.float32)
  # Shoulders point along -x, exactly opposite: no shortest turn exists.
  moved = pose - np.array([0, 0, 1], np.float32)
  upright = jax.jit(lambda p, s: skeleton_streams.upright(p, s, V1))
  np.testing.assert_array_equal(upright(pose, score), moved)


def test_image_and_box_coordinates():
  pose = np.array([[0, 0], [1920, 1080], [960, 540], [480, 270]], np.float32)[None, None, None]
  score = np.array([1, 1, 1, 0], np.float32)[None, None, None]
  found = skeleton_streams.image_coordinates(pose, score, (1080, 1920))[0, 0, 0]
  np.testing.assert_allclose(found, [[-1, -1], [1, 1], [0, 0], [0, 0]])
  found = skeleton_streams.box_coordinates(pose / 2 + 7, score)[0, 0, 0]
  np.testing.assert_allclose(found, [[-1, -1], [1, 1], [0, 0], [0, 0]], atol=1e-6)
  small = skeleton_streams.box_coordinates(pose / 1000, score)[0, 0, 0]
  np.testing.assert_allclose(small, (pose / 1000)[0, 0, 0] * score[0, 0, 0][:, None])
  assert not np.asarray(skeleton_streams.box_coordinates(pose, 0 * score)).any()


# --- Layers ---------------------------------------------------------------------------------

@pytest.mark.parametrize("channels", [3, 20])
def test_graph_convolution_is_a_sum_over_neighbours(channels):
  x, graph, kernel = _random(2, 5, 4, channels), _random(3, 5, 5), _random(3, channels, 6)
  expected = np.einsum("nvtc,kvw,kco->nwto", x, graph, kernel)
  found = graph_layers.graph_convolution(jnp.asarray(x), jnp.asarray(graph), jnp.asarray(kernel))
  np.testing.assert_allclose(found, expected, atol=1e-3)


@pytest.mark.parametrize("size, stride, dilation, frames", [(9, 1, 1, 12), (9, 2, 1, 11),
                                                            (3, 2, 4, 7), (1, 2, 1, 5)])
def test_temporal_convolution_is_a_sum_over_frames(size, stride, dilation, frames):
  x = _random(2, 3, frames, 4)
  layer = graph_layers.TemporalConv(5, size, stride, dilation)
  variables = _initialised(layer.init, x)
  kernel = variables["params"]["kernel"]
  expected = np.zeros((2, 3, -(-frames // stride), 5))
  for t in range(expected.shape[2]):
    for tap in range(size):
      source = t * stride + (tap - size // 2) * dilation
      if 0 <= source < frames:
        expected[:, :, t] += x[:, :, source] @ kernel[tap]
  np.testing.assert_allclose(jax.jit(layer.apply)(variables, x), expected, atol=1e-5)


# --- Networks against PyTorch's numbers -----------------------------------------------------

def _reference(name):
  return references.state(name), references.stored(name)


def _check_network(module, state, stored, x):
  found = torch_gcn.import_gcn(state)
  fields = {key: value for key, value in found.model.items() if key != "name"}
  model = module.Model(found.num_classes, **fields)
  batch = {"pose3d": x, "pose_score": np.ones(x.shape[:-1], np.float32)}
  logits, out = jax.jit(lambda v, b: model.apply(v, b, train=False))(found.variables, batch)
  expected = stored["features"].transpose(0, 1, 4, 3, 2)  # [N,M,C,T,V]
  np.testing.assert_allclose(out["feature_map"], expected, atol=1e-4 * abs(expected).max())
  np.testing.assert_allclose(logits, stored["logits"], atol=1e-4 * abs(stored["logits"]).max())
  np.testing.assert_allclose(out["features"], expected.mean((1, 2, 3)), rtol=1e-4, atol=1e-5)
  return found


@pytest.mark.slow
def test_stgcnpp_is_the_torch_network():
  state, stored = _reference("stgcnpp_ntu")
  np.testing.assert_allclose(graphs.spatial(V2), stored["adjacency"], atol=1e-6)
  found = _check_network(stgcn, state, stored,
                         references.signal("stgcnpp_input", (1, 2, 20, 25, 3)))
  assert found.model["variant"] == "stgcnpp" and found.model["layout"] == "kinect_v2_25"
  learnt = [name for name in state if name.startswith("backbone.")
            and not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
  assert _count(found.variables["params"]["backbone"]) == sum(state[n].size for n in learnt)


@pytest.mark.slow
def test_msg3d_is_the_torch_network():
  state, stored = _reference("msg3d_ntu")
  np.testing.assert_array_equal(graphs.binary(V2), stored["adjacency"])
  state["backbone.A"] = stored["adjacency"]
  found = _check_network(msg3d, state, stored, references.signal("msg3d_input", (1, 2, 16, 25, 3)))
  assert found.model["scales"] == 13 and found.model["windows"] == (3, 5)


def test_nonlocal_block_is_the_torch_block():
  state, stored = _reference("nonlocal3d_64")
  dense = lambda name: {"kernel": state[f"{name}.conv.weight"][:, :, 0, 0, 0].T}
  params = {name: dense(name) | {"bias": state[f"{name}.conv.bias"]}
            for name in ("theta", "phi", "g")}
  params |= {"out": dense("conv_out"), "bn": {"scale": state["conv_out.bn.weight"],
                                              "bias": state["conv_out.bn.bias"]}}
  stats = {"bn": {"mean": state["conv_out.bn.running_mean"],
                  "var": state["conv_out.bn.running_var"]}}
  x = np.moveaxis(references.signal("nonlocal_input", (1, 64, 4, 7, 7)), 1, -1)
  y = NonLocalBlock().apply({"params": params, "batch_stats": stats}, x, train=False)
  expected = np.moveaxis(stored["output"], 1, -1)
  np.testing.assert_allclose(y, expected, atol=1e-4 * abs(expected).max())


# --- The non-local block --------------------------------------------------------------------

@pytest.mark.parametrize("fields", [
    {}, dict(pairwise="gaussian"), dict(pairwise="dot_product", inner=3), dict(scale=True),
    dict(subsample=True), dict(pairwise="gaussian", subsample=True)], ids=str)
def test_nonlocal_options_against_numpy(fields):
  x = _random(2, 3, 4, 4, 6)
  block = NonLocalBlock(zero_scale=False, **fields)
  variables = _initialised(functools.partial(block.init, train=False), x)
  params = jax.tree.map(lambda p: _random(*p.shape, seed=p.size), variables["params"])
  variables = {**variables, "params": params}
  project = lambda name: x @ params[name]["kernel"] + params[name]["bias"]
  pool = lambda y: (y.reshape(2, 3, 2, 2, 2, 2, -1).max((3, 5)) if fields.get("subsample")
                    else y).reshape(2, -1, y.shape[-1])
  flat = lambda y: y.reshape(2, 48, -1)
  if fields.get("pairwise") == "gaussian":
    query, key = flat(x), pool(x)
    assert "theta" not in params and "phi" not in params
  else:
    query, key = flat(project("theta")), pool(project("phi"))
  products = np.einsum("bic,bjc->bij", query, key).astype(np.float64)
  if fields.get("scale"):
    products /= np.sqrt(3)
  weights = np.exp(products - products.max(-1, keepdims=True))
  weights /= weights.sum(-1, keepdims=True)
  if fields.get("pairwise") == "dot_product":
    weights = products / products.shape[-1]
  y = (weights @ pool(project("g"))).reshape(2, 3, 4, 4, -1) @ params["out"]["kernel"]
  expected = x + y / np.sqrt(1 + 1e-5) * params["bn"]["scale"] + params["bn"]["bias"]
  y = jax.jit(lambda v, x: block.apply(v, x, train=False))(variables, x)
  np.testing.assert_allclose(y, expected, atol=1e-4 * abs(expected).max())


def test_nonlocal_block_starts_as_the_identity():
  x = _random(1, 2, 3, 3, 4)
  y, _ = jax.jit(lambda key: NonLocalBlock().init_with_output(key, x, train=False))(
      jax.random.key(0, impl="rbg"))
  np.testing.assert_array_equal(y, x)
  with pytest.raises(UserError, match="concatenation"):
    NonLocalBlock(pairwise="concatenation").init(jax.random.key(0), x, train=False)


# --- Models ---------------------------------------------------------------------------------

def _batch(layout, frames=16, persons=2, clips=1):
  joints = layout.num_joints
  name = "pose3d" if layout.dimensions == 3 else "pose2d"
  shape = (clips, persons, frames, joints)
  return {name: 100 * _random(*shape, layout.dimensions), "pose_score": np.ones(shape, np.float32)}


def _shapes(model, batch):
  return jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)


def _stgcn_count(joints, graph_residual, multi_scale):
  """Parameters of ten blocks, counted by hand: 1x1 and 9x1 convolutions, norms, graphs."""
  norm, conv = lambda c: 2 * c, lambda i, o, k=1: (i * k + 1) * o
  total, i = norm(3 * joints), 3
  for block, o in enumerate([64] * 4 + [128] * 3 + [256] * 3):
    total += 3 * joints ** 2 + conv(i, 3 * o) + norm(o)  # graph unit
    if graph_residual and i != o:
      total += conv(i, o) + norm(o)
    if multi_scale:
      sizes = [o - 5 * (o // 6)] + [o // 6] * 5
      total += sum(conv(o, s) for s in sizes) + sum(norm(s) for s in sizes[:5])
      total += sum(conv(s, s, 3) for s in sizes[:4]) + norm(o) + conv(o, o) + norm(o)
    else:
      total += conv(o, o, 9) + norm(o)
    if block and i != o:
      total += conv(i, o) + norm(o)
    i = o
  return total


def test_parameter_counts():
  ntu = _batch(V2)
  count = lambda model, batch: _count(_shapes(model, batch)["params"]["backbone"])
  assert count(stgcn.Model(60, "kinect_v2_25"), ntu) == 1_387_724
  assert _stgcn_count(25, True, True) == 1_387_724
  assert count(stgcn.Model(60, "kinect_v2_25", variant="stgcn"), ntu) == 3_083_412
  assert _stgcn_count(25, False, False) == 3_083_412
  # 3.17 M in the published comparison.
  assert count(msg3d.Model(60, "kinect_v2_25"), ntu) == 3_171_495


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_models_of_every_layout(layout):
  normalise = None if layout.dimensions == 2 or layout.centre_joint else "none"
  small = {stgcn: dict(stage_sizes=(1, 1, 1)), msg3d: dict(scales=3, window_scales=2, windows=(3,))}
  # The other has the same first lines.
  module = msg3d if layout in (V1, COCO) else stgcn
  model = module.Model(5, layout.name, normalise=normalise, width=12, stream="bone",
                       **small[module])
  source = "pose3d" if layout.dimensions == 3 else "pose2d"
  assert model.inputs == (source, "pose_score")
  (logits, out), _ = jax.eval_shape(
      lambda b: model.init_with_output(jax.random.key(0), b, train=False),
      _batch(layout, persons=3))
  assert logits.shape == (1, 5) and out["features"].shape == (1, 48)
  assert out["feature_map"].shape == (1, 3, layout.num_joints, 4, 48)


SMALL = dict(width=6, stage_sizes=(1, 1))


def _initialised(init, *inputs):
  """Variables drawn with NumPy: initialisers would be compiled one by one."""
  shapes = jax.eval_shape(lambda *inputs: init(jax.random.key(0), *inputs), *inputs)
  draw = lambda path, leaf: (
      np.ones(leaf.shape, np.float32) if path[-1].key in ("scale", "var") else
      0.3 * _random(*leaf.shape, seed=leaf.size) if leaf.ndim > 1 else
      np.zeros(leaf.shape, np.float32))
  return jax.tree_util.tree_map_with_path(draw, shapes)


def test_persons_are_averaged():
  model = stgcn.Model(4, "kinect_v1_20", normalise="none", **SMALL)
  batch = _batch(V1, clips=2)
  variables = _initialised(functools.partial(model.init, train=False), batch)
  run = jax.jit(lambda b: model.apply(variables, b, train=False))
  logits, _ = run(batch)
  alone = [run({"pose3d": batch["pose3d"][:, m:m + 1],
                "pose_score": batch["pose_score"][:, m:m + 1]})[0] for m in range(2)]
  np.testing.assert_allclose(logits, (alone[0] + alone[1]) / 2, atol=1e-5)
  swapped, _ = run({key: value[:, ::-1] for key, value in batch.items()})
  np.testing.assert_allclose(swapped, logits, atol=1e-5)


@pytest.mark.slow
def test_a_small_stgcnpp_learns_in_a_few_steps():
  model = stgcn.Model(2, "kinect_v1_20", block_dropout=0.1, dropout=0.1, **SMALL)
  batch = {**_batch(V1, clips=4, persons=1), "label": jnp.array([0, 1, 0, 1])}
  variables = _initialised(functools.partial(model.init, train=False), batch)

  @jax.jit
  def step(variables, key):
    def loss(params):
      (logits, _), new = model.apply({**variables, "params": params}, batch, train=True,
                                     rngs={"dropout": key}, mutable=["batch_stats"])
      return -jax.nn.log_softmax(logits)[jnp.arange(4), batch["label"]].mean(), new
    (value, new), grads = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, g: p - 0.3 * g, variables["params"], grads)
    return value, {"params": params, **new}

  losses = []
  for i in range(10):
    value, variables = step(variables, jax.random.key(i))
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("fields, word", [
    (dict(variant="agcn"), "agcn"), (dict(graph="ring"), "ring"), (dict(stream="limb"), "limb"),
    (dict(adaptive="always"), "always"), (dict(temporal="lstm"), "lstm"),
    (dict(normalise="image"), "3D"), (dict(dimensions=4), "4"),
    (dict(bone_pairs="all", stream="bone"), "pairs")])
def test_mistakes_are_named(fields, word):
  with pytest.raises(UserError, match=word):
    _shapes(stgcn.Model(4, "kinect_v1_20", **SMALL | fields), _batch(V1))


def test_other_layouts_are_refused():
  with pytest.raises(UserError, match="lcrnet_13 has no two joints along the spine"):
    _shapes(stgcn.Model(4, "lcrnet_13", **SMALL), _batch(skeletons.layout("lcrnet_13")))
  with pytest.raises(ValueError, match="20 joints"):
    _shapes(stgcn.Model(4, "kinect_v2_25", **SMALL), _batch(V1))


# --- Importing ------------------------------------------------------------------------------

def test_stgcn_from_both_names(tmp_path, monkeypatch):
  found = torch_gcn.import_gcn(references.torch_stgcn())
  assert found.model == dict(
      name="stgcn", variant="stgcn", width=8, stage_sizes=(2, 1), temporal="single",
      graph_residual=False, adaptive="importance", graph="partition", layout="coco_17",
      normalise="none")
  assert found.num_classes == 6
  older = torch_gcn.import_gcn(references.torch_stgcn(original=True))
  assert older.model == found.model
  assert (older.pipeline, found.pipeline) == ("mmaction0", None)
  jax.tree.map(np.testing.assert_array_equal, older.variables, found.variables)
  kernel = found.variables["params"]["backbone"]["block2"]["temporal_unit"]["conv"]["kernel"]
  assert kernel.shape == (9, 16, 16)

  monkeypatch.setattr(torch_layout, "read_torch", lambda path: references.torch_stgcn())
  (tmp_path / "file.pth").touch()
  given = str(tmp_path / "file.pth"), str(tmp_path / "model")
  with pytest.raises(UserError, match="17 joints, layout openpose_18"):
    conversion.convert("torch_gcn", *given, layout="openpose_18")
  with pytest.raises(UserError, match="layout: for torch_gcn, torch_posec3d only"):
    conversion.convert("torch_i3d", *given, layout="coco_17")
  assert conversion.convert("torch_gcn", *given)["network"] == found.model
  variables, _ = checkpoint.load_model(checkpoint.find_model(tmp_path / "model"))
  np.testing.assert_array_equal(variables["params"]["head"]["dense"]["bias"],
                                found.variables["params"]["head"]["dense"]["bias"])


def test_other_networks_are_refused_by_name():
  state = references.torch_stgcn()
  with pytest.raises(UserError, match="no ST-GCN.*but conv1.weight"):
    torch_gcn.import_gcn({"conv1.weight": _random(4, 3, 3, 3)})
  with pytest.raises(UserError, match="missing: backbone.gcn.1.tcn.bn.weight; left over: extra"):
    torch_gcn.import_gcn({name: value for name, value in (state | {"extra": _random(2)}).items()
                          if name != "backbone.gcn.1.tcn.bn.weight"})
  assert torch_gcn.import_gcn({name: value + 1 if name.endswith("gcn.A") else value
                               for name, value in state.items()}).model["graph"] == "stored"
  with pytest.raises(UserError, match="unknown joint layout"):
    torch_gcn.import_gcn(state, layout="nobody")
