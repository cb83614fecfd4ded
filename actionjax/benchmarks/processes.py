"""What a command's processes use, read from Linux's /proc while they run."""
import dataclasses
import os
import pathlib
import subprocess
import time

_INTERVAL = 0.03  # seconds


@dataclasses.dataclass(frozen=True)
class Usage:
  """Of a command and all processes of its session.

  Attributes:
    seconds: from its start to its end.
    peak: largest sum of the processes' resident memory, bytes; pages that they share count in each.
    processor: seconds of processor time. waiting: seconds for which threads could have run, but
      other programs had the processors.
  """
  seconds: float
  peak: int
  processor: float
  waiting: float


def watch(process: subprocess.Popen) -> Usage:
  """Waits for a process, started as leader of a session of its own, to end.

  What a process does in its last hundredths of a second is missed.
  """
  start, peak, threads = time.monotonic(), 0, {}
  while process.poll() is None:
    pids = _session(process.pid)
    peak = max(peak, sum(_resident(pid) for pid in pids))
    for pid in pids:
      threads.update(_schedule(pid))
    time.sleep(_INTERVAL)
  running, waiting = (sum(values) / 1e9 for values in zip(*threads.values())) if threads else (0, 0)
  return Usage(time.monotonic() - start, peak, running, waiting)


def _session(leader: int) -> list[int]:
  found = []
  for entry in os.scandir("/proc"):
    if entry.name.isdigit():
      fields = _read(f"/proc/{entry.name}/stat").rpartition(")")[2].split()
      if fields and int(fields[3]) == leader:
        found.append(int(entry.name))
  return found


def _resident(pid: int) -> int:
  fields = _read(f"/proc/{pid}/statm").split()
  return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _schedule(pid: int) -> dict[tuple[int, str], tuple[int, int]]:
  """(pid, thread) -> nanoseconds of running, and of waiting to run."""
  found = {}
  for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
    fields = _read(task).split()
    if len(fields) >= 2:
      found[pid, task.parent.name] = int(fields[0]), int(fields[1])
  return found


def _read(path) -> str:
  """A file of /proc; empty if its process has ended."""
  try:
    return pathlib.Path(path).read_text()
  except (OSError, ValueError):
    return ""
