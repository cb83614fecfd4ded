"""Configs: finding the file, its arguments, and turning sections into objects.

A config file has `get_config(arg) -> ConfigDict`. `--config=FILE:ARG` hands ARG
over, and `--config.KEY=VALUE` changes one value. Nothing reads a section with
defaults of its own: a section becomes the keyword arguments of the thing it
configures, so that a key which nothing reads is an error and not a no-op.
"""
import ast
import difflib
import importlib
import importlib.util
import inspect
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from actionjax import annotations, overrides, renamed
from actionjax.errors import UserError

# Networks are built from plain dicts too, where this library is not installed.
try:
  import ml_collections
except ModuleNotFoundError:
  ml_collections = None
if TYPE_CHECKING:
  from ml_collections import ConfigDict


def find_file(path: str) -> pathlib.Path:
  """The config file at `path`, else the one of that name shipped with the package.

  Raises:
    UserError: neither exists; the message lists the shipped ones.
  """
  given = pathlib.Path(path)
  if given.is_file():
    return given
  shipped = shipped_directory()
  inside = shipped / given.name
  # Only `name.py` and `configs/name.py` fall back: another folder was meant to be that folder.
  if given.parent.name in ("", "configs") and inside.is_file():
    return inside
  known = ", ".join(sorted(p.stem for p in shipped.glob("*.py") if p.stem != "__init__"))
  raise UserError(f"config file {path} does not exist; shipped configs: {known} "
                  "(as --config=configs/NAME.py)")


def shipped_directory() -> pathlib.Path:
  """The folder of the shipped configs, in a checkout and in an installed wheel alike."""
  checkout = pathlib.Path(__file__).resolve().parent.parent / "configs"
  if (checkout / "quickstart.py").is_file():
    return checkout
  spec = importlib.util.find_spec("actionjax.configs")
  return pathlib.Path(spec.origin).parent if spec and spec.origin else checkout


def load(name: str) -> "ConfigDict":
  """The config of `FILE.py[:ARG]`, as `--config` takes it.

  Raises:
    UserError: no such file, one without `get_config`, or configs cannot be read here.
  """
  if ml_collections is None:
    raise UserError("configs need ml_collections: pip install ml_collections")
  path, _, arg = name.partition(":")
  file = find_file(path)
  spec = importlib.util.spec_from_file_location(f"actionjax_config_{file.stem}", file)
  module = importlib.util.module_from_spec(spec)
  try:
    spec.loader.exec_module(module)
  except ImportError as error:
    _refuse_old_name(error, str(file))
    raise
  if not hasattr(module, "get_config"):
    raise UserError(f"{file} defines no get_config(arg)")
  return module.get_config(arg) if arg else module.get_config()


def arguments(arg: str | None, **defaults) -> Any:
  """Parses a config's argument string, e.g. "cpu,seed=3,attention=none".

  Args:
    arg: comma-separated `key=value`, or a bare `key` for `key=True`.
    **defaults: every known key with its default, whose type the value must have.

  Returns:
    An object with one attribute a key.

  Raises:
    UserError: an unknown key, or a value of another type than its default.
  """
  values = dict(defaults)
  for item in _items(arg):
    key, equals, text = item.partition("=")
    if key not in defaults:
      raise UserError(f"config argument {key!r} is not known{_nearest(key, defaults)}; "
                      f"known: {', '.join(defaults)}")
    default = defaults[key]
    if not equals:
      if not isinstance(default, bool):
        raise UserError(f"config argument {key!r} needs a value, as in {key}={default}")
      values[key] = True
    elif isinstance(default, str):
      values[key] = text
    else:
      values[key] = _typed(text, type(default), item)
  return ml_collections.FrozenConfigDict(values)


def named(arg: str | None) -> set[str]:
  """Names of the arguments that a config's argument string gives a value."""
  return {item.partition("=")[0] for item in _items(arg)}


def _items(arg: str | None) -> list[str]:
  return [item for item in (arg or "").split(",") if item]


