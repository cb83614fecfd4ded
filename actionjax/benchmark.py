"""Where the time goes: `python -m actionjax.benchmark --config=configs/vpn_utd_mhad.py`, or one of
the flags below for something else. Each prints a table."""
import importlib

from absl import flags

from actionjax import cli, configuration
from actionjax.errors import UserError

CONFIG = configuration.define_flag()
STEPS = flags.DEFINE_integer("steps", 20, "Steps to measure.", lower_bound=3)
# A module of `actionjax.benchmarks` with a `run` -> what it measures.
OTHERS = {name: flags.DEFINE_bool(name, False, f"Time {what} instead.") for name, what in (
    ("convolutions", "the 3D convolutions beside XLA's and PyTorch's"),
    ("superclasses", "the superclass search beside NumPy"),
    ("heatmaps", "the heat maps of skeletons beside NumPy"),
    ("pruning", "a pruned network, masked and compacted,"),
    ("slowonly", "Pose-SlowOnly beside PyTorch's"),
    ("scalability", "PoseC3D, ST-GCN++ and MS-G3D on clips of several persons"),
    ("preparation", "and weigh the preparation of generated videos"))}
ACCELERATOR = flags.DEFINE_bool(
    "accelerator", False, "Measure the networks on an accelerator, beside PyTorch, instead.")
OUT = flags.DEFINE_string("out", None, "New folder for the results of --accelerator.")
SMALL = flags.DEFINE_bool("small", False, "With --accelerator: try it out on any machine.")
ONLY = flags.DEFINE_list("only", [], "With --accelerator: the parts to measure (default: all).")
MINUTES = flags.DEFINE_float("minutes", 8.0, "After which --accelerator ends, finished or not.",
                             lower_bound=0.2)
LOWERINGS = flags.DEFINE_list(
    "lowerings", ["auto"], "With --accelerator: of the convolutions, each network with each.")
TORCH = flags.DEFINE_bool("torch", True, "With --accelerator: PyTorch beside, where installed.")
PROFILE = flags.DEFINE_bool("profile", False, "With --accelerator: write operations' times too.")
CLIPS = flags.DEFINE_integer("clips", 300, "Videos that --preparation is timed with.",
                             lower_bound=2)


def main() -> None:
  """Prints one timing a training step of the recipe, or another benchmark's table."""
  cli.quiet_libraries()
  if ACCELERATOR.value:
    if not OUT.value:
      raise UserError("--accelerator needs --out=DIR, a new folder for its results")
    from actionjax.benchmarks import accelerator
    accelerator.run(OUT.value, small=SMALL.value, only=ONLY.value, minutes=MINUTES.value,
                    lowerings=LOWERINGS.value, torch=TORCH.value, profile=PROFILE.value)
    return
  for name, flag in OTHERS.items():
    if flag.value:
      arguments = {"clips": CLIPS.value} if name == "preparation" else {}
      importlib.import_module(f"actionjax.benchmarks.{name}").run(**arguments)
      return
  from actionjax.benchmarks import training
  for timing in training.measure(configuration.given(CONFIG), num_steps=STEPS.value):
    print(timing)


if __name__ == "__main__":
  cli.run(main, parser=configuration.parse_flags)
