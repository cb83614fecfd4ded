"""Trains and evaluates: `python -m actionjax.main --config=configs/quickstart.py`."""
import json
import pathlib

from absl import flags

from actionjax import cli, configuration

CONFIG = configuration.define_flag()
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; the same folder goes on with it. Default: runs/NAME "
    "with the config's name.")
PLAN = flags.DEFINE_bool(
    "plan", False, "Check the config, print what it is going to do with all defaults filled in, "
    "and end. Datasets that are not prepared are named at the end.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes (a TPU pod, SLURM, Open MPI).")
PROFILE = flags.DEFINE_string(
    "profile", None, "START:COUNT: a profiler's trace of COUNT steps of every training, from its "
    "step START on, as the log numbers them; in the folder `profile` of the step.")
DEBUG = flags.DEFINE_enum(
    "debug", None, ["checkify", "nan"], "Slow, to find a fault: every training ends, and names the "
    "line, at the first step with a NaN in its results (nan), or in which an operation yields a "
    "NaN, divides by zero or indexes out of range (checkify).")


def main() -> None:
  """Runs the recipe of `--config` and prints what it measured."""
  cli.quiet_libraries()
  # JAX is imported late, so that a wrong flag is answered at once.
  from actionjax import distributed, planning, recipe
  from actionjax.training.inspection import Inspection, parse_profile
  inspection = Inspection(parse_profile(PROFILE.value), DEBUG.value)
  distributed.initialise(DISTRIBUTED.value)
  config = configuration.given(CONFIG)
  if PLAN.value:
    from actionjax.report import plan
    from actionjax.training import sharding
    planned = planning.plan(config, mesh=sharding.make_mesh(), lenient=True)
    for line in plan.lines(planned) if distributed.is_first() else ():
      print(line, flush=True)
    return
  workdir = pathlib.Path(WORKDIR.value or f"runs/{config.name}")
  metrics = recipe.run(config, workdir, inspection)
  if distributed.is_first():
    print(json.dumps(metrics, indent=2))
    print(f"results: {workdir / 'metrics.json'}, {workdir / 'confusion.png'}, "
          f"{workdir / 'curves.png'}")


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
