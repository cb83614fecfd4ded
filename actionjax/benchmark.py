"""Where the time goes: `python -m actionjax.benchmark --config=configs/vpn_utd_mhad.py`, or
`--convolutions` for the 3D convolutions beside XLA's and PyTorch's."""
from absl import flags

from actionjax import cli, configuration

CONFIG = configuration.define_flag()
STEPS = flags.DEFINE_integer("steps", 20, "Steps to measure.", lower_bound=3)
CONVOLUTIONS = flags.DEFINE_bool("convolutions", False, "Time the 3D convolutions instead.")


def main() -> None:
  """Prints one timing a training step of the recipe, or the table of convolutions."""
  cli.quiet_libraries()
  if CONVOLUTIONS.value:
    from actionjax.benchmarks import convolutions
    convolutions.run()
    return
  from actionjax.benchmarks import training
  for timing in training.measure(configuration.given(CONFIG), num_steps=STEPS.value):
    print(timing)


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
