"""PoseC3D's robustness study as a recipe: networks that lose joints at test time (Table 5).

In every frame each person loses, with probability p, one joint of an arm or a leg. The paper drops
keypoints before anything else looks at them; here they go missing from what was sampled, scaled
and cropped, so that the box of a 2D skeleton stays that of the whole one. Views of 3D skeletons are
fitted to the joints that are left.
"""
from collections.abc import Mapping

PROBABILITIES = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0)
HEADINGS = ("0", "1/8", "1/4", "1/2", "1")
# Row -> its name and the paper's figures in per cent, on FineGYM (mean class accuracy). The last
# GCN was trained with joints missing as well; their GCN is MS-G3D (`stgcnpp_utd_mhad.py:
# variant=msg3d`), ST-GCN++ may stand in for it.
ROWS = {
    "cnn": ("3D-CNN", (92.4, 92.4, 92.3, 92.1, 91.5)),
    "gcn": ("GCN", (92.0, 91.0, 90.2, 86.5, 77.7)),
    "robust_gcn": ("GCN, robust training", (90.9, 91.0, 91.0, 91.0, 90.6)),
}


def step_name(row: str, probability: float) -> str:
  """Of the evaluation of a row's network at a probability: "gcn_0.125"."""
  return f"{row}_{probability:g}"


def robustness(runs: Mapping[str, str], **fields) -> dict:
  """The study's config.

  Args:
    runs: row of `ROWS` -> a finished run, step or model directory.
    **fields: of every evaluation; see `steps.evaluate.Config`.
  """
  return dict(name="robustness", steps=tuple(
      dict(kind="evaluate", name=step_name(row, p), model_from=run, drop_joints=p, **fields)
      for row, run in runs.items() for p in PROBABILITIES))


def robustness_table(metrics: Mapping[str, Mapping], runs: Mapping[str, str],
                     metric: str = "top1") -> str:
  """Table 5, the paper's figures below ours, as Markdown.

  Args:
    metrics: what the recipe measured, by step.
    runs: as in `robustness`.
    metric: top1, top5 or mean_class_accuracy.
  """
  lines = [f"{metric} in per cent against the probability that a frame lacks a limb's joint "
           "(PoseC3D, Table 5: FineGYM, mean class accuracy).", "",
           f"| | {' | '.join(HEADINGS)} | loss from 0 to 1 | clips | split |",
           "| --- |" + " ---: |" * (len(HEADINGS) + 2) + " --- |"]
  for row in runs:
    label, paper = ROWS[row]
    found = [metrics[step_name(row, p)] for p in PROBABILITIES]
    ours = [100 * one[metric] for one in found]
    for name, values, tail in ((f"{label}, here", ours, (found[0]["clips"], found[0]["split"])),
                               (f"{label}, paper", paper, ("", ""))):
      digits = 2 if values is ours else 1
      cells = [f"{value:.{digits}f}" for value in (*values, values[0] - values[-1])]
      lines.append(f"| {' | '.join([name, *cells, *map(str, tail)])} |")
  return "\n".join(lines)
