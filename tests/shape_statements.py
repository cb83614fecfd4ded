"""What docstrings say of shapes, read from source code.

A shape is a type and axes in brackets: `float32[B,T,J,3]`, `int[length]`, `[...,C]`. An axis is a
number, a name (also `T'`), `...`, or arithmetic on names: `h*w`, `ceil(T/stride)`, `len(source)`;
`T/4` must come out even. A name that is also a parameter of the function or a field of the module
has its value, and so have those that `Args:` and `Attributes:` explain: `scales: K.` and
`size: (H, W) of the maps.` Names hold for one call: B of an argument is B of all others and of the
result. Axes behind `...` are the same wherever the same axes stand before it.

A shape belongs to
* the parameter or field in whose entry of `Args:` or `Attributes:` it stands first, or whose name
  stands before it: `pose3d float[B,M,T,J,3]`, "mean of `values` [B]";
* `` `pose3d` float[...]``: an entry of a dict, the argument's in whose entry it stands, else the
  result's (or, of a result without a dict, an element by that name); under a module that is no
  argument, a parameter of the network;
* left of an arrow, `float[B,C] and float[C] -> float[B]`: the next positional parameter;
* elsewhere: the result; several are the elements of a tuple, or of each in a list of tuples. "two
  float[B]" says something of both elements, "list of" and "a dict of" of all elements, and "[H,W]
  or [H,W,C]" allows either.
An entry of a dict may be missing where the phrase up to `;` or `.` says "or" or "where", and one of
a result's that is not under `Returns:`. "Arguments as in `f`" stands for the arguments of that
function of the same file.

What is not read: what generators yield (`Yields:`), what is raised, and what the docstring of a
class that is no module says of anything but its fields.
"""
import ast
import dataclasses
import inspect
import re

DTYPES = {"": "Shaped", "bool": "Bool", "float": "Float", "int": "Integer", "uint": "UInt",
          "complex": "Complex", "bfloat16": "BFloat16",
          **{f"{kind}{bits}": f"{name}{bits}" for kind, name, sizes in (
              ("float", "Float", (16, 32, 64)), ("int", "Int", (8, 16, 32, 64)),
              ("uint", "UInt", (8, 16, 32, 64)), ("complex", "Complex", (64, 128)))
             for bits in sizes}}
_BRACKETS = re.compile(r"(?P<dtype>\w*)\[(?P<axes>[^\[\]]*)\](?!\^)")
_SECTION = re.compile(r"^(Args|Returns|Yields|Raises|Attributes):[ \t]*", re.MULTILINE)
_AXIS_NAME = re.compile(r"[A-Za-z]\w*'?")
# Names in backticks right before a shape, which may be what a dict or list holds.
_KEYS = re.compile(r"((?:`\w+`(?:, and |, | and | or )?)+)(,? an? (?:dict|list)\b[^`;]*)? ?$")
_ELEMENTS = re.compile(r"\b(two|three) [^,;`]*$", re.IGNORECASE)
_HELD = re.compile(r"(\b(list|dict)s? [^,;`]*|{[^{}]*: )$")
_OR = re.compile(r" (of \w+ )?or $")
_SIZES = re.compile(r"(?:([A-Z]\w?'?)|\(([A-Z]'?(?:, [A-Z]'?)+)\))(?=[ .;,]|$)")


class Unreadable(ValueError):
  """A statement that has no place or no meaning."""


@dataclasses.dataclass(frozen=True)
class Shape:
  """`text` as in the docstring; `dtype` and `axes` as jaxtyping's `dtype[..., axes]` wants them."""
  text: str
  dtype: str
  axes: tuple[str, ...]
  names: frozenset[str]  # alone on an axis
  needs: frozenset[str]  # within arithmetic


@dataclasses.dataclass(frozen=True)
class Statement:
  """That something has one of these shapes.

  Attributes:
    of: "argument", "field", "variable" (a network's parameter) or "result".
    name: of the argument, field or variable; None for a result.
    key: of the dict's entry, or None.
    shapes: any of them will do.
    many: "held": the values of a dict, or the elements of a list or tuple; "elements": those of
      the whole result; "" for one array.
    optional: whether the entry may be missing.
    place: of a result's shape: (which shape, of how many; of those with a key or of those
      without; which phrase).
  """
  of: str
  name: str | None
  shapes: tuple[Shape, ...]
  key: str | None = None
  many: str = ""
  optional: bool = False
  place: tuple[int, int, int] = (0, 1, 0)

  @property
  def subject(self) -> str:
    """What it is about, in words."""
    whole = f"{self.of} `{self.name}`" if self.name else self.of
    return f"`{self.key}` of {whole}" if self.key else whole


