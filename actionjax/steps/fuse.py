"""The step that adds the scores of several evaluations: two streams, four streams, two networks."""
import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from actionjax import configuration, console, distributed
from actionjax.errors import UserError
from actionjax.evaluators import scores as files
from actionjax.evaluators.scores import Scores
from actionjax.steps.context import Context
from actionjax.steps.outline import METRICS, Earlier, Outline


@dataclasses.dataclass(frozen=True)
class Source:
  """One of the evaluations.

  Attributes:
    scores: an earlier evaluation's name; or the path of another run, of one of its evaluations,
      or of a scores.npz.
    weight: of its probabilities in the sum.
    stream: a pathway's own scores instead of the fused ones, such as "rgb".
  """
  scores: str
  weight: float = 1.0
  stream: str | None = None

  def __post_init__(self):
    if self.weight < 0:
      raise ValueError(f"weight must not be negative, but is {self.weight}")

  @property
  def elsewhere(self) -> bool:
    """Whether `scores` is a path."""
    return "/" in self.scores or pathlib.Path(self.scores).exists()


@dataclasses.dataclass(frozen=True)
class Config:
  """A weighted sum of scores.

  Attributes:
    sources: at least two; see `Source`.
    name: the key of the result in metrics.json.
  """
  sources: tuple[Mapping[str, Any], ...]
  name: str = "fusion"


def parse(config: Config, path: str) -> tuple[Source, ...]:
  """The sources. Raises UserError for keys that nothing takes and for paths without scores."""
  sources = tuple(configuration.build(Source, source, f"{path}.sources[{i}]")
                  for i, source in enumerate(config.sources))
  if len(sources) < 2 or not sum(source.weight for source in sources):
    raise UserError(f"{path}.sources must name two evaluations, at least one with a weight")
  for source in sources:
    if source.elsewhere:
      files.find(source.scores)
  return sources


def reads(config: Config) -> tuple[str, ...]:
  """The evaluations that the config names; each may be a path instead."""
  return tuple(section["scores"] for section in config.sources if section.get("scores"))


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks that all sources have scores, of the same classes and streams. Raises UserError."""
  sources, classes = parse(config, path), {}
  for number, source in enumerate(sources):
    if source.elsewhere:  # looked at when all are there
      continue
    place = f"{path}.sources[{number}]"
    found = earlier.having("scores", source.scores, f"{place}.scores", "evaluation")
    if source.stream is not None and source.stream not in found.scores:
      raise UserError(f"{place}.stream: {source.scores!r} has no stream {source.stream!r}; it has "
                      f"{', '.join(found.scores) or 'none'}")
    classes[found.classes] = source.scores
  if len(classes) > 1:
    raise UserError(f"{path}.sources tell apart " + " and ".join(
        f"{count} classes ({name})" for count, name in classes.items()))
  return Outline(metrics=METRICS, scores=(), classes=next(iter(classes), 0),
                 section={"sources": tuple(dataclasses.asdict(source) for source in sources)})


def run(config: Config, context: Context) -> dict:
  """Adds the probabilities, each averaged over its own views, and scores the sum.

  Clips that one of the evaluations could not read count for nothing. Writes `scores.npz` and
  `confusion.npy` as an evaluation does.

  Returns:
    Artifacts: `metrics` (top1, top5, mean_class_accuracy in [0, 1], clips, unreadable, split, and
    `sources`, each with its scores, weight and own top1) and `scores` (file, relative to the
    workdir).

  Raises:
    UserError: the evaluations are not of the same clips, or one is not there.
  """
  sources = parse(config, context.path)
  paths, splits = zip(*(_place(source, context) for source in sources))
  loaded = [files.load(path) for path in paths]
  ids = loaded[0][1]
  for path, (scores, clips) in zip(paths[1:], loaded[1:]):
    _check_same(loaded[0], (scores, clips), f"{context.path}: {paths[0]}", str(path))
  chosen = [_stream(source, scores, path)
            for source, path, (scores, _) in zip(sources, paths, loaded)]
  fused = fuse(chosen, [source.weight for source in sources])
  metrics = fused.metrics() | {"split": splits[0], "sources": [
      {"scores": source.scores, "stream": source.stream, "weight": source.weight,
       "top1": scores.metrics()["top1"]} for source, scores in zip(sources, chosen)]}
  console.say(f"{config.name}: top-1 {metrics['top1']:.4f} from " + ", ".join(
      f"{source['scores']} {source['top1']:.4f}" for source in metrics["sources"]))
  if distributed.is_first():
    fused.save(context.directory, ids)
  return {"metrics": metrics,
          "scores": str((context.directory / files.FILE).relative_to(context.workdir))}


def fuse(scores: list[Scores], weights: list[float]) -> Scores:
  """The weighted mean of probabilities, of the clips that all could read.

  Args:
    scores: of the same clips.
    weights: not negative, at least one positive.
  """
  shares = np.asarray(weights, np.float32) / np.sum(weights)
  return Scores(sum(share * one.probabilities for share, one in zip(shares, scores)),
                scores[0].labels, np.logical_and.reduce([one.readable for one in scores]))


def _place(source: Source, context: Context) -> tuple[pathlib.Path, str]:
  """File of a source's scores, and the split that they are of."""
  if source.elsewhere:
    path = files.find(source.scores)
    done = path.parent / "done.json"
    artifacts = json.loads(done.read_text())["artifacts"] if done.exists() else {}
  else:
    artifacts = context.previous.get(source.scores, {})
    if "scores" not in artifacts:
      raise UserError(f"{context.path}: there is no earlier evaluation {source.scores!r}")
    path = context.workdir / artifacts["scores"]
  return path, artifacts.get("metrics", {}).get("split", "unknown")


def _stream(source: Source, scores: Scores, path: pathlib.Path) -> Scores:
  """The scores of the pathway that a source asks for."""
  if source.stream is None:
    return scores
  if source.stream not in scores.streams:
    raise UserError(f"{path} has no stream {source.stream!r}; it has "
                    f"{', '.join(scores.streams) or 'none'}")
  return dataclasses.replace(scores, probabilities=scores.streams[source.stream], streams={})


def _check_same(first, second, one: str, other: str) -> None:
  """Raises UserError unless two evaluations are of the same clips, in order, and classes."""
  (a, ids), (b, other_ids) = first, second
  if a.probabilities.shape[1] != b.probabilities.shape[1]:
    raise UserError(f"{one} and {other} have {a.probabilities.shape[1]} and "
                    f"{b.probabilities.shape[1]} classes")
  if len(ids) != len(other_ids):
    raise UserError(f"{one} and {other} are of {len(ids)} and {len(other_ids)} clips")
  for what, x, y in (("clip", ids, other_ids), ("label", a.labels, b.labels)):
    if (x != y).any():
      row = int(np.argmax(x != y))
      raise UserError(f"{one} and {other} differ in row {row}: {what} {x[row]} and {y[row]}")
