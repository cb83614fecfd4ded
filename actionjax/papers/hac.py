"""Hierarchical action classification with network pruning: the papers' recipe as a config.

Seven trainings and more make the papers' ablation (Tables 4 and 5): the plain network on whole
frames; on person crops; with superclasses and no crops; with both; then passes of pruning and
retraining in two scopes. A row's first pass trains the last classifier alone, its confusions
group the classes, and its second pass trains all levels from the same start (section
"Hierarchical classification"). The numbers are the configs'.
"""
import fractions
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError

# Reported accuracies in per cent, by dataset and protocol; the passes by scope.
FIGURES = {
    ("ntu60", "cross_subject"): dict(
        baseline=89.13, crop=95.29, full=95.45,
        altogether=(95.52, 95.61, 95.60, 95.66, 95.41, 95.47),
        by_layers=(95.37, 95.50, 95.64, 95.14, 95.39)),
    ("ntu60", "cross_view"): dict(
        baseline=94.39, crop=98.34, full=98.59,
        altogether=(98.61, 98.60, 98.65, 98.40, 98.43),
        by_layers=(98.66, 98.63, 98.74, 98.79, 98.56, 98.62)),
    ("ntu120", "cross_subject"): dict(
        baseline=84.64, crop=92.48, hierarchy=86.17, full=92.95,
        altogether=(93.48, 93.55, 93.69, 93.64, 93.47), by_layers=(93.19, 93.56, 93.43, 93.38)),
    ("ntu120", "cross_setup"): dict(
        baseline=86.20, crop=93.99, hierarchy=86.98, full=94.25,
        altogether=(94.12, 94.31, 94.42, 94.39, 94.19), by_layers=(94.54, 94.48, 94.48)),
    ("nucla", "view_1"): dict(
        baseline=77.76, crop=88.78, full=88.78, altogether=(89.75, 90.14, 71.95, 40.62),
        by_layers=(88.39, 91.10, 86.85, 85.88)),
    ("nucla", "view_2"): dict(
        baseline=70.73, crop=89.00, full=89.98, altogether=(86.64, 89.00),
        by_layers=(88.39, 88.39, 91.36, 90.37, 91.95, 90.37, 88.21)),
    ("nucla", "view_3"): dict(
        baseline=97.00, crop=98.50, full=98.92, altogether=(98.28, 98.28, 84.36),
        by_layers=(98.71, 98.07)),
    ("utd_mhad", "cross_subject"): dict(
        baseline=84.88, crop=82.55, full=86.05, altogether=(84.65, 52.23),
        by_layers=(87.44, 86.51, 90.46, 91.63, 90.23, 90.93)),
}

# NTU-60, cross-subject and cross-view: in full by loss weights (of four levels) and by superclasses
# (of three), on crops alone by depth; cross-subject, pruned altogether, by ratio, pass after pass.
BY_WEIGHTS = {
    (1 / 64, 1 / 16, 1 / 4, 1): (95.36, 98.29), (1 / 27, 1 / 9, 1 / 3, 1): (95.07, 98.41),
    (1 / 8, 1 / 4, 1 / 2, 1): (95.45, 98.59), (1, 1, 1, 1): (95.31, 98.01),
    (1, 1 / 2, 1 / 4, 1 / 8): (93.91, 97.20), (1, 1 / 3, 1 / 9, 1 / 27): (93.22, 97.24),
    (1, 1 / 4, 1 / 16, 1 / 64): (92.21, 95.85)}
BY_LEVELS = {
    (2, 6, 20): (95.45, 98.59), (3, 10, 30): (95.25, 98.34), (4, 12, 30): (95.25, 98.38),
    (5, 15, 30): (95.20, 98.29), (6, 12, 30): (95.39, 98.28), (10, 20, 30): (95.04, 98.38),
    (60, 60, 60): (95.21, 98.37)}
BY_DEPTH = {18: (93.83, 97.87), 34: (93.91, 97.69), 50: (95.25, 98.34), 101: (95.19, 98.09)}
BY_FRACTION = {0.05: (94.84, 95.17, 94.92, 94.87), 0.1: (95.52, 95.61, 95.60, 95.66, 95.41, 95.47),
               0.15: (95.08, 95.21, 95.00, 95.10)}


