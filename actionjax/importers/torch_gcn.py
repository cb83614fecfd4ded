"""ST-GCN, ST-GCN++ and MS-G3D from PYSKL's and MMAction2's checkpoints.

MMAction2's names are PYSKL's since its version 1, but for the classifier. Before that its ST-GCN
had those of the original release (`st_gcn_networks`), which are brought into the same form; it was
trained on another pipeline, too, which is noted.
"""
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.importers import released_config, released_names, torch_layout
from actionjax.models import msg3d, stgcn
from actionjax.ops import graphs, skeleton_streams

LAYOUTS = {25: "kinect_v2_25", 17: "coco_17", 18: "openpose_18"}
ADAPTIVE = ("importance", "offset")

# The original ST-GCN: batch norm, ReLU, convolution, batch norm in one list named tcn.
_ORIGINAL = ((r"^backbone\.st_gcn_networks\.", "backbone.gcn."),
             (r"\.tcn\.0\.", ".gcn.bn."), (r"\.tcn\.2\.", ".tcn.conv."),
             (r"\.tcn\.3\.", ".tcn.bn."), (r"\.residual\.0\.", ".residual.conv."),
             (r"\.residual\.1\.", ".residual.bn."))


class ImportedGraphNetwork(NamedTuple):
  """What a file held.

  Attributes:
    variables: of the model: `params`, `batch_stats`, and in these the graphs that are not the
      layout's. Without `head` where the file has no classifier.
    model: its config section, `name`, `layout` and further fields.
    num_classes: of its classifier; None without one.
    stream: what it reads, names of `skeleton_streams.STREAMS`; None where nothing tells.
    pipeline: "mmaction0" for a network that expects `data.graph.frames` of that name; else None.
    left_out: what of the file was not taken.
  """
  variables: dict[str, Any]
  model: dict[str, Any]
  num_classes: int | None
  stream: tuple[str, ...] | None = None
  pipeline: str | None = None
  left_out: tuple[str, ...] = ()


def import_gcn(state: Mapping[str, np.ndarray], layout: str | None = None,
               source: str = "GCN checkpoint", *, stream: Sequence[str] | None = None,
               adaptive: str | None = None, ema: bool = False,
               config: str | None = None) -> ImportedGraphNetwork:
  """Converts a PyTorch state (see `torch_layout.read_torch`) of any width and depth.

  Args:
    state: arrays by PyTorch's names.
    layout: of the joints, as `skeletons.find` takes it; None: `LAYOUTS` by the number of joints.
      Fixed graphs that are not the layout's become constants of the model.
    source: names the file in error messages.
    stream: what the network reads, names of `skeleton_streams.STREAMS`; several where the file has
      channels for more than one. None: what its config says, else joints (and bones).
    adaptive: "importance" or "offset", what is learnt beside fixed graphs; None tells it from the
      numbers.
    ema: see `released_names.canonical`.
    config: text of the config stored beside the arrays (`torch_layout.read_config`).

  Raises:
    UserError: another architecture; a layout that does not fit or is needed; what the file does not
      tell, or tells otherwise; or names that are missing, left over or of the wrong shape, all of
      them.
  """
  told = released_config.parse(config)
  state, left_out = released_names.canonical(state, ema=ema, source=source)
  original = any(".st_gcn_networks." in name for name in state)
  state = _modern(state, original)
  adjacency = next((state[name] for name in ("backbone.gcn.0.gcn.A", "backbone.A")
                    if name in state), None)
  if adjacency is None or np.ndim(adjacency) not in (2, 3):
    names = ", ".join(sorted(state)[:4])
    raise UserError(f"{source} is no ST-GCN, ST-GCN++ or MS-G3D of PYSKL or MMAction2: it has "
                    f"neither backbone.gcn.0.gcn.A nor backbone.A, but {names}, ...")
  joints = adjacency.shape[-1]
  if layout is None and joints not in LAYOUTS:
    raise UserError(f"{source} has {joints} joints; say which layout that is (a name, or a .json "
                    "file of your own)")
  name = skeletons.find(layout or LAYOUTS[joints])
  layout = skeletons.layout(name)
  if layout.num_joints != joints:
    raise UserError(f"{source} has {joints} joints, layout {layout.name} {layout.num_joints}")
  if "backbone.sgcn1.0.PA" in state:
    fields, names, constants = _msg3d(state, layout)
    channels = _channels(state, "backbone.sgcn1.0.mlp.layers.0.weight", fields["scales"])
  else:
    # The original release names it.
    adaptive = released_names.agree(
        adaptive, ADAPTIVE[0] if original else told.adaptive, "adaptive", source)
    fields, names, constants = _stgcn(state, layout, adaptive, source)
    channels = _channels(state, "backbone.gcn.0.gcn.conv.weight")
  stream = released_names.agree(None if stream is None else tuple(stream), told.stream, "stream",
                                source)
  read, stream = _input(channels, layout, stream, source)
  # What they read is what `data.graph` yields.
  fields |= {**read, "layout": name, "normalise": "none"}
  persons = _persons(state, fields, channels * joints)
  num_classes = None
  if released_names.has_head(state):
    num_classes = len(state.get(f"{released_names.CLASSIFIER}.bias", np.empty(1)))

  dimensions = fields.get("dimensions", layout.dimensions)
  batch = {f"pose{dimensions}d": jax.ShapeDtypeStruct((1, persons, 16, joints, dimensions),
                                                      jnp.float32),
           "pose_score": jax.ShapeDtypeStruct((1, persons, 16, joints), jnp.float32)}
  module = {"stgcn": stgcn, "msg3d": msg3d}[fields["name"]]
  model = module.Model(num_classes or 1, **{key: value for key, value in fields.items()
                                            if key != "name"})
  template = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), batch)
  if num_classes is None:
    del template["params"]["head"]
  return ImportedGraphNetwork(_fill(template, state, names, constants, source), fields,
                              num_classes, stream, "mmaction0" if original else None, left_out)


