"""Prepares a raw dataset for training: python -m actionjax.prepare --dataset=utd_mhad
--raw_dir=FOLDER. Run again after an interruption, it goes on where it stopped."""
from absl import flags

from actionjax import cli
from actionjax.errors import UserError

_DATASET = flags.DEFINE_string("dataset", None, "A dataset, such as utd_mhad.")
_RAW_DIR = flags.DEFINE_string("raw_dir", None, "Folder of the raw dataset's files.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Root of prepared datasets (default: $ACTIONJAX_DATA, else "
    "~/.cache/actionjax).")
_VARIANT = flags.DEFINE_string("variant", None, "A variant of the dataset (default: its first).")
_WORKERS = flags.DEFINE_integer("workers", None, "Encoding processes (default: one per core).",
                                lower_bound=1)


def main() -> None:
  """Prepares the dataset that the flags name."""
  cli.quiet_libraries()
  from actionjax.data import builders, preparation
  if not _DATASET.value:
    raise UserError(f"--dataset is missing; known: {', '.join(builders.names())}")
  preparation.prepare(_DATASET.value, _RAW_DIR.value, _DATA_DIR.value, _VARIANT.value,
                      _WORKERS.value)


if __name__ == "__main__":
  cli.run(main)
