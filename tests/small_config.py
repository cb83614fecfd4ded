"""A recipe of the shipped shape that tests can run: two trainings and an evaluation.

Arguments: first, second: steps of the trainings; save: steps between checkpoints; validate: the
first one validates, and keeps its best; cut: without the second one.
"""
from ml_collections import ConfigDict

from actionjax import configuration


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, first=3, second=3, save=2, validate=False, cut=False)
  config = configuration.load(f"{configuration.shipped_directory()}/quickstart.py:tiny")
  config.log_every, config.checkpoint_every = 1, args.save
  config.data.video.update(num_frames=4, size=(16, 16))
  config.data.workers, config.data.threads = 0, 4
  prepare, backbone, _, joint, test = config.steps
  for step, length in ((backbone, args.first), (joint, args.second)):
    del step["epochs"]
    step.num_steps = length
    step.model.backbone = dict(
        name="resnet3d", block="basic", stage_sizes=(1,), width=4, kernels="2d",
        spatial_strides=(2,), temporal_strides=(2,), stem_pool=())
  joint.model.update(embedding_features=8, attention_width=(8, 8))
  joint.init_from = joint.init_from[:1]
  joint.model.pose = dict(name="gcn", features=8, conv_features=(8,))
  if args.validate:
    backbone.split, backbone.select = "fit", "best"
    backbone.validate = dict(split="validation", every_epochs=0.5)
  config.steps = (prepare, backbone, test) if args.cut else (prepare, backbone, joint, test)
  return config
