"""Takes dead filters out: `python -m actionjax.compact --checkpoint=RUN --out=DIR`.

The result computes the same, smaller and faster, and is a model as any other: `actionjax.load`
opens it, and `init_from=(dict(source=DIR),)` trains on from it.
"""
from absl import flags

from actionjax import cli

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "The pruned model: a workdir, one of its steps, or a model directory.",
    required=True)
_OUT = flags.DEFINE_string("out", None, "Model directory to write.", required=True)


def main() -> None:
  """Compacts one model and says what is left."""
  cli.quiet_libraries()
  from actionjax.pruning import compact
  found = compact.compact_checkpoint(_CHECKPOINT.value, _OUT.value)["compacted"]
  print(f"wrote {_OUT.value}: {found['kept']} of {found['filters']} filters of the pruned layers")


if __name__ == "__main__":
  cli.run(main)
