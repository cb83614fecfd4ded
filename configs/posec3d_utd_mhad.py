"""PoseC3D on UTD-MHAD's Kinect skeletons, projected from three sides, cross-subject.

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.main --config=configs/posec3d_utd_mhad.py        # one GPU
  python -m actionjax.main --config=configs/posec3d_utd_mhad.py:cpu    # two cores, within an hour

Arguments: cpu; kind=joint|limb|both, the maps that are drawn; source=pose3d, three views of the 3D
skeletons (footnote 3 of the paper), or pose2d, one projection into the depth image;
network=slowonly|c3d|x3d; clips=N at test; epochs=N; seed=N.

The network and the sampling are the paper's, the recipe is not its NTU one (SGD at 0.4 over 24
times ten epochs of 40 000 clips), which 431 clips are too few for. Half of the actions have a
direction: no flips.

Measured with `cpu`: 92.8 % in 51 minutes on one core (RESULTS.md); not run on a GPU.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, cpu=False, kind="joint", source="pose3d",
                                 network="slowonly", clips=4, epochs=125.0, seed=0)
  frames, side = (16, 32) if args.cpu else (48, 56)
  network = args.network
  if args.cpu and network == "slowonly":
    network = "slowonly_small"
  maps = dict(recipe.FEW_CLIPS, kind=args.kind, size=(side, side))
  data = dict(dataset="utd_mhad", protocol="cross_subject", validation=0.1, time_jitter=0.15,
              threads=4, workers=0)
  if args.source not in ("pose3d", "pose2d"):
    raise configuration.UserError(f"config argument source={args.source} is neither pose3d nor "
                                  "pose2d")
  if args.source == "pose3d":
    maps.update(source="pose3d", fill=True)
    data.update(pose=dict(num_poses=frames, persons=1, rotate=30.0))
  else:
    # The released test pipelines show the whole of what training sees parts of.
    maps.update(test_size=(round(side * 8 / 7),) * 2)
    data.update(pose2d=dict(num_frames=frames, size=maps["size"], test_size=maps["test_size"],
                            area=(0.8, 1.0), persons=0))
  return configuration.config(
      name="posec3d_utd_mhad", seed=args.seed, data=data, batch_size=8, log_every=25, ema=0.995,
      steps=(
          dict(kind="train", name="network", epochs=args.epochs,
               model=dict(name="posec3d", backbone=recipe.backbone(network), maps=maps,
                          dropout=0.2 if args.cpu else 0.5,
                          dtype="float32" if args.cpu else "bfloat16"),
               loss=dict(name="cross_entropy", label_smoothing=0.1),
               optim=dict(name="adamw", learning_rate=2e-3, schedule="cosine", warmup=0.1,
                          weight_decay=0.05, clip_norm=5.0)),
          dict(kind="evaluate", name="test", views=dict(temporal=args.clips))))
