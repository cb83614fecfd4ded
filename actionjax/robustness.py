"""How much networks lose when skeletons lack joints, PoseC3D's Table 5:

  python -m actionjax.robustness --cnn=RUN --gcn=RUN --out=DIR

Scores finished runs on their own test clips while every frame loses a joint of an arm or a leg
with probability 0, 1/8, 1/4, 1/2 and 1. The same command goes on where it was interrupted. A GCN
that was trained with `drop_joints` is --robust_gcn.
"""
import pathlib

from absl import flags

from actionjax import cli
from actionjax.errors import UserError

_RUNS = {row: flags.DEFINE_string(row, None, f"{what}: a workdir, one of its steps, or a model "
                                  "directory.")
         for row, what in (("cnn", "PoseC3D or another network on heat maps"),
                           ("gcn", "A graph network"),
                           ("robust_gcn", "A graph network trained with joints missing"))}
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "Root of prepared datasets.")
_SPLIT = flags.DEFINE_string("split", "test", "Split of the protocol to score.")
_VIEWS = flags.DEFINE_integer("views", 1, "Views of a clip along time.", lower_bound=1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 16, "Clips a batch.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Of what is dropped.")
_METRIC = flags.DEFINE_enum("metric", "top1", ["top1", "mean_class_accuracy"],
                            "What the table shows.")


def main() -> None:
  """Scores the runs that the flags name, and writes and prints the table."""
  cli.quiet_libraries()
  runs = {row: str(pathlib.Path(flag.value).resolve())
          for row, flag in _RUNS.items() if flag.value}
  if not runs:
    raise UserError("name at least one finished run: --cnn=RUN, --gcn=RUN or --robust_gcn=RUN")
  from actionjax import distributed, recipe
  from actionjax.papers import posec3d_robustness
  from actionjax.training import checkpoint
  for run in runs.values():
    checkpoint.find_model(run)
  config = posec3d_robustness.robustness(
      runs, split=_SPLIT.value, views=dict(temporal=_VIEWS.value),
      batch_size=_BATCH_SIZE.value, drop_seed=_SEED.value)
  out = pathlib.Path(_OUT.value)
  metrics = recipe.run(config | {"data_dir": _DATA_DIR.value}, out)
  if distributed.is_first():
    table = posec3d_robustness.robustness_table(metrics, runs, _METRIC.value)
    (out / "robustness.md").write_text(table + "\n")
    print(table)


if __name__ == "__main__":
  cli.run(main)
