"""Inflated 2D ResNets against the 2D networks, in PyTorch and in NumPy."""
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import models
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_layout, torch_resnet2d
from actionjax.models.resnet3d import DEPTHS, ResNet3D
from actionjax.training import checkpoint, initialise

TINY = {"basic": ("basic", (1, 1)), "bottleneck": ("bottleneck", (1, 1))}


def _state(kind, sizes, width=8, seed=0):
  """A state with torchvision's names, running statistics and all, of random numbers."""
  rng = np.random.default_rng(seed)
  state = {}

  def conv(name, inputs, outputs, size):
    spread = np.sqrt(2 / (inputs * size**2))
    state[f"{name}.weight"] = rng.normal(0, spread, (outputs, inputs, size, size))

  def norm(name, features):
    state.update({f"{name}.weight": rng.uniform(0.3, 0.8, features),
                  f"{name}.bias": rng.normal(0, 0.2, features),
                  f"{name}.running_mean": rng.normal(0, 0.3, features),
                  f"{name}.running_var": rng.uniform(0.5, 2, features)})

  conv("conv1", 3, width, 7)
  norm("bn1", width)
  inputs = width
  for stage, blocks in enumerate(sizes):
    inner = width * 2**stage
    outer = inner * (4 if kind == "bottleneck" else 1)
    for block in range(blocks):
      name = f"layer{stage + 1}.{block}"
      shapes = ([(inner, 1), (inner, 3), (outer, 1)] if kind == "bottleneck" else
                [(inner, 3), (inner, 3)])
      if block == 0 and (stage > 0 or outer != inputs):
        conv(f"{name}.downsample.0", inputs, outer, 1)
        norm(f"{name}.downsample.1", outer)
      for i, (outputs, size) in enumerate(shapes, 1):
        conv(f"{name}.conv{i}", inputs, outputs, size)
        norm(f"{name}.bn{i}", outputs)
        inputs = outputs
  state["fc.weight"], state["fc.bias"] = rng.normal(size=(10, inputs)), np.zeros(10)
  state = {name: value.astype(np.float32) for name, value in state.items()}
  counters = [name.replace("running_var", "num_batches_tracked")
              for name in state if name.endswith("running_var")]
  return state | {name: np.array(7) for name in counters}


def _forward(ops, state, kind, sizes, x):
  """The 2D network on [N,3,H,W]: {"stem", "stage1", ...}; `ops` computes."""
  def unit(conv, norm, x, stride, padding):
    values = [state[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    return ops.norm(ops.conv(x, state[f"{conv}.weight"], stride, padding), *values)

  x = ops.relu(unit("conv1", "bn1", x, 2, 3))
  features = {"stem": x}
  x = ops.pool(x)
  for stage, blocks in enumerate(sizes, 1):
    for block in range(blocks):
      name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
      # (stride, padding) of each convolution; the block's stride sits on its first 3x3.
      plan = ([(1, 0), (stride, 1), (1, 0)] if kind == "bottleneck" else [(stride, 1), (1, 1)])
      shortcut, y = x, x
      for i, (step, padding) in enumerate(plan, 1):
        y = unit(f"{name}.conv{i}", f"{name}.bn{i}", y, step, padding)
        y = ops.relu(y) if i < len(plan) else y
      if f"{name}.downsample.0.weight" in state:
        shortcut = unit(f"{name}.downsample.0", f"{name}.downsample.1", x, stride, 0)
      x = ops.relu(y + shortcut)
    features[f"stage{stage}"] = x
  return features


def _torch_features(state, kind, sizes, frames):
  torch = pytest.importorskip("torch")
  F = torch.nn.functional
  ops = types.SimpleNamespace(
      conv=lambda x, w, stride, padding: F.conv2d(x, w, None, stride, padding),
      norm=lambda x, mean, var, scale, bias: F.batch_norm(x, mean, var, scale, bias, eps=1e-5),
      relu=F.relu, pool=lambda x: F.max_pool2d(x, 3, 2, 1))
  tensors = {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
  with torch.no_grad():
    found = _forward(ops, tensors, kind, sizes, torch.from_numpy(frames).permute(0, 3, 1, 2))
  return {name: value.permute(0, 2, 3, 1).numpy() for name, value in found.items()}


def _numpy_features(state, kind, sizes, frames):
  def windows(x, size, stride, padding, fill):
    x = np.pad(x, ((0, 0), (0, 0), *[(padding, padding)] * 2), constant_values=fill)
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), (2, 3))
    return views[:, :, ::stride, ::stride]

  per_channel = lambda value: value[:, None, None]
  ops = types.SimpleNamespace(
      conv=lambda x, w, stride, padding: np.einsum(
          "nihwab,oiab->nohw", windows(x, w.shape[-1], stride, padding, 0), w, optimize=True),
      norm=lambda x, mean, var, scale, bias: (
          (x - per_channel(mean)) / np.sqrt(per_channel(var) + 1e-5) * per_channel(scale)
          + per_channel(bias)),
      relu=lambda x: np.maximum(x, 0),
      pool=lambda x: windows(x, 3, 2, 1, -np.inf).max((-2, -1)))
  doubles = {name: value.astype(np.float64) for name, value in state.items()}
  found = _forward(ops, doubles, kind, sizes, frames.astype(np.float64).transpose(0, 3, 1, 2))
  return {name: value.transpose(0, 2, 3, 1) for name, value in found.items()}


@functools.cache
def _network(**fields):
  model = ResNet3D(**fields)
  return jax.jit(lambda variables, x: model.apply(variables, x, train=False)[1])


def _features(found, clip):
  """Every endpoint of the inflated network on one clip [T,H,W,3]."""
  run = _network(**found.fields)
  return {name: np.asarray(value[0]) for name, value in run(found.backbone, clip[None]).items()}


def _assert_close(found, expected, frames=slice(None)):
  assert set(found) == set(expected)
  for name, value in expected.items():
    scale = np.abs(value).max()
    assert scale > 0.1
    np.testing.assert_allclose(found[name][frames] / scale, value[frames] / scale, atol=1e-4,
                               err_msg=name)


def _moving(frames, size=32):
  return np.random.default_rng(1).standard_normal((frames, size, size, 3)).astype(np.float32)


def _still(frames, size=32):
  return np.repeat(_moving(1, size), frames, axis=0)


REFERENCES = {"torch": _torch_features, "numpy": _numpy_features}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("kind", TINY)
def test_centre_is_the_2d_network_frame_by_frame(kind, reference):
  plan, clip = TINY[kind], _moving(3)
  state = _state(*plan)
  expected = REFERENCES[reference](state, *plan, clip)
  _assert_close(_features(torch_resnet2d.import_resnet2d(state), clip), expected)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [18, 50])
