"""The step that trains a model by gradient."""
import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax

from actionjax import configuration, console, distributed, models
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import parse_data
from actionjax.errors import UserError
from actionjax.evaluators import classification, metrics
from actionjax.ops import compilation, corruption
from actionjax.pruning import masks as pruning_masks
from actionjax.steps import group, prune
from actionjax.steps.context import Context
from actionjax.training import checkpoint, initialise, inspection, loop, losses, optim, sharding
from actionjax.training import state as states
from actionjax.training.train_step import make_train_step


@dataclasses.dataclass(frozen=True)
class ValidationConfig:
  """How a training looks at held-out clips.

  Attributes:
    part: of the protocol, "validation" or (leaking, as some papers do) "test".
    every_epochs: distance of validations.
    views: see `classification.ViewConfig`.
  """
  part: str = "validation"
  every_epochs: float = 1.0
  views: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Config:
  """A training.

  Attributes:
    name: of the step, unique in its recipe.
    model: see `models.create`.
    data: see `pipeline.DataConfig`.
    loss: `name` of a function of `training.losses` and its keyword arguments.
    optim: see `optim.OptimConfig`.
    batch_size: of the global batch; a multiple of the number of devices.
    epochs, num_steps: the length, one of the two.
    part: what to train on: "train", or "fit" to keep "validation" out.
    validate: see `ValidationConfig`; None for none.
    init_from: see `initialise.InitFrom`; later ones win.
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
  part: str = "train"
  validate: Mapping[str, Any] | None = None
  init_from: tuple[Mapping[str, Any], ...] = ()
  superclasses: str | None = None
  pruned_by: str | None = None
  drop_joints: float = 0.0
  freeze: tuple[str, ...] = ()
  ema: float | None = None
  select: str = "last"
  monitor: str = "top1"
  log_every: int = 50
  checkpoint_every: int = 500


@dataclasses.dataclass(frozen=True)
class Parsed:
  """A training's config with every section turned into what it configures."""
  model: Any
  data: pipeline.DataConfig
  loss: Any
  optim: optim.OptimConfig
  validation: ValidationConfig | None
  views: classification.ViewConfig
  init_from: tuple[initialise.InitFrom, ...]


def parse(config: Config, path: str) -> Parsed:
  """Builds every section; raises UserError at the first key or value that nothing takes."""
  build = configuration.build
  data = parse_data(config.data, f"{path}.data")
  builder = data.builder
  validation = views = None
  if config.validate is not None:
    validation = build(ValidationConfig, config.validate, f"{path}.validate")
    views = build(classification.ViewConfig, validation.views, f"{path}.validate.views")
  if (config.epochs is None) == (config.num_steps is None):
    raise UserError(f"{path} needs one of epochs and num_steps")
  if config.select not in ("last", "best"):
    raise UserError(f"{path}.select {config.select!r} is neither last nor best")
  if config.select == "best" and validation is None:
    raise UserError(f"{path}.select=best needs {path}.validate")
  optimiser = build(optim.OptimConfig, config.optim, f"{path}.optim")
  if optimiser.plateau_factor is not None and validation is None:
    raise UserError(f"{path}.optim.plateau_factor needs {path}.validate")
  model = models.create(config.model, num_classes=len(builder.CLASS_NAMES),
                        layout=builder.LAYOUT, path=f"{path}.model")
  corruption.check(config.drop_joints, f"{path}.drop_joints", model.inputs,
                   motion=bool(data.graph and data.graph.motion))
  lacking = set(model.inputs) - set(pipeline.model_inputs(data))
  if lacking:
    raise UserError(f"{path}: the model reads {', '.join(sorted(lacking))}, which "
                    f"{path}.data does not yield")
  if data.pose2d and "pose2d" in model.inputs and hasattr(model, "check_pixels"):
    model.check_pixels(data.pose2d.size, data.pose2d.test_size)
  if data.graph and "pose_score" in model.inputs:
    _check_graph(model, data, path)
  return Parsed(
      model=model, data=pipeline.only(data, model.inputs),
      loss=losses.parse(config.loss, f"{path}.loss"), optim=optimiser,
      validation=validation, views=views or classification.ViewConfig(),
      init_from=tuple(build(initialise.InitFrom, item, f"{path}.init_from[{i}]")
                      for i, item in enumerate(config.init_from)))


