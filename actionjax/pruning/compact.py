"""The smaller network: pruned filters taken out, with the same outputs.

Works on networks around `ResNet3D`, wherever in the model it sits. Inside a block a dead
channel goes on both sides, as filter and as input of the next convolution. A residual
stream's channel goes where all that add to it are dead there; otherwise the convolution
that lost filters writes the rest of them to their places (`resnet3d.place`). To its readers
a stream keeps its whole width, so that heads and whatever else stay as they are.
"""
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp

from actionjax import configuration
from actionjax.errors import UserError
from actionjax.models import resnet3d
from actionjax.pruning import masks as pruning_masks
from actionjax.pruning.scores import FilterRule
from actionjax.training import checkpoint
from actionjax.training.state import path_names

# What find_masks looks through where no masks are given.
EVERYTHING = FilterRule(include=(r"(.*/)?(stem|stage\d+)/",))


def compact(model_config: Mapping, variables: Mapping, masks: Mapping) -> tuple[dict, dict]:
  """A pruned network without its dead filters.

  In evaluation, and in training too, the result computes what the masked network does, up
  to the order of sums. A layer without any living filter keeps one, which is zero.

  Args:
    model_config: the model's section of a config or a checkpoint's description: a mapping
      with a backbone's section (`name` "resnet3d") in it, or such a section itself. May be a
      compacted one.
    variables: `params`, `batch_stats`, and other collections, of which those with the
      parameters' paths (averages) are cut like them. Need not be masked.
    masks: the tree of the parameters.

  Returns:
    The section with `channels` in its backbones, and the smaller variables.

  Raises:
    UserError: there is no ResNet3D, parameters do not fit it, or filters are pruned that lie
      outside of one.
  """
  config = configuration.to_dict(model_config)
  paths = path_names(variables["params"])
  flat_masks = dict(zip(path_names(masks), jax.tree.leaves(masks)))
  cuts = {}
  for section, prefix in _backbones(config, paths):
    old, new = _channels(section, prefix, variables["params"], masks, flat_masks)
    section["channels"] = {path: list(kept) for path, kept in new.items()}
    cuts |= {prefix + path: cut for path, cut in _cuts(old, new).items()}
  for path, (alive, filters) in pruning_masks.surviving(masks).items():
    if alive < filters and path.removesuffix("/kernel") not in cuts:
      raise UserError(f"compact takes filters out of ResNet3D only; {path} is pruned and lies "
                      "outside of it")

  filters = cuts | {pruning_masks.conv_unit_norm(path): (None, cut[1])
                    for path, cut in cuts.items()}
  smaller = {}
  for collection, tree in variables.items():
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    if collection != "batch_stats" and path_names(tree) == paths:
      leaves = [np.where(mask, leaf, np.zeros((), leaf.dtype))
                for leaf, mask in zip(leaves, jax.tree.leaves(masks))]
    smaller[collection] = jax.tree.unflatten(jax.tree.structure(tree), [
        jnp.asarray(_cut(leaf, *filters.get(path.rpartition("/")[0], (None, None))))
        for path, leaf in zip(path_names(tree), leaves)])
  return config, smaller


def _backbones(config: dict, paths: list[str]) -> list[tuple[dict, str]]:
  """(section, prefix of its parameters' paths) of every ResNet3D of a model."""
  sections = list(_sections(config, ()))
  prefixes = sorted(path.removesuffix("stem/conv/kernel") for path in paths
                    if path.endswith("stem/conv/kernel")
                    and path.replace("stem/conv/kernel", "stage1/block0/conv1/conv/kernel")
                    in paths)
  if not sections or not prefixes:
    raise UserError("compact rebuilds networks around a backbone named resnet3d, and this model "
                    "has none")
  if len(sections) == len(prefixes) == 1:
    return [(sections[0][1], prefixes[0])]
  # Several: a section `rgb` configures the module `rgb`.
  found = []
  for keys, section in sections:
    named = [prefix for prefix in prefixes if prefix.split("/")[-2:-1] == list(keys[-1:])]
    if len(named) != 1:
      raise UserError(f"which of the modules {', '.join(prefixes)} the section "
                      f"{'.'.join(keys)} configures cannot be told")
    found.append((section, named[0]))
  return found


def _sections(config: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], dict]]:
  if not isinstance(config, dict):
    return
  if config.get("name") in ("resnet3d", resnet3d.__name__):
    yield keys, config
    return
  for key, value in config.items():
    yield from _sections(value, (*keys, key))


