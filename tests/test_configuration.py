"""Config files, arguments and sections: what is accepted, and what a mistake is told."""
import dataclasses

import flax.linen as nn
import pytest
from ml_collections import ConfigDict, config_dict

from actionjax import configuration
from actionjax.errors import UserError


def test_arguments_take_the_defaults_types():
  args = configuration.arguments(
      "cpu,seed=3,attention=none,rate=1e-2,coupler=false",
      cpu=False, seed=0, attention="both", rate=0.5, coupler=True, untouched="x")
  assert dict(args) == dict(cpu=True, seed=3, attention="none", rate=0.01, coupler=False,
                            untouched="x")
  assert type(args.seed) is int and type(args.rate) is float
  assert dict(configuration.arguments("", a=1)) == dict(configuration.arguments(None, a=1))


@pytest.mark.parametrize("text, value", [
    ("true", True), ("True", True), ("1", True), ("false", False), ("False", False), ("0", False)])
def test_boolean_arguments_are_spelled_either_way(text, value):
  assert configuration.arguments(f"flag={text}", flag=not value).flag is value


def test_an_integer_will_do_for_a_float():
  rate = configuration.arguments("rate=2", rate=0.5).rate
  assert rate == 2.0 and type(rate) is float


@pytest.mark.parametrize("arg, message", [
    ("attentoin=none", "'attentoin' is not known (did you mean 'attention'?); known: attention, "
                       "seed, cpu"),
    ("zzz", "'zzz' is not known; known: attention"),
    ("seed", "'seed' needs a value, as in seed=0"),
    ("seed=abc", "'abc' is not an integer"),
    ("seed=3.7", "'3.7' is not an integer"),
    ("seed=True", "'True' is not an integer"),
    ("cpu=maybe", "'maybe' is not true or false"),
    ("cpu=2", "'2' is not true or false"),
])
def test_wrong_arguments_are_refused(arg, message):
  with pytest.raises(UserError) as error:
    configuration.arguments(arg, attention="both", seed=0, cpu=False)
  assert message in str(error.value)


@dataclasses.dataclass(frozen=True)
class Section:
  size: int
  rate: float = 0.5

  def __post_init__(self):
    if self.rate < 0:
      raise ValueError("rate must not be negative")


class Layer(nn.Module):
  features: int
  use_bias: bool = True


def test_build_gives_the_target_its_section():
  section = ConfigDict(dict(size=3))
  section.rate = config_dict.placeholder(float)  # unset: the target's default
  assert configuration.build(Section, section, "config.x") == Section(3, 0.5)
  assert configuration.build(Layer, {"use_bias": False}, "config.m", features=4).features == 4


@pytest.mark.parametrize("section, message", [
    (dict(size=1, rte=2.0), "config.x has no key 'rte' (did you mean 'rate'?); known: rate, size"),
    (dict(rate=0.1), "config.x lacks size"),
    (dict(size=None), "config.x lacks size"),
    (dict(size=1, rate=-1.0), "config.x: rate must not be negative"),
])
def test_build_refuses(section, message):
  with pytest.raises(UserError) as error:
    configuration.build(Section, section, "config.x")
  assert str(error.value) == message


def test_modules_own_arguments_are_no_config_keys():
  for key in ("parent", "name", "features"):  # features: already given
    with pytest.raises(UserError, match=f"no key '{key}'"):
      configuration.build(Layer, {key: 1}, "config.m", features=4)


def test_merge_lays_one_section_over_another():
  base = {"optim": {"name": "adam", "clip": 1.0}, "drops": (1, 2), "seed": 0}
  over = {"optim": {"clip": None, "rate": 0.1}, "drops": (3,), "other": None}
  assert configuration.merge(base, over) == {
      "optim": {"name": "adam", "clip": 1.0, "rate": 0.1}, "drops": (3,), "seed": 0, "other": None}
  assert base["optim"] == {"name": "adam", "clip": 1.0} and "rate" in over["optim"]


