"""Datasets that users bring. What is known of them stands in their prepared folder.

Classes, layout and protocols of a published dataset stand in its module of `data/builders`, known
without data. Those of a user's own are found in the raw files when it is prepared; from then on
`KIND:NAME`, such as `folder:mine`, names it wherever a dataset is named. A `Dataset` is made of it
by `of_survey` while it is prepared, by `of_prepared` afterwards, and by `of_facts` where only a
config or a checkpoint is at hand. Each kind is a module of this package:

  VERSION: str             raised when the records it makes change
  OPTIONS: dict            option -> default; the command's flags of the same names
  survey(raw_dir, findings, **options) -> Survey
      lists the clips without reading them; what is wrong goes into the Findings
  examine(raw, findings, **options) -> Examined or None
      reads one clip whole, as `encode` would, for its faults and statistics
  encode(raw, **options) -> dict, one record, and under "notes" a tuple of words for what was
      done to the clip that is worth counting; raises RawDataError
"""
import dataclasses
import functools
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from actionjax.data.clips import definition
from actionjax.data.clips.dataset import ClipDataset, Index
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats.findings import Findings, shown
from actionjax.errors import UserError

KINDS = ("annotations", "folder", "interchange")
# What a folder's option `crop` says -> `Dataset.reach`.
CROPS = {"persons": definition.REACH[True], "square": "square", "none": None}
PARTS = ("train", "validation", "test")  # of a protocol, in the order of their codes from 1
SPLITS_FILE = "splits.npz"
_MOST_REMARKS = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclasses.dataclass(frozen=True)
class Facts:
  """What networks, configs and checkpoints have to know of a user's dataset; plain JSON there.

  Attributes:
    class_names: by label.
    layout: of the skeletons, a name of `actionjax.skeletons`; "" where there are none.
    modality: of the frames: "colour", or "none".
    poses: which of "pose3d" and "pose2d" its clips have.
    protocols: their names.
    persons: the most that a clip's skeletons have; 0 where it is not prepared yet.
    crop: what of the image frames show: "persons", "square" or "none"; see `folder.encode`.
  """
  class_names: tuple[str, ...]
  layout: str = ""
  modality: str = "none"
  poses: tuple[str, ...] = ()
  protocols: tuple[str, ...] = ()
  persons: int = 0
  crop: str = "none"

  @classmethod
  def of(cls, info: Mapping) -> "Facts":
    """What a prepared dataset's info says. Raises KeyError where it says too little."""
    return cls(tuple(info["class_names"]), info["layout"], info["modality"],
               tuple(info["poses"]), tuple(info["protocols"]),
               max(map(int, info["persons"]), default=0), info["crop"])


@dataclasses.dataclass(frozen=True)
class Survey:
  """The clips of raw data, and what they have in common.

  Attributes:
    clips: picklable, each with `clip_id`, `label`, `subject`, `camera` and `sources` (see
      `clips/definition.py`).
    facts: of the dataset that they make.
    splits: protocol -> part of `PARTS` -> ids of its clips.
    info: what else the dataset's info should tell, as JSON.
    listed: whether the raw data name the sides themselves.
    remarks: lines for the user; a kind's module leaves them to `survey`.
  """
  clips: list
  facts: Facts
  splits: dict[str, dict[str, set]]
  info: dict[str, Any] = dataclasses.field(default_factory=dict)
  listed: bool = False
  remarks: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Examined:
  """What reading one clip told: T, persons, and their missing joints among all joints."""
  num_frames: int
  persons: int = 0
  missing: int = 0
  joints: int = 0
  notes: tuple[str, ...] = ()


def is_own(name: str) -> bool:
  """Whether a dataset's name is a user's, `KIND:NAME`, or a kind without one."""
  return name.partition(":")[0] in KINDS


def parse(name: str) -> tuple[str, str]:
  """(kind, name) of `KIND:NAME`. Raises UserError."""
  kind, _, own_name = name.partition(":")
  if kind not in KINDS:
    raise UserError(f"unknown kind of dataset {kind!r}; known: {', '.join(KINDS)}")
  if not own_name:
    raise UserError(f"{kind} is a kind of dataset: write {kind}:NAME, with the name that "
                    "python -m actionjax.prepare --name=NAME gave it")
  if not _NAME.fullmatch(own_name):
    raise UserError(f"{shown(own_name)!r} cannot name a dataset: letters, digits, - and _ only, "
                    "64 at most")
  return kind, own_name


def module(kind: str):
  """The module of a kind."""
  return importlib.import_module(f"{__name__}.{kind}")


def complete(name: str, options: Mapping | None) -> dict[str, Any]:
  """A kind's options, those that are not given at their defaults. Raises UserError."""
  kind, _ = parse(name)
  known = module(kind).OPTIONS
  unknown = set(options or {}) - set(known)
  if unknown:
    raise UserError(f"{kind} has no option {', '.join(sorted(unknown))}; known: "
                    f"{', '.join(known) or 'none'}")
  return {**known, **(options or {})}


