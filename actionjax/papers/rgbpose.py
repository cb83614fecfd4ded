"""RGBPose-SlowFast's trainings as a recipe (Duan et al., 2022, section 3.4; the released configs).

The network of the video and that of the skeletons train alone, both are copied into the joint
network, whose laterals are new, and that one is fine-tuned with a loss for each stream. What is
tested: either network, the sum of their scores (late fusion), and the joint network. The numbers
are the configs'.
"""
import typing
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError
from actionjax.models import posec3d, rgbpose
from actionjax.papers import adoption

# Of the released trainings.
GPUS = 8
# Whose code -> fields of `loading.pose2d.Config` that its clips ask for. Both scale the whole box
# of a clip; they draw different frames, of the video too.
RELEASED = {"pyskl": {}, "mmaction2": dict(frames="mmaction2")}
# What a tested directory can hold -> that network's name in the recipe.
NETWORKS = {"rgbpose": "joint", "rgb": "rgb", "pose": "pose"}


def official(protocol: str) -> str:
  """A protocol as the builders call it; lists of PYSKL's files have names of their own."""
  return {"xsub": "cross_subject", "xset": "cross_setup"}.get(protocol, protocol)


def variant(dataset: str) -> str | None:
  """Which variant of a dataset a config reads: frames that hold the squares around the skeletons.

  The released code cuts these squares out of whole frames. A folder of the user's own, KIND:NAME,
  has no variants; it is prepared with --crop=square.
  """
  return None if ":" in dataset else "square"


def training(args: Mapping[str, Any], *, clips: int, epochs: int,
             optim: Mapping[str, Any]) -> dict:
  """A released training on as many GPUs and for such a share of its epochs as arguments say.

  Args:
    args: of the config: `gpus`, of the released 8, and `epochs`, the share.
    clips: on each GPU.
    epochs: of the released training.
    optim: its `optim.OptimConfig`, with the learning rate for 8 GPUs.
  """
  batch = max(1, round(clips * args["gpus"]))
  return dict(batch_size=batch, epochs=epochs * args["epochs"], optim=dict(
      optim, learning_rate=optim["learning_rate"] * batch / (clips * GPUS)))


def released_pipeline(released: str) -> dict:
  """Fields of `loading.pose2d.Config` for the test clips of "pyskl" or "mmaction2".

  Raises:
    UserError: another name.
  """
  if released not in RELEASED:
    raise UserError(f"config argument released must be one of {', '.join(RELEASED)}, got "
                    f"{released}")
  return dict(RELEASED[released])


def steps(arg: str, args: Mapping[str, Any], *, title: str, metric: str,
          paper: Mapping[str, float], model: Mapping[str, Any], rgb_data: Mapping[str, Any],
          train: Mapping[str, Mapping[str, Any]], evaluate: Mapping[str, Any]) -> list[dict]:
  """The whole recipe.

  Args:
    arg: the config's argument string.
    args: its arguments: `frames` and `poses` of a clip; `laterals`, see `models.rgbpose.Model`;
      `rgb` and `pose`, runs or converted models to start from instead of training these streams;
      `gpus`, `epochs`, see `training`; `test`, a model directory that is tested instead of
      training, "" to train; `network`, which of `NETWORKS` it holds; `dtype`.
    title: of the table.
    metric: of the table, top1 or mean_class_accuracy.
    paper: its figures in per cent by evaluation (rgb_test, pose_test, late_fusion, test).
    model: fields of all three networks; those of the two that see skeletons have `maps` too.
    rgb_data: what of the `data` section is another for the network of the video alone.
    train: fields of each training, "rgb", "pose" and "joint".
    evaluate: fields of every evaluation.

  Raises:
    UserError: numbers of frames that do not go together, unknown laterals, or another `network`,
      one that is not tested, or arguments for training beside one that is.
  """
  _check(arg, args)
  networks = _networks(args, model, rgb_data)
  tested = lambda name, network: dict(evaluate, kind="evaluate", name=name, model_from=network)
  if args["test"]:
    name = NETWORKS[args["network"]]
    made = [dict(networks[name], kind="adopt", name=name, source=args["test"]),
            tested("test", name)]
  else:
    trained = lambda name, **fields: dict(train[name], **networks[name], kind="train", name=name,
                                          **fields)
    made = []
    for name in ("rgb", "pose"):
      if not args[name]:
        made += [trained(name, loss=dict(name="cross_entropy")), tested(f"{name}_test", name)]
    if not args["rgb"] and not args["pose"]:
      made.append(_fusion("late_fusion", dict(scores="rgb_test"), dict(scores="pose_test")))
    made += [trained("joint", loss=dict(name="two_stream"), init_from=rgbpose.start_from(
        args["rgb"] or "rgb", args["pose"] or "pose")), tested("test", "joint")]
  # The two streams' own figures are in the joint network's result too.
  if args["network"] == "rgbpose":
    made += [_fusion(f"rgb_{a}_pose_{b}", dict(scores="test", stream="rgb", weight=float(a)),
                     dict(scores="test", stream="pose", weight=float(b)))
             for a, b in ((2, 1), (1, 2))]
  if not args["test"]:
    rows = (("video alone", "rgb_test"), ("skeletons alone", "pose_test"),
            ("late fusion", "late_fusion"), ("RGBPose-SlowFast", "test"))
    measured = {step["name"] for step in made}
    made.append(dict(kind="table", name="streams", title=title, metric=metric, rows=tuple(
        dict(label=label, evaluation=name, paper=paper.get(name))
        for label, name in rows if name in measured)))
  return made


def _check(arg: str, args: Mapping[str, Any]) -> None:
  """Raises UserError where a config's arguments do not go together, before any is trained."""
  adoption.check(arg, args, "rgb", "pose", "gpus", "epochs")
  network, laterals, known = args["network"], args["laterals"], typing.get_args(rgbpose.Laterals)
  if network not in NETWORKS:
    raise UserError(f"config argument network must be one of {', '.join(NETWORKS)}, got {network}")
  if network != "rgbpose" and not args["test"]:
    raise UserError(f"config argument network={network} says what test=DIR holds; trained are all "
                    "of them")
  if laterals not in known:
    raise UserError(f"config argument laterals must be one of {', '.join(known)}, got {laterals}")
  if args["test"] and network != "rgbpose" and laterals != "both":
    raise UserError(f"config argument laterals={laterals} is for network=rgbpose")
  if args["gpus"] <= 0 or args["epochs"] <= 0:
    raise UserError(f"config arguments gpus={args['gpus']:g} and epochs={args['epochs']:g} must be "
                    "above 0")
  if args["frames"] < 1 or args["poses"] % args["frames"]:
    raise UserError(f"config arguments poses={args['poses']} and frames={args['frames']}: there "
                    "must be as many skeletons, or a multiple of them, as frames of the video")


def _networks(args: Mapping[str, Any], model: Mapping[str, Any],
              rgb_data: Mapping[str, Any]) -> dict[str, dict]:
  """The model of each network, and the data that are its own."""
  fields = dict(model, dtype=adoption.dtype(args))
  video = {key: value for key, value in fields.items() if key != "maps"}
  return {
      "rgb": dict(model=dict(video, name="video_network", backbone=rgbpose.RGB), data=rgb_data),
      "pose": dict(model=dict(fields, name="posec3d", backbone=posec3d.SLOWONLY_FUSED)),
      "joint": dict(model=dict(fields, name="rgbpose", laterals=args["laterals"],
                               speed_ratio=args["poses"] // args["frames"]))}


def _fusion(name: str, *sources: Mapping[str, Any]) -> dict:
  return dict(kind="fuse", name=name, sources=sources)
