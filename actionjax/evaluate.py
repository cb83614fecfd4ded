"""Scores a finished run anew: `python -m actionjax.evaluate --run=RUN --out=DIR`.

It may be on another part or protocol, with more views, on another dataset with the same classes
and joints (--dataset: skeletons of another pose estimator, say), or with joints missing
(--drop_joints).
The model is that of the run's last step which has one; a step's folder gives another.
"""
import json
import pathlib

from absl import flags

from actionjax import cli

_RUN = flags.DEFINE_string("run", None, "A workdir, one of its steps, or a model directory.",
                           required=True)
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared datasets.")
_DATASET = flags.DEFINE_string("dataset", None, "Another dataset than the run's.")
_VARIANT = flags.DEFINE_string("variant", None, "Another variant than the run's.")
_PROTOCOL = flags.DEFINE_string("protocol", None, "Another protocol than the run's.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the protocol to score.")
_VIEWS = flags.DEFINE_integer("views", 1, "Views of a clip along time.", lower_bound=1)
_CROPS = flags.DEFINE_string("crops", "center", "Spatial windows of a view: center or three.")
_FLIPS = flags.DEFINE_bool("flips", False, "Each view in the mirror too.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Clips a batch.", lower_bound=1)
_DROP_JOINTS = flags.DEFINE_float("drop_joints", 0.0, "Probability that a person lacks a limb's "
                                  "joint in a frame.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is dropped.")


def main() -> None:
  """Runs one evaluation and prints what it measured."""
  cli.quiet_libraries()
  from actionjax import console, distributed, recipe
  from actionjax.training import checkpoint
  run = pathlib.Path(_RUN.value).resolve()
  console.say(f"evaluating {checkpoint.find_model(run)}")  # a run may have several
  metrics = recipe.run(dict(name="evaluate", data_dir=_DATA_DIR.value, steps=(dict(
      kind="evaluate", name=_SPLIT.value, split=_SPLIT.value, model_from=str(run),
      dataset=_DATASET.value, variant=_VARIANT.value, protocol=_PROTOCOL.value,
      views=dict(temporal=_VIEWS.value, crops=_CROPS.value, flips=_FLIPS.value),
      batch_size=_BATCH_SIZE.value, drop_joints=_DROP_JOINTS.value,
      drop_seed=_SEED.value),)), _OUT.value)
  if distributed.is_first():
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
  cli.run(main)
