"""What a dataset is, apart from its data: classes, skeletons, frames, variants and protocols."""
import dataclasses
import types
from collections.abc import Callable, Mapping
from typing import Any

from actionjax import skeletons
from actionjax.data.clips import boxes
from actionjax.errors import UserError

POSES = ("pose3d", "pose2d")
MODALITIES = ("colour", "depth", "none")
# How much of the image frames show: a share of the persons' box on each of its sides, "square" (see
# `boxes.SQUARE`), or None for the whole of it; by what a variant's option `crop` says.
REACH = {True: boxes.GROW, "square": "square", False: None, None: None}


# Functions do not compare, so that a dataset equals nothing but itself.
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
  """One dataset, known without reading any of its files.

  Attributes:
    name: as configs and commands write it: a module of `data/builders`, or `KIND:NAME` of a user's
      own (`data/own`).
    version: "1.0.0"; raised when the records that `encode` makes change.
    class_names: by label, all different.
    layout: of the skeletons, a name of `actionjax.skeletons`; "" where clips have none.
    modality: of the frames: one of `MODALITIES`.
    poses: which of `POSES` clips have.
    fps: frames per second; 0 where each clip has its own.
    variants: variant -> keyword arguments of `find` and `encode`; the first is the default.
    protocols: name -> a function of the index; see `data/clips/protocols.py`.
    find: (raw_dir, **variant) -> `Found`: picklable objects, one per clip, with `clip_id`,
      and with `sources`, a tuple of (file name, bytes), where they come from files (otherwise their
      repr must tell their whole content, as a dataclass's does). Its remarks, of clips that were
      left out, are shown to the user. Raises RawDataError.
    encode: (raw, **variant) -> one record (see `data/clips/record.py`), and under "notes", where
      there is any, a tuple of words for what was done to the clip that is worth counting. Raises
      RawDataError. Worker processes get it by its name: a function of a module.
    persons: the most that a clip's skeletons have; 0 where that is not known before it is prepared.
    reach: variant -> how much of the image its frames show around the persons' box; one of `REACH`,
      or another share of the box's sides. None takes it from the variants' option `crop`.
    mirror_classes: the label that a clip of each class has when seen in a mirror; None where every
      class stays itself.
    needs_raw: whether there are raw files; False for generated data, whose `find` reads nothing.

  Raises:
    UserError: a field that contradicts this; names the dataset and the field.
  """
  name: str
  version: str
  class_names: tuple[str, ...]
  layout: str
  modality: str
  poses: tuple[str, ...] = POSES
  fps: float
  variants: Mapping[str, Mapping[str, Any]]
  protocols: Mapping[str, Callable]
  find: Callable
  encode: Callable
  persons: int = 1
  reach: Mapping[str, float | str | None] | None = None
  mirror_classes: tuple[int, ...] | None = None
  needs_raw: bool = True

  def __post_init__(self):
    for field in ("variants", "protocols"):
      object.__setattr__(self, field, types.MappingProxyType(dict(getattr(self, field))))
    reach = self.reach or {name: REACH[options.get("crop")]
                           for name, options in self.variants.items()}
    object.__setattr__(self, "reach", types.MappingProxyType(dict(reach)))
    if self.modality not in MODALITIES:
      self._refuse("modality", f"must be one of {', '.join(MODALITIES)}, got {self.modality!r}")
    if not set(self.poses) <= set(POSES) or len(set(self.poses)) != len(self.poses):
      self._refuse("poses", f"must be of {', '.join(POSES)}, each once, got {self.poses!r}")
    if self.layout or self.poses:
      try:
        skeletons.layout(self.layout or "")
      except ValueError:
        self._refuse("layout", f"must be one of {', '.join(sorted(skeletons.LAYOUTS))}, "
                               f"got {self.layout!r}")
    if not self.class_names or len(set(self.class_names)) != len(self.class_names):
      self._refuse("class_names", f"must be different names, got {self.class_names!r}")
    if not self.variants:
      self._refuse("variants", "must hold one at least")
    mirror = self.mirror_classes
    if mirror is not None and not (
        sorted(mirror) == list(range(len(self.class_names)))
        and all(mirror[mirror[label]] == label for label in mirror)):
      self._refuse("mirror_classes", f"must give each of the {len(self.class_names)} classes the "
                                     f"one that gives it back, got {mirror!r}")

  def _refuse(self, field: str, why: str):
    raise UserError(f"dataset {self.name}: {field} {why}")

  def variant(self, name: str | None) -> str:
    """A variant's name, None standing for the first. Raises UserError with the known ones."""
    if name is None:
      return next(iter(self.variants))
    if name not in self.variants:
      raise UserError(f"unknown variant {name!r} of {self.name}; "
                      f"known: {', '.join(self.variants)}")
    return name

  def options(self, variant: str | None) -> dict[str, Any]:
    """A variant's keyword arguments of `find` and `encode`. Raises UserError as `variant` does."""
    return dict(self.variants[self.variant(variant)])

  def protocol(self, name: str) -> Callable:
    """A protocol by name. Raises UserError with the known ones."""
    if name not in self.protocols:
      raise UserError(f"unknown protocol {name!r} of {self.name}; "
                      f"known: {', '.join(self.protocols)}")
    return self.protocols[name]


class Found(list):
  """What a builder's `find` gives, with lines for the user about what it left out.

  Attributes:
    remarks: tuple of str.
  """

  def __init__(self, clips, remarks=()):
    super().__init__(clips)
    self.remarks = tuple(remarks)
