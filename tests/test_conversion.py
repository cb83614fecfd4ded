"""Foreign checkpoints to models that trainings start from."""
import jax
import numpy as np
import pytest

import actionjax
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_layout
from actionjax.models.i3d import I3D
from actionjax.training import checkpoint, initialise
from tests import references


@pytest.mark.slow
def test_converted_weights_start_a_training(tmp_path, monkeypatch):
  state = {name: references.generated(name, shape)
           for name, shape in references.torch_i3d_shapes().items()}
  state = {name: np.ones_like(value) if name.endswith("bn.weight") else value
           for name, value in state.items()}
  monkeypatch.setattr(torch_layout, "read_torch", lambda path: state)
  (tmp_path / "file.pt").touch()
  conversion.convert("torch_i3d", str(tmp_path / "file.pt"), str(tmp_path / "model"))
  variables, _ = checkpoint.load_model(checkpoint.find_model(tmp_path / "model"))

  shapes = jax.eval_shape(lambda: I3D().init(
      jax.random.key(0), np.zeros((1, 16, 32, 32, 3), np.float32), train=False))
  fresh = jax.tree.map(lambda s: jax.numpy.zeros(s.shape, s.dtype), {
      collection: {"backbone": tree, "head": {"bias": jax.ShapeDtypeStruct((7,), np.float32)}}
      for collection, tree in shapes.items()})
  loaded, report = initialise.load_into(fresh, variables, initialise.InitFrom("file"))
  assert {name.split("/")[1] for name in report.missing} == {"head"}
  kernel = loaded["params"]["backbone"]["Conv3d_1a_7x7"]["conv"]["kernel"]
  np.testing.assert_array_equal(
      kernel, np.moveaxis(state["Conv3d_1a_7x7.conv3d.weight"], (0, 1), (-1, -2)))

  with pytest.raises(UserError, match="not a classifier"):
    actionjax.load(tmp_path / "model")
  with pytest.raises(UserError, match="exists already"):
    conversion.convert("torch_i3d", str(tmp_path / "file.pt"), str(tmp_path / "model"))
  with pytest.raises(UserError, match="does not exist"):
    conversion.convert("torch_i3d", str(tmp_path / "none.pt"), str(tmp_path / "other"))
