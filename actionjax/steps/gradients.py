"""The step that measures which classifier teaches an early layer how much (HAC, Figure 5)."""
import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import console, distributed, models
from actionjax.data.loading import pipeline
from actionjax.data.loading.config import parse_data
from actionjax.errors import UserError
from actionjax.ops import compilation
from actionjax.report import figures
from actionjax.steps import group
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline
from actionjax.training import checkpoint, losses, sharding
from actionjax.training.state import path_names


@dataclasses.dataclass(frozen=True)
class Config:
  """A measurement.

  Attributes:
    weights: of the levels, as in `losses.hierarchical`; 1 for each shows what the levels ask for
      by themselves, whatever the training weighed them with.
    superclasses: see `steps.train`; not needed for a model without levels.
    name: of the step.
    model_from: the earlier training (None: the latest).
    layer: regular expression of one kernel's path. Of several that match the last one in the
      order of the blocks counts: by default the last convolution of the first stage.
    split: of the protocol.
    clips: how many are looked at: the first ones of the split, as at test.
    batch_size: of these.
  """
  weights: tuple[float | None, ...]
  superclasses: str | None = None
  name: str = "gradients"
  model_from: str | None = None
  layer: str = r"backbone/stage1/block\d+/conv\d+/conv/kernel"
  split: str = "fit"
  clips: int = 500
  batch_size: int = 8


def parse(config: Config, path: str) -> re.Pattern:
  """The compiled pattern. Raises UserError."""
  if min(config.clips, config.batch_size) < 1:
    raise UserError(f"{path}: clips and batch_size must be at least 1, got {config.clips} and "
                    f"{config.batch_size}")
  try:
    return re.compile(config.layer)
  except re.error as error:
    raise UserError(f"{path}.layer must be a regular expression, got {config.layer!r}: "
                    f"{error}") from None


def reads(config: Config) -> tuple[str, ...]:
  """The steps that the config names; each may be a folder or a file instead."""
  return tuple(name for name in (config.model_from, config.superclasses) if name is not None)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks the model's layer, levels and clips. Raises UserError."""
  pattern = parse(config, path)
  model = earlier.model(config.model_from, f"{path}.model_from")
  earlier.check_batch_size(config.batch_size, f"{path}.batch_size")
  earlier.count(model.data, config.split, path)
  if config.superclasses is not None:
    earlier.having("superclasses", config.superclasses, f"{path}.superclasses",
                   "step that groups classes")
  if model.variables is not None:
    _layer(model.variables["params"], pattern, path)
  levels = sum(size is not None for size in getattr(model.module, "levels", ())) + 1
  weights = sum(weight is not None for weight in config.weights)
  if weights < levels:
    raise UserError(f"{path}.weights must give one for each of the model's {levels} levels, got "
                    f"{config.weights}")
  return Outline()


def _layer(params, pattern: re.Pattern, path: str) -> str:
  """Path of the last kernel, in the order of the blocks, that a pattern matches."""
  names = sorted((name for name in path_names(params) if pattern.fullmatch(name)),
                 key=lambda name: [int(n) for n in re.findall(r"\d+", name)])
  if not names:
    raise UserError(f"{path}.layer {pattern.pattern!r} matches no parameter")
  return names[-1]


def run(config: Config, context: Context) -> dict:
  """Writes `gradients.json`, `gradients.npz` and the picture of the layer, `gradients.png`.

  The arrays are the absolute gradients, averaged over the batches, of the layer's kernel, summed
  up to float[in, out] by the mean over its taps; the picture shows them.

  Returns:
    Artifacts: `layer` (its path), `clips` looked at, and `gradients`, level -> mean absolute
    gradient that its weighted loss sends to the layer, averaged over weights and batches.
  """
  pattern = parse(config, context.path)
  variables, description = checkpoint.load_model(context.model_of(config.model_from),
                                                 sharding.replicated(context.mesh))
  data = parse_data(description["data"], "the checkpoint's data")
  model = models.from_description(description)
  superclasses = group.load(context, config.superclasses) if config.superclasses else ()
  layer = _layer(variables["params"], pattern, context.path)
  clips = pipeline.open_split(data, context.data_dir, config.split)
  measure = jax.jit(
      functools.partial(level_gradients, model, layer=layer, weights=config.weights,
                        superclasses=superclasses),
      compiler_options=compilation.compiler_options())
  clips = dataclasses.replace(clips, rows=clips.rows[:config.clips])
  found = []
  for batch in pipeline.test_batches(clips, data, batch_size=config.batch_size):
    shown = {key: batch[key][:, 0] for key in model.inputs}
    found.append(sharding.to_host(measure(variables, sharding.to_devices(
        shown | {key: batch[key] for key in ("label", "valid")}, context.mesh))))
  pictures = {level: np.mean([one[level] for one in found], axis=0) for level in found[0]}
  mean = {level: float(picture.mean()) for level, picture in pictures.items()}
  console.say(f"mean absolute gradient at {layer}: "
              + ", ".join(f"{level} {value:.3g}" for level, value in mean.items()))
  if distributed.is_first():
    context.directory.mkdir(parents=True, exist_ok=True)
    (context.directory / "gradients.json").write_text(
        json.dumps({"layer": layer, "clips": len(clips.rows), "gradients": mean}, indent=2) + "\n")
    np.savez(context.directory / "gradients.npz", **pictures)
    figures.kernels(pictures, title=f"mean absolute gradient at {layer}").savefig(
        context.directory / "gradients.png", dpi=120)
  return {"layer": layer, "clips": len(clips.rows), "gradients": mean}


def level_gradients(model, variables, batch, *, layer: str, weights, superclasses) -> dict:
  """Absolute gradient of every level's weighted loss with respect to one kernel.

  The network runs as in training, but with running statistics and without dropout, so that the
  clips of a batch do not mix.

  Args:
    variables: `params` and `batch_stats`.
    layer: the parameter's path.
    weights, superclasses: see `losses.hierarchical`.

  Returns:
    "level 1", ..., for the levels there are, the last one always -> float[in, out], the mean over
    the kernel's taps.
  """
  flat, structure = jax.tree.flatten(variables["params"])
  position = path_names(variables["params"]).index(layer)

  def parts(leaf):
    leaves = [*flat[:position], leaf, *flat[position + 1:]]
    logits, out = model.apply({**variables, "params": jax.tree.unflatten(structure, leaves)},
                              batch, train=False)
    _, found = losses.hierarchical(logits, out, batch, None, weights=weights,
                                   superclasses=superclasses)
    named = {f"level {len(weights)}": weights[-1] * found["cross_entropy"]}
    for stage in out.get("stage_logits", {}):
      level = int(stage.removeprefix("stage"))
      named[f"level {level}"] = weights[level - 1] * found[f"cross_entropy_{stage}"]
    return dict(sorted(named.items()))

  # One row of the Jacobian a level.
  kernel = flat[position]
  return jax.tree.map(lambda g: jnp.abs(g).reshape(-1, *kernel.shape[-2:]).mean(0),
                      jax.jacrev(parts)(kernel))