@dataclasses.dataclass(frozen=True)
class Contract:
  """All that a docstring says of shapes; `sizes`: names by the argument or field with their values.
  """
  statements: tuple[Statement, ...] = ()
  sizes: tuple[tuple[str, tuple[str, ...]], ...] = ()
  unreadable: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class _Subject:
  """What a docstring can speak of."""
  parameters: tuple[str, ...] = ()
  fields: tuple[str, ...] = ()
  keys: str = "result"  # what a name in backticks is, that is neither
  fields_only: bool = False


def read(source: str) -> dict[str, Contract]:
  """Contracts of a file's public functions and methods, and of classes that are no modules.

  They are named `function`, `Class.method`, `Class`; those without any shape are left out.
  """
  contracts = {}
  for node in ast.parse(source).body:
    if isinstance(node, ast.FunctionDef):
      contracts[node.name] = _of_function(node, contracts)
    elif isinstance(node, ast.ClassDef):
      fields = tuple(n.target.id for n in node.body
                     if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name))
      module = any(ast.unparse(base).split(".")[-1] == "Module" for base in node.bases)
      documentation = ast.get_docstring(node) or ""
      of_class = _contract(documentation, _Subject(fields=fields, fields_only=True), contracts)
      if not module:
        contracts[node.name] = _settled(of_class, fields)
      for method in node.body:
        if isinstance(method, ast.FunctionDef):
          called = documentation if module and method.name == "__call__" else ""
          contracts[f"{node.name}.{method.name}"] = _of_function(
              method, contracts, fields, called, of_class.sizes)
  return {name: contract for name, contract in contracts.items()
          if contract.statements + contract.unreadable
          and not re.search(r"(^|\.)_(?!_call__)", name)}


def _of_function(node: ast.FunctionDef, known, fields=(), of_class="", sizes=()) -> Contract:
  arguments = node.args
  names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
  subject = _Subject(tuple(name for name in names if name not in ("self", "cls")), fields)
  called = _contract(of_class, dataclasses.replace(subject, keys="variable"), known)
  own = _contract(ast.get_docstring(node) or "", subject, known)
  joined = Contract(called.statements + own.statements, (*sizes, *own.sizes),
                    called.unreadable + own.unreadable)
  return _settled(joined, subject.parameters + subject.fields)


def _settled(contract: Contract, names: tuple[str, ...]) -> Contract:
  """Names that one statement about many elements has to itself may differ between them; arithmetic
  on names that nothing gives a value is unreadable."""
  bound = {*names, *(n for _, sizes in contract.sizes for n in sizes)}
  statements = list(contract.statements)
  for i, statement in enumerate(statements):
    others = set().union(bound, *(s.names for other in (*statements[:i], *statements[i + 1:])
                                  for s in other.shapes))
    if statement.many:
      statements[i] = dataclasses.replace(statement, shapes=tuple(dataclasses.replace(
          s, axes=tuple("_" if a in s.names - others else a for a in s.axes))
          for s in statement.shapes))
  bound |= set().union(*(shape.names for s in statements for shape in s.shapes))
  lacking = tuple(f"{shape.text}: nothing says what {', '.join(sorted(unknown))} is"
                  for s in statements for shape in s.shapes
                  if (unknown := {n.removeprefix("len_") for n in shape.needs} - bound))
  statements = [s for s in statements if not any(
      {n.removeprefix("len_") for n in shape.needs} - bound for shape in s.shapes)]
  used = set().union(*(shape.names | shape.needs for s in statements for shape in s.shapes))
  return Contract(tuple(statements), tuple(s for s in contract.sizes if used & set(s[1])),
                  contract.unreadable + lacking)


