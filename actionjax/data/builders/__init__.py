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
  PROTOCOLS: dict[str, callable] name -> a function of `data/clips/protocols.py`
  NEEDS_RAW: bool                False for generated data
  find(raw_dir, **variant) -> list of picklable objects, one per clip, with `clip_id`,
      and with `sources`, a tuple of (file name, bytes), where they come from files
      (otherwise their repr must tell their whole content, as a dataclass's does);
      raises RawDataError; lines that the list has as `remarks` (see `archives.Found`), of
      clips that were left out, are shown to the user
  encode(raw, **variant) -> dict, one record (see `data/clips/record.py`); raises RawDataError
"""
import functools
import pkgutil


@functools.cache
def names() -> tuple[str, ...]:
  """The datasets with a builder, in alphabetical order."""
  return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)
                      if not module.name.startswith("_")))


