"""The step that takes a network as it is: a converted checkpoint becomes a model to evaluate."""
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from actionjax import configuration, models
from actionjax.errors import UserError
from actionjax.steps import train
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Model, Outline, trace
from actionjax.training import checkpoint, initialise, sharding


@dataclasses.dataclass(frozen=True)
class Config:
  """A model that is not trained here.

  Attributes:
    source: a model directory, as `python -m actionjax.convert` writes them, or a run.
    model: see `models.create`; every weight of it must be in the source, and none be left over. A
      field that it does not name is the source's, where a converted checkpoint says it.
    data: see `loading.config.DataConfig`; the dataset to evaluate on.
    name: of the step.
  """
  source: str
  model: Mapping[str, Any]
  data: Mapping[str, Any]
  name: str = "network"


def parse(config: Config, path: str) -> train.Parsed:
  """Builds the sections, as for a training; raises UserError where they do not go together."""
  return train.parse(_as_training(config), path)


def reads(config: Config) -> tuple[str, ...]:
  """What is taken: a folder, or an earlier step."""
  return (config.source,)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks what the source says of itself, and the network on shapes alone. Raises UserError."""
  if config.source in earlier.outlines or not pathlib.Path(config.source).is_dir():
    earlier.model(config.source, f"{path}.source")
    parsed = parse(config, path)
  else:
    known = checkpoint.load_description(checkpoint.find_model(config.source))
    config, parsed = _with_source(config, known, path)
  variables, streams = trace(parsed.model, parsed.data, path)
  source = parsed.data.source
  return Outline(model=Model(parsed.model, parsed.data, source.class_names, source.layout,
                             variables, streams),
                 section={"model": models.filled(config.model, parsed.model),
                          "data": parsed.data.section()})


def _with_source(config: Config, known: dict, path: str) -> tuple[Config, train.Parsed]:
  """The config with the fields that a source knows of its network, checked against it."""
  network = {key: value for key, value in known.get("network", {}).items() if key != "layout"}
  if network.get("name") == config.model["name"]:
    config = dataclasses.replace(config, model=network | configuration.to_dict(config.model))
  parsed = parse(config, path)
  _check(config, parsed, known, path)
  return config, parsed


def _as_training(config: Config) -> train.Config:
  return train.Config(name=config.name, model=config.model, data=config.data, batch_size=1,
                      num_steps=1)


def run(config: Config, context: Context) -> dict:
  """Loads the weights and writes the model with all that an evaluation has to know.

  Returns:
    Artifacts: `model` (folder, relative to the workdir) and `params_digest`.

  Raises:
    UserError: the source is of another network, number of classes or joint layout.
  """
  loaded, known = checkpoint.load_model(context.model_of(config.source),
                                        sharding.replicated(context.mesh))
  config, parsed = _with_source(config, known, context.path)
  variables, report = initialise.load_into(
      initialise.fresh_variables(parsed.model, train.test_spec(parsed), context.seed,
                                 context.mesh), loaded,
      initialise.InitFrom(config.source, strict=True))
  if report.skipped:
    raise UserError(f"{config.source} has weights that {context.path}.model has no place for: "
                    f"{', '.join(report.skipped[:3])}")
  return context.save_model(variables, train.describe(_as_training(config), parsed))


def _check(config: Config, parsed: train.Parsed, known: dict, path: str) -> None:
  """Compares what the source says of itself with the model; shapes are compared later."""
  source, data = config.source, parsed.data
  classes = known.get("num_classes") or len(known.get("class_names", ())) or None
  if classes not in (None, parsed.model.num_classes):
    raise UserError(f"{source} tells {classes} classes apart, but {data.dataset} has "
                    f"{parsed.model.num_classes}")
  network = dict(known.get("network", {}))
  theirs, ours = network.pop("layout", None) or known.get("layout"), data.source.layout
  if "pose_score" in parsed.model.inputs and theirs not in (None, ours):
    raise UserError(f"{source} reads skeletons of the layout {theirs}, but {data.dataset} has "
                    f"{ours or 'none'}")
  # Strides and the like, which the weights do not tell.
  for field, there in network.items():
    here = config.model["name"] if field == "name" else getattr(parsed.model, field, None)
    here, there = _plain(here), _plain(there)
    if here != there:
      raise UserError(f"{source} holds a network with {field} {there}, but {path}.model has "
                      f"{here}")


def _plain(value):
  """As JSON has it: tuples are lists."""
  return json.loads(json.dumps(configuration.to_dict(value)))
