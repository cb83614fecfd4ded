"""Pictures of a finished run: training curves and the confusion matrix."""
import json
import pathlib

import numpy as np
from matplotlib.figure import Figure

from actionjax.training import metric_writer as metric_files


def write_all(workdir: pathlib.Path) -> None:
  """`curves.png`, and `confusion.png` of the last evaluation, where there is one."""
  curves(workdir).savefig(workdir / "curves.png", dpi=120)
  evaluated = sorted(workdir.glob("*/confusion.npy"))
  if evaluated:
    step = evaluated[-1].parent
    done = json.loads((step / "done.json").read_text())
    found = done["artifacts"]["metrics"]
    figure = confusion(np.load(evaluated[-1]), class_names(workdir),
                       title=f"{found['split']}: top-1 {100 * found['top1']:.1f} % "
                             f"of {found['clips']} clips")
    figure.savefig(workdir / "confusion.png", dpi=120)


def class_names(workdir: pathlib.Path) -> list[str] | None:
  """Class names that the run's model stores."""
  from actionjax.training import checkpoint
  try:
    return checkpoint.load_description(checkpoint.find_model(workdir))["class_names"]
  except ValueError:
    return None


def curves(workdir: pathlib.Path) -> Figure:
  """Loss and accuracy over the steps of every training of the run, one column each."""
  trainings = sorted(workdir.glob("*/metrics.jsonl"))
  figure = Figure(figsize=(5 * max(1, len(trainings)), 6), layout="constrained")
  axes = figure.subplots(2, max(1, len(trainings)), squeeze=False)
  for column, path in enumerate(trainings):
    rows = metric_files.read(path)
    for axis, name in ((axes[0, column], "loss"), (axes[1, column], "top1")):
      for key, label in ((name, "train"), (f"validation_{name}", "validation")):
        points = [(row["step"], row[key]) for row in rows if key in row]
        if points:
          axis.plot(*zip(*points), label=label, marker="." if len(points) < 40 else None)
      axis.set_xlabel("step")
      axis.set_ylabel(name)
      axis.grid(alpha=0.3)
      if axis.lines:
        axis.legend()
    axes[0, column].set_title(path.parent.name)
  return figure


def confusion(matrix: np.ndarray, names: list[str] | None, *, title: str = "") -> Figure:
  """A confusion matrix with rows in per cent of the true class.

  Args:
    matrix: counts int[N,N], rows are true classes.
    names: of the N classes; numbers where None.
  """
  count = len(matrix)
  names = names or [str(i) for i in range(count)]
  rates = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
  size = min(24, 3.5 + 0.28 * count)
  figure = Figure(figsize=(size + 0.6, size), layout="constrained")
  axis = figure.subplots()
  image = axis.imshow(rates, cmap="Blues", vmin=0, vmax=100)
  figure.colorbar(image, ax=axis, label="% of true class", shrink=0.7)
  ticks = np.arange(count)
  font = max(4, 9 - count // 20)
  axis.set_xticks(ticks, names, rotation=90, fontsize=font)
  axis.set_yticks(ticks, names, fontsize=font)
  if count <= 30:
    for i, j in zip(*np.nonzero(matrix)):
      axis.text(j, i, f"{rates[i, j]:.0f}", ha="center", va="center", fontsize=font - 1,
                color="white" if rates[i, j] > 55 else "black")
  axis.set_xlabel("predicted")
  axis.set_ylabel("true")
  axis.set_title(title)
  return figure


def bars(values: dict[str, float], *, ylabel: str, title: str = "") -> Figure:
  """One bar a name."""
  figure = Figure(figsize=(1.5 + 1.1 * len(values), 3.5), layout="constrained")
  axis = figure.subplots()
  axis.bar(list(values), list(values.values()))
  axis.set_ylabel(ylabel)
  axis.set_title(title, fontsize=9)
  return figure
