"""Superclasses from a confusion matrix, for hierarchical classification.

Classes that a network confuses with each other are put into one superclass: classes are the
nodes of a graph whose edges weigh how often two of them are taken for each other, and the nodes
are parted into superclasses of equal size such that the edges between superclasses weigh as little
as possible (the hierarchical classifier's paper, section on superclasses). From each of many
random balanced starts, the exchange of two classes that lowers the cost most is made again and
again, until none lowers it.
"""
import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from actionjax.errors import UserError
from actionjax.hierarchy import bounds, descent


@dataclasses.dataclass(frozen=True, eq=False)
class Grouping:
  """The best of a search's restarts.

  Attributes:
    assignment: superclass of each class, int[N], numbered in the order of their first classes.
    cost: weight between superclasses, see `cost`.
    restart_costs: cost that each restart ended at, float[restarts], rounded as in `search`.
    costs: the matrix that was searched, float[N,N].
  """
  assignment: np.ndarray
  cost: float
  restart_costs: np.ndarray
  costs: np.ndarray = dataclasses.field(repr=False)

  @functools.cached_property
  def lower_bound(self) -> float:
    """No balanced grouping costs less; computed when first asked for, see `lower_bound`."""
    return lower_bound(self.costs, self.assignment.max() + 1)

  @property
  def gap(self) -> float:
    """Share of the cost, in [0, 1], that a better grouping could save at the very most."""
    return max(0.0, 1 - self.lower_bound / self.cost) if self.cost > 0 else 0.0


def confusion_costs(confusion: np.ndarray, normalise: bool = True, *, absent: str = "error",
                    class_names: Sequence[str] | None = None) -> np.ndarray:
  """Weights of the graph: e_ij = c_ij + c_ji.

  Args:
    confusion: counts or rates [N,N]; rows are true classes.
    normalise: divides each row by its sum first, so that a class weighs as much as another
      however many clips it has.
    absent: what a row of zeros means when normalising. "error" refuses it, since nothing is
      known about what such a class is taken for; "zero" takes it as never confused.
    class_names: for the error message; numbers where None.

  Returns:
    float64[N,N], symmetric, zero on the diagonal.

  Raises:
    UserError: the matrix is not square, has a negative or undefined entry, or, with
      `absent="error"`, a class that never occurs.
  """
  if absent not in ("error", "zero"):
    raise UserError(f"absent must be one of error, zero, got {absent!r}")
  confusion = _checked(confusion, "the confusion matrix")
  if normalise:
    sums = confusion.sum(1, keepdims=True)
    missing = np.flatnonzero(sums == 0)
    if absent == "error" and len(missing):
      names = ", ".join(str(class_names[i] if class_names else i) for i in missing)
      raise UserError(f"no clip in the confusion matrix is of class {names}: count it on clips of "
                      "all classes, or pass absent='zero' to take such classes as never confused")
    confusion = confusion / np.where(sums > 0, sums, 1)
  costs = confusion + confusion.T
  np.fill_diagonal(costs, 0)
  return costs


def cost(costs: np.ndarray, assignment: Sequence[int]) -> float:
  """Sum of e_ij over the pairs of classes in different superclasses.

  Args:
    costs: e, float[N,N], symmetric.
    assignment: int[N].
  """
  assignment = np.asarray(assignment)
  apart = assignment[:, None] != assignment
  return float(np.triu(np.asarray(costs, np.float64) * apart, 1).sum())


def groups(assignment: Sequence[int]) -> list[list[int]]:
  """The classes of each superclass, in ascending order."""
  assignment = np.asarray(assignment)
  return [np.flatnonzero(assignment == superclass).tolist()
          for superclass in range(assignment.max(initial=-1) + 1)]


def superclass_sizes(num_classes: int, num_superclasses: int) -> np.ndarray:
  """Sizes int[M] as equal as can be: where N is no multiple of M, the first are one larger."""
  small, larger = divmod(num_classes, num_superclasses)
  return np.where(np.arange(num_superclasses) < larger, small + 1, small)


def balanced_starts(num_classes: int, num_superclasses: int, restarts: int,
                    seed: int) -> np.ndarray:
  """Where the restarts of `search` begin: superclass of each class, int32[restarts,N]."""
  sizes = superclass_sizes(num_classes, num_superclasses)
  labels = np.repeat(np.arange(num_superclasses, dtype=np.int32), sizes)
  return np.random.default_rng(seed).permuted(np.tile(labels, (restarts, 1)), axis=1)


