"""Foreign checkpoint files as model directories that a training can start from."""
import pathlib
from typing import Any

from actionjax.errors import UserError
from actionjax.importers import torch_i3d, torch_layout, torch_resnet2d
from actionjax.training import checkpoint

FORMATS = ("torch_i3d", "torch_resnet2d")


def convert(form: str, source: str, directory: str, **options: Any) -> dict:
  """Writes the backbone of a foreign checkpoint for `init_from`.

  Args:
    form: one of `FORMATS`; "torch_i3d" is the PyTorch port of the Kinetics Inception-v1 I3D,
      "torch_resnet2d" a 2D ResNet with torchvision's names, which is inflated.
    source: the file.
    directory: of the model to write; must not exist.
    **options: of `torch_resnet2d.import_resnet2d`: inflation, kernels, stem_length.

  Returns:
    The description stored beside the weights: `backbone` is what a config gives its model as
    that; `left_out` names the file's arrays that were not taken, where there are such.

  Raises:
    UserError: an unknown format or option, no such file, names or shapes that do not fit, or a
      directory that is there already.
  """
  if form not in FORMATS:
    raise UserError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
  if options and form != "torch_resnet2d":
    raise UserError(f"{', '.join(options)}: for torch_resnet2d only; {form} is not inflated")
  if not pathlib.Path(source).is_file():
    raise UserError(f"checkpoint file {source} does not exist")
  target = pathlib.Path(directory)
  if target.exists():
    raise UserError(f"{target} exists already; give a new directory")
  state = torch_layout.read_torch(source)
  if form == "torch_i3d":
    found = torch_i3d.import_i3d(state, source=str(source))
    description = {"backbone": {"name": "i3d", "use_bn_scale": found.use_bn_scale}}
  else:
    found = torch_resnet2d.import_resnet2d(state, **options, source=str(source))
    description = {"backbone": {"name": "resnet3d", **found.fields},
                   "inflation": options.get("inflation", "center"),
                   "left_out": list(found.left_out)}
  description = {"format": 1, "source": pathlib.Path(source).name, **description}
  checkpoint.save_model(target, {"params": {"backbone": found.backbone["params"]},
                                 "batch_stats": {"backbone": found.backbone["batch_stats"]}},
                        description)
  return description
