"""Starting a training from another's weights."""
import flax.linen as nn
import jax
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.training import initialise
from actionjax.training import state as states
from tests import toy

pytestmark = pytest.mark.usefixtures("quick_compilation")

def _variables(seed, model=None):
  return model_init(model or toy.Toy(), seed)


def model_init(model, seed):
  return model.init(jax.random.key(seed), toy.batch(), train=False)


class Renamed(nn.Module):
  """toy.Toy with its neck called throat, and another head."""

  @nn.compact
  def __call__(self, batch, *, train):
    x = toy.Block(8, name="backbone")(batch["x"], train=train)
    x = toy.Block(8, name="throat")(x, train=train)
    return nn.Dense(4, name="head")(x), {}


def test_initialising_reports_every_path():
  target, source = _variables(0), _variables(1, Renamed())
  found, report = initialise.load_into(target, source, initialise.InitFrom("s"))
  assert set(report.loaded) == {n for n in states.path_names(source) if "/backbone/" in n}
  assert set(report.missing) == {n for n in states.path_names(target) if "/neck/" in n}
  assert set(report.skipped) == {n for n in states.path_names(source)
                                 if "/throat/" in n or "/head/" in n}
  assert set(report.mismatched) == {"params/head/bias (4,) for (3,)",
                                    "params/head/kernel (8, 4) for (8, 3)"}
  for collection in ("params", "batch_stats"):
    jax.tree.map(np.testing.assert_array_equal, found[collection]["backbone"],
                 source[collection]["backbone"])
    jax.tree.map(np.testing.assert_array_equal, found[collection]["neck"],
                 target[collection]["neck"])
  assert "loaded 6" in report.summary() and "params/backbone (4)" in report.summary()


def test_initialising_renames_includes_and_excludes():
  target, source = _variables(0), _variables(1, Renamed())
  found, report = initialise.load_into(target, source, initialise.InitFrom(
      "s", rename=(("^throat/", "neck/"),), include=("neck/", "backbone/"),
      exclude=("backbone/norm/",), strict=True))
  assert report.missing == report.mismatched == ()
  np.testing.assert_array_equal(found["params"]["neck"]["dense"]["kernel"],
                                source["params"]["throat"]["dense"]["kernel"])
  np.testing.assert_array_equal(found["batch_stats"]["neck"]["norm"]["mean"],
                                source["batch_stats"]["throat"]["norm"]["mean"])
  assert not any("backbone/norm" in name for name in report.loaded)
  assert {n for n in report.skipped if "head" in n} == {"params/head/bias", "params/head/kernel"}


@pytest.mark.parametrize("fields", [dict(strict=True), dict(include=("nothing/",)),
                                    dict(include=("head/",))])
def test_initialising_from_what_does_not_fit(fields):
  with pytest.raises(UserError, match="some/where does not fit this model: loaded"):
    initialise.load_into(_variables(0), _variables(1, Renamed()),
                         initialise.InitFrom("some/where", **fields))
