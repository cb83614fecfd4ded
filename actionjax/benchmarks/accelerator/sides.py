"""The processes that hold the device, one a side of a network; prepared ahead where cores are
free."""
import os
import pathlib

from actionjax import workers
from actionjax.benchmarks.accelerator.remote import Remote, RemoteError

_HERE = "actionjax.benchmarks.accelerator"
_AHEAD = 3  # networks whose sides are prepared while others are measured


class Sides:
  """Starts, prepares and ends processes.

  Attributes:
    small: for small networks, which share one process of a kind: starting it takes longer than they
      do, and nobody asks for their memory.
    torch: whether PyTorch's sides are wanted.
    deadline: of `time.monotonic()`.
  """

  def __init__(self, folder: pathlib.Path, log: pathlib.Path, deadline: float, *, small: bool,
               torch: bool, lowering: str, profile: bool):
    self.small, self.torch, self.deadline = small, torch, deadline
    self._log, self._lowering = log, lowering
    self._remotes: dict[Remote, str] = {}
    self._kept: dict[str, Remote] = {}
    self._waiting: dict[tuple[str, str, str], Remote] = {}
    self._begun: set[str] = set()
    # Of sides that were compiled while others were waited for.
    self._tuned: dict[Remote, dict] = {}
    self._failed: dict[Remote, RemoteError] = {}
    self._environment = {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_COMPILATION_CACHE_DIR": os.environ.get("JAX_COMPILATION_CACHE_DIR", str(folder)),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
    if small:
      self._environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
    if profile:
      # What runs inside a CUDA graph has no name of its own.
      self._environment["XLA_FLAGS"] = (os.environ.get("XLA_FLAGS", "")
                                        + " --xla_gpu_enable_command_buffer=")

  def open(self, where: str) -> Remote:
    """A process with a new object, "module:name" of this package."""
    kept = self._kept.pop(where, None)
    if kept is not None and kept.usable:
      kept.renew(self.deadline)
      return kept
    # PyTorch's side builds our model too, and must not take the device for that.
    more = {"JAX_PLATFORMS": "cpu"} if where.startswith("torch") else {}
    remote = Remote(f"{_HERE}.{where}", self._environment | more, str(self._log))
    self._remotes[remote] = where
    return remote

  def release(self, remote: Remote) -> None:
    """Ends a process, or keeps it for the next object of its kind."""
    where = self._remotes[remote]
    if self.small and remote.usable and where not in self._kept:
      self._kept[where] = remote
    else:
      remote.close()

  def close(self) -> None:
    """Ends all of them."""
    for remote in self._remotes:
      remote.close()

  def prefetch(self, names: list[str]) -> None:
    """Starts preparing the next of these networks, if none is under way."""
    if self.small or self._waiting or workers.default_workers() < 8:
      return
    for name in [name for name in names if name not in self._begun][:_AHEAD]:
      for key in (("jax", name, self._lowering), ("torch", name, "")):
        if key[0] == "jax" or self.torch:
          self._waiting[key] = self._begin(key, None)

  def prepared(self, kind: str, name: str, lowering: str = "",
               batch_size: int | None = None) -> Remote:
    """A side, "jax" or "torch", whose preparation has begun.

    Raises:
      RemoteError: it was compiled ahead, and failed.
    """
    key = kind, name, lowering
    remote = self._waiting.pop(key, None)
    if remote in self._failed:
      remote.close()
      raise self._failed.pop(remote)
    if remote is not None and batch_size is None:
      return remote
    if remote is not None:
      remote.close()
    return self._begin(key, batch_size)

  def forget(self, name: str) -> None:
    """Ends what was prepared for a network and is not wanted any more, as after a failure: it would
    hold memory, and keep the next ones from being prepared."""
    for key in [key for key in self._waiting if key[1] == name]:
      remote = self._waiting.pop(key)
      self._tuned.pop(remote, None)
      self._failed.pop(remote, None)
      remote.close()

  def tuned(self, remote: Remote) -> dict:
    """What our side says of a network once it is prepared and compiled, now or ahead."""
    return self._tuned.pop(remote, None) or self._tune(remote)

  def settle(self) -> None:
    """Waits until nothing else uses the device: PyTorch's preparations run their networks once.
    Meanwhile compiles those of our networks that are next."""
    waiting = list(self._waiting.items())
    ours = [remote for (kind, *_), remote in waiting
            if kind == "jax" and remote not in self._tuned and remote not in self._failed]
    theirs = [remote for (kind, *_), remote in waiting if kind == "torch"]
    for remote in ours:
      if not any(side.busy for side in theirs):
        break
      try:
        self._tuned[remote] = self._tune(remote)
      except RemoteError as error:
        self._failed[remote] = error
    for remote in theirs:
      remote.wait(self.deadline)

  def _begin(self, key, batch_size):
    kind, name, lowering = key
    self._begun.add(name)
    remote = self.open({"jax": "jax_side:JaxSide", "torch": "torch_side:TorchSide"}[kind])
    more = {"lowering": lowering} if kind == "jax" else {}
    remote.start("prepare", name, self.small, batch_size=batch_size, **more)
    return remote

  def _tune(self, remote):
    return remote.result(self.deadline) | remote.call(self.deadline, "tune")
