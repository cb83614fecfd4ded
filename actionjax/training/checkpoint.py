"""Checkpoints with Orbax: the training's own (last and best), and finished models.

Both describe themselves: beside the arrays lies a JSON document with the model's name and
config, class names, joint layout and preprocessing, so that a model loads without its config.
"""
import dataclasses
import json
import pathlib

import jax
import orbax.checkpoint as ocp

from actionjax.errors import UserError
from actionjax.training.state import TrainState, path_names


@dataclasses.dataclass
class Progress:
  """The training loop's own state, saved with the arrays.

  Attributes:
    best: best monitored value so far (None before the first validation).
    best_step: where it was reached.
    waited: validations since then, for reduce-on-plateau.
    scale: what reduce-on-plateau has multiplied the learning rate by.
    validated: the last step that was validated.
  """
  best: float | None = None
  best_step: int = 0
  waited: int = 0
  scale: float = 1.0
  validated: int = 0


def _as_tree(state: TrainState) -> dict:
  # Orbax stores containers by name; a dict keeps files independent of this class.
  tree = {"step": state.step, "params": state.params, "batch_stats": state.batch_stats,
          "opt_state": state.opt_state, "masks": state.masks}
  return tree if state.ema is None else {**tree, "ema": state.ema}


class TrainingCheckpoints:
  """`last` and `best` checkpoints of one training step, written asynchronously."""

  def __init__(self, directory: pathlib.Path, description: dict):
    self._directory = directory.resolve()
    self._description = description
    self._managers = {kind: self._open(kind) for kind in ("last", "best")}

  def _open(self, kind: str) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        self._directory / kind, item_handlers=_handlers("state", "progress", "description"),
        options=ocp.CheckpointManagerOptions(
            max_to_keep=1, create=True, cleanup_tmp_directories=True,
            enable_async_checkpointing=True))

  def save(self, kind: str, state: TrainState, progress: Progress) -> None:
    """Saves under "last" or "best", replacing what is there once the new one is whole."""
    manager = self._managers[kind]
    step = int(state.step)
    # After a kill the run goes on from `last` and may come again to a step whose `best` was
    # already written; the bits are the same, so the file stands.
    if step in manager.all_steps():
      return
    if kind == "last":
      # Its progress names the step of `best`, which therefore has to be on disk before it.
      self._managers["best"].wait_until_finished()
    manager.save(step, args=ocp.args.Composite(
        state=ocp.args.StandardSave(_as_tree(state)),
        progress=ocp.args.JsonSave(dataclasses.asdict(progress)),
        description=ocp.args.JsonSave(self._description)), force=True)

  def path(self, kind: str) -> pathlib.Path:
    """Folder of the "last" or "best" checkpoint."""
    return self._directory / kind

  def latest(self, kind: str = "last") -> int | None:
    """Step of the checkpoint, None without one."""
    return self._managers[kind].latest_step()

  def restore(self, abstract: TrainState, kind: str = "last") -> tuple[TrainState, Progress]:
    """The saved state, against shapes and shardings: the device count may differ.

    Args:
      abstract: ShapeDtypeStructs with the shardings to restore to.

    Raises:
      UserError: the checkpoint is of another model or optimiser.
    """
    manager = self._managers[kind]
    step = manager.latest_step()
    tree = _as_tree(abstract)
    difference = _difference(_tree_metadata(manager, step, "state"), tree)
    try:
      if difference:
        raise ValueError(difference)
      restored = manager.restore(step, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(tree),
          progress=ocp.args.JsonRestore()))
    except (ValueError, KeyError) as error:
      raise UserError(
          f"checkpoint {self._directory / kind / str(step)} does not fit this config's model or "
          f"optimiser ({_first_line(error)}); use another --workdir") from error
    return (TrainState(**{"ema": None, **restored["state"]}),
            Progress(**restored["progress"]))

  def forget_best_after(self, step: int) -> None:
    """Drops a `best` from after the step that a run goes on from."""
    _forget_after(self._managers["best"], step)

  def wait(self) -> None:
    """Returns when everything asked for is on disk; raises what writing raised."""
    for manager in self._managers.values():
      manager.wait_until_finished()

  def close(self) -> None:
    """Waits and ends the writing threads."""
    for manager in self._managers.values():
      manager.close()


