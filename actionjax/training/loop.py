"""The one loop that trains by gradient."""
import contextlib
import dataclasses
import math
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import jax
import numpy as np

from actionjax import console, distributed
from actionjax.errors import UserError
from actionjax.training import checkpoint, inspection, sharding
from actionjax.training.meter import Meter
from actionjax.training.metric_writer import MetricWriter
from actionjax.training.optim import OptimConfig
from actionjax.training.state import TrainState


class TrainingDiverged(UserError):
  """The loss or its gradient is no longer finite."""


class Stopped(SystemExit):
  """The process was asked to end; everything up to the current step is saved."""


@dataclasses.dataclass(frozen=True)
class LoopConfig:
  """Length and rhythm of a training, in steps.

  Attributes:
    total_steps: updates to make.
    log_every: steps between rows of metrics.
    validate_every: steps between validations (0: none).
    checkpoint_every: steps between `last` checkpoints.
    monitor: the validation metric that picks `best` and drives the plateau rule; larger is
      better, unless its name ends with "loss".
  """
  total_steps: int
  log_every: int = 50
  validate_every: int = 0
  checkpoint_every: int = 500
  monitor: str = "top1"


def fit(state: TrainState, train_step: Callable, batches: Callable[[int], Iterator[dict]],
        config: LoopConfig, optim: OptimConfig, checkpoints: checkpoint.TrainingCheckpoints, *,
        mesh, abstract: TrainState, directory: pathlib.Path, batch_size: int,
        validate: Callable[[dict], dict] | None = None,
        profile: tuple[int, int] | None = None) -> tuple[TrainState, checkpoint.Progress]:
  """Trains from the state, or from where an earlier, ended run of this directory was.

  Nothing goes between host and devices unasked: within the loop JAX refuses what is neither
  `sharding.to_devices` nor `jax.device_get` (on CPUs the way to the devices only, which JAX checks
  there).

  Args:
    state: the start; given up to the step (its buffers are reused).
    train_step: jitted `(state, batch, scale) -> (state, metrics)`.
    batches: `batches(step)` iterates this process' rows from that step on.
    checkpoints: where to save and resume.
    abstract: shapes and shardings of the state.
    directory: for metrics, and `profile` for the trace.
    batch_size: of the global batch, for the speed.
    validate: `validate(variables) -> metrics`, called every `validate_every` steps.
    profile: see `inspection.Inspection`.

  Returns:
    The state after `total_steps`, and the loop's progress.

  Raises:
    TrainingDiverged: the loss or its gradient became NaN or infinite; names the step and the
      last checkpoint.
    Stopped: SIGTERM or SIGINT came; the state was saved.
  """
  progress = checkpoint.Progress()
  if checkpoints.latest() is not None:
    state, progress = checkpoints.restore(abstract)
    console.say(f"resuming at step {int(state.step)} of {config.total_steps}")
  start = step = int(state.step)
  checkpoints.forget_best_after(start)

  writer = MetricWriter(directory, step=start) if distributed.is_first() else None
  meter = Meter(start, config.total_steps, batch_size)
  profiler = inspection.Profiler(profile, directory / "profile")
  scale = sharding.to_every_device(np.float32(progress.scale), mesh)
  pending: list[tuple[int, dict]] = []
  asked = False
  feed = _prefetch(batches(step), mesh) if step < config.total_steps else None

  def save(kind):
    with _aside(meter):
      checkpoints.save(kind, state, progress)

  with _StopRequest() as stop, jax.transfer_guard("disallow"):
    try:
      while True:
        if _validation_due(step, config, progress, validate):
          with _aside(meter), stop.raising(step):
            result = validate(state.variables())
          _judge(progress, result, config, optim, step)
          scale = sharding.to_every_device(np.float32(progress.scale), mesh)
          if writer:
            writer.write(step, {f"validation_{k}": v for k, v in result.items()})
            console.say(f"step {step}: validation " + ", ".join(
                f"{k} {v:.4f}" for k, v in result.items()))
          if progress.best_step == step:
            save("best")
          save("last")
        if step == config.total_steps:
          if asked or stop.asked:
            raise _stopped(step)
          break

        profiler.before(step + 1)
        with jax.profiler.StepTraceAnnotation("train", step_num=step + 1):
          batch = meter.time_waiting(feed)
          # The first call compiles, which may read constants back from an accelerator.
          with (jax.transfer_guard_device_to_host("allow") if step == start
                else contextlib.nullcontext()):
            state, metrics = train_step(state, batch, scale)
        step += 1
        profiler.after(step, metrics)
        pending.append((step, metrics))
        logs = step % config.log_every == 0 or step == config.total_steps
        asked = stop.requested(step)
        stops = asked and step < config.total_steps
        saves = stops or step % config.checkpoint_every == 0 or step == config.total_steps
        if logs or saves or _validation_due(step, config, progress, validate):
          # Nothing is validated or saved before it was seen to be finite.
          row = _collect(pending, checkpoints)
          pending = []
          if logs and writer:
            writer.write(step, row | meter.row(step))
            meter.show(step, row)
        if stops:
          raise _stopped(step)
        if saves and not _validation_due(step, config, progress, validate):
          save("last")
    except Stopped:
      # A stop during validation lands here too: the resumed run validates this step first.
      save("last")
      raise
    finally:
      profiler.close(step)
      checkpoints.wait()
      meter.close()
      if writer:
        writer.close()
  return state, progress


