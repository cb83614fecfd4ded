"""Optimisers and learning-rate schedules from a config section."""
import dataclasses
import functools
import re
from collections.abc import Sequence
from typing import Literal

import jax
import optax

from actionjax import annotations
from actionjax.errors import UserError
from actionjax.training.state import path_names


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """An optimiser and its schedule.

  Attributes:
    name: "adam", "adamw" (decoupled decay) or "sgd" (Nesterov by choice).
    learning_rate: the peak value.
    schedule: "constant", "cosine" (to `final_ratio` of the peak) or "steps" (times `drop` after
      each fraction of the training in `drops`).
    warmup: share of the training over which the rate rises linearly from 0.
    weight_decay: added to the gradient ("adam", "sgd") or decoupled ("adamw"); on kernels only
      (two or more dimensions), unless `decay_all`.
    decay_on: regular expressions over parameter paths ("head/"); the decay is on the kernels of
      these alone. Empty for all.
    clip_norm: largest global gradient norm.
    clip_value: largest absolute value of a gradient's entry.
    plateau_factor, plateau_patience: the rate is multiplied by the factor after more than
      `patience` validations in a row without a better monitored value (None: never).
  """
  name: Literal["adam", "adamw", "sgd"] = "adam"
  learning_rate: float = 1e-3
  schedule: Literal["constant", "cosine", "steps"] = "constant"
  warmup: float = 0.0
  final_ratio: float = 0.0
  drops: tuple[float, ...] = ()
  drop: float = 0.1
  momentum: float = 0.9
  nesterov: bool = False
  b1: float = 0.9
  b2: float = 0.999
  weight_decay: float = 0.0
  decay_all: bool = False
  decay_on: tuple[str, ...] = ()
  clip_norm: float | None = None
  clip_value: float | None = None
  plateau_factor: float | None = None
  plateau_patience: int = 1

  def __post_init__(self):
    annotations.check_fields(self)
    if not self.learning_rate > 0:
      raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
    if not 0 <= self.warmup < 1:
      raise ValueError(f"warmup must be a share of the training in [0, 1), got {self.warmup}")
    if self.plateau_factor is not None and not 0 < self.plateau_factor < 1:
      raise ValueError(f"plateau_factor must lie in (0, 1), got {self.plateau_factor}")


def schedule(config: OptimConfig, total_steps: int) -> optax.Schedule:
  """Learning rate as a function of the step in [0, total_steps)."""
  warmup = int(config.warmup * total_steps)
  rest = max(1, total_steps - warmup)
  if config.schedule == "cosine":
    main = optax.cosine_decay_schedule(config.learning_rate, rest, config.final_ratio)
  elif config.schedule == "steps":
    main = optax.piecewise_constant_schedule(
        config.learning_rate, {int(f * total_steps) - warmup: config.drop for f in config.drops})
  else:
    main = optax.constant_schedule(config.learning_rate)
  if not warmup:
    return main
  ramp = lambda step: config.learning_rate * (step + 1) / warmup
  return optax.join_schedules([ramp, main], [warmup])


def check_patterns(names: Sequence[str], patterns: tuple[str, ...], what: str) -> None:
  """Raises UserError where a regular expression matches none of some parameters' paths."""
  for pattern in patterns:
    if not any(re.match(pattern, name) for name in names):
      groups = sorted({name.split("/")[0] for name in names})
      raise UserError(f"{what} pattern {pattern!r} matches no parameter; "
                      f"top-level modules: {', '.join(groups)}")


def frozen_labels(params, freeze: tuple[str, ...]):
  """The tree of `params` with "frozen" or "trained" at each leaf.

  Args:
    freeze: regular expressions; a parameter is frozen where one matches its path from the start.

  Raises:
    UserError: a pattern that matches no parameter, or patterns that freeze all of them.
  """
  names = path_names(params)
  check_patterns(names, freeze, "freeze")
  labels = ["frozen" if any(re.match(p, name) for p in freeze) else "trained" for name in names]
  if "trained" not in labels:
    raise UserError(f"freeze patterns {', '.join(freeze)} leave nothing to train")
  return jax.tree.unflatten(jax.tree.structure(params), labels)


def _decayed(config: OptimConfig, params):
  """The tree of `params` with whether the weight decay acts on each leaf."""
  on = [(config.decay_all or leaf.ndim > 1)
        and (not config.decay_on or any(re.match(p, name) for p in config.decay_on))
        for name, leaf in zip(path_names(params), jax.tree.leaves(params))]
  return jax.tree.unflatten(jax.tree.structure(params), on)


def make(config: OptimConfig, total_steps: int, labels) -> optax.GradientTransformation:
  """The optimiser; frozen parameters have no moments, no decay and no part in the norm.

  Args:
    total_steps: length of the training, for the schedule.
    labels: from `frozen_labels`.
  """
  parts = []
  if config.clip_value is not None:
    parts.append(optax.clip(config.clip_value))
  if config.clip_norm is not None:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  decay = optax.add_decayed_weights(config.weight_decay,
                                    mask=functools.partial(_decayed, config))
  if config.weight_decay and config.name != "adamw":
    parts.append(decay)
  if config.name == "sgd":
    parts.append(optax.trace(config.momentum, config.nesterov))
  else:
    parts.append(optax.scale_by_adam(config.b1, config.b2))
  if config.weight_decay and config.name == "adamw":
    parts.append(decay)
  parts.append(optax.scale_by_learning_rate(schedule(config, total_steps)))
  return optax.partition({"trained": optax.chain(*parts), "frozen": optax.set_to_zero()}, labels)