def figures(args: Mapping[str, Any], dataset: str, protocol: str, levels: tuple,
            weights: tuple) -> dict[str, Any]:
  """The papers' figures for a config's arguments; what they do not print is not there.

  Args:
    args: of the config: `depth`, `levels`, `weights`, `fraction`; see `steps`.
    levels, weights: what the middle two stand for.
  """
  found = dict(FIGURES.get((dataset, protocol), {}))
  ntu60 = dataset == "ntu60" and found
  side = int(protocol == "cross_view")
  if ntu60 and args["depth"] != 50:
    found = {"crop": BY_DEPTH.get(args["depth"], (None, None))[side]}
  elif args["levels"] or args["weights"]:
    found = {key: found[key] for key in ("baseline", "crop") if key in found}
    if ntu60 and not args["weights"]:
      found["full"] = BY_LEVELS.get(levels, (None, None))[side]
    elif ntu60 and not args["levels"]:
      found["full"] = BY_WEIGHTS.get(weights, (None, None))[side]
  elif args["fraction"] != 0.1:
    found.pop("by_layers", None)
    found["altogether"] = (BY_FRACTION.get(args["fraction"])
                           if (dataset, protocol) == ("ntu60", "cross_subject") else None)
  return found


def levels(text: str, usual: tuple[int | None, ...]) -> tuple[int | None, ...]:
  """Superclasses at the first three stages from a config's argument such as 2:6:20.

  Args:
    text: numbers, or none for no level; "" for the usual ones. The number of classes stands for no
      grouping (60:60:60).

  Raises:
    UserError: something else.
  """
  read = lambda part: None if part == "none" else int(part)
  return _sequence("levels", text, read, 3) if text else usual


def weights(text: str, usual: tuple[float | None, ...],
            at_levels: tuple[int | None, ...]) -> tuple[float | None, ...]:
  """Weights of the four levels in the loss from a config's argument such as 1/8:1/4:1/2:1.

  Args:
    text: fractions, or none where there is no level; "" for the usual ones, 1 for levels that
      these leave out.
    at_levels: superclasses at the first three stages.

  Raises:
    UserError: something else, or levels without weight and weights without level.
  """
  if text:
    read = lambda part: None if part == "none" else float(fractions.Fraction(part))
    found = _sequence("weights", text, read, 4)
    if [weight is None for weight in found[:3]] != [level is None for level in at_levels]:
      raise UserError(f"config argument weights={text} must be none where there is no level, and "
                      f"only there; the levels are {at_levels}")
    return found
  return (*(None if level is None else weight or 1.0
            for level, weight in zip(at_levels, usual)), usual[-1])


def _sequence(name: str, text: str, read, length: int) -> tuple:
  try:
    found = tuple(read(part) for part in text.split(":"))
  except (ValueError, ZeroDivisionError):
    found = ()
  if len(found) != length or any(value is not None and value <= 0 for value in found):
    raise UserError(f"config argument {name} must be {length} numbers above 0, or none, with "
                    f"colons between, got {text}")
  return found


