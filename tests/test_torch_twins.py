"""The twins in PyTorch compute what the networks here do; their speed is not asserted."""
import copy
import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.models import msg3d, posec3d, rgbpose, stgcn, video_network, vpn
from actionjax.ops import affine, convolution, pooling
from actionjax.training import losses

torch = pytest.importorskip("torch")
from actionjax.benchmarks import torch_twins  # noqa: E402
from actionjax.benchmarks.torch_twins import drawing, units  # noqa: E402

pytestmark = pytest.mark.slow

SLOWONLY = {**posec3d.SLOWONLY, "width": 4, "stage_sizes": (2, 1, 1)}
RESNET = dict(name="resnet3d", block="bottleneck", stage_sizes=(2, 1, 1), width=4,
              kernels=("3x3x3", "3x1x1", "2d"), spatial_strides=(1, 2, 2),
              temporal_strides=(1, 2, 1))
BASIC = dict(name="resnet3d", block="basic", stage_sizes=(1, 1), width=4,
             kernels=("r2plus1d", "factorised"), spatial_strides=(1, 2), temporal_strides=(1, 2),
             project=True)
I3D = dict(name="i3d", width=0.0625, final_endpoint="MaxPool3d_4a_3x3")
GCN = dict(name="gcn", features=4, conv_features=(4, 4, 8))
RELEASED = {**vpn.RELEASED, "pose": {**vpn.RELEASED["pose"], **GCN, "dense": (6, 5),
                                     "dropout": 0.0}}
VPN = functools.partial(vpn.Model, num_classes=5, backbone=RESNET, layout="kinect_v2_25", pose=GCN,
                        embedding_features=6, attention_width=(6, 5), dropout=0.0)
GRAPH = dict(num_classes=5, layout="kinect_v2_25", width=12)
MODELS = {
    "posec3d_joints": (posec3d.Model(
        5, "coco_17", SLOWONLY, dict(size=(16, 14), scale=0.5, test_size=(18, 16)), dropout=0.0),
        "cross_entropy"),
    "posec3d_both_sum": (posec3d.Model(
        5, "coco_17", SLOWONLY, dict(size=(16, 16), kind="both", merge="sum", windows=False,
                                     use_scores=False, sigma=1.2), dropout=0.0), "cross_entropy"),
    "posec3d_three_views": (posec3d.Model(
        5, "kinect_v2_25", SLOWONLY, dict(size=(16, 16), kind="limb", fill=True, source="pose3d"),
        dropout=0.0), "cross_entropy"),
    "hac": (video_network.Model(5, RESNET), "cross_entropy"),
    "hac_levels": (video_network.Model(5, RESNET, (None, 2)), "hierarchical"),
    "hac_basic": (video_network.Model(5, BASIC, scaling="signed"), "cross_entropy"),
    "vpn": (VPN(), "vpn"),
    "vpn_plain": (VPN(pose=dict(name="none")), "vpn"),
    "vpn_i3d": (VPN(backbone=I3D), "vpn"),
    "vpn_i3d_separable": (VPN(backbone={
        **I3D, "separable": True, "use_bn_scale": True, "final_endpoint": "MaxPool3d_5a_2x2",
        "keep_time": ("Conv3d_1a_7x7",), "keep_space": ("Conv3d_1a_7x7",)}, coupler=False,
        embedding="none", normalise="align"), "vpn"),
    "vpn_released": (VPN(**{**RELEASED, "embedding_features": 6, "attention_width": (6, 5)},
                         attention="temporal"), "vpn"),
    "vpn_shared": (VPN(pose={**GCN, "shared": True}, attention="none"), "vpn"),
    "rgbpose": (rgbpose.Model(
        5, "coco_17", rgb={**rgbpose.RGB, "depth": None, "block": "bottleneck", "width": 4,
                           "stage_sizes": (1, 1, 1, 1)},
        pose={**posec3d.SLOWONLY_FUSED, "width": 4, "stage_sizes": (1, 1, 1)},
        maps=dict(size=(8, 8), sigma=0.7, scale=0.25), fusion=(2.0, 1.0), dropout=0.0),
        "two_stream"),
    "stgcnpp": (stgcn.Model(**GRAPH, stage_sizes=(2, 1)), "cross_entropy"),
    "stgcnpp_2d": (stgcn.Model(5, "coco_17", width=12, stage_sizes=(1, 1), stream="bone_motion",
                               adaptive="offset"), "cross_entropy"),
    "stgcn": (stgcn.Model(**GRAPH, variant="stgcn", stage_sizes=(2, 1), stream="joint_motion"),
              "cross_entropy"),
    "msg3d": (msg3d.Model(**GRAPH, scales=3, window_scales=2, stream="bone", normalise="align"),
              "cross_entropy"),
}
# One of each kind, for what takes long to compile.
KINDS = ("posec3d_joints", "hac_levels", "vpn", "vpn_i3d", "rgbpose", "stgcnpp", "stgcn", "msg3d")
LOSSES = {
    "cross_entropy": dict(label_smoothing=0.1),
    "hierarchical": dict(weights=(None, 0.25, 1.0), superclasses=(None, (0, 1, 1, 0, 1))),
    "vpn": dict(attention=0.01, label_smoothing=0.1), "two_stream": dict(rgb=0.5, pose=2.0)}


