"""Looking into a training that misbehaves: a profiler's trace, and the line where a NaN arises."""
import contextlib
import dataclasses
import functools
import pathlib
import re
import sysconfig
import traceback
from collections.abc import Callable

import chex
import flax
import jax
import jaxlib
import optax
from jax.experimental import checkify

from actionjax import console, distributed
from actionjax.errors import UserError
from actionjax.training import train_step

DEBUGS = ("checkify", "nan")
# What --debug=checkify looks for: NaNs, divisions by zero, indices out of range.
CHECKS = checkify.float_checks | checkify.index_checks | checkify.div_checks
# The line to name is in none of these.
_LIBRARIES = (*(str(pathlib.Path(module.__file__).parent)
                for module in (chex, flax, jax, jaxlib, optax)), sysconfig.get_path("stdlib"))


class ArithmeticFault(UserError):
  """A training step computed a NaN, divided by zero, or read outside an array."""


@dataclasses.dataclass(frozen=True)
class Inspection:
  """What a run is watched with. No part of its config: it changes no result.

  Attributes:
    profile: (start, count): a profiler's trace of `count` steps of each training, from step
      `start` on, as its log numbers them; None for none.
    debug: "checkify" or "nan", see `compile_step`; None for neither.
  """
  profile: tuple[int, int] | None = None
  debug: str | None = None

  def __post_init__(self):
    if self.debug not in (None, *DEBUGS):
      raise UserError(f"debug must be one of {', '.join(DEBUGS)}, got {self.debug!r}")


NOTHING = Inspection()


def parse_profile(text: str | None) -> tuple[int, int] | None:
  """`START:COUNT` as numbers. Raises UserError unless both are whole and at least 1."""
  if text is None:
    return None
  match = re.fullmatch(r"([1-9]\d*):([1-9]\d*)", text)
  if match is None:
    raise UserError(f"--profile={text} must be START:COUNT, two whole numbers from 1 on, such as "
                    "--profile=10:5 for the steps 10 to 14")
  return int(match[1]), int(match[2])


class Profiler:
  """Writes one trace of some steps of a training, for TensorBoard, XProf or Perfetto.

  Of several processes the first one writes, what itself and its devices did.
  """

  def __init__(self, steps_to_trace: tuple[int, int] | None, directory: pathlib.Path):
    """See `Inspection.profile`; `directory` is that of the trace."""
    self._first, count = steps_to_trace or (0, 0)
    self._last = self._first + count - 1
    self._pending = steps_to_trace is not None and distributed.is_first()
    self._began = None
    self._directory = directory

  def before(self, step: int) -> None:
    """Starts the trace where a step is the first to be in it."""
    if self._pending and self._first <= step <= self._last:
      jax.profiler.start_trace(self._directory)
      self._pending, self._began = False, step

  def after(self, step: int, results) -> None:
    """Ends the trace after the last step in it, once its results are there."""
    if self._began is not None and step == self._last:
      jax.block_until_ready(results)
      self._end(step)

  def close(self, step: int) -> None:
    """Ends a trace that a training of fewer steps left open; says where there is none."""
    if self._began is not None:
      self._end(step)
    elif self._pending:
      console.say(f"no profile: none of the steps {self._first} to {self._last} was made")
      self._pending = False

  def _end(self, step: int) -> None:
    jax.profiler.stop_trace()
    console.say(f"profile of the steps {self._began} to {step}: {self._directory}")
    self._began = None


def compile_step(step: Callable, debug: str | None, *, out_shardings, **options) -> Callable:
  """A jitted training step, `(state, batch, scale) -> (state, metrics)`, that gives its state away.

  Args:
    step: from `train_step.make_train_step`.
    debug: None for the step as it is. "checkify" compiles checks into it: for every operation,
      forward and backward, whether it yields a NaN, divides by zero or indexes out of range, be it
      of use for the result or not. It does not look into Pallas kernels, and rounds differently.
      "nan" (`jax_debug_nans`) runs the same program, looks at its results only, and computes the
      step again to find the operation. Both wait for every step.
    out_shardings: of (state, metrics).
    **options: further ones of `jax.jit`.

  Returns:
    the step. With `debug` it raises ArithmeticFault, naming step, operation, file and line.

  Raises:
    UserError: "nan" in a run of several processes.
  """
  if debug is None:
    return jax.jit(step, donate_argnums=0, out_shardings=out_shardings, **options)
  if debug == "nan":
    if jax.process_count() > 1:
      raise UserError("--debug=nan is for one process; several take --debug=checkify")
    plain = jax.jit(step, out_shardings=out_shardings, **options)
    return functools.partial(_look_for_nans, plain, step)
  checked = jax.jit(checkify.checkify(step, errors=CHECKS), donate_argnums=0,
                    out_shardings=(None, out_shardings), **options)
  return functools.partial(_look_at_checks, checked)


def _look_at_checks(checked, state, batch, scale):
  number = int(jax.device_get(state.step)) + 1
  error, results = checked(state, batch, scale)
  _raise_found(error, number)
  return results


def _look_for_nans(jitted, step, state, batch, scale):
  number = int(jax.device_get(state.step)) + 1
  # JAX runs a faulty step again, operation by operation, with whatever copies that takes.
  with jax.debug_nans(True), jax.transfer_guard("allow"):
    try:
      return jitted(state, batch, scale)
    except FloatingPointError as error:
      fault = error
  # JAX's own traceback ends at the call of the gradient, where a NaN arises on the way back.
  checked = jax.jit(checkify.checkify(step, errors=checkify.nan_checks))
  with jax.transfer_guard("allow"):
    _raise_found(checked(state, batch, scale)[0], number)
  raise ArithmeticFault(f"step {number}: {str(fault).splitlines()[0]} "
                        f"{_place(fault.__traceback__)}") from fault


def _raise_found(error, number: int) -> None:
  found = jax.device_get(error).get_exception()
  if found is not None:
    tree = found.traceback_info and found.traceback_info.as_python_traceback()
    raise ArithmeticFault(f"step {number}: {str(found).strip().rstrip('.')} {_place(tree)}")


def _place(tree) -> str:
  """Where in a traceback the innermost line stands that is no library's."""
  for frame in reversed(traceback.extract_tb(tree)):
    # Every call of a module passes through the interceptor of frozen norms.
    passing = frame.filename == train_step.__file__ and frame.name == "intercept"
    if not frame.filename.startswith(_LIBRARIES) and not passing:
      path = pathlib.Path(frame.filename)
      with contextlib.suppress(ValueError):
        path = path.relative_to(pathlib.Path.cwd())
      return f"at {path}:{frame.lineno} ({frame.name}): {frame.line}"
  return "at an unknown line"
