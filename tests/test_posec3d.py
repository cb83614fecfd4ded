"""PoseC3D and RGBPose-SlowFast: published counts, numbers of the released code, invariants."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_layout, torch_posec3d
from actionjax.importers.torch_posec3d import import_posec3d
from actionjax.models import c3d, posec3d, resnet3d, rgbpose, video_network, x3d
from actionjax.ops import heatmaps
from actionjax.training import checkpoint, initialise
from tests import references

# Most of a test's time is compilation.
_QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# Small, with the strides and the three stages of the real ones.
POSE = {**posec3d.SLOWONLY_FUSED, "stage_sizes": (1, 1, 1), "width": 4, "zero_init": False}
RGB = {**rgbpose.RGB, "depth": None, "block": "bottleneck", "stage_sizes": (1, 1, 1, 1),
       "width": 8, "zero_init": False}
SMALL = dict(rgb=RGB, pose=POSE, maps=dict(size=(16, 16), sigma=0.7, scale=0.25))


def _init(model, batch, seed=0):
  """Variables with every array drawn, so that nothing hides behind a zero or a one."""
  shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    value = rng.normal(0, 0.3, leaf.shape)
    return (abs(value) + 0.5 if path[-1].key in ("var", "scale") else value).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def _apply(model, variables, *batch):
  run = jax.jit(lambda v, b: model.apply(v, *b, train=False), compiler_options=_QUICK)
  return run(variables, batch)


def _batch(frames=8, size=64, seed=0):
  rng = np.random.default_rng(seed)
  return {"video": rng.integers(0, 256, (2, frames // 4, size, size, 3)).astype(np.uint8),
          "pose2d": rng.uniform(0, size, (2, 2, frames, 17, 2)).astype(np.float32),
          "pose_score": rng.uniform(0.3, 1, (2, 2, frames, 17)).astype(np.float32)}


def _count(model, frames):
  size = jax.ShapeDtypeStruct
  batch = {"video": size((1, frames // 4, 224, 224, 3), jnp.uint8),
           "pose2d": size((1, 2, frames, 17, 2), jnp.float32),
           "pose_score": size((1, 2, frames, 17), jnp.float32)}
  params = jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), batch)["params"]
  return {name: sum(leaf.size for leaf in jax.tree.leaves(tree)) for name, tree in params.items()}


@pytest.mark.parametrize("backbone,count", [
    (posec3d.SLOWONLY, 1_994_080), (posec3d.SLOWONLY_346, 3_003_360),
    (posec3d.SLOWONLY_NARROW, 508_336), (posec3d.C3D, 3_389_472), (posec3d.X3D, 241_488)])
def test_parameter_counts(backbone, count):
  assert _count(posec3d.Model(60, "coco_17", backbone), 48)["backbone"] == count


def test_parameter_counts_of_rgbpose():
  def pathways(laterals):
    return _count(rgbpose.Model(60, "coco_17", laterals=laterals), 32)

  both, none = pathways("both"), pathways("none")
  # Further input channels of two convolutions in two stages, besides the laterals.
  inputs = (128 * 3 * 256 + 128 * 1024 + 256 * 3 * 512 + 256 * 2048
            + 32 * 3 * 64 + 32 * 256 + 64 * 3 * 128 + 64 * 512)
  laterals = 7 * (128 * 128 + 256 * 256 + 512 * 32 + 1024 * 64) + 2 * (32 + 64)
  assert laterals == 1_147_072 and both["head_rgb"] + both["head_pose"] == 153_720
  assert both["backbone"] == 32_781_376 + 2_065_760 + laterals
  assert both["backbone"] - none["backbone"] == inputs + laterals


@pytest.mark.parametrize("backbone,last,shape", [
    (posec3d.C3D, "stage4", (4, 7, 7, 256)), (posec3d.X3D, "conv5", (4, 4, 4, 216))])
def test_other_backbones_keep_every_frame(backbone, last, shape):
  model = posec3d.Model(5, "coco_17", backbone)
  batch = {"pose2d": jnp.zeros((1, 1, 4, 17, 2)), "pose_score": jnp.zeros((1, 1, 4, 17))}
  (logits, out), _ = jax.eval_shape(
      lambda: model.init_with_output(jax.random.key(0), batch, train=False))
  assert logits.shape == (1, 5) and out[last].shape == out["feature_map"].shape == (1, *shape)


@pytest.mark.slow
def test_the_model_draws_before_it_looks():
  batch = _batch(frames=4, size=16)
  model = posec3d.Model(5, "coco_17", POSE, dict(size=(16, 16), kind="both"))
  assert model.inputs == ("pose2d", "pose_score")
  logits, out = _apply(model, _init(model, batch), batch)
  expected = heatmaps.heatmaps(batch["pose2d"], batch["pose_score"], (16, 16),
                               skeletons.layout("coco_17"), kind="both")
  np.testing.assert_allclose(out["heatmaps"], expected, atol=1e-6)
  scaled = posec3d.make_maps(dict(size=(16, 16), kind="both", scale=0.5)).draw(
      {**batch, "pose2d": 2 * batch["pose2d"]}, "coco_17", train=True)
  np.testing.assert_allclose(scaled, expected, atol=1e-6)
  assert logits.shape == (2, 5) and np.ptp(logits, 0).max() > 1e-3, "it looks at what it drew"


def test_maps_at_test_may_be_larger():
  batch = _batch(frames=4, size=16)
  model = posec3d.Model(5, "coco_17", POSE, dict(size=(12, 16), test_size=(20, 24), scale=0.5))
  for train, size in ((True, (12, 16)), (False, (20, 24))):
    out = jax.eval_shape(lambda train=train: model.init_with_output(
        {"params": jax.random.key(0), "dropout": jax.random.key(0)}, batch, train=train)[0][1])
    assert out["heatmaps"].shape == (2, 4, *size, 17)
  model.check_pixels((24, 32), (40, 48))
  with pytest.raises(UserError, match=r"model.maps.test_size is \(20, 24\), but data.pose2d.test_si"
                     r"ze \(24, 32\) times model.maps.scale 0.5"):
    model.check_pixels((24, 32), (24, 32))


@pytest.mark.slow
def test_a_small_network_learns_in_a_few_steps():
  batch, labels = _batch(frames=4, size=16), jnp.array([0, 1])
  model = posec3d.Model(2, "coco_17", {**POSE, "zero_init": True}, dict(size=(16, 16)), dropout=0)
  variables = jax.jit(lambda: model.init(jax.random.key(0, impl="rbg"), batch, train=False),
                      compiler_options=_QUICK)()

  @functools.partial(jax.jit, compiler_options=_QUICK)
  def step(variables):
    def loss(params):
      (logits, _), new = model.apply({**variables, "params": params}, batch, train=True,
                                     mutable=["batch_stats"])
      return -jax.nn.log_softmax(logits)[jnp.arange(2), labels].mean(), new["batch_stats"]
    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(variables["params"])
    params = jax.tree.map(lambda p, g: p - 0.1 * g, variables["params"], gradient)
    return value, {"params": params, "batch_stats": stats}

  losses = []
  for _ in range(10):
    value, variables = step(variables)
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]


def test_3d_skeletons_are_three_views():
  batch = {"pose3d": np.random.default_rng(0).normal(0, 1, (1, 1, 4, 25, 3)),
           "pose_score": np.ones((1, 1, 4, 25))}
  model = posec3d.Model(5, "kinect_v2_25", POSE, dict(size=(16, 16), source="pose3d", fill=True))
  assert model.inputs == ("pose3d", "pose_score")
  out = jax.eval_shape(lambda: model.init_with_output(
      jax.random.key(0), batch, train=False)[0][1])
  assert out["heatmaps"].shape == (1, 4, 16, 16, 75)


def test_jitter_moves_what_is_trained_on_and_nothing_else():
  batch = _batch(frames=4, size=16)
  plain, jittered = (posec3d.make_maps(dict(size=(16, 16), **how)) for how in (
      {}, dict(rotate=20, stretch=0.2, shift=0.1)))
  keys = [jax.random.key(seed, impl="rbg") for seed in range(2)]
  draw = jax.jit(lambda maps, batch, key, train: maps.draw(batch, "coco_17", train=train, key=key),
                 static_argnames=("maps", "train"))
  expected = draw(plain, batch, keys[0], train=True)
  np.testing.assert_array_equal(draw(jittered, batch, keys[0], train=False), expected)
  moved = draw(jittered, batch, keys[0], train=True)
  assert np.abs(moved - expected).max() > 0.1
  np.testing.assert_array_equal(moved, draw(jittered, batch, keys[0], train=True))
  assert np.abs(moved - draw(jittered, batch, keys[1], train=True)).max() > 0.1


def test_three_views_are_jittered_apart():
  points = np.random.default_rng(0).normal(0, 1, (1, 1, 4, 25, 1)).repeat(3, -1)
  points[..., 1] *= -1  # all three views show the same
  batch = {"pose3d": points * [1, 1, 1], "pose_score": np.ones((1, 1, 4, 25))}
  maps = posec3d.make_maps(dict(size=(16, 16), source="pose3d", fill=True, shift=0.2))
  draw = jax.jit(lambda key, train: maps.draw(batch, "kinect_v2_25", train=train, key=key),
                 static_argnames="train")
  key = jax.random.key(0, impl="rbg")
  front, side, _ = np.split(draw(key, train=False), 3, -1)
  np.testing.assert_allclose(front, side, atol=1e-6)
  front, side, _ = np.split(draw(key, train=True), 3, -1)
  assert np.abs(front - side).max() > 0.1


@pytest.mark.parametrize("maps,word", [(dict(kind="bone"), "bone"), (dict(source="pose3d"), "fill"),
                                       (dict(blur=2), "blur"), (dict(shift=-0.1), "shift"),
                                       (dict(sigma=0.0), "sigma"), (dict(size=(56,)), "size")])
def test_mistakes_in_maps_are_named(maps, word):
  with pytest.raises(UserError, match=word) as error:
    posec3d.make_maps(maps)
  assert "\n" not in str(error.value)


# RGBPose-SlowFast.

@pytest.mark.parametrize("maps, word", [
    (dict(kind="limb", limbs=((0, 17),)), "limbs .* are not pairs of the 17 joints of coco_17"),
    (dict(limbs=((0, 1),)), "'joint' draw none")])
def test_limbs_that_cannot_be_drawn_are_named(maps, word):
  batch = {"pose2d": np.zeros((1, 1, 2, 17, 2)), "pose_score": np.ones((1, 1, 2, 17))}
  with pytest.raises(UserError, match=f"model.maps: .*{word}"):
    posec3d.make_maps(dict(size=(8, 8)) | maps).draw(batch, "coco_17", train=False)


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 0.5, 0.5), (0.0, 0.0), (2.0, -1.0)])
def test_weights_of_other_streams_are_refused(weights):
  with pytest.raises(UserError, match="must be weights of the 2 streams"):
    rgbpose.late_fusion([np.zeros((1, 3))] * 2, weights)


def test_skeletons_are_not_moved_beside_a_video():
  model = rgbpose.Model(5, "coco_17", **{**SMALL, "maps": dict(SMALL["maps"], rotate=10.0)})
  with pytest.raises(UserError, match="rotate, stretch and shift move the skeletons, and not"):
    jax.eval_shape(lambda b: model.init(jax.random.key(0), b, train=False), _batch())


def test_transposed_convolution_against_its_definition():
  rng = np.random.default_rng(0)
  for stride, taps in ((4, 7), (2, 3), (3, 9), (4, 1)):
    x, kernel = rng.normal(size=(2, 5, 2, 3, 4)), rng.normal(size=(taps, 1, 1, 4, 6))
    expected = np.zeros((2, 5 * stride, 2, 3, 6))
    for frame in range(5):
      for tap in range(taps):
        place = stride * frame + tap - taps // 2
        if 0 <= place < 5 * stride:
          expected[:, place] += x[:, frame] @ kernel[tap, 0, 0]
    ours = jax.jit(rgbpose.upsample_conv, static_argnums=2)(
        jnp.asarray(x, jnp.float32), jnp.asarray(kernel, jnp.float32), stride)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@pytest.mark.slow
def test_merged_streams_start_as_their_late_fusion(capsys):
  batch = _batch()
  rgb, pose = video_network.Model(5, RGB), posec3d.Model(5, "coco_17", POSE, SMALL["maps"])
  alone = {"rgb": _init(rgb, batch, 1), "pose": _init(pose, batch, 2)}
  apart = {"rgb": _apply(rgb, alone["rgb"], batch)[0],
           "pose": _apply(pose, alone["pose"], batch)[0]}
  joint = rgbpose.Model(5, "coco_17", **SMALL, fusion=(2, 1))
  fresh = merged = jax.device_put(_init(joint, batch, 3))
  for stream, section in zip(("rgb", "pose"), rgbpose.start_from("video", "skeletons")):
    merged, report = initialise.load_into(merged, alone[stream], initialise.InitFrom(**section))
    # Two kernels of one block after each crossing read what the other stream says.
    assert len(report.padded) == 4 and report.skipped == ()
  assert "initialised from video: " in capsys.readouterr().err
  run = jax.jit(lambda variables: joint.apply(variables, batch, train=False),
                compiler_options=_QUICK)
  logits, out = run(merged)
  for stream, expected in apart.items():
    np.testing.assert_allclose(out["stream_logits"][stream], expected, rtol=0,
                               atol=1e-5 * np.abs(expected).max())
  softmax = {stream: np.asarray(jax.nn.softmax(value)) for stream, value in apart.items()}
  np.testing.assert_allclose(np.exp(logits), (2 * softmax["rgb"] + softmax["pose"]) / 3, atol=1e-5)
  # The laterals are there, though: with the weights drawn they change both streams.
  _, unlike = run(fresh)
  assert not np.allclose(unlike["stream_logits"]["rgb"], apart["rgb"], atol=1e-3)

  del alone["pose"]["params"]["head"]
  with pytest.raises(UserError, match="skeletons does not fit this model: .*params/head_pose"):
    initialise.load_into(fresh, alone["pose"], initialise.InitFrom(**section))


@pytest.mark.parametrize("laterals,listens", [
    ("both", {"rgb", "pose"}), ("rgb_to_pose", {"pose"}), ("pose_to_rgb", {"rgb"}),
    ("none", set())])
def test_laterals_carry_the_other_stream(laterals, listens):
  model = rgbpose.Model(5, "coco_17", **SMALL, laterals=laterals)
  batch, other = _batch(), _batch(seed=1)
  variants = (batch, {**batch, "pose2d": other["pose2d"]}, {**batch, "video": other["video"]})
  rows = {name: np.concatenate([variant[name] for variant in variants]) for name in batch}
  _, out = _apply(model, _init(model, batch), rows)
  for stream, foreign in (("rgb", 1), ("pose", 2)):
    logits = np.split(np.asarray(out["stream_logits"][stream]), 3)
    same = np.allclose(logits[foreign], logits[0], atol=1e-5)
    assert same == (stream not in listens)


def test_streams_that_do_not_go_together_are_named():
  model = rgbpose.Model(5, "coco_17", **SMALL)
  short = {**_batch(), "video": np.zeros((2, 3, 64, 64, 3), np.uint8)}
  for batch, word in ((short, "3x8x8"), (_batch(size=32), "4x4")):
    with pytest.raises(UserError, match=word):
      jax.eval_shape(lambda batch=batch: model.init(jax.random.key(0), batch, train=False))
  with pytest.raises(UserError, match="sideways"):
    jax.eval_shape(lambda: rgbpose.Model(5, "coco_17", **SMALL, laterals="sideways").init(
        jax.random.key(0), _batch(), train=False))


# Checkpoints, and the released code's numbers.

def _input(key, shape):
  """The reference's input [1,C,T,H,W] as [1,T,H,W,C]."""
  return np.moveaxis(references.signal(key, shape), 1, -1)