def survey(name: str, raw_dir: str, options: Mapping) -> Survey:
  """Lists the clips of a user's raw data.

  Args:
    name: the dataset's. raw_dir: folder or file of the raw data. options: all of the kind's.

  Raises:
    RawDataError: the first thing that is wrong with them, and how many more there are.
    UserError: an option does not fit.
  """
  kind, _ = parse(name)
  findings = Findings()
  surveyed = module(kind).survey(raw_dir, findings, **options)
  findings.stop()
  remarks = [f"warning: {finding}" for finding in findings.all[:_MOST_REMARKS]]
  if len(findings.all) > _MOST_REMARKS:
    remarks.append(f"{len(findings.all)} warnings in all; --validate shows them")
  return dataclasses.replace(surveyed, remarks=tuple(remarks))


# ---- datasets ------------------------------------------------------------------------

def of_facts(name: str, facts: Facts) -> Dataset:
  """A user's dataset as far as a config or a checkpoint knows it.

  Which clips its protocols train and test on is not known without its folder: they raise UserError.
  """
  return _dataset(name, facts, module(parse(name)[0]).OPTIONS,
                  {protocol: functools.partial(_unlisted, name) for protocol in facts.protocols})


def of_survey(name: str, surveyed: Survey, options: Mapping) -> Dataset:
  """The dataset that surveyed raw data make. `options`: all of the kind's."""
  return _dataset(name, surveyed.facts, options, _protocols(surveyed.splits))


def of_prepared(dataset: ClipDataset) -> Dataset:
  """The dataset of a prepared folder, whose protocols stand in its `splits.npz`."""
  facts = Facts.of(dataset.info)
  with np.load(dataset.path / SPLITS_FILE, allow_pickle=False) as file:
    splits = splits_of(facts.protocols, file["codes"], dataset.index.clip_id.tolist())
  return _dataset(dataset.info["dataset"], facts, dataset.info["options"], _protocols(splits))


def _dataset(name: str, facts: Facts, options: Mapping, protocols: Mapping) -> Dataset:
  kind, own_name = parse(name)
  return Dataset(
      name=name, version=module(kind).VERSION, class_names=facts.class_names, layout=facts.layout,
      modality=facts.modality, poses=facts.poses, fps=0.0, variants={own_name: dict(options)},
      protocols=protocols, find=functools.partial(_find, name), encode=module(kind).encode,
      persons=facts.persons, reach={own_name: CROPS[facts.crop]})


def _find(name: str, raw_dir: str, **options) -> definition.Found:
  surveyed = survey(name, raw_dir, options)
  return definition.Found(surveyed.clips, surveyed.remarks)


# ---- protocols -----------------------------------------------------------------------

def _protocols(splits: Mapping[str, Mapping[str, set]]) -> dict[str, Callable]:
  return {name: functools.partial(_listed, parts) for name, parts in splits.items()}


def _listed(parts: Mapping[str, set], index: Index) -> dict[str, np.ndarray]:
  """A protocol of `data/clips/protocols.py` by lists of ids: part -> bool[N].

  Without validation clips there is no such part: they are held out of the training side instead.
  """
  ids = index.clip_id.tolist()
  masks = {part: np.array([clip in parts.get(part, ()) for clip in ids], bool) for part in PARTS}
  if not masks["validation"].any():
    del masks["validation"]
  return masks


def _unlisted(name: str, index: Index):
  del index
  raise UserError(f"which clips of {name} train is told by its prepared folder alone; "
                  "catalogue.of(dataset) reads it")


def codes_of(splits: Mapping[str, Mapping[str, set]], ids: list[str]) -> np.ndarray:
  """Lists of ids as codes uint8[P,N] by protocol and clip: 0 is no part, 1 the first of `PARTS`."""
  codes = np.zeros((len(splits), len(ids)), np.uint8)
  for row, parts in zip(codes, splits.values()):
    for code, part in enumerate(PARTS, 1):
      row[[clip in parts.get(part, ()) for clip in ids]] = code
  return codes


def splits_of(names: Iterable[str], codes: np.ndarray, ids: list[str]) -> dict[str, dict[str, set]]:
  """What `codes_of` was given: protocol -> part -> ids, without empty parts."""
  return {name: {part: {ids[i] for i in np.flatnonzero(row == code)}
                 for code, part in enumerate(PARTS, 1) if (row == code).any()}
          for name, row in zip(names, codes)}


def command(name: str) -> str:
  """The command that prepares a user's dataset."""
  kind, own_name = parse(name)
  return f"python -m actionjax.prepare --dataset={kind} --name={own_name} --raw_dir=FOLDER"
