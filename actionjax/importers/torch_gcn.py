"""ST-GCN, ST-GCN++ and MS-G3D from PYSKL's and MMAction2's checkpoints.

MMAction2's names are PYSKL's since its version 1, but for the classifier. Before that its ST-GCN
had those of the original release (`st_gcn_networks`), which are brought into the same form.
"""
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.importers import torch_layout
from actionjax.models import msg3d, stgcn
from actionjax.ops import graphs

LAYOUTS = {25: "kinect_v2_25", 17: "coco_17", 18: "openpose_18"}

_CLASSIFIERS = ("cls_head.fc_cls.", "cls_head.fc.")
# The original ST-GCN: batch norm, ReLU, convolution, batch norm in one list named tcn.
_ORIGINAL = ((r"^backbone\.st_gcn_networks\.", "backbone.gcn."),
             (r"\.tcn\.0\.", ".gcn.bn."), (r"\.tcn\.2\.", ".tcn.conv."),
             (r"\.tcn\.3\.", ".tcn.bn."), (r"\.residual\.0\.", ".residual.conv."),
             (r"\.residual\.1\.", ".residual.bn."))


class ImportedGraphNetwork(NamedTuple):
  """What a file held.

  Attributes:
    variables: of the model: `params` and `batch_stats`.
    model: its config section, `name`, `layout` and further fields.
    num_classes: of its classifier.
  """
  variables: dict[str, Any]
  model: dict[str, Any]
  num_classes: int


def import_gcn(state: Mapping[str, np.ndarray], layout: str | None = None,
               source: str = "GCN checkpoint") -> ImportedGraphNetwork:
  """Converts a PyTorch state (see `torch_layout.read_torch`) of any width and depth.

  Args:
    state: arrays by PyTorch's names.
    layout: name of the joint layout; None: `LAYOUTS` by the number of joints. The graphs that a
      file stores are compared with it.
    source: names the file in error messages.

  Raises:
    UserError: another architecture; a layout that does not fit or is needed; or names that are
      missing, left over or of the wrong shape, all of them.
  """
  state = _modern(state)
  adjacency = next((state[name] for name in ("backbone.gcn.0.gcn.A", "backbone.A")
                    if name in state), None)
  if adjacency is None or np.ndim(adjacency) not in (2, 3):
    names = ", ".join(sorted(state)[:4])
    raise UserError(f"{source} is no ST-GCN, ST-GCN++ or MS-G3D of PYSKL or MMAction2: it has "
                    f"neither backbone.gcn.0.gcn.A nor backbone.A, but {names}, ...")
  joints = adjacency.shape[-1]
  if layout is None and joints not in LAYOUTS:
    raise UserError(f"{source} has {joints} joints; say which layout that is")
  try:
    layout = skeletons.layout(layout or LAYOUTS[joints])
  except ValueError as error:
    raise UserError(str(error)) from None
  if layout.num_joints != joints:
    raise UserError(f"{source} has {joints} joints, layout {layout.name} {layout.num_joints}")
  if "backbone.sgcn1.0.PA" in state:
    fields, names, constants = _msg3d(state, layout, source)
  else:
    fields, names, constants = _stgcn(state, layout, source)

  num_classes = len(state.get("cls_head.fc.bias", np.empty(1)))
  # What they read is what `data.graph` yields.
  fields |= {"layout": layout.name, "normalise": "none"}
  persons = 1
  if fields["name"] == "msg3d" and "backbone.data_bn.weight" in state:
    persons = max(1, len(state["backbone.data_bn.weight"]) // (3 * joints))
  source_name = "pose3d" if layout.dimensions == 3 else "pose2d"
  batch = {source_name: jax.ShapeDtypeStruct((1, persons, 16, joints, layout.dimensions),
                                             jnp.float32),
           "pose_score": jax.ShapeDtypeStruct((1, persons, 16, joints), jnp.float32)}
  module = {"stgcn": stgcn, "msg3d": msg3d}[fields["name"]]
  model = module.Model(num_classes, **{key: value for key, value in fields.items()
                                       if key != "name"})
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), batch)
  return ImportedGraphNetwork(_fill(template, state, names, constants, source), fields,
                              num_classes)


