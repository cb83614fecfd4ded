"""I3D: counts and shapes of the published network, numbers of the PyTorch port."""
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.importers import torch_layout
from actionjax.importers.torch_i3d import import_i3d
from actionjax.models.heads import ClassificationHead, I3DHead
from actionjax.models.i3d import ENDPOINTS, I3D
from tests import references


def _shapes(model, shape):
  clip = jax.ShapeDtypeStruct(shape, jnp.float32)
  return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x, train=False), clip)


def _count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameter_counts_are_the_published_checkpoints():
  _, backbone = _shapes(I3D(), (1, 64, 224, 224, 3))
  _, head = _shapes(I3DHead(400), (1, 8, 7, 7, 1024))
  assert _count(backbone["params"]) == 12_279_984
  assert _count(backbone["params"]) + _count(head) == 12_689_984
  assert _count(backbone) + _count(head) == 12_704_544
  assert len(jax.tree.leaves(backbone)) + len(jax.tree.leaves(head)) == 230


def test_endpoint_shapes():
  (features, endpoints), _ = _shapes(I3D(), (1, 64, 224, 224, 3))
  assert set(endpoints) == set(ENDPOINTS)
  shapes = {name: value.shape[1:] for name, value in endpoints.items()}
  assert shapes["Conv3d_1a_7x7"] == (32, 112, 112, 64)
  assert shapes["Mixed_3c"] == (32, 28, 28, 480)
  assert shapes["Mixed_4e"] == (16, 14, 14, 528)
  assert shapes["Mixed_5c"] == features.shape[1:] == (8, 7, 7, 1024)


def test_strides_can_be_dropped_for_small_clips():
  model = I3D(keep_time=("Conv3d_1a_7x7", "MaxPool3d_4a_3x3"),
              keep_space=("Conv3d_1a_7x7", "MaxPool3d_3a_3x3"))
  (features, _), small = _shapes(model, (1, 16, 56, 56, 3))
  assert features.shape == (1, 8, 7, 7, 1024)
  (features, _), plain = _shapes(I3D(), (1, 16, 56, 56, 3))
  assert features.shape == (1, 2, 2, 2, 1024)
  assert jax.tree.map(jnp.shape, small) == jax.tree.map(jnp.shape, plain)


def test_width_and_final_endpoint():
  (features, endpoints), _ = _shapes(I3D(width=0.25, final_endpoint="Mixed_3b"),
                                     (1, 8, 32, 32, 3))
  assert "Mixed_3b" in endpoints and "Mixed_3c" not in endpoints
  # 64, 128, 32, 32 times a quarter: 16, 32, 8, 8.
  assert features.shape[-1] == 64


def test_separable_kernels():
  _, variables = _shapes(I3D(separable=True), (1, 16, 64, 64, 3))
  unit = variables["params"]["Mixed_3b"]["b1b"]
  assert unit["spatial"]["kernel"].shape == (1, 3, 3, 96, 128)
  assert unit["conv"]["kernel"].shape == (3, 1, 1, 128, 128)
  assert "spatial" not in variables["params"]["Mixed_3b"]["b1a"]
  assert _count(variables["params"]) < 9e6


@pytest.mark.parametrize("fields,word", [(dict(final_endpoint="Mixed_9z"), "Mixed_9z"),
                                         (dict(keep_time=("Mixed_3b",)), "keep_time"),
                                         (dict(keep_space=("Conv3d_2b_1x1",)), "keep_space")])
def test_mistakes_are_named(fields, word):
  with pytest.raises(UserError, match=word):
    _shapes(I3D(**fields), (1, 8, 32, 32, 3))


@pytest.mark.slow
def test_a_small_i3d_learns_in_a_few_steps():
  x = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (4, 4, 16, 16, 3)), jnp.float32)
  labels = jnp.array([0, 1, 0, 1])
  model, head = I3D(width=0.125, final_endpoint="Conv3d_2c_3x3"), ClassificationHead(2, dropout=0.0)
  (features, _), variables = jax.jit(
      lambda key, x: model.init_with_output(key, x, train=False))(
          jax.random.key(0, impl="rbg"), x)
  params = {"model": variables["params"],
            "head": head.init(jax.random.key(1), features, train=False)["params"]}

  @jax.jit
  def step(params, stats):
    def loss(params):
      (features, _), new = model.apply({"params": params["model"], "batch_stats": stats}, x,
                                       train=True, mutable=["batch_stats"])
      logits, _ = head.apply({"params": params["head"]}, features, train=True)
      return -jax.nn.log_softmax(logits)[jnp.arange(4), labels].mean(), new["batch_stats"]
    (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
    return value, jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), stats

  stats, losses = variables["batch_stats"], []
  for _ in range(10):
    value, params, stats = step(params, stats)
    losses.append(float(value))
  assert losses[-1] < 0.7 * losses[0]


def test_head_averages_before_a_linear_layer():
  features = jnp.asarray(np.random.default_rng(0).random((2, 3, 7, 7, 5)), jnp.float32)
  head = I3DHead(4)
  variables = head.init(jax.random.key(0), features, train=False)
  logits, pooled = head.apply(variables, features, train=False)
  # Windows of two frames: the middle frame counts twice.
  expected = (np.asarray(features).mean((2, 3)) * np.array([1, 2, 1])[:, None]).sum(1) / 4
  np.testing.assert_allclose(pooled, expected, atol=1e-6)
  kernel = np.asarray(variables["params"]["conv"]["kernel"])[0, 0, 0]
  np.testing.assert_allclose(logits, expected @ kernel, atol=1e-6)


