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


def kernels(pictures: dict[str, np.ndarray], *, title: str = "") -> Figure:
  """Arrays [in, out] of one kernel side by side in one scale, each with its name and mean."""
  figure = Figure(figsize=(1.2 + 2.6 * len(pictures), 3.4), layout="constrained")
  axes = figure.subplots(1, len(pictures), squeeze=False, sharey=True)[0]
  top = max(float(picture.max()) for picture in pictures.values()) or 1.0
  for axis, (name, picture) in zip(axes, pictures.items()):
    image = axis.imshow(picture, vmin=0, vmax=top, cmap="viridis", interpolation="nearest")
    axis.set_title(f"{name}: mean {picture.mean():.2e}", fontsize=8)
    axis.set_xlabel("output channel")
  axes[0].set_ylabel("input channel")
  figure.colorbar(image, ax=list(axes))
  figure.suptitle(title, fontsize=9)
  return figure