def make_batch(model, rng):
  """A random batch of three clips of two persons: the second is missing in one clip, there is
  nobody in another; and joints are missing here and there."""
  rgb = isinstance(model, rgbpose.Model)
  joints, size = skeletons.layout(getattr(model, "layout", None) or "coco_17").num_joints, 32
  frames = 16 if rgb else 8
  score = rng.uniform(0.1, 1, (3, 2, frames, joints)).astype(np.float32)
  score[rng.random(score.shape) < 0.1] = 0
  score[1, 1] = score[2] = 0
  start = rng.normal(size=(3, 2, 1, joints, 3))
  pose3d = start + 0.1 * rng.normal(size=(3, 2, frames, joints, 3))
  pose2d = rng.uniform(-2, size, (3, 2, frames, joints, 2))
  pose2d[0, 0, 0, 5] = pose2d[0, 0, 0, 7] + 0.1  # a limb of no length
  batch = {
      "video": rng.integers(0, 255, (3, 4 if rgb else 8, size, size, 3)).astype(np.uint8),
      "pose3d": np.where(score[..., None] > 0, pose3d, 0).astype(np.float32),
      "pose2d": np.where(score[..., None] > 0, pose2d, 0).astype(np.float32),
      "pose_score": score}
  return {name: batch[name] for name in model.inputs} | {
      "label": np.array([1, 4, 2]), "valid": np.array([1, 1, 0], np.float32)}


def randomised(variables, seed=0):
  """Every leaf drawn anew, so that nothing is zero that training would move."""
  def draw(path, leaf):
    name = jax.tree_util.keystr(path)
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    kind = path[-1].key
    value = rng.normal(size=leaf.shape)
    if kind in ("scale", "var"):
      value = rng.uniform(0.5, 1.5, leaf.shape)
    elif kind in ("adjacency", "importance"):
      value = rng.uniform(0, 1, leaf.shape)
    elif kind == "kernel":
      value *= (2 / np.prod(leaf.shape[:-1]))**0.5
    else:
      value *= 0.1
    return jnp.asarray(value, jnp.float32)
  return jax.tree_util.tree_map_with_path(draw, variables)


@pytest.fixture(params=MODELS)
def pair(request):
  """(model, its loss, variables, batch, twin with the same weights)."""
  model, objective = MODELS[request.param]
  batch = make_batch(model, np.random.default_rng(0))
  shapes = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch, train=False), batch)
  variables = randomised(shapes)
  twin = torch_twins.twin(model, batch)
  torch_twins.load(twin, variables)
  return model, objective, variables, batch, twin


def tensors(batch):
  return {name: torch.tensor(value) for name, value in batch.items()}


def assert_close(theirs, ours, tolerance=1e-5):
  theirs, ours = theirs.detach().numpy(), np.asarray(ours)
  assert theirs.shape == ours.shape
  assert np.abs(theirs - ours).max() <= tolerance * np.abs(ours).max()


def assert_same_out(theirs, ours):
  for name, value in theirs.items():
    if isinstance(value, dict):
      assert value.keys() == ours[name].keys()
      assert_same_out(value, ours[name])
    else:
      assert_close(value, ours[name])
  read = {"stage_logits", "stream_logits", "embedding_visual", "embedding_pose",
          "attention_spatial", "attention_temporal"}
  assert read & ours.keys() == read & theirs.keys()


def watch_layout(twin):
  """Counts what its 3D layers read or write in another order than channels-last."""
  wrong = []

  def hook(module, inputs, output):
    wrong.extend(type(module).__name__ for x in (*inputs, output)
                 if not x.is_contiguous(memory_format=torch.channels_last_3d))

  for part in twin.modules():
    if isinstance(part, (torch.nn.Conv3d, torch.nn.BatchNorm3d, torch.nn.MaxPool3d)):
      part.register_forward_hook(hook)
  return wrong