def _agree(ours, theirs):
  np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())


def _backbone(network):
  fields = dict(network)
  return {"resnet3d": resnet3d, "c3d": c3d, "x3d": x3d}[fields.pop("name")].Backbone(**fields)


def test_numbers_of_pose_slowonly():
  state, known = references.state("pose_slowonly_r50"), references.stored("pose_slowonly_r50")
  found = import_posec3d(state)
  assert found.num_classes == 60
  assert found.network == {"name": "posec3d", "backbone": posec3d.SLOWONLY}
  variables = {collection: tree["backbone"] for collection, tree in found.variables.items()}
  features, _ = _apply(_backbone(posec3d.SLOWONLY), variables,
                       _input("pose_slowonly_input", (1, 17, 16, 56, 56)))
  _agree(np.moveaxis(features, -1, 1), known["features"])
  dense = found.variables["params"]["head"]["dense"]
  _agree(features.mean((1, 2, 3)) @ dense["kernel"] + dense["bias"], known["logits"])


@pytest.mark.slow
def test_numbers_of_rgbpose_conv3d():
  state, known = references.state("rgbpose_conv3d_r50"), references.stored("rgbpose_conv3d_r50")
  found = import_posec3d(state)
  assert found.num_classes == 60 and found.network["laterals"] == "both"
  fields = {key: found.network[key] for key in ("rgb", "pose", "laterals")}
  assert fields["pose"] == posec3d.SLOWONLY_FUSED
  variables = {collection: tree["backbone"] for collection, tree in found.variables.items()}
  maps = _apply(rgbpose.Pathways(**fields), variables, _input("rgbpose_rgb", (1, 3, 4, 112, 112)),
                _input("rgbpose_pose", (1, 17, 16, 28, 28)))
  for name, features in zip(("rgb", "pose"), maps):
    _agree(np.moveaxis(features, -1, 1), known[f"{name}_features"])
    dense = found.variables["params"][f"head_{name}"]["dense"]
    _agree(features.mean((1, 2, 3)) @ dense["kernel"] + dense["bias"], known[f"{name}_logits"])


