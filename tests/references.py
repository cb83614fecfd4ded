"""Stored numbers of reference implementations, and networks' states as PyTorch names them.

The folder that ACTIONJAX_TEST_FIXTURES names holds NAME.npz, what a reference computed, and
NAME.state_dict.json, the shapes of its state, whose values both sides generate from the names.
"""
import json
import os
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.models.i3d import I3D
from actionjax.ops import graphs


def path(name: str) -> pathlib.Path:
  """A file of the folder with references; the test is skipped where there is none."""
  folder = os.environ.get("ACTIONJAX_TEST_FIXTURES")
  if not folder or not pathlib.Path(folder, name).is_file():
    pytest.skip(f"ACTIONJAX_TEST_FIXTURES names no folder with {name}")
  return pathlib.Path(folder, name)


def stored(name: str):
  """The arrays of NAME.npz."""
  return np.load(path(f"{name}.npz"))


def state(name: str) -> dict[str, np.ndarray]:
  """The generated values of the state whose shapes NAME.state_dict.json gives."""
  shapes = json.loads(path(f"{name}.state_dict.json").read_text())
  return {entry: generated(entry, tuple(shape)) for entry, shape in shapes.items()}


def generated(name: str, shape) -> np.ndarray:
  """The value that both sides generate for an entry of a state."""
  random = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith("num_batches_tracked"):
    return np.zeros(shape, np.int64)
  if name.endswith("running_mean"):
    value = 0.1 * random.standard_normal(shape)
  elif name.endswith("running_var"):
    value = 1 + 0.1 * abs(random.standard_normal(shape))
  elif len(shape) < 2:
    value = name.endswith("weight") + 0.1 * random.standard_normal(shape)
  else:
    value = random.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
  return np.asarray(value * (0.01 if name.endswith(".PA") else 1), np.float32)


def signal(key: str, shape) -> np.ndarray:
  """A reference's input float32[shape] between 0 and 1, as both sides generate it."""
  return np.random.default_rng(zlib.crc32(key.encode())).random(shape, dtype=np.float32)


def torch_i3d_shapes() -> dict[str, tuple[int, ...]]:
  """Names and shapes of the PyTorch I3D's state, from our own tree."""
  clip = jax.ShapeDtypeStruct((1, 8, 32, 32, 3), jnp.float32)
  variables = jax.eval_shape(
      lambda x: I3D(use_bn_scale=True).init(jax.random.key(0), x, train=False), clip)
  leaf = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
  names = {"logits.conv3d.weight": (7, 1024, 1, 1, 1), "logits.conv3d.bias": (7,)}
  for keys, value in jax.tree_util.tree_flatten_with_path(variables)[0]:
    _, *modules, part, last = (key.key for key in keys)
    if part == "conv":
      t, h, w, i, o = value.shape
      names[".".join([*modules, "conv3d.weight"])] = (o, i, t, h, w)
    else:
      names[".".join([*modules, "bn", leaf[last]])] = value.shape
  return names


def torch_stgcn(joints: int = 17, widths=(8, 8, 16), original: bool = False) -> dict:
  """A state of the single-scale ST-GCN as PYSKL names it, or as the original release did.

  Importances lie around 1, and are all alike where the graph is 0, as after a training.
  """
  graph = graphs.spatial_partition(skeletons.layout("coco_17"))
  random = lambda *shape: np.random.default_rng(0).standard_normal(shape).astype(np.float32)
  state = {}

  def conv_bn(conv, bn, *shape):
    state[f"{conv}.weight"], state[f"{conv}.bias"] = random(*shape), random(shape[0])
    for part in ("weight", "bias", "running_mean", "running_var"):
      state[f"{bn}.{part}"] = 1 + 0.1 * random(shape[0])

  conv_bn("unused", "backbone.data_bn", 3 * joints)
  del state["unused.weight"], state["unused.bias"]
  i = 3
  for n, o in enumerate(widths):
    b = f"backbone.{'st_gcn_networks' if original else 'gcn'}.{n}"
    state[f"backbone.edge_importance.{n}" if original else f"{b}.gcn.PA"] = (
        np.where(graph != 0, 1 + 0.3 * random(*graph.shape), 0.25).astype(np.float32))
    state["backbone.A" if original else f"{b}.gcn.A"] = graph
    conv_bn(f"{b}.gcn.conv", f"{b}.tcn.0" if original else f"{b}.gcn.bn", 3 * o, i, 1, 1)
    for part in ("weight", "bias", "running_mean", "running_var"):
      name = f"{b}.tcn.0.{part}" if original else f"{b}.gcn.bn.{part}"
      state[name] = state[name][:o]
    conv_bn(f"{b}.tcn.2" if original else f"{b}.tcn.conv",
            f"{b}.tcn.3" if original else f"{b}.tcn.bn", o, o, 9, 1)
    if n and o != i:
      conv_bn(f"{b}.residual.0" if original else f"{b}.residual.conv",
              f"{b}.residual.1" if original else f"{b}.residual.bn", o, i, 1, 1)
    i = o
  name = "cls_head.fc" if original else "cls_head.fc_cls"
  state[f"{name}.weight"] = random(6, i, *((1, 1) if original else ()))
  state[f"{name}.bias"] = random(6)
  return state
