"""The benchmark and summary tools run and count right; their timings are not asserted."""
import flax.linen as nn
import jax
import jax.numpy as jnp

from actionjax import configuration, recipe
from actionjax.benchmarks import training
from actionjax.report import summary


def test_timings_of_every_training_step(tiny_data_dir):
  config = configuration.load("configs/quickstart.py:tiny")
  config.unlock()
  config.data_dir = tiny_data_dir
  timings = training.measure(config, num_steps=3)
  assert [timing.name for timing in timings] == ["backbone", "joint"]
  for timing in timings:
    assert 0 <= timing.wait_share <= 1 and timing.device_ms > 0
    assert "waiting for data" in str(timing)


def test_summary_counts_parameters_and_shapes():
  config = configuration.load("configs/quickstart.py:tiny")
  step = recipe.plan(config)[2]
  parsed = step.module.parse(step.config, step.path)
  text = summary.table(parsed.model, parsed.data)
  batch = {"video": jnp.zeros((1, 8, 32, 32, 1), jnp.uint8), "pose3d": jnp.zeros((1, 1, 8, 20, 3)),
           "pose_score": jnp.zeros((1, 1, 8, 20))}
  variables = jax.eval_shape(lambda: parsed.model.init(jax.random.key(0), batch, train=False))
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  assert f"parameters: {count:,}" in text
  listed = [int(line.split()[2].replace(",", "")) for line in text.splitlines()
            if "float32[" in line or " list " in line]
  assert sum(listed) == count, "every parameter stands in one row"
  assert isinstance(parsed.model, nn.Module)
