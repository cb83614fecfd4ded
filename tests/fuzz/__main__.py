"""The command: `python -m tests.fuzz --parser=pickle --inputs=100000`."""
import argparse
import functools
import pathlib
import sys
import tempfile
import time

from tests.fuzz import campaign, parsers


def main() -> int:
  """Runs campaigns one after another; returns 1 where there are findings."""
  options = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(
      "Reads mutated files with the library's parsers and lists what may not happen."))
  options.add_argument("--parser", default="all", help=(
      f"one or more, with commas between, of {', '.join(parsers.PARSERS)}; default: all"))
  options.add_argument("--inputs", type=int, default=100_000, help="for each parser")
  options.add_argument("--seed", type=int, default=0)
  options.add_argument("--keep", help="folder for inputs; a later run goes on from those in it")
  given = options.parse_args()
  names = list(parsers.PARSERS) if given.parser == "all" else given.parser.split(",")
  unknown = [name for name in names if name not in parsers.PARSERS]
  if unknown:
    options.error(f"unknown parser {unknown[0]}")
  keep = pathlib.Path(given.keep or tempfile.mkdtemp(prefix="fuzz-"))
  found = False
  for name in names:
    start = time.monotonic()
    tally = campaign.run(
        functools.partial(parsers.named, name), given.inputs, keep / name, given.seed,
        lambda tally, name=name: print(f"{name}: so far {tally}", flush=True))
    found |= bool(tally.findings)
    print(f"{name}: {tally} in {time.monotonic() - start:.0f} s", flush=True)
  return int(found)


if __name__ == "__main__":
  sys.exit(main())
