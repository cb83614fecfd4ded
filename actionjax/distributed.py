"""The processes of one run: joining them, telling the first, waiting for all."""
import os

import jax
from jax.experimental import multihost_utils

from actionjax.errors import UserError

_VARIABLES = ("ACTIONJAX_COORDINATOR", "ACTIONJAX_PROCESSES", "ACTIONJAX_PROCESS")


def initialise(distributed: bool) -> None:
  """Connects this process to the others of its run, before anything else uses JAX.

  `launch/local.py` names the processes of one machine in the environment; a TPU pod or a SLURM
  or Open MPI job is recognised by JAX itself.

  Args:
    distributed: whether `--distributed` was given: ask JAX where the environment names nothing.

  Raises:
    UserError: the environment names some of the three variables and not all.
  """
  named = [name for name in _VARIABLES if name in os.environ]
  if named:
    if len(named) < len(_VARIABLES):
      missing = ", ".join(sorted(set(_VARIABLES) - set(named)))
      raise UserError(f"{', '.join(named)} is set and {missing} is not; start with "
                      "launch/local.py")
    # CPU processes need a collectives library; on accelerators the choice is ignored.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        os.environ["ACTIONJAX_COORDINATOR"], int(os.environ["ACTIONJAX_PROCESSES"]),
        int(os.environ["ACTIONJAX_PROCESS"]))
  elif distributed:
    jax.distributed.initialize()


def is_first() -> bool:
  """Whether this process is the one that prints, and writes what all would write alike."""
  return jax.process_index() == 0


def wait_for_all(name: str) -> None:
  """Returns once every process of the run has come here.

  Args:
    name: of the place, the same in all processes, for the message where they disagree.
  """
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)
