"""Where the time goes: `python -m actionjax.benchmark --config=configs/vpn_utd_mhad.py`, or
`--convolutions` for the 3D convolutions beside XLA's and PyTorch's, or `--pruning` for a pruned
network beside its compacted self, or `--superclasses` for the superclass search beside NumPy,
or `--heatmaps` for the heat maps of skeletons beside NumPy."""
from absl import flags

from actionjax import cli, configuration

CONFIG = configuration.define_flag()
STEPS = flags.DEFINE_integer("steps", 20, "Steps to measure.", lower_bound=3)
CONVOLUTIONS = flags.DEFINE_bool("convolutions", False, "Time the 3D convolutions instead.")
SUPERCLASSES = flags.DEFINE_bool("superclasses", False, "Time the superclass search instead.")
HEATMAPS = flags.DEFINE_bool("heatmaps", False, "Time the heat maps of skeletons instead.")
PRUNING = flags.DEFINE_bool("pruning", False, "Time a pruned network, masked and compacted.")


def main() -> None:
  """Prints one timing a training step of the recipe, or another benchmark's table."""
  cli.quiet_libraries()
  if CONVOLUTIONS.value:
    from actionjax.benchmarks import convolutions
    convolutions.run()
    return
  if PRUNING.value:
    from actionjax.benchmarks import pruning
    pruning.run()
    return
  if SUPERCLASSES.value:
    from actionjax.benchmarks import superclasses
    superclasses.run()
    return
  if HEATMAPS.value:
    from actionjax.benchmarks import heatmaps
    heatmaps.run()
    return
  from actionjax.benchmarks import training
  for timing in training.measure(configuration.given(CONFIG), num_steps=STEPS.value):
    print(timing)


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
