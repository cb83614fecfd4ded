"""Every shipped config, with its arguments, is planned and its models are shape-evaluated."""
import functools

import jax
import pytest

from actionjax import configuration, recipe
from actionjax.data import builders, pipeline
from actionjax.steps import train

# What each docstring documents; a new config must be listed here.
ARGUMENTS = {
    "quickstart": ("", "tiny", "pose=none", "tiny,pose=none"),
    "vpn_ntu120": ("", "protocol=cross_setup", "attention=spatial", "attention=temporal",
                   "attention=none,embedding=none", "pose=lstm", "pose=none", "coupler=false",
                   "released"),
    "vpn_utd_mhad": ("", "cpu", "cpu,pose=lstm", "cpu,pose=none", "cpu,attention=spatial",
                     "cpu,attention=temporal", "cpu,attention=none", "cpu,embedding=none",
                     "cpu,coupler=false", "seed=1"),
}


def test_every_config_is_listed():
  shipped = {p.stem for p in configuration.shipped_directory().glob("*.py")} - {"__init__"}
  assert shipped == set(ARGUMENTS)


@functools.cache
def _check(model, data, num_classes):
  """Shape-evaluates one model; equal ones of several configs are evaluated once."""
  spec = pipeline.batch_spec(data, 2)

  def run(batch, key):
    variables = model.init({"params": key, "dropout": key}, batch, train=False)
    return model.apply(variables, batch, train=True, rngs={"dropout": key},
                       mutable=["batch_stats"])[0]

  logits, _ = jax.eval_shape(run, spec, jax.random.key(0))
  assert logits.shape == (2, num_classes)


@pytest.mark.parametrize("name, argument", [
    (name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments])
def test_config_is_built_and_shape_evaluated(name, argument):
  config = configuration.load(f"configs/{name}.py:{argument}")
  planned = recipe.plan(config)
  assert config.name == name and planned
  trainings = [step for step in planned if step.module is train]
  assert trainings
  for step in trainings:
    parsed = train.parse(step.config, step.path)
    classes = len(builders.load(parsed.data.dataset).CLASS_NAMES)
    try:
      _check(parsed.model, parsed.data, classes)
    except TypeError:  # a model with unhashable fields
      _check.__wrapped__(parsed.model, parsed.data, classes)
