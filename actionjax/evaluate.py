"""Scores a finished run anew: `python -m actionjax.evaluate --run=RUN --out=DIR`.

It shows clips as the run's own evaluation does, and so gives its scores again, unless --views,
--crops, --flips or --aggregate say otherwise. It may be on another split or protocol, on another
dataset with the same classes and joints (--dataset: skeletons of another pose estimator, say), or
with joints missing (--drop_joints).
The model is that of the run's last step which has one; a step's folder gives another.
"""
import json
import pathlib

from absl import flags

from actionjax import cli
from actionjax.errors import UserError

_RUN = flags.DEFINE_string("run", None, "A workdir, one of its steps, or a model directory.",
                           required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared datasets.")
_DATASET = flags.DEFINE_string("dataset", None, "Another dataset than the run's.")
_VARIANT = flags.DEFINE_string("variant", None, "Another variant than the run's.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Another protocol than the run's.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the protocol to score.")
_VIEWS = flags.DEFINE_string("views", None, "Views of a clip along time, or all for as many as "
                             "show every frame. This and the next three: the run's own if not "
                             "given.")
_CROPS = flags.DEFINE_string("crops", None, "Spatial windows of a view: center or three.")
_FLIPS = flags.DEFINE_bool("flips", None, "Each view in the mirror too.")
_AGGREGATE = flags.DEFINE_string("aggregate", None, "Of the views' probabilities: mean or max.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Clips a batch, at most.", lower_bound=1)
_MEMORY = flags.DEFINE_float("memory", None, "GiB that the arrays inside the network may take at "
                             "once on a device.", lower_bound=0)
_DROP_JOINTS = flags.DEFINE_float("drop_joints", 0.0, "Probability that a person lacks a limb's "
                                  "joint in a frame.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is dropped.")


def main() -> None:
  """Runs one evaluation and prints what it measured."""
  cli.quiet_libraries()
  from actionjax import console, distributed, recipe
  from actionjax.training import checkpoint
  run = pathlib.Path(_RUN.value).resolve()
  asked = dict(temporal=_views(), crops=_CROPS.value, flips=_FLIPS.value,
               aggregate=_AGGREGATE.value)
  model = checkpoint.find_model(run)
  console.say(f"evaluating {model}")  # a run may have several
  views = checkpoint.load_description(model).get("views", {}) | {
      key: value for key, value in asked.items() if value is not None}
  metrics = recipe.run(dict(name="evaluate", data_dir=_DATA_DIR.value, steps=(dict(
      kind="evaluate", name=_SPLIT.value, split=_SPLIT.value, model_from=str(run),
      dataset=_DATASET.value, variant=_VARIANT.value, protocol=_PROTOCOL.value,
      views=views, batch_size=_BATCH_SIZE.value, memory=_MEMORY.value,
      drop_joints=_DROP_JOINTS.value, drop_seed=_SEED.value),)), _OUT.value)
  if distributed.is_first():
    print(json.dumps(metrics, indent=2))


def _views() -> int | str | None:
  """The flag --views. Raises UserError where it is neither a number nor "all"."""
  if _VIEWS.value is None or _VIEWS.value == "all":
    return _VIEWS.value
  if not _VIEWS.value.isdecimal() or int(_VIEWS.value) < 1:
    raise UserError(f"flag --views must be a number above 0 or all, got {_VIEWS.value}")
  return int(_VIEWS.value)


if __name__ == "__main__":
  cli.run(main)
