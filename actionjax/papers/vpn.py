"""VPN: the thesis' recipe as a config (Das' thesis, section 4.4, algorithm 3).

A backbone is fine-tuned on person crops; a fresh pose network with its attention is then trained
with it. Every row of the thesis' ablations is an argument, and so is what the released code does
otherwise. The numbers are the configs'.
"""
from collections.abc import Mapping
from typing import Any

from actionjax import configuration
from actionjax.errors import UserError
from actionjax.models import vpn

# Of every config, beside those of its own.
ARGUMENTS = dict(pose="gcn", pairs="listed", shared=False, attention="both", embedding="thesis",
                 coupler=True, embedding_loss="l2", released=False, init="")


def arguments(arg: str, **own: Any) -> Any:
  """A config's arguments: its own, and `ARGUMENTS`. Raises UserError."""
  args = configuration.arguments(arg, **own, **ARGUMENTS)
  if args.pose not in ("gcn", "lstm", "none"):
    raise UserError(f"config argument pose must be one of gcn, lstm, none, got {args.pose}")
  return args


def steps(args: Mapping[str, Any], *, units: int, model: Mapping[str, Any],
          backbone: Mapping[str, Any], joint: Mapping[str, Any], released: Mapping[str, Any],
          evaluate: Mapping[str, Any]) -> list[dict]:
  """Both trainings and the evaluation.

  Args:
    args: from `arguments`.
    units: of the recurrent pose network.
    model: fields of both trainings' `vpn.Model`.
    backbone, joint: fields of the two trainings; `released` in place of `joint` where the released
      code is asked for.
    evaluate: of the evaluation.
  """
  pose = {"gcn": dict(name="gcn", pairs=args["pairs"], shared=args["shared"]),
          "lstm": dict(name="lstm", units=units), "none": dict(name="none")}[args["pose"]]
  guided = dict(model, pose=pose, attention=args["attention"], embedding=args["embedding"],
                coupler=args["coupler"])
  loss = dict(name="vpn", embedding_loss=args["embedding_loss"])
  if args["released"]:
    guided |= vpn.RELEASED
    loss = dict(name="vpn", classification=0.99, embedding=0.01, embedding_loss="manhattan",
                attention_loss="released")
  train = dict(kind="train", split="fit", select="best")
  start = (dict(source=args["init"], include=("backbone/",)),) if args["init"] else ()
  return [
      dict(backbone, **train, name="backbone", model=dict(model, pose=dict(name="none")),
           loss=dict(name="cross_entropy"), init_from=start),
      dict(released if args["released"] else joint, **train, name="joint", model=guided, loss=loss,
           init_from=(dict(source="backbone", include=("backbone/",)),)),
      dict(evaluate, kind="evaluate", name="test")]
