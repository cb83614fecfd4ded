"""Columns of a user's table as numbers, and the protocols that follow from them."""
import hashlib
import re

from actionjax.data.formats.findings import Findings, shown

# Written in a column `split`, whatever the case of the letters.
PART_NAMES = {"train": "train", "training": "train", "val": "validation", "valid": "validation",
              "validation": "validation", "test": "test", "testing": "test"}
TEST_SHARE = 0.3  # of each class, in the protocol "fraction"
MOST_CLASSES = 10_000
_INTEGER = re.compile(r"-?[0-9]{1,9}")


def class_names(labels) -> tuple[str, ...]:
  """The different labels in alphabetical order, or in that of numbers if all are numbers."""
  labels = set(labels)
  if all(_INTEGER.fullmatch(label) for label in labels):
    return tuple(sorted(labels, key=lambda label: (int(label), label)))
  return tuple(sorted(labels))


def numbers(column: list[str]) -> tuple[list[int], list[str] | None]:
  """Subjects or cameras as integers.

  Returns:
    the numbers, and their names where they are none themselves: names[number]. Names are
    numbered in alphabetical order. Without any value, all are 0.
  """
  if not any(column):
    return [0] * len(column), None
  if all(_INTEGER.fullmatch(value) for value in column):
    return [int(value) for value in column], None
  names = sorted(set(column))
  place = {name: number for number, name in enumerate(names)}
  return [place[value] for value in column], names


def check_complete(ids: list[str], column: list[str], field: str, findings: Findings) -> None:
  """Adds every clip without a value, unless none has one."""
  if any(column):
    for clip, value in zip(ids, column):
      if not value:
        findings.add(clip, field, "is empty, but other clips have one")


def parts(ids: list[str], column: list[str], findings: Findings) -> dict[str, set] | None:
  """The protocol that a column `split` spells out, None where it is empty.

  Where there is `val` and no `test`, the `val` clips are the test side.
  """
  if not any(column):
    return None
  found = {part: set() for part in ("train", "validation", "test")}
  for clip, value in zip(ids, column):
    part = PART_NAMES.get(value.lower())
    if part is None:
      findings.add(clip, "split", f"must be one of train, val, test, got {shown(value, 40)!r}")
    else:
      found[part].add(clip)
  if not found["test"]:
    found["test"], found["validation"] = found["validation"], set()
  for part in ("train", "test"):
    if not found[part]:
      findings.add("split", part, "no clip has this part")
  return {part: clips for part, clips in found.items() if clips}


def protocols(ids: list[str], labels: list[int], subjects: list[int],
              split: dict[str, set] | None) -> dict[str, dict[str, set]]:
  """The protocols of a user's dataset: name -> part -> ids.

  * "split": the dataset's own train, validation and test clips, where it says so.
  * "cross_subject": where there are two subjects or more. In ascending order, the second, fifth,
    eighth, ... of them test and the others train, so that nobody is on both sides.
  * "fraction": where there is neither. 30 % of each class test, drawn by clip id. What tells
    clips of one class and recording session apart from the rest may then be on both sides:
    accuracies are optimistic, and no two datasets' compare.
  """
  found = {} if split is None else {"split": split}
  people = sorted(set(subjects))
  if len(people) > 1:
    tested = set(people[1::3])
    found["cross_subject"] = _sides(ids, [subject in tested for subject in subjects])
  elif split is None:
    found["fraction"] = fraction(ids, labels)
  return found


def fraction(ids: list[str], labels: list[int], share: float = TEST_SHARE,
             seed: int = 0) -> dict[str, set]:
  """Train and test sides with a share of each class tested; a class keeps a training clip.

  A clip's place in the draw is its own, so that adding clips moves few others.
  """
  by_class: dict[int, list[str]] = {}
  for clip, label in zip(ids, labels):
    by_class.setdefault(label, []).append(clip)
  tested = set()
  for clips in by_class.values():
    clips = sorted(clips, key=lambda clip: hashlib.sha256(f"{seed}:{clip}".encode()).digest())
    tested.update(clips[:min(round(share * len(clips)), len(clips) - 1)])
  return _sides(ids, [clip in tested for clip in ids])


def _sides(ids: list[str], tests: list[bool]) -> dict[str, set]:
  return {"train": {clip for clip, test in zip(ids, tests) if not test},
          "test": {clip for clip, test in zip(ids, tests) if test}}
