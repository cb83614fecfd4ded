"""PoseC3D's networks from PYSKL's and MMAction2's checkpoints: Pose-SlowOnly and the SlowOnly
of the video, C3D-light, X3D-shallow, and RGBPoseConv3D (our RGBPose-SlowFast).

Which network a file holds, how wide and deep, is read off its names and shapes. Strides leave no
trace there, and neither does whether 17 maps are joints or limbs: a config that was stored beside
the arrays says both, or the caller does. All released limb models, of both projects, were given
the order of limbs that the layout has here.
"""
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import configuration, skeletons
from actionjax.errors import UserError
from actionjax.importers import released_config, released_names, torch_layout
from actionjax.models import posec3d, rgbpose
from actionjax.ops import heatmaps

_LEAF = {"kernel": "weight", **torch_layout.BATCH_NORM}
_FUSED_HEADS = {"head_rgb": "fc_rgb", "head_pose": "fc_pose"}


class ImportedPoseC3D(NamedTuple):
  """What a file held.

  Attributes:
    variables: {"params", "batch_stats"} of the whole model, `backbone` and, where the file has a
      classifier, `head`.
    network: name and fields of the model: posec3d, rgbpose, or hac for the plain network of the
      video.
    num_classes: of the classifier; None without one.
    layout: of the skeletons; None for a video, and where nothing tells.
    maps: what of `models.posec3d.Maps` the weights depend on: `kind`, and `limbs` in another order
      than the layout's; empty where nothing tells.
    left_out: what of the file was not taken.
  """
  variables: dict[str, Any]
  network: dict[str, Any]
  num_classes: int | None
  layout: str | None
  maps: dict[str, Any]
  left_out: tuple[str, ...] = ()


def import_posec3d(state: Mapping[str, np.ndarray], *, temporal_stride: int | None = None,
                   layout: str | None = None, source: str = "PoseC3D checkpoint",
                   kind: str | None = None, ema: bool = False,
                   config: str | None = None) -> ImportedPoseC3D:
  """Converts a PyTorch state (see `torch_layout.read_torch`) of any number of classes.

  Args:
    state: arrays by PyTorch's names, layout [O,I,T,H,W].
    temporal_stride: of Pose-SlowOnly's last stage: 2 in the configs for NTU RGB+D and FineGYM, 1
      where the network was trained to be fused; None: what its config says, else 2.
    layout: of its skeletons, as `skeletons.find` takes it; None takes 17 maps for COCO's joints or
      limbs, which all released models see.
    source: names the file in error messages.
    kind: of the maps, one of `heatmaps.KINDS`; None: what its config or the number of maps says.
    ema: see `released_names.canonical`.
    config: text of the config stored beside the arrays (`torch_layout.read_config`).

  Raises:
    UserError: lists names that are missing, left over or of the wrong shape; a file of another
      network is compared with SlowOnly; or what is given contradicts the file.
  """
  told = released_config.parse(config)
  state, left_out = released_names.canonical(state, ema=ema, source=source)
  if released_names.has_graph_network(state):
    raise UserError(f"{source} is a graph network, which --format=torch_gcn converts")
  layout = None if layout is None else skeletons.find(layout)
  if kind is not None and kind not in heatmaps.KINDS:
    raise UserError(f"kind must be one of {', '.join(heatmaps.KINDS)}, got {kind!r}")
  kind = released_names.agree(kind, told.kind, "kind", source)
  stride = released_names.agree(temporal_stride, told.temporal_stride, "temporal_stride", source)
  if any(name.startswith("backbone.rgb_path.") for name in state):
    variables, network, num_classes, maps = _import_fused(state, source)
    # No limbs were ever drawn beside a video.
    kind = kind or "joint"
  else:
    variables, network, num_classes, maps = _import_single(state, stride or 2, source)
  # Skeletons are never drawn as three maps; three channels are colours.
  if maps == 3:
    if kind is not None:
      raise UserError(f"{source} reads a video, for which kind={kind} says nothing")
    return ImportedPoseC3D(variables, network, num_classes, None, {}, left_out)
  layout = layout or ("coco_17" if maps == 17 else None)
  return ImportedPoseC3D(variables, network, num_classes, layout,
                         _maps(maps, layout, kind, told.limbs, source), left_out)


