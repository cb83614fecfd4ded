"""A pool of worker processes that never outlives the process that started it."""
import collections
import concurrent.futures
import multiprocessing
import os
import signal
import sys
import threading

from actionjax.errors import UserError

_PR_SET_PDEATHSIG = 1


def default_workers() -> int:
  """The number of cores this process may use."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def die_with_parent(parent: int) -> None:
  """Makes this process end when its parent does, even if that is killed.

  Args:
    parent: the parent's process id, which is compared with the present one: the parent
      may have died before this call.
  """
  if sys.platform == "linux":
    import ctypes
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0:
      if os.getppid() != parent:
        os._exit(1)
      return

  def wait():
    multiprocessing.parent_process().join()
    os._exit(1)

  threading.Thread(target=wait, daemon=True).start()


def _start(parent: int) -> None:
  die_with_parent(parent)
  # Ctrl-C reaches the whole process group: the parent alone decides what to do.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  import cv2
  cv2.setNumThreads(1)


def run(function, tasks, workers: int):
  """Yields function(task) for each task, in the order in which they finish.

  Processes are spawned, not forked: a fork of a process with threads (JAX's, OpenCV's)
  can hang. With one worker, or one task, everything happens in this process.

  Args:
    function: importable by name in another process.
    tasks: a list of picklable values.
    workers: number of processes.

  Raises:
    UserError: a worker was killed from outside, most likely for want of memory.
    Exception: the first that `function` raised; what had not begun is dropped.
  """
  workers = min(workers, len(tasks))
  if workers <= 1:
    yield from map(function, tasks)
    return
  waiting = collections.deque(tasks)
  pool = concurrent.futures.ProcessPoolExecutor(
      workers, mp_context=multiprocessing.get_context("spawn"),
      initializer=_start, initargs=(os.getpid(),))
  try:
    running = set()
    while waiting or running:
      # A short queue: a hundred thousand clips need not be pickled up front.
      while waiting and len(running) < 4 * workers:
        running.add(pool.submit(function, waiting.popleft()))
      done, running = concurrent.futures.wait(
          running, return_when=concurrent.futures.FIRST_COMPLETED)
      for future in done:
        yield future.result()
  except concurrent.futures.process.BrokenProcessPool:
    raise UserError("a worker process was killed, perhaps for want of memory; run the command "
                    "again, with a smaller --workers: it goes on where it stopped") from None
  finally:
    pool.shutdown(wait=True, cancel_futures=True)
