"""ST-GCN++ on UTD-MHAD's Kinect skeletons, cross-subject.

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.main --config=configs/stgcnpp_utd_mhad.py        # one GPU
  python -m actionjax.main --config=configs/stgcnpp_utd_mhad.py:cpu    # two cores, within an hour

Arguments: cpu; stream=joint|bone|joint_motion|bone_motion, of which the published results add the
scores of two or all four (`python -m actionjax.fuse`); variant=stgcnpp|stgcn|msg3d; drop=P trains
with a joint of a limb missing from every frame with that probability; seed=N.

The network is PYSKL's; the recipe is not its NTU one (SGD at 0.1 over 80 times five epochs of
40 000 clips), which 431 clips are too few for. Half of the actions have a direction: no flips.

Measured with `cpu`: 94.2 % in 14 minutes, 92.8 with drop=0.5 (RESULTS.md); not run on a GPU.
"""
from ml_collections import ConfigDict

from actionjax import configuration


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, cpu=False, stream="joint", variant="stgcnpp",
                                 drop=0.0, seed=0)
  # Clips have 41 to 125 frames.
  data = dict(
      dataset="utd_mhad", protocol="cross_subject", validation=0.1, time_jitter=0.15,
      pose=dict(num_poses=48 if args.cpu else 100, persons=1, rotate=20.0), threads=4, workers=0)
  # The body's own axes ("upright") would undo the random turn, and all subjects face the camera.
  model = dict(stream=args.stream, normalise="translate", dropout=0.3, block_dropout=0.1)
  if args.variant == "msg3d":
    model.update(name="msg3d", width=24 if args.cpu else 96)
  else:
    model.update(name="stgcn", variant=args.variant)
    if args.cpu:
      model.update(width=48, stage_sizes=(2, 2, 2))
  return configuration.config(
      name="stgcnpp_utd_mhad", seed=args.seed, data=data, batch_size=16, log_every=25, ema=0.995,
      steps=(
          dict(kind="train", name="network", epochs=50.0 if args.cpu else 80.0, model=model,
               drop_joints=args.drop, loss=dict(name="cross_entropy", label_smoothing=0.1),
               optim=dict(name="adamw", learning_rate=2e-3, schedule="cosine", warmup=0.1,
                          weight_decay=0.05, clip_norm=5.0)),
          dict(kind="evaluate", name="test", views=dict(temporal=4))))