def config(*, name: str, steps: Iterable[Mapping], seed: int = 0, data_dir: str | None = None,
           **sections) -> "ConfigDict":
  """A config; see `planning` for what it holds.

  Args:
    name: of the config.
    steps: its steps in order, plain dicts.
    seed: of every random number.
    data_dir: of prepared datasets; None leaves it to `--config.data_dir` and the environment.
    **sections: what its steps share, such as `data` and `batch_size`.

  Returns:
    All of it as ConfigDicts, also what is nested in tuples, so that `--config.KEY=VALUE` reaches
    every value. No two places share one, so that it reaches no other.
  """
  place = ml_collections.config_dict.placeholder(str)
  place.set(data_dir)
  return _config_dict({"name": name, "seed": seed, "data_dir": place, **sections,
                       "steps": tuple(steps)})


def _config_dict(value: Any) -> Any:
  if hasattr(value, "keys"):
    made = ml_collections.ConfigDict()
    for key in value:
      made[key] = _config_dict(value[key])
    return made
  if isinstance(value, (tuple, list)):
    return tuple(_config_dict(item) for item in value)
  return value


_KINDS = {bool: "true or false", int: "an integer", float: "a number"}


def _typed(text: str, kind: type, item: str) -> Any:
  """The value of a config argument; nothing is rounded or guessed."""
  try:
    # "false" as well as "False": `--config.KEY=false` takes both too.
    value = ast.literal_eval(text.title() if text in ("true", "false") else text)
  except (ValueError, SyntaxError):
    value = None
  if kind is bool and type(value) is int and value in (0, 1):
    value = bool(value)
  elif kind is float and type(value) is int:
    value = float(value)
  if type(value) is not kind:
    raise UserError(f"config argument {item!r}: {text!r} is not {_KINDS[kind]}")
  return value


def to_dict(section: Any) -> Any:
  """ConfigDicts, nested in tuples too, as plain dicts."""
  if hasattr(section, "keys"):  # A ConfigDict is no Mapping.
    return {key: to_dict(section[key]) for key in section}
  if isinstance(section, (tuple, list)):
    return tuple(to_dict(value) for value in section)
  return section


def check_keys(section: Mapping, known, path: str) -> None:
  """Raises UserError where `section` has a key that is not among `known`."""
  for key in section:
    if key not in known and renamed.KEYS.get(key) in known:
      raise UserError(f"{path}.{key} is now {path}.{renamed.KEYS[key]}")
    if key not in known:
      raise UserError(f"{path} has no key {key!r}{_nearest(key, known)}; "
                      f"known: {', '.join(sorted(known))}")


def build(target: Callable, section: Mapping, path: str, **extra):
  """Calls `target(**section, **extra)` after checking every key.

  Unset values (None) take the target's defaults.

  Args:
    target: a dataclass, a linen module class or a function.
    section: its keyword arguments.
    path: the section's place in the config, for messages, e.g. "config.steps[1].optim".
    **extra: arguments that do not come from the config.

  Raises:
    UserError: a key that `target` does not take, one that it needs and does not get, or a
      value that it refuses.
  """
  parameters = inspect.signature(target).parameters
  known = {name for name in parameters if name not in extra and name not in ("parent", "name")}
  if "name" in parameters and not hasattr(target, "apply"):
    known.add("name")
  check_keys(section, known, path)
  values = {key: value for key, value in to_dict(section).items() if value is not None}
  missing = [name for name in known - set(values)
             if parameters[name].default is inspect.Parameter.empty
             and parameters[name].kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD,
                                           inspect.Parameter.KEYWORD_ONLY)]
  if missing:
    raise UserError(f"{path} lacks {', '.join(sorted(missing))}")
  check_types(target, values, path)
  try:
    return target(**values, **extra)
  except (TypeError, ValueError) as error:
    raise UserError(f"{path}: {error}") from error


