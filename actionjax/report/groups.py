"""A picture of superclasses: which classes stand together at each level."""
import colorsys
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextPath

from actionjax.errors import UserError

# Inches, but for the font's points.
NARROW, WIDE = 6.0, 16.0  # the picture, by the number of classes
FONT = 8.0
LINE = 0.16  # from one name to the next
GAP = 0.1  # between two boxes, and around the picture
TITLE = 0.36  # for a level's title
DOT = 0.2  # for the dot before a name
WIDEST = 2.6  # of a name; a longer one is set smaller


def superclass_figure(path: str | os.PathLike, class_names: Sequence[str],
                      levels: Mapping[str, Sequence[int]]) -> Figure:
  """Draws the classes grouped at each level, as Figure 3 of the hierarchical classifier's paper.

  A box for each superclass lists its classes. The dot before a name has the colour of the class's
  box in the first level, and the box of a later level the mean colour of its classes: levels are
  found independently of each other, and this shows where they are nested and where not.

  Args:
    path: file to write; its ending says the format.
    class_names: of the N classes.
    levels: name of each used level -> superclass of each class, int[N]; drawn in this order.

  Returns:
    The figure as written.

  Raises:
    UserError: there is no level, or one does not assign exactly N classes.
  """
  if not levels:
    raise UserError("no level of superclasses to draw")
  for level, assignment in levels.items():
    if len(assignment) != len(class_names):
      raise UserError(f"level {level!r} assigns {len(assignment)} classes, but there are "
                      f"{len(class_names)} class names")
  first = np.unique(np.asarray(next(iter(levels.values()))), return_inverse=True)[1]
  colours = _palette(first.max() + 1)[first]
  names_width = min(WIDEST, max(_width(name) for name in class_names))
  width = min(WIDE, NARROW + 0.1 * len(class_names))
  panels = [_layout(_boxes(assignment, first), DOT + names_width + 0.05, width)
            for assignment in levels.values()]
  height = sum(TITLE + panel["height"] for panel in panels)

  figure = Figure(figsize=(width + 2 * GAP, height + GAP))
  axis = figure.add_axes((0, 0, 1, 1))
  axis.set(xlim=(-GAP, width + GAP), ylim=(height + GAP, 0))
  axis.axis("off")
  top = 0.0
  for level, panel in zip(levels, panels):
    axis.text(0, top + TITLE / 2, f"{level}: {len(panel['boxes'])} superclasses", va="center",
              fontsize=FONT + 3, fontweight="bold")
    _draw(axis, panel, top + TITLE, class_names, colours, names_width)
    top += TITLE + panel["height"]
  figure.savefig(path, dpi=120)
  return figure


def _boxes(assignment, first) -> list[np.ndarray]:
  """The classes of each superclass; superclasses that share most with one of the first level
  stand together."""
  boxes = [np.flatnonzero(np.asarray(assignment) == superclass)
           for superclass in np.unique(assignment)]
  return sorted(boxes, key=lambda box: (np.bincount(first[box]).argmax(), box[0]))


def _layout(boxes, names_width, total) -> dict:
  """Boxes of one size in rows as even as can be, names in as many columns as fit a box."""
  fitting = max(1, int((total + GAP) // (names_width + GAP)))
  rows = -(-len(boxes) // fitting)
  in_row = -(-len(boxes) // rows)
  width = (total + GAP) / in_row - GAP
  most = max(len(box) for box in boxes)
  columns = min(most, max(1, int(width // names_width)))
  lines = -(-most // columns)
  box_height = (lines + 0.6) * LINE
  return {"boxes": boxes, "in_row": in_row, "width": width, "columns": columns, "lines": lines,
          "box_height": box_height, "height": rows * (box_height + GAP)}


def _draw(axis, panel, top, class_names, colours, names_width) -> None:
  """Draws the boxes of one level below `top`."""
  for number, box in enumerate(panel["boxes"]):
    row, column = divmod(number, panel["in_row"])
    left = column * (panel["width"] + GAP)
    upper = top + row * (panel["box_height"] + GAP)
    mean = colours[box].mean(0)
    axis.add_patch(Rectangle((left, upper), panel["width"], panel["box_height"],
                             facecolor=0.25 * mean + 0.75, edgecolor=0.8 * mean, linewidth=1.2))
    name_column, line = np.divmod(np.arange(len(box)), panel["lines"])
    x = left + name_column * panel["width"] / panel["columns"]
    y = upper + (line + 0.8) * LINE
    axis.scatter(x + DOT / 2, y, s=20, color=colours[box])
    for i, index in enumerate(box):
      axis.text(x[i] + DOT, y[i], class_names[index], va="center", parse_math=False,
                fontsize=FONT * min(1, names_width / _width(class_names[index])))


def _width(name: str) -> float:
  """Inches that a name takes in the picture's font."""
  if not name.strip():
    return 0.01
  # A dollar sign is one, not the beginning of a formula.
  path = TextPath((0, 0), name.replace("$", r"\$"), size=FONT)
  return 1.04 * path.get_extents().width / 72  # letters are set on whole pixels


def _palette(count: int) -> np.ndarray:
  """Distinct colours float[count,3]: hues in equal steps, lightness alternating."""
  return np.array([colorsys.hls_to_rgb(i / count, (0.45, 0.6)[i % 2], 0.75)
                   for i in range(count)])
