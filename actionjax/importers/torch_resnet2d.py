"""Two-dimensional ImageNet ResNets from PyTorch, inflated for `models/resnet3d.py`.

Names are those of torchvision's `state_dict`: `conv1`, `bn1`, `layer1.0.conv1`,
`layer1.0.downsample.0`, and so on. Which kernels gain a temporal axis is the 3D network's
choice; how their weights are spread over it is the inflation rule's.
"""
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax.errors import UserError
from actionjax.importers import torch_layout
from actionjax.models.resnet3d import DEPTHS, ResNet3D

INFLATIONS = ("center", "mean")
# Those of resnet3d.KERNELS that keep every 2D kernel in one piece.
KERNELS = ("3x3x3", "3x1x1", "2d")

_CLASSIFIER = "fc."


class ImportedResNet(NamedTuple):
  """What a file held.

  Attributes:
    backbone: variables of `ResNet3D(**fields)`: `params` and `batch_stats`.
    fields: what the network has to be built with.
    left_out: names of the file's arrays that were not taken, the classifier's.
  """
  backbone: dict
  fields: dict[str, Any]
  left_out: tuple[str, ...]


def inflate(kernel: np.ndarray, length: int, inflation: str = "center") -> np.ndarray:
  """A 2D kernel [O,I,h,w] over time: [O,I,length,h,w].

  "center" puts it into the middle slice among zeros: the 3D network is then the 2D one on
  every frame of any clip. "mean" repeats it and divides by the length (Carreira & Zisserman,
  2017, section 2.1 "Bootstrapping 3D filters from 2D filters", the procedure that the
  hierarchical-classification paper cites): on a clip that stands still it answers as the 2D
  network, but for the frames at both ends, where the padding's zeros take their share.
  Each convolution carries that loss one more kernel radius inwards.

  Raises:
    ValueError: an unknown rule, or "center" and an even length.
  """
  if inflation == "mean":
    return np.repeat(kernel[:, :, None] / length, length, axis=2)
  if inflation != "center":
    raise ValueError(f"unknown inflation {inflation!r}; known: {', '.join(INFLATIONS)}")
  if length % 2 == 0:
    raise ValueError(f"a kernel of even length {length} has no middle slice")
  inflated = np.zeros((*kernel.shape[:2], length, *kernel.shape[2:]), kernel.dtype)
  inflated[:, :, length // 2] = kernel
  return inflated


def import_resnet2d(state: Mapping[str, np.ndarray], inflation: str = "center",
                    kernels: str = "3x3x3", stem_length: int = 1,
                    source: str = "ResNet checkpoint") -> ImportedResNet:
  """Inflates a PyTorch state (see `torch_layout.read_torch`) of any depth and width.

  Args:
    state: arrays by torchvision's names, layout [O,I,h,w].
    inflation: one of `INFLATIONS`; see `inflate`.
    kernels: one of `KERNELS`, which extend in time: HAC's networks have "3x3x3", Action
      Machine's "3x1x1".
    stem_length: frames that the stem's kernel spans; HAC leaves it 1, Action Machine has 5.
    source: names the file in error messages.

  Raises:
    UserError: an option that is unknown or does not suit the network; a state that is no
      residual network; or names that are missing, left over or of the wrong shape, all of them.
  """
  if inflation not in INFLATIONS:
    raise UserError(f"unknown inflation {inflation!r}; known: {', '.join(INFLATIONS)}")
  if kernels not in KERNELS:
    raise UserError(f"unknown kernels {kernels!r}; known: {', '.join(KERNELS)}")
  if stem_length < 1 or stem_length % 2 == 0:
    raise UserError(f"stem_length must be an odd number of frames, got {stem_length}")
  stem = state.get("conv1.weight")
  if stem is None or np.ndim(stem) != 4 or "layer1.0.conv1.weight" not in state:
    raise UserError(f"{source} is no 2D ResNet with torchvision's names: it lacks conv1.weight "
                    "or layer1.0.conv1.weight")
  fields = _architecture(state) | {"kernels": kernels}
  if stem_length > 1:
    fields["stem_kernel"] = (stem_length, *stem.shape[2:])
  clip = jax.ShapeDtypeStruct((1, 1, 32, 32, stem.shape[1]), jnp.float32)
  model = ResNet3D(**fields)
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), clip)

  inflated = dict(state)
  for keys, leaf in jax.tree_util.tree_flatten_with_path(template["params"])[0]:
    name = _torch_name(("params", *(key.key for key in keys)))
    # Kernels that stay 2D get their axis of length 1; other shapes are `fill`'s to report.
    if len(leaf.shape) == 5 and np.ndim(state.get(name)) == 4:
      inflated[name] = inflate(np.asarray(state[name]), leaf.shape[0], inflation)
  left_out = tuple(name for name in state if name.startswith(_CLASSIFIER))
  counters = [name for name in state if name.endswith(".num_batches_tracked")]
  backbone = torch_layout.fill(template, inflated, _torch_name, source, [*left_out, *counters])
  return ImportedResNet(backbone, fields, left_out)


def _architecture(state) -> dict[str, Any]:
  """Fields of ResNet3D for the blocks that a state has."""
  blocks = {}
  for name in state:
    if match := re.match(r"layer(\d+)\.(\d+)\.", name):
      stage, block = int(match[1]), int(match[2])
      blocks[stage] = max(blocks.get(stage, 0), block + 1)
  # A gap in the numbering counts as a stage of one block, whose names are then missing.
  sizes = tuple(blocks.get(stage, 1) for stage in range(1, max(blocks) + 1))
  kind = "bottleneck" if "layer1.0.conv3.weight" in state else "basic"
  width = int(state["conv1.weight"].shape[0])
  known = {plan: depth for depth, plan in DEPTHS.items()}
  if (kind, sizes) in known:
    fields = {"depth": known[kind, sizes]}
  else:
    fields = {"block": kind, "stage_sizes": sizes,
              "spatial_strides": (1, *[2] * (len(sizes) - 1)),
              "temporal_strides": (1,) * len(sizes)}
  return fields if width == 64 else fields | {"width": width}


def _torch_name(path):
  """("params", "stage1", "block0", "conv2", "bn", "scale") -> "layer1.0.bn2.weight"."""
  _, *modules, unit, part, leaf = path
  leaf = "weight" if part == "conv" else torch_layout.BATCH_NORM[leaf]
  if unit == "stem":
    return f"{part}1.{leaf}"
  stage, block = (module.removeprefix(kind) for module, kind in zip(modules, ("stage", "block")))
  if unit == "shortcut":
    return f"layer{stage}.{block}.downsample.{0 if part == 'conv' else 1}.{leaf}"
  return f"layer{stage}.{block}.{part}{unit.removeprefix('conv')}.{leaf}"