def _modern(state, original):
  """PYSKL's names, without the axes of length one of its kernels."""
  found = {}
  for name, value in state.items():
    if original:
      for pattern, replacement in _ORIGINAL:
        name = re.sub(pattern, replacement, name)
      if match := re.fullmatch(r"backbone\.edge_importance\.(\d+)", name):
        name = f"backbone.gcn.{match[1]}.gcn.PA"
    if name.endswith("weight") and value.ndim > 2:
      value = value.reshape(*value.shape[:2], *(size for size in value.shape[2:] if size > 1))
    found[name] = value
  if original and "backbone.A" in found:
    shared = found.pop("backbone.A")
    blocks = {name.split(".")[2] for name in found if name.startswith("backbone.gcn.")}
    found |= {f"backbone.gcn.{block}.gcn.A": shared for block in blocks}
  return found


def _channels(state, kernel, scales=1):
  """Input channels of a file, by its first kernel; 3 where that is not there or of no such form."""
  shape = np.shape(state.get(kernel, ()))
  return shape[1] // scales if len(shape) == 2 else 3


def _input(channels, layout, stream, source):
  """Fields that say what channels are, and the streams if that is known.

  Raises:
    UserError: so many channels are nothing that is read here, or not these streams'.
  """
  for name in stream or ():
    if name not in skeleton_streams.STREAMS:
      raise UserError(f"stream must be of {', '.join(skeleton_streams.STREAMS)}, got {name!r}")
  choices = [dict(dimensions=3)] if layout.dimensions == 3 else []
  choices += [dict(dimensions=2), dict(dimensions=2, scores=False)]
  width = lambda choice: 2 if choice.get("scores") is False else 3
  fitting = [choice for choice in choices if channels and channels % width(choice) == 0 and (
      stream is None or len(stream) * width(choice) == channels)]
  if not fitting:
    raise UserError(f"{source} reads {channels} channels a joint, which are not "
                    f"{' and '.join(stream) if stream else 'streams'} of 3 coordinates, or of 2 "
                    "with or without score")
  read = {key: value for key, value in fitting[0].items()
          if key != "dimensions" or value != layout.dimensions}
  count = channels // width(fitting[0])
  if stream is None and count == 2:
    # The only two that PYSKL's configs join by default; the conversion says so.
    stream = ("joint", "bone")
  if stream is None and count > 2:
    raise UserError(f"{source} reads {count} streams at once; say which, in order, as in "
                    "--stream=joint,bone,joint_motion,bone_motion")
  if count > 1:
    motion = [name.endswith("_motion") for name in stream]
    # Motion is `data.graph`'s, where all of it is that.
    read["stream"] = tuple(name.removesuffix("_motion") if all(motion) else name
                           for name in stream)
  return read, stream