def _contract(documentation: str, subject: _Subject, known: dict[str, Contract]) -> Contract:
  documentation = inspect.cleandoc(documentation)
  statements, sizes, unreadable = [], [], []
  first, *rest = _SECTION.split(documentation)
  sections = dict(zip(rest[::2], rest[1::2]))
  pieces = [(re.sub(r"\s+", " ", text), None) for text in first.split("\n\n")]
  pieces += [(re.sub(r"\s+", " ", sections.get("Returns", "")), "")]
  for section in ("Args", "Attributes"):
    pieces += _entries(sections.get(section, ""), subject.parameters + subject.fields)
  for text, name in pieces:
    if name and (size := _SIZES.match(text)):
      sizes.append((name, tuple(map(_plain, (size[1] or size[2]).split(", ")))))
    try:
      statements += _statements(text, name, subject)
    except Unreadable as error:
      unreadable.append(str(error))
  if other := re.search(r"arguments as in `(\w+)`", first):
    stated = {s.name for s in statements}
    borrowed = known.get(other[1], Contract())
    statements += [s for s in borrowed.statements if s.of == "argument"
                   and s.name in subject.parameters and s.name not in stated]
    sizes += [size for size in borrowed.sizes if size[0] in subject.parameters]
  return Contract(tuple(statements), tuple(sizes), tuple(unreadable))


def _entries(section: str, names: tuple[str, ...]) -> list[tuple[str, str]]:
  """(text, name) of a section's entries; several may share a line, and several names a text."""
  entries = []
  for paragraph in re.split(r"\n(?=  \S)|^(?=  \S)", section):
    text = re.sub(r"\s+", " ", paragraph).strip()
    parts = re.split(r"(?:^|(?<=[.;] ))((?:\w+, )*\w+): ", text)
    for heads, body in zip(parts[1::2], parts[2::2]):
      heads = heads.split(", ")
      if set(heads) & set(names):
        entries += [(body, head) for head in heads]
      elif entries:
        entries[-1] = (f"{entries[-1][0]} {', '.join(heads)}: {body}", entries[-1][1])
  return entries


def _statements(text: str, name: str | None, subject: _Subject) -> list[Statement]:
  """Those of a paragraph (name None), of `Returns` (""), or of the entry of what has that name."""
  shapes = [(match, shape) for match in _BRACKETS.finditer(text) if (shape := _shape(match, text))]
  arrow = next((m for m in re.finditer("->", text) if shapes and shapes[0][0].start() < m.start()),
               None)
  positional = [p for p in subject.parameters if p != "train"]
  statements, results, last = [], [], 0
  for match, shape in shapes:
    before, last = text[last:match.start()], match.end()
    left = name is None and arrow is not None and match.start() < arrow.start()
    if statements and _OR.fullmatch(before):
      statements[-1] = dataclasses.replace(statements[-1],
                                           shapes=(*statements[-1].shapes, shape))
      continue
    keys = _KEYS.search(before)
    spoken = re.search(r"`?(\w+)`? $", before)
    many = "elements" if _ELEMENTS.search(before) else "held" if _HELD.search(before) else ""
    right = arrow is not None and not left
    found = []
    if name is None and not right and spoken and spoken[1] in subject.parameters + subject.fields:
      found = [_of_name(spoken[1], subject, shapes=(shape,), many=many)]
    elif keys and not subject.fields_only:
      owner = _of_name(name, subject) if name else Statement(subject.keys, None, ())
      for key in re.findall(r"`(\w+)`", keys[1]):
        where = {"name": key} if owner.of == "variable" else {"key": key}
        found.append(dataclasses.replace(owner, shapes=(shape,), many="held" if keys[2] else "",
                                         optional=_optional(text, match) or (
                                             owner.of == "result" and name is None), **where))
    elif name:
      if any(s.key is None for s in statements):
        raise Unreadable(f"{shape.text}: a second shape of {name}")
      found = [_of_name(name, subject, shapes=(shape,), many=many)]
    elif left:
      taken = {s.name for s in statements}
      free = [p for p in positional if p not in taken]
      if not free:
        raise Unreadable(f"{shape.text}: more shapes than parameters")
      found = [Statement("argument", free[0], (shape,), many=many)]
    elif not subject.fields_only:
      since = text[arrow.end() if arrow else 0:match.start()]
      phrase = len(re.findall(r",? and |, ", re.sub(r"\([^()]*\)|\[[^\]]*\]", "", since)))
      found = [Statement("result", None, (shape,), many=many, place=(0, 1, phrase))]
      results.append(len(statements))
    statements += found
  if arrow and name is None and re.match(r"-> the same\b", text[arrow.start():]):
    statements.append(Statement("result", None, statements[0].shapes))
  keyed = [i for i, s in enumerate(statements) if s.of == "result" and s.key]
  for places in (results, keyed):
    for count, i in enumerate(places):
      place = (count, len(places), statements[i].place[2])
      statements[i] = dataclasses.replace(statements[i], place=place)
  return statements


