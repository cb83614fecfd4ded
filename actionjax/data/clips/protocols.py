"""Which clips train and which test: pure functions of a dataset's index.

A protocol is a callable `Index -> {"train": bool[N], "test": bool[N]}`, with "validation"
beside them where a dataset holds clips out itself. A dataset lists its own by name
(`protocols`); `split` turns one into clip numbers. Nothing here depends on the order of
the records or on global random state.
"""
import hashlib
from typing import Literal

import numpy as np

from actionjax.data.clips.dataset import Index
from actionjax.errors import UserError

SPLITS = ("train", "fit", "validation", "test")


def _by(field: str, train=None, test=None):
  """A protocol that compares one column; a side that is not given is all the rest."""
  def protocol(index: Index) -> dict[str, np.ndarray]:
    column = getattr(index, field)
    masks = {name: None if values is None else np.isin(column, list(values))
             for name, values in (("train", train), ("test", test))}
    return {"train": ~masks["test"] if masks["train"] is None else masks["train"],
            "test": ~masks["train"] if masks["test"] is None else masks["test"]}
  if train is None and test is None:
    raise ValueError(f"a protocol by {field} needs its training or its test {field}s")
  if train is not None and test is not None and set(train) & set(test):
    raise ValueError(f"{field}s both train and test: {sorted(set(train) & set(test))}")
  return protocol


def cross_subject(train_subjects):
  """Clips of these subjects train, those of all others test."""
  return _by("subject", train=tuple(train_subjects))


def cross_view(train_cameras=None, test_cameras=None, validation_cameras=None):
  """Clips of some cameras train, of others test; one side left out is all the rest.

  Args:
    validation_cameras: whose clips the dataset itself holds out for validation, if any; then both
      sides are to be given.

  Raises:
    ValueError: neither side is given, or a camera is on two sides.
  """
  sides = _by("camera", train=train_cameras, test=test_cameras)
  if validation_cameras is None:
    return sides
  held_out = _by("camera", train=(*train_cameras, *test_cameras), test=validation_cameras)
  return lambda index: sides(index) | {"validation": held_out(index)["test"]}


def cross_setup(train_setups):
  """Clips of these setups train, those of all others test."""
  return _by("setup", train=tuple(train_setups))


def leave_one_subject_out(subject: int):
  """Clips of one subject test, those of all others train."""
  return _by("subject", test=(subject,))


def restricted(protocol, **columns):
  """A protocol on a part of the clips: those whose columns have one of the given values.

  Args:
    protocol: callable, as all here. columns: of the index, with the values to keep.
  """
  def kept(index):
    there = [np.isin(getattr(index, name), list(values)) for name, values in columns.items()]
    return {part: np.logical_and.reduce([mask, *there])
            for part, mask in protocol(index).items()}
  return kept


def _rank(clip_id: str, seed: int) -> bytes:
  # A clip's place in the draw is its own: adding or reordering clips moves no other.
  return hashlib.sha256(f"{seed}:{clip_id}".encode()).digest()


def _held_out_fraction(index: Index, side: np.ndarray, fraction: float, seed: int):
  """bool[N]: round(fraction * n) of the n clips of one side, spread evenly over the classes.

  Each class gives its share rounded down, and those with the largest remainders one
  more; a class always keeps a clip to fit on.
  """
  labels = index.label[side]
  classes, counts = np.unique(labels, return_counts=True)
  exact = fraction * counts
  take = np.floor(exact).astype(int)
  missing = int(round(fraction * len(side))) - take.sum()
  ranks = [_rank(f"class {label}", seed) for label in classes]
  order = sorted(range(len(classes)), key=lambda c: (take[c] - exact[c], ranks[c]))
  for c in order[:missing]:
    take[c] += 1
  take = np.minimum(take, counts - 1)
  held_out = np.zeros(len(index), bool)
  for label, number in zip(classes, take):
    clips = sorted(side[labels == label], key=lambda i: _rank(str(index.clip_id[i]), seed))
    held_out[clips[:number]] = True
  return held_out


def _held_out(index: Index, side: np.ndarray, validation: float | tuple[int, ...], seed: int,
              name: str) -> np.ndarray:
  """bool[N]: the validation clips of one side, bool[N]. See `split`."""
  if isinstance(validation, (int, float)):
    if not 0 <= validation < 1:
      raise UserError(f"validation={validation} is not a fraction in [0, 1); to hold out "
                      f"a subject write ({validation},)")
    return _held_out_fraction(index, np.flatnonzero(side), validation, seed)
  absent = sorted(set(validation) - set(index.subject[side].tolist()))
  if absent:
    raise UserError(f"validation={tuple(validation)}: the {name} side has no subject "
                    f"{', '.join(map(str, absent))}")
  return side & np.isin(index.subject, list(validation))


def split(index: Index, protocol, name: str, validation: float | tuple[int, ...] = 0.1,
          seed: int = 0, validation_from: Literal["train", "test"] = "train") -> np.ndarray:
  """The clips of one split of a protocol.

  Args:
    index: the dataset's index, N clips.
    protocol: callable Index -> {"train": bool[N], "test": bool[N]}.
    name: "train" (the whole official training side), "fit" and "validation" (which
      partition it), or "test". Where the protocol has validation clips of its own, those are
      "validation", apart from "train", and "fit" is all of "train".
    validation: what of the training side is held out as "validation": a fraction of
      each class in [0, 1), or a sequence of training subjects.
    seed: draws another fraction.
    validation_from: the side that "validation" is part of. From "test" it leaks: its clips are
      tested on too, nothing is held out of the training side, and "fit" is all of "train".

  Returns:
    int64[n], ascending positions in the index.

  Raises:
    UserError: an unknown split, a fraction or subjects that cannot be held out, or a
      split without clips.
  """
  if name not in SPLITS:
    raise UserError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
  masks = protocol(index)
  if name in ("train", "test"):
    mask = masks[name]
  elif validation_from == "test":
    mask = (_held_out(index, masks["test"], validation, seed, "test") if name == "validation"
            else masks["train"])
  elif "validation" in masks:
    mask = masks["validation" if name == "validation" else "train"]
  else:
    held_out = _held_out(index, masks["train"], validation, seed, "training")
    mask = held_out if name == "validation" else masks["train"] & ~held_out
  rows = np.flatnonzero(mask)
  if not len(rows):
    raise UserError(f"split {name!r} has no clips (validation={validation!r}, "
                    f"{len(index)} clips in the dataset)")
  return rows
