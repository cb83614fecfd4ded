"""RGBPose-SlowFast's trainings as a recipe (Duan et al., 2022, section 3.4; the released configs).

The network of the video and that of the skeletons train alone, both are copied into the joint
network, whose laterals are new, and that one is fine-tuned with a loss for each stream. What is
tested: either network, the sum of their scores (late fusion), and the joint network.
"""
import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from actionjax.errors import UserError
from actionjax.models import posec3d, rgbpose
from actionjax.papers import adoption

# The released batches on each of eight GPUs, and their learning rates.
GPUS = 8
# What a tested directory can hold -> that network's name in the recipe.
NETWORKS = {"rgbpose": "joint", "rgb": "rgb", "pose": "pose"}


@dataclasses.dataclass(frozen=True)
class Settings:
  """What the papers' datasets, and a config's arguments, make different.

  Attributes:
    name: of the config.
    dataset, protocol: see `loading.config.DataConfig`; its clips have frames and 2D skeletons.
    frames, poses: of a clip; the skeletons' are a multiple of the video's.
    laterals: see `rgbpose.Model`.
    clips: at test.
    gpus: of the papers' size, for which batches and learning rates are: 12 clips of video, 16 of
      skeletons and 6 of both on each.
    rgb, pose: runs or converted models to start from instead of training these streams here.
    epochs: of all three trainings, as shares of the papers' 180, 180 and 20.
    test: a model directory that is evaluated instead of trained; network: what it holds, "rgbpose",
      or "rgb" or "pose" for one of the streams.
    paper: figures in per cent by evaluation (rgb_test, pose_test, late_fusion, test).
    metric: that they are of.
    dtype, seed: as elsewhere.
  """
  name: str
  dataset: str
  protocol: str
  frames: int = 8
  poses: int = 32
  laterals: str = "both"
  clips: int = 10
  gpus: float = GPUS
  rgb: str = ""
  pose: str = ""
  epochs: float = 1.0
  test: str = ""
  network: str = "rgbpose"
  paper: Mapping[str, float] = dataclasses.field(default_factory=dict)
  metric: str = "top1"
  dtype: str = "bfloat16"
  seed: int = 0


def arguments(dataset: str, protocol: str) -> dict:
  """The arguments that every one of these configs takes, with their defaults."""
  return dict(dataset=dataset, protocol=protocol, frames=8, poses=32, laterals="both", clips=10,
              gpus=float(GPUS), rgb="", pose="", epochs=1.0, test="", network="rgbpose", dtype="",
              seed=0)


def settings(name: str, args: Mapping, **changes) -> Settings:
  """`Settings` of a config's arguments. A network that is only tested computes in float32."""
  given = {key: args[key] for key in args}
  adoption.check(given, arguments("", ""), "rgb", "pose", "gpus", "epochs")
  given["dtype"] = given["dtype"] or ("float32" if given["test"] else "bfloat16")
  return Settings(name=name, **given, **changes)


def config(given: Settings) -> ConfigDict:
  """The whole recipe.

  Raises:
    UserError: numbers of frames that do not go together, unknown laterals, or another `network`,
      or one that is not tested.
  """
  if given.network not in NETWORKS:
    raise UserError(f"config argument network={given.network} is none of {', '.join(NETWORKS)}")
  if given.network != "rgbpose" and not given.test:
    raise UserError(f"config argument network={given.network} says what test=DIR holds; trained "
                    "are all of them")
  if given.laterals not in rgbpose.LATERALS:  # before the two streams are trained
    raise UserError(f"config argument laterals={given.laterals} is none of "
                    f"{', '.join(rgbpose.LATERALS)}")
  if given.test and given.network != "rgbpose" and given.laterals != "both":
    raise UserError(f"config argument laterals={given.laterals} is for network=rgbpose")
  if given.gpus <= 0 or given.epochs <= 0:
    raise UserError(f"config arguments gpus={given.gpus:g} and epochs={given.epochs:g} must be "
                    "above 0")
  if given.frames < 1 or given.poses % given.frames:
    raise UserError(f"config arguments poses={given.poses} and frames={given.frames}: there must "
                    "be as many skeletons, or a multiple of them, as frames of the video")
  built = ConfigDict()
  built.name = given.name
  built.seed = given.seed
  built.data_dir = config_dict.placeholder(str)
  # Maps are a quarter of the video: 56 pixels of 224 in training, 64 of 256 at test.
  image = dict(size=(224, 224), test_size=(256, 256))
  built.data = ConfigDict(dict(
      dataset=given.dataset, protocol=given.protocol, flip=0.5, threads=16, workers=0,
      video=dict(num_frames=given.frames, sampling="uniform", box="pose2d", **image),
      pose2d=dict(num_frames=given.poses, short_side=256, **image)))
  steps = _testing(given) if given.test else _trainings(given)
  if given.network == "rgbpose":
    steps += [_fusion(f"rgb_{a}_pose_{b}", dict(scores="test", stream="rgb", weight=float(a)),
                      dict(scores="test", stream="pose", weight=float(b)))
              for a, b in ((2, 1), (1, 2))]
  if not given.test:
    steps.append(_table(given, {step["name"] for step in steps}))
  built.steps = tuple(ConfigDict(step) for step in steps)
  return built


