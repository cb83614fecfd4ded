"""Prints a config's models: `python -m actionjax.summary --config=configs/vpn_ntu120.py`."""
from absl import flags

from actionjax import cli, configuration

CONFIG = configuration.define_flag()
DEPTH = flags.DEFINE_integer("depth", 2, "Levels of modules to list.", lower_bound=1)


def main() -> None:
  """One table a training step of the recipe."""
  cli.quiet_libraries()
  from actionjax import planning
  from actionjax.report import summary
  for step in planning.plan(configuration.given(CONFIG), lenient=True).flatten():
    parsed = step.module.parse(step.config, step.path)
    if hasattr(parsed, "model"):
      print(f"step {step.name}:\n{summary.table(parsed.model, parsed.data, depth=DEPTH.value)}\n")


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
