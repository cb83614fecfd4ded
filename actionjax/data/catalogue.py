"""Looking a dataset up by name: what it is, its folder, and what is known of a user's own."""
import dataclasses
import importlib
import json
import pathlib

from actionjax.data import builders, own
from actionjax.data.clips.dataset import INFO_FILE, ClipDataset, default_data_dir
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats.findings import shown
from actionjax.errors import UserError


def dataset_path(data_dir, name: str, variant: str | None = None) -> pathlib.Path:
  """The folder of a prepared dataset: `<data_dir>/<name>/<variant>/<version>`.

  Raises:
    UserError: an unknown dataset or variant, with the known ones.
  """
  root = pathlib.Path(data_dir).expanduser() if data_dir else default_data_dir()
  if not own.is_own(name):
    source = load(name)
    return root / name / source.variant(variant) / source.version
  kind, own_name = own.parse(name)  # with its name in the place of a variant
  if variant not in (None, own_name):
    raise UserError(f"unknown variant {variant!r} of {name}; known: {own_name}")
  return root / kind / own_name / own.module(kind).VERSION


def open_dataset(data_dir, name: str, variant: str | None = None) -> ClipDataset:
  """Opens a dataset that `python -m actionjax.prepare` has finished.

  Args:
    data_dir: root of prepared datasets, or None for `default_data_dir()`.
    name: the dataset, a module of `actionjax.data.builders`, or a user's own (`data/own`).
    variant: one of the dataset's; None is its first.

  Raises:
    UserError: not prepared (names the folder and the command that prepares it), or
      damaged since.
  """
  path = dataset_path(data_dir, name, variant)
  if not (path / INFO_FILE).exists():
    if own.is_own(name):
      raise UserError(not_prepared(name, data_dir))
    raw = " --raw_dir=FOLDER_OF_THE_RAW_FILES" if load(name).needs_raw else ""
    place = f" --data_dir={path.parents[2]}" if data_dir else ""
    chosen = f" --variant={variant}" if variant else ""
    raise UserError(f"{name} is not prepared in {path}{_older(path)}; run: "
                    f"python -m actionjax.prepare --dataset={name}{raw}{place}{chosen}")
  return ClipDataset(path)


def module(name: str):
  """The module of a published dataset, or of a user's own the one of its kind.

  Raises:
    UserError: an unknown dataset; lists the known ones.
  """
  if own.is_own(name):
    return own.module(own.parse(name)[0])
  if name not in builders.names():
    raise UserError(f"unknown dataset {name!r}; known: {', '.join(builders.names())}, and your "
                    f"own: {', '.join(own.KINDS)}")
  return importlib.import_module(f"{builders.__name__}.{name}")


def load(name: str, known: own.Facts | None = None) -> Dataset:
  """A dataset by name.

  Args:
    name: of the dataset.
    known: of a user's own; see `facts`.

  Raises:
    UserError: an unknown dataset; lists the known ones. Or nothing is known of a user's own.
  """
  if not own.is_own(name):
    return module(name).DATASET
  own.parse(name)
  if known is None:
    raise UserError(f"nothing is known of {name} without its prepared folder; "
                    "catalogue.facts(name, data_dir) reads it")
  return own.of_facts(name, known)


def of(dataset: ClipDataset) -> Dataset:
  """What an opened dataset is; of a user's own with the protocols that stand in its folder."""
  name = dataset.info["dataset"]
  return own.of_prepared(dataset) if own.is_own(name) else load(name)


def facts(name: str, data_dir: str | None = None) -> own.Facts:
  """What is known of a user's dataset. Raises UserError if it is not prepared."""
  path = dataset_path(data_dir, name) / INFO_FILE
  try:
    return own.Facts.of(json.loads(path.read_text()))
  except (OSError, ValueError, KeyError):
    raise UserError(not_prepared(name, data_dir)) from None


def resolve(section, data_dir: str | None):
  """A config's data section, `about` filled in where it names a user's dataset.

  Args:
    section: keyword arguments of `loading.config.DataConfig`, or None.
    data_dir: root of prepared datasets, None for the default.

  Raises:
    UserError: the dataset is not prepared there.
  """
  name = (section or {}).get("dataset")
  if not isinstance(name, str) or not own.is_own(name) or section.get("about"):
    return section
  return {**section, "about": dataclasses.asdict(facts(name, data_dir))}


def resolve_all(settings: dict) -> dict:
  """A config as plain dicts, `about` filled in for every data section of it and of its steps."""
  data_dir = settings.get("data_dir")

  def walk(section: dict) -> dict:
    changed = dict(section)
    if isinstance(section.get("data"), dict):
      changed["data"] = resolve(section["data"], data_dir)
    if isinstance(section.get("steps"), tuple):
      changed["steps"] = tuple(walk(step) if isinstance(step, dict) else step
                               for step in section["steps"])
    return changed

  return walk(settings)


def not_prepared(name: str, data_dir) -> str:
  """The message for a dataset that is not there, with those that are."""
  place = dataset_path(data_dir, name)
  there = sorted(
      f"{kind}:{path.parent.parent.name}" for kind in own.KINDS
      for path in place.parents[2].glob(f"{kind}/*/{own.module(kind).VERSION}/{INFO_FILE}"))
  known = f"; prepared there: {', '.join(there)}" if there else ""
  flag = f" --data_dir={place.parents[2]}" if data_dir else ""
  return f"{name} is not prepared in {place}{_older(place)}; run: {own.command(name)}{flag}{known}"


def _older(place: pathlib.Path) -> str:
  """What to say of a dataset that another version of its builder prepared beside a place."""
  others = sorted(path.parent.name for path in place.parent.glob(f"*/{INFO_FILE}")
                  if not path.parent.name.startswith("."))
  if not others:
    return ""
  return (f" (what is there, of version {', '.join(others)}, holds other pictures or poses than "
          "are read now)")


def check_same(known: own.Facts, dataset: ClipDataset) -> None:
  """Raises UserError where a dataset was prepared anew since a config or a model was made."""
  now = own.Facts.of(dataset.info)
  for field, before, after in (("class_names", known.class_names, now.class_names),
                               ("layout", known.layout, now.layout)):
    if before != after:
      raise UserError(f"{dataset.info['dataset']} in {dataset.path} was prepared anew with another "
                      f"{field} ({_short(after)}) than is expected here ({_short(before)}); train "
                      "anew, or prepare it under another --name")


def _short(value) -> str:
  return shown(value if isinstance(value, str) else ", ".join(value or ("nothing",)), 80)
