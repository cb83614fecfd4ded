"""Multiply-adds of a traced function: its convolutions and matrix products."""
import math
from collections.abc import Callable

import jax

from actionjax.ops import memory


def count(function: Callable, *arguments) -> int:
  """Floating-point operations (two a multiply-add) of one call, element-wise work not counted.

  Args:
    function: traced with `arguments`, arrays or `jax.ShapeDtypeStruct`s.
  """
  return _of_jaxpr(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of_jaxpr(jaxpr) -> int:
  return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation) -> int:
  outputs = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
  if equation.primitive.name == "conv_general_dilated":
    kernel = equation.invars[1].aval.shape
    # Of the kernel all but its output channels is summed over, for each output.
    channels = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2 * outputs * math.prod(kernel) // max(channels, 1)
  if equation.primitive.name == "dot_general":
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return 2 * outputs * math.prod(shape[axis] for axis in contracted)
  times = equation.params.get("length", 1) if equation.primitive.name == "scan" else 1
  return times * sum(_of_jaxpr(inner) for inner in memory.inner_programs(equation))