def _trainings(given: Settings) -> list[dict]:
  """Each stream alone, both scores together, and the joint network; each with its test."""
  steps = []
  if not given.rgb:
    steps += [_training(given, "rgb"), _evaluation(given, "rgb_test", "rgb")]
  if not given.pose:
    steps += [_training(given, "pose"), _evaluation(given, "pose_test", "pose")]
  if not given.rgb and not given.pose:
    steps.append(_fusion("late_fusion", dict(scores="rgb_test"), dict(scores="pose_test")))
  return steps + [
      _training(given, "joint", loss=dict(name="two_stream"),
                init_from=rgbpose.start_from(given.rgb or "rgb", given.pose or "pose")),
      # The two streams' own figures are in the result too.
      _evaluation(given, "test", "joint")]


def _testing(given: Settings) -> list[dict]:
  """A converted network and its test."""
  name = NETWORKS[given.network]
  return [dict(kind="adopt", name=name, source=given.test, **_network(given, name)),
          _evaluation(given, "test", name)]


def _network(given: Settings, name: str) -> dict:
  """The model, and the data that are its own, of "rgb", "pose" or "joint"."""
  maps = dict(sigma=0.7, scale=0.25, size=(56, 56), test_size=(64, 64))
  common = dict(dropout=0.5, dtype=given.dtype)
  if name == "rgb":
    # The video alone is tested at the size that it trained at.
    return dict(model=dict(name="video_network", backbone=rgbpose.RGB, **common),
                data=dict(video=dict(test_size=(224, 224))))
  if name == "pose":
    return dict(model=dict(name="posec3d", backbone=posec3d.SLOWONLY_FUSED, maps=maps, **common))
  return dict(model=dict(name="rgbpose", maps=maps, laterals=given.laterals,
                         speed_ratio=given.poses // given.frames, **common))


def _evaluation(given: Settings, name: str, network: str) -> dict:
  return dict(kind="evaluate", name=name, model_from=network, batch_size=8,
              views=dict(temporal=given.clips))


# Clips a GPU, learning rate for all GPUs, weight decay, epochs, and the rest of the schedule.
_TRAININGS = {
    "rgb": (12, 0.15, 1e-4, 180, dict(schedule="cosine")),
    "pose": (16, 0.2, 3e-4, 180, dict(schedule="cosine")),
    "joint": (6, 0.0075, 1e-4, 20, dict(schedule="steps", drops=(12 / 20, 16 / 20), drop=0.1)),
}


def _training(given: Settings, name: str, **fields) -> dict:
  clips, rate, decay, epochs, schedule = _TRAININGS[name]
  batch = max(1, round(clips * given.gpus))
  return dict(kind="train", name=name, batch_size=batch, **_network(given, name),
              epochs=epochs * given.epochs,
              optim=dict(name="sgd", learning_rate=rate * batch / (clips * GPUS), momentum=0.9,
                         weight_decay=decay, decay_all=True, clip_norm=40.0, **schedule),
              **{"loss": dict(name="cross_entropy"), **fields})


def _fusion(name: str, *sources: Mapping[str, Any]) -> dict:
  return dict(kind="fuse", name=name, sources=sources)


def _table(given: Settings, there: set[str]) -> dict:
  """The streams, late fusion and the joint network, where they were measured."""
  rows = (("video alone", "rgb_test"), ("skeletons alone", "pose_test"),
          ("late fusion", "late_fusion"), ("RGBPose-SlowFast", "test"))
  return dict(kind="table", name="streams", title=f"{given.name}, {given.clips} clips",
              metric=given.metric, rows=tuple(
                  dict(label=label, evaluation=name, paper=given.paper.get(name))
                  for label, name in rows if name in there))
