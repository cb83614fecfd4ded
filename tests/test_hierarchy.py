"""The superclass search against integer programs, a plain greedy search and recounts."""
import itertools

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy import optimize, sparse

from actionjax.benchmarks import superclasses
from actionjax.errors import UserError
from actionjax.hierarchy import descent, search
from actionjax.report import groups as pictures

SIZES = [(6, 2), (7, 3), (10, 5), (12, 4)]  # few: each is compiled


def planted(num_classes: int, num_groups: int, seed: int) -> np.ndarray:
  """Counts with more confusion within hidden groups, and noise of the same order."""
  rng = np.random.default_rng(seed)
  group = rng.permutation(num_classes) % num_groups
  rates = np.where(group[:, None] == group, 1.3, 0.33) * rng.gamma(0.5, 2, (num_classes,) * 2)
  counts = rng.poisson(rates)
  np.fill_diagonal(counts, rng.integers(40, 80, num_classes))
  return counts


def plain_cost(costs, assignment) -> float:
  return sum(costs[i, j] for i, j in itertools.combinations(range(len(costs)), 2)
             if assignment[i] != assignment[j])


def plain_greedy(costs, start) -> np.ndarray:
  """The search by its words: recounts the cost after every possible exchange."""
  assignment, current = list(start), plain_cost(costs, start)
  while True:
    best, best_pair = current - 1e-9, None
    for i, j in itertools.combinations(range(len(costs)), 2):
      if assignment[i] != assignment[j]:
        exchanged = list(assignment)
        exchanged[i], exchanged[j] = exchanged[j], exchanged[i]
        found = plain_cost(costs, exchanged)
        if found < best:
          best, best_pair = found, (i, j)
    if best_pair is None:
      return np.array(assignment)
    i, j = best_pair
    assignment[i], assignment[j] = assignment[j], assignment[i]
    current = best


def canonical(assignment) -> list[int]:
  """Numbers the superclasses in the order in which they come up."""
  numbers = {}
  return [numbers.setdefault(int(superclass), len(numbers)) for superclass in assignment]


def assert_balanced(assignment, num_superclasses):
  counts = np.bincount(assignment, minlength=num_superclasses)
  assert len(counts) == num_superclasses and counts.max() - counts.min() <= 1


@st.composite
def whole_costs(draw):
  """Small whole numbers, so that many exchanges gain the same; M."""
  num_classes, num_superclasses = draw(st.sampled_from(SIZES))
  pairs = num_classes * (num_classes - 1) // 2
  upper = np.zeros((num_classes, num_classes))
  upper[np.triu_indices(num_classes, 1)] = draw(
      st.lists(st.integers(0, 3), min_size=pairs, max_size=pairs))
  return upper + upper.T, num_superclasses


@hypothesis.given(whole_costs(), st.integers(0, 2**31))
@hypothesis.settings(max_examples=25, deadline=None)
def test_every_restart_takes_the_steps_of_the_plain_search(case, seed):
  costs, num_superclasses = case
  found = search.search(costs, num_superclasses, restarts=3, seed=seed)
  starts = search.balanced_starts(len(costs), num_superclasses, 3, seed)
  ends = [plain_greedy(costs, start) for start in starts]
  expected = [plain_cost(costs, end) for end in ends]
  assert found.restart_costs.tolist() == expected
  assert found.assignment.tolist() == canonical(ends[int(np.argmin(expected))])
  assert found.cost == min(expected)


@hypothesis.given(st.sampled_from(SIZES), st.integers(0, 2**31), st.floats(1e-6, 1e6))
@hypothesis.settings(max_examples=25, deadline=None)
def test_invariants_for_any_rates(size, seed, unit):
  num_classes, num_superclasses = size
  rng = np.random.default_rng(seed)
  costs = np.triu(unit * rng.gamma(0.3, 1, (num_classes, num_classes)), 1)
  costs += costs.T
  found = search.search(costs, num_superclasses, restarts=3, seed=seed % 1000)
  assert_balanced(found.assignment, num_superclasses)
  assert found.assignment.tolist() == canonical(found.assignment)
  np.testing.assert_allclose(found.cost, plain_cost(costs, found.assignment), rtol=1e-9)
  np.testing.assert_allclose(found.restart_costs.min(), found.cost, rtol=1e-6)
  assert found.lower_bound <= found.cost * (1 + 1e-9) and 0 <= found.gap <= 1
  for i, j in itertools.combinations(range(num_classes), 2):
    exchanged = found.assignment.copy()
    exchanged[[i, j]] = exchanged[[j, i]]
    gain = found.cost - plain_cost(costs, exchanged)
    assert gain <= 1e-6 * costs.sum(1).max(), "an exchange is left that lowers the cost"


