"""An object in a process of its own, called through a pipe, that can be given up on."""
import importlib
import multiprocessing
import os
import signal
import sys
import time
import traceback
from typing import Any

from actionjax import workers


class RemoteError(Exception):
  """A call failed over there; the text is its traceback's last line, `details` all of it."""

  def __init__(self, text: str, details: str = ""):
    super().__init__(text)
    self.details = details

  @property
  def out_of_memory(self) -> bool:
    """Whether the device had no room for it."""
    return any(word in self.details for word in (
        "RESOURCE_EXHAUSTED", "OutOfMemoryError", "out of memory"))


class TimeOver(Exception):
  """The answer did not come before the deadline; the process was ended."""


class Remote:
  """`module.name()` in a spawned process.

  Args:
    where: "module:name" of a class without arguments.
    environment: variables for the process.
    log: file that takes what the process prints.
  """

  def __init__(self, where: str, environment: dict[str, str], log: str):
    context = multiprocessing.get_context("spawn")
    self._pipe, other = context.Pipe()
    self._process = context.Process(target=_serve, args=(other, where, environment, log,
                                                         os.getpid()), daemon=True)
    self._process.start()
    other.close()
    self._pending = False

  def start(self, method: str, *args, **kwargs) -> None:
    """Begins a call; `result` has its answer. One at a time."""
    assert not self._pending, "a call is under way"
    try:
      self._pipe.send((method, args, kwargs))
    except OSError:
      raise RemoteError("its process ended") from None
    self._pending = True

  def result(self, deadline: float) -> Any:
    """The answer of the call that was begun.

    Args:
      deadline: of `time.monotonic()`.

    Raises:
      RemoteError: the call raised, or its process died.
      TimeOver: the deadline passed.
    """
    if not self._pipe.poll(max(0.0, deadline - time.monotonic())):
      self.close()
      raise TimeOver
    self._pending = False
    try:
      done, value = self._pipe.recv()
    except (EOFError, OSError):
      self.close()
      raise RemoteError(f"its process ended (exit code {self._process.exitcode})") from None
    if not done:
      raise RemoteError(*value)
    return value

  def wait(self, deadline: float) -> None:
    """Until the call that was begun has its answer, which `result` gives; raises TimeOver."""
    if self._pending and not self._pipe.poll(max(0.0, deadline - time.monotonic())):
      raise TimeOver

  def call(self, deadline: float, method: str, *args, **kwargs) -> Any:
    """`start`, then `result`."""
    self.start(method, *args, **kwargs)
    return self.result(deadline)

  @property
  def busy(self) -> bool:
    """Whether a call that was begun has no answer yet."""
    return self._pending and not self._pipe.poll()

  def renew(self, deadline: float) -> None:
    """Puts a new object into the place of the old one, in the same process."""
    self.call(deadline, "renew")

  @property
  def usable(self) -> bool:
    """Whether the process lives and waits for a call."""
    return self._process.is_alive() and not self._pending

  def close(self) -> None:
    """Ends the process."""
    self._process.kill()
    # A process within a driver's call may take its time, which is not ours.
    self._process.join(5)


def _serve(pipe, where, environment, log, parent):
  os.environ.update(environment)
  # Ctrl-C and SIGTERM of the group are the parent's to answer.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(file, sys.stdout.fileno())
  os.dup2(file, sys.stderr.fileno())
  workers.die_with_parent(parent)
  module, name = where.split(":")
  instance = None
  while True:
    try:
      method, args, kwargs = pipe.recv()
    except EOFError:
      return
    try:
      if instance is None or method == "renew":
        instance = getattr(importlib.import_module(module), name)()
      answer = (True, None if method == "renew" else getattr(instance, method)(*args, **kwargs))
    except Exception as error:
      traceback.print_exc()
      lines = str(error).strip().splitlines() or [""]
      answer = (False, (f"{type(error).__name__}: {lines[0]}"[:300], traceback.format_exc()))
    pipe.send(answer)
