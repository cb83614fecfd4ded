"""What every input of a network has in common, and how a config's section becomes one.

An input is what a model reads of a clip: its video, its 3D skeletons, ... Each is one module with

  Config: a frozen dataclass, derived from `Input`: the input's section in a config
  spec(config, layout, test) -> {array: (shape without the batch's axis, dtype)}
  draw(config, record, shared, rng) -> choice
      all that chance decides for this input alone, in training
  views(config, record, shared) -> [choice, ...]
      what a test looks at: one choice for each of the `Shared` of a clip's views along time
  apply(config, record, shared, choice) -> {array: value}

`config.data.NAME` is configured by `Config` of the module NAME of this package (`pose` by
`pose3d`), or of any other one that the section itself names as `module`: a new input is one file.
"""
import dataclasses
import importlib
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar

from actionjax import annotations, configuration
from actionjax.data.clips.definition import Dataset
from actionjax.data.loading.framing import Framing
from actionjax.errors import UserError
from actionjax.skeletons import Layout

# Sections whose module has another name.
_MODULES = {"pose": "pose3d"}


@dataclasses.dataclass(frozen=True)
class Shared:
  """What all inputs of a clip agree on: the same moment, side and part of it.

  Attributes:
    layout: of the dataset's skeletons; None where it has none.
    modality: of its frames: "colour", "depth" or "none".
    position: in time, in [0, 1): of a training clip within its segments, of a view in the clip.
    stack: number of a view among those that show every frame of a clip (`sampling.stack`); None
      for views that are spread over it.
    at: of a window in the room that it has, (x, y) in [0, 1]^2.
    zoom: in [-1, 1], of the window's size.
    mirror: whether left and right are exchanged.
    turn: in [-1, 1], of skeletons about the vertical.
    interval: two draws in [0, 1) that cut a part out of the clip; see `sampling.cut`.
    shortest: the least share of the clip that is left of it.
    intensity: in [-1, 1]^2, of pixels' gain and offset.
    framing: of the input that frames the others, where there is one.
  """
  layout: Layout | None
  modality: str
  position: float
  at: tuple[float, float] = (0.5, 0.5)
  zoom: float = 0.0
  mirror: bool = False
  turn: float = 0.0
  interval: tuple[float, float] = (0.0, 0.0)
  shortest: float = 1.0
  intensity: tuple[float, float] = (0.0, 0.0)
  framing: Framing | None = None
  stack: int | None = None


class Input:
  """Base of every `Config`. What it says of itself may depend on its fields.

  Attributes:
    arrays: names of the arrays of a batch that come from it; no two inputs share one.
    reads: fields of a record that it reads.
    needs: other inputs' sections that it cannot do without.
    frames_others: whether its choices are `Framing`s, which the other inputs follow.
    motion: whether it yields differences of frames instead of what is in them.
    room: whether the windows of several crops (`views.crops`) differ.
    stacks: whether it counts the stacks that show every frame of a clip (`views.temporal="all"`):
      its module then has `num_stacks(config, num_frames)`.
  """
  arrays: ClassVar[tuple[str, ...]] = ()
  reads: ClassVar[tuple[str, ...]] = ()
  needs: ClassVar[tuple[str, ...]] = ()
  frames_others: ClassVar[bool] = False
  motion: ClassVar[bool] = False
  room: ClassVar[bool] = False
  stacks: ClassVar[bool] = False

  def __post_init__(self):
    """Raises ValueError where a field is not what its annotation says."""
    annotations.check_fields(self)

  def check_beside(self, others: "Mapping[str, Input]") -> None:
    """Raises UserError where it does not go together with the inputs of a config's `data`."""

  def of(self, source: Dataset) -> "Input":
    """The same with what it leaves to the dataset filled in, as `spec` and the others need it."""
    del source
    return self

  def check_reach(self, reach: float | str | None, others: "Mapping[str, Input]") -> None:
    """Raises UserError where it looks at more of the image than a dataset's frames show.

    Args:
      reach: of the dataset's variant, as `Dataset.reach` has it.
    """

  def check_model(self, model, layout: Layout | None, path: str) -> None:
    """Raises UserError where a model cannot take what this input yields.

    Args:
      model: a linen module whose `inputs` name the arrays it reads.
      path: of the step in the config, for messages.
    """


def module(config: Input):
  """The module of an input, from its config."""
  return importlib.import_module(type(config).__module__)


def parse(name: str, section: Mapping[str, Any], path: str) -> Input:
  """An input's config from its section `name` of a config's `data`.

  Raises:
    UserError: there is no such input, or an unknown key or value in it.
  """
  fields = dict(section)
  place = fields.pop("module", None) or f"{__package__}.{_MODULES.get(name, name)}"
  config = configuration.plugin(__package__, place, "Config", f"{path}.module")
  if not issubclass(config, Input):
    raise UserError(f"{path}.module: {place}.Config must derive from {__name__}.Input")
  return configuration.build(config, fields, path)


def section(name: str, config: Input) -> dict:
  """The section that `parse` makes this config of, with all defaults filled in."""
  fields = dataclasses.asdict(config)
  place = type(config).__module__
  return fields if place == f"{__package__}.{_MODULES.get(name, name)}" else (
      {"module": place} | fields)


def known() -> tuple[str, ...]:
  """Sections of the inputs in this package."""
  names = {new: old for old, new in _MODULES.items()}
  return tuple(sorted(
      names.get(path.stem, path.stem) for path in pathlib.Path(__file__).parent.glob("*.py")
      if "\nclass Config(inputs.Input)" in path.read_text()))
