"""The step that rebuilds a pruned model without its dead filters."""
import dataclasses

from actionjax import console
from actionjax.pruning import compact
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline


@dataclasses.dataclass(frozen=True)
class Config:
  """A compaction.

  Attributes:
    name: of the step.
    model_from: the earlier training or repeated group whose model is taken (None: the latest).
  """
  name: str = "compact"
  model_from: str | None = None


def parse(config: Config, path: str) -> Config:
  """Nothing to build: the config as it is."""
  del path
  return config


def reads(config: Config) -> tuple[str, ...]:
  """The step that the config names; it may be a folder instead."""
  return () if config.model_from is None else (config.model_from,)


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks that there is a model; how much is left of it is seen later. Raises UserError."""
  model = earlier.model(config.model_from, f"{path}.model_from")
  return Outline(model=dataclasses.replace(model, variables=None))


def run(config: Config, context: Context) -> dict:
  """Writes the smaller model, whose outputs are the pruned one's.

  Returns:
    Artifacts: `model` (folder, relative to the workdir), `params_digest`, `parameters` before and
    after.
  """
  source = context.model_of(config.model_from)
  variables, description = compact.compacted(source)
  found = description["compacted"]
  parameters = [found["parameters_before"], found["parameters"]]
  console.say(f"compacted from {parameters[0]} to {parameters[1]} parameters")
  return context.save_model(variables, description) | {"parameters": parameters}
