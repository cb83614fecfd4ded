"""Starts one command as several processes of one run on this machine.

  python launch/local.py --processes=2 -- python -m actionjax.main --config=configs/quickstart.py

Each process computes a share of every batch. When one fails, the others are ended.
"""
import argparse
import os
import signal
import socket
import subprocess
import sys
import time


def free_port() -> int:
  """A port of the loopback interface that nothing listens on."""
  with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    return probe.getsockname()[1]


def launch(processes: int, command: list[str]) -> int:
  """Runs the command `processes` times side by side; returns the first failure's status or 0."""
  address = f"127.0.0.1:{free_port()}"
  children = [
      subprocess.Popen(command, env=os.environ | {
          "ACTIONJAX_COORDINATOR": address, "ACTIONJAX_PROCESSES": str(processes),
          "ACTIONJAX_PROCESS": str(process)})
      for process in range(processes)]

  def forward(number, frame):
    del frame
    for child in children:
      child.send_signal(number)

  signal.signal(signal.SIGTERM, forward)
  signal.signal(signal.SIGINT, forward)
  status = 0
  running = list(children)
  while running:
    for child in list(running):
      code = child.poll()
      if code is None:
        continue
      running.remove(child)
      if code and not status:
        status = code if code > 0 else 128 - code
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
