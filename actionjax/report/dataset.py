"""What a dataset holds, as a table and as a picture."""
import collections

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from actionjax.data.formats.findings import shown
from actionjax.data.own.validation import Validated

_MOST_BARS = 40


def counts(validated: Validated) -> dict[str, dict[str, int]]:
  """Clips by class, subject, camera and part of each protocol: title -> name -> number.

  Subjects and cameras are left out where all clips have the same.
  """
  survey = validated.survey
  names = survey.facts.class_names
  labels = collections.Counter(clip.label for clip in survey.clips)
  found = {"class": {name: labels[number] for number, name in enumerate(names)}}
  for field in ("subject", "camera"):
    named = survey.info.get(f"{field}s")
    column = collections.Counter(getattr(clip, field) for clip in survey.clips)
    if len(column) > 1:
      found[field] = {str(named[number] if named else number): column[number]
                      for number in sorted(column)}
  for protocol, parts in survey.splits.items():
    found[protocol] = {part: len(clips) for part, clips in parts.items()}
    rest = len(survey.clips) - len(set().union(*parts.values()))
    if rest:
      found[protocol]["neither"] = rest
  return found


def lengths(validated: Validated) -> np.ndarray:
  """Frames of each readable clip, int[n]."""
  return np.array([told.num_frames for told in validated.examined.values()], int)


def missing(validated: Validated) -> np.ndarray:
  """Share of missing joints of each readable clip that has anybody in it, float[n]."""
  return np.array([told.missing / told.joints for told in validated.examined.values()
                   if told.joints])


def table(validated: Validated) -> str:
  """Statistics as text, a block for each of `counts`."""
  survey, told = validated.survey, validated.examined.values()
  lines = [f"{len(survey.clips)} clips, {len(validated.examined)} of them readable, "
           f"{sum(one.num_frames for one in told)} frames"]
  found = lengths(validated)
  if len(found):
    lines.append(f"frames a clip: least {found.min()}, median {np.median(found):g}, "
                 f"mean {found.mean():.1f}, most {found.max()}")
  joints = sum(one.joints for one in told)
  if survey.facts.poses:
    persons = collections.Counter(one.persons for one in told)
    lines.append(f"skeletons: {' and '.join(survey.facts.poses)} in the layout "
                 f"{survey.facts.layout}; persons a clip: "
                 + ", ".join(f"{number} in {persons[number]}" for number in sorted(persons)))
    share = sum(one.missing for one in told) / max(joints, 1)
    lines.append(f"missing joints: {100 * share:.2f} % of {joints}")
  for title, column in counts(validated).items():
    width = max(map(len, map(_name, [*column, title])))
    lines += ["", f"{_name(title):<{width}}  clips"]
    lines += [f"{_name(name):<{width}}  {number:>5}" for name, number in column.items()]
  return "\n".join(lines)


def _name(text: str) -> str:
  return shown(text, 40)


def picture(validated: Validated) -> Figure:
  """The same as bars and histograms."""
  bars, found, shares = counts(validated), lengths(validated), missing(validated)
  panels = len(bars) + 1 + bool(len(shares))
  columns = min(3, panels)
  rows = -(-panels // columns)
  figure = Figure(figsize=(4.5 * columns, 3.6 * rows), layout="constrained")
  axes = figure.subplots(rows, columns, squeeze=False).ravel()
  for axis, (title, column) in zip(axes, bars.items()):
    names, numbers = list(column), list(column.values())
    if len(names) > _MOST_BARS:
      axis.bar(range(len(numbers)), numbers, width=1.0)
      axis.set_xlabel(f"{len(names)} values of {title}")
    else:
      axis.bar(range(len(names)), numbers)
      size = 8 if len(names) <= 20 else 6
      axis.set_xticks(range(len(names)), [shown(name, 20) for name in names],
                      rotation=90 if len(names) > 4 else 0, fontsize=size)
    axis.set_title(shown(title, 40), parse_math=False)
    axis.set_ylabel("clips")
  bins = min(30, max(5, len(found) // 3))
  for axis, values, title, span in zip(
      axes[len(bars):panels], (found, 100 * shares),
      ("frames a clip", "missing joints a clip, %"), (None, (0, 100))):
    axis.hist(values, bins=bins, range=span)
    axis.set_title(title)
    axis.set_ylabel("clips")
  for axis in axes[panels:]:
    axis.set_visible(False)
  for axis in axes:
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    for text in axis.get_xticklabels():
      text.set_parse_math(False)  # a class may be called "$"
  return figure
