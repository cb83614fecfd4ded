"""The step that trains a model by gradient."""
import dataclasses
import functools
import pathlib
import time
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from actionjax import configuration, console, distributed, models
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import DataConfig, batch_spec, parse_data
from actionjax.errors import UserError
from actionjax.evaluators import classification, metrics
from actionjax.ops import compilation, corruption, memory
from actionjax.pruning import masks as pruning_masks
from actionjax.steps import group, prune
from actionjax.steps.context import Context, step_seed
from actionjax.steps.outline import Earlier, Model, Outline, placed, trace
from actionjax.training import checkpoint, initialise, inspection, loop, losses, optim, sharding
from actionjax.training import state as states
from actionjax.training.state import path_names
from actionjax.training.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
  """How a training looks at held-out clips.

  Attributes:
    split: of the protocol, "validation" or (leaking, as some papers do) "test".
    every_epochs: distance of validations.
    views: see `classification.ViewConfig`.
  """
  split: str = "validation"
  every_epochs: float = 1.0
  views: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.every_epochs <= 0:
      raise ValueError(f"every_epochs must be above 0, got {self.every_epochs}")


@dataclasses.dataclass(frozen=True)
class Config:
  """A training.

  Attributes:
    name: of the step, unique in its recipe.
    model: see `models.create`.
    data: see `DataConfig`.
    loss: `name` of a function of `training.losses` and its keyword arguments.
    optim: see `optim.OptimConfig`.
    batch_size: of the global batch; a multiple of the number of devices.
    epochs, num_steps: the length, one of the two.
    split: what to train on: "train", or "fit" to keep "validation" out.
    validate: see `ValidationConfig`; None for none.
    init_from: see `initialise.InitFrom`; later ones win.
    init_as: an earlier training whose fresh weights this one draws too, wherever both have an
      array of that path and shape: two networks that are to start alike. None for its own.
    superclasses: the earlier "group" step, or a superclasses.json, whose levels the loss
      `hierarchical` is given.
    pruned_by: the earlier "prune" step, whose dead filters stay exactly zero; its model is what
      `init_from` should name.
    drop_joints: probability that a person loses one joint of an arm or a leg in a frame, in
      training only; see `corruption.drop_limb_joints`.
    freeze: regular expressions over parameter paths ("backbone/.*"). Batch norms of modules
      that are frozen altogether normalise as at test.
    ema: decay of averaged parameters, which are then what is evaluated and kept.
    select: the model that later steps see: "last" or "best" by validation.
    monitor: the validation metric for "best" and for the plateau rule.
    log_every, checkpoint_every: in steps.
  """
  name: str
  model: Mapping[str, Any]
  data: Mapping[str, Any]
  batch_size: int
  epochs: float | None = None
  num_steps: int | None = None
  loss: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"name": "cross_entropy"})
  optim: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  split: str = "train"
  validate: Mapping[str, Any] | None = None
  init_from: tuple[Mapping[str, Any], ...] = ()
  init_as: str | None = None
  superclasses: str | None = None
  pruned_by: str | None = None
  drop_joints: float = 0.0
  freeze: tuple[str, ...] = ()
  ema: float | None = None
  select: Literal["last", "best"] = "last"
  monitor: Literal["top1", "top5", "mean_class_accuracy", "loss"] = "top1"
  log_every: int = 50
  checkpoint_every: int = 500

  def __post_init__(self):
    for field in ("batch_size", "epochs", "num_steps", "log_every", "checkpoint_every"):
      value = getattr(self, field)
      if value is not None and (value <= 0 or field != "epochs" and value < 1):
        raise ValueError(f"{field} must be above 0, got {value}")
    if (self.epochs is None) == (self.num_steps is None):
      raise ValueError("needs one of epochs and num_steps")
    if self.ema is not None and not 0 < self.ema < 1:
      raise ValueError(f"ema must lie in (0, 1), got {self.ema}")


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A training's config with every section turned into what it configures."""
  model: Any
  data: DataConfig
  loss: Any
  optim: optim.OptimConfig
  validation: ValidationConfig | None
  views: classification.ViewConfig
  init_from: tuple[initialise.InitFrom, ...]