def test_dropout_needs_training():
  features = jnp.ones((1, 2, 2, 2, 64))
  head = ClassificationHead(3, dropout=0.5)
  variables = head.init(jax.random.key(0), features, train=False)
  calm, _ = head.apply(variables, features, train=False)
  shaken, _ = head.apply(variables, features, train=True, rngs={"dropout": jax.random.key(1)})
  assert calm.shape == (1, 3) and not np.allclose(calm, shaken)


# The importer, and the PyTorch port's numbers.

@pytest.fixture(scope="module")
def ones_state():
  return {name: np.ones(shape, np.float32) for name, shape in references.torch_i3d_shapes().items()}


def test_importer_drops_batch_norm_weights_of_one(ones_state):
  imported = import_i3d({**ones_state, "Mixed_3b.b0.bn.num_batches_tracked": np.array(3)})
  assert not imported.use_bn_scale and imported.num_classes == 7
  _, template = _shapes(I3D(), (1, 8, 32, 32, 3))
  assert jax.tree.map(jnp.shape, imported.backbone) == jax.tree.map(jnp.shape, template)


def test_importer_moves_axes(ones_state):
  name = "Mixed_4b.b2b.conv3d.weight"
  value = np.random.default_rng(0).random(ones_state[name].shape).astype(np.float32)
  imported = import_i3d({**ones_state, name: value})
  kernel = imported.backbone["params"]["Mixed_4b"]["b2b"]["conv"]["kernel"]
  assert kernel[2, 0, 1, 5, 9] == value[9, 5, 2, 0, 1]


def test_importer_without_logits_has_no_head(ones_state):
  state = {name: value for name, value in ones_state.items() if not name.startswith("logits")}
  assert import_i3d(state).head is None


def test_importer_keeps_other_batch_norm_weights_or_refuses(ones_state):
  state = {**ones_state, "Mixed_5c.b0.bn.weight": np.full(384, 2, np.float32)}
  assert import_i3d(state).use_bn_scale
  with pytest.raises(UserError, match=r"use_bn_scale=True: Mixed_5c.b0.bn.weight"):
    import_i3d(state, use_bn_scale=False)


def test_importer_names_everything_that_does_not_fit(ones_state):
  state = {**ones_state, "Mixed_3b.b9.conv3d.weight": np.ones(3),
           "Mixed_3b.b0.conv3d.weight": np.ones((2, 192, 1, 1, 1))}
  del state["Mixed_3c.b3b.bn.bias"]
  with pytest.raises(UserError) as error:
    import_i3d(state, source="x.pth")
  message = str(error.value)
  assert message.startswith("x.pth: missing: Mixed_3c.b3b.bn.bias; left over: Mixed_3b.b9")
  assert "wrong shape: Mixed_3b.b0.conv3d.weight (2, 192, 1, 1, 1)" in message
  assert "\n" not in message


def test_reading_what_is_no_checkpoint(tmp_path):
  pytest.importorskip("torch")
  path = tmp_path / "x.pth"
  path.write_text("no weights")
  with pytest.raises(UserError, match="x.pth: cannot be read") as error:
    torch_layout.read_torch(str(path))
  assert "\n" not in str(error.value)


def test_reading_a_checkpoint(tmp_path):
  torch = pytest.importorskip("torch")
  path = tmp_path / "x.pth"
  torch.save({"state_dict": {"module.a": torch.arange(3.0)}, "epoch": 4}, path)
  state = torch_layout.read_torch(str(path))
  np.testing.assert_array_equal(state["a"], [0, 1, 2])
  with pytest.raises(UserError, match="none.pth: cannot be read"):
    torch_layout.read_torch(str(tmp_path / "none.pth"))


class _Log(list):
  """What training tools keep beside weights: a class that the reader need not have."""


class _Command:
  def __init__(self, command):
    self.command = command

  def __reduce__(self):
    return os.system, (self.command,)


@pytest.mark.parametrize("zipped", [True, False])
def test_reading_weights_beside_other_objects(tmp_path, zipped):
  torch = pytest.importorskip("torch")
  path = tmp_path / "x.pth"
  torch.save({"meta": {"best": np.float64(0.9), "log": _Log([1, 2]), "hooks": _Command(
                  f"touch {tmp_path / 'ran'}"), "array": np.ones(3)},
              "state_dict": {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3),
                             "c": torch.nn.Parameter(torch.ones(2))},
              "optimizer": {"step": np.int64(3)}}, path, _use_new_zipfile_serialization=zipped)
  state = torch_layout.read_torch(str(path))
  np.testing.assert_array_equal(state["a"], [[0, 1, 2], [3, 4, 5]])
  assert state["b"] == 3 and state["c"].tolist() == [1, 1] and len(state) == 3
  assert not (tmp_path / "ran").exists(), "nothing in the file is executed"


@pytest.mark.slow
def test_numbers_of_the_pytorch_port():
  expected = references.stored("i3d_inception_v1")
  imported = import_i3d(references.state("i3d_inception_v1"))
  assert imported.use_bn_scale and imported.num_classes == 400

  clip = references.signal("i3d_input", (1, 3, 16, 224, 224)) * 2 - 1
  model = I3D(use_bn_scale=True)
  apply = jax.jit(lambda v, x: model.apply(v, x, train=False))
  features, endpoints = apply(imported.backbone, jnp.asarray(np.moveaxis(clip, 1, -1)))
  logits, _ = I3DHead(400).apply(imported.head, features, train=False)

  def agree(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())

  # The port gives logits for each of the T' windows; the head averages them.
  agree(logits, expected["logits"].mean(-1))
  agree(np.moveaxis(features, -1, 1), expected["Mixed_5c"])
  for name in ("Conv3d_1a_7x7", "Mixed_3c", "Mixed_4f"):
    agree(endpoints[name].mean(-1), expected[f"{name}_channel_mean"])
