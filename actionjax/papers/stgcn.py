"""The graph networks that PoseC3D is measured against, as recipes for any dataset (the released
configs of PYSKL for ST-GCN, ST-GCN++ and MS-G3D).
"""
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict, config_dict

from actionjax.errors import UserError
from actionjax.ops import skeleton_streams
from actionjax.papers import adoption, posec3d

NETWORKS = {"stgcnpp": dict(name="stgcn", variant="stgcnpp"),
            "stgcn": dict(name="stgcn", variant="stgcn"), "msg3d": dict(name="msg3d")}
# Of the sum of scores: coordinates count twice beside their motion.
WEIGHTS = {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}


def arguments(dataset: str, protocol: str) -> dict:
  """The arguments that every one of these configs takes, with their defaults."""
  return dict(dataset=dataset, protocol=protocol, network="stgcnpp", stream="joint", dimensions=3,
              clips=10, batch=128, epochs=80.0, drop=0.0, released="pyskl", test="",
              dtype="float32", seed=0)


def config(name: str, args: Mapping[str, Any]) -> ConfigDict:
  """The whole recipe of a config called `name`, of the arguments above.

  Raises:
    UserError: an unknown network, stream or `released`, or one directory to test several networks.
  """
  streams = tuple(args["stream"].split("+"))
  for field, given, known in (("network", (args["network"],), NETWORKS),
                              ("stream", streams, skeleton_streams.STREAMS),
                              ("released", (args["released"],), tuple(posec3d.RELEASED))):
    for one in given:
      if one not in known:
        raise UserError(f"config argument {field}={one} is none of {', '.join(known)}")
  if len(set(streams)) < len(streams):
    raise UserError(f"config argument stream={args['stream']} names a stream twice")
  if args["test"] and len(streams) > 1:
    raise UserError(f"config argument test={args['test']} is one network: give one stream, and add "
                    "the scores of several runs with python -m actionjax.fuse")
  adoption.check(args, arguments("", ""), "batch", "epochs", "drop")
  built = ConfigDict()
  built.name = name
  built.seed = args["seed"]
  built.data_dir = config_dict.placeholder(str)
  built.data = ConfigDict(dict(
      dataset=args["dataset"], protocol=args["protocol"], threads=8, workers=0,
      graph=dict(dimensions=args["dimensions"], frames=args["released"])))
  steps = []
  for stream in streams:
    alone = len(streams) == 1
    network = "network" if alone else stream
    data = dict(graph=dict(motion=stream.endswith("_motion")))
    # What data.graph yields is normalised, and motion already.
    model = dict(NETWORKS[args["network"]], dimensions=args["dimensions"], normalise="none",
                 stream=stream.removesuffix("_motion"), dtype=args["dtype"])
    steps += [
        dict(kind="adopt", name=network, source=args["test"], model=model, data=data)
        if args["test"] else _training(args, network, model, data),
        dict(kind="evaluate", name="test" if alone else f"{stream}_test", model_from=network,
             batch_size=8, views=dict(temporal=args["clips"]))]
  if len(streams) > 1:
    steps.append(dict(kind="fuse", name="test", sources=tuple(
        dict(scores=f"{stream}_test", weight=WEIGHTS[stream]) for stream in streams)))
  built.steps = tuple(ConfigDict(step) for step in steps)
  return built


def _training(args: Mapping[str, Any], name: str, model: dict, data: dict) -> dict:
  return dict(
      kind="train", name=name, batch_size=args["batch"], epochs=args["epochs"], model=model,
      data=data, loss=dict(name="cross_entropy"),
      **(dict(drop_joints=args["drop"]) if args["drop"] else {}),
      optim=dict(name="sgd", learning_rate=0.1 * args["batch"] / 128, momentum=0.9, nesterov=True,
                 weight_decay=5e-4, decay_all=True, schedule="cosine"))