def _check_graph(model, data: pipeline.DataConfig, path: str) -> None:
  """Raises UserError where a model takes other skeletons than the normalised ones of `data.graph`,
  or these cannot be made."""
  if data.graph.dimensions == 3:
    _ = data.layout.spine, data.layout.centre  # which raise where there are none
  if not hasattr(model, "normalise"):
    raise UserError(f"{path}: data.graph yields normalised skeletons for graph networks, but the "
                    "model draws them in pixels; give data.pose2d instead")
  if model.normalise != "none":
    raise UserError(f"{path}.model.normalise must be none: {path}.data.graph yields normalised "
                    "skeletons")
  if getattr(model, "stream", "").endswith("_motion"):
    raise UserError(f"{path}.model.stream={model.stream}: beside {path}.data.graph give "
                    f"data.graph.motion=True and stream={model.stream.removesuffix('_motion')}, so "
                    "that the motion is that of consecutive frames")


def describe(config: Config, parsed: Parsed) -> dict:
  """What a checkpoint says about itself, as JSON."""
  builder = parsed.data.builder
  return {"format": 1, "model": configuration.to_dict(config.model),
          "class_names": list(builder.CLASS_NAMES), "layout": builder.LAYOUT,
          "data": dataclasses.asdict(parsed.data), "views": dataclasses.asdict(parsed.views)}


def run(config: Config, context: Context) -> dict:
  """Trains, resuming where an earlier run of this step's folder ended.

  Returns:
    Artifacts: `model` (folder, relative to the workdir), `params_digest`, `steps`, `clips`,
    `best` and `best_step` (None without validation).
  """
  parsed = parse(config, context.path)
  mesh = context.mesh
  sharding.check_batch_size(config.batch_size, mesh, f"{context.path}.batch_size")
  clips = pipeline.open_part(parsed.data, context.data_dir, config.part)
  per_epoch = len(clips) / config.batch_size
  total = config.num_steps or max(1, round(config.epochs * per_epoch))

  variables = initialise.fresh_variables(
      parsed.model, test_spec(parsed), context.seed, mesh)
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
  labels = optim.frozen_labels(variables["params"], tuple(config.freeze))
  optimiser = optim.make(parsed.optim, total, labels)
  create = functools.partial(states.create, optimiser=optimiser, ema=config.ema is not None)
  state = jax.jit(create, out_shardings=sharding.replicated(mesh))(variables, masks=masks)
  abstract = jax.tree.map(
      lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
  train_step = inspection.compile_step(
      make_train_step(parsed.model, loss, optimiser, labels, seed=context.seed,
                      ema=config.ema, augment=_augment(config, parsed)),
      context.inspection.debug, out_shardings=(sharding.replicated(mesh), None),
      compiler_options=compilation.compiler_options())

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


def test_spec(parsed: Parsed) -> dict:
  """Shapes and types of one test clip's batch: its maps and its video go together where those of
  training have other sizes."""
  return pipeline.batch_spec(parsed.data, 1, test=True)


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
  clips = pipeline.open_part(parsed.data, context.data_dir, parsed.validation.part)
  view_step = classification.make_view_step(parsed.model, parsed.views,
                                            mirror_classes=parsed.data.mirror_classes)

  def validate(variables) -> dict:
    scores = classification.evaluate(view_step, variables, clips, parsed.data, parsed.views,
                                     batch_size=config.batch_size, mesh=context.mesh)
    found = metrics.summarise(scores.probabilities[scores.readable],
                              scores.labels[scores.readable])
    return {key: found[key] for key in ("top1", "top5", "mean_class_accuracy")} | {
        "loss": metrics.cross_entropy(scores.probabilities[scores.readable],
                                      scores.labels[scores.readable])}

  return validate
