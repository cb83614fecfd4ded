"""VPN on UTD-MHAD's depth video and skeletons, cross-subject.

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.main --config=configs/vpn_utd_mhad.py        # one GPU
  python -m actionjax.main --config=configs/vpn_utd_mhad.py:cpu    # two cores, within half an hour

Arguments: cpu; pose=gcn|lstm|none (none: the plain backbone, trained as long); pose_first=false
leaves out the pose network's own training; backbone_first=true trains the backbone alone for the
first third of the epochs; backbone=resnet3d|i3d (i3d: Inception-v1, the thesis'); attention=both|
spatial|temporal|none; embedding=thesis|none; embedding_loss=l2|kl_visual_pose|kl_pose_visual|
kl_both; pairs=listed|all, the unconnected joints that the graph joins; coupler=false; epochs=N of
the joint training; seed=N.

The thesis fine-tunes a backbone from Kinetics, then trains it with a fresh pose network
(Algorithm 3); in its other systems the pose network comes from a training on poses alone
(Algorithms 1 and 2). Here the pose network is trained first, and the backbone from random weights
with it: a backbone that has already fitted the few hundred clips by itself leaves nothing for
which the attention would be needed.

Measured with `cpu`: 87.2 % in 27 minutes, the backbone alone (`cpu,pose=none`) 87.7 in 23
(RESULTS.md); not run on a GPU.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.errors import UserError


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, cpu=False, pose="gcn", pose_first=True,
                                 backbone_first=False, backbone="resnet3d", attention="both",
                                 embedding="thesis", embedding_loss="l2", pairs="listed",
                                 coupler=True, epochs=0.0, seed=0)
  # Half of the actions have a direction (swipes, circles): no flips.
  video = dict(num_frames=32, size=(112, 112), channels=1, crop=0.9, margin=0.1,
               scale_jitter=0.1, intensity_jitter=0.15)
  if args.cpu:
    video.update(num_frames=16, size=(56, 56))
  data = dict(
      dataset="utd_mhad", protocol="cross_subject", validation=0.1, time_jitter=0.15, video=video,
      pose=dict(num_poses=20, persons=1, rotate=15.0), threads=4, workers=0)
  backbone = dict(name="resnet3d", block="basic", kernels="factorised", stem_kernel=(3, 7, 7),
                  stem_pool=(), spatial_strides=(1, 2, 2, 1), temporal_strides=(1, 2, 2, 1))
  backbone |= (dict(stage_sizes=(1, 1, 1, 1), width=16) if args.cpu else
               dict(stage_sizes=(2, 2, 2, 2), width=64, stem_strides=(2, 2, 2)))
  if args.backbone == "i3d":
    backbone = dict(name="i3d", bn_momentum=0.9)
  elif args.backbone != "resnet3d":
    raise UserError(f"config argument backbone={args.backbone} is neither resnet3d nor i3d")
  common = dict(name="vpn", dropout=0.3, dtype="float32" if args.cpu else "bfloat16",
                backbone=backbone)
  pose = {"gcn": dict(name="gcn", shared=True, pairs=args.pairs),
          "lstm": dict(name="lstm", units=128), "none": dict(name="none")}[args.pose]
  epochs = args.epochs or (72.0 if args.cpu else 150.0)
  alone = epochs / 3 if args.backbone_first else 0.0
  optim = dict(name="adamw", learning_rate=1e-3, schedule="cosine", warmup=0.1,
               weight_decay=0.02, clip_norm=5.0)
  steps, init = [], []
  if alone:
    steps.append(dict(
        kind="train", name="backbone", epochs=alone, optim=optim,
        model=dict(common, pose=dict(name="none")), loss=dict(name="cross_entropy")))
    init.append(dict(source="backbone"))
  if args.pose_first and args.pose != "none":
    steps.append(dict(
        kind="train", name="pose", epochs=40.0, optim=dict(optim, learning_rate=2e-3),
        model=dict(name="pose_network", pose=pose),
        loss=dict(name="cross_entropy")))
    init.append(dict(source="pose", include=("vpn/pose_backbone",),
                     rename=(("^pose_backbone", "vpn/pose_backbone"),)))
  steps += [
      dict(kind="train", name="joint", epochs=epochs - alone, optim=optim,
           model=dict(common, pose=pose, attention=args.attention, embedding=args.embedding,
                      coupler=args.coupler),
           loss=dict(name="vpn", embedding_loss=args.embedding_loss), init_from=tuple(init)),
      dict(kind="evaluate", name="test", views=dict(temporal=4))]
  # Small batches: with 431 clips it is the number of updates that is short.
  return configuration.config(name="vpn_utd_mhad", seed=args.seed, data=data, batch_size=8,
                              ema=0.995, steps=steps)
