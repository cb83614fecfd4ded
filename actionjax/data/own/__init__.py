"""Datasets that users bring. What is known of them stands in their prepared folder.

Classes, layout and protocols of a published dataset are constants of its module in
`data/builders`, known without data. Those of a user's own are found in the raw files when it is
prepared; from then on `KIND:NAME`, such as `folder:mine`, names it wherever a dataset is named.
Each kind is a module of this package:

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
import importlib
import re
from typing import Any

import numpy as np

from actionjax.data.formats import archives
from actionjax.data.formats.findings import Findings, shown
from actionjax.errors import UserError

KINDS = ("annotations", "folder", "interchange")
PARTS = ("train", "validation", "test")  # of a protocol, in the order of their codes from 1
SPLITS_FILE = "splits.npz"
_MOST_REMARKS = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclasses.dataclass(frozen=True)
class About:
  """What networks, configs and checkpoints have to know of a user's dataset.

  Attributes:
    class_names: by label.
    layout: of the skeletons, a name of `actionjax.skeletons`; "" where there are none.
    modality: of the frames: "colour", or "none".
    poses: which of "pose3d" and "pose2d" its clips have.
    protocols: their names.
  """
  class_names: tuple[str, ...]
  layout: str = ""
  modality: str = "none"
  poses: tuple[str, ...] = ()
  protocols: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Survey:
  """The clips of raw data, and what they have in common.

  Attributes:
    clips: picklable, each with `clip_id`, `label`, `subject`, `camera` and `sources` (see
      `data/builders`).
    about: without protocols.
    splits: protocol -> part of `PARTS` -> ids of its clips.
    info: what else the dataset's info should tell, as JSON.
    listed: whether the raw data name the sides themselves.
  """
  clips: list
  about: About
  splits: dict[str, dict[str, set]]
  info: dict[str, Any] = dataclasses.field(default_factory=dict)
  listed: bool = False


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


class Builder:
  """A user's dataset with the names of a module of `data/builders`.

  Before the raw files are surveyed, or the prepared folder is read, classes and layout are not
  known, and asking for them is an error.
  """
  NEEDS_RAW = True
  FPS = 0.0  # each clip has its own

  def __init__(self, name: str, about: About | None = None, options: dict | None = None):
    self.kind, own_name = parse(name)
    self._module = module(self.kind)
    self.name, self.__doc__ = name, self._module.__doc__
    self.__name__ = f"{self._module.__name__}:{own_name}"  # as a module of its own would be named
    self.VERSION = self._module.VERSION
    unknown = set(options or {}) - set(self._module.OPTIONS)
    if unknown:
      raise UserError(f"{self.kind} has no option {', '.join(sorted(unknown))}; known: "
                      f"{', '.join(self._module.OPTIONS) or 'none'}")
    self.VARIANTS = {own_name: dict(self._module.OPTIONS, **(options or {}))}
    self.about = about
    self.info: dict[str, Any] = {}
    self._splits: dict[str, dict[str, set]] = {}
    self._codes = None

  @classmethod
  def of(cls, dataset) -> "Builder":
    """Of an opened `dataset.ClipDataset`, protocols included."""
    builder = cls(dataset.info["dataset"], about_of(dataset.info))
    with np.load(dataset.path / SPLITS_FILE, allow_pickle=False) as file:
      builder._codes = dict(zip(dataset.index.clip_id.tolist(), file["codes"].T))
    return builder

  def find(self, raw_dir: str, **options) -> list:
    """Surveys the raw files. Raises RawDataError at what is wrong with them."""
    findings = Findings()
    survey = self._module.survey(raw_dir, findings, **options)
    findings.stop()
    self._splits, self.info = survey.splits, survey.info
    self.about = dataclasses.replace(survey.about, protocols=tuple(survey.splits))
    remarks = [f"warning: {finding}" for finding in findings.all[:_MOST_REMARKS]]
    if len(findings.all) > _MOST_REMARKS:
      remarks.append(f"{len(findings.all)} warnings in all; --validate shows them")
    return archives.Found(survey.clips, remarks)

  def encode(self, raw, **options) -> dict:
    """One record; see the package's docstring."""
    return self._module.encode(raw, **options)

  def _known(self) -> About:
    if self.about is None:
      raise UserError(f"nothing is known of {self.name} without its prepared folder; "
                      "catalogue.about(name, data_dir) reads it")
    return self.about

  @property
  def CLASS_NAMES(self) -> tuple[str, ...]:
    return self._known().class_names

  @property
  def LAYOUT(self) -> str:
    return self._known().layout

  @property
  def MODALITY(self) -> str:
    return self._known().modality

  @property
  def POSES(self) -> tuple[str, ...]:
    return self._known().poses

  @property
  def PROTOCOLS(self) -> dict:
    return {name: self._protocol(i) for i, name in enumerate(self._known().protocols)}

  def _protocol(self, number: int):
    """A protocol of `data/clips/protocols.py` that looks clips up in the dataset's own lists."""
    def protocol(index) -> dict[str, np.ndarray]:
      codes = np.array([self._codes[clip][number] for clip in index.clip_id.tolist()], np.uint8)
      parts = {part: codes == code for code, part in enumerate(PARTS, 1)}
      if not parts["validation"].any():
        del parts["validation"]  # held out of the training side instead
      return parts
    return protocol

  def write_splits(self, folder, index) -> None:
    """Writes `splits.npz`: codes uint8[P,N] by protocol and clip; 0 is no part, see `PARTS`."""
    codes = np.zeros((len(self._splits), len(index)), np.uint8)
    for row, parts in zip(codes, self._splits.values()):
      for code, part in enumerate(PARTS, 1):
        ids = parts.get(part, set())
        row[[clip in ids for clip in index.clip_id.tolist()]] = code
    np.savez(folder / SPLITS_FILE, codes=codes)


def about_of(info: dict) -> About:
  """What a prepared dataset's info says of it."""
  return About(tuple(info["class_names"]), info["layout"], info["modality"],
               tuple(info["poses"]), tuple(info["protocols"]))


def command(name: str) -> str:
  """The command that prepares a user's dataset."""
  kind, own_name = parse(name)
  return f"python -m actionjax.prepare --dataset={kind} --name={own_name} --raw_dir=FOLDER"
