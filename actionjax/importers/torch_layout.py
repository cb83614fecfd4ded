"""PyTorch's names and array layouts, for the importers of its checkpoints."""
import pickle
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from actionjax.errors import UserError

# Our leaf name -> PyTorch's, for batch norm.
BATCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def read_torch(path: str) -> dict[str, np.ndarray]:
  """The arrays of a `.pth` file by name, without running any code it may hold.

  A file whose top level is a dict with `state_dict` (or `model_state_dict`) gives that;
  a leading `module.` (data-parallel training) is dropped from names.

  Raises:
    UserError: PyTorch is not installed; the file cannot be read or holds no arrays.
  """
  torch, content = _load(path)
  if isinstance(content, Mapping):
    for key in ("state_dict", "model_state_dict"):
      if isinstance(content.get(key), Mapping):
        content = content[key]
        break
  state = {}
  if isinstance(content, Mapping):
    for name, value in content.items():
      if isinstance(value, torch.Tensor):
        value = value.float() if value.dtype == torch.bfloat16 else value
        state[name.removeprefix("module.")] = value.detach().numpy()
  if not state:
    raise UserError(f"{path}: holds no named arrays")
  return state


def read_config(path: str) -> str | None:
  """The text of the config that mmcv or mmengine stored in a `.pth` file; None where there is none.

  What cannot be read has none: that is for `read_torch` to say.
  """
  try:
    _, content = _load(path)
  except UserError:
    return None
  meta = content.get("meta") if isinstance(content, Mapping) else None
  texts = [meta.get(key) for key in ("config", "cfg")] if isinstance(meta, Mapping) else []
  return next((text for text in texts if isinstance(text, str)), None)


def _load(path):
  """(PyTorch, a file's content). Raises UserError as `read_torch`."""
  try:
    import torch
  except ImportError:
    raise UserError(f"{path}: reading PyTorch files needs PyTorch: pip install torch") from None
  try:
    try:
      content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
      # Training logs and settings lie beside the weights, as objects that are of no use here.
      content = torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Inert)
  except Exception as e:  # Missing, truncated, or not a checkpoint.
    raise UserError(f"{path}: cannot be read as PyTorch weights ({_first_line(e)}); "
                    "fetch it again") from e
  return torch, content


class _Nothing:
  """Stands for an object of a class that is not looked up: takes what it is given, keeps none."""

  def __new__(cls, *unused_args, **unused_kwargs):
    return super().__new__(cls)

  def __init__(self, *unused_args, **unused_kwargs):
    pass

  def __call__(self, *unused_args, **unused_kwargs):
    return self

  def __setitem__(self, key, value):
    pass

  append = extend = add = update = __setstate__ = __call__


class _Unpickler(pickle.Unpickler):
  """Looks up what tensors are made of, and nothing else: no code of the file is run."""

  def find_class(self, module, name):
    if (module, name) in _TENSORS:
      return super().find_class(module, name)
    return _Nothing


class _Inert:
  """What `torch.load` takes for the module `pickle`."""
  Unpickler, UnpicklingError = _Unpickler, pickle.UnpicklingError

  @staticmethod
  def load(file, **kwargs):
    return _Unpickler(file, **kwargs).load()


_TENSORS = frozenset([
    ("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"),
    ("torch._utils", "_rebuild_parameter"), ("torch", "Size"),
    *(("torch", f"{kind}Storage") for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int",
                                               "Short", "Char", "Byte", "Bool"))])


def _first_line(error):
  return (str(error).strip().splitlines() or [type(error).__name__])[0]


def to_ours(name: str, value: np.ndarray) -> np.ndarray:
  """Brings an array into the layout of our leaf `name`.

  A `kernel` is [O,I,...] there and [...,I,O] here (convolutions of any dimension, dense
  layers); everything else is the same.
  """
  if name == "kernel":
    return np.moveaxis(value, (0, 1), (-1, -2))
  return value


def to_theirs(name: str, value: np.ndarray) -> np.ndarray:
  """Brings an array of our leaf `name` into PyTorch's layout; the inverse of `to_ours`."""
  if name == "kernel":
    return np.moveaxis(value, (-1, -2), (0, 1))
  return value


def fill(template: Any, state: Mapping[str, np.ndarray], rename: Callable[[tuple[str, ...]], str],
         what: str, ignored: Iterable[str] = ()) -> Any:
  """Fills a tree of variables from a PyTorch state, whole or not at all.

  Args:
    template: nested dicts with leaves that have shape and dtype (`jax.eval_shape`).
    state: PyTorch's arrays by name.
    rename: from a leaf's path in the template, ("params", ..., "kernel"), to its name
      in the state.
    what: names file and network in error messages.
    ignored: names of the state that need not be used.

  Returns:
    The template's tree with NumPy arrays of its shapes and dtypes.

  Raises:
    UserError: names that are missing, left over, or of the wrong shape; all of them.
  """
  paths, tree = jax.tree_util.tree_flatten_with_path(template)
  used, missing, wrong, leaves = set(), [], [], []
  for keys, leaf in paths:
    path = tuple(key.key for key in keys)
    name = rename(path)
    used.add(name)
    if name not in state:
      missing.append(name)
      continue
    value = to_ours(path[-1], np.asarray(state[name]))
    if value.shape != leaf.shape:
      wrong.append(f"{name} {np.shape(state[name])} becomes {value.shape}, wanted {leaf.shape}")
    leaves.append(value.astype(leaf.dtype))
  left = sorted(set(state) - used - set(ignored))
  problems = [f"{title}: {', '.join(names)}" for title, names in (
      ("missing", missing), ("left over", left), ("wrong shape", wrong)) if names]
  if problems:
    raise UserError(f"{what}: {'; '.join(problems)}")
  return jax.tree_util.tree_unflatten(tree, leaves)
