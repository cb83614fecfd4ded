"""What a recipe hands to each of its steps."""
import dataclasses
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

import jax

from actionjax.errors import UserError
from actionjax.training import checkpoint
from actionjax.training.inspection import NOTHING, Inspection
from actionjax.training.state import digest


def step_seed(seed: int, name: str) -> int:
  """A run's seed folded with a step's name: own draws for every step, whatever stands before."""
  return zlib.crc32(f"{seed}/{name}".encode()) & 0x7FFFFFFF


@dataclasses.dataclass(frozen=True)
class Context:
  """A step's surroundings.

  Attributes:
    directory: the step's own folder.
    workdir: the run's folder.
    path: the step's place in the config, for messages.
    seed: the run's seed, folded with the step's name.
    run_seed: the run's.
    views: how the run's evaluation shows clips to the model that this step makes; None where none
      scores it.
    data_dir: of prepared datasets (None: the default).
    mesh: of devices.
    previous: artifacts of earlier steps by name, in order.
    inspection: what trainings are watched with.
  """
  directory: pathlib.Path
  workdir: pathlib.Path
  path: str
  seed: int
  data_dir: str | None
  mesh: Any
  previous: dict[str, dict]
  inspection: Inspection = NOTHING
  run_seed: int = 0
  views: Mapping[str, Any] | None = None

  def model_of(self, step: str | None) -> pathlib.Path:
    """Folder of the model that an earlier step trained (None: the latest that trained one).

    What names no earlier step is the path of a run, step or model directory.

    Raises:
      UserError: there is no such step, or it made no model.
    """
    if step is not None and step not in self.previous and pathlib.Path(step).is_dir():
      return checkpoint.find_model(step)
    trained = {name: found["model"] for name, found in self.previous.items() if "model" in found}
    if not trained:
      found = f", and {step} is not a folder with one" if step is not None else ""
      raise UserError(f"{self.path} needs a model, and no earlier step trains one{found}")
    name = step or next(reversed(trained))
    if name not in trained:
      raise UserError(f"{self.path}: no earlier step {name!r} trains a model, and no folder has "
                      f"that name; "
                      f"those that do: {', '.join(trained)}")
    return self.workdir / trained[name]

  def save_model(self, variables, description: dict) -> dict:
    """Ends the step with a model, in the folder `model`; one of an interrupted run is replaced.

    Args:
      variables: {"params", "batch_stats"}.
      description: see `checkpoint`. What it says of views gives way to the run's evaluation: who
        loads the model gets the scores that the run reports.

    Returns:
      The artifacts of such a step: `model` (folder, relative to the workdir) and `params_digest`.
    """
    directory = self.directory / "model"
    if self.views is not None:
      description = description | {"views": dict(self.views)}
    checkpoint.save_model(directory, variables, description)
    return {"model": str(directory.relative_to(self.workdir)),
            "params_digest": digest(jax.device_get(variables))}

  def class_names(self) -> list[str]:
    """Class names that the latest model stores."""
    return checkpoint.load_description(self.model_of(None))["class_names"]
