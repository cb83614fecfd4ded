"""Starting a training from another's weights."""
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax.errors import UserError
from actionjax.training import initialise
from actionjax.training import state as states
from tests import toy


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


class Wide(nn.Module):
  """toy.Toy whose first block reads three inputs more, behind the others."""

  @nn.compact
  def __call__(self, batch, *, train):
    x = jnp.concatenate([batch["x"], 7 * jnp.ones((len(batch["x"]), 3))], -1)
    for name in ("backbone", "neck"):
      x = toy.Block(8, name=name)(x, train=train)
    return nn.Dense(3, name="head")(x), {}


def test_padding_adds_inputs_that_are_not_read():
  target, source = _variables(0, Wide()), _variables(1)
  config = initialise.InitFrom("s", pad=("backbone/dense/kernel",), strict=True)
  found, report = initialise.load_into(target, source, config)
  assert report.padded == ("params/backbone/dense/kernel (6, 8) for (9, 8)",)
  assert report.mismatched == report.missing == report.skipped == ()
  kernel = found["params"]["backbone"]["dense"]["kernel"]
  np.testing.assert_array_equal(kernel[:6], source["params"]["backbone"]["dense"]["kernel"])
  np.testing.assert_array_equal(kernel[6:], np.zeros((3, 8)))
  batch = toy.batch()
  np.testing.assert_allclose(Wide().apply(found, batch, train=False)[0],
                             toy.Toy().apply(source, batch, train=False)[0], atol=1e-6)


def test_padding_only_grows_and_only_what_is_there():
  with pytest.raises(UserError, match=r"mismatched 1: params/backbone \(1\)"):
    initialise.load_into(_variables(0), _variables(1, Wide()),
                         initialise.InitFrom("s", pad=("backbone/",), strict=True))
  with pytest.raises(UserError, match="s: no parameter of this model matches pad 'spine/'"):
    initialise.load_into(_variables(0), _variables(1), initialise.InitFrom("s", pad=("spine/",)))


class Stem(nn.Module):
  """A convolution over a video, then one of its features."""

  @nn.compact
  def __call__(self, video):
    return nn.Conv(4, (3, 3, 3), name="inner")(nn.Conv(5, (3, 3, 3), name="stem")(video))


def test_a_grey_network_computes_what_one_of_colours_does_of_grey_pictures():
  video = np.random.default_rng(0).normal(size=(2, 4, 6, 6, 1)).astype(np.float32)
  colours = Stem().init(jax.random.key(0), video.repeat(3, -1))
  grey = Stem().init(jax.random.key(1), video)
  found, report = initialise.load_into(grey, colours, initialise.InitFrom("s", strict=True))
  assert report.summed == ("params/stem/kernel (3, 3, 3, 3, 5) for (3, 3, 3, 1, 5)",)
  assert not report.mismatched and "summed 1: params/stem (1)" in report.summary()
  np.testing.assert_allclose(Stem().apply(found, video), Stem().apply(colours, video.repeat(3, -1)),
                             atol=1e-5)
  # The other way round there is nothing to tell the colours by; and no other size is summed.
  back, report = initialise.load_into(colours, grey, initialise.InitFrom("s"))
  assert "params/stem/kernel (3, 3, 3, 1, 5) for (3, 3, 3, 3, 5)" in report.mismatched
  np.testing.assert_array_equal(back["params"]["stem"]["kernel"],
                                colours["params"]["stem"]["kernel"])
  two = Stem().init(jax.random.key(2), video.repeat(2, -1))
  _, report = initialise.load_into(grey, two, initialise.InitFrom("s"))
  assert len(report.mismatched) == 1 and not report.summed