@hypothesis.given(whole_costs())
@hypothesis.settings(max_examples=25, deadline=None)
def test_lower_bound_against_all_groupings(case):
  costs, num_superclasses = case
  hypothesis.assume(len(costs) <= 7)
  sizes = sorted(search.superclass_sizes(len(costs), num_superclasses))
  every = (assignment for assignment in itertools.product(range(num_superclasses),
                                                          repeat=len(costs))
           if sorted(np.bincount(assignment, minlength=num_superclasses)) == sizes)
  optimum = min(search.cost(costs, assignment) for assignment in every)
  assert search.lower_bound(costs, num_superclasses) <= optimum + 1e-9


def least_cost_of_pairs(costs, num_superclasses) -> float:
  """Least cost by an integer program whose variables say which pairs share a superclass.

  Each class has N/M - 1 partners, and sharing is transitive; these inequalities are added
  where a solution violates one, first to the program without integrality.
  """
  count = len(costs)
  i, j = np.triu_indices(count, 1)
  number = np.zeros((count, count), int)
  number[i, j] = number[j, i] = np.arange(len(i))
  incidence = np.zeros((count, len(i)))
  incidence[i, np.arange(len(i))] = incidence[j, np.arange(len(i))] = 1
  partners = count // num_superclasses - 1
  constraints = [optimize.LinearConstraint(incidence, partners, partners)]
  for integrality in (0, 1):
    while True:
      solved = optimize.milp(-costs[i, j], constraints=constraints, integrality=integrality,
                             bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0})
      assert solved.success
      third = np.arange(count)
      excess = solved.x[number[i]] + solved.x[number[j]] - solved.x[:, None] - 1
      excess[(third == i[:, None]) | (third == j[:, None])] = -1
      pair, third = np.nonzero(excess > 1e-6)
      if not len(pair):
        break
      rows = np.tile(np.arange(len(pair)), 3)
      columns = np.concatenate([number[i[pair], third], number[j[pair], third], pair])
      values = np.repeat([1, 1, -1], len(pair))
      constraints.append(optimize.LinearConstraint(
          sparse.csr_array((values, (rows, columns)), (len(pair), len(i))), -np.inf, 1))
  return costs[i, j].sum() + solved.fun


def least_cost_of_triples(costs) -> float:
  """Least cost with three classes a superclass: the best partition into triples."""
  count = len(costs)
  triples = np.array(list(itertools.combinations(range(count), 3)))
  within = sum(costs[triples[:, a], triples[:, b]] for a, b in ((0, 1), (0, 2), (1, 2)))
  member = sparse.csr_array((np.ones(triples.size), (triples.reshape(-1),
                                                     np.repeat(np.arange(len(triples)), 3))))
  solved = optimize.milp(-within, constraints=optimize.LinearConstraint(member, 1, 1),
                         integrality=1, bounds=optimize.Bounds(0, 1),
                         options={"mip_rel_gap": 0})
  assert solved.success
  return np.triu(costs, 1).sum() + solved.fun


@pytest.mark.parametrize(("num_classes", "num_superclasses", "seed"), [
    (10, 2, 0), (10, 2, 1), (10, 5, 0), (10, 5, 1), (27, 3, 2), (27, 3, 5), (27, 9, 0), (27, 9, 1)])
def test_reaches_the_optimum(num_classes, num_superclasses, seed):
  costs = search.confusion_costs(planted(num_classes, num_superclasses, seed))
  if num_classes == 3 * num_superclasses:
    optimum = least_cost_of_triples(costs)
  else:
    optimum = least_cost_of_pairs(costs, num_superclasses)
  found = search.search(costs, num_superclasses)
  assert found.cost == pytest.approx(optimum, rel=1e-7)
  if num_classes > 10:
    assert np.ptp(found.restart_costs) > 1e-6, "not every restart finds it"
  assert found.lower_bound <= optimum * (1 + 1e-9)


