"""Converts foreign weights: `python -m actionjax.convert --format=torch_i3d
--checkpoint=rgb_imagenet.pt --out=DIR`; then `init_from=(dict(source=DIR),)` in a training step.

`--format=torch_resnet2d --inflation=center --checkpoint=resnet50.pth` inflates a 2D ResNet with
torchvision's names for the backbone resnet3d. `--format=torch_gcn` takes PYSKL's and MMAction2's
ST-GCN, ST-GCN++ and MS-G3D, for the models stgcn and msg3d, and `--format=torch_posec3d` their
SlowOnly, C3D, X3D and RGBPoseConv3D, for the models posec3d, rgbpose and hac.
"""
from absl import flags

from actionjax import cli

_FORMAT = flags.DEFINE_string("format", "torch_i3d",
                              "Format of the file: torch_i3d, torch_resnet2d, torch_gcn "
                              "or torch_posec3d.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", None, "The file to convert.", required=True)
_OUT = flags.DEFINE_string("out", None, "Model directory to write.", required=True)
_INFLATION = flags.DEFINE_string(
    "inflation", None, "torch_resnet2d: center (the default; the 2D kernel in the middle slice) "
    "or mean (repeated, divided by the length).")
_KERNELS = flags.DEFINE_string(
    "kernels", None, "torch_resnet2d: which kernels extend in time, 3x3x3 (the default), 3x1x1 "
    "or 2d; as the backbone's field.")
_STEM_LENGTH = flags.DEFINE_integer(
    "stem_length", None, "torch_resnet2d: frames of the stem's kernel, 1 by default.")
_LAYOUT = flags.DEFINE_string(
    "layout", None, "torch_gcn, torch_posec3d: joint layout; by default told from the number of "
    "joints or maps.")
_TEMPORAL_STRIDE = flags.DEFINE_integer(
    "temporal_stride", None, "torch_posec3d: of Pose-SlowOnly's last stage, 2 by default; 1 for "
    "networks trained to be fused.")


def main() -> None:
  """Converts one file and says what a model needs to take it."""
  cli.quiet_libraries()
  from actionjax.importers import conversion
  options = {flag.name: flag.value
             for flag in (_INFLATION, _KERNELS, _STEM_LENGTH, _LAYOUT, _TEMPORAL_STRIDE)
             if flag.value is not None}
  description = conversion.convert(_FORMAT.value, _CHECKPOINT.value, _OUT.value, **options)
  kind = "backbone" if "backbone" in description else "network"
  print(f"wrote {_OUT.value}: weights of the {kind} {description[kind]}")
  if description.get("left_out"):
    print(f"left out: {', '.join(description['left_out'])}")


if __name__ == "__main__":
  cli.run(main)