def test_answers_agree(pair):
  model, _, variables, batch, twin = pair
  logits, out = jax.jit(lambda batch: model.apply(variables, batch, train=False))(batch)
  assert np.ptp(np.asarray(logits)) > 0.1 and np.ptp(np.asarray(logits), 0).max() > 0.01
  for layout in (lambda module: module, torch_twins.channels_last):
    with torch.no_grad():
      found, found_out = layout(twin.eval())(tensors(batch))
    assert_close(found, logits)
    assert_same_out(found_out, out)
  wrong = watch_layout(twin)
  twin(tensors(batch))
  assert not wrong


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_gradients_agree(pair):
  model, objective, variables, batch, twin = pair
  config = LOSSES[objective]

  def ours(params, batch):
    (logits, out), changed = model.apply({**variables, "params": params}, batch, train=True,
                                         mutable=["batch_stats"])
    return getattr(losses, objective)(logits, out, batch, params, **config)[0], changed

  (wanted, changed), gradient = jax.jit(jax.value_and_grad(ours, has_aux=True))(
      variables["params"], batch)
  twin.train()
  found = torch_twins.loss(objective, *twin(tensors(batch)), tensors(batch), **config)
  found.backward()
  assert_close(found, wanted, 1e-4)
  # Parameters that nothing reads (a bias before a batch norm) have gradients of rounding.
  norms = [float(sum((p.grad**2).sum() for p in twin.parameters() if p.grad is not None))**0.5,
           float(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))**0.5]
  assert norms[0] == pytest.approx(norms[1], rel=1e-3)
  means = {name: value for name, value in twin.named_buffers() if name.endswith("running_mean")}
  for path, leaf in jax.tree_util.tree_flatten_with_path(changed["batch_stats"])[0]:
    *where, kind = (key.key for key in path)
    if kind == "mean":
      np.testing.assert_allclose(means.pop(".".join([*where, "running_mean"])), leaf, atol=1e-4,
                                 rtol=1e-3)
  assert not means


@pytest.mark.parametrize("pair", KINDS, indirect=True)
def test_traced_whole_and_in_low_precision(pair):
  _, objective, _, batch, twin = pair
  arrays = tensors(batch)
  loss = torch_twins.Objective(objective, **LOSSES[objective])
  torch.compiler.reset()
  step = torch.compile(lambda: loss(*twin(arrays), arrays), fullgraph=True, backend="aot_eager")
  gradients = []
  for function in (lambda: loss(*twin.train()(arrays), arrays), step):
    twin.zero_grad()
    function().backward()
    gradients.append([p.grad.clone() for p in twin.parameters() if p.grad is not None])
  size = float(sum((g**2).sum() for g in gradients[0]))**0.5
  for eager, traced in zip(*gradients, strict=True):
    assert float((eager - traced).norm()) < 1e-4 * size
  with torch.no_grad():
    logits = twin.eval()(arrays)[0]
    with torch.autocast("cpu", torch.bfloat16):
      low = twin(arrays)[0]
  assert low.dtype == torch.float32
  assert float((low - logits).abs().max()) < 0.1 * float(logits.abs().max())


@pytest.fixture(scope="module")
def small():
  """A model, its weights, a batch, and a twin without the weights."""
  model, _ = MODELS["vpn"]
  batch = make_batch(model, np.random.default_rng(0))
  shapes = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch, train=False), batch)
  return model, randomised(shapes), batch, torch_twins.twin(model, batch)


@pytest.mark.parametrize("change, message", [
    (lambda p, s: p["head"]["dense"].pop("bias"), "missing: head.dense.bias"),
    (lambda p, s: s["backbone"]["stem"]["bn"].pop("var"),
     "missing: backbone.stem.bn.running_var"),
    (lambda p, s: p["head"].update(other={"kernel": np.ones((2, 3))}),
     "left over: head.other.weight"),
    (lambda p, s: p["head"]["dense"].update(kernel=np.ones((5, 4))), "wrong shape: head.dense"),
    (lambda p, s: p["vpn"]["pose_backbone"]["graph"].update(kernel=np.ones((3, 8, 4))),
     "wrong shape: vpn.pose_backbone.graph.kernel"),
])
def test_load_is_strict(small, change, message):
  _, variables, _, twin = small
  variables = jax.tree.map(np.asarray, variables)  # the dicts are copies
  before = {name: value.clone() for name, value in twin.state_dict().items()}
  change(variables["params"], variables["batch_stats"])
  with pytest.raises(UserError, match=message):
    torch_twins.load(twin, variables)
  for name, value in twin.state_dict().items():
    assert torch.equal(value, before[name]), "nothing is copied where something is wrong"


