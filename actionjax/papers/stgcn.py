"""The graph networks that PoseC3D is measured against, as recipes for any dataset (the released
configs of PYSKL for ST-GCN, ST-GCN++ and MS-G3D). The numbers are the configs'.
"""
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError
from actionjax.ops import skeleton_streams
from actionjax.papers import adoption, posec3d

NETWORKS = {"stgcnpp": dict(name="stgcn", variant="stgcnpp"),
            "stgcn": dict(name="stgcn", variant="stgcn"), "msg3d": dict(name="msg3d")}
# Of the sum of scores: coordinates count twice beside their motion.
WEIGHTS = {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}


def steps(arg: str, args: Mapping[str, Any], *, train: Mapping[str, Any],
          evaluate: Mapping[str, Any]) -> list[dict]:
  """A network for each stream and its test; of several the weighted sum of their scores, too.

  Args:
    arg: the config's argument string.
    args: its arguments: `network`, one of `NETWORKS`; `stream`, names of
      `skeleton_streams.STREAMS` joined by "+"; `dimensions` of the skeletons; `released`, whose
      test clips; `test`, a model directory that is tested instead of training, "" to train;
      `dtype`.
    train, evaluate: fields of these steps.

  Raises:
    UserError: an unknown network, stream or `released`, one directory to test several networks, or
      arguments for training beside it.
  """
  streams = tuple(args["stream"].split("+"))
  for field, given, known in (("network", (args["network"],), NETWORKS),
                              ("stream", streams, skeleton_streams.STREAMS),
                              ("released", (args["released"],), tuple(posec3d.RELEASED))):
    for one in given:
      if one not in known:
        raise UserError(f"config argument {field} must be one of {', '.join(known)}, got {one}")
  if len(set(streams)) < len(streams):
    raise UserError(f"config argument stream={args['stream']} names a stream twice")
  if args["test"] and len(streams) > 1:
    raise UserError(f"config argument test={args['test']} is one network: give one stream, and add "
                    "the scores of several runs with python -m actionjax.fuse")
  adoption.check(arg, args, "batch", "epochs", "drop")
  made = []
  for stream in streams:
    alone = len(streams) == 1
    network = "network" if alone else stream
    # What data.graph yields is normalised, and motion already.
    read = dict(data=dict(graph=dict(motion=stream.endswith("_motion"))), model=dict(
        NETWORKS[args["network"]], dimensions=args["dimensions"], normalise="none",
        stream=stream.removesuffix("_motion"), dtype=args["dtype"]))
    made += [
        dict(read, kind="adopt", name=network, source=args["test"]) if args["test"] else
        dict(train, **read, kind="train", name=network, loss=dict(name="cross_entropy")),
        dict(evaluate, kind="evaluate", name="test" if alone else f"{stream}_test",
             model_from=network)]
  if len(streams) > 1:
    made.append(dict(kind="fuse", name="test", sources=tuple(
        dict(scores=f"{stream}_test", weight=WEIGHTS[stream]) for stream in streams)))
  return made
