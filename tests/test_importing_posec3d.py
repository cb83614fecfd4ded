"""Pose networks of PYSKL and MMAction2: what they compute, against PyTorch's functions, and what
their files tell of the maps that they read."""
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import configuration, planning, skeletons
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_posec3d
from actionjax.models import c3d, posec3d, resnet3d, x3d
from actionjax.ops import heatmaps
from tests import raw_own, references

torch = pytest.importorskip("torch")
from torch.nn import functional as F  # noqa: E402

# Of the released limb configs, of PYSKL and MMAction2 alike.
LIMBS = [[0, 5], [0, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [11, 13], [13, 15], [6, 12],
         [12, 14], [14, 16], [0, 1], [0, 2], [1, 3], [2, 4], [11, 12]]


# --- Numbers: the networks as their papers describe them ------------------------------------------

class Network:
  """A state by PyTorch's names, and layers that read it. [N,C,T,H,W], float64."""

  def __init__(self):
    self.state = {}

  def conv(self, x, name, out, kernel, stride=(1, 1, 1), groups=1):
    weight = self.array(f"backbone.{name}.weight", out, x.shape[1] // groups, *kernel)
    return F.conv3d(x, weight, None, stride, [k // 2 for k in kernel], groups=groups)

  def bn(self, x, name):
    mean, var, weight, bias = (self.array(f"backbone.{name}.{leaf}", x.shape[1]) for leaf in (
        "running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, False, 0, 1e-5)

  def unit(self, x, name, *args, **kwargs):
    return self.bn(self.conv(x, f"{name}.conv", *args, **kwargs), f"{name}.bn")

  def array(self, name, *shape):
    self.state[name] = references.generated(name, shape)
    return torch.tensor(self.state[name], dtype=torch.float64)

  def head(self, x, classes):
    weight = self.array("cls_head.fc_cls.weight", classes, x.shape[1])
    return x.mean((2, 3, 4)) @ weight.T + self.array("cls_head.fc_cls.bias", classes)


def c3d_light(net, x):
  """Six convolutions of 3x3x3, three averages over 2x2 pixels (PoseC3D, appendix)."""
  for group, (letters, width) in enumerate((("a", 32), ("a", 64), ("ab", 128), ("ab", 256)), 1):
    if group > 1:
      x = F.avg_pool3d(x, (1, 2, 2))
    for letter in letters:
      x = F.relu(net.unit(x, f"conv{group}{letter}", width, (3, 3, 3)))
  return x


def x3d_shallow(net, x):
  """X3D-S without its first stage, squeeze-and-excitation and swish (PoseC3D, appendix)."""
  x = net.conv(x, "conv1_s.conv", 24, (1, 3, 3), (1, 2, 2))
  x = F.relu(net.unit(x, "conv1_t", 24, (5, 1, 1), groups=24))
  for stage, (blocks, width, inner) in enumerate(((2, 24, 54), (5, 48, 108), (3, 96, 216)), 1):
    for block in range(blocks):
      name, stride = f"layer{stage}.{block}", (1, 1, 1) if block else (1, 2, 2)
      y = F.relu(net.unit(x, f"{name}.conv1", inner, (1, 1, 1)))
      y = net.unit(y, f"{name}.conv2", inner, (3, 3, 3), stride, groups=inner)
      y = net.unit(y, f"{name}.conv3", width, (1, 1, 1))
      if not block:
        x = net.unit(x, f"{name}.downsample", width, (1, 1, 1), stride)
      x = F.relu(x + y)
  return F.relu(net.unit(x, "conv5", 216, (1, 1, 1)))


def slowonly(net, x, width=4):
  """Pose-SlowOnly with a block a stage."""
  x = F.relu(net.unit(x, "conv1", width, (1, 7, 7)))
  x = F.max_pool3d(x, (1, 3, 3), (1, 1, 1), (0, 1, 1))
  for stage, (frames, time) in enumerate(((1, 1), (3, 1), (3, 2)), 1):
    name, inner, stride = f"layer{stage}.0", width * 2 ** (stage - 1), (time, 2, 2)
    y = F.relu(net.unit(x, f"{name}.conv1", inner, (frames, 1, 1)))
    y = F.relu(net.unit(y, f"{name}.conv2", inner, (1, 3, 3), stride))
    y = net.unit(y, f"{name}.conv3", 4 * inner, (1, 1, 1))
    x = F.relu(y + net.unit(x, f"{name}.downsample", 4 * inner, (1, 1, 1), stride))
  return x


def made(network, maps=17, classes=5, size=24):
  """(state, volume float32[1,4,size,size,maps], features, logits) of a network."""
  net = Network()
  volume = references.signal("volume", (2, 4, size, size, maps))
  features = network(net, torch.tensor(np.moveaxis(volume, -1, 1), dtype=torch.float64))
  logits = net.head(features, classes)
  return net.state, volume, np.moveaxis(features.numpy(), 1, -1), logits.numpy()


def answer(found, volume):
  """(features, logits) of the imported network."""
  fields = dict(found.network["backbone"])
  module = {"c3d": c3d, "x3d": x3d, "resnet3d": resnet3d}[fields.pop("name")].Backbone(**fields)
  variables = {name: tree["backbone"] for name, tree in found.variables.items()}
  features = jax.jit(lambda v, x: module.apply(v, x, train=False)[0])(variables, volume)
  dense = found.variables["params"]["head"]["dense"]
  return features, features.mean((1, 2, 3)) @ dense["kernel"] + dense["bias"]


@pytest.mark.parametrize("network, count", [(c3d_light, 3_389_472), (x3d_shallow, 241_488),
                                            (slowonly, None)])
def test_imported_networks_compute_what_they_should(network, count):
  state, volume, features, logits = made(network)
  found = torch_posec3d.import_posec3d(state)
  if count:
    assert sum(leaf.size for leaf in jax.tree.leaves(
        found.variables["params"]["backbone"])) == count
  ours = answer(found, jnp.asarray(volume))
  assert np.ptp(logits) > 0.05
  for mine, theirs in zip(ours, (features, logits)):
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-5 * np.abs(theirs).max())


# --- Which maps -----------------------------------------------------------------------------------

def _config(with_kp, with_limb, limbs=None, stride=2):
  skeleton = "" if limbs is None else f", skeletons={limbs}"
  return (f"model = dict(type='Recognizer3D', backbone=dict(type='ResNet3dSlowOnly', "
          f"temporal_strides=(1, 1, {stride})))\n"
          f"val_pipeline = [dict(type='GeneratePoseTarget', with_kp={with_kp}, "
          f"with_limb={with_limb}{skeleton})]\n")


def test_a_config_beside_the_weights_names_the_maps_and_the_stride():
  state = made(slowonly, size=16)[0]
  read = lambda config, **options: torch_posec3d.import_posec3d(state, config=config, **options)
  assert read(None).maps == {}
  assert read(None).network["backbone"]["temporal_strides"] == (1, 1, 2)
  assert read(_config(True, False)).maps == {"kind": "joint"}
  assert read(_config(False, True, LIMBS)).maps == {"kind": "limb"}
  # The code's own order, where a config leaves it at that.
  assert read(_config(False, True)).maps == {
      "kind": "limb", "limbs": [list(pair) for pair in posec3d.MMACTION_LIMBS]}
  assert read(_config(False, True, LIMBS[::-1])).maps["limbs"] == LIMBS[::-1]
  found = read(_config(True, False, stride=1))
  assert found.network["backbone"]["temporal_strides"] == (1, 1, 1)
  with pytest.raises(UserError, match="its own config says kind=joint, not limb; leave out --kind"):
    read(_config(True, False), kind="limb")
  with pytest.raises(UserError, match="says temporal_stride=1, not 2"):
    read(_config(True, False, stride=1), temporal_stride=2)
  for text in ("no Python at all (", "dict(type='GeneratePoseTarget', with_limb=f())",
               "dict(type='GeneratePoseTarget', with_kp=[])",
               "x = dict(type=['GeneratePoseTarget'], temporal_strides=({}, [], []))",
               "dict(type='ResNet3dSlowOnly', temporal_strides=(1, 1, {}))\n"
               "dict(type='GenSkeFeat', feats=[['j']])", "(" * 10**4):
    found = read(text)
    assert (found.maps, found.network["backbone"]["temporal_strides"]) == ({}, (1, 1, 2))


def test_the_number_of_maps_tells_where_it_can():
  state = made(slowonly, maps=25, size=16)[0]
  read = lambda **options: torch_posec3d.import_posec3d(state, **options)
  assert read().layout is None and read().maps == {}
  assert read(layout="kinect_v2_25").maps == {"kind": "joint"}
  with pytest.raises(UserError, match="reads 25 maps, but kinect_v2_25 gives 25 for joint, 24 for"):
    read(layout="kinect_v2_25", kind="limb")
  with pytest.raises(UserError, match="reads 25 maps, but coco_17 gives 17 for joint, 17 for limb"):
    read(layout="coco_17")
  both = made(slowonly, maps=34, size=16)[0]
  assert torch_posec3d.import_posec3d(both, layout="coco_17").maps == {"kind": "both"}
  with pytest.raises(UserError, match="kind must be one of joint, limb, both, got 'bone'"):
    read(kind="bone")


def test_names_of_wrappers_averages_and_other_heads():
  state = made(slowonly, size=16)[0]
  expected = torch_posec3d.import_posec3d(state)
  same = lambda found: jax.tree.map(np.testing.assert_array_equal, found.variables,
                                    expected.variables)
  same(torch_posec3d.import_posec3d({f"module.{name}": value for name, value in state.items()}))
  same(torch_posec3d.import_posec3d({f"model.{name}": value for name, value in state.items()} | {
      "data_preprocessor.std": np.ones(3)}))
  same(torch_posec3d.import_posec3d({name.replace("fc_cls", "fc"): value
                                     for name, value in state.items()}))
  averaged = {f"ema_{name.replace('.', '_')}": value + 1 for name, value in state.items()
              if "running" not in name}
  same(torch_posec3d.import_posec3d(state | averaged))
  moved = torch_posec3d.import_posec3d(state | averaged, ema=True).variables
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b + 1), moved["params"],
               expected.variables["params"])
  jax.tree.map(np.testing.assert_array_equal, moved["batch_stats"],
               expected.variables["batch_stats"])
  headless = torch_posec3d.import_posec3d({name.removeprefix("backbone."): value
                                           for name, value in state.items()
                                           if name.startswith("backbone.")})
  assert headless.num_classes is None and "head" not in headless.variables["params"]
  with pytest.raises(UserError, match="is a graph network, which --format=torch_gcn converts"):
    torch_posec3d.import_posec3d(references.torch_stgcn())


def test_a_fused_network_without_heads():
  state = references.state("rgbpose_conv3d_r50")
  found = torch_posec3d.import_posec3d({name: value for name, value in state.items()
                                        if name.startswith("backbone.")})
  assert found.num_classes is None and set(found.variables["params"]) == {"backbone"}
  assert found.maps == {"kind": "joint"}


# --- Testing with other maps ----------------------------------------------------------------------

@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a prepared annotation file and a small network as `mmcv` saves it."""
  root = tmp_path_factory.mktemp("posec3d")
  content = raw_own.annotations(8)
  for number, one in enumerate(content["annotations"]):
    one["label"] = number % 5
  raw_own.prepare("annotations:mine", raw_own.dump(root / "a.pkl", content), root / "data")
  state = {name: torch.tensor(value) for name, value in made(slowonly, size=16)[0].items()}
  torch.save({"meta": {"config": _config(False, True, LIMBS)}, "state_dict": state},
             root / "limb.pth")
  torch.save({"state_dict": state}, root / "untold.pth")
  torch.save({"meta": {"cfg": _config(False, True)}, "state_dict": state}, root / "default.pth")
  return root


def _test_config(root, name, **changes):
  arguments = dict(dataset="annotations:mine", clips=2, test=root / name) | changes
  config = configuration.load(
      f"{configuration.shipped_directory()}/posec3d_ntu60.py:"
      + ",".join(f"{key}={value}" for key, value in arguments.items()))
  config.data_dir = str(root / "data")
  with config.unlocked():
    config.steps[0].model.backbone = dict(posec3d.SLOWONLY, width=4, stage_sizes=(1, 1, 1))
  return config


def _drawn(config):
  """What the planned network draws of a clip, float[1,T,H,W,17], and the clip."""
  model = next(iter(planning.plan(config).flatten())).outline.model.module
  rng = np.random.default_rng(0)
  batch = {"pose2d": rng.uniform(5, 60, (1, 1, 2, 17, 2)).astype(np.float32),
           "pose_score": np.ones((1, 1, 2, 17), np.float32)}
  return posec3d.make_maps(model.maps).draw(batch, model.layout, train=False), batch


def test_a_limb_network_is_not_tested_on_joints(place):
  convert = lambda file, name, **options: conversion.convert(
      "torch_posec3d", str(place / file), str(place / name), **options)
  with pytest.raises(UserError, match="untold.pth reads as many maps as coco_17 has joints, or .* "
                                      "say --kind=joint or --kind=limb"):
    convert("untold.pth", "untold")
  assert convert("limb.pth", "limb")["maps"] == {"kind": "limb"}
  assert convert("untold.pth", "joint", kind="joint")["maps"] == {"kind": "joint"}
  for name, kind in (("limb", "joint"), ("joint", "limb")):
    with pytest.raises(UserError, match=f"{name} reads heat maps of kind {name}, but .* is {kind}; "
                                        f"give kind={name}"):
      planning.plan(_test_config(place, name, kind=kind))
  layout = skeletons.layout("coco_17")
  for released in ("pyskl", "mmaction2"):
    maps, batch = _drawn(_test_config(place, "limb", kind="limb", released=released))
    expected = heatmaps.heatmaps(batch["pose2d"], batch["pose_score"], (64, 64), layout,
                                 kind="limb", limbs=LIMBS)
    np.testing.assert_array_equal(maps, expected)
  # A file whose config left the order to the code.
  convert("default.pth", "default")
  maps, batch = _drawn(_test_config(place, "default", kind="limb"))
  expected = heatmaps.heatmaps(batch["pose2d"], batch["pose_score"], (64, 64), layout,
                               kind="limb", limbs=posec3d.MMACTION_LIMBS)
  np.testing.assert_array_equal(maps, expected)
  other = _test_config(place, "default", kind="limb")
  with other.unlocked():
    other.steps[0].model.maps.limbs = LIMBS
  with pytest.raises(UserError, match="reads the limbs .* in this order"):
    planning.plan(other)


def test_the_command_says_what_a_file_reads(place):
  run = lambda *flags: subprocess.run(
      [sys.executable, "-m", "actionjax.convert", "--format=torch_posec3d", *flags],
      capture_output=True, text=True, check=False)
  done = run(f"--checkpoint={place}/limb.pth", f"--out={place}/told")
  assert done.returncode == 0 and "maps: {'kind': 'limb'}" in done.stdout, done.stderr
  done = run(f"--checkpoint={place}/untold.pth", f"--out={place}/told_too")
  assert done.returncode == 1 and "say --kind=joint or --kind=limb" in done.stderr