def _channels(section: dict, prefix: str, params: Mapping, masks: Mapping, flat_masks: Mapping):
  """The `channels` of a backbone before and after, by convolution."""
  fields = {key: value for key, value in section.items() if key != "name"}
  model = configuration.build(resnet3d.ResNet3D, fields, "the model's backbone")
  old = {path: tuple(range(width)) for path, width in model.widths().items()}
  if model.channels is not None:
    old = {path: tuple(channels) for path, channels in model.channels.items()}
  shapes = {path: leaf.shape for path, leaf in zip(path_names(params), jax.tree.leaves(params))}
  new = {}
  for path, channels in old.items():
    kernel = f"{prefix}{path}/kernel"
    found = shapes.get(kernel, (0,))[-1]
    if found != len(channels):
      raise UserError(f"the parameters do not fit the model's config: {kernel} has {found} "
                      f"filters there and {len(channels)} here")
    # A channel whose norm is not masked with the kernel emits a constant, and stays.
    alive = np.any([pruning_masks.living(flat_masks[leaf], found)
                    for leaf in pruning_masks.channel_leaves(kernel, masks)], 0)
    alive[0] |= not alive.any()
    new[path] = tuple(np.array(channels)[alive].tolist())
  return old, new


def _cuts(old: Mapping, new: Mapping) -> dict[str, tuple]:
  """Convolution -> positions of the inputs (None: all) and of the filters that stay."""
  before, _ = resnet3d.inputs_and_streams(old)
  after, _ = resnet3d.inputs_and_streams(new)
  positions = lambda some, among: None if some is None else np.searchsorted(among, some)
  return {path: (positions(after[path], before[path]), positions(new[path], old[path]))
          for path in new}


def _cut(leaf: np.ndarray, inputs: np.ndarray | None, filters: np.ndarray | None) -> np.ndarray:
  """A kernel [..., I, O], or what there is one of for each filter [O], cut on both sides."""
  if inputs is not None and leaf.ndim > 1:
    leaf = leaf[..., inputs, :]
  return leaf if filters is None else leaf[..., filters]


def compact_checkpoint(source: str | pathlib.Path, target: str | pathlib.Path,
                       masks: Mapping | None = None) -> dict:
  """Writes the model that `compacted` makes, for `actionjax.load` and `init_from`.

  Args:
    source, masks: see `compacted`.
    target: directory of the model to write; must not exist.

  Returns:
    The description stored beside the weights.

  Raises:
    UserError: a target that is there already, or see `compacted`.
  """
  target = pathlib.Path(target)
  if target.exists():
    raise UserError(f"{target} exists already; give a new directory")
  variables, description = compacted(source, masks)
  checkpoint.save_model(target, variables, description)
  return description


def compacted(source: str | pathlib.Path, masks: Mapping | None = None) -> tuple[dict, dict]:
  """The compacted model of a checkpoint.

  Args:
    source: a finished model (a workdir, one of its steps, a model directory), or a training's
      own checkpoint (`checkpoints/best`), of which the averaged parameters are taken where
      there are any.
    masks: of the pruning. By default those that the checkpoint holds; a finished model holds
      none, and there the filters that are exactly zero are the dead ones.

  Returns:
    (variables, description). In the description, `model` is the smaller network's section, for
    trainings that go on from it; `compacted` counts the `filters` of the layers that pruning
    touched, those `kept`, and all `parameters`, now and `parameters_before`.

  Raises:
    UserError: no checkpoint, or see `compact`.
  """
  variables, description, found = _read(pathlib.Path(source))
  if "model" not in description:
    raise UserError(f"{source} holds weights without a model; compact needs both")
  _backbones(configuration.to_dict(description["model"]), path_names(variables["params"]))
  if masks is None:
    masks = found or pruning_masks.find_masks(variables["params"], EVERYTHING)
  size = lambda variables: sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  kept, filters = (sum(counts) for counts in zip(*pruning_masks.surviving(masks).values(), (0, 0)))
  whole = size(variables)
  config, variables = compact(description["model"], variables, masks)
  description |= {"model": config, "compacted": {
      "filters": filters, "kept": kept, "parameters_before": whole, "parameters": size(variables)}}
  return variables, description


def _read(source: pathlib.Path) -> tuple[dict, dict, Mapping | None]:
  """(variables, description, masks or None) of a finished model or a training's checkpoint."""
  if any(source.glob("*/state/_METADATA")):
    return _read_training(source.resolve())
  variables, description = checkpoint.load_model(checkpoint.find_model(source))
  return variables, description, variables.pop("masks", None)


def _read_training(directory: pathlib.Path) -> tuple[dict, dict, Mapping]:
  """The same of a folder of `TrainingCheckpoints`, its newest step."""
  # All items are named, though `progress` is not read: Orbax warns of those it has no handler for.
  handlers = {"state": ocp.StandardCheckpointHandler(),
              "progress": ocp.JsonCheckpointHandler(), "description": ocp.JsonCheckpointHandler()}
  with ocp.CheckpointManager(directory, item_handlers=handlers) as manager:
    step = manager.latest_step()
    metadata = manager.item_metadata(step)["state"]
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = jax.tree.map(
        lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding),
        metadata.tree if hasattr(metadata, "tree") else metadata)
    found = manager.restore(step, args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract), description=ocp.args.JsonRestore()))
  state = found["state"]
  return ({"params": state.get("ema", state["params"]), "batch_stats": state["batch_stats"]},
          found["description"], state["masks"])