def _of_name(name: str, subject: _Subject, **more) -> Statement:
  of = "argument" if name in subject.parameters else "field"
  return Statement(of, name, **{"shapes": ()} | more)


def _optional(text: str, match: re.Match) -> bool:
  """Whether what surrounds a shape allows that there is none."""
  start = max(text.rfind(end, 0, match.start()) for end in ("; ", ". ")) + 1
  end = re.compile(r"[;.] |$").search(text, match.end()).start()
  behind = text[match.end():end]
  return bool(re.search(r"\b(where|or)\b|, with \w+, `\w+` $", text[start:match.start()])
              or re.search(r"\bor\b", behind)
              or re.search(r"\bwhere\b[^\[]*$", behind))


def _shape(match: re.Match, text: str) -> Shape | None:
  """The shape that brackets hold, if it is one and not an interval, a type or an index."""
  dtype, axes = match["dtype"], [axis.strip() for axis in match["axes"].split(",")]
  looks = any(axis == "..." or re.match(r"[A-Z]\d?'?$", axis) for axis in axes)
  behind_name = text[:match.start()].endswith("` ") and not re.search(r"[\d\"]", match["axes"])
  looks |= behind_name or bool(re.fullmatch(r"[a-z](,[a-z])+", match["axes"]))
  if dtype not in DTYPES:
    if looks or re.match(r"(u?int|b?float|bool|complex)\w*$", dtype):
      raise Unreadable(f"{match[0]}: {dtype} is not a type")
    return None
  if not dtype and not looks and not re.search(r"(^|,) ?[A-Z.]|len\(", match["axes"]):
    return None
  read, names, needs = [], set(), set()
  for axis in axes:
    if axis == "...":
      read.append("*rest_" + "_".join(re.sub(r"\W", "", a) for a in read))
    elif axis.isdigit():
      read.append(axis)
    elif _AXIS_NAME.fullmatch(axis):
      names.add(_plain(axis))
      read.append(_plain(axis))
    else:
      formula, mentioned = _arithmetic(axis, match[0])
      needs |= mentioned
      read.append(formula)
  return Shape(match[0], DTYPES[dtype], tuple(read), frozenset(names), frozenset(needs))


def _plain(name: str) -> str:
  return name.replace("'", "_prime")


def _arithmetic(axis: str, whole: str) -> tuple[str, set[str]]:
  """An axis as an expression of Python on integers without spaces, and the names in it."""
  try:
    tree = ast.parse(_plain(axis.replace("·", "*")), mode="eval").body
    formula = _formula(tree)
  except (SyntaxError, Unreadable):
    raise Unreadable(f"{whole}: the axis {axis!r} has no meaning") from None
  names = {n.id for n in ast.walk(ast.parse(formula)) if isinstance(n, ast.Name)}
  return formula, names


def _formula(node: ast.expr) -> str:
  match node:
    case ast.Name(id=name):
      return name
    case ast.Constant(value=int(value)):
      return str(value)
    case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() as op, right=right):
      sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/"}[type(op)]
      return f"({_formula(left)}{sign}{_formula(right)})"
    case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]):
      return f"len_{name}"
    case ast.Call(func=ast.Name(id="ceil"), args=[ast.BinOp(left=up, op=ast.Div(), right=down)]):
      return f"-(-{_formula(up)}//{_formula(down)})"
    case ast.Call(func=ast.Name(id="floor"), args=[ast.BinOp(left=up, op=ast.Div(), right=down)]):
      return f"({_formula(up)}//{_formula(down)})"
  raise Unreadable(ast.unparse(node))