@pytest.mark.parametrize("part, field, value", [
    ("backbone.stem.bn", "eps", 1e-4), ("backbone.pool", "padding", (0, 0, 0)),
    ("backbone.stage2.block0.conv1.conv", "padding", (0, 0, 0)),
    ("backbone.stage2.block0.conv2.conv", "dilation", (1, 2, 2)),
    ("vpn.pose_backbone.norm1", "eps", 1e-4), ("vpn.pose_backbone.conv2", "padding", (0, 0)),
    ("vpn.frame", "centre", 3), ("vpn.attention.norm", "eps", 1e-4)])
def test_a_small_error_shows(small, part, field, value):
  """What parity is asserted with tells a wrong epsilon or window apart."""
  model, variables, batch, twin = small
  wanted = jax.jit(lambda batch: model.apply(variables, batch, train=False))(batch)
  twin = copy.deepcopy(twin).eval()
  torch_twins.load(twin, variables)

  def compare():
    with torch.no_grad():
      logits, out = twin(tensors(batch))
    assert_close(logits, wanted[0])
    assert_same_out(out, wanted[1])

  compare()
  setattr(twin.get_submodule(part), field, value)
  with pytest.raises((AssertionError, RuntimeError)):  # also: shapes that do not fit together
    compare()


FULL = {
    "posec3d": posec3d.Model(60, "coco_17"),
    "posec3d_limbs": posec3d.Model(400, "coco_17", posec3d.SLOWONLY_346, dict(kind="limb")),
    "hac": video_network.Model(120, dict(name="resnet3d", depth=50), (8, 16, 32)),
    "hac_18": video_network.Model(
        27, dict(name="resnet3d", depth=18, kernels="r2plus1d", project=True)),
    "vpn": vpn.Model(120, dict(name="i3d"), "kinect_v2_25", dict(name="gcn")),
    "vpn_released": vpn.Model(120, dict(name="i3d"), "kinect_v2_25", **vpn.RELEASED),
    "vpn_plain": vpn.Model(27, dict(name="i3d", separable=True), "kinect_v1_20",
                           dict(name="none")),
    "rgbpose": rgbpose.Model(99, "coco_17"),
    "stgcnpp": stgcn.Model(120, "kinect_v2_25"),
    "stgcn": stgcn.Model(120, "coco_17", "stgcn"),
    "msg3d": msg3d.Model(120, "kinect_v2_25"),
}


@pytest.mark.parametrize("name", FULL)
def test_whole_networks_have_the_same_parameters(name):
  model = FULL[name]
  frames = 32 if name == "rgbpose" else 16
  joints = skeletons.layout(model.layout or "coco_17").num_joints
  shapes = {"video": (1, 8, 224, 224, 3), "pose3d": (1, 2, frames, joints, 3),
            "pose2d": (1, 2, frames, joints, 2), "pose_score": (1, 2, frames, joints)}
  batch = {key: jax.ShapeDtypeStruct(shapes[key], jnp.uint8 if key == "video" else jnp.float32)
           for key in model.inputs}
  variables = jax.eval_shape(lambda batch: model.init(jax.random.key(0), batch, train=False), batch)
  with torch.device("meta"):
    twin = torch_twins.twin(model, batch)
  assert (sum(p.numel() for p in twin.parameters())
          == sum(leaf.size for leaf in jax.tree.leaves(variables["params"])))
  statistics = [b for key, b in twin.named_buffers() if key.endswith(("_mean", "_var"))]
  assert (sum(b.numel() for b in statistics)
          == sum(leaf.size for leaf in jax.tree.leaves(variables["batch_stats"])))


@pytest.mark.parametrize("model, message", [
    (video_network.Model(5, dict(name="c3d")), "name='c3d'"),
    (video_network.Model(5, {**RESNET, "channels": {"stem/conv": (0,)}}), "backbone.channels"),
    (video_network.Model(5, RESNET, (1, 2, 3)), "3 levels"),
    (VPN(pose=dict(name="lstm")), "'lstm'"),
    (pytest, "no counterpart"),
])
def test_what_has_no_twin_is_refused(model, message):
  batch = {"video": np.zeros((1, 8, 32, 32, 3)), "pose3d": np.zeros((1, 2, 8, 25, 3))}
  with pytest.raises(UserError, match=message):
    torch_twins.twin(model, batch)


