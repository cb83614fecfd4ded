"""The step that lays a run's results out as a paper's table, its figures beside ours."""
import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from actionjax import configuration, console, distributed
from actionjax.errors import UserError
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline

_METRICS = {"top1": "top-1 accuracy", "top5": "top-5 accuracy",
            "mean_class_accuracy": "mean class accuracy"}


@dataclasses.dataclass(frozen=True)
class Row:
  """A row, or one for every pass of a repeated group.

  Attributes:
    label: what stands in front.
    evaluation: the step whose metric is shown; within `repeat`, that of every pass.
    repeat: name of a repeated group.
    paper: the paper's figure in per cent (None: it gives none); for a group, one for each pass.
  """
  label: str
  evaluation: str
  repeat: str | None = None
  paper: Any = None


@dataclasses.dataclass(frozen=True)
class Config:
  """A table.

  Attributes:
    rows: see `Row`.
    name: of the step; the file is NAME.md.
    title: above the table; dataset, protocol and metric if not given.
    metric: top1, top5 or mean_class_accuracy.
    paper_of: dataset and protocol that the papers' figures are of; beside results on others they
      are left out.
  """
  rows: tuple[Mapping[str, Any], ...]
  name: str = "table"
  title: str = ""
  metric: Literal["top1", "top5", "mean_class_accuracy"] = "top1"
  paper_of: tuple[str, str] | None = None


def parse(config: Config, path: str) -> tuple[Row, ...]:
  """The rows. Raises UserError for keys that nothing takes."""
  return tuple(configuration.build(Row, row, f"{path}.rows[{i}]")
               for i, row in enumerate(config.rows))


def reads(config: Config) -> tuple[str, ...]:
  """The earlier steps that the rows name."""
  names = (row.get("repeat") or row.get("evaluation") for row in config.rows)
  return tuple(name for name in names if name)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks that every row's step measures what the table shows. Raises UserError."""
  rows = parse(config, path)
  for number, row in enumerate(rows):
    place = f"{path}.rows[{number}]"
    if row.repeat is None:
      earlier.check_metric(row.evaluation, config.metric, f"{place}.evaluation")
    else:
      passes = earlier.having("passes", row.repeat, f"{place}.repeat", "repeated group").passes
      dataclasses.replace(earlier, outlines=passes).check_metric(
          row.evaluation, config.metric, f"{place}.evaluation")
  return Outline(section={"rows": tuple(dataclasses.asdict(row) for row in rows)})


def run(config: Config, context: Context) -> dict:
  """Writes the table to the workdir and prints it.

  Returns:
    Artifacts: `table` (file, relative to the workdir).

  Raises:
    UserError: a row names a step that did not run or measured nothing.
  """
  lines = ["| | here, % | paper, % | clips | split | |", "| --- | --- | --- | --- | --- | --- |"]
  rows = parse(config, context.path)
  for row in rows:
    lines += _lines(row, config, context)
  single = next((row.evaluation for row in rows if row.repeat is None), None)
  found = context.previous.get(single, {})
  title = config.title or ", ".join([*found.get("of", ()), _METRICS[config.metric]])
  text = "\n".join([title, "", *lines])
  path = context.workdir / f"{config.name}.md"
  if distributed.is_first():
    path.write_text(text + "\n")
  console.say(text)
  return {"table": path.name}


def _lines(row: Row, config: Config, context: Context) -> list[str]:
  if row.repeat is None:
    return [_line(row.label, row.evaluation, row.paper, "", config, context)]
  group = context.previous.get(row.repeat, {})
  if "history" not in group:
    raise UserError(f"{context.path}: there is no repeated group {row.repeat!r} before it")
  papers = tuple(row.paper or ())
  passes = len(group["history"]) - 1 + group["first_pass"]
  lines = []
  for number in range(1, passes + 1):
    best = "best by validation" if number == group["best_pass"] else ""
    lines.append(_line(f"{row.label} {number}", f"{row.repeat}/pass{number}/{row.evaluation}",
                       papers[number - 1] if number <= len(papers) else None,
                       best, config, context))
  return lines


def _line(label, step, paper, note, config, context) -> str:
  try:
    found = context.previous[step]["metrics"]
    value = 100 * found[config.metric]
  except KeyError:
    raise UserError(f"{context.path}: step {step!r} measured no {config.metric}") from None
  if config.paper_of is not None and "of" in context.previous[step]:
    if tuple(context.previous[step]["of"]) != tuple(config.paper_of):
      paper = None
  unread = f" ({found['unreadable']} unreadable)" if found.get("unreadable") else ""
  return (f"| {label} | {value:.2f} | {'–' if paper is None else f'{paper:.2f}'} | "
          f"{found['clips']}{unread} | {found['split']} | {note} |")