def test_by_hand():
  # 0 is often taken for 2, and 3 for 1; row sums 10.
  confusion = np.array([[6, 0, 4, 0], [0, 9, 1, 0], [0, 0, 10, 0], [1, 3, 0, 6]])
  costs = search.confusion_costs(confusion)
  np.testing.assert_allclose(costs, [[0, 0, .4, .1], [0, 0, .1, .3], [.4, .1, 0, 0],
                                     [.1, .3, 0, 0]])
  found = search.search(costs, 2, restarts=8)
  assert found.assignment.tolist() == [0, 1, 0, 1]
  assert search.groups(found.assignment) == [[0, 2], [1, 3]]
  assert found.cost == pytest.approx(0.2) == search.cost(costs, [5, 7, 5, 7])
  np.testing.assert_array_equal(search.confusion_costs(confusion, normalise=False)[3],
                                [1, 3, 0, 0])


def test_sizes_that_do_not_divide():
  assert search.superclass_sizes(10, 4).tolist() == [3, 3, 2, 2]
  starts = search.balanced_starts(10, 4, 50, seed=0)
  assert (np.sort(starts, 1) == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]).all()
  assert len(np.unique(starts, axis=0)) == 50
  costs = search.confusion_costs(planted(75, 2, 0))
  found = search.search(costs, 2, restarts=4)  # 37 and 38 classes: slots stay empty
  assert_balanced(found.assignment, 2)
  assert found.cost == pytest.approx(search.cost(costs, found.assignment))


def test_one_superclass_and_as_many_as_classes():
  costs = search.confusion_costs(planted(7, 3, 0))
  alone = search.search(costs, 7, restarts=2)
  assert alone.assignment.tolist() == list(range(7))
  assert alone.cost == pytest.approx(costs.sum() / 2) and alone.gap == pytest.approx(0, abs=1e-6)
  together = search.search(costs, 1, restarts=2)
  assert together.assignment.tolist() == [0] * 7
  assert together.cost == together.lower_bound == together.gap == 0
  assert search.search(np.zeros((7, 7)), 3, restarts=3).gap == 0, "nothing confused"


def test_deterministic_for_a_seed():
  costs = search.confusion_costs(planted(12, 4, 0))
  first, again = (search.search(costs, 4, restarts=3, seed=1) for _ in range(2))
  np.testing.assert_array_equal(first.assignment, again.assignment)
  np.testing.assert_array_equal(first.restart_costs, again.restart_costs)
  one, other = (search.balanced_starts(12, 4, 3, seed) for seed in (1, 2))
  assert (one != other).any()


@pytest.mark.parametrize("size", [(7, 3), (12, 4)])
def test_same_numbers_however_it_is_compiled(size):
  """As on a GPU, all restarts at once, and without the marks that only CPUs know."""
  num_classes, num_superclasses = size
  rounded, _ = descent.to_integers(search.confusion_costs(planted(*size, 0)))
  starts = search.balanced_starts(num_classes, num_superclasses, 3, seed=0)
  classes, layout = descent.slots_of(starts, search.superclass_sizes(num_classes, num_superclasses))
  expected = descent.run(rounded, classes, layout)
  twice = np.pad(2 * rounded, (0, len(layout) - num_classes))
  empty = np.where(layout < 0, descent.RANGE, 0).astype(np.int32)
  for options in ({}, {"together": 3}):
    found = jax.device_get(descent.descend_all(twice, classes, empty, num_superclasses,
                                                **options))
    for array, wanted in zip(found, expected):
      np.testing.assert_array_equal(array, wanted)


def test_a_compiler_that_refuses_the_marks(monkeypatch):
  refused = []

  def refuse(marked, function, *arguments, **marks):
    if marked:
      refused.append(function)
      raise ImportError("no such marks here")
    return function(*arguments)

  costs = search.confusion_costs(planted(6, 2, 0))
  expected = search.search(costs, 2, restarts=5)
  descent.compiled.cache_clear()
  monkeypatch.setattr(descent, "_call", refuse)
  descent.descend_all.clear_cache()
  found = search.search(costs, 2, restarts=5)
  descent.compiled.cache_clear()
  descent.descend_all.clear_cache()
  assert refused or jax.default_backend() != "cpu"
  np.testing.assert_array_equal(found.restart_costs, expected.restart_costs)