def parse(config: Config, path: str) -> Parsed:
  """Builds every section; raises UserError at the first key or value that nothing takes."""
  build = configuration.build
  data = parse_data(config.data, f"{path}.data")
  validation = views = None
  if config.validate is not None:
    validation = build(ValidationConfig, config.validate, f"{path}.validate")
    views = build(classification.ViewConfig, validation.views, f"{path}.validate.views")
  if config.select == "best" and validation is None:
    raise UserError(f"{path}.select=best needs {path}.validate")
  optimiser = build(optim.OptimConfig, config.optim, f"{path}.optim")
  if optimiser.plateau_factor is not None and validation is None:
    raise UserError(f"{path}.optim.plateau_factor needs {path}.validate")
  model = models.create(config.model, num_classes=len(data.source.class_names),
                        layout=data.source.layout, path=f"{path}.model")
  corruption.check(config.drop_joints, f"{path}.drop_joints", model.inputs,
                   motion=data.motion)
  lacking = set(model.inputs) - set(data.arrays)
  if lacking:
    raise UserError(f"{path}: the model reads {', '.join(sorted(lacking))}, which "
                    f"{path}.data does not yield")
  for read in data.inputs.values():
    read.check_model(model, data.layout, path)
  return Parsed(
      model=model, data=data.only(model.inputs),
      loss=losses.parse(config.loss, f"{path}.loss"), optim=optimiser,
      validation=validation, views=views or classification.ViewConfig(),
      init_from=tuple(build(initialise.InitFrom, item, f"{path}.init_from[{i}]")
                      for i, item in enumerate(config.init_from)))