def _persons(state, fields, width):
  """Persons of the input's statistics; what kind these are becomes a field of ST-GCN's."""
  statistics = len(state.get("backbone.data_bn.weight", ()))
  persons = max(1, statistics // width)
  if fields["name"] == "stgcn":
    if not statistics:
      fields["input_norm"] = "none"
    elif persons > 1:
      fields["input_norm"] = "person"
  return persons


def _stgcn(state, layout, adaptive, source):
  """Fields, the names of a leaf's arrays, and names of what is not learnt."""
  widths, block = [], 0
  while f"backbone.gcn.{block}.gcn.bn.weight" in state:
    widths.append(len(state[f"backbone.gcn.{block}.gcn.bn.weight"]))
    block += 1
  if not widths:
    raise UserError(f"{source} is missing backbone.gcn.0.gcn.bn.weight")
  stages = tuple(widths.count(width) for width in dict.fromkeys(widths))
  multi_scale = "backbone.gcn.0.tcn.branches.0.0.weight" in state
  learnt = "backbone.gcn.0.gcn.PA" in state
  fields = {"name": "stgcn", "variant": "stgcnpp" if multi_scale else "stgcn",
            "width": widths[0], "stage_sizes": stages,
            "temporal": "multi_scale" if multi_scale else "single",
            "graph_residual": "backbone.gcn.0.gcn.down.0.weight" in state,
            "adaptive": "init"}
  fields["graph"] = "spatial" if multi_scale else "partition"
  adjacency = state["backbone.gcn.0.gcn.A"]
  subsets = len(adjacency)
  if not learnt:
    # A itself is read, whether it was learnt or not.
    if adjacency.shape != stgcn.GRAPHS[fields["graph"]](layout).shape:
      fields |= {"graph": "stored", "subsets": subsets}
    return fields, _stgcn_names, []
  fields["adaptive"] = _adaptive(state, block, None if adaptive == "init" else adaptive, source)
  constants = [f"backbone.gcn.{i}.gcn.A" for i in range(block)]
  stored = [state[name] for name in constants if name in state]
  fitting = [name for name, graph in stgcn.GRAPHS.items()
             if all(_same(a, graph(layout)) for a in stored)]
  if fitting:
    fields["graph"] = fitting[0]
    return fields, _stgcn_names, constants
  fields |= {"graph": "stored", "subsets": subsets}
  return fields, _stgcn_names, []


def _adaptive(state, blocks, given, source):
  """Whether PA is a factor of A ("importance", from 1) or added to it ("offset", from 0).

  Where A is 0 a factor has no gradient: all of them have shrunk alike from 1, and are one number.
  Numbers that no training made are judged by what they are near to.

  Raises:
    UserError: there is no telling, or blocks differ.
  """
  if given is not None:
    if given not in ADAPTIVE:
      raise UserError(f"adaptive must be one of {', '.join(ADAPTIVE)}, got {given!r}")
    return given
  found = set()
  for block in range(blocks):
    graph, learnt = (state.get(f"backbone.gcn.{block}.gcn.{name}") for name in ("A", "PA"))
    if graph is None or learnt is None or graph.shape != learnt.shape:
      continue  # `fill` says what is missing
    unread, read = learnt[graph == 0], learnt[graph != 0]
    if not read.size:
      continue
    to_one, to_zero = np.abs(read - 1).mean(), np.abs(learnt).mean()
    if unread.size > 1 and np.ptp(unread) == 0 and unread[0] and np.ptp(read):
      found.add("importance")
    elif to_one < to_zero / 2:
      found.add("importance")
    elif to_zero < to_one / 2:
      found.add("offset")
    else:
      found.add("")
  if len(found) > 1 or "" in found:
    raise UserError(f"{source}: its numbers do not tell whether what is learnt beside the graph is "
                    "a factor or added to it; say --adaptive=importance or --adaptive=offset")
  return found.pop() if found else ADAPTIVE[0]


def _msg3d(state, layout):
  """As `_stgcn`."""
  bias = state.get("backbone.sgcn1.0.mlp.layers.0.bias", np.empty(96))
  fields = {"name": "msg3d", "width": len(bias), "scales": len(state["backbone.sgcn1.0.PA"])}
  windows, j = [], 0
  while (name := f"backbone.gcn3d1.gcn3d.{j}.gcn3d.1.PA") in state:
    windows.append(state[name].shape[-1] // layout.num_joints)
    fields["window_scales"] = len(state[name])
    j += 1
  if windows:
    fields["windows"] = tuple(windows)
  # Each graph convolution has its own copy of what is computed from backbone.A.
  adjacency = state.get("backbone.A", graphs.binary(layout))
  computed = {"sgcn": graphs.multi_scale(adjacency, fields["scales"])} | {
      f"gcn3d.{j}.": graphs.multi_scale(graphs.windowed(adjacency, frames),
                                        fields["window_scales"])
      for j, frames in enumerate(windows)}
  names = [name for name in state if name.endswith(".A")]
  same = _same(adjacency, graphs.binary(layout))
  for name in {learnt.removesuffix("PA") + "A" for learnt in state if learnt.endswith(".PA")}:
    graph = computed[next(part for part in computed if f".{part}" in name)]
    copy = state.get(name)
    # Weights of a graph are means; an array with others below 0 was filled by no graph.
    if copy is None or copy.shape != graph.shape or (copy < 0).any():
      state[name] = graph
    elif not _same(copy, graph):
      same = False
  if same:
    return fields, _msg3d_names, names + [name for name in state if name.endswith(".A")]
  return fields | {"graph": "stored"}, _msg3d_names, ["backbone.A"]


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
  return torch_layout.fill(template, joined, renamed.__getitem__, source, [*constants, *parts])


def _leaf(name):
  return {"kernel": "weight", **torch_layout.BATCH_NORM}.get(name, name)


def _common(path):
  """Names outside the blocks, as a tuple; None for a leaf of a block."""
  _, part, *inner, leaf = path
  if part == "head":
    return (f"{released_names.CLASSIFIER}.{_leaf(leaf)}",)
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
      name = {"adjacency": "A", "graph": "A", "importance": "PA", "offset": "PA"}.get(leaf)
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
  if leaf in ("offset", "graph"):
    return (f"{prefix}.{'PA' if leaf == 'offset' else 'A'}",)
  return (f"{prefix}.mlp.layers.{1 if units else 0}.{_leaf(leaf)}",)