def _torch_state(backbone):
  """Ones under PyTorch's names for a network with 17 maps and 5 classes."""
  rename, features = {"c3d": (torch_posec3d._c3d_name, 256),
                      "x3d": (torch_posec3d._x3d_name, 216)}[backbone["name"]]
  variables = jax.eval_shape(lambda: _backbone(backbone).init(
      jax.random.key(0), jnp.zeros((1, 2, 32, 32, 17)), train=False))
  state = {"cls_head.fc_cls.weight": np.ones((5, features)), "cls_head.fc_cls.bias": np.ones(5)}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(variables)[0]:
    path = tuple(key.key for key in keys)[1:]
    shape = leaf.shape
    if path[-1] == "kernel":
      shape = (shape[-1], shape[-2], *shape[:-2])
    state["backbone." + rename(path)] = np.ones(shape, np.float32)
  return state


@pytest.mark.parametrize("backbone,names", [
    (posec3d.C3D, ("conv1a.conv.weight", "conv3b.bn.running_var", "conv4b.bn.bias")),
    (posec3d.X3D, ("conv1_t.conv.weight", "conv1_t.bn.weight", "layer1.0.downsample.bn.bias",
                   "layer2.4.conv2.conv.weight", "conv5.bn.running_mean"))])
def test_other_networks_have_the_released_names(backbone, names):
  state = _torch_state(backbone)
  assert {f"backbone.{name}" for name in names} <= set(state)
  if backbone is posec3d.X3D:
    assert state["backbone.layer2.4.conv2.conv.weight"].shape == (108, 1, 3, 3, 3)
  found = import_posec3d(state)
  assert found.network["backbone"] == backbone and found.num_classes == 5
  count = sum(leaf.size for leaf in jax.tree.leaves(found.variables["params"]["backbone"]))
  assert count == {"c3d": 3_389_472, "x3d": 241_488}[backbone["name"]]