@contextlib.contextmanager
def _aside(meter: Meter):
  """For what is not training: the clock stands, and arrays may go where they have to."""
  with meter.paused(), jax.transfer_guard("allow"):
    yield


def _validation_due(step: int, config: LoopConfig, progress: checkpoint.Progress,
                    validate) -> bool:
  due = step > 0 and config.validate_every and (
      step % config.validate_every == 0 or step == config.total_steps)
  return bool(validate and due and progress.validated != step)


def _judge(progress: checkpoint.Progress, result: dict, config: LoopConfig, optim: OptimConfig,
           step: int) -> None:
  """Updates best, patience and learning-rate scale after a validation."""
  if config.monitor not in result:
    raise UserError(f"monitor {config.monitor!r} is not a validation metric; known: "
                    f"{', '.join(result)}")
  progress.validated = step
  sign = -1 if config.monitor.endswith("loss") else 1
  value = result[config.monitor]
  if progress.best is None or sign * value > sign * progress.best:
    progress.best, progress.best_step, progress.waited = value, step, 0
    return
  progress.waited += 1
  if optim.plateau_factor is not None and progress.waited > optim.plateau_patience:
    progress.scale *= optim.plateau_factor
    progress.waited = 0
    console.say(f"step {step}: plateau, learning rate times {progress.scale:g}")


def _collect(pending, checkpoints) -> dict:
  """Mean of the metrics since the last call; raises at the first that is not finite."""
  fetched = [(step, jax.device_get(metrics)) for step, metrics in pending]
  for step, metrics in fetched:
    # A gradient that is not finite has spoilt the weights, though only the next loss shows it.
    name = next((n for n in ("loss", "gradient_norm") if not math.isfinite(metrics[n])), None)
    if name:
      checkpoints.wait()
      last = checkpoints.latest()
      good = "none was saved yet" if last is None else f"step {last} in {checkpoints.path('last')}"
      raise TrainingDiverged(
          f"the {name.replace('_', ' ')} became {float(metrics[name])} at step {step}; "
          f"last good checkpoint: "
          f"{good}. Lower config.optim.learning_rate or set config.optim.clip_norm")
  return {key: float(np.mean([metrics[key] for _, metrics in fetched]))
          for key in fetched[0][1]}


def _prefetch(batches: Iterator[dict], mesh, depth: int = 2) -> Iterator[dict]:
  """Starts the copy of the next batches to the devices while the current one is used."""
  queue = []
  for batch in batches:
    batch = {key: value for key, value in batch.items() if key not in ("position",)}
    queue.append(sharding.to_devices(batch, mesh))
    if len(queue) >= depth:
      yield queue.pop(0)
  yield from queue


def _stopped(step: int) -> Stopped:
  return Stopped(f"stopped on request at step {step}; run the same command to go on")


class _StopRequest:
  """Turns SIGTERM and SIGINT into a flag that the loop reads between steps.

  Of several processes, SIGTERM belongs to JAX's own handler: it tells all of them, and they
  agree on the step.
  """

  def __init__(self):
    self._alone = jax.process_count() == 1
    self._asked = False
    self._step = None
    self._old = {}

  def __enter__(self):
    try:
      for number in (signal.SIGTERM, signal.SIGINT) if self._alone else (signal.SIGINT,):
        self._old[number] = signal.signal(number, self._ask)
    except ValueError:
      pass  # Not the main thread (a notebook's kernel thread): the caller handles signals.
    return self

  def __exit__(self, *unused):
    for number, handler in self._old.items():
      signal.signal(number, handler)

  def _ask(self, number, frame):
    del frame
    if self._asked and number == signal.SIGINT:
      raise KeyboardInterrupt
    self._asked = True
    if not self._alone:
      os.kill(os.getpid(), signal.SIGTERM)
    elif self._step is not None:
      raise _stopped(self._step)

  @contextlib.contextmanager
  def raising(self, step: int):
    """Within, after a step, a request raises `Stopped` at once: for work that can be done again.

    One process only; several must stop at the same step and wait for the next.
    """
    self._step = step if self._alone else None
    try:
      if self.asked:
        raise _stopped(step)
      yield
    finally:
      self._step = None

  @property
  def asked(self) -> bool:
    """Whether this process, the only one, was asked to stop."""
    return self._alone and self._asked

  def requested(self, step: int) -> bool:
    """Whether to stop now; all processes of a run agree on the step."""
    if self._alone:
      return self._asked
    from jax.experimental import multihost_utils
    return multihost_utils.reached_preemption_sync_point(step)