def steps(args: Mapping[str, Any], *, data: Mapping[str, Any], model: Mapping[str, Any],
          weights: tuple[float | None, ...], group: Mapping[str, Any], train: Mapping[str, Any],
          retrain: Mapping[str, Any], evaluate: Mapping[str, Any], repeat: Mapping[str, Any],
          prune: Mapping[str, Any]) -> list[dict]:
  """The whole ablation of one dataset and protocol.

  Args:
    args: of the config: `scopes` of pruning, see `scopes`; `uncropped`, whether there are rows
      without crops; `leak`, the papers' protocol: all training clips are trained on, a tenth of
      the test clips validates, and the accuracy on all of them ends the pruning; `init`, a model
      directory to start from, "" for random weights; `warm_start`, which goes on from the first
      pass' weights in the second; `depth`, `levels`, `weights` and `fraction`, by which the
      papers' figures are found.
    data: the config's section; its video shows person crops; with `leak` its
      `validation_from` is "test".
    model: fields of `video_network.Model` but for the levels.
    weights: of the four levels in the loss.
    group, train, evaluate, repeat, prune: fields of these steps; the levels of `group` are
      superclasses at the first three stages.
    retrain: what is different in a training after a pruning pass.

  Raises:
    UserError: unknown scopes.
  """
  chosen = scopes(args["scopes"])
  # The plateau rule needs the loss of every epoch; a fixed schedule needs none.
  watch = (dict(validate=dict(split="validation"), monitor="loss")
           if train["optim"].get("plateau_factor") else {})
  start = (dict(source=args["init"]),) if args["init"] else ()

  def trained(name: str, levels: tuple, **fields) -> dict:
    loss = dict(name="hierarchical", weights=weights) if levels else dict(name="cross_entropy")
    return dict(train, kind="train", name=name, split="fit", loss=loss,
                model=dict(model, name="video_network", levels=levels), **watch, **fields)

  def evaluated(name: str) -> list[dict]:
    return [dict(evaluate, kind="evaluate", name=f"{name}_validation", split="validation"),
            dict(evaluate, kind="evaluate", name=f"{name}_test", split="test")]

  def passes(first: str, second: str, **fields) -> list[dict]:
    """Both passes on one kind of clips: train, evaluate, group, train, evaluate."""
    # "The same initialisation": where no model gives it, the same draws of the same seed.
    again = (dict(init_from=(dict(source=first),)) if args["warm_start"] else
             dict(init_from=start, init_as=first))
    return [
        trained(first, (), init_from=start, **fields), *evaluated(first),
        dict(group, kind="group", name=f"{second}_superclasses", evaluation=f"{first}_validation",
             absent="zero"),
        trained(second, group["levels"], superclasses=f"{second}_superclasses", **again, **fields),
        *evaluated(second)]

  made = []
  if args["uncropped"]:
    made += passes("baseline", "uncropped", data=dict(variant="uncropped",
                                                      video=dict(box="frame")))
  made += passes("crop", "full")
  made.append(dict(kind="gradients", model_from="full", superclasses="full_superclasses",
                   # Figure 5: what each classifier asks of an early layer by itself.
                   weights=tuple(weight and 1.0 for weight in weights)))
  end = "retrain_test" if args["leak"] else "retrain_validation"
  for scope in chosen:
    retrained = trained("retrain", group["levels"], init_from=(dict(source="prune"),),
                        pruned_by="prune",
                        superclasses="full_superclasses")
    made += [
        dict(repeat, kind="repeat", name=scope, monitor=end,
             start=end.replace("retrain", "full"), model_from="full",
             steps=(dict(prune, kind="prune", name="prune", scope=scope),
                    retrained | dict(retrain), *evaluated("retrain"))),
        dict(kind="compact", name=f"{scope}_compact", model_from=scope),
        dict(evaluate, kind="evaluate", name=f"{scope}_compact_test", split="test")]
  paper = figures(args, data["dataset"], data["protocol"], group["levels"], weights)
  return [*made, dict(kind="table", name="ablation", rows=_rows(args, chosen, paper),
                      paper_of=(data["dataset"], data["protocol"]))]


def _rows(args: Mapping[str, Any], chosen: tuple[str, ...], paper: Mapping) -> tuple[dict, ...]:
  """The table's rows, as the ablation has them."""
  rows = []
  if args["uncropped"]:
    rows.append(dict(label="baseline (uncropped)", evaluation="baseline_test",
                     paper=paper.get("baseline")))
  rows.append(dict(label="+ crop", evaluation="crop_test", paper=paper.get("crop")))
  if args["uncropped"]:
    rows.append(dict(label="+ hierarchy, no crop", evaluation="uncropped_test",
                     paper=paper.get("hierarchy")))
  rows.append(dict(label="full (crop + hierarchy)", evaluation="full_test",
                   paper=paper.get("full")))
  labels = {"altogether": "pruned altogether, pass", "by_layers": "pruned by layers, pass"}
  for scope in chosen:
    rows += [dict(label=labels[scope], evaluation="retrain_test", repeat=scope,
                  paper=paper.get(scope)),
             dict(label="the best of them, compacted", evaluation=f"{scope}_compact_test")]
  return tuple(rows)


def resnet(depth: int, **fields) -> dict[str, Any]:
  """The papers' inflated ResNet: 3x3x3 kernels, a two-dimensional stem, no temporal stride."""
  return dict(name="resnet3d", depth=depth, kernels="3x3x3", stem_kernel=(1, 7, 7), **fields)


def scopes(choice: str) -> tuple[str, ...]:
  """The pruning scopes that a config's argument names. Raises UserError for another word."""
  known = {"both": ("altogether", "by_layers"), "altogether": ("altogether",),
           "by_layers": ("by_layers",), "none": ()}
  if choice not in known:
    raise UserError(f"config argument scopes must be one of {', '.join(known)}, got {choice}")
  return known[choice]
