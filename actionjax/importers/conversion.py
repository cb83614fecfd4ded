"""Foreign checkpoint files as model directories that a training can start from."""
import pathlib

from actionjax.errors import UserError
from actionjax.importers import torch_i3d, torch_layout
from actionjax.training import checkpoint

FORMATS = ("torch_i3d",)


def convert(form: str, source: str, directory: str) -> dict:
  """Writes the backbone of a foreign checkpoint for `init_from`.

  Args:
    form: one of `FORMATS`; "torch_i3d" is the PyTorch port of the Kinetics Inception-v1 I3D.
    source: the file.
    directory: of the model to write; must not exist.

  Returns:
    The description stored beside the weights.

  Raises:
    UserError: an unknown format, no such file, names or shapes that do not fit, or a directory
      that is there already.
  """
  if form not in FORMATS:
    raise UserError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
  if not pathlib.Path(source).is_file():
    raise UserError(f"checkpoint file {source} does not exist")
  target = pathlib.Path(directory)
  if target.exists():
    raise UserError(f"{target} exists already; give a new directory")
  found = torch_i3d.import_i3d(torch_layout.read_torch(source), source=str(source))
  description = {"format": 1, "backbone": {"name": "i3d", "use_bn_scale": found.use_bn_scale},
                 "source": pathlib.Path(source).name}
  checkpoint.save_model(target, {"params": {"backbone": found.backbone["params"]},
                                 "batch_stats": {"backbone": found.backbone["batch_stats"]}},
                        description)
  return description