def test_centre_at_full_depth(depth):
  state, clip = _state(*DEPTHS[depth]), _moving(2)
  found = torch_resnet2d.import_resnet2d(state)
  assert found.fields == {"depth": depth, "width": 8, "kernels": "3x3x3"}
  _assert_close(_features(found, clip), _torch_features(state, *DEPTHS[depth], clip))


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("kind", TINY)
def test_mean_is_the_2d_network_on_a_still_clip_away_from_its_ends(kind, reference):
  # Each 3x3x3 kernel lets the zeros before and after the clip reach one frame further in.
  plan = TINY[kind]
  reach = sum(plan[1]) * (2 if kind == "basic" else 1)
  state, clip = _state(*plan), _still(2 * reach + 3)
  expected = REFERENCES[reference](state, *plan, clip)
  found = _features(torch_resnet2d.import_resnet2d(state, "mean"), clip)
  _assert_close(found, expected, slice(reach, -reach))
  edge = np.abs(found["stage2"][reach - 1] - expected["stage2"][reach - 1]).max()
  assert edge > 1e-3 * np.abs(expected["stage2"]).max()  # and no nearer to the ends
  _assert_close({"stem": found["stem"]}, {"stem": expected["stem"]})  # the stem stays 2D


@pytest.mark.slow
def test_mean_at_full_depth():
  # ResNet-50 has 16 kernels that reach through time: of 37 frames the middle five are whole.
  state, clip = _state(*DEPTHS[50]), _still(37)
  expected = _torch_features(state, *DEPTHS[50], clip[:1])
  found = _features(torch_resnet2d.import_resnet2d(state, "mean"), clip)
  for t in range(16, 21):
    _assert_close({name: value[t] for name, value in found.items()},
                  {name: value[0] for name, value in expected.items()})


@pytest.mark.parametrize("kernels, stem_length, reach", [("3x1x1", 5, 4), ("2d", 1, 0)])
def test_other_kernels(kernels, stem_length, reach):
  # Action Machine's: a stem of five frames (two more to either side), two 3x1x1 kernels.
  plan = TINY["bottleneck"]
  state, clip = _state(*plan), _still(2 * reach + 1)
  options = dict(kernels=kernels, stem_length=stem_length)
  expected = _numpy_features(state, *plan, clip)
  found = torch_resnet2d.import_resnet2d(state, "mean", **options)
  assert found.backbone["params"]["stem"]["conv"]["kernel"].shape == (stem_length, 7, 7, 3, 8)
  _assert_close(_features(found, clip), expected, slice(reach, len(clip) - reach))
  clip = _moving(3)
  found = torch_resnet2d.import_resnet2d(state, "center", **options)
  _assert_close(_features(found, clip), _numpy_features(state, *plan, clip))


