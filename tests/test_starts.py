"""Where trainings start: two that are to start alike do, weight by weight."""
import pathlib

import numpy as np
import pytest

from actionjax import configuration, recipe
from actionjax.training import checkpoint
from actionjax.training.state import path_names

ROOT = pathlib.Path(__file__).resolve().parent.parent


def _kernels(folder):
  """Path -> array of a step's model, of what a rate of nearly 0 left where it was drawn."""
  variables, _ = checkpoint.load_model(next(folder) / "model")
  import jax
  return {name: np.asarray(leaf) for name, leaf in zip(
      path_names(variables["params"]), jax.tree.leaves(variables["params"]))
          if name.endswith("kernel")}


@pytest.mark.slow
def test_second_pass_starts_where_the_first_did(tiny_data_dir, tmp_path):
  config = configuration.load(
      f"{ROOT / 'tests' / 'small_hac_config.py'}:scopes=none,kernels=2d,steps=1")
  for step in config.steps:
    if step.kind == "train":
      step.optim.learning_rate = 1e-30
  config.data_dir = tiny_data_dir
  recipe.run(config, tmp_path / "run")
  crop, full = (_kernels((tmp_path / "run").glob(f"*_{name}")) for name in ("crop", "full"))
  assert set(crop) < set(full)  # the classifiers of the other levels come on top
  assert len(crop) > 10
  for name, kernel in crop.items():
    np.testing.assert_array_equal(kernel, full[name], err_msg=name)
