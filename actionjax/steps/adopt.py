"""The step that takes a network as it is: a converted checkpoint becomes a model to evaluate."""
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from actionjax import configuration, models, skeletons
from actionjax.errors import UserError
from actionjax.models import posec3d
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
    model = network | configuration.to_dict(config.model)
    if known.get("maps"):
      model["maps"] = dict(known["maps"]) | model.get("maps", {})
    config = dataclasses.replace(config, model=model)
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
    raise UserError(f"{source} reads skeletons of the layout {skeletons.title(theirs)}, but "
                    f"{data.dataset} has {skeletons.title(ours)}")
  # Strides and the like, which the weights do not tell.
  for field, there in network.items():
    here = config.model["name"] if field == "name" else getattr(parsed.model, field, None)
    here, there = _plain(here), _plain(there)
    if here != there:
      raise UserError(f"{source} holds a network with {field} {there}, but {path}.model has "
                      f"{here}")
  _check_maps(source, known, parsed, path)
  _check_clips(source, known, parsed, path)


def _check_maps(source: str, known: dict, parsed: train.Parsed, path: str) -> None:
  """Raises UserError where a network drew other heat maps when it was trained, as far as known."""
  theirs = known.get("maps") or dict(known.get("model", {})).get("maps")
  if not theirs or not hasattr(parsed.model, "maps"):
    return
  ours, theirs = posec3d.make_maps(parsed.model.maps), dict(theirs)
  kind = theirs.get("kind", ours.kind)
  if kind != ours.kind:
    raise UserError(f"{source} reads heat maps of kind {kind}, but {path}.model.maps.kind is "
                    f"{ours.kind}; give kind={kind}")
  if kind != "joint":
    own = skeletons.layout(parsed.model.layout).limbs
    limbs = [_plain(own.tolist() if given is None else given)
             for given in (theirs.get("limbs"), ours.limbs)]
    if limbs[0] != limbs[1]:
      raise UserError(f"{source} reads the limbs {limbs[0]} in this order, but {path}.model.maps "
                      f"draws {limbs[1]}; give model.maps.limbs={limbs[0]}")


def _check_clips(source: str, known: dict, parsed: train.Parsed, path: str) -> None:
  """Raises UserError where a graph network reads another stream, or was trained on clips that are
  made in another way, as far as known."""
  if known.get("stream") and hasattr(parsed.model, "stream"):
    names = parsed.model.stream
    names = (names,) if isinstance(names, str) else names
    if parsed.data.motion:
      names = [f"{name}_motion" for name in names]
    ours, theirs = (":".join(streams) for streams in (names, known["stream"]))
    if ours != theirs:
      raise UserError(f"{source} reads the stream {theirs}, but {path} gives it {ours}; give "
                      f"stream={theirs}")
  if known.get("pipeline"):
    graph = parsed.data.inputs.get("graph")
    if graph is None or graph.frames != known["pipeline"]:
      raise UserError(f"{source} is an ST-GCN of MMAction2 before its version 1, which was trained "
                      "on 300 frames of raw skeletons, the first ones over and over, and gives "
                      f"nothing of worth on other clips: {path}.data.graph.frames must be "
                      f"{known['pipeline']} (config argument released={known['pipeline']})")


def _plain(value):
  """As JSON has it: tuples are lists."""
  return json.loads(json.dumps(configuration.to_dict(value)))