def _maps(count, layout, kind, limbs, source):
  """What `ImportedPoseC3D.maps` says of so many maps. Raises UserError where they are not so many.

  Args:
    limbs: of the file's config: () for the code's default order, None where it does not say.
  """
  if layout is None:
    return {} if kind is None else {"kind": kind}
  drawn = skeletons.layout(layout)
  pairs = drawn.limbs.tolist()
  if limbs == () and layout == "coco_17":
    limbs = posec3d.MMACTION_LIMBS
  theirs = [list(pair) for pair in limbs or pairs]
  counts = {"joint": drawn.num_joints, "limb": len(theirs), "both": drawn.num_joints + len(theirs)}
  fitting = [name for name, number in counts.items() if number == count]
  if not fitting or kind not in (None, *fitting):
    expected = ", ".join(f"{number} for {name}" for name, number in counts.items())
    raise UserError(f"{source} reads {count} maps, but {drawn.name} gives {expected}; say which "
                    "layout its skeletons have")
  kind = kind or (fitting[0] if len(fitting) == 1 else None)
  if kind is None:
    return {}
  return {"kind": kind} if kind == "joint" or theirs == pairs else {"kind": kind, "limbs": theirs}


def _import_single(state, temporal_stride, source):
  """Variables, network, classes and input channels of a network with one input."""
  if "backbone.conv1a.conv.weight" in state:
    backbone, rename, stem = posec3d.C3D, _c3d_name, "conv1a.conv"
  elif "backbone.conv1_s.conv.weight" in state:
    backbone, rename, stem = posec3d.X3D, _x3d_name, "conv1_s.conv"
  else:
    backbone = _slowonly_fields(state, "backbone.", temporal_stride, source)
    rename, stem = _resnet_name, "conv1.conv"
  fields = dict(backbone)
  module = configuration.plugin("actionjax.models", fields.pop("name"), "Backbone", source)
  channels = _shape(state, f"backbone.{stem}.weight", (0, 17))[1]
  clip = jax.ShapeDtypeStruct((1, 2, 32, 32, channels), jnp.float32)
  model = module(**fields)
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), clip)
  template = {collection: {"backbone": tree} for collection, tree in template.items()}
  num_classes = None
  if released_names.has_head(state):
    num_classes, features = _shape(state, f"{released_names.CLASSIFIER}.weight", (0, 0))
    template["params"]["head"] = {"dense": _dense(features, num_classes)}

  def name(path):
    if path[1] == "head":
      return f"{released_names.CLASSIFIER}." + {"kernel": "weight", "bias": "bias"}[path[-1]]
    return "backbone." + rename(path[2:])

  network = ({"name": "video_network", "backbone": backbone} if channels == 3
             else {"name": "posec3d", "backbone": backbone})
  return torch_layout.fill(template, state, name, source), network, num_classes, channels


def _import_fused(state, source):
  """As `_import_single`, of RGBPoseConv3D with the laterals that the file has."""
  rgb = _slowonly_fields(state, "backbone.rgb_path.", 1, source)
  pose = _slowonly_fields(state, "backbone.pose_path.", 1, source)
  found = {way: f"backbone.{path}_lateral.conv.weight" in state for way, path in (
      ("pose_to_rgb", "rgb_path.layer2"), ("rgb_to_pose", "pose_path.layer1"))}
  laterals = ("both" if all(found.values()) else
              next((way for way, there in found.items() if there), "none"))
  head = released_names.has_head(state)
  num_classes = _shape(state, "cls_head.fc_rgb.weight", (1, 0))[0] if head else None
  joints = _shape(state, "backbone.pose_path.conv1.conv.weight", (0, 17))[1]
  network = {"name": "rgbpose", "rgb": rgb, "pose": pose, "laterals": laterals}

  # The pathways alone, on volumes of as many maps as the file's: no layout is known here.
  model = rgbpose.Pathways(rgb, pose, laterals)
  arrays = [jax.ShapeDtypeStruct((1, frames, size, size, channels), jnp.float32)
            for frames, size, channels in ((2, 64, 3), (8, 16, joints))]
  template = jax.eval_shape(
      lambda video, volume: model.init(jax.random.key(0), video, volume, train=False), *arrays)
  template = {collection: {"backbone": tree} for collection, tree in template.items()}
  for part, name in _FUSED_HEADS.items() if head else ():
    features = _shape(state, f"cls_head.{name}.weight", (0, 0))[1]
    template["params"][part] = {"dense": _dense(features, num_classes)}
  state = {name: np.swapaxes(value, 0, 1) if _is_transposed(name) and value.ndim == 5 else value
           for name, value in state.items()}
  return torch_layout.fill(template, state, _fused_name, source), network, num_classes, joints


