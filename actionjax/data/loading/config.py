"""What of a dataset's clips a model reads, and how: the `data` section of configs."""
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import numpy as np

from actionjax import configuration, skeletons
from actionjax.data import catalogue, own
from actionjax.data.clips.definition import Dataset
from actionjax.data.loading import inputs
from actionjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """A dataset, a protocol, and what of its clips a model reads.

  Attributes:
    dataset, variant: a module of `data/builders`, or a user's own as `KIND:NAME`, and one of its
      variants (None: its first).
    protocol: one of its protocols.
    validation: what of the training side is held out as "validation": a fraction of each class,
      or subjects.
    validation_from: the side that "validation" is part of: "train", or, leaking, "test", whose
      clips are then tested on as well, while "fit" is the whole training side.
    time_jitter: training cuts a random interval of at least 1 - j of the clip, from video and
      pose alike.
    flip: probability of a left/right mirror in training. Datasets whose classes swap under it
      say so (`mirror_classes`), and the label follows.
    threads: of the loader in each process. workers: loader processes (0: none).
    about: what is known of a user's own dataset. Recipes and checkpoints fill it in; elsewhere
      `catalogue.facts(dataset, data_dir)` finds it.
    inputs: name of a section -> its config, one for each input that a model reads; see
      `loading.inputs`. In a config they stand beside the other keys: `data.video`, `data.pose`.
  """
  dataset: str
  protocol: str
  variant: str | None = None
  validation: float | tuple[int, ...] = 0.1
  validation_from: Literal["train", "test"] = "train"
  time_jitter: float = 0.0
  flip: float = 0.0
  threads: int = 4
  workers: int = 0
  about: own.Facts | None = None
  # In quotes: in here the name is already the field's.
  inputs: "Mapping[str, inputs.Input]" = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    # Always drawn in this order, whatever the order in a config.
    object.__setattr__(self, "inputs", dict(sorted(self.inputs.items())))
    source: dict[str, str] = {}
    for name, config in self.inputs.items():
      for array in config.arrays:
        if array in source:
          raise UserError(f"{source[array]} and {name} cannot both be given: a batch has one "
                          f"{array}; leave out the one that the model does not read")
        source[array] = name
    for config in self.inputs.values():
      config.check_beside(self.inputs)

  @property
  def mirror_classes(self) -> tuple[int, ...] | None:
    """Label of each class seen in a mirror; None where every one stays itself."""
    return self.source.mirror_classes

  @property
  def source(self) -> Dataset:
    """The dataset. Raises UserError where there is none of that name, or `about` is missing."""
    return catalogue.load(self.dataset, self.about)

  @property
  def layout(self) -> skeletons.Layout | None:
    """Of the dataset's skeletons; None where it has none.

    Raises:
      UserError: poses are wanted that it does not have.
    """
    poses = self.source.poses
    for name, config in self.inputs.items():
      for field in config.reads:
        if field in ("pose3d", "pose2d") and field not in poses:
          raise UserError(f"{self.dataset} has {' and '.join(poses) or 'no skeletons'}, "
                          f"and the config's data.{name} reads {field}")
    name = self.source.layout
    return skeletons.layout(name) if name else None

  @property
  def read(self) -> "dict[str, inputs.Input]":
    """`inputs` with what they leave to the dataset filled in. Raises UserError as `source`."""
    return {name: config.of(self.source) for name, config in self.inputs.items()}

  def check_reach(self) -> None:
    """Raises UserError where an input looks at more of the image than the frames show."""
    reach = self.source.reach[self.source.variant(self.variant)]
    for config in self.inputs.values():
      config.check_reach(reach, self.inputs)

  def left_out(self, persons: Mapping[str, int]) -> tuple[str, ...]:
    """A line for each input that reads fewer persons than there are, which tells how many.

    Args:
      persons: clips by their number of persons, as a prepared dataset's info has them.
    """
    clips = {int(count): number for count, number in persons.items()}
    lines = []
    for name, config in self.read.items():
      most = getattr(config, "persons", None)
      more = sum(number for count, number in clips.items() if most and count > most)
      if more:
        lost = sum((count - most) * number for count, number in clips.items() if count > most)
        lines.append(
            f"data.{name}.persons={most}: {more} of {sum(clips.values())} clips of {self.dataset} "
            f"have more, up to {max(clips)}; {lost} persons are left out, those who move least")
    return tuple(lines)

  @property
  def arrays(self) -> tuple[str, ...]:
    """Names of the arrays that a model may read."""
    return tuple(array for config in self.inputs.values() for array in config.arrays)

  @property
  def reads(self) -> frozenset[str]:
    """Fields of a record that the inputs come from."""
    return frozenset(field for config in self.inputs.values() for field in config.reads)

  @property
  def motion(self) -> bool:
    """Whether an input yields differences of frames."""
    return any(config.motion for config in self.inputs.values())

  def only(self, arrays: Iterable[str]) -> "DataConfig":
    """The config without the inputs that none of some arrays comes from."""
    names = {name for name, config in self.inputs.items() if set(config.arrays) & set(arrays)}
    for name in tuple(names):
      names |= set(self.inputs[name].needs)
    return dataclasses.replace(self, inputs={name: self.inputs[name] for name in names})

  def section(self) -> dict:
    """The section that `parse_data` makes this config of, with all defaults filled in."""
    fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)
              if field.name not in ("inputs", "about")}
    about = {"about": dataclasses.asdict(self.about)} if self.about else {}
    return fields | about | {name: inputs.section(name, config)
                             for name, config in self.inputs.items()}


def batch_spec(config: DataConfig, batch_size: int, *, test: bool = False) -> dict:
  """Shapes and types of a batch, without data: {name: jax.ShapeDtypeStruct}.

  Args:
    test: of a test batch, but for the axis of its views.
  """
  layout = config.layout
  spec = {"label": ((), np.int32), "valid": ((), np.float32)}
  for read in config.read.values():
    spec |= inputs.module(read).spec(read, layout, test)
  return {key: jax.ShapeDtypeStruct((batch_size, *shape), dtype)
          for key, (shape, dtype) in spec.items()}


def parse_data(section: Mapping, path: str) -> DataConfig:
  """A data section with its nested sections.

  Raises:
    UserError: a key or value that nothing takes, or inputs that do not go together.
  """
  section = configuration.to_dict(section)
  fields = {field.name for field in dataclasses.fields(DataConfig)} - {"inputs"}
  own_keys = {key: value for key, value in section.items()
              if key in fields and value is not None}
  read: dict[str, Any] = {}
  for name, value in section.items():
    if name in fields or value is None:
      continue
    if not isinstance(value, Mapping) or "module" not in value:
      configuration.check_keys({name: None}, {*fields, *inputs.known()}, path)
    read[name] = inputs.parse(name, value, f"{path}.{name}")
  if own_keys.get("about") is not None:
    own_keys["about"] = configuration.build(own.Facts, own_keys["about"], f"{path}.about")
  return configuration.build(DataConfig, own_keys, path, inputs=read)