def test_shapes_that_matter_are_asked_for():
  for name in ("vpn", "msg3d"):
    with pytest.raises(UserError, match="give twin.. a batch"):
      torch_twins.twin(MODELS[name][0])


@pytest.mark.parametrize("name, config", [
    ("cross_entropy", {}), ("cross_entropy", dict(label_smoothing=0.2)),
    *(("vpn", dict(embedding_loss=kind)) for kind in ("l2", "manhattan", "kl_visual_pose",
                                                     "kl_pose_visual", "kl_both")),
    ("vpn", dict(classification=0.99, embedding=0.01, attention=0.1, attention_loss="released",
                 label_smoothing=0.1)),
    ("hierarchical", dict(weights=(0.25, None, 0.5, 1.0), label_smoothing=0.1,
                          superclasses=((0, 1, 1, 0, 2), None, (1, 1, 0, 0, 1)))),
    ("two_stream", dict(rgb=0.3, pose=1.5, label_smoothing=0.1)),
])
def test_losses_agree(name, config):
  rng = np.random.default_rng(1)
  normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
  logits = normal(4, 5)
  out = {"embedding_visual": normal(4, 6), "embedding_pose": normal(4, 6),
         "attention_spatial": rng.random((4, 2, 3), np.float32),
         "attention_temporal": rng.random((4, 3), np.float32),
         "stage_logits": {"stage1": normal(4, 3), "stage3": normal(4, 2)},
         "stream_logits": {"rgb": normal(4, 5), "pose": normal(4, 5)}}
  batch = {"label": np.array([0, 4, 2, 1]), "valid": np.array([1, 0, 1, 1], np.float32)}
  wanted, _ = getattr(losses, name)(logits, out, batch, None, **config)
  found = torch_twins.loss(name, torch.tensor(logits), jax.tree.map(torch.tensor, out),
                           tensors(batch), **config)
  assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.parametrize("name, config, message", [
    ("focal", {}, "'focal'"), ("cross_entropy", dict(smoothing=0.1), "has no smoothing"),
    ("hierarchical", {}, "lacks weights")])
def test_wrong_losses_are_refused(name, config, message):
  with pytest.raises(UserError, match=message):
    torch_twins.Objective(name, **config)


@pytest.mark.parametrize("size, window, strides", [
    ((7, 8, 9), (7, 7, 7), (2, 2, 2)), ((8, 6, 5), (3, 3, 3), (1, 2, 2)),
    ((5, 4, 3), (2, 2, 2), (2, 2, 1)), ((4, 5, 6), (1, 3, 3), (1, 2, 2))])
def test_same_padding(size, window, strides):
  """Convolution and pooling of any length, without leaning on values above 0."""
  x = np.random.default_rng(0).normal(size=(2, *size, 3)).astype(np.float32)
  ours = pooling.max_pool(jnp.asarray(x), window, strides, "SAME", "direct")
  theirs = units.max_pool(torch.tensor(x).permute(0, 4, 1, 2, 3), window, strides)
  np.testing.assert_array_equal(theirs.permute(0, 2, 3, 4, 1), ours)
  conv = units.Conv(3, 2, window, strides, same=True)
  kernel = np.moveaxis(conv.weight.detach().numpy(), (0, 1), (-1, -2))
  theirs = conv(torch.tensor(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
  assert_close(theirs, convolution.conv3d(jnp.asarray(x), kernel, strides, "SAME", "direct"))


def test_jitter_moves_as_ours_does(monkeypatch):
  """With the same draws, a training clip's joints land where `affine` brings them."""
  maps = posec3d.Maps(size=(16, 20), rotate=20.0, stretch=0.25, shift=0.1)
  twin = drawing.Maps(maps, "coco_17").train()
  points = np.random.default_rng(0).uniform(0, 16, (3, 2, 4, 17, 2)).astype(np.float32)
  keys = jax.random.split(jax.random.key(3), 3)
  draws = jax.vmap(lambda key: jax.random.uniform(key, (5,), minval=-1, maxval=1))(keys)
  ours = affine.random_affine(points, (9.5, 7.5), keys, rotate=20.0, stretch=0.25, shift=1.6)
  unit = torch.tensor(np.asarray(draws)).T[..., None, None, None] / 2 + 0.5
  monkeypatch.setattr(torch, "rand", lambda *unused, **unused_too: unit)
  assert_close(twin.jitter(torch.tensor(points)), ours)
