"""VPN on the generated dataset: from nothing to a result in minutes, on a CPU.

  python -m actionjax.main --config=configs/quickstart.py

Reaches 91.2 to 95.4 % of the test clips (seeds 0, 1 and 3) in under 5 minutes on two idle cores.

Arguments: pose=none for the backbone alone; share=S for that part of the epochs; tiny for the few
seconds' worth that tests use.
"""
from ml_collections import ConfigDict

from actionjax import configuration


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, tiny=False, pose="gcn", share=1.0)
  size, frames = ((32, 32), 8) if args.tiny else ((48, 48), 24)
  # What a stem of five frames sees moves little from one to the next, which twelve frames of a clip
  # do not give; its strides keep 24 as cheap.
  shape = (dict(width=8, stem_kernel=(3, 7, 7), spatial_strides=(1, 2, 2)) if args.tiny else
           dict(width=24, stem_kernel=(5, 7, 7), stem_strides=(2, 4, 4), spatial_strides=(1, 2, 1)))
  # No dropout: five hundred clips, turned, scaled and mirrored anew in every epoch, are not learnt
  # by heart in these few minutes.
  common = dict(name="vpn", dropout=0.0, backbone=dict(
      name="resnet3d", block="basic", stage_sizes=(1, 1, 1), kernels="factorised", stem_pool=(),
      temporal_strides=(1, 2, 1), **shape))
  epochs = (2.0, 2.0, 2.0) if args.tiny else tuple(
      number * args.share for number in (2.0, 6.0, 40.0))
  pose = {"gcn": dict(name="gcn", shared=True)}.get(args.pose, dict(name=args.pose))
  optim = dict(name="adamw", learning_rate=2e-3, schedule="cosine", warmup=0.1,
               weight_decay=0.02, clip_norm=5.0)
  steps, init = [
      dict(kind="prepare"),
      dict(kind="train", name="backbone", epochs=epochs[0],
           model=dict(common, pose=dict(name="none")), loss=dict(name="cross_entropy"),
           optim=optim)], [dict(source="backbone")]
  if args.pose != "none":
    # Skeletons are soon told apart: they then guide the video from its first update on.
    steps.append(dict(kind="train", name="pose", epochs=epochs[1],
                      model=dict(name="pose_network", pose=pose), loss=dict(name="cross_entropy"),
                      optim=optim))
    init.append(dict(source="pose", include=("vpn/pose_backbone",),
                     rename=(("^pose_backbone", "vpn/pose_backbone"),)))
  steps += [
      dict(kind="train", name="joint", epochs=epochs[2],
           model=dict(common, pose=pose, embedding="thesis"), loss=dict(name="vpn"), optim=optim,
           init_from=tuple(init)),
      dict(kind="evaluate", name="test", views=dict(temporal=2, flips=not args.tiny))]
  return configuration.config(
      name="quickstart",
      data=dict(
          dataset="synthetic_actions", variant="tiny" if args.tiny else "small",
          # The label follows the mirror: waving left becomes waving right.
          protocol="cross_subject", validation=0.1, flip=0.0 if args.tiny else 0.5,
          # Grey: clothes and walls are coloured at random.
          video=dict(num_frames=frames, size=size, crop=0.9, margin=0.1, scale_jitter=0.1,
                     channels=1),
          pose=dict(num_poses=8 if args.tiny else 16, rotate=15.0), threads=4, workers=0),
      batch_size=8, log_every=4 if args.tiny else 20, checkpoint_every=8 if args.tiny else 200,
      steps=steps)