def test_a_config_of_plain_dicts():
  optim = dict(learning_rate=0.1)
  config = configuration.config(
      name="x", seed=3, data=dict(video=dict(size=(4, 4))), steps=[
          dict(kind="train", optim=optim, init_from=(dict(source="a"),)),
          dict(kind="repeat", steps=(dict(kind="train", optim=optim),))])
  assert configuration.to_dict(config) == {
      "name": "x", "seed": 3, "data_dir": None, "data": {"video": {"size": (4, 4)}}, "steps": (
          {"kind": "train", "optim": {"learning_rate": 0.1}, "init_from": ({"source": "a"},)},
          {"kind": "repeat", "steps": ({"kind": "train", "optim": {"learning_rate": 0.1}},)})}
  # What stands in two places is one value in each.
  config.steps[0].optim.learning_rate = 0.5
  assert config.steps[1].steps[0].optim.learning_rate == optim["learning_rate"] == 0.1
  config.steps[0].init_from[0].source = "b"
  config.data_dir = "/there"
  with pytest.raises(TypeError):
    config.data_dir = 3
  config = configuration.config(name="x", data_dir="/there", steps=config.steps)
  assert (config.seed, config.data_dir) == (0, "/there")
  assert config.steps[0].init_from[0].source == "b"


def test_named_arguments():
  assert configuration.named("cpu,seed=3,,rate=") == {"cpu", "seed", "rate"}
  assert configuration.named("") == configuration.named(None) == set()


def test_to_dict_reaches_into_tuples():
  config = ConfigDict(dict(a=(ConfigDict(dict(b=[1, ConfigDict(dict(c=2))])),)))
  assert configuration.to_dict(config) == {"a": ({"b": (1, {"c": 2})},)}


def test_plugins():
  assert configuration.plugin("actionjax.models", "vpn", "Model", "p").__name__ == "Model"
  dotted = configuration.plugin("actionjax.models", "actionjax.models.vpn", "Model", "p")
  assert dotted is configuration.plugin("actionjax.models", "vpn", "Model", "p")
  with pytest.raises(UserError) as error:
    configuration.plugin("actionjax.models", "vpm", "Model", "config.model.name")
  assert "config.model.name: there is no actionjax.models.vpm with a Model; known: " in str(
      error.value)
  assert "vpn" in str(error.value).partition("known:")[2]
  # A module that exists without the attribute is no plugin of that kind.
  with pytest.raises(UserError, match="no actionjax.models.layers with a Backbone"):
    configuration.plugin("actionjax.models", "layers", "Backbone", "p")


def test_a_plugins_own_missing_import_is_not_a_users_mistake(tmp_path, monkeypatch):
  (tmp_path / "broken_plugin_package.py").write_text("import no_such_module_anywhere\n")
  monkeypatch.syspath_prepend(str(tmp_path))
  (tmp_path / "outer").mkdir()
  (tmp_path / "outer" / "__init__.py").write_text("")
  (tmp_path / "outer" / "inner.py").write_text("import no_such_module_anywhere\n")
  with pytest.raises(ModuleNotFoundError):
    configuration.plugin("actionjax.models", "outer.inner", "Model", "p")


def test_files_fall_back_to_the_shipped_ones(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  shipped = configuration.shipped_directory() / "quickstart.py"
  assert configuration.find_file("configs/quickstart.py") == shipped
  assert configuration.find_file("quickstart.py") == shipped
  (tmp_path / "configs").mkdir()
  own = tmp_path / "configs" / "quickstart.py"
  own.write_text("def get_config():\n  return 1\n")
  assert configuration.find_file("configs/quickstart.py").resolve() == own
  assert configuration.load("configs/quickstart.py") == 1
  for wrong in ("configs/quickstrat.py", "elsewhere/quickstart.py"):
    with pytest.raises(UserError) as error:
      configuration.find_file(wrong)
    assert f"{wrong} does not exist; shipped configs: " in str(error.value)
    assert "quickstart" in str(error.value)


def test_a_file_without_get_config(tmp_path):
  (tmp_path / "other.py").write_text("x = 1\n")
  with pytest.raises(UserError, match="other.py defines no get_config"):
    configuration.load(str(tmp_path / "other.py"))


def test_the_argument_reaches_the_file():
  assert configuration.load("configs/quickstart.py:tiny").data.variant == "tiny"
  assert configuration.load("configs/quickstart.py").data.variant == "small"
