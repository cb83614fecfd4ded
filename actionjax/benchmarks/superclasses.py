"""The superclass search beside a loop over restarts in NumPy.

The loop computes the same thing, vectorised over all pairs of classes of a restart, in a process
of its own whose linear algebra library has one thread (with more they spend their time waiting
for each other on matrices of this size). The two take turns, so that whatever else the machine
does falls on both alike; the table gives medians.
"""
import os
import statistics
import subprocess
import sys
import time

import numpy as np

CLASSES = 120
SUPERCLASSES = (4, 12, 40)
RESTARTS = 1000
SEED = 0


def run(rounds: int = 5, restarts: int = RESTARTS) -> list[dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each contestant, after one that is not counted (it compiles).
    restarts: of each search.

  Returns:
    One dict for each number of superclasses: `superclasses`, milliseconds `ours` and `numpy` of
    the whole search, the ratio `numpy/ours`, and both lowest costs, `cost` and `numpy_cost`.
  """
  from actionjax.hierarchy import search
  costs = example_costs()
  rows = []
  with _NumpyProcess() as numpy_loop:
    for count in SUPERCLASSES:
      times = {"ours": [], "numpy": []}
      for turn in range(rounds + 1):
        start = time.perf_counter()
        found = search.search(costs, count, restarts=restarts, seed=SEED)
        ours = time.perf_counter() - start
        seconds, numpy_cost = numpy_loop(count, restarts)
        if turn:
          times["ours"].append(1e3 * ours)
          times["numpy"].append(1e3 * seconds)
      row = {"superclasses": count} | {name: statistics.median(taken)
                                       for name, taken in times.items()}
      rows.append(row | {"numpy/ours": row["numpy"] / row["ours"], "cost": found.cost,
                         "numpy_cost": numpy_cost})
  print(table(rows, restarts))
  return rows


def table(rows: list[dict], restarts: int = RESTARTS) -> str:
  """The rows of `run` as text."""
  import jax
  device = jax.devices()[0]
  lines = [f"{CLASSES} classes, {restarts} restarts, ms for all of them; "
           f"{device.device_kind} ({device.platform}), {os.cpu_count()} CPUs",
           f"{'superclasses':<14}" + "".join(
               f"{name:>12}" for name in ("ours", "numpy", "numpy/ours", "cost", "numpy_cost"))]
  for row in rows:
    lines.append(f"{row['superclasses']:<14}{row['ours']:>12.1f}{row['numpy']:>12.1f}"
                 f"{row['numpy/ours']:>12.1f}{row['cost']:>12.0f}{row['numpy_cost']:>12.0f}")
  return "\n".join(lines)


def example_costs() -> np.ndarray:
  """Costs from the counts of `example`: whole numbers, so that both contestants add them up
  without rounding, take the same exchanges and end at the same costs."""
  from actionjax.hierarchy import search
  return search.confusion_costs(example(), normalise=False)


def example(num_classes: int = CLASSES, seed: int = SEED) -> np.ndarray:
  """A confusion matrix int[N,N] of about a hundred clips a class, four fifths of them right.

  The rest go mostly to a few other classes, as they do in real ones.
  """
  rng = np.random.default_rng(seed)
  confused = rng.poisson(rng.gamma(0.1, 1.7, (num_classes, num_classes)))
  np.fill_diagonal(confused, rng.integers(60, 101, num_classes))
  return confused


def numpy_search(costs: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """The search by its definition: every exchange of every step weighed anew.

  Args:
    costs: float[N,N], symmetric, zero on the diagonal.
    starts: superclass of each class at the start of each restart, int[R,N].

  Returns:
    Superclasses int[R,N] where each restart ended, and their costs float[R].
  """
  ends, reached = np.array(starts), np.empty(len(starts))
  index = np.arange(len(costs))
  total, twice = costs.sum() / 2, 2 * costs
  for restart, assignment in enumerate(ends):
    # Similarity of each class to each superclass, kept up to date.
    weights = costs @ np.eye(assignment.max() + 1)[assignment]
    while True:
      moved = (weights - weights[index, assignment][:, None])[:, assignment]
      gains = moved + moved.T - twice
      i, j = divmod(int(gains.argmax()), len(costs))
      if gains[i, j] <= 1e-9:
        break
      a, b = assignment[[i, j]]
      weights[:, a] += costs[:, j] - costs[:, i]
      weights[:, b] += costs[:, i] - costs[:, j]
      assignment[i], assignment[j] = b, a
    reached[restart] = total - weights[index, assignment].sum() / 2
  return ends, reached


class _NumpyProcess:
  """Calls `numpy_search` in another process, one thread for linear algebra."""

  def __enter__(self):
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")}
    self._process = subprocess.Popen([sys.executable, "-m", __name__], text=True,
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     env=os.environ | one_thread | {"JAX_PLATFORMS": "cpu"})
    return self

  def __call__(self, num_superclasses: int, restarts: int) -> tuple[float, float]:
    """Seconds taken and lowest cost."""
    self._process.stdin.write(f"{num_superclasses} {restarts}\n")
    self._process.stdin.flush()
    seconds, cost = self._process.stdout.readline().split()
    return float(seconds), float(cost)

  def __exit__(self, *_):
    self._process.stdin.close()
    self._process.wait()


def _serve() -> None:
  """Searches for each line of standard input, "number of superclasses, restarts"."""
  from actionjax.hierarchy import search
  costs = example_costs()
  for line in sys.stdin:
    count, restarts = map(int, line.split())
    starts = search.balanced_starts(CLASSES, count, restarts, SEED)
    start = time.perf_counter()
    found = numpy_search(costs, starts)[1].min()
    print(time.perf_counter() - start, found, flush=True)


if __name__ == "__main__":
  _serve()
