"""Published datasets that actionjax can prepare, one module each, found by import.

A builder module is named like its dataset and ends with it:

  DATASET = Dataset(name=..., version=..., class_names=..., layout=..., modality=..., fps=...,
                    variants=..., protocols=..., find=find, encode=encode)

a `clips.definition.Dataset`, which says what each field holds; it is importable without any data.
The module's docstring tells a user where the raw files come from, how they lie in a folder, and
what preparing them costs; it is also the description in the prepared dataset's files. What several
modules share lies in one whose name begins with an underscore.
"""
import functools
import pkgutil


@functools.cache
def names() -> tuple[str, ...]:
  """The datasets with a builder, in alphabetical order."""
  return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)
                      if not module.name.startswith("_")))