def reads(config: Config) -> tuple[str, ...]:
  """The steps that the config names; what it starts from may be a folder instead, superclasses a
  file."""
  sources = (section.get("source") for section in config.init_from)
  return tuple(name for name in (*sources, config.init_as, config.superclasses, config.pruned_by)
               if name is not None)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks a training against all that stands before it, its network on shapes alone.

  Raises:
    UserError: a key or value that nothing takes; a name of no earlier step of the right kind; a
      network, loss, weights or patterns that do not go together; a split without clips.
  """
  parsed = parse(config, path)
  earlier.check_batch_size(config.batch_size, f"{path}.batch_size")
  clips = earlier.count(parsed.data, config.split, path)
  if parsed.validation is not None:
    earlier.count(parsed.data, parsed.validation.split, f"{path}.validate")
  loss = parsed.loss
  if config.superclasses is not None:
    sizes = _superclasses(config, parsed, path, earlier)
    if sizes is not None:
      loss = functools.partial(loss, superclasses=sizes)
  variables, streams = trace(parsed.model, parsed.data, path, loss, config.batch_size)
  for number, source in enumerate(parsed.init_from):
    place = f"{path}.init_from[{number}]"
    known = earlier.weights(source.source, f"{place}.source")
    if known is not None:
      with placed(place):
        initialise.match(variables, known, source)
  if config.init_as is not None:
    earlier.having("model", config.init_as, f"{path}.init_as", "step that trains a model")
  if config.pruned_by is not None:
    earlier.having("prunes", config.pruned_by, f"{path}.pruned_by", "step that prunes")
  with placed(f"{path}.freeze"):
    optim.frozen_labels(variables["params"], tuple(config.freeze))
  with placed(f"{path}.optim.decay_on"):
    optim.check_patterns(path_names(variables["params"]), parsed.optim.decay_on, "decay_on")
  source = parsed.data.source
  facts = {"parameters": sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))}
  if clips is not None:
    facts |= {"clips": clips, "updates": length(config, clips)}
  elif config.num_steps is not None:
    facts |= {"updates": config.num_steps}
  return Outline(model=Model(parsed.model, parsed.data, source.class_names, source.layout,
                             variables, streams),
                 facts=facts, memory=functools.partial(_memory, config, parsed, loss, variables),
                 section={
                                 "model": models.filled(config.model, parsed.model),
                                 "data": parsed.data.section(),
                                 "loss": losses.filled(config.loss),
                                 "optim": dataclasses.asdict(parsed.optim),
                                 "validate": _validation_section(parsed),
                                 "init_from": tuple(map(dataclasses.asdict, parsed.init_from))})


def _validation_section(parsed: Parsed) -> dict | None:
  return parsed.validation and dataclasses.asdict(parsed.validation) | {
      "views": dataclasses.asdict(parsed.views)}


def _superclasses(config: Config, parsed: Parsed, path: str, earlier: Earlier):
  """A grouping of the right sizes, to trace the loss with.

  None where a file holds it and is looked at by the step itself.
  """
  place = f"{path}.superclasses"
  if config.superclasses not in earlier.outlines and pathlib.Path(config.superclasses).is_file():
    levels = group.read(config.superclasses)
  else:
    sizes = earlier.having("superclasses", config.superclasses, place,
                           "step that groups classes").superclasses
    levels = tuple(None if size is None else
                   tuple(label % size for label in range(parsed.model.num_classes))
                   for size in sizes)
  group.check_levels(levels, getattr(parsed.model, "levels", ()), parsed.model.num_classes, place)
  return levels


def length(config: Config, clips: int) -> int:
  """Number of updates of a training on so many clips."""
  return config.num_steps or max(1, round(config.epochs * clips / config.batch_size))


def describe(config: Config, parsed: Parsed) -> dict:
  """What a checkpoint says about itself, as JSON."""
  source = parsed.data.source
  return {"format": 1, "model": configuration.to_dict(config.model),
          "class_names": list(source.class_names), "layout": source.layout,
          "data": parsed.data.section(), "views": dataclasses.asdict(parsed.views)}


def run(config: Config, context: Context) -> dict:
  """Trains, resuming where an earlier run of this step's folder ended.

  Returns:
    Artifacts: `model` (folder, relative to the workdir), `params_digest`, `steps`, `clips`,
    `best` and `best_step` (None without validation).
  """
  parsed = parse(config, context.path)
  mesh = context.mesh
  sharding.check_batch_size(config.batch_size, mesh, f"{context.path}.batch_size")
  clips = pipeline.open_split(parsed.data, context.data_dir, config.split)
  per_epoch = len(clips) / config.batch_size
  total = length(config, len(clips))

  variables = initialise.fresh_variables(
      parsed.model, test_spec(parsed),
      step_seed(context.run_seed, config.init_as) if config.init_as else context.seed, mesh)
  for source in parsed.init_from:
    loaded, _ = checkpoint.load_model(context.model_of(source.source), sharding.replicated(mesh))
    variables, report = initialise.load_into(variables, loaded, source)
    if distributed.is_first():
      context.directory.mkdir(parents=True, exist_ok=True)
      (context.directory / "loaded.txt").write_text(
          f"from {source.source}\n" + "\n".join(
              f"{field.name}: {path}" for field in dataclasses.fields(report)
              for path in getattr(report, field.name)) + "\n")

  loss, masks = parsed.loss, None
  if config.superclasses is not None:
    levels = group.load(context, config.superclasses)
    group.check_levels(levels, getattr(parsed.model, "levels", ()), parsed.model.num_classes,
                       context.path)
    loss = functools.partial(loss, superclasses=levels)
  if config.pruned_by is not None:
    masks = pruning_masks.find_masks(variables["params"], prune.rule_of(context, config.pruned_by))
  create, train_step = _assemble(config, parsed, loss, variables["params"], total, context.seed,
                                 mesh, context.inspection.debug)
  state = jax.jit(create, out_shardings=sharding.replicated(mesh))(variables, masks=masks)
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)

  description = describe(config, parsed)
  checkpoints = checkpoint.TrainingCheckpoints(context.directory / "checkpoints", description)
  every = (max(1, round(parsed.validation.every_epochs * per_epoch)) if parsed.validation else 0)
  console.say(f"training {config.name}: {len(clips)} clips, {total} steps of "
              f"{config.batch_size} clips")
  began = time.time()
  try:
    state, progress = loop.fit(
        state, train_step,
        lambda step: pipeline.train_batches(clips, parsed.data, batch_size=config.batch_size,
                                            seed=context.seed, step=step),
        loop.LoopConfig(total, config.log_every, every, config.checkpoint_every, config.monitor),
        parsed.optim, checkpoints, mesh=mesh, abstract=abstract, directory=context.directory,
        batch_size=config.batch_size, validate=_validator(config, parsed, context),
        profile=context.inspection.profile)
    if config.select == "best":
      state, _ = checkpoints.restore(abstract, "best")
  finally:
    checkpoints.close()
  return context.save_model(state.variables(), description) | {
      "steps": total, "clips": len(clips), "best": progress.best,
      "best_step": progress.best_step, "seconds_since_resume": time.time() - began}


def _assemble(config: Config, parsed: Parsed, loss, params, total: int, seed: int, mesh,
              debug: str | None = None):
  """What makes the first state of a training, and its jitted step.

  Args:
    params: arrays, or their shapes.
    total: number of updates.
    debug: see `inspection.compile_step`.
  """
  labels = optim.frozen_labels(params, tuple(config.freeze))
  optimiser = optim.make(parsed.optim, total, labels)
  create = functools.partial(states.create, optimiser=optimiser, ema=config.ema is not None)
  train_step = inspection.compile_step(
      make_train_step(parsed.model, loss, optimiser, labels, seed=seed, ema=config.ema,
                      augment=_augment(config, parsed)),
      debug, out_shardings=(sharding.replicated(mesh), None),
      compiler_options=compilation.compiler_options())
  return create, train_step


def _memory(config: Config, parsed: Parsed, loss, variables) -> int | None:
  """Bytes that one step needs on all devices, from its compiled program; None if it does not say.

  Args:
    variables: shapes.
  """
  mesh = sharding.make_mesh()
  create, train_step = _assemble(config, parsed, loss, variables["params"], 1, 0, mesh)
  place = lambda tree, where: jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where(mesh)), tree)
  state = place(jax.eval_shape(functools.partial(create, masks=None), variables),
                sharding.replicated)
  batch = place(batch_spec(parsed.data, config.batch_size), sharding.batched)
  found = train_step.lower(state, batch, np.float32(1)).compile().memory_analysis()
  if found is None:
    return None
  one = (found.argument_size_in_bytes + found.output_size_in_bytes + found.temp_size_in_bytes
         - found.alias_size_in_bytes)
  return one * mesh.size


def test_spec(parsed: Parsed) -> dict:
  """Shapes and types of one test clip's batch: its maps and its video go together where those of
  training have other sizes."""
  return batch_spec(parsed.data, 1, test=True)


def _augment(config: Config, parsed: Parsed):
  """What a training does to a batch on the devices; None for nothing."""
  if not config.drop_joints:
    return None
  layout = parsed.data.layout

  def augment(batch, key):
    keys = jax.random.split(key, batch["label"].shape[0])
    return corruption.drop_from_batch(batch, layout, config.drop_joints, keys)
  return augment


def _validator(config: Config, parsed: Parsed, context: Context):
  if parsed.validation is None:
    return None
  clips = pipeline.open_split(parsed.data, context.data_dir, parsed.validation.split)
  variables, _ = trace(parsed.model, parsed.data, context.path)
  needed, room = classification.view_bytes(parsed.model, variables, parsed.data), memory.budget()
  devices = context.mesh.size
  view_step = classification.make_view_step(
      parsed.model, parsed.views, mirror_classes=parsed.data.mirror_classes, needed=needed,
      budget=room, devices=devices)
  batch_size = classification.fitting_batch(config.batch_size, devices, needed, room)

  def validate(variables) -> dict:
    scores = classification.evaluate(view_step, variables, clips, parsed.data, parsed.views,
                                     batch_size=batch_size, mesh=context.mesh)
    found = metrics.summarise(scores.probabilities[scores.readable],
                              scores.labels[scores.readable])
    return {key: found[key] for key in ("top1", "top5", "mean_class_accuracy")} | {
        "loss": metrics.cross_entropy(scores.probabilities[scores.readable],
                                      scores.labels[scores.readable])}

  return validate
