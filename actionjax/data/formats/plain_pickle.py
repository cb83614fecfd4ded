"""Reads pickles of plain containers and NumPy arrays, and executes nothing in them.

`pickle.load` calls whatever a file tells it to call. Here `pickletools.genops` only decodes the
instructions, and those that build numbers, text, containers and NumPy arrays are followed by the
machine below, which has no means to import, to call or to set attributes. A file that asks for
anything else is refused by the name of what it asked for. Memory stays within a small multiple of
the file's size: an array is as large as the bytes the file gives for it, or refused.
"""
import math
import os
import pickletools
import re

import numpy as np

from actionjax.data.formats import raw_files
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

# What a pickle may name. NumPy 2 moved numpy.core to numpy._core; files name either.
_NUMPY = {f"numpy.{core}.{name}": name.rpartition(".")[2] for core in ("core", "_core")
          for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")}
_KNOWN = _NUMPY | {
    "numpy.ndarray": "ndarray", "numpy.dtype": "dtype",
    # How bytes, sets and ordered dicts are written in the older protocols.
    "_codecs.encode": "encode", "collections.OrderedDict": "dict",
    "builtins.set": "set", "__builtin__.set": "set",
    "builtins.frozenset": "set", "__builtin__.frozenset": "set",
    "builtins.bytearray": "bytes", "__builtin__.bytearray": "bytes", "__builtin__.bytes": "bytes",
    "builtins.bytes": "bytes"}
_NUMBERS_AND_TEXT = re.compile(r"[<>=|]?(b1|\?|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5})")
_KEYS = (str, bytes, int, float, bool, type(None))


def load(path) -> object:
  """The content of a pickle file.

  Args:
    path: of the file.

  Returns:
    dicts, lists, tuples, sets, numbers, text, bytes and read-only NumPy arrays.

  Raises:
    RawDataError: the file asks for anything else (named), holds an array of objects or of
      another size than its shape says, is damaged, or cannot be opened.
  """
  try:
    with open(path, "rb") as file:
      return _Machine(path).run(_Bounded(file))
  except RawDataError:
    raise
  except OSError as error:
    raise RawDataError(f"{path} cannot be read ({error.strerror})") from None
  # Damage shows as whatever the decoder or an operation on the stack trips over.
  except Exception as error:
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    raise RawDataError(f"{path} is not a readable pickle ({reason}); fetch it again") from None


class _Bounded:
  """A file that never sets memory aside for more bytes than it has left."""

  def __init__(self, file):
    self._file = file
    self._size = os.fstat(file.fileno()).st_size
    self.readline, self.tell = file.readline, file.tell

  def read(self, count: int) -> bytes:
    return self._file.read(min(count, self._size - self._file.tell()))


class _Name:
  """Something that the pickle names; it can only be recognised, never called."""

  def __init__(self, kind: str):
    self.kind = kind


class _Type:
  """A dtype as the pickle describes it: first its text, then its byte order."""

  def __init__(self, text: str):
    self.text, self.order = text, "="


class _Pending:
  """An array that is announced, whose content follows."""

  def __init__(self):
    self.places = []


class _Machine:
  """Follows a pickle's instructions: a stack, marks in it, and a memo."""

  def __init__(self, path):
    self._path = path
    self._stack, self._marks, self._memo = [], [], {}

  def _refuse(self, what: str) -> RawDataError:
    return RawDataError(f"{self._path} {what}; only NumPy arrays of numbers or text and plain "
                        "containers are read from a pickle, and nothing in it was run")

  def run(self, file) -> object:
    """Follows the instructions to the end; the value that they leave."""
    for code, argument, _ in pickletools.genops(file):
      name = code.name
      if name in _VALUES:
        self._stack.append(argument)
      elif name in _CONSTANTS:
        self._stack.append(_CONSTANTS[name]())
      elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        self._put(argument)
      elif name == "MEMOIZE":
        self._put(len(self._memo))
      elif name in ("GET", "BINGET", "LONG_BINGET"):
        self._stack.append(self._memo[argument])
      elif name == "STOP":
        return self._stack.pop()
      elif name not in ("PROTO", "FRAME"):
        step = getattr(self, f"_do_{name.lower()}", None)
        if step is None:
          asks = f" for {shown('.'.join(str(argument).split()))}" if name == "INST" else ""
          raise self._refuse(f"asks{asks} to build an object ({name})")
        step(argument)
    raise ValueError("it has no end")

  def _put(self, key: int) -> None:
    self._memo[key] = self._stack[-1]
    if isinstance(self._stack[-1], _Pending):
      self._stack[-1].places.append(key)

  # ---- the stack -------------------------------------------------------------------

  def _do_mark(self, _):
    self._marks.append(len(self._stack))

  def _since_mark(self) -> list:
    start = self._marks.pop()
    items = self._stack[start:]
    del self._stack[start:]
    return items

  def _do_pop(self, _):
    if self._marks and self._marks[-1] == len(self._stack):
      self._marks.pop()
    else:
      self._stack.pop()

  def _do_pop_mark(self, _):
    self._since_mark()

  def _do_dup(self, _):
    self._stack.append(self._stack[-1])

  # ---- containers ------------------------------------------------------------------

  def _do_tuple(self, _):
    self._stack.append(tuple(self._since_mark()))

  def _last(self, count: int) -> list:
    if len(self._stack) < count:
      raise ValueError("its stack is empty")
    items = self._stack[-count:]
    del self._stack[-count:]
    return items

  def _do_tuple1(self, _):
    self._stack.append(tuple(self._last(1)))

  def _do_tuple2(self, _):
    self._stack.append(tuple(self._last(2)))

  def _do_tuple3(self, _):
    self._stack.append(tuple(self._last(3)))

  def _do_list(self, _):
    self._stack.append(self._since_mark())

  def _extend(self, items: list) -> None:
    if type(self._stack[-1]) is not list:
      raise self._refuse(f"appends to a {type(self._stack[-1]).__name__}")
    self._stack[-1].extend(items)

  def _do_append(self, _):
    self._extend(self._last(1))

  def _do_appends(self, _):
    self._extend(self._since_mark())

  def _fill(self, target: dict, items: list) -> dict:
    if type(target) is not dict or len(items) % 2:
      raise self._refuse(f"sets items of a {type(target).__name__}")
    for key, value in zip(items[::2], items[1::2]):
      # Hashing a deeply nested tuple would exhaust the interpreter's own stack.
      if type(key) not in _KEYS:
        raise self._refuse(f"has a {type(key).__name__} for a key")
      target[key] = value
    return target

  def _do_dict(self, _):
    self._stack.append(self._fill({}, self._since_mark()))

  def _do_setitem(self, _):
    items = self._last(2)
    self._fill(self._stack[-1], items)

  def _do_setitems(self, _):
    items = self._since_mark()
    self._fill(self._stack[-1], items)

  def _set(self, items) -> set:
    if not isinstance(items, (list, tuple)) or any(type(item) not in _KEYS for item in items):
      raise self._refuse("has a set of something else than numbers and text")
    return set(items)

  def _do_additems(self, _):
    items = self._set(self._since_mark())
    if type(self._stack[-1]) is not set:
      raise self._refuse(f"adds to a {type(self._stack[-1]).__name__}")
    self._stack[-1].update(items)

  def _do_frozenset(self, _):
    self._stack.append(self._set(self._since_mark()))

  # ---- names, and the few calls that mean an array or a container ------------------

  def _name(self, name: str) -> None:
    if name not in _KNOWN:
      raise self._refuse(f"asks for {shown(name, 100)}")
    self._stack.append(_Name(_KNOWN[name]))

  def _do_global(self, argument):
    self._name(".".join(argument.split(" ", 1)))

  def _do_stack_global(self, _):
    module, name = self._last(2)
    if type(module) is not str or type(name) is not str:
      raise self._refuse("names something by no text")
    self._name(f"{module}.{name}")

  def _do_reduce(self, _):
    function, arguments = self._last(2)
    if not isinstance(function, _Name) or type(arguments) is not tuple:
      raise self._refuse(f"calls a {type(function).__name__}")
    kind = function.kind
    if kind == "_reconstruct":
      value = _Pending()
    elif kind == "dtype" and arguments and type(arguments[0]) is str:
      value = _Type(arguments[0])
    elif kind == "scalar" and len(arguments) == 2:
      value = self._array((), arguments[0], False, arguments[1])[()]
    elif kind == "_frombuffer" and len(arguments) == 4:
      data, dtype, shape, order = arguments
      value = self._array(shape, dtype, order == "F", data)
    elif kind == "encode" and len(arguments) == 2 and arguments[1] in ("latin1", "latin-1"):
      value = arguments[0].encode("latin-1")
    elif kind == "dict" and len(arguments) < 2:
      pairs = [list(pair) for pair in arguments[0]] if arguments else []
      value = self._fill({}, [item for pair in pairs for item in pair[:2]])
    elif kind == "set" and len(arguments) < 2:
      value = self._set(arguments[0] if arguments else [])
    elif kind == "bytes" and all(type(argument) in (bytes, str) for argument in arguments):
      value = _bytes(arguments[0]) if arguments else b""
    else:
      raise self._refuse(f"calls numpy.{kind} in an unknown way")
    self._stack.append(value)

  def _do_build(self, _):
    target, state = self._last(2)
    if type(state) is tuple and isinstance(target, _Type) and len(state) >= 2:
      target.order = state[1]
      value = target
    elif type(state) is tuple and isinstance(target, _Pending) and len(state) in (4, 5):
      shape, dtype, fortran, data = state[-4:]
      value = self._array(shape, dtype, fortran, data)
      for key in target.places:
        self._memo[key] = value
    else:
      raise self._refuse(f"sets the state of a {type(target).__name__}")
    self._stack.append(value)

  def _array(self, shape, dtype, fortran, data) -> np.ndarray:
    """An array over the file's own bytes; its shape has to account for all of them."""
    if not isinstance(dtype, _Type):
      raise self._refuse("has an array of no type")
    if not _NUMBERS_AND_TEXT.fullmatch(dtype.text) or dtype.order not in ("<", ">", "|", "="):
      raise self._refuse(f"holds an array of type {dtype.text[:20]!r}")
    kind = np.dtype(dtype.text).newbyteorder("=" if dtype.order == "|" else dtype.order)
    if type(shape) is not tuple or any(type(n) is not int or n < 0 for n in shape):
      raise self._refuse("has an array of no shape")
    data = _bytes(data)
    if math.prod(shape) * kind.itemsize != len(data):
      shown = ",".join(map(str, shape))[:60]
      raise self._refuse(f"gives {len(data)} bytes for an array {kind}[{shown}]")
    array = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
    if not raw_files.is_unicode(array):
      raise self._refuse("has an array of text that is none")
    return array


def _bytes(data) -> bytes:
  """Raw data; Python 2 wrote it as text."""
  if type(data) is str:
    return data.encode("latin-1")
  if type(data) not in (bytes, bytearray):
    raise ValueError(f"raw data is a {type(data).__name__}")
  return bytes(data)


_VALUES = frozenset((
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"))
_CONSTANTS = {"NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
              "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set, "EMPTY_TUPLE": tuple}
