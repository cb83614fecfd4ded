"""The jitted half of the superclass search: every restart's descent by exchanges of two classes."""
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

RANGE = 2**30  # sums of the integers that stand for costs stay below


def to_integers(costs: np.ndarray) -> tuple[np.ndarray, float]:
  """Costs times a power of two, rounded: int32[N,N], rows summing to less than `RANGE`."""
  largest = costs.sum(1).max()
  scale = 2.0 ** np.floor(np.log2((RANGE - len(costs)) / largest)) if largest > 0 else 1.0
  return np.rint(costs * scale).astype(np.int32), scale


def slots_of(starts: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Lays the classes out in slots, the same number for each superclass.

  Args:
    starts: superclass of each class, int[restarts,N].
    sizes: of the M superclasses, in descending order.

  Returns:
    classes: class in each slot int32[restarts,n], N and above in the slots that stay empty;
      superclass c has the slots from c * n / M on.
    layout: superclass of each slot, -1 for empty ones, int[n].
  """
  num_classes, num_superclasses = starts.shape[1], len(sizes)
  width = int(sizes[0])
  if width > 16:  # whole vectors of the CPU: 32 slots take a third of the time of 30
    width = -(-width // 8) * 8
  layout = np.where(np.arange(width) < sizes[:, None], np.arange(num_superclasses)[:, None], -1)
  layout = layout.reshape(-1)
  classes = np.empty((len(starts), len(layout)), np.int32)
  classes[:, layout >= 0] = np.argsort(starts.astype(np.int16), axis=1, kind="stable")
  classes[:, layout < 0] = np.arange(num_classes, len(layout))
  return classes, layout


# The jitted search. Slots, not classes, are the unit: a superclass is then a fixed range of slots,
# so that "the superclass of slot x" is a reshape where a table look-up would be slow. The
# gain of exchanging the classes in slots s and x, of superclasses c(s) and c(x), is
#   near[c(x),s] + near[c(s),x] - own[s] - own[x] - 2 e[s,x],
# which is not positive within a superclass, nor for an empty slot, whose `own` is huge. An
# exchange between superclasses a and b changes the gains of their slots only, so that a step
# takes time in proportion to their size times the number of classes.

class _State(NamedTuple):
  """One restart, with n slots, M superclasses, and P >= M rows of which the last may be unused."""
  twice: jax.Array  # int32[n,n]: 2 e of the classes in two slots
  near: jax.Array  # int32[M,n]: sum of e between a slot's class and those of a superclass
  own: jax.Array  # int32[n]: the same for the slot's own superclass; `RANGE` for an empty slot
  gains: jax.Array  # int32[P,n]: best gain of exchanging a slot's class with one of a superclass
  classes: jax.Array  # int32[n]: class in each slot
  gain: jax.Array  # int32[]: best gain of all
  slot: jax.Array  # int32[]: slot of the smallest class that has a part in such an exchange


def run(rounded: np.ndarray, classes: np.ndarray,
        layout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Runs every restart to its end.

  Args:
    rounded: from `to_integers`. classes, layout: from `slots_of`.

  Returns:
    The class in each slot, int32[restarts,n], and what it weighs within its superclass, the same.
  """
  slots = len(layout)
  twice = np.pad(2 * rounded, (0, slots - len(rounded)))
  empty = np.where(layout < 0, RANGE, 0).astype(np.int32)
  descend = compiled(len(classes), slots, int(layout.max()) + 1, jax.default_backend())
  return jax.device_get(descend(twice, classes, empty))


@functools.lru_cache(maxsize=32)
def compiled(restarts, slots, num_superclasses, backend):
  """The search of all restarts, compiled for these sizes."""
  shapes = [jax.ShapeDtypeStruct(shape, jnp.int32)
            for shape in ((slots, slots), (restarts, slots), (slots,))]
  lower = functools.partial(descend_all.lower, *shapes, num_superclasses)
  if backend != "cpu":
    together = min(restarts, max(1, 2**28 // slots**2))  # a gibibyte of `twice`
    return lower(together=together).compile()
  try:
    return lower(marked=True).compile()
  except (ImportError, jax.errors.JaxRuntimeError):  # a version that can't take such marks
    return lower().compile()


@functools.partial(jax.jit, static_argnums=3, static_argnames=("marked", "together"))
def descend_all(twice, classes, empty, num_superclasses, *, marked=False, together=None):
  """`_descend` for each row of classes; `together` of them at a time, else one by one."""
  call = functools.partial(_call, marked)
  descend = functools.partial(_descend, num_superclasses=num_superclasses, call=call)
  return lax.map(lambda row: call(descend, twice, row, empty, xla_cpu_small_call="true"), classes,
                 batch_size=together)


def _call(marked, function, *arguments, **marks):
  """Calls a function; on CPU with marks that keep XLA's optimisations in check.

  Left alone, XLA's CPU backend merges each part of a step into the parts that use its result and
  computes it over again there, for every element. A call marked `inlineable="false"` stays apart.
  One marked `xla_cpu_small_call="true"` becomes one native function, instead of dozens of
  kernels that take longer to start than to run. Without the marks the numbers are the same, and
  take several times as long.
  """
  result = jax.jit(function)(*arguments)
  if not marked:
    return result
  from jax.experimental.xla_metadata import set_xla_metadata
  return set_xla_metadata(result, inlineable="false", **marks)


def _descend(twice, classes, empty, *, num_superclasses, call):
  """One restart: (classes int32[n], own int32[n]) where no exchange lowers the cost."""
  slots = len(classes)
  width = slots // num_superclasses
  twice = twice[classes].T[classes]
  near = (twice >> 1).reshape(num_superclasses, width, slots).sum(1)
  member = jnp.arange(slots) // width == jnp.arange(num_superclasses)[:, None]
  own = jnp.where(member, near, 0).sum(0) + empty
  gains = lax.map(lambda a: _gains_of_superclass(twice, near, own, a),
                  jnp.arange(num_superclasses))
  if num_superclasses > 8:  # so that `_fold` can halve the rows
    gains = jnp.pad(gains, ((0, -num_superclasses % 8), (0, 0)), constant_values=-2**31)

  def step(state):
    twice, near, own, gains, classes, gain, slot = state
    partner = call(_partner, twice, near, own, classes, gain, slot)
    a, b = lax.div(slot, width), lax.div(partner, width)
    changed = call(_changed_rows, twice, near, slot, partner, a, b)
    twice, near, own, classes = call(_exchange, twice, near, own, classes, empty, *changed, slot,
                                     partner, a, b)
    fresh = [call(gains_of, twice, near, own, c)
             for gains_of in (_gains_of_superclass, _gains_with_superclass) for c in (a, b)]
    gains = call(_write_gains, gains, *fresh, a, b)
    return _State(twice, near, own, gains, classes, *call(_best, gains, classes))

  start = _State(twice, near, own, gains, classes, *call(_best, gains, classes))
  end = lax.while_loop(lambda state: state.gain > 0, step, start)
  return end.classes, end.own


def _best(gains, classes):
  """Best gain, and the slot of the smallest class with such a gain."""
  by_slot = _fold(lax.max, gains)
  gain = _fold(lax.max, by_slot)
  return gain, _smallest(by_slot == gain, classes)


def _partner(twice, near, own, classes, gain, slot):
  """Slot of the smallest class whose exchange with the one in `slot` has this gain."""
  width = len(own) // len(near)
  theirs = jnp.broadcast_to(_at(near, slot, 1)[:, None], (len(near), width)).reshape(-1)
  found = theirs + _at(near, lax.div(slot, width)) - _at(own, slot) - own - _at(twice, slot)
  return _smallest(found == gain, classes)


def _changed_rows(twice, near, s, t, a, b):
  """What an exchange of slots s and t, of superclasses a and b, makes of their rows of `twice`
  and of those of a and b in `near`; the columns of `near` that it swaps."""
  slot = lax.iota(jnp.int32, len(twice))

  def swapped(row):
    return jnp.where(slot == s, _at(row, t), jnp.where(slot == t, _at(row, s), row))

  of_s, of_t = swapped(_at(twice, t)), swapped(_at(twice, s))
  moved = (of_s - of_t) >> 1
  return (of_s, of_t, swapped(_at(near, a)) + moved, swapped(_at(near, b)) - moved,
          _at(near, s, 1), _at(near, t, 1))


def _exchange(twice, near, own, classes, empty, of_s, of_t, near_a, near_b, column_s, column_t,
              s, t, a, b):
  """`twice`, `near`, `own` and `classes` after the exchange, written in place."""
  width = len(own) // len(near)
  for row, slot in ((of_s, s), (of_t, t)):
    twice = _put(_put(twice, row[None], slot, 0), row[:, None], slot, 1)
  for column, slot in ((column_t, s), (column_s, t)):
    near = _put(near, column[:, None], slot, 1)
  for row, c in ((near_a, a), (near_b, b)):
    near = _put(near, row[None], c, 0)
    own = _put(own, lax.dynamic_slice_in_dim(row + empty, c * width, width), c * width, 0)
  class_s, class_t = _at(classes, s), _at(classes, t)
  return twice, near, own, _put(_put(classes, class_t[None], s, 0), class_s[None], t, 0)


def _gains_of_superclass(twice, near, own, a):
  """For each slot the best gain of an exchange with one of superclass a: a's row of `gains`."""
  superclasses, slots = near.shape
  width = slots // superclasses
  members = functools.partial(lax.dynamic_slice_in_dim, start_index=a * width, slice_size=width)
  parts = (members(near, axis=1) - members(own)).T[:, :, None]
  parts = parts - members(twice).reshape(width, superclasses, width)
  return _fold(lax.max, parts).reshape(slots) + _at(near, a) - own


def _gains_with_superclass(twice, near, own, a):
  """For a's slots the best gain with each superclass: a's columns of `gains`, int32[M,n/M]."""
  superclasses, slots = near.shape
  width = slots // superclasses
  members = functools.partial(lax.dynamic_slice_in_dim, start_index=a * width, slice_size=width)
  parts = (_at(near, a) - own)[:, None] - members(twice, axis=1)
  best = _fold(lax.max, parts.reshape(superclasses, width, width), 1)
  return best + members(near, axis=1) - members(own)


def _write_gains(gains, row_a, row_b, columns_a, columns_b, a, b):
  width = columns_a.shape[1]
  for row, columns, c in ((row_a, columns_a, a), (row_b, columns_b, b)):
    gains = _put(_put(gains, row[None], c, 0), columns, c * width, 1)
  return gains


def _at(x, index, axis=0):
  return lax.dynamic_index_in_dim(x, index, axis, keepdims=False)


def _put(x, part, start, axis):
  return lax.dynamic_update_slice_in_dim(x, part, start, axis)


def _smallest(mask, classes):
  """Slot of the smallest class among those that the mask leaves."""
  slots = len(classes)
  key = classes * slots + lax.iota(jnp.int32, slots)
  return lax.rem(_fold(lax.min, jnp.where(mask, key, 2**31 - 1)), slots)


def _fold(function, x, axis=0):
  """Reduces an axis by max or min, halving it while it is even and long: XLA's CPU backend
  splits long reductions in a way that leaves its vector units idle."""
  while x.shape[axis] > 8 and x.shape[axis] % 2 == 0:
    half = x.shape[axis] // 2
    x = function(lax.slice_in_dim(x, 0, half, axis=axis),
                 lax.slice_in_dim(x, half, None, axis=axis))
  return (jnp.max if function is lax.max else jnp.min)(x, axis)
