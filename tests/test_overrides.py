"""--config.KEY=VALUE: every field that something reads, spelled out in the config or not."""
import pytest
from absl import flags
from ml_collections import ConfigDict

from actionjax import configuration, overrides, planning
from actionjax.errors import UserError


def _config():
  return configuration.config(
      name="x", seed=3, rate=0.5, flag=False, label="a", size=(4, 4), nothing=None,
      steps=(dict(kind="train", init_from=(dict(source="a"),)), dict(kind="evaluate")))


@pytest.mark.parametrize("key, text, read", [
    ("seed", "7", lambda c: c.seed == 7 and type(c.seed) is int),
    ("rate", "2", lambda c: c.rate == 2.0 and type(c.rate) is float),
    ("flag", "true", lambda c: c.flag is True),
    ("label", "17", lambda c: c.label == "17"),  # stays a string
    ("label", "none", lambda c: c.label is None),
    ("size", "(8, 6)", lambda c: c.size == (8, 6)),
    ("size", "8,6", lambda c: c.size == (8, 6)),
    ("size[1]", "6", lambda c: c.size == (4, 6)),
    ("nothing", "1e-3", lambda c: c.nothing == 1e-3),
    ("fresh", "folder:mine", lambda c: c.fresh == "folder:mine"),
    ("steps[1].batch_size", "4", lambda c: c.steps[1].batch_size == 4),
    ("steps[0].optim.clip_norm", "5", lambda c: c.steps[0].optim.clip_norm == 5),
    ("steps[0].init_from[0].pad", "('a', 'b')",
     lambda c: c.steps[0].init_from[0].pad == ("a", "b")),
    ("rate", "(0, 1)", lambda c: c.rate == (0, 1)),  # the plan says whether it may
    ("fresh", "a=b", lambda c: c.fresh == "a=b")])
def test_values(key, text, read):
  rest, found = overrides.split(["program", f"--config.{key}={text}", "--workdir=x"])
  assert rest == ["program", "--workdir=x"] and found == {key: text}
  assert overrides.split(["program", f"--config.{key}", text])[1] == {key: text}
  config = _config()
  overrides.apply(config, found)
  assert read(config)
  # What is written next to it stays as it was.
  assert config.name == "x" and config.steps[0].kind == "train"


@pytest.mark.parametrize("argument, message", [
    ("--config.a..b=1", "'a..b' must be a key such as steps\\[0\\].batch_size"),
    ("--config.=1", "must be a key"), ("--config.seed", "needs a value: --config.seed=VALUE")])
def test_what_is_no_override(argument, message):
  with pytest.raises(UserError, match=message):
    overrides.split(["program", argument])


@pytest.mark.parametrize("key, message", [
    ("steps[2].kind", r"config.steps\[2\]: config.steps has 2 entries, counted from 0"),
    ("seed.deep", "config.seed is 3, no section with a key 'deep'"),
    ("steps.kind", "config.steps is a sequence, no section with a key 'kind'"),
    ("name[0]", r"config.name is no sequence, so that there is no config.name\[0\]")])
def test_keys_that_lead_nowhere(key, message):
  with pytest.raises(UserError, match=message):
    overrides.apply(_config(), {key: "1"})


@pytest.mark.parametrize("key, value, where", [
    ("data.variant", "tiny", lambda plan: plan.steps[1].config.data["variant"]),
    ("data.flip", 0.25, lambda plan: plan.steps[1].config.data["flip"]),
    ("data.validation_from", "test", lambda plan: plan.steps[1].config.data["validation_from"]),
    ("data.pose.persons", 2, lambda plan: plan.steps[1].config.data["pose"]["persons"]),
    ("steps[1].batch_size", 4, lambda plan: plan.steps[1].config.batch_size),
    ("steps[3].loss.epsilon", 0.5, lambda plan: plan.steps[3].config.loss["epsilon"]),
    ("steps[3].optim.b2", 0.9, lambda plan: plan.steps[3].config.optim["b2"]),
    ("steps[4].views.aggregate", "max", lambda plan: plan.steps[4].config.views["aggregate"])])
def test_fields_that_a_shipped_config_leaves_to_their_defaults(key, value, where):
  config = configuration.load("configs/quickstart.py:tiny")
  overrides.apply(config, {key: str(value)})
  assert where(planning.plan(config)) == value


def test_what_nothing_reads_is_refused_by_the_plan():
  for key, message in (("bacth_size", "has no key 'bacth_size'"), ("data.variants", "variants"),
                       ("steps[1].optim.rate", "rate"), ("steps[0].kind", "kind")):
    config = configuration.load("configs/quickstart.py:tiny")
    overrides.apply(config, {key: "3"})
    with pytest.raises(UserError, match=message):
      planning.plan(config)


def test_the_command_line(monkeypatch):
  values = flags.FlagValues()
  monkeypatch.setattr(flags, "FLAGS", values)
  flags.DEFINE_string("config", None, "", flag_values=values)
  rest = configuration.parse_flags(
      ["program", "--config", "configs/quickstart.py:tiny", "--config.data.variant=small", "left"])
  assert rest == ["program", "left"]
  assert isinstance(values.config, ConfigDict) and values.config.data.variant == "small"
  values.unparse_flags()
  values["config"].value = None
  with pytest.raises(UserError, match="flag --config.seed changes a config: give --config=FILE"):
    configuration.parse_flags(["program", "--config.seed=3"])
