"""Lines for the person at the terminal, from the first process of a run only."""
import sys

from tqdm import tqdm


def say(line: str) -> None:
  """Prints a line on stderr, above any progress bar."""
  from actionjax import distributed  # which imports JAX: not before the flags are checked
  if distributed.is_first():
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