def _is_transposed(name):
  """PyTorch keeps transposed convolutions as [I,O,...]."""
  return re.match(r"backbone\.pose_path\.layer\d_lateral\.conv\.weight", name)


def _fused_name(path):
  """("params", "backbone", "rgb_to_pose1", "bn", "scale") ->
  "backbone.pose_path.layer1_lateral.bn.weight"."""
  if path[1] in _FUSED_HEADS:
    return f"cls_head.{_FUSED_HEADS[path[1]]}." + {"kernel": "weight", "bias": "bias"}[path[-1]]
  module, *rest = path[2:]
  if module in ("rgb", "pose"):
    return f"backbone.{module}_path.{_resnet_name(rest)}"
  after_rgb, after_pose = rgbpose.CROSSINGS[int(module[-1]) - 1]
  lateral = (f"rgb_path.layer{after_rgb}" if module.startswith("pose_to_rgb")
             else f"pose_path.layer{after_pose}")
  leaf = f"bn.{_LEAF[rest[-1]]}" if rest[0] == "bn" else "conv.weight"
  return f"backbone.{lateral}_lateral.{leaf}"


def _resnet_name(path):
  """("stage1", "block0", "shortcut", "bn", "scale") -> "layer1.0.downsample.bn.weight"."""
  *modules, unit, part, leaf = path
  if unit == "stem":
    return f"conv1.{part}.{_LEAF[leaf]}"
  stage, block = (module.removeprefix(kind) for module, kind in zip(modules, ("stage", "block")))
  unit = "downsample" if unit == "shortcut" else unit
  return f"layer{stage}.{block}.{unit}.{part}.{_LEAF[leaf]}"


def _c3d_name(path):
  """("conv3a", "bn", "scale") -> "conv3a.bn.weight"."""
  return ".".join([*path[:-1], _LEAF[path[-1]]])


def _x3d_name(path):
  """("stage2_block0", "conv2", "conv", "kernel") -> "layer2.0.conv2.conv.weight"."""
  module, *parts, leaf = path
  stems = {"stem_spatial": "conv1_s.conv", "stem_temporal": "conv1_t"}
  block = re.match(r"stage(\d+)_block(\d+)", module)
  module = f"layer{block[1]}.{block[2]}" if block else stems.get(module, module)
  parts = ["downsample" if part == "shortcut" else part for part in parts]
  return ".".join([module, *parts, _LEAF[leaf]])


def _slowonly_fields(state, prefix, temporal_stride, source):
  """The backbone section of the ResNet that a state has below a prefix."""
  blocks = {}
  for name in state:
    if match := re.match(re.escape(prefix) + r"layer(\d+)\.(\d+)\.", name):
      stage = int(match[1])
      blocks[stage] = max(blocks.get(stage, 0), int(match[2]) + 1)
  if not blocks:
    blocks = dict(enumerate(posec3d.SLOWONLY["stage_sizes"], 1))
  # A gap in the numbering counts as a stage of one block, whose names are then missing.
  sizes = tuple(blocks.get(stage, 1) for stage in range(1, max(blocks) + 1))
  if len(sizes) not in (3, 4):
    raise UserError(f"{source}: {prefix}layer1 to layer{len(sizes)} are no SlowOnly, which has "
                    "three stages for skeletons or four for video")
  width, channels, *_ = _shape(state, f"{prefix}conv1.conv.weight", (32, 17, 1, 7, 7))
  # A block whose first kernel is missing counts as flat, and its name is then missing.
  kernels = tuple("3x1x1" if _shape(state, f"{prefix}layer{stage}.0.conv1.conv.weight",
                                    (0, 0, 1))[2] == 3 else "2d"
                  for stage in range(1, len(sizes) + 1))
  if len(sizes) == 4:
    return {**rgbpose.RGB, "depth": None, "block": "bottleneck", "stage_sizes": sizes,
            "width": width, "kernels": kernels}
  return {**posec3d.SLOWONLY, "stage_sizes": sizes, "width": width, "kernels": kernels,
          "temporal_strides": (1, 1, temporal_stride)}


def _shape(state, name, default):
  """Shape of an array; the default where there is none of as many axes, for `fill` to report."""
  shape = np.shape(state[name]) if name in state else ()
  return shape if len(shape) >= len(default) else default


def _dense(inputs, outputs):
  return {"kernel": jax.ShapeDtypeStruct((inputs, outputs), np.float32),
          "bias": jax.ShapeDtypeStruct((outputs,), np.float32)}
