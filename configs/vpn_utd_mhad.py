"""VPN on UTD-MHAD's depth video and skeletons, cross-subject.

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.main --config=configs/vpn_utd_mhad.py        # one GPU
  python -m actionjax.main --config=configs/vpn_utd_mhad.py:cpu    # two cores, within half an hour

Arguments: cpu; pose=gcn|lstm|none (none: the plain backbone, trained as long); attention=both|
spatial|temporal|none; embedding=thesis|none; coupler=false; seed=N.
"""
from ml_collections import ConfigDict, config_dict

from actionjax import configuration


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, cpu=False, pose="gcn", attention="both",
                                 embedding="thesis", coupler=True, seed=0)
  config = ConfigDict()
  config.name = "vpn_utd_mhad"
  config.seed = args.seed
  config.data_dir = config_dict.placeholder(str)
  # Half of the actions have a direction (swipes, circles): no flips.
  video = dict(num_frames=32, size=(112, 112), channels=1, crop=0.9, margin=0.1,
               scale_jitter=0.1)
  if args.cpu:
    video.update(num_frames=16, size=(56, 56))
  config.data = ConfigDict(dict(
      dataset="utd_mhad", protocol="cross_subject", validation=0.1, video=video,
      pose=dict(num_poses=20, turn=15.0), threads=4, workers=0))
  config.batch_size = 16
  config.ema = 0.99
  common = dict(name="vpn", dropout=0.5, dtype="float32" if args.cpu else "bfloat16")
  if args.cpu:
    common["backbone"] = dict(
        name="resnet3d", block="basic", stage_sizes=(1, 1, 1, 1), width=24, kernels="factorised",
        spatial_strides=(1, 2, 2, 1), temporal_strides=(1, 2, 2, 1), stem_pool=(),
        zero_init=True)
  else:
    common["backbone"] = dict(
        name="resnet3d", block="basic", stage_sizes=(2, 2, 2, 2), width=64, kernels="factorised",
        spatial_strides=(1, 2, 2, 2), temporal_strides=(1, 2, 2, 1), stem_pool=(),
        zero_init=True)
  pose = {"gcn": dict(name="gcn"), "lstm": dict(name="lstm", units=128),
          "none": dict(name="none")}[args.pose]
  epochs = (20.0, 20.0) if args.cpu else (60.0, 60.0)
  optim = dict(name="adamw", learning_rate=2e-3, schedule="cosine", warmup=0.1,
               weight_decay=0.05, clip_norm=5.0)
  config.steps = (
      ConfigDict(dict(
          kind="train", name="backbone", epochs=epochs[0], optim=optim,
          model=dict(common, pose=dict(name="none")),
          loss=dict(name="cross_entropy", label_smoothing=0.1))),
      ConfigDict(dict(
          kind="train", name="joint", epochs=epochs[1], optim=optim,
          model=dict(common, pose=pose, attention=args.attention, embedding=args.embedding,
                     coupler=args.coupler),
          loss=dict(name="vpn", label_smoothing=0.1),
          init_from=(dict(source="backbone"),))),
      ConfigDict(dict(kind="evaluate", name="test", views=dict(temporal=4))),
  )
  return config
