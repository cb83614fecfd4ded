"""The benchmark and summary tools run and count right; their timings are not asserted."""
import dataclasses
import importlib
import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.linen import summary as flax_summary

from actionjax import configuration, planning
from actionjax.benchmarks import scalability, slowonly, training
from actionjax.models import posec3d
from actionjax.models.resnet3d import Backbone
from actionjax.report import summary


@pytest.mark.slow
def test_timings_of_every_training_step(tiny_data_dir):
  config = configuration.load("configs/quickstart.py:tiny")
  config.unlock()
  config.data_dir = tiny_data_dir
  timings = training.measure(config, num_steps=3)
  assert [timing.name for timing in timings] == ["backbone", "pose", "joint"]
  for timing in timings:
    assert 0 <= timing.wait_share <= 1 and timing.device_ms > 0
    assert "waiting for data" in str(timing)


def test_flax_has_what_the_summary_takes_from_its_inside():
  """`summary.table` reads rows; Flax itself only offers them as a finished text."""
  assert {"module", "depth", "show_repeated", "compute_flops", "compute_vjp_flops"} == set(
      inspect.signature(flax_summary._get_module_table).parameters)
  assert {"path", "outputs", "counted_variables", "flops"} <= {
      field.name for field in dataclasses.fields(flax_summary.Row)}


@pytest.mark.slow
def test_summary_counts_parameters_and_shapes():
  config = configuration.load("configs/quickstart.py:tiny")
  step = planning.plan(config).steps[3]
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


@pytest.mark.slow
def test_slowonly_is_the_same_network_in_pytorch(capsys):
  torch = pytest.importorskip("torch")
  resnet = importlib.import_module("actionjax.benchmarks.torch_twins.resnet")
  network = {key: value for key, value in posec3d.SLOWONLY.items() if key != "name"}
  model = resnet.ResNet3D(Backbone(**network), 17)
  assert sum(p.numel() for p in model.parameters()) == 1_994_080
  small = {**network, "width": 4, "stage_sizes": (1, 1, 1)}
  with torch.no_grad():
    found = resnet.ResNet3D(Backbone(**small), 17)(torch.zeros(1, 17, 4, 16, 16))[0].shape
  assert tuple(found) == (1, 64, 2, 2, 2)  # as (1, 2, 2, 2, 64) here: time and space are halved
  rows = slowonly.run(1, shape=(1, 4, 16, 16, 17), width=4, stage_sizes=(1, 1, 1))
  for row, name in zip(rows, ("forward", "gradient")):
    best = min(row["torch contiguous"], row["torch channels last"])
    assert row["pass"] == name and row["ratio"] == row["ours"] / best
  assert "ours/best torch" in capsys.readouterr().out


@pytest.mark.slow
def test_persons_cost_a_graph_network_alone(capsys):
  network = {**posec3d.SLOWONLY_NARROW, "stage_sizes": (1, 1, 1), "width": 8}
  rows = scalability.run(1, (1, 4), network, (4, 4), dict(width=8, stage_sizes=(1,)),
                         dict(width=12, scales=3, window_scales=2))
  one, four = rows
  # The graph network runs once a person, but for its graph; the other one only draws more.
  for name in ("gcn", "msg3d"):
    assert four[f"{name}_gflops"] / one[f"{name}_gflops"] == pytest.approx(4, rel=0.05)
  assert four["cnn_gflops"] / one["cnn_gflops"] < 1.2
  assert one["cnn_parameters"] == four["cnn_parameters"]
  assert len(capsys.readouterr().out.splitlines()) == 4
