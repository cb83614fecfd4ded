"""Every shipped config, with its arguments, is planned and its models are shape-evaluated."""
import jax
import pytest

from actionjax import configuration, recipe
from actionjax.data import pipeline
from actionjax.steps import train

# What each docstring documents; a new config must be listed here.
HAC = ("depth=18", "depth=101,leak=true", "scopes=none,uncropped=false,warm_start=true",
       "norm=rms")
ARGUMENTS = {
    "hac_ntu60": ("", "protocol=cross_view", *HAC),
    "hac_ntu120": ("", "protocol=cross_setup"),
    "hac_nucla": ("", "protocol=view_1", "protocol=view_2"),
    "hac_utd_mhad": ("", "cpu", "cpu,scopes=by_layers", "depth=34", "seed=1"),
    "own_data": ("", "inputs=pose", "cpu", "tiny", "tiny,inputs=pose"),
    "quickstart": ("", "tiny", "pose=none", "tiny,pose=none"),
    "stgcnpp_utd_mhad": ("", "cpu", "cpu,stream=bone_motion", "variant=stgcn", "seed=1"),
    "vpn_ntu120": ("", "protocol=cross_setup", "attention=spatial", "attention=temporal",
                   "attention=none,embedding=none", "pose=lstm", "pose=none", "coupler=false",
                   "released"),
    "vpn_utd_mhad": ("", "cpu", "cpu,pose=lstm", "cpu,pose=none", "cpu,pose_first=false",
                     "cpu,backbone_first=true",
                     "cpu,attention=spatial", "cpu,attention=temporal", "cpu,attention=none",
                     "cpu,embedding=none", "cpu,coupler=false", "seed=1"),
}


def test_every_config_is_listed():
  shipped = {p.stem for p in configuration.shipped_directory().glob("*.py")} - {"__init__"}
  assert shipped == set(ARGUMENTS)


_logits = {}  # of equal models in several configs, which are evaluated once


def _check(model, data, num_classes):
  """Shape-evaluates one model."""
  spec = pipeline.batch_spec(data, 2)

  def run(batch, key):
    variables = model.init({"params": key, "dropout": key}, batch, train=False)
    return model.apply(variables, batch, train=True, rngs={"dropout": key},
                       mutable=["batch_stats"])[0]

  known = repr((model, spec))
  if known not in _logits:
    _logits[known] = jax.eval_shape(run, spec, jax.random.key(0))[0]
  assert _logits[known].shape == (2, num_classes)


@pytest.mark.parametrize("name, argument", [
    (name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments])
def test_config_is_built_and_shape_evaluated(name, argument):
  config = configuration.load(f"configs/{name}.py:{argument}")
  planned = recipe.plan(config)
  assert config.name == name and planned
  trainings = [step for step in recipe.flatten(planned) if step.module is train]
  assert trainings
  for step in trainings:
    parsed = train.parse(step.config, step.path)
    _check(parsed.model, parsed.data, len(parsed.data.builder.CLASS_NAMES))
