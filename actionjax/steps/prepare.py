"""The step that prepares a dataset, for recipes that start from nothing."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from actionjax import distributed
from actionjax.data.loading.config import parse_data
from actionjax.data.preparing import preparation
from actionjax.steps.context import Context


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
  """The data section; raises UserError where there is no such dataset or variant."""
  data = parse_data(config.data, f"{path}.data")
  data.source.variant(data.variant)
  return data


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
