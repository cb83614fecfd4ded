"""Trains and evaluates: `python -m actionjax.main --config=configs/quickstart.py`."""
import json
import pathlib

from absl import flags

from actionjax import cli, configuration

CONFIG = configuration.define_flag()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; the same folder goes on with it. Default: runs/NAME "
    "with the config's name.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes (a TPU pod, SLURM, Open MPI).")


def main() -> None:
  """Runs the recipe of `--config` and prints what it measured."""
  cli.quiet_libraries()
  # JAX is imported late, so that a wrong flag is answered at once.
  from actionjax import distributed, recipe
  distributed.initialise(DISTRIBUTED.value)
  config = configuration.given(CONFIG)
  recipe.plan(config)
  workdir = pathlib.Path(WORKDIR.value or f"runs/{config.name}")
  metrics = recipe.run(config, workdir)
  if distributed.is_first():
    print(json.dumps(metrics, indent=2))
    print(f"results: {workdir / 'metrics.json'}, {workdir / 'confusion.png'}, "
          f"{workdir / 'curves.png'}")


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
