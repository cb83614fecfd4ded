"""Whether a value is what an annotation says: how values of configs are checked."""
import collections.abc
import functools
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal


def mismatch(annotation: Any, value: Any) -> str | None:
  """What `value` must be, in words; None where it is that already.

  Of annotations that say nothing about plain values (`Any`, callables, classes of this package)
  everything is accepted. Lists count as tuples, as configs and JSON write them.
  """
  return None if _fits(annotation, value) else _words(annotation)


def check_fields(value: Any, skip: tuple[str, ...] = ()) -> None:
  """Raises ValueError where a field of a dataclass is not what its annotation says."""
  for name, annotation in of(type(value)).items():
    wanted = None if name in skip else mismatch(annotation, getattr(value, name))
    if wanted:
      raise ValueError(f"{name} must be {wanted}, got {getattr(value, name)!r}")


@functools.cache
def of(target: Callable) -> Mapping[str, Any]:
  """Annotations of a function's parameters or a class' fields, by name."""
  try:
    return typing.get_type_hints(target)
  except (NameError, TypeError):  # a name that only its own module knows, or none to be had
    return {}


def _fits(annotation, value) -> bool:
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  if annotation in (None, type(None)):
    return value is None
  if origin in (typing.Union, types.UnionType):
    return any(_fits(one, value) for one in args)
  if origin is Literal:
    return any(type(value) is type(one) and value == one for one in args)
  if annotation is bool:
    return isinstance(value, bool)
  if annotation is int:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
  if annotation is float:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
  if annotation is str:
    return isinstance(value, str)
  if origin in (tuple, collections.abc.Sequence, list) or annotation in (tuple, list):
    if isinstance(value, str) or not isinstance(value, collections.abc.Sequence):
      return False
    if origin is tuple and args[-1:] != (Ellipsis,):
      return len(value) == len(args) and all(map(_fits, args, value))
    return not args or all(_fits(args[0], one) for one in value)
  if origin in (collections.abc.Mapping, dict) or annotation in (dict, collections.abc.Mapping):
    return isinstance(value, collections.abc.Mapping) or hasattr(value, "keys")
  return True


def _words(annotation) -> str:
  origin, args = typing.get_origin(annotation), typing.get_args(annotation)
  plain = {None: "None", type(None): "None", bool: "True or False", int: "an integer",
           float: "a number", str: "text"}
  if annotation in plain:
    return plain[annotation]
  if origin in (typing.Union, types.UnionType):
    # None stands for what was left out: nobody needs to be told of it.
    return " or ".join(_words(one) for one in args if one is not type(None))
  if origin is Literal:
    return f"one of {', '.join(map(str, args))}"
  if origin is tuple and args[-1:] != (Ellipsis,):
    return f"({', '.join(map(_words, args))})"
  if origin in (tuple, collections.abc.Sequence, list):
    return f"several of: {_words(args[0])}" if args else "several values"
  if origin in (collections.abc.Mapping, dict) or annotation in (dict, collections.abc.Mapping):
    return "a section"
  return getattr(annotation, "__name__", str(annotation))