def test_absent_classes():
  confusion = np.array([[3, 1, 0], [0, 0, 0], [0, 2, 2]])
  with pytest.raises(UserError, match="is of class 1: "):
    search.confusion_costs(confusion)
  with pytest.raises(UserError, match="is of class wave: "):
    search.confusion_costs(confusion, class_names=["drink", "wave", "sit"])
  np.testing.assert_allclose(search.confusion_costs(confusion, absent="zero"),
                             [[0, .25, 0], [.25, 0, .5], [0, .5, 0]])
  np.testing.assert_array_equal(search.confusion_costs(confusion, normalise=False)[1], [1, 0, 2])
  with pytest.raises(UserError, match="absent"):
    search.confusion_costs(confusion, absent="ignore")


@pytest.mark.parametrize(("matrix", "message"), [
    (np.ones((2, 3)), "square"), (np.ones(4), "square"), (np.ones((0, 0)), "square"),
    ([[1, -1], [0, 1]], "-1.0 in row 0, column 1"), ([[1, 0], [np.nan, 1]], "nan in row 1"),
    ([[np.inf, 0], [0, 1]], "inf in row 0")])
def test_matrices_that_make_no_sense(matrix, message):
  matrix = np.array(matrix)
  for refuses in (search.confusion_costs, lambda matrix: search.search(matrix, 1),
                  lambda matrix: search.lower_bound(matrix, 1)):
    with pytest.raises(UserError, match=message):
      refuses(matrix)


def test_numbers_that_make_no_sense():
  costs = np.ones((4, 4))
  for number in (-1, 0, 5):
    with pytest.raises(UserError, match=f"{number} superclasses of 4 classes"):
      search.search(costs, number)
  with pytest.raises(UserError, match="restarts=0"):
    search.search(costs, 2, restarts=0)
  with pytest.raises(UserError, match="symmetric"):
    search.search(np.triu(costs), 2)


@pytest.mark.slow
def test_benchmark_finds_the_same_as_numpy(capsys):
  rows = superclasses.run(rounds=1, restarts=3)
  assert [row["superclasses"] for row in rows] == [4, 12, 40]
  for row in rows:
    assert row["cost"] == row["numpy_cost"] and row["numpy/ours"] > 0
  assert "120 classes, 3 restarts" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(("num_classes", "counts"), [(10, (2, 5)), (27, (3, 9)),
                                                     (120, (4, 12, 40)), (7, (3,))])
def test_picture_names_every_class(tmp_path, num_classes, counts):
  names = [f"action {i}" + " with a very long name indeed" * (i % 7 == 3)
           for i in range(num_classes)]
  rng = np.random.default_rng(0)
  levels = {f"level {i}": rng.permutation(np.arange(num_classes) % count)
            for i, count in enumerate(counts, 1)}
  figure = pictures.superclass_figure(tmp_path / "groups.png", names, levels)
  assert imread(tmp_path / "groups.png").ndim == 3
  axis = figure.axes[0]
  boxes = [patch.get_window_extent() for patch in axis.patches]
  assert len(boxes) == sum(counts)
  texts = {}
  for text in axis.texts:
    texts.setdefault(text.get_text(), []).append(text)
  for name in names:
    assert len(texts[name]) == len(levels)
    for text in texts[name]:
      extent = text.get_window_extent()
      assert any(box.x0 <= extent.x0 and extent.x1 <= box.x1 and box.y0 <= extent.y0
                 and extent.y1 <= box.y1 for box in boxes), f"{name!r} leaves its box"
  for level, count in zip(levels, counts):
    assert f"{level}: {count} superclasses" in texts


def test_picture_refuses_other_numbers_of_classes(tmp_path):
  with pytest.raises(UserError, match="level 'a' assigns 3 classes"):
    pictures.superclass_figure(tmp_path / "groups.png", ["x", "y"], {"a": [0, 1, 0]})
  with pytest.raises(UserError, match="no level"):
    pictures.superclass_figure(tmp_path / "groups.png", ["x", "y"], {})
