"""The recipe of hierarchical classification in a size that tests can run.

Arguments: steps of each training; save: steps between checkpoints; scopes; passes.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, steps=3, save=2, scopes="by_layers", passes=2)
  config = hac.config(hac.Settings(
      name="small_hac", dataset="synthetic_actions", protocol="cross_subject",
      levels=(None, 3, 6), weights=hac.SMALL_WEIGHTS,
      video=dict(num_frames=2, size=(16, 16), channels=3),
      backbone=dict(name="resnet3d", block="basic", stage_sizes=(1, 1, 1, 1), width=8,
                    kernels="3x3x3", stem_kernel=(1, 3, 3), stem_pool=()),
      optim=dict(name="adam", learning_rate=1e-3), uncropped=None,
      scopes=hac.scopes(args.scopes), passes=args.passes, fraction=0.25, counts="soft",
      validation=0.3, batch_size=4, dtype="float32", test_views=1))
  config.log_every, config.checkpoint_every = 1, args.save
  for step in config.steps:
    for inner in (step.steps if step.kind == "repeat" else (step,)):
      if inner.kind == "train":
        del inner["epochs"]
        inner.num_steps = args.steps
        inner.data.variant = "tiny"
  return config
