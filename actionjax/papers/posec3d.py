"""PoseC3D's trainings as recipes (Duan et al., 2022; the released configs), for any dataset.

Which network, what is trained and tested in which order; the numbers are the configs'.
"""
from collections.abc import Mapping
from typing import Any

from actionjax import configuration
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
# Networks that a config's argument names; SlowOnly comes in several sizes.
NETWORKS = {"slowonly": posec3d.SLOWONLY, "slowonly_346": posec3d.SLOWONLY_346,
            "slowonly_narrow": posec3d.SLOWONLY_NARROW, "slowonly_small": SLOWONLY_SMALL,
            "c3d": posec3d.C3D, "x3d": posec3d.X3D}
FUSED = "joint+limb"
# Whose code -> fields of `loading.pose2d.Config` that its test pipeline asks for. The order of
# limbs is the same: MMAction2's configs, too, pass PYSKL's, which is the layout's here.
RELEASED = {"pyskl": {}, "mmaction2": dict(frames="mmaction2", test_resize="center")}


def backbone(network: str) -> dict:
  """Fields of a network of `NETWORKS`. Raises UserError for another name."""
  if network not in NETWORKS:
    raise UserError(f"config argument network must be one of {', '.join(NETWORKS)}, got {network}")
  return dict(NETWORKS[network])


def released_pipeline(released: str) -> dict:
  """Fields of `loading.pose2d.Config` for the test clips of "pyskl" or "mmaction2".

  Raises:
    UserError: another name.
  """
  if released not in RELEASED:
    raise UserError(f"config argument released must be one of {', '.join(RELEASED)}, got "
                    f"{released}")
  return dict(RELEASED[released])


def steps(arg: str, args: Mapping[str, Any], *, model: Mapping[str, Any], train: Mapping[str, Any],
          evaluate: Mapping[str, Any]) -> list[dict]:
  """A network for each kind of maps and its test; of two of them the sum of their scores, too.

  Args:
    arg: the config's argument string.
    args: its arguments: `network`, one of `NETWORKS`; `kind`, "joint", "limb" or "joint+limb";
      `weights` of the two's scores, as in "1:1"; `released`, whose test clips; `test`, a model
      directory that is tested instead of training, "" to train; `dtype`.
    model: further fields of `models.posec3d.Model`, `maps` among them.
    train, evaluate: fields of these steps.

  Raises:
    UserError: an unknown network, one directory to test two networks, or arguments for training
      beside it.
  """
  adoption.check(arg, args, "batch", "epochs")
  kinds = tuple(args["kind"].split("+")) if args["kind"] == FUSED else (args["kind"],)
  if "weights" in configuration.named(arg) and len(kinds) == 1:
    raise UserError(f"config argument weights={args['weights']} is for kind={FUSED}")
  if args["test"] and len(kinds) > 1:
    raise UserError(f"config argument test={args['test']} is one network: give kind=joint or "
                    "kind=limb")
  made = []
  for kind in kinds:
    network = "network" if len(kinds) == 1 else kind
    whole = dict(model, name="posec3d", backbone=backbone(args["network"]),
                 maps=dict(model["maps"], kind=kind), dtype=adoption.dtype(args))
    made += [
        dict(kind="adopt", name=network, source=args["test"], model=whole) if args["test"] else
        dict(train, kind="train", name=network, model=whole, loss=dict(name="cross_entropy")),
        dict(evaluate, kind="evaluate", name="test" if len(kinds) == 1 else f"{kind}_test",
             model_from=network)]
  if len(kinds) > 1:
    made.append(dict(kind="fuse", name="test", sources=tuple(
        dict(scores=f"{kind}_test", weight=weight)
        for kind, weight in zip(kinds, fusion_weights(args["weights"])))))
  return made


def fusion_weights(text: str) -> tuple[float, float]:
  """The weights of the joints' and the limbs' scores in their sum, of "1:1".

  Raises:
    UserError: these are not two numbers from 0 on, one of them above it.
  """
  try:
    weights = tuple(float(part) for part in text.split(":"))
  except ValueError:
    weights = ()
  if len(weights) != 2 or not (min(weights) >= 0 and 0 < sum(weights) < float("inf")):
    raise UserError(f"config argument weights={text} must be two numbers from 0 on, of joints and "
                    "of limbs, as in weights=1:1")
  return weights