def search(costs: np.ndarray, num_superclasses: int, restarts: int = 1000,
           seed: int = 0) -> Grouping:
  """Searches the balanced grouping that costs least.

  At each step the exchange of two classes of different superclasses that lowers the cost most is
  made; of several that lower it equally, the one first in lexicographic order of (smaller class,
  larger class). A restart ends when no exchange lowers the cost.

  Costs are rounded to integers, with a step of at most 2^-28 (4e-9) of the largest row sum, or
  exactly where they are whole numbers. All sums are exact then: equal gains are equal, no
  exchange is made for a gain that is only rounding, and every device returns the same grouping.

  Args:
    costs: e, float[N,N], symmetric and not negative, as from `confusion_costs`; the diagonal is
      not read.
    num_superclasses: M.
    restarts: number of random starts.
    seed: of the starts.

  Returns:
    The grouping of the restart with the lowest cost, the first of these if there are several.

  Raises:
    UserError: M is not in 1..N, there is no restart, or `costs` is not as described.
  """
  costs = _checked_costs(costs, num_superclasses)
  if restarts < 1:
    raise UserError(f"restarts={restarts}: the search needs at least one")
  num_classes = len(costs)
  rounded, scale = descent.to_integers(costs)
  slots, layout = descent.slots_of(balanced_starts(num_classes, num_superclasses, restarts, seed),
                                  superclass_sizes(num_classes, num_superclasses))
  ends, own = descent.run(rounded, slots, layout)
  within = own[:, layout >= 0].sum(1, dtype=np.int64) / 2 / scale
  restart_costs = rounded.sum(dtype=np.int64) / 2 / scale - within
  best = int(restart_costs.argmin())
  assignment = np.empty(num_classes, np.int32)
  assignment[ends[best, layout >= 0]] = layout[layout >= 0]
  assignment = _renumbered(assignment)
  return Grouping(assignment, cost(costs, assignment), restart_costs, costs)


def lower_bound(costs: np.ndarray, num_superclasses: int) -> float:
  """A cost that no balanced grouping into M superclasses goes below.

  The larger of a spectral bound, the better one for few large superclasses, and that of a linear
  program, the better one for many small superclasses or few classes, where it is often tight.
  At 120 classes a second or two. See `actionjax.hierarchy.bounds`.

  Args:
    costs: as for `search`.

  Raises:
    UserError: as `search`.
  """
  costs = _checked_costs(costs, num_superclasses)
  total = costs.sum() / 2
  if num_superclasses == 1 or total == 0:
    return 0.0
  sizes = superclass_sizes(len(costs), num_superclasses)
  spectral = bounds.spectral(costs / total, sizes)
  linear = bounds.linear(costs / total, sizes, spectral)
  return float(total * max(0.0, spectral - 1e-9, linear - 1e-9))  # 1e-9: the solvers' rounding


def _checked(matrix, name) -> np.ndarray:
  matrix = np.asarray(matrix, np.float64)
  if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
    raise UserError(f"{name} has shape {matrix.shape}; it must be square, classes by classes")
  wrong = np.argwhere(~np.isfinite(matrix) | (matrix < 0))
  if len(wrong):
    i, j = wrong[0]
    raise UserError(f"{name} has the entry {matrix[i, j]} in row {i}, column {j}; its entries must "
                    "be finite and not negative")
  return matrix


def _checked_costs(costs, num_superclasses) -> np.ndarray:
  """`costs` with zeros on the diagonal. Raises UserError where they or M make no sense."""
  costs = _checked(costs, "the matrix of costs").copy()
  if not 1 <= num_superclasses <= len(costs):
    raise UserError(f"{num_superclasses} superclasses of {len(costs)} classes: give a number from "
                    f"1 to {len(costs)}")
  if not np.allclose(costs, costs.T, rtol=1e-9, atol=0):
    raise UserError("the matrix of costs is not symmetric; make it with confusion_costs")
  np.fill_diagonal(costs, 0)
  return costs


def _renumbered(assignment) -> np.ndarray:
  """The same grouping with superclasses numbered in the order of their first classes."""
  first = np.unique(assignment, return_index=True)[1]
  return np.argsort(np.argsort(first))[assignment].astype(np.int32)
