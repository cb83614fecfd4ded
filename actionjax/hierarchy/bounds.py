"""Lower bounds of the cost of parting a graph's nodes into groups of given sizes.

Both take the weights of the edges, float[N,N], symmetric with a zero diagonal and adding up to
one over all pairs, and the sizes of the groups, int[M], in descending order and at most one apart.
"""
import numpy as np
from scipy import optimize, sparse


def spectral(costs, sizes, steps: int = 60) -> float:
  """Half the sum of size times eigenvalue of Laplacian + diag(u), for the best zero-sum u found.

  With the superclasses' normalised indicator vectors x_c, orthogonal to each other, twice the cost
  of a grouping is the sum of size_c x_c' (L + diag(u)) x_c, which the smallest eigenvalues,
  paired with the largest sizes, bound from below. Where the sizes are equal the constant vector,
  an eigenvector of L to the eigenvalue 0, lies in the span of all x_c, and only the other M - 1
  directions need a bound. After Donath and Hoffman, "Lower bounds for the partitioning of graphs",
  IBM Journal of Research and Development 17, 1973; u is found by subgradient steps.
  """
  count = len(costs)
  laplacian = np.diag(costs.sum(1)) - costs
  if sizes[0] == sizes[-1]:
    basis = np.linalg.qr(np.column_stack([np.ones(count), np.eye(count)[:, 1:]]))[0][:, 1:]
    sizes = sizes[1:]
  else:
    basis = np.eye(count)
  shift, best = np.zeros(count), -np.inf
  for step in range(steps):
    values, vectors = np.linalg.eigh(basis.T @ (laplacian + np.diag(shift)) @ basis)
    best = max(best, sizes @ values[:len(sizes)] / 2)
    slope = (basis @ vectors[:, :len(sizes)])**2 @ sizes
    slope -= slope.mean()
    norm = np.linalg.norm(slope)
    if norm < 1e-12:
      break
    shift += slope / norm * laplacian.trace() / count / 2 / np.sqrt(step + 1)
    shift -= shift.mean()
  return best


def linear(costs, sizes, other: float, rounds: int = 6, cuts: int = 1000) -> float:
  """Bound by a linear program over the pairs of nodes, y_ij = 1 for two of one group.

  Every node has size - 1 partners, and triangle inequalities, added round by round where they
  are violated, say that sharing a group is transitive (Groetschel and Wakabayashi, "A cutting
  plane algorithm for a clustering problem", Mathematical Programming 45, 1989). The value
  is that of the dual solution, which bounds the cost even where the solver stops short.

  Args:
    costs: see above.
    sizes: see above.
    other: what another bound reached; with many nodes, a program far below it is given up.
    rounds: programs solved at most.
    cuts: triangle inequalities added at most after each.
  """
  count = len(costs)
  i, j = np.triu_indices(count, 1)
  pairs = np.arange(len(i))
  number = np.zeros((count, count), int)  # of the pair's variable
  number[i, j] = number[j, i] = pairs
  ones = np.ones(2 * len(i))
  degrees = sparse.csr_array((ones, (np.r_[i, j], np.r_[pairs, pairs])), (count, len(i)))
  equal, equal_to = np.ones((1, len(i))), np.array([(sizes * (sizes - 1.0) / 2).sum()])
  below = sparse.vstack([degrees, -degrees])
  below_to = np.r_[np.full(count, sizes[0] - 1.0), np.full(count, 1.0 - sizes[-1])]
  weights, best = -costs[i, j], -np.inf
  for _ in range(rounds):
    found = optimize.linprog(weights, below, below_to, equal, equal_to, (0, 1), method="highs")
    if found.status != 0:
      break
    falling = np.minimum(found.ineqlin.marginals, 0)
    reduced = weights - equal.T @ found.eqlin.marginals - below.T @ falling
    bound = (costs.sum() / 2 + found.eqlin.marginals @ equal_to + falling @ below_to
             + np.minimum(reduced, 0).sum())
    gained, best = bound - best, max(best, bound)
    if gained < 1e-3 or count > 60 and best < 0.8 * other:
      break
    # j and k with i, so j with k: y_ij + y_ik - y_jk <= 1.
    together = np.zeros((count, count))
    together[i, j] = together[j, i] = found.x
    violated = []
    for pivot in range(count):
      excess = together[pivot, i] + together[pivot, j] - found.x - 1
      excess[(i == pivot) | (j == pivot)] = -1
      worst = np.argsort(-excess)[:cuts]
      violated += [(-excess[pair], pivot, pair) for pair in worst[excess[worst] > 1e-6]]
    if not violated:
      break
    _, pivot, pair = np.array(sorted(violated)[:cuts]).T.astype(int)
    row = np.arange(len(pair))
    columns = np.r_[number[pivot, i[pair]], number[pivot, j[pair]], pair]
    values = np.r_[np.ones(2 * len(row)), -np.ones(len(row))]
    below = sparse.vstack([below, sparse.csr_array((values, (np.r_[row, row, row], columns)),
                                                   (len(row), len(i)))])
    below_to = np.r_[below_to, np.ones(len(row))]
  return best