def _modern(state):
  """PYSKL's names, without the axes of length one of its kernels."""
  found = {}
  original = any(".st_gcn_networks." in name for name in state)
  for name, value in state.items():
    if original:
      for pattern, replacement in _ORIGINAL:
        name = re.sub(pattern, replacement, name)
      if match := re.fullmatch(r"backbone\.edge_importance\.(\d+)", name):
        name = f"backbone.gcn.{match[1]}.gcn.PA"
    for classifier in _CLASSIFIERS:
      if name.startswith(classifier):
        name = "cls_head.fc." + name.removeprefix(classifier)
    value = np.asarray(value)
    if name.endswith("weight") and value.ndim > 2:
      value = value.reshape(*value.shape[:2], *(size for size in value.shape[2:] if size > 1))
    found[name] = value
  if original and "backbone.A" in found:
    shared = found.pop("backbone.A")
    found |= {name.removesuffix("PA") + "A": shared for name in found if name.endswith(".gcn.PA")}
  return found


def _stgcn(state, layout, source):
  """Fields, the names of a leaf's arrays, and names of what is not learnt."""
  widths, block = [], 0
  while f"backbone.gcn.{block}.gcn.bn.weight" in state:
    widths.append(len(state[f"backbone.gcn.{block}.gcn.bn.weight"]))
    block += 1
  if not widths:
    raise UserError(f"{source} is missing backbone.gcn.0.gcn.bn.weight")
  stages = tuple(widths.count(width) for width in dict.fromkeys(widths))
  multi_scale = "backbone.gcn.0.tcn.branches.0.0.weight" in state
  fields = {"name": "stgcn", "variant": "stgcnpp" if multi_scale else "stgcn",
            "width": widths[0], "stage_sizes": stages,
            "temporal": "multi_scale" if multi_scale else "single",
            "graph_residual": "backbone.gcn.0.gcn.down.0.weight" in state,
            "adaptive": "importance" if "backbone.gcn.0.gcn.PA" in state else "init"}
  fields["graph"] = "spatial" if multi_scale else "partition"
  constants = []
  if fields["adaptive"] == "importance":
    constants = [f"backbone.gcn.{i}.gcn.A" for i in range(block)]
    stored = [state[name] for name in constants if name in state]
    fitting = [name for name, graph in stgcn.GRAPHS.items()
               if all(_same(a, graph(layout)) for a in stored)]
    if not fitting:
      raise UserError(f"{source}: its graph (backbone.gcn.0.gcn.A) is none of layout "
                      f"{layout.name}; give the layout that the network was trained on")
    fields["graph"] = fitting[0]
  return fields, _stgcn_names, constants


