"""Changes one number, comparison or operation at a time and looks whether a test notices.

  python tests/mutants.py --count=200 --seed=0 --out=FILE.jsonl

Mutants are drawn over the rooms below, as many of each as it has places to change. Each is written
into a copy of the project and given to the tests that import the changed module, then, if these
pass, to all quick ones. A line of FILE is a mutant with its verdict; a run that is started again
goes on behind the last line. Ends with the share of mutants that were noticed and the others.
"""
import argparse
import ast
import copy
import json
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROOMS = ("actionjax/models", "actionjax/ops", "actionjax/training", "actionjax/papers", "configs",
         "actionjax/evaluators", "actionjax/hierarchy", "actionjax/pruning", "actionjax/importers")
_COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
                ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In,
                ast.Is: ast.IsNot, ast.IsNot: ast.Is}
_OPERATIONS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
               ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
_CALLS = {"max": "mean", "mean": "max", "min": "max", "sum": "mean", "argmax": "argmin",
          "maximum": "minimum", "minimum": "maximum", "any": "all", "all": "any", "relu": "tanh",
          "softmax": "sigmoid", "sigmoid": "softmax", "floor": "ceil", "ceil": "floor"}


def places(source: str) -> list[tuple[ast.AST, ast.AST]]:
  """What can be changed in a module: (node, what takes its place)."""
  found = []
  tree = ast.parse(source)
  words = {id(inner) for text in ast.walk(tree) if isinstance(text, ast.JoinedStr)
           for inner in ast.walk(text)}
  # A message that reads otherwise, an annotation or a text is nobody's number.
  for node in ast.walk(tree):
    if isinstance(node, (ast.Raise, ast.AnnAssign)):
      inside = node if isinstance(node, ast.Raise) else node.annotation
      words |= {id(inner) for inner in ast.walk(inside)}
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
      hints = [node.returns, *(a.annotation for a in ast.walk(node.args) if isinstance(a, ast.arg))]
      words |= {id(inner) for hint in hints if hint is not None for inner in ast.walk(hint)}
  for node in ast.walk(tree):
    if id(node) not in words:
      found += [(node, new) for new in _changed(node)]
  return found


def _changed(node):
  def but(**fields):
    new = copy.deepcopy(node)
    for key, value in fields.items():
      setattr(new, key, value)
    return new

  if isinstance(node, ast.Constant) and isinstance(node.value, bool):
    yield but(value=not node.value)
  elif isinstance(node, ast.Constant) and isinstance(node.value, int):
    yield but(value=node.value + 1)
  elif isinstance(node, ast.Constant) and isinstance(node.value, float):
    yield but(value=node.value * 2 or 1.0)
  elif isinstance(node, ast.Compare) and type(node.ops[0]) in _COMPARISONS:
    yield but(ops=[_COMPARISONS[type(node.ops[0])](), *node.ops[1:]])
  elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
    if not any(isinstance(side, (ast.JoinedStr, ast.List, ast.Tuple)) or
               isinstance(getattr(side, "value", None), str) for side in (node.left, node.right)):
      yield but(op=_OPERATIONS[type(node.op)]())
  elif isinstance(node, ast.BoolOp):
    yield but(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
  elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
    yield node.operand
  elif isinstance(node, ast.Attribute) and node.attr in _CALLS:
    yield but(attr=_CALLS[node.attr])


def written(source: str, node: ast.AST, new: ast.AST) -> str:
  """The module with a node's text replaced."""
  lines = source.splitlines(keepends=True)
  at = lambda line, column: (sum(len(text.encode()) for text in lines[:line - 1]) + column)
  text = source.encode()
  start, end = at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)
  return (text[:start] + f"({ast.unparse(new)})".encode() + text[end:]).decode()


def draw(count: int, seed: int) -> list[dict]:
  """Mutants of all rooms, in the order in which they are tried."""
  everything = []
  for room in ROOMS:
    for path in sorted((ROOT / room).rglob("*.py")):
      source = path.read_text()
      everything += [(path, number) for number in range(len(places(source)))]
  chosen = random.Random(seed).sample(everything, min(count, len(everything)))
  mutants = []
  for path, number in chosen:
    node, new = places(path.read_text())[number]
    mutants.append({"file": str(path.relative_to(ROOT)), "line": node.lineno, "place": number,
                    "before": ast.unparse(node)[:200], "after": ast.unparse(new)[:200]})
  return mutants


def tests_of(file: str) -> list[str]:
  """Test files that name a module, a config's by its name."""
  path = pathlib.Path(file)
  if file.startswith("configs/"):
    return ["tests/test_paper_settings.py", "tests/test_configs.py"]
  package = ".".join(path.parent.parts)
  pattern = re.compile(rf"from {re.escape(package)} import [^\n]*\b{path.stem}\b|"
                       rf"{re.escape(package)}\.{path.stem}\b|"
                       rf"from {re.escape(package)} import \([^)]*\b{path.stem}\b")
  return sorted(str(test.relative_to(ROOT)) for test in (ROOT / "tests").glob("test_*.py")
                if pattern.search(test.read_text()))


def verdict(mutant: dict, copy_of: pathlib.Path, deadline: float) -> str:
  """"noticed by FILE...", or "survived"."""
  path = copy_of / mutant["file"]
  source = path.read_text()
  path.write_text(written(source, *places(source)[mutant["place"]]))
  environment = os.environ | {"PYTHONPATH": str(copy_of), "JAX_PLATFORMS": "cpu"}
  try:
    for tests in (tests_of(mutant["file"]), ["tests"]):
      if not tests:
        continue
      try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", *tests], cwd=copy_of,
            env=environment, capture_output=True, text=True, timeout=deadline, check=False)
      except subprocess.TimeoutExpired:
        return "noticed: it never ended"
      if done.returncode:
        failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        return f"noticed: {failed[0] if failed else done.stdout.strip().splitlines()[-1:]}"
    return "survived"
  finally:
    path.write_text(source)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--count", type=int, default=200)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--out", type=pathlib.Path, required=True)
  parser.add_argument("--deadline", type=float, default=1200, help="seconds of one test run")
  args = parser.parse_args()
  mutants = draw(args.count, args.seed)
  done = ([json.loads(line) for line in args.out.read_text().splitlines()]
          if args.out.exists() else [])
  for mutant, old in zip(mutants, done):
    if {key: old[key] for key in mutant} != mutant:
      parser.error(f"{args.out} holds other mutants: another seed, or the project has changed")
  with tempfile.TemporaryDirectory() as folder:
    copy_of = pathlib.Path(folder) / "project"
    shutil.copytree(ROOT, copy_of, ignore=shutil.ignore_patterns("__pycache__", "runs", ".offline"))
    for mutant in mutants[len(done):]:
      mutant["verdict"] = verdict(mutant, copy_of, args.deadline)
      done.append(mutant)
      with args.out.open("a") as file:
        file.write(json.dumps(mutant) + "\n")
      print("{file}:{line}: {before} -> {after}: {verdict}".format(**mutant), flush=True)
  survivors = [mutant for mutant in done if mutant["verdict"] == "survived"]
  print(f"{len(done) - len(survivors)} of {len(done)} noticed; not:")
  for mutant in survivors:
    print("  {file}:{line}: {before} -> {after}".format(**mutant))


if __name__ == "__main__":
  main()
