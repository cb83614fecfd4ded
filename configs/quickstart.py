"""VPN on the generated dataset: from nothing to a result in minutes, on a CPU.

  python -m actionjax.main --config=configs/quickstart.py

Arguments: pose=none for the backbone alone; share=S for that part of the epochs; tiny for the few
seconds' worth that tests use.
"""
from ml_collections import ConfigDict, config_dict

from actionjax import configuration


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, tiny=False, pose="gcn", share=1.0)
  config = ConfigDict()
  config.name = "quickstart"
  config.seed = 0
  config.data_dir = config_dict.placeholder(str)
  size, frames = ((32, 32), 8) if args.tiny else ((48, 48), 12)
  config.data = ConfigDict(dict(
      dataset="synthetic_actions", variant="tiny" if args.tiny else "small",
      protocol="cross_subject", validation=0.1, flip=0.0,
      # Grey: clothes and walls are coloured at random.
      video=dict(num_frames=frames, size=size, crop=0.9, margin=0.1, scale_jitter=0.1,
                 channels=1),
      pose=dict(num_poses=8 if args.tiny else 16, rotate=15.0), threads=4, workers=0))
  config.batch_size = 8
  common = dict(name="vpn", backbone=dict(
      name="resnet3d", block="basic", stage_sizes=(1, 1, 1), width=8 if args.tiny else 16,
      kernels="factorised", stem_kernel=(3, 7, 7), stem_pool=(), spatial_strides=(1, 2, 2),
      temporal_strides=(1, 2, 1)))
  config.log_every = 4 if args.tiny else 20
  config.checkpoint_every = 8 if args.tiny else 200
  epochs = (2.0, 2.0) if args.tiny else (4.0 * args.share, 24.0 * args.share)
  optim = dict(name="adamw", learning_rate=2e-3, schedule="cosine", warmup=0.1,
               weight_decay=0.02, clip_norm=5.0)
  config.steps = (
      ConfigDict(dict(kind="prepare")),
      ConfigDict(dict(
          kind="train", name="backbone", epochs=epochs[0], model=dict(
              common, pose=dict(name="none")), loss=dict(name="cross_entropy"), optim=optim)),
      ConfigDict(dict(
          kind="train", name="joint", epochs=epochs[1],
          model=dict(common, pose=dict(name=args.pose), embedding="thesis"),
          loss=dict(name="vpn"), optim=optim,
          init_from=(dict(source="backbone"),))),
      ConfigDict(dict(kind="evaluate", name="test", views=dict(temporal=2))),
  )
  return config
