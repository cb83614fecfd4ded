"""How much memory a program needs, from its trace: nothing is compiled or run."""
import math
from collections.abc import Callable, Iterator

import jax
import jax.extend
import jax.numpy as jnp

GIB = 2**30
# XLA needed up to two and a half times what is counted here; on a CPU the host's batches and the
# libraries come on top of it.
_ON_CPU, _ELSEWHERE, _SHARE = GIB, 8 * GIB, 0.2


def budget() -> int:
  """Bytes that the arrays inside a network may take at once on one device, if nobody says.

  1 GiB on a CPU; elsewhere a fifth of the device's memory, at most 8 GiB.
  """
  if jax.default_backend() == "cpu":
    return _ON_CPU
  stats = jax.local_devices()[0].memory_stats() or {}
  return int(min(_ELSEWHERE, _SHARE * stats.get("bytes_limit", _ELSEWHERE / _SHARE)))


def peak_bytes(function: Callable, *arguments) -> int:
  """Most bytes of arrays that are alive at once in a call, its arguments and results among them.

  Operations count one by one, in the order of the trace: an array lives from where it is made to
  where it is last read. A compiler that fuses needs less, one that rearranges operands of
  convolutions more.

  Args:
    function: traced with `arguments`, arrays or `jax.ShapeDtypeStruct`s.
  """
  return _peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def size_bytes(tree) -> int:
  """Bytes of a tree of arrays or `jax.ShapeDtypeStruct`s."""
  return sum(math.prod(leaf.shape) * jnp.dtype(leaf.dtype).itemsize
             for leaf in jax.tree.leaves(tree))


def inner_programs(equation) -> Iterator:
  """The programs that one operation of a trace consists of: those of a call, a loop, a branch."""
  return _programs(equation.params.values())


def _programs(values):
  for value in values:
    if hasattr(value, "jaxpr"):  # closed
      yield value.jaxpr
    elif hasattr(value, "eqns"):
      yield value
    elif isinstance(value, (tuple, list)):
      yield from _programs(value)


def _peak(program) -> int:
  last_read = {}
  for number, equation in enumerate(program.eqns):
    last_read |= {variable: number for variable in _variables(equation.invars)}
  last_read |= {variable: len(program.eqns) for variable in _variables(program.outvars)}
  alive = {*_variables(program.invars), *program.constvars}
  now = peak = sum(map(_bytes, alive))
  for number, equation in enumerate(program.eqns):
    made = set(equation.outvars)
    within = max((_peak(inner) - sum(map(_bytes, inner.invars))
                  for inner in inner_programs(equation)), default=0)
    peak = max(peak, now + max(within, sum(map(_bytes, made))))
    alive |= made
    dead = {variable for variable in {*made, *_variables(equation.invars)}
            if last_read.get(variable, -1) <= number and variable in alive}
    alive -= dead
    now += sum(map(_bytes, made)) - sum(map(_bytes, dead))
  return peak


def _variables(atoms) -> list:
  return [atom for atom in atoms if not isinstance(atom, jax.extend.core.Literal)]


def _bytes(variable) -> int:
  shape = getattr(variable.aval, "shape", ())
  dtype = getattr(variable.aval, "dtype", None)
  # Keys of random numbers have a type of their own.
  return math.prod(shape) * getattr(dtype, "itemsize", 8)
