"""Lines for the person at the terminal, from the first process of a run only."""
import sys

from tqdm import tqdm


def say(line: str) -> None:
  """Prints a line on stderr, above any progress bar."""
  import jax
  if jax.process_index() == 0:
    tqdm.write(line, file=sys.stderr)
    sys.stderr.flush()
