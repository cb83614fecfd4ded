"""The step that prepares a dataset, for recipes that start from nothing."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from actionjax import distributed
from actionjax.data.loading.config import parse_data
from actionjax.data.preparing import preparation
from actionjax.steps.context import Context
from actionjax.steps.outline import Earlier, Outline, placed


@dataclasses.dataclass(frozen=True)
class Config:
  """A preparation.

  Attributes:
    name: of the step.
    data: the data section, of which `dataset` and `variant` are read.
    raw_dir: folder of the official files; generated datasets need none.
    workers: processes (None: one a core).
  """
  data: Mapping[str, Any]
  name: str = "prepare"
  raw_dir: str | None = None
  workers: int | None = None


def parse(config: Config, path: str):
  """The data section; raises UserError where there is no such dataset."""
  return parse_data(config.data, f"{path}.data")


def reads(config: Config) -> tuple[str, ...]:
  """No earlier step."""
  del config
  return ()


def outline(config: Config, path: str, earlier: Earlier) -> Outline:
  """Checks the variant. Raises UserError."""
  del earlier
  data = parse(config, path)
  with placed(path):
    variant = data.source.variant(data.variant)
  # Without raw files only a generated dataset can be made; another one may be there already.
  can = config.raw_dir is not None or not data.source.needs_raw
  return Outline(prepares=(data.dataset, variant) if can else None,
                 section={"data": data.section()}, facts={"dataset": f"{data.dataset}/{variant}"})


def run(config: Config, context: Context) -> dict:
  """Prepares the dataset if it is not there yet; one process works, the others wait.

  Returns:
    Artifacts: `clips`.
  """
  data = parse(config, context.path)
  if distributed.is_first():
    preparation.prepare(data.dataset, raw_dir=config.raw_dir, data_dir=context.data_dir,
                        variant=data.variant, workers=config.workers)
  distributed.wait_for_all(f"prepared {data.dataset}")
  return {}