def _forget_after(manager: ocp.CheckpointManager, step: int) -> None:
  for later in manager.all_steps():
    if later > step:
      manager.delete(later)


def save_model(directory: pathlib.Path, variables, description: dict) -> None:
  """Writes a finished, self-describing model; nothing half-written carries its name."""
  directory = directory.resolve()
  with ocp.CheckpointManager(
      directory, item_handlers=_handlers("variables", "description"),
      options=ocp.CheckpointManagerOptions(max_to_keep=1, cleanup_tmp_directories=True,
                                           enable_async_checkpointing=False)) as manager:
    for step in manager.all_steps():
      manager.delete(step)
    manager.save(0, args=ocp.args.Composite(
        variables=ocp.args.StandardSave(variables),
        description=ocp.args.JsonSave(description)), force=True)


def find_model(path: str | pathlib.Path) -> pathlib.Path:
  """The model directory at or below a path: a model, a recipe step's folder, or a workdir, of which
  it is the last step's that has one.

  Raises:
    UserError: there is none.
  """
  root = pathlib.Path(path)
  candidates = [root, root / "model"] + sorted(root.glob("*/model"), reverse=True)
  for candidate in candidates:
    if (candidate / "0" / "variables").is_dir():
      return candidate
  raise UserError(f"{root} holds no finished model; give a workdir, one of its steps, or a model "
                  "directory")


def load_description(directory: pathlib.Path) -> dict:
  """The JSON document beside a model.

  Read without Orbax, whose managers wait for all processes of a run: the first one, which alone
  draws the reports, would wait for ever.
  """
  return json.loads((directory / "0" / "description" / "metadata").read_text())


def load_model(directory: pathlib.Path, sharding=None) -> tuple[dict, dict]:
  """(variables, description) of a finished model.

  Args:
    sharding: where the arrays go (default: one local device).
  """
  directory = directory.resolve()
  sharding = sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  with ocp.CheckpointManager(directory,
                             item_handlers=_handlers("variables", "description")) as manager:
    abstract = jax.tree.map(
        lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding),
        _tree_metadata(manager, 0, "variables"))
    restored = manager.restore(0, args=ocp.args.Composite(
        variables=ocp.args.StandardRestore(abstract), description=ocp.args.JsonRestore()))
  return restored["variables"], restored["description"]


def _handlers(arrays: str, *documents: str) -> dict:
  """How items are stored. Without these, Orbax gives no metadata of what it did not write."""
  return {arrays: ocp.StandardCheckpointHandler(),
          **{name: ocp.JsonCheckpointHandler() for name in documents}}


def _tree_metadata(manager: ocp.CheckpointManager, step: int, item: str):
  """Shapes and types of a saved item, as a tree."""
  metadata = manager.item_metadata(step)[item]
  return metadata.tree if hasattr(metadata, "tree") else metadata


def _difference(saved, wanted: dict) -> str:
  """The first parameter or statistic that two states do not share; "" where there is none.

  Orbax finds them too, but then leaves half-finished reads behind that complain on stderr.
  """
  for collection in ("params", "batch_stats"):
    here, there = (dict(zip(path_names(tree[collection]), jax.tree.leaves(tree[collection])))
                   for tree in (wanted, saved))
    for name in sorted({*here, *there}):
      if name not in there or name not in here:
        return f"{collection}/{name} is only in the {'model' if name in here else 'checkpoint'}"
      if tuple(here[name].shape) != tuple(there[name].shape):
        return (f"{collection}/{name} has shape {tuple(there[name].shape)} there and "
                f"{tuple(here[name].shape)} here")
  return ""


def _first_line(error: Exception) -> str:
  return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
