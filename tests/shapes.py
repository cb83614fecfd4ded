"""Holds functions to the shapes in their docstrings while tests run.

`install` makes Python wrap the public functions and modules of `ROOMS` as their files are imported:
what `shape_statements` reads in a docstring becomes jaxtyping's types, and every call is checked
by jaxtyping and beartype. A call in which a docstring is wrong raises `Disagreement`. Under `jit`
the checks take place while tracing, and cost nothing later. Without jaxtyping and beartype (the
extra `typing`) nothing is wrapped.
"""
import ast
import contextlib
import functools
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import numbers
import pathlib
import sys
import types
from typing import Any, Union

import numpy as np

from tests import shape_statements
from tests.shape_statements import Contract, Shape, Statement

ROOMS = ("actionjax.models", "actionjax.ops", "actionjax.training.losses",
         "actionjax.data.loading")
INSTALLED = all(importlib.util.find_spec(name) for name in ("jaxtyping", "beartype"))
_CHECKED = "__checked__"  # the decorator, in the namespace of a wrapped module


class Disagreement(AssertionError):
  """A call whose arguments or result are not what the docstring says."""


def install() -> None:
  """Wraps the modules of `ROOMS` when they are imported, where the extra is installed."""
  if INSTALLED and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _Finder())


def files(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """The rooms' modules by dotted name; `root` holds the package."""
  found = {}
  for room in ROOMS:
    place = root.joinpath(*room.split("."))
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
      found[".".join(path.relative_to(root).with_suffix("").parts)] = path
  return found


class _Finder(importlib.abc.MetaPathFinder):
  def find_spec(self, fullname, path=None, target=None):
    """Python's own, with another loader for modules of `ROOMS`."""
    if not any(f"{fullname}.".startswith(f"{room}.") for room in ROOMS):
      return None
    spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
    if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
      spec.loader = _Loader(spec.loader.name, spec.loader.path)
    return spec


class _Loader(importlib.machinery.SourceFileLoader):
  def get_code(self, fullname):
    """The wrapped code; never read from or written to the cache of compiled files."""
    source = self.get_data(self.path)
    return compile(_decorated(source, shape_statements.read(source.decode())), self.path, "exec",
                   dont_inherit=True)

  def exec_module(self, module):
    """Runs the module with the decorator in its namespace."""
    contracts = shape_statements.read(self.get_data(self.path).decode())
    setattr(module, _CHECKED, lambda name: functools.partial(_decorate, name, contracts[name]))
    super().exec_module(module)


def load(source: str, name: str = "planted") -> types.ModuleType:
  """A module with checked functions from source code; for tests of the checks."""
  module = types.ModuleType(name)
  contracts = shape_statements.read(source)
  setattr(module, _CHECKED, lambda name: functools.partial(_decorate, name, contracts[name]))
  exec(compile(_decorated(source, contracts), name, "exec"), module.__dict__)
  return module


def _decorated(source: str | bytes, contracts: dict[str, Contract]) -> ast.Module:
  """The code with `@__checked__(name)` next to each function, below its other decorators, and
  above those of each class that is no module."""
  tree = ast.parse(source)
  definitions = [(node.name, node) for node in tree.body if hasattr(node, "decorator_list")]
  for name, node in list(definitions):
    if isinstance(node, ast.ClassDef):
      definitions += [(f"{name}.{part.name}", part) for part in node.body
                      if isinstance(part, ast.FunctionDef)]
  for name, node in definitions:
    if name in contracts:
      call = ast.parse(f"{_CHECKED}({name!r})", mode="eval").body
      for part in ast.walk(call):
        ast.copy_location(part, node)
      node.decorator_list.insert(0 if isinstance(node, ast.ClassDef) else
                                 len(node.decorator_list), call)
  return tree


def _decorate(name: str, contract: Contract, thing):
  name = f"{thing.__module__}.{name}"
  if not inspect.isclass(thing):
    return _checked(name, contract, thing)
  if issubclass(thing, tuple):
    thing.__new__ = _checked(name, contract, thing.__new__, fields=True)
  else:
    thing.__init__ = _checked(name, contract, thing.__init__, fields=True)
  return thing


def _checked(name: str, contract: Contract, function, fields: bool = False):
  """`function`, held to a contract; `fields`: to that of the fields of what it has made."""
  import jaxtyping
  signature = inspect.signature(function)
  owned = "self" in signature.parameters
  before = sorted((s for s in contract.statements if s.of in ("argument", "field")),
                  key=lambda s: any(shape.needs for shape in s.shapes))  # arithmetic comes last
  after = [s for s in contract.statements if s.of in ("variable", "result")]
  known = set().union(*(shape.names | shape.needs for s in contract.statements
                        for shape in s.shapes))
  if fields:
    before, after = [], before

  @functools.wraps(function)
  def checked(*args, **kwargs):
    try:
      bound = signature.bind(*args, **kwargs)
    except TypeError:
      return function(*args, **kwargs)  # it says itself what is wrong
    bound.apply_defaults()
    values = bound.arguments
    owner = values.get("self") if owned else None
    with jaxtyping.jaxtyped("context"):
      if not fields:
        _bind_sizes(contract, known, values, owner)
      problems = [_problem(s, _subject(s, values, owner)) for s in before]
      result = function(*args, **kwargs)  # its own complaints come first
      owner = result if owner is None else owner
      problems += [_problem(s, result if s.of == "result" else _subject(s, values, owner))
                   for s in after]
      if problems := [problem for problem in problems if problem]:
        raise Disagreement(f"{name}: " + "; ".join(problems) + _bindings())
    return result

  checked.__contract__ = contract
  return checked


def _bind_sizes(contract: Contract, known: set[str], values: dict[str, Any], owner) -> None:
  """Gives names the values of arguments and fields that are called so, or said to be so."""
  import jaxtyping

  def bind(name, size):
    if isinstance(size, numbers.Integral) and not isinstance(size, bool) and size >= 0:
      isinstance(np.broadcast_to(np.int8(0), (int(size),)), jaxtyping.Shaped[Any, name])

  def value(name):
    return values[name] if name in values else getattr(owner, name, None)

  for name in known:
    plain = name.removeprefix("len_")
    bind(name, value(name) if name == plain else len(value(plain)))
  for name, axes in contract.sizes:
    sizes = value(name)
    sizes = sizes if isinstance(sizes, (tuple, list)) else (sizes,)
    for axis, size in zip(axes, sizes):
      if axis in known:
        bind(axis, size)


class _Absent:
  """What is not there."""


def _subject(statement: Statement, values: dict[str, Any], owner):
  """The argument, field or variable that a statement is about."""
  if statement.of == "argument":
    return values[statement.name]
  if statement.of == "field":
    return getattr(owner, statement.name)
  if not owner.has_variable("params", statement.name):
    return _Absent
  return owner.get_variable("params", statement.name)


def _problem(statement: Statement, value) -> str:
  """What is wrong with a value, or nothing."""
  if statement.of == "result" and isinstance(value, list) and value and (
      all(isinstance(part, tuple) for part in value)):
    return next(filter(None, (_problem(statement, part) for part in value)), "")
  if statement.key:
    parts = value if isinstance(value, tuple) else (value,)
    dicts = [part for part in parts if hasattr(part, "keys")]
    if not dicts and len(parts) == statement.place[1] > 1:
      value = parts[statement.place[0]]
    else:
      value = dicts[0].get(statement.key, _Absent) if dicts else _Absent
  elif statement.of == "result" and isinstance(value, tuple) and statement.many != "elements":
    index, count, phrase = statement.place
    if count == 1 and len(value) > 1:
      index = phrase
    if index >= len(value) or 1 < count < len(value):
      return f"the docstring gives {count} of {len(value)} elements of the result a shape"
    value = value[index]
  elif statement.of == "result" and statement.place[1] > 1:
    return f"the result is no tuple of {statement.place[1]}"
  if value is _Absent:
    return "" if statement.optional else f"there is no {statement.subject}"
  if isinstance(value, types.GeneratorType):
    return ""
  wrong = [part for part in _arrays(value, statement.shapes) if not _agrees(part, statement.shapes)]
  said = " or ".join(shape.text for shape in statement.shapes)
  return f"{statement.subject} is {_described(wrong[0])}, said to be {said}" if wrong else ""


def _arrays(value, shapes: tuple[Shape, ...]) -> list:
  """What must have a shape: one array, or each of a dict's or a list's; nothing of None."""
  if value is None:
    return []
  if hasattr(value, "values") and hasattr(value, "keys"):
    return [part for held in value.values() for part in _arrays(held, shapes)]
  if isinstance(value, (list, tuple)):
    with contextlib.suppress(ValueError):  # of different lengths
      array = np.asarray(value) if _numbers(value) else None
      if array is not None and any(array.ndim == len(shape.axes) for shape in shapes):
        return [array]
    return [part for held in value for part in _arrays(held, shapes)]
  return [np.asarray(value) if isinstance(value, numbers.Number) else value]


def _numbers(value) -> bool:
  """Whether lists hold numbers and nothing else."""
  if isinstance(value, (list, tuple)):
    return all(map(_numbers, value))
  return isinstance(value, numbers.Number)


def _agrees(value, shapes: tuple[Shape, ...]) -> bool:
  from beartype.door import is_bearable
  return is_bearable(value, Union[tuple(_hint(shape) for shape in shapes)])  # noqa: UP007


@functools.cache
def _hint(shape: Shape):
  import jaxtyping
  return getattr(jaxtyping, shape.dtype)[Any, " ".join(shape.axes)]


def _described(value) -> str:
  if not hasattr(value, "shape"):
    return f"of type {type(value).__name__}"
  return f"{value.dtype}[{','.join(map(str, value.shape))}]"


def _bindings() -> str:
  """The names' values, as jaxtyping has them."""
  import jaxtyping
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    jaxtyping.print_bindings()
  return f"\n{printed.getvalue().strip()}"
