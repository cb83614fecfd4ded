"""The graph networks that PoseC3D is measured against, as recipes for any dataset (the released
configs of PYSKL for ST-GCN, ST-GCN++ and MS-G3D). The numbers are the configs'.
"""
from collections.abc import Mapping
from typing import Any

from actionjax.errors import UserError
from actionjax.ops import skeleton_streams
from actionjax.papers import adoption

NETWORKS = {"stgcnpp": dict(name="stgcn", variant="stgcnpp"),
            "stgcn": dict(name="stgcn", variant="stgcn"), "msg3d": dict(name="msg3d")}
# Whose code -> fields of `loading.graph.Config` of its pipeline. That of MMAction2 before its
# version 1, for its ST-GCN alone, reads a clip from its start.
RELEASED = {"pyskl": dict(num_frames=100, frames="pyskl"),
            "mmaction2": dict(num_frames=100, frames="mmaction2"),
            "mmaction0": dict(num_frames=300, frames="mmaction0")}
# Of the sum of scores: coordinates count twice beside their motion.
WEIGHTS = {"joint": 2.0, "bone": 2.0, "joint_motion": 1.0, "bone_motion": 1.0}


def released_pipeline(args: Mapping[str, Any]) -> dict:
  """Fields of `loading.graph.Config` for the clips that a config's `released` asks for.

  Raises:
    UserError: another name.
  """
  if args["released"] not in RELEASED:
    raise UserError(f"config argument released must be one of {', '.join(RELEASED)}, got "
                    f"{args['released']}")
  return dict(RELEASED[args["released"]], persons=2, dimensions=args["dimensions"], box=False)


def steps(arg: str, args: Mapping[str, Any], *, train: Mapping[str, Any],
          evaluate: Mapping[str, Any]) -> list[dict]:
  """A network for each stream and its test; of several the weighted sum of their scores, too.

  Args:
    arg: the config's argument string.
    args: its arguments: `network`, one of `NETWORKS`; `stream`, names of
      `skeleton_streams.STREAMS`, joined by ":" for a network that reads them at once, and by "+"
      for a network each; `dimensions` of the skeletons; `released`, whose
      test clips; `test`, a model directory that is tested instead of training, "" to train;
      `dtype`.
    train, evaluate: fields of these steps.

  Raises:
    UserError: an unknown network, stream or `released`, one directory to test several networks, or
      arguments for training beside it.
  """
  streams = tuple(args["stream"].split("+"))
  named = tuple(name for stream in streams for name in stream.split(":"))
  for field, given, known in (("network", (args["network"],), NETWORKS),
                              ("stream", named, skeleton_streams.STREAMS),
                              ("released", (args["released"],), tuple(RELEASED))):
    for one in given:
      if one not in known:
        raise UserError(f"config argument {field} must be one of {', '.join(known)}, got {one}")
  if len(set(streams)) < len(streams):
    raise UserError(f"config argument stream={args['stream']} names a stream twice")
  for stream in streams:
    if len({name.endswith("_motion") for name in stream.split(":")}) > 1:
      raise UserError(f"config argument stream={stream} joins coordinates and motion, of which "
                      "data.graph yields one")
  if args["test"] and len(streams) > 1:
    raise UserError(f"config argument test={args['test']} is one network: give one stream, and add "
                    "the scores of several runs with python -m actionjax.fuse")
  adoption.check(arg, args, "batch", "epochs", "drop")
  if args["released"] == "mmaction0":
    # There is one way to look at a clip.
    evaluate = dict(evaluate, views=dict(evaluate.get("views", {}), temporal=1))
  made = []
  for stream in streams:
    alone = len(streams) == 1
    title = stream.replace(":", "_and_")
    network = "network" if alone else title
    # What data.graph yields is normalised, and motion already.
    read = dict(data=dict(graph=dict(motion=stream.endswith("_motion"))), model=dict(
        NETWORKS[args["network"]], dimensions=args["dimensions"], normalise="none",
        stream=_read(stream), dtype=args["dtype"]))
    made += [
        dict(read, kind="adopt", name=network, source=args["test"]) if args["test"] else
        dict(train, **read, kind="train", name=network, loss=dict(name="cross_entropy")),
        dict(evaluate, kind="evaluate", name="test" if alone else f"{title}_test",
             model_from=network)]
  if len(streams) > 1:
    made.append(dict(kind="fuse", name="test", sources=tuple(
        dict(scores=f"{stream.replace(':', '_and_')}_test", weight=WEIGHTS[stream.split(":")[0]])
        for stream in streams)))
  return made


def _read(stream: str) -> str | tuple[str, ...]:
  """A model's `stream`, beside data whose motion is taken already."""
  names = tuple(name.removesuffix("_motion") for name in stream.split(":"))
  return names if len(names) > 1 else names[0]
