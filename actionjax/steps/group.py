"""The step that groups classes into superclasses by what a first training confused."""
import dataclasses
import json
import pathlib
from typing import Literal

import numpy as np

from actionjax import console, distributed
from actionjax.errors import UserError
from actionjax.evaluators import metrics
from actionjax.hierarchy import search
from actionjax.report import groups as pictures
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline


@dataclasses.dataclass(frozen=True)
class Config:
  """A superclass search.

  Attributes:
    levels: number of superclasses at each stage but the last; None for no level there. As many
      as there are classes stands for no grouping.
    evaluation: the earlier evaluation whose confusions count. The papers are silent on the
      split; one of the training side keeps test clips out.
    counts: "hard" counts predicted classes; "soft" adds up predicted probabilities, which says
      more where a class has only a few held-out clips.
    restarts: random starts of the search; the best of them is taken.
    absent: what to do about a class without any clip: "error", or "zero", as if it was never
      confused.
    seed: of the starts.
  """
  levels: tuple[int | None, ...]
  evaluation: str
  name: str = "group"
  counts: Literal["hard", "soft"] = "hard"
  restarts: int = 1000
  absent: Literal["error", "zero"] = "error"
  seed: int = 0


def parse(config: Config, path: str) -> Config:
  """Checks the values. Raises UserError."""
  if config.restarts < 1:
    raise UserError(f"{path}.restarts must be at least 1, got {config.restarts}")
  if not any(level is not None for level in config.levels):
    raise UserError(f"{path}.levels must name one level at least")
  return config


def reads(config: Config) -> tuple[str, ...]:
  """The earlier step that the config names."""
  return (config.evaluation,)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks the evaluation that is named, and the levels against its classes. Raises UserError."""
  parse(config, path)
  classes = earlier.having("scores", config.evaluation, f"{path}.evaluation", "evaluation").classes
  for level in config.levels:
    if level is not None and not 1 <= level <= classes:
      raise UserError(f"{path}.levels must lie between 1 and the {classes} classes, got {level}")
  return Outline(superclasses=tuple(config.levels))


def run(config: Config, context: Context) -> dict:
  """Searches every level on its own, as the papers do: levels are not nested.

  Writes `superclasses.json` and the picture `superclasses.png`.

  Returns:
    Artifacts: `superclasses` (file, relative to the workdir), `split` that the confusions are of,
    and `found`, a list of cost, lower bound and gap by level.
  """
  if config.evaluation not in context.previous:
    raise UserError(f"{context.path}: there is no earlier step {config.evaluation!r}")
  evaluated = context.previous[config.evaluation]
  if "scores" not in evaluated:
    raise UserError(f"{context.path}: step {config.evaluation!r} is not an evaluation")
  scores = np.load(context.workdir / evaluated["scores"])
  readable = scores["readable"]
  confusion = confusions(scores["probabilities"][readable], scores["labels"][readable],
                         config.counts)
  costs = search.confusion_costs(confusion, absent=config.absent)
  split = evaluated["metrics"]["split"]
  console.say(f"superclasses from the confusions on {split} ({int(readable.sum())} clips)"
              + (", which are test clips" if split.endswith("test") else ""))
  levels, found = [], []
  for stage, size in enumerate(config.levels, 1):
    if size is None:
      levels.append(None)
      continue
    grouping = search.search(costs, size, restarts=config.restarts, seed=config.seed)
    levels.append([int(c) for c in grouping.assignment])
    found.append({"stage": stage, "superclasses": size, "cost": float(grouping.cost),
                  "lower_bound": float(grouping.lower_bound), "gap": float(grouping.gap)})
    console.say(f"stage {stage}: {size} superclasses, cost {grouping.cost:.4f}, lower bound "
                f"{grouping.lower_bound:.4f}")
  path = context.directory / "superclasses.json"
  if distributed.is_first():
    context.directory.mkdir(parents=True, exist_ok=True)
    names = context.class_names()
    path.write_text(json.dumps({"class_names": names, "split": split, "levels": levels,
                                "found": found}, indent=2) + "\n")
    pictures.superclass_figure(context.directory / "superclasses.png", names, {
        f"level {stage}": level for stage, level in enumerate(levels, 1) if level is not None})
  return {"superclasses": str(path.relative_to(context.workdir)), "split": split, "found": found}


def confusions(probabilities: np.ndarray, labels: np.ndarray, counts: str) -> np.ndarray:
  """Confusion matrix float[N,N], rows are true classes.

  Args:
    probabilities: float[n,N].
    labels: int[n].
    counts: see `Config`.
  """
  classes = probabilities.shape[1]
  if counts == "hard":
    return metrics.confusion_matrix(labels, metrics.top_1(probabilities), classes).astype(float)
  total = np.zeros((classes, classes))
  np.add.at(total, labels, probabilities)
  return total


def load(context: Context, source: str) -> tuple[tuple[int, ...] | None, ...]:
  """The levels that an earlier step, or a superclasses.json, holds: class -> superclass.

  Raises:
    UserError: neither such a step nor such a file, or a file of another kind.
  """
  found = context.previous.get(source)
  if found is not None and "superclasses" not in found:
    raise UserError(f"{context.path}.superclasses: step {source!r} groups no classes")
  path = context.workdir / found["superclasses"] if found is not None else pathlib.Path(source)
  try:
    return read(path)
  except OSError:
    raise UserError(f"{context.path}.superclasses: {source!r} is neither an earlier step nor a "
                    "file") from None


def read(path: str | pathlib.Path) -> tuple[tuple[int, ...] | None, ...]:
  """The levels that a superclasses.json holds: class -> superclass.

  Raises:
    OSError: there is no such file. UserError: it is of another kind.
  """
  text = pathlib.Path(path).read_text()
  try:
    levels = json.loads(text)["levels"]
    return tuple(None if level is None else tuple(int(c) for c in level) for level in levels)
  except (ValueError, KeyError, TypeError) as error:
    raise UserError(f"{path} holds no superclasses: {error}") from None


def check_levels(levels, sizes, num_classes: int, path: str) -> None:
  """Raises UserError unless every level of a model has a grouping of its size.

  Args:
    levels: from `load`.
    sizes: the model's `levels`.
    num_classes: N.
  """
  for stage, size in enumerate(sizes, 1):
    if size is None:
      continue
    level = levels[stage - 1] if stage <= len(levels) else None
    if level is None:
      raise UserError(f"{path}: the model has {size} superclasses at stage {stage}, the grouping "
                      "none")
    if len(level) != num_classes or len(set(level)) != size or max(level) >= size:
      raise UserError(f"{path}: stage {stage} groups {len(level)} classes into "
                      f"{len(set(level))}, the model wants {num_classes} into {size}")
