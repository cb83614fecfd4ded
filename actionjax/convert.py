"""Converts foreign weights: `python -m actionjax.convert --format=torch_i3d
--checkpoint=rgb_imagenet.pt --out=DIR`; then `init_from=(dict(source=DIR),)` in a training step.

`--format=torch_resnet2d --inflation=center --checkpoint=resnet50.pth` inflates a 2D ResNet with
torchvision's names for the backbone resnet3d. `--format=torch_gcn` takes PYSKL's and MMAction2's
ST-GCN, ST-GCN++ and MS-G3D, for the models stgcn and msg3d, and `--format=torch_posec3d` their
SlowOnly, C3D, X3D and RGBPoseConv3D, for the models posec3d, rgbpose and hac. What a file does not
tell of these, and its own config neither where it has one, flags say: `--kind`, `--stream`,
`--layout`.
"""
from absl import flags

from actionjax import cli, skeletons

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
    "layout", None, "torch_gcn, torch_posec3d: joint layout, or a .json file that describes one; "
    "by default told from the number of joints or maps.")
_KIND = flags.DEFINE_string(
    "kind", None, "torch_posec3d: joint, limb or both: what its heat maps are of, where neither "
    "their number nor the file's own config says it.")
_STREAM = flags.DEFINE_list(
    "stream", None, "torch_gcn: joint, bone, joint_motion or bone_motion, or several that are read "
    "at once, where the file's own config does not say it.")
_ADAPTIVE = flags.DEFINE_string(
    "adaptive", None, "torch_gcn: importance or offset, where the numbers do not tell what is "
    "learnt beside a fixed graph.")
_EMA = flags.DEFINE_bool(
    "ema", None, "torch_gcn, torch_posec3d: take the arrays that mmcv keeps as ema_* instead of "
    "those of plain names, which are what the projects themselves test.")
_TEMPORAL_STRIDE = flags.DEFINE_integer(
    "temporal_stride", None, "torch_posec3d: of Pose-SlowOnly's last stage; by default what the "
    "file's own config says, else 2; 1 for networks trained to be fused.")


def main() -> None:
  """Converts one file and says what a model needs to take it."""
  cli.quiet_libraries()
  from actionjax.importers import conversion
  options = {flag.name: flag.value
             for flag in (_INFLATION, _KERNELS, _STEM_LENGTH, _LAYOUT, _KIND, _STREAM, _ADAPTIVE,
                          _EMA, _TEMPORAL_STRIDE)
             if flag.value is not None}
  description = conversion.convert(_FORMAT.value, _CHECKPOINT.value, _OUT.value, **options)
  kind = "backbone" if "backbone" in description else "network"
  fields = dict(description[kind])
  if "layout" in fields:
    fields["layout"] = skeletons.title(fields["layout"])
  print(f"wrote {_OUT.value}: weights of the {kind} {fields}")
  for name in ("maps", "stream", "pipeline"):
    if description.get(name):
      print(f"{name}: {description[name]}")
  if description.get("left_out"):
    print(f"left out: {', '.join(description['left_out'])}")


if __name__ == "__main__":
  cli.run(main)
