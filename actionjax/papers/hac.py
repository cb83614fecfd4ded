"""Hierarchical action classification with network pruning: the papers' recipe as a config.

Seven trainings and more make the papers' ablation (Tables 4 and 5): the plain network on whole
frames; on person crops; with superclasses and no crops; with both; then passes of pruning and
retraining in two scopes. A row's first pass trains the last classifier alone, its confusions
group the classes, and its second pass trains all levels from the same start (section
"Hierarchical classification").
"""
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

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

# Superclasses and loss weights by level (section "Implementation details").
NTU_WEIGHTS = (1 / 8, 1 / 4, 1 / 2, 1.0)
SMALL_WEIGHTS = (None, 1 / 16, 1 / 4, 1.0)


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the papers' datasets, and a config's arguments, make different.

  Attributes:
    name: of the config.
    dataset, protocol: see `loading.config.DataConfig`.
    levels: superclasses at the first three stages.
    weights: of the four levels in the loss.
    video: fields of `loading.video.Config` for person crops; whole frames follow from them.
    backbone: fields of `ResNet3D`.
    optim: fields of `optim.OptimConfig`.
    epochs, retrain_epochs: of a training, and of one after a pruning pass.
    uncropped: variant of the dataset for the rows without crops; None leaves these rows out.
    scopes: of pruning, in the table's order.
    passes: of pruning at most, in each scope.
    fraction, norm: see `steps.prune`.
    validation: see `loading.config.DataConfig`.
    leak: validates on test clips, as the papers do.
    counts: see `steps.group`.
    init: model directory to start from, "" for random weights.
    warm_start: the second pass goes on from the first one's weights.
    data: further fields of `loading.config.DataConfig`.
    batch_size, ema, dtype, test_views, seed: as elsewhere.
  """
  name: str
  dataset: str
  protocol: str
  levels: tuple[int | None, ...]
  weights: tuple[float | None, ...]
  video: Mapping[str, Any]
  backbone: Mapping[str, Any]
  optim: Mapping[str, Any]
  epochs: float = 20.0
  retrain_epochs: float = 20.0
  uncropped: str | None = "uncropped"
  scopes: tuple[str, ...] = ("altogether", "by_layers")
  passes: int = 8
  fraction: float = 0.1
  norm: str = "l2"
  validation: Any = 0.1
  leak: bool = False
  counts: str = "hard"
  init: str = ""
  warm_start: bool = False
  data: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  batch_size: int = 16
  ema: float | None = None
  dtype: str = "bfloat16"
  test_views: int = 5
  seed: int = 0


# Adam at 1e-4, a tenth after two epochs in a row without a lower validation loss (section
# "Implementation details"; the optimiser is that of the code the papers build on).
PAPER_OPTIM = dict(name="adam", learning_rate=1e-4, plateau_factor=0.1, plateau_patience=1)

# Eight frames of 224x224, cut from the box resized to 256x256 (section "Preprocessing").
PAPER_VIDEO = dict(num_frames=8, size=(224, 224), crop=0.875, margin=0.1)


def config(settings: Settings) -> ConfigDict:
  """The whole ablation of one dataset and protocol."""
  built = ConfigDict()
  built.name = settings.name
  built.seed = settings.seed
  built.data_dir = config_dict.placeholder(str)
  built.batch_size = settings.batch_size
  steps = []
  if settings.uncropped:
    steps += _passes(settings, "baseline", "uncropped", cropped=False)
  steps += _passes(settings, "crop", "full", cropped=True)
  steps.append(dict(kind="gradients", model_from="full", superclasses="full_superclasses",
                    weights=settings.weights, batch_size=settings.batch_size))
  for scope in settings.scopes:
    steps += [_pruning(settings, scope),
              dict(kind="compact", name=f"{scope}_compact", model_from=scope),
              dict(kind="evaluate", name=f"{scope}_compact_test", split="test",
                   views=dict(temporal=settings.test_views))]
  steps.append(_table(settings))
  built.steps = tuple(ConfigDict(step) for step in steps)
  return built


def _passes(settings: Settings, first: str, second: str, *, cropped: bool) -> list[dict]:
  """Both passes on one kind of clips: train, evaluate, group, train, evaluate."""
  start = ((dict(source=settings.init),) if settings.init else ())
  warm = (dict(source=first),) if settings.warm_start else start
  return [
      _training(settings, first, (), start, cropped=cropped),
      *_evaluations(settings, first),
      dict(kind="group", name=f"{second}_superclasses", levels=settings.levels,
           evaluation=f"{first}_validation", counts=settings.counts, seed=settings.seed,
           absent="zero"),
      dict(_training(settings, second, settings.levels, warm, cropped=cropped),
           superclasses=f"{second}_superclasses"),
      *_evaluations(settings, second),
  ]


def _training(settings: Settings, name: str, levels, init_from, *, cropped: bool) -> dict:
  loss = (dict(name="hierarchical", weights=settings.weights) if levels else
          dict(name="cross_entropy"))
  video = dict(settings.video) if cropped else dict(settings.video, box="frame")
  # The plateau rule needs the loss of every epoch; a fixed schedule needs none.
  watch = ({"validate": dict(split=_validation_split(settings)), "monitor": "loss"}
           if settings.optim.get("plateau_factor") else {})
  return dict(
      kind="train", name=name, split="fit", epochs=settings.epochs, ema=settings.ema,
      optim=dict(settings.optim), loss=loss, init_from=tuple(init_from),
      data=dict(settings.data, dataset=settings.dataset, protocol=settings.protocol,
                variant=None if cropped else settings.uncropped,
                validation=settings.validation, video=video),
      model=dict(name="video_network", backbone=dict(settings.backbone), levels=levels,
                 dtype=settings.dtype), **watch)


def _validation_split(settings: Settings) -> str:
  return "test" if settings.leak else "validation"


def _evaluations(settings: Settings, name: str) -> list[dict]:
  views = dict(temporal=settings.test_views)
  return [dict(kind="evaluate", name=f"{name}_validation", split=_validation_split(settings),
               views=views),
          dict(kind="evaluate", name=f"{name}_test", split="test", views=views)]


def _pruning(settings: Settings, scope: str) -> dict:
  train = _training(settings, "retrain", settings.levels, (dict(source="prune"),), cropped=True)
  return dict(
      kind="repeat", name=scope, passes=settings.passes, monitor="retrain_validation",
      start="full_validation", model_from="full", patience=2,
      steps=tuple(map(ConfigDict, (
          dict(kind="prune", name="prune", scope=scope, fraction=settings.fraction,
               norm=settings.norm),
          dict(train, epochs=settings.retrain_epochs, pruned_by="prune",
               superclasses="full_superclasses"),
          *_evaluations(settings, "retrain")))))


def _table(settings: Settings) -> dict:
  figures = FIGURES.get((settings.dataset, settings.protocol), {})
  rows = []
  if settings.uncropped:
    rows.append(dict(label="baseline (uncropped)", evaluation="baseline_test",
                     paper=figures.get("baseline")))
  rows.append(dict(label="+ crop", evaluation="crop_test", paper=figures.get("crop")))
  if settings.uncropped:
    rows.append(dict(label="+ hierarchy, no crop", evaluation="uncropped_test",
                     paper=figures.get("hierarchy")))
  rows.append(dict(label="full (crop + hierarchy)", evaluation="full_test",
                   paper=figures.get("full")))
  labels = {"altogether": "pruned altogether, pass", "by_layers": "pruned by layers, pass"}
  for scope in settings.scopes:
    rows += [dict(label=labels[scope], evaluation="retrain_test", repeat=scope,
                  paper=figures.get(scope)),
             dict(label="the best of them, compacted", evaluation=f"{scope}_compact_test")]
  leak = "; validated on test clips, as in the paper" if settings.leak else ""
  return dict(kind="table", name="ablation", rows=tuple(rows),
              title=f"{settings.dataset}, {settings.protocol}, top-1 accuracy{leak}")


def resnet(depth: int, **fields) -> dict[str, Any]:
  """The papers' inflated ResNet: 3x3x3 kernels, a two-dimensional stem, no temporal stride."""
  return dict(name="resnet3d", depth=depth, kernels="3x3x3", stem_kernel=(1, 7, 7), **fields)


def scopes(choice: str) -> tuple[str, ...]:
  """The pruning scopes that a config's argument names. Raises UserError for another word."""
  known = {"both": ("altogether", "by_layers"), "altogether": ("altogether",),
           "by_layers": ("by_layers",), "none": ()}
  if choice not in known:
    raise UserError(f"scopes={choice} is none of {', '.join(known)}")
  return known[choice]
