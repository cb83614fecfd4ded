"""Datasets that actionjax can prepare, one module each, found by import.

A builder module has these names, importable without any data:

  VERSION: str                   raised when the records it makes change
  CLASS_NAMES: tuple[str, ...]   by label
  LAYOUT: str                    of the poses, a name of `actionjax.skeletons`
  POSES: tuple[str, ...]         which of "pose3d" and "pose2d" clips have; both where absent
  MODALITY: str                  of the frames: "depth", "colour" or "none"
  FPS: float
  VARIANTS: dict[str, dict]      variant -> keyword arguments of `find` and `encode`;
                                 the first is the default
  PROTOCOLS: dict[str, callable] name -> a function of `data/protocols.py`
  NEEDS_RAW: bool                False for generated data
  find(raw_dir, **variant) -> list of picklable objects, one per clip, with `clip_id`,
      and with `sources`, a tuple of (file name, bytes), where they come from files
      (otherwise their repr must tell their whole content, as a dataclass's does);
      raises RawDataError; lines that the list has as `remarks` (see `archives.Found`), of
      clips that were left out, are shown to the user
  encode(raw, **variant) -> dict, one record (see `data/records.py`); raises RawDataError
"""
import functools
import importlib
import pkgutil

from actionjax.errors import UserError


@functools.cache
def names() -> tuple[str, ...]:
  """The datasets with a builder, in alphabetical order."""
  return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)
                      if not module.name.startswith("_")))


def load(name: str, about=None):
  """The builder module of a dataset, or for a user's own (`folder:mine`) what stands in for it.

  Args:
    name: of the dataset.
    about: `own.About` of a user's dataset, where that is known already.

  Raises:
    UserError: an unknown dataset; lists the known ones.
  """
  from actionjax.data import own  # which imports this
  if own.is_own(name):
    return own.Builder(name, about)
  if name not in names():
    raise UserError(f"unknown dataset {name!r}; known: {', '.join(names())}, and your own: "
                    f"{', '.join(own.KINDS)}")
  return importlib.import_module(f"{__name__}.{name}")


def of(dataset):
  """The builder of an opened `records.ClipDataset`; a user's knows its protocols from there."""
  from actionjax.data import own
  name = dataset.info["dataset"]
  return own.Builder.of(dataset) if own.is_own(name) else load(name)


def variant(builder, name: str | None) -> str:
  """A variant's name, None standing for the first. Raises UserError with the known ones."""
  if name is None:
    return next(iter(builder.VARIANTS))
  if name not in builder.VARIANTS:
    raise UserError(f"unknown variant {name!r} of {builder.__name__.rpartition('.')[2]}; "
                    f"known: {', '.join(builder.VARIANTS)}")
  return name


def protocol(builder, name: str):
  """A protocol of a builder by name. Raises UserError with the known ones."""
  if name not in builder.PROTOCOLS:
    raise UserError(f"unknown protocol {name!r} of {builder.__name__.rpartition('.')[2]}; "
                    f"known: {', '.join(builder.PROTOCOLS)}")
  return builder.PROTOCOLS[name]
