"""The step that sets the weakest filters of a trained model to zero."""
import dataclasses
from typing import Literal

from actionjax import console, distributed
from actionjax.errors import UserError
from actionjax.pruning import masks as pruning_masks
from actionjax.pruning import scores
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline, placed
from actionjax.training import checkpoint, sharding


@dataclasses.dataclass(frozen=True)
class Config:
  """One pass of pruning.

  Attributes:
    name: of the step.
    model_from: the earlier training whose model is pruned (None: the latest).
    fraction: of the living filters, in (0, 1).
    scope: "by_layers" or "altogether"; see `masks.make_masks`.
    norm: "l2" or "rms"; see `scores.filter_scores`.
    include, exclude, shortcuts: see `scores.FilterRule`; an empty include is its default.
  """
  name: str = "prune"
  model_from: str | None = None
  fraction: float = 0.1
  scope: Literal["by_layers", "altogether"] = "by_layers"
  norm: Literal["l2", "rms"] = "l2"
  include: tuple[str, ...] = ()
  exclude: tuple[str, ...] = ()
  shortcuts: bool = True


def parse(config: Config, path: str) -> scores.FilterRule:
  """The rule that picks the filters; raises UserError for values that nothing takes."""
  if not 0 < config.fraction < 1:
    raise UserError(f"{path}.fraction must lie in (0, 1), got {config.fraction}")
  include = {"include": config.include} if config.include else {}
  return scores.FilterRule(**include, exclude=config.exclude, shortcuts=config.shortcuts)


def reads(config: Config) -> tuple[str, ...]:
  """The step that the config names; it may be a folder instead."""
  return () if config.model_from is None else (config.model_from,)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks that there is a model, and that the rule finds filters in it. Raises UserError."""
  rule = parse(config, path)
  model = earlier.model(config.model_from, f"{path}.model_from")
  if model.variables is not None:
    with placed(path):
      rule.kernels(model.variables["params"])
  return Outline(model=model, prunes=True, section=dataclasses.asdict(rule))


def run(config: Config, context: Context) -> dict:
  """Prunes; what is exactly zero already counts as pruned before and stays so.

  Returns:
    Artifacts: `model` (folder, relative to the workdir), `params_digest`, `rule` (for
    `rule_of`), `alive` and `filters` (how many there are, over all layers).
  """
  rule = parse(config, context.path)
  variables, description = checkpoint.load_model(context.model_of(config.model_from),
                                                 sharding.replicated(context.mesh))
  params = variables["params"]
  before = pruning_masks.find_masks(params, rule)
  masks = pruning_masks.make_masks(scores.filter_scores(params, rule, config.norm), before,
                                   config.fraction, config.scope)
  # Layers that no mask touches yet are missing from the count of what survives.
  filters = sum(kernel.shape[-1] for kernel in rule.kernels(params).values())
  alive = filters - sum(total - living for living, total in
                        pruning_masks.surviving(masks).values())
  console.say(f"{config.scope}: {alive} of {filters} filters are left")
  variables = {**variables, "params": pruning_masks.apply_masks(params, masks)}
  artifacts = context.save_model(variables, description)
  if distributed.is_first():
    (context.directory / "filters.txt").write_text(pruning_masks.report(masks) + "\n")
  return artifacts | {"rule": dataclasses.asdict(rule), "alive": alive, "filters": filters}


def rule_of(context: Context, step: str) -> scores.FilterRule:
  """The rule by which an earlier step pruned. Raises UserError where there is none."""
  if "rule" not in context.previous.get(step, {}):
    raise UserError(f"{context.path}.pruned_by: there is no earlier step {step!r} that prunes")
  return scores.FilterRule(**context.previous[step]["rule"])
