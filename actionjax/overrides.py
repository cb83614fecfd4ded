"""`--config.KEY=VALUE`: values of a config that the command line changes.

KEY leads to any field that something reads, whether the config spells it out or leaves it to its
default: `steps[0].batch_size`, `data.variant`, `steps[1].optim.clip_norm`. What nothing reads is
refused by the plan, as in a file.
"""
import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from actionjax.errors import UserError

if TYPE_CHECKING:
  from ml_collections import ConfigDict

_PREFIX = "--config."
_KEY = re.compile(r"[A-Za-z_]\w*(\[\d+\])*(\.[A-Za-z_]\w*(\[\d+\])*)*")


def split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
  """The arguments without overrides, and these: key -> text of the value, in their order.

  A value may stand behind "=" or be the next argument. After "--" nothing is looked at.

  Raises:
    UserError: a key that is none, or one without a value.
  """
  rest: list[str] = []
  found: dict[str, str] = {}
  arguments = iter(argv)
  for argument in arguments:
    if argument == "--":
      return [*rest, argument, *arguments], found
    if not argument.startswith(_PREFIX):
      rest.append(argument)
      continue
    key, equals, value = argument.removeprefix(_PREFIX).partition("=")
    if not _KEY.fullmatch(key):
      raise UserError(f"flag {argument}: {key!r} must be a key such as steps[0].batch_size")
    if not equals:
      value = next(arguments, None)
      if value is None or value.startswith("--"):
        raise UserError(f"flag {argument} needs a value: {argument}=VALUE")
    found[key] = value
  return rest, found


def apply(config: "ConfigDict", found: dict[str, str]) -> None:
  """Lays overrides over a config.

  A value is read as Python writes it (numbers, tuples, true and false, none) and is a string
  otherwise; where the config holds a string it stays one.

  Raises:
    UserError: a key leads through a value that has no fields, or past the end of a sequence.
  """
  for key, text in found.items():
    names = [int(part[1:-1]) if part.startswith("[") else part
             for part in re.findall(r"\w+|\[\d+\]", key)]
    _set(config, names, text, "config")


def _set(value: Any, names: list, text: str, path: str) -> Any:
  """`value` with what `names` lead to replaced; sections are changed in place."""
  from ml_collections import ConfigDict
  if not names:
    return _read(text, value)
  name, *rest = names
  if isinstance(name, int):
    if not isinstance(value, (tuple, list)):
      raise UserError(f"{path} is no sequence, so that there is no {path}[{name}]")
    if name >= len(value):
      raise UserError(f"{path}[{name}]: {path} has {len(value)} entries, counted from 0")
    items = list(value)
    items[name] = _set(items[name], rest, text, f"{path}[{name}]")
    return type(value)(items)
  section = ConfigDict() if value is None else value
  if not isinstance(section, ConfigDict):
    what = "a sequence" if isinstance(section, (tuple, list)) else repr(section)
    raise UserError(f"{path} is {what}, no section with a key {name!r}")
  with section.unlocked(), section.ignore_type():
    section[name] = _set(section.get(name), rest, text, f"{path}.{name}")
  return section


def _read(text: str, before: Any) -> Any:
  """A value from its text. `before` is what the config holds in its place."""
  words = {"true": True, "false": False, "none": None}
  try:
    value = words[text.lower()] if text.lower() in words else ast.literal_eval(text)
  except (ValueError, SyntaxError, MemoryError, RecursionError):
    return text
  if isinstance(before, str) and value is not None and not isinstance(value, str):
    return text
  return float(value) if isinstance(before, float) and type(value) is int else value
