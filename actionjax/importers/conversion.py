"""Foreign checkpoint files as model directories that a training can start from."""
import pathlib
from typing import Any

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.importers import torch_gcn, torch_i3d, torch_layout, torch_posec3d, torch_resnet2d
from actionjax.training import checkpoint

FORMATS = ("torch_i3d", "torch_resnet2d", "torch_gcn", "torch_posec3d")
# What each format can be asked for.
_OPTIONS = {"torch_resnet2d": ("inflation", "kernels", "stem_length"),
            "torch_gcn": ("layout", "stream", "adaptive", "ema"),
            "torch_posec3d": ("temporal_stride", "layout", "kind", "ema")}


def convert(form: str, source: str, directory: str, **options: Any) -> dict:
  """Writes the weights of a foreign checkpoint for `init_from`.

  Args:
    form: one of `FORMATS`; "torch_i3d" is the PyTorch port of the Kinetics Inception-v1 I3D,
      "torch_resnet2d" a 2D ResNet with torchvision's names, which is inflated;
      "torch_gcn" PYSKL's or MMAction2's ST-GCN, ST-GCN++ or MS-G3D with its classifier,
      "torch_posec3d" their SlowOnly, C3D, X3D or RGBPoseConv3D, likewise.
    source: the file.
    directory: of the model to write; must not exist.
    **options: of `torch_resnet2d.import_resnet2d`: inflation, kernels, stem_length; of
      `torch_gcn.import_gcn`: layout, stream, adaptive, ema; of `torch_posec3d.import_posec3d`:
      temporal_stride, layout, kind, ema.

  Returns:
    The description stored beside the weights: `backbone` is what a config gives its model as
    that, or `network` what it gives as its model, where a file holds all of it; `maps`, `stream`
    and `pipeline` what these weights read, which a test with anything else is refused for;
    `left_out` names the file's arrays that were not taken, where there are such.

  Raises:
    UserError: an unknown format or option, no such file, names or shapes that do not fit, what a
      file leaves open and no option says, or a directory that is there already.
  """
  if form not in FORMATS:
    raise UserError(f"unknown format {form!r}; known: {', '.join(FORMATS)}")
  for option in options:
    if option not in _OPTIONS.get(form, ()):
      takers = [name for name, taken in _OPTIONS.items() if option in taken]
      raise UserError(f"{option}: for {', '.join(takers)} only, not {form}" if takers else
                      f"unknown option {option!r}")
  if not pathlib.Path(source).is_file():
    raise UserError(f"checkpoint file {source} does not exist")
  target = pathlib.Path(directory)
  if target.exists():
    raise UserError(f"{target} exists already; give a new directory")
  state = torch_layout.read_torch(source)
  if form == "torch_i3d":
    found = torch_i3d.import_i3d(state, source=str(source))
    description = {"backbone": {"name": "i3d", "use_bn_scale": found.use_bn_scale}}
    variables = _of_backbone(found.backbone)
  elif form == "torch_gcn":
    found = torch_gcn.import_gcn(state, **options, source=str(source),
                                 config=torch_layout.read_config(source))
    description = {"network": found.model, "num_classes": found.num_classes,
                   "left_out": list(found.left_out)}
    description |= {name: value for name, value in (
        ("stream", found.stream), ("pipeline", found.pipeline)) if value is not None}
    variables = found.variables
  elif form == "torch_posec3d":
    found = torch_posec3d.import_posec3d(state, **options, source=str(source),
                                         config=torch_layout.read_config(source))
    if found.layout is not None and not found.maps:
      raise UserError(f"{source} reads as many maps as {skeletons.layout(found.layout).name} has "
                      "joints, or limbs, and does not say which; say --kind=joint or --kind=limb")
    description = {"network": found.network, "num_classes": found.num_classes,
                   "layout": found.layout, "maps": found.maps, "left_out": list(found.left_out)}
    variables = found.variables
  else:
    found = torch_resnet2d.import_resnet2d(state, **options, source=str(source))
    description = {"backbone": {"name": "resnet3d", **found.fields},
                   "inflation": options.get("inflation", "center"),
                   "left_out": list(found.left_out)}
    variables = _of_backbone(found.backbone)
  description = {"format": 1, "source": pathlib.Path(source).name, **description}
  checkpoint.save_model(target, variables, description)
  return description


def _of_backbone(variables: dict) -> dict:
  """A backbone's variables where a model has them."""
  return {collection: {"backbone": tree} for collection, tree in variables.items()}
