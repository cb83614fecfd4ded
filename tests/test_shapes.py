"""Shapes in docstrings can be read, and calls that contradict them are found."""
import importlib
import json
import subprocess
import sys
import textwrap

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import shape_statements, shapes
from tests.conftest import ROOT

checked = pytest.mark.skipif(not shapes.INSTALLED, reason="needs the extra `typing`")

# Functions and modules whose docstrings say shapes, at least, by room.
LEAST = {"actionjax.models": 40, "actionjax.ops": 33, "actionjax.training.losses": 7,
         "actionjax.data.loading": 28}

SUMS = '''
def weighted(x, weights, *, count):
  """Sums over joints.

  Args:
    x: float32[B,T,J,C], in metres. weights: float[J].
    count: T.

  Returns:
    total float32[B,T,C], and out: `most` int[B,T]; `least` [B,T] where there is one.
  """
  return BODY
'''


def contracts() -> dict[str, dict[str, shape_statements.Contract]]:
  return {name: shape_statements.read(path.read_text())
          for name, path in shapes.files(ROOT).items()}


def test_every_shape_is_read():
  unread = [f"{module}.{name}: {complaint}" for module, found in contracts().items()
            for name, contract in found.items() for complaint in contract.unreadable]
  assert not unread, "\n".join(unread)


@pytest.mark.parametrize("room", LEAST)
def test_coverage(room):
  found = {module: sorted(name for name, contract in read.items() if contract.statements)
           for module, read in contracts().items() if f"{module}.".startswith(f"{room}.")}
  assert sum(map(len, found.values())) >= LEAST[room], json.dumps(found, indent=1)


@checked
def test_all_of_them_are_wrapped():
  for module, found in contracts().items():
    loaded = importlib.import_module(module)
    for name, contract in found.items():
      thing = loaded
      for part in name.split("."):
        thing = vars(thing)[part]
      if isinstance(thing, type):
        thing = thing.__new__ if issubclass(thing, tuple) else thing.__init__
      thing = thing.fget if isinstance(thing, property) else getattr(thing, "__func__", thing)
      while not hasattr(thing, "__contract__"):  # below decorators
        thing = thing.__wrapped__
      assert thing.__contract__ == contract, f"{module}.{name}"


def test_asleep_without_the_extra():
  script = textwrap.dedent("""
    import importlib.util, sys
    find_spec = importlib.util.find_spec
    importlib.util.find_spec = lambda name, *a: None if name == "beartype" else find_spec(name, *a)
    from tests import shapes
    shapes.install()
    from actionjax.ops import graphs
    print(shapes.INSTALLED, hasattr(graphs.binary, "__contract__"), "jaxtyping" in sys.modules)
  """)
  done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                        check=True)
  assert done.stdout.split() == ["False"] * 3


@pytest.mark.parametrize("said, expected", [
    ("float32[B,T,J,3]", ("Float32", "B T J 3")),
    ("uint8[...,C]", ("UInt8", "*rest_ C")),
    ("int[B,T']", ("Integer", "B T_prime")),
    ("[N,V,ceil(T/n),C]", ("Shaped", "N V -(-T//n) C")),
    ("bool[n*T, floor(T/2)]", ("Bool", "(n*T) (T//2)")),
    ("float64[len(n),T/4]", ("Float64", "len_n (T/4)")),
])
def test_grammar(said, expected):
  source = f'def f(x, n):\n  """Does.\n\n  Args:\n    x: [T]. n: {said} of it.\n  """\n'
  contract = shape_statements.read(source)["f"]
  assert not contract.unreadable
  (shape,) = [s.shapes[0] for s in contract.statements if s.name == "n"]
  assert (shape.dtype, " ".join(shape.axes)) == expected


@pytest.mark.parametrize("words", [
    "x in [0, 1) or in [-1, 1], [0,1]^2", "a dict[str, int], clips[i], [from, to], [\"a\", \"b\"]"])
def test_brackets_that_are_no_shapes(words):
  assert not shape_statements.read(f"def f(x):\n  '''Does. {words}.'''\n")


@pytest.mark.parametrize("words", [
    "x flaot32[B,T]", "x float23[n]", "float[B,T/n]", "float[B,T!]", "[B] and [B] -> [B]"])
def test_unreadable(words):
  assert shape_statements.read(f"def f(x):\n  '''Does {words}.'''\n")["f"].unreadable


def call(body, x, weights=None, count=4, change=("", "")):
  assert change[0] in SUMS
  module = shapes.load(SUMS.replace("BODY", body).replace(*change))
  return module.weighted(x, np.ones(5) if weights is None else weights, count=count)


GOOD = "(x * weights[:, None]).sum(2).astype('float32'), {'most': x.argmax(2).max(-1)}"
X = np.zeros((2, 4, 5, 3), np.float32)