def test_another_architecture_is_named_by_what_differs():
  with pytest.raises(UserError) as error:
    import_posec3d({"features.0.weight": np.ones((4, 3, 3, 3))}, source="vgg.pth")
  message = str(error.value)
  assert message.startswith("vgg.pth: missing: ") and "backbone.conv1.conv.weight" in message
  assert message.endswith("left over: features.0.weight") and "\n" not in message


def test_converting_writes_the_whole_model(tmp_path, monkeypatch):
  state = _torch_state(posec3d.X3D)
  monkeypatch.setattr(torch_layout, "read_torch", lambda path: state)
  (tmp_path / "file.pth").touch()
  description = conversion.convert("torch_posec3d", str(tmp_path / "file.pth"),
                                   str(tmp_path / "model"), kind="limb")
  assert description["maps"] == {"kind": "limb"}
  assert description["network"] == {"name": "posec3d", "backbone": posec3d.X3D}
  variables, _ = checkpoint.load_model(checkpoint.find_model(tmp_path / "model"))
  batch = {"pose2d": jnp.zeros((1, 1, 2, 17, 2)), "pose_score": jnp.zeros((1, 1, 2, 17))}
  model = posec3d.Model(5, "coco_17", posec3d.X3D, dict(size=(32, 32)))
  wanted = jax.eval_shape(lambda: model.init(jax.random.key(0), batch, train=False))
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, wanted)
