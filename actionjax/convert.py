"""Converts foreign weights: `python -m actionjax.convert --format=torch_i3d
--checkpoint=rgb_imagenet.pt --out=DIR`; then `init_from=(dict(source=DIR),)` in a training step."""
from absl import flags

from actionjax import cli

_FORMAT = flags.DEFINE_string("format", "torch_i3d", "Format of the file: torch_i3d.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The file to convert.", required=True)
_OUT = flags.DEFINE_string("out", None, "Model directory to write.", required=True)


def main() -> None:
  """Converts one file and says what a model needs to take it."""
  cli.quiet_libraries()
  from actionjax.importers import conversion
  description = conversion.convert(_FORMAT.value, _CHECKPOINT.value, _OUT.value)
  print(f"wrote {_OUT.value}: weights of the backbone {description['backbone']}")


if __name__ == "__main__":
  cli.run(main)