def test_rules_by_hand():
  kernel = np.arange(12.0).reshape(2, 1, 2, 3)
  centre = torch_resnet2d.inflate(kernel, 3)
  assert centre.shape == (2, 1, 3, 2, 3)
  np.testing.assert_array_equal(centre[:, :, 1], kernel)
  np.testing.assert_array_equal(centre[:, :, [0, 2]], 0)
  mean = torch_resnet2d.inflate(kernel, 4, "mean")
  np.testing.assert_array_equal(mean[:, :, 3], kernel / 4)
  np.testing.assert_allclose(mean.sum(2), kernel)
  for rule in torch_resnet2d.INFLATIONS:
    np.testing.assert_array_equal(torch_resnet2d.inflate(kernel, 1, rule)[:, :, 0], kernel)
  with pytest.raises(ValueError, match="even length 4"):
    torch_resnet2d.inflate(kernel, 4)
  with pytest.raises(ValueError, match="known: center, mean"):
    torch_resnet2d.inflate(kernel, 3, "centre")


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_is_recognised_and_filled(depth):
  found = torch_resnet2d.import_resnet2d(_state(*DEPTHS[depth], width=4))
  assert found.fields == {"depth": depth, "width": 4, "kernels": "3x3x3"}
  assert found.left_out == ("fc.weight", "fc.bias")
  block = found.backbone["params"]["stage1"]["block0"]
  assert ("shortcut" in block) == (depth >= 50)  # basic networks have none in stage 1


def test_a_training_starts_from_a_converted_file(tmp_path):
  torch = pytest.importorskip("torch")
  state = _state(*TINY["basic"])
  path, target = tmp_path / "resnet.pth", tmp_path / "model"
  torch.save({name: torch.from_numpy(np.array(value)) for name, value in state.items()}, path)
  description = conversion.convert("torch_resnet2d", str(path), str(target), inflation="mean")
  assert description["left_out"] == ["fc.weight", "fc.bias"]
  variables, stored = checkpoint.load_model(checkpoint.find_model(target))
  assert stored["inflation"] == "mean" and stored["source"] == "resnet.pth"

  # What was stored is what a config needs to give; every weight of that backbone is taken.
  model = models.create(dict(name="vpn", backbone=stored["backbone"], pose=dict(name="none")),
                        num_classes=5, layout="kinect_v1_20")
  shapes = jax.eval_shape(lambda: model.init(
      jax.random.key(0), {"video": jnp.zeros((1, 2, 32, 32, 3), jnp.uint8)}, train=False))
  fresh = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
  loaded, report = initialise.load_into(fresh, variables, initialise.InitFrom(str(target)))
  assert not report.mismatched and not report.skipped
  assert {name.split("/")[1] for name in report.missing} == {"head"}
  kernel = loaded["params"]["backbone"]["stage2"]["block0"]["conv1"]["conv"]["kernel"]
  weight = state["layer2.0.conv1.weight"]
  for t in range(3):
    np.testing.assert_allclose(kernel[t], weight.transpose(2, 3, 1, 0) / 3, rtol=1e-6)


def test_mistakes_are_named(tmp_path, monkeypatch):
  state = _state(*TINY["basic"])
  run = torch_resnet2d.import_resnet2d
  with pytest.raises(UserError, match="unknown inflation 'middle'; known: center, mean"):
    run(state, "middle")
  with pytest.raises(UserError, match="unknown kernels 'factorised'"):
    run(state, kernels="factorised")
  with pytest.raises(UserError, match="3x1x1 needs bottleneck"):
    run(state, kernels="3x1x1")
  with pytest.raises(UserError, match="stem_length must be an odd"):
    run(state, stem_length=2)
  with pytest.raises(UserError, match="x.pth is no 2D ResNet"):
    run({"stem.weight": np.zeros(3)}, source="x.pth")
  less = {name: value for name, value in state.items() if name != "layer2.0.bn1.running_var"}
  with pytest.raises(UserError, match="x.pth: missing: layer2.0.bn1.running_var"):
    run(less, source="x.pth")
  with pytest.raises(UserError, match="left over: layer1.0.se.weight"):
    run(state | {"layer1.0.se.weight": np.zeros(3)})
  wide = state | {"layer1.0.conv1.weight": np.zeros((9, 8, 3, 3), np.float32)}
  with pytest.raises(UserError, match=r"wrong shape: layer1.0.conv1.weight \(9, 8, 3, 3, 3\)"):
    run(wide)
  monkeypatch.setattr(torch_layout, "read_torch", lambda path: state)
  (tmp_path / "file.pth").touch()
  with pytest.raises(UserError, match="inflation: for torch_resnet2d only"):
    conversion.convert("torch_i3d", str(tmp_path / "file.pth"), str(tmp_path / "out"),
                       inflation="mean")
  assert not (tmp_path / "out").exists()
