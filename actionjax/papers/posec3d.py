"""PoseC3D's trainings as recipes (Duan et al., 2022; the released configs), for any dataset."""
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from actionjax.errors import UserError
from actionjax.models import posec3d
from actionjax.papers import adoption

# What one core trains in an hour, with maps of 32 pixels and 16 frames. The stem would take half of
# the time: it halves the maps instead of the first stage, and at this size five of their pixels are
# as wide as seven. Residual branches that start at zero cost the few hundred steps that a small
# dataset allows.
SLOWONLY_SMALL = {**posec3d.SLOWONLY_NARROW, "stage_sizes": (2, 3, 2), "stem_kernel": (1, 5, 5),
                  "stem_strides": (1, 2, 2), "spatial_strides": (1, 2, 2), "zero_init": False}
# For a few hundred clips, on which a network otherwise learns the very places of the joints: blobs
# twice as wide as the paper's, and no clip twice in the same place, size and direction.
FEW_CLIPS = dict(sigma=1.2, rotate=20.0, stretch=0.25, shift=0.1)
# Of a network that a config's argument names; SlowOnly comes in several sizes.
NETWORKS = {"slowonly": posec3d.SLOWONLY, "slowonly_346": posec3d.SLOWONLY_346,
            "slowonly_narrow": posec3d.SLOWONLY_NARROW, "slowonly_small": SLOWONLY_SMALL,
            "c3d": posec3d.C3D, "x3d": posec3d.X3D}
FUSED = "joint+limb"
# Whose code -> fields of `loading.pose2d.Config` that its test pipeline asks for.
RELEASED = {"pyskl": {}, "mmaction2": dict(frames="mmaction2", test_resize="center")}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the papers' datasets, and a config's arguments, make different.

  Attributes:
    name: of the config.
    dataset, protocol: see `loading.config.DataConfig`.
    network: one of `NETWORKS`.
    kind: of the maps: "joint", "limb", or "joint+limb" for a network each and the sum of their
      scores.
    clips: at test; each also in the mirror, unless it is only one.
    batch: clips; the learning rate is 0.4 for 256 and grows with it.
    epochs: of the training; the released configs count ten as one.
    weight_decay: on all parameters.
    pose2d: fields of `loading.pose2d.Config`.
    released: whose test clips, test windows and order of limbs: "pyskl" or "mmaction2".
    test: a model directory that is evaluated instead of trained.
    dtype, seed: as elsewhere.
  """
  name: str
  dataset: str
  protocol: str
  network: str = "slowonly"
  kind: str = "joint"
  clips: int = 10
  batch: int = 256
  epochs: float = 240.0
  weight_decay: float = 3e-4
  pose2d: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  released: str = "pyskl"
  test: str = ""
  dtype: str = "bfloat16"
  seed: int = 0


def arguments(dataset: str, protocol: str, **changes) -> dict:
  """The arguments that every one of these configs takes, with their defaults."""
  return dict(dataset=dataset, protocol=protocol, network="slowonly", kind="joint", clips=10,
              batch=256, epochs=240.0, released="pyskl", test="", dtype="", seed=0) | changes


def settings(name: str, args: Mapping, **changes) -> Settings:
  """`Settings` of a config's arguments. A network that is only tested computes in float32."""
  given = {key: args[key] for key in args}
  adoption.check(given, arguments("", ""), "batch", "epochs")
  given["dtype"] = given["dtype"] or ("float32" if given["test"] else "bfloat16")
  return Settings(name=name, **given, **changes)


def backbone(network: str) -> dict:
  """Fields of a network of `NETWORKS`. Raises UserError for another name."""
  if network not in NETWORKS:
    raise UserError(f"config argument network={network} is none of {', '.join(NETWORKS)}")
  return dict(NETWORKS[network])


def config(given: Settings) -> ConfigDict:
  """The whole recipe.

  Raises:
    UserError: an unknown network or `released`, or one directory to test two networks.
  """
  kinds = tuple(given.kind.split("+")) if given.kind == FUSED else (given.kind,)
  if given.test and len(kinds) > 1:
    raise UserError(f"config argument test={given.test} is one network: give kind=joint or "
                    "kind=limb")
  if given.released not in RELEASED:
    raise UserError(f"config argument released={given.released} is none of {', '.join(RELEASED)}")
  built = ConfigDict()
  built.name = given.name
  built.seed = given.seed
  built.data_dir = config_dict.placeholder(str)
  built.data = ConfigDict(dict(dataset=given.dataset, protocol=given.protocol, flip=0.5,
                               pose2d=dict(given.pose2d) | RELEASED[given.released],
                               threads=8, workers=0))
  steps = []
  for kind in kinds:
    network = "network" if len(kinds) == 1 else kind
    steps += [_adoption(given, network, kind) if given.test else _training(given, network, kind),
              # Twenty views of a clip are a batch of their own.
              dict(kind="evaluate", name="test" if len(kinds) == 1 else f"{kind}_test",
                   model_from=network, batch_size=8,
                   views=dict(temporal=given.clips, flips=given.clips > 1))]
  if len(kinds) > 1:
    steps.append(dict(kind="fuse", name="test", sources=tuple(
        dict(scores=f"{kind}_test") for kind in kinds)))
  built.steps = tuple(ConfigDict(step) for step in steps)
  return built


def _model(given: Settings, kind: str) -> dict:
  return dict(name="posec3d", backbone=backbone(given.network), dtype=given.dtype,
              maps=dict(kind=kind, test_size=(64, 64)) | (
                  dict(limbs=posec3d.MMACTION_LIMBS)
                  if kind == "limb" and given.released == "mmaction2" else {}))


def _training(given: Settings, name: str, kind: str) -> dict:
  return dict(
      kind="train", name=name, batch_size=given.batch, epochs=given.epochs,
      model=_model(given, kind), loss=dict(name="cross_entropy"),
      optim=dict(name="sgd", learning_rate=0.4 * given.batch / 256, momentum=0.9,
                 weight_decay=given.weight_decay, decay_all=True, schedule="cosine",
                 clip_norm=40.0))


def _adoption(given: Settings, name: str, kind: str) -> dict:
  return dict(kind="adopt", name=name, source=given.test, model=_model(given, kind))