def check_types(target: Callable, values: Mapping, path: str) -> None:
  """Raises UserError where a value is not what the annotation of `target` says."""
  hints = annotations.of(target)
  for name, value in values.items():
    wanted = annotations.mismatch(hints[name], value) if name in hints else None
    if wanted:
      raise UserError(f"{path}.{name} must be {wanted}, got {value!r}")


def merge(base: Mapping, override: Mapping) -> dict:
  """`base` with `override` laid over it, section by section; both stay as they are."""
  merged = dict(base)
  for key, value in override.items():
    if isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
      merged[key] = merge(merged[key], value)
    elif value is not None or key not in merged:
      merged[key] = value
  return merged


def plugin(package: str, name: str, attribute: str, path: str):
  """`attribute` of the module `package.name`, or of a dotted module path.

  Raises:
    UserError: no such module; the message lists the package's modules.
  """
  module_name = name if "." in name else f"{package}.{name}"
  if renamed.module(module_name):
    new = renamed.MODULES[module_name]
    raise UserError(f"{path}: {name!r} is now {new.removeprefix(package + '.')!r}")
  try:
    module = importlib.import_module(module_name)
    return getattr(module, attribute)
  except ModuleNotFoundError as error:
    if error.name is None or not module_name.startswith(error.name):
      _refuse_old_name(error, f"{path}: {module_name}")
      raise
  except ImportError as error:
    _refuse_old_name(error, f"{path}: {module_name}")
    raise
  except AttributeError:
    pass
  folder = pathlib.Path(importlib.import_module(package).__file__).parent
  defines = re.compile(rf"^((class|def) {attribute}\b|{attribute} = )", re.MULTILINE)
  known = sorted(p.stem for p in folder.glob("*.py") if p.stem != "__init__"
                 and defines.search(p.read_text()))
  raise UserError(f"{path}: there is no {module_name} with a {attribute}; "
                  f"known: {', '.join(known)}")


def _refuse_old_name(error: ImportError, place: str) -> None:
  """Raises UserError where a user's file imports a module of this package by an old name."""
  line = renamed.explain(error)
  if line:
    raise UserError(f"{place}: {line}") from error


def define_flag() -> flags.FlagHolder:
  """Defines `--config`; read it with `given` after `parse_flags`."""
  return flags.DEFINE_string(
      "config", None, "Config file, FILE.py[:ARGUMENT]; --config.KEY=VALUE changes a value.")


def given(flag: flags.FlagHolder) -> "ConfigDict":
  """The parsed `--config`. Raises UserError where it was left out."""
  if flag.value is None:
    raise UserError("--config=FILE.py is missing, for example --config=configs/quickstart.py")
  return flag.value


def parse_flags(argv: list[str]) -> list[str]:
  """absl's flag parser; `--config` becomes the config that its file makes, values changed.

  Raises:
    UserError: a wrong flag, no such config file, or a change that leads nowhere.
  """
  argv, changes = overrides.split(_join_config_argument(argv))
  try:
    rest = flags.FLAGS(argv)
  except (flags.Error, TypeError, ValueError) as error:
    raise UserError(str(error).splitlines()[0]) from error
  flag = flags.FLAGS["config"]
  if flag.value is not None:
    flag.value = load(flag.value)
    overrides.apply(flag.value, changes)
  elif changes:
    raise UserError(f"flag --config.{next(iter(changes))} changes a config: "
                    "give --config=FILE.py too")
  return rest


def _join_config_argument(argv: list[str]) -> list[str]:
  """`--config FILE` as `--config=FILE`, which is how the rest reads it."""
  joined, skip = [], False
  for position, argument in enumerate(argv):
    if skip:
      skip = False
    elif argument == "--config" and position + 1 < len(argv):
      joined.append(f"--config={argv[position + 1]}")
      skip = True
    else:
      joined.append(argument)
  return joined


def _nearest(key: str, known) -> str:
  close = difflib.get_close_matches(key, list(known), n=1)
  return f" (did you mean {close[0]!r}?)" if close else ""