def _msg3d(state, layout, source):
  """As `_stgcn`."""
  if not _same(state["backbone.A"], graphs.binary(layout)):
    raise UserError(f"{source}: its graph (backbone.A) is not that of layout {layout.name}; give "
                    "the layout that the network was trained on")
  bias = state.get("backbone.sgcn1.0.mlp.layers.0.bias", np.empty(96))
  fields = {"name": "msg3d", "width": len(bias), "scales": len(state["backbone.sgcn1.0.PA"])}
  windows, j = [], 0
  while (name := f"backbone.gcn3d1.gcn3d.{j}.gcn3d.1.PA") in state:
    windows.append(state[name].shape[-1] // layout.num_joints)
    fields["window_scales"] = len(state[name])
    j += 1
  if windows:
    fields["windows"] = tuple(windows)
  return fields, _msg3d_names, [name for name in state if name.endswith(".A")]


def _same(stored, graph):
  return np.shape(stored) == graph.shape and np.allclose(stored, graph, atol=1e-5)


def _fill(template, state, names, constants, source):
  """`torch_layout.fill`, where a leaf may be several arrays of the file, one after another."""
  joined, parts, renamed = dict(state), set(), {}
  for keys, _ in jax.tree_util.tree_flatten_with_path(template)[0]:
    path = tuple(key.key for key in keys)
    of_file = names(path)
    absent = [name for name in of_file if name not in state]
    renamed[path] = " + ".join(absent or of_file)
    if len(of_file) > 1:
      parts.update(of_file)
      if not absent:
        joined[renamed[path]] = np.concatenate([state[name] for name in of_file])
  counters = [name for name in state if name.endswith(".num_batches_tracked")]
  return torch_layout.fill(template, joined, renamed.__getitem__, source,
                           [*constants, *parts, *counters])


def _leaf(name):
  return {"kernel": "weight", **torch_layout.BATCH_NORM}.get(name, name)


def _common(path):
  """Names outside the blocks, as a tuple; None for a leaf of a block."""
  _, part, *inner, leaf = path
  if part == "head":
    return (f"cls_head.fc.{_leaf(leaf)}",)
  return (f"backbone.data_bn.{_leaf(leaf)}",) if inner[0] == "input" else None


def _conv_bn(prefix, unit, leaf):
  return (f"{prefix}.{unit}.{_leaf(leaf)}",)


def _scales(prefix, unit, leaf, last, final):
  """Names of a `MultiScaleTemporal`'s leaf: `last` is its strided branch's convolution, `final`
  the batch norms behind its branches."""
  leaf = _leaf(leaf)
  if unit == "expand":
    names = [f"branches.{i}.0" for i in range(5)] + [last]
  elif unit == "expand_bn":
    names = [f"branches.{i}.1" for i in range(5)]
  elif unit == "bn":
    names = final
  else:
    names = [f"branches.{unit.removeprefix('conv')}.3.conv"]
  return tuple(f"{prefix}.{name}.{leaf}" for name in names)


def _stgcn_names(path):
  if found := _common(path):
    return found
  _, _, block, *units, leaf = path
  prefix = f"backbone.gcn.{block.removeprefix('block')}"
  if units[0] == "shortcut":
    return _conv_bn(f"{prefix}.residual", units[1], leaf)
  if units[0] == "graph_unit":
    if len(units) == 1:
      name = {"adjacency": "A", "importance": "PA", "offset": "PA"}.get(leaf)
      return (f"{prefix}.gcn.{name or f'conv.{_leaf(leaf)}'}",)
    if units[1] == "shortcut":
      return (f"{prefix}.gcn.down.{0 if units[2] == 'conv' else 1}.{_leaf(leaf)}",)
    return _conv_bn(f"{prefix}.gcn", "bn", leaf)
  if units[1] == "scales":
    return _scales(f"{prefix}.tcn", units[2], leaf, "branches.5", ["transform.0"])
  if units[1] == "transform":
    return (f"{prefix}.tcn.{'transform.2' if units[2] == 'conv' else 'bn'}.{_leaf(leaf)}",)
  return _conv_bn(f"{prefix}.tcn", units[1], leaf)


def _msg3d_names(path):
  if found := _common(path):
    return found
  _, _, block, *units, leaf = path
  kind, stage, rest = re.fullmatch(r"(graph|window|temporal)(\d)_?(\w*)", block).groups()
  stage = int(stage) + 1
  if kind == "window":
    prefix = f"backbone.gcn3d{stage}.gcn3d.{rest}"
    if units[:1] == ["graph_unit"]:
      return _multi_scale_graph(f"{prefix}.gcn3d.1", units[1:], leaf)
    return _conv_bn(prefix, "out_bn" if units else "out_conv", leaf)
  if kind == "graph" and not rest:
    return _multi_scale_graph(f"backbone.sgcn{stage}.0", units, leaf)
  prefix = f"backbone.tcn{stage}"
  if kind == "graph":
    prefix = f"backbone.sgcn{stage}.{int(rest.removeprefix('temporal')) + 1}"
  if units[0] == "shortcut":
    return _conv_bn(f"{prefix}.residual", units[1], leaf)
  return _scales(prefix, units[1], leaf, "branches.5.0",
                 [*(f"branches.{i}.3.bn" for i in range(4)), "branches.4.4", "branches.5.1"])


def _multi_scale_graph(prefix, units, leaf):
  if leaf == "offset":
    return (f"{prefix}.PA",)
  return (f"{prefix}.mlp.layers.{1 if units else 0}.{_leaf(leaf)}",)
