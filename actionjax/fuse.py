"""Adds the scores of finished evaluations: `python -m actionjax.fuse --scores=A,B --out=DIR`.

Joint and limb networks, the streams of a GCN, or any two networks that were scored on the same
clips. Probabilities are averaged over each run's own views, then added with --weights.
"""
import json
import pathlib

from absl import flags

from actionjax import cli
from actionjax.errors import UserError

_SCORES = flags.DEFINE_list("scores", None, "Workdirs (whose last evaluation counts), folders of "
                            "evaluations, or files scores.npz.", required=True)
_WEIGHTS = flags.DEFINE_list("weights", None, "One for each of --scores (default: 1).")
_OUT = flags.DEFINE_string("out", None, "Folder for the results.", required=True)


def main() -> None:
  """Runs one fusion and prints what it measured."""
  cli.quiet_libraries()
  places = [str(pathlib.Path(place).resolve()) for place in _SCORES.value]
  try:
    weights = [float(weight) for weight in _WEIGHTS.value or [1] * len(places)]
  except ValueError as error:
    raise UserError(f"--weights: {error}") from None
  if len(weights) != len(places):
    raise UserError(f"--weights gives {len(weights)} for {len(places)} of --scores")
  from actionjax import distributed, recipe
  metrics = recipe.run(dict(name="fuse", steps=(dict(kind="fuse", sources=tuple(
      dict(scores=place, weight=weight) for place, weight in zip(places, weights))),)), _OUT.value)
  if distributed.is_first():
    print(json.dumps(metrics, indent=2))


if __name__ == "__main__":
  cli.run(main)
