"""Starts one command as several processes of one run on this machine.

  python launch/local.py --processes=2 -- python -m actionjax.main --config=configs/quickstart.py

Each process computes a share of every batch. When one fails, or this one is killed, the others
are ended.
"""
import argparse
import functools
import os
import signal
import socket
import subprocess
import sys
import time

from actionjax.workers import die_with_parent

GRACE = 10.0  # seconds between asking the others to end and ending them


def free_port() -> int:
  """A port of the loopback interface that nothing listens on."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def launch(processes: int, command: list[str]) -> int:
  """Runs the command `processes` times side by side; returns the first failure's status or 0."""
  address = f"127.0.0.1:{free_port()}"
  bind = functools.partial(die_with_parent, os.getpid()) if sys.platform == "linux" else None
  children = [
      subprocess.Popen(command, env=os.environ | {
          "ACTIONJAX_COORDINATOR": address, "ACTIONJAX_PROCESSES": str(processes),
          "ACTIONJAX_PROCESS": str(process)}, preexec_fn=bind)
      for process in range(processes)]

  def forward(number, frame):
    del frame
    for child in children:
      child.send_signal(number)

  signal.signal(signal.SIGTERM, forward)
  signal.signal(signal.SIGINT, forward)
  status, deadline = 0, None
  running = list(children)
  while running:
    if deadline is not None and time.monotonic() > deadline:
      # Waiting for the one that failed, they do not hear.
      for other in running:
        other.kill()
    for child in list(running):
      code = child.poll()
      if code is None:
        continue
      running.remove(child)
      if code and not status:
        status = code if code > 0 else 128 - code
        deadline = time.monotonic() + GRACE
        for other in running:
          other.terminate()
    time.sleep(0.1)
  return status


def main() -> None:
  """Parses the flags before `--` and launches what follows."""
  parser = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("--processes", type=int, required=True)
  parser.add_argument("command", nargs=argparse.REMAINDER)
  arguments = parser.parse_args()
  command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
  if not command or arguments.processes < 1:
    parser.error("give --processes=N -- COMMAND")
  sys.exit(launch(arguments.processes, command))


if __name__ == "__main__":
  main()