@checked
@pytest.mark.parametrize("x", [X, jnp.asarray(X)], ids=["numpy", "jax"])
def test_right_calls_pass(x):
  total, out = call(GOOD, x)
  assert total.shape == (2, 4, 3) and out["most"].shape == (2, 4)


BAD_ENTRY = GOOD[:-1] + ", 'least': x[:, 0, :, 0]}"
WRONG = {
    "a swapped axis": ("`x`", {"x": X.swapaxes(1, 2)}),
    "another type": ("`x`", {"x": X.astype(np.float64)}),
    "an axis less": ("`x`", {"x": X[0]}),
    "J of another argument": ("`weights`", {"weights": np.ones((6,))}),
    "integers": ("`weights`", {"weights": np.ones(5, int)}),
    "T by its argument": ("`x`", {"count": 3}),
    "a docstring with swapped axes": ("`x`", {"change": ("[B,T,J,C]", "[B,J,T,C]")}),
    "a docstring of another rank": ("result", {"change": ("total float32[B,T,C]",
                                                          "total float32[B,C]")}),
    "a docstring of another type": ("`most`", {"change": ("`most` int", "`most` float")}),
    "a docstring with another entry": ("no `best`", {"change": ("`most` int", "`best` int")}),
    "an entry of another shape": ("`least`", {"body": BAD_ENTRY}),
}


@checked
@pytest.mark.parametrize("case", WRONG)
def test_disagreements_are_found(case):
  about, changes = WRONG[case]
  arguments = {"body": GOOD.replace("weights[:, None]", "weights[0]"), "x": X} | changes
  with pytest.raises(shapes.Disagreement) as caught:
    call(**arguments)
  assert about in str(caught.value).split("\n")[0]


@checked
def test_complaints_of_the_function_come_first():
  with pytest.raises(ValueError, match="could not be broadcast"):
    call(GOOD, X, weights=np.ones((2, 7, 1)))
  with pytest.raises(TypeError, match="missing 1 required"):
    shapes.load(SUMS.replace("BODY", GOOD)).weighted(X)


@checked
def test_names_hold_for_one_call():
  module = shapes.load('''
def outer(x):
  """float[B,T] -> float[T]."""
  return inner(x.T).sum(1)

def inner(x):
  """float[B,T] -> the same."""
  return x
''')
  for shape in ((2, 3), (3, 4)):
    assert module.outer(np.ones(shape)).shape == shape[1:]


@checked
def test_lists_of_tuples():
  module = shapes.load('''
def views(x):
  """The clip, and the frames int[T] of each view."""
  return [("clip", x)] * 2
''')
  assert len(module.views(np.arange(3))) == 2
  with pytest.raises(shapes.Disagreement, match="result"):
    module.views(np.ones(3))


@checked
def test_traced_calls():
  module = shapes.load('''
def product(x, y):
  """float[B,T] and float[T] -> float[B,1]."""
  return x @ y
''')
  with pytest.raises(shapes.Disagreement, match="result"):
    jax.jit(module.product)(jnp.ones((2, 3)), jnp.ones(3))
  with pytest.raises(shapes.Disagreement, match="result"):
    jax.eval_shape(module.product, jnp.ones((2, 3)), jnp.ones(3))


LAYER = '''
import flax.linen as nn

class Layer(nn.Module):
  """A dense layer, [B,T,C] -> [B,T,features].

  Parameters: `kernel` [C,features].
  """
  features: int

  @nn.compact
  def __call__(self, x, *, train):
    return x @ self.param("kernel", nn.initializers.normal(), (x.shape[-1], self.features))
'''


@checked
@pytest.mark.parametrize("said, instead, about", [
    ("", "", None), ("[B,T,features]", "[B,features,T]", "result"),
    ("`kernel` [C,features]", "`kernel` [features,C]", "variable `kernel`"),
    ("`kernel` [C,features]", "`bias` [features]", "no variable `bias`")])
def test_modules(said, instead, about):
  layer = shapes.load(LAYER.replace(said, instead) if said else LAYER).Layer(6)
  assert isinstance(layer, nn.Module)
  run = lambda: layer.init_with_output(jax.random.key(0), jnp.ones((2, 4, 3)), train=True)[0]
  if about is None:
    assert run().shape == (2, 4, 6)
  else:
    with pytest.raises(shapes.Disagreement, match=about):
      run()


@checked
@pytest.mark.parametrize("head", ["@dataclasses.dataclass(frozen=True)\nclass Clip:",
                                  "class Clip(typing.NamedTuple):"])
def test_fields(head):
  module = shapes.load(f'''
import dataclasses, typing
{head}
  """A clip.

  Attributes:
    frames: int[T]. boxes: float[T,4].
  """
  frames: object
  boxes: object
''')
  assert module.Clip(np.arange(3), np.ones((3, 4))).boxes.shape == (3, 4)
  with pytest.raises(shapes.Disagreement, match="`boxes`"):
    module.Clip(np.arange(3), np.ones((4, 4)))
