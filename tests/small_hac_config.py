"""The recipe of hierarchical classification in a size that tests can run.

Arguments: steps of each training; save: steps between checkpoints; scopes; passes;
kernels of the backbone.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, steps=3, save=2, scopes="by_layers", passes=2, uncropped=False, leak=False,
      warm_start=False, init="", kernels="3x3x3", depth=50, levels="", weights="", fraction=0.1)
  data = dict(dataset="synthetic_actions", variant="tiny", protocol="cross_subject",
              validation=0.3, validation_from="test" if args.leak else "train",
              video=dict(num_frames=2, size=(16, 16), channels=3))
  backbone = dict(name="resnet3d", block="basic", stage_sizes=(1, 1, 1, 1), width=8,
                  kernels=args.kernels, stem_kernel=(1, 3, 3), stem_pool=())
  return configuration.config(
      name="small_hac", data=data, batch_size=4, log_every=1, checkpoint_every=args.save,
      steps=hac.steps(
          args, data=data, model=dict(backbone=backbone, dtype="float32"),
          group=dict(levels=(None, 3, 6), counts="soft", seed=0),
          weights=(None, 1 / 16, 1 / 4, 1.0),
          train=dict(num_steps=args.steps, optim=dict(name="adam", learning_rate=1e-3)),
          retrain={}, repeat=dict(passes=args.passes, patience=2), prune=dict(fraction=0.25),
          evaluate=dict(views=dict(temporal=1))))
