"""What imports what: the rooms lie one above another, and a lower one never looks up."""
import ast
import functools
import pathlib
import sys

import pytest

from tests.conftest import ROOT

PACKAGE = "actionjax"
# Room -> what nothing in it imports.
NEVER = {
    "models": ("data", "training", "steps"),
    "data": ("models", "training", "steps"),
    "training": ("data", "steps"),
    "inference": ("steps", "recipe", "training.loop"),
    "papers": ("data",),
    "data.formats": ("data.clips", "data.builders", "data.own", "data.catalogue", "data.preparing",
                     "data.loading", "data.synthetic"),
    "data.clips": ("data.builders", "data.own", "data.catalogue", "data.preparing",
                   "data.loading"),
    "data.builders": ("data.catalogue", "data.preparing", "data.loading"),
    "data.own": ("data.catalogue", "data.preparing", "data.loading"),
    "data.preparing": ("data.loading",),
    "data.loading": ("data.preparing",),
}
# Rooms that import nothing but these and themselves.
ONLY = {"ops": ("skeletons", "errors")}
COMMANDS = ("main", "prepare", "convert", "summary", "evaluate", "fuse", "robustness", "compact",
            "benchmark")


def modules(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Dotted name below the package -> file."""
  found = {}
  for path in sorted((root / PACKAGE).rglob("*.py")):
    name = ".".join(path.relative_to(root / PACKAGE).with_suffix("").parts)
    found["" if name == "__init__" else name.removesuffix(".__init__")] = path
  return found


@functools.cache
def imports(root: pathlib.Path) -> dict[str, set[str]]:
  """Module -> the package's modules that it imports, anywhere in its file."""
  files = modules(root)
  found = {}
  for name, path in files.items():
    mentioned = []
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        mentioned += [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        for alias in node.names:
          whole = f"{node.module}.{alias.name}"
          mentioned.append(whole if _below(whole) in files else node.module)
    found[name] = {_below(m) for m in mentioned if _below(m) in files} - {name, ""}
  return found


def _below(name):
  return name.removeprefix(PACKAGE + ".") if name.startswith(PACKAGE + ".") else None


def _in(name: str, room: str) -> bool:
  return name == room or name.startswith(room + ".")


def faults(root: pathlib.Path) -> list[str]:
  """Every import that the rules above forbid."""
  found = []
  for name, targets in imports(root).items():
    for target in sorted(targets):
      for room, forbidden in NEVER.items():
        if _in(name, room) and any(_in(target, other) for other in forbidden):
          found.append(f"{name} imports {target}: {room} never does")
      for room, allowed in ONLY.items():
        if _in(name, room) and not any(_in(target, other) for other in (room, *allowed)):
          found.append(f"{name} imports {target}: {room} imports {', '.join(allowed)} alone")
      if target in COMMANDS:
        found.append(f"{name} imports the command {target}")
  return found


def circles(graph: dict[str, set[str]]) -> list[str]:
  """Modules that import each other, at whatever distance (Tarjan's components)."""
  index, low, stack, found = {}, {}, [], []

  def visit(name):
    index[name] = low[name] = len(index)
    stack.append(name)
    for target in graph[name]:
      if target not in index:
        visit(target)
      if target in stack:
        low[name] = min(low[name], low[target])
    if low[name] == index[name]:
      at = stack.index(name)
      component, stack[at:] = stack[at:], []
      if len(component) > 1:
        found.append(" <-> ".join(sorted(component)))

  for name in graph:
    if name not in index:
      visit(name)
  return found


def test_no_room_imports_what_lies_above_it():
  assert faults(ROOT) == []


def test_no_modules_import_each_other_not_even_within_functions():
  assert circles(imports(ROOT)) == []


def test_data_has_few_floors():
  graph = imports(ROOT)

  @functools.cache
  def floor(name):
    return 1 + max((floor(other) for other in graph[name]
                    if _in(other, "data") and not _in(name, other)), default=0)

  assert max(floor(name) for name in graph if _in(name, "data")) <= 6


def test_at_most_three_levels_of_folders():
  for path in modules(ROOT).values():
    assert len(path.relative_to(ROOT).parts) <= 4, path


@pytest.mark.parametrize("name,line,fault", [
    ("models/planted.py", "from actionjax.data.clips import record", "models never does"),
    ("ops/planted.py", "def f():\n  from actionjax import configuration",
     "ops imports skeletons, errors alone"),
    ("data/formats/planted.py", "import actionjax.data.own", "data.formats never does"),
    ("planted.py", "from actionjax import main", "imports the command main")])
def test_a_planted_import_is_found(name, line, fault, tmp_path):
  for path in modules(ROOT).values():
    copy = tmp_path / path.relative_to(ROOT)
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(path.read_text())
  (tmp_path / PACKAGE / name).write_text(line + "\n")
  found = faults(tmp_path)
  assert len(found) == 1 and fault in found[0], found


def test_a_planted_circle_is_found():
  graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set(), "e": {"a"}}
  assert circles(graph) == ["a <-> b <-> c"]
  assert sys.getrecursionlimit() > len(imports(ROOT))
