"""RGBPose-SlowFast on NTU RGB+D 120's videos and 2D skeletons.

  python -m actionjax.prepare --dataset=ntu120 --variant=square --raw_dir=FOLDER
  python -m actionjax.main --config=configs/rgbpose_ntu120.py

Trains the network of the video and that of the skeletons alone, copies both into the joint network
and fine-tunes it; tests all three and late fusion, and writes streams.md, the paper's figures
beside ours: 95.3 % cross-subject with frames=16,poses=48.

Arguments: dataset=NAME and protocol=NAME, as prepared; frames=N and poses=N of a clip;
laterals=both|rgb_to_pose|pose_to_rgb|none; clips=N at test; gpus=N of the released 8, with which
batches and learning rates shrink; rgb=DIR and pose=DIR start from runs or converted models instead
of training these streams; epochs=SHARE of the released 180, 180 and 20; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; network=rgbpose|rgb|pose, which it holds;
released=pyskl|mmaction2, whose test clips; dtype=NAME; seed=N.

The sensor's own skeletons are 25 joints in the colour image; the paper's are COCO's 17 of HRNet.
For those, prepare the folder of videos (S001C001P001R001A001_rgb.avi ...) with PYSKL's annotation
file, whose labels and lists then count, and give dataset=folder:NAME,protocol=xsub:
  python -m actionjax.prepare --dataset=folder --name=NAME --raw_dir=FOLDER --crop=square \
    --skeletons=ntu120_hrnet.pkl
The network of the video looks at the square around the skeletons, which the released code cuts out
of whole frames: the variant `square` stores what it reaches, for variant `cropped` a plan says no.
A training of this size takes 8 GPUs; not run here.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import rgbpose as recipe

# Of ten clips, with 8 frames and 32 poses; 95.3 with 16 and 48.
PAPER = {("cross_subject", 16, 48): dict(test=95.3)}


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="ntu120", protocol="cross_subject", frames=8, poses=32, laterals="both",
      clips=10, gpus=8.0, rgb="", pose="", epochs=1.0, test="", released="pyskl",
      network="rgbpose", dtype="", seed=0)
  image = dict(size=(224, 224), test_size=(256, 256))
  sgd = dict(name="sgd", momentum=0.9, decay_all=True, clip_norm=40.0)
  return configuration.config(
      name="rgbpose_ntu120", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol, variant=recipe.variant(args.dataset),
          flip=0.5, threads=16, workers=0,
          video=dict(num_frames=args.frames, sampling="uniform", box="pose2d", **image),
          pose2d=dict(num_frames=args.poses, persons=0, short_side=256, **image,
                      **recipe.released_pipeline(args.released))),
      steps=recipe.steps(
          arg, args, title=f"rgbpose_ntu120, {args.clips} clips", metric="top1",
          paper=PAPER.get((recipe.official(args.protocol), args.frames, args.poses), {}),
          # Maps are a quarter of the video.
          model=dict(dropout=0.5, maps=dict(sigma=0.7, scale=0.25, size=(56, 56),
                                            test_size=(64, 64))),
          # The video alone is tested at the size that it trained at.
          rgb_data=dict(video=dict(test_size=(224, 224))),
          # Clips on each GPU, and learning rates for 8 of them.
          train=dict(
              rgb=recipe.training(args, clips=12, epochs=180, optim=dict(
                  sgd, learning_rate=0.15, schedule="cosine", weight_decay=1e-4)),
              pose=recipe.training(args, clips=16, epochs=180, optim=dict(
                  sgd, learning_rate=0.2, schedule="cosine", weight_decay=3e-4)),
              joint=recipe.training(args, clips=6, epochs=20, optim=dict(
                  sgd, learning_rate=0.0075, schedule="steps", drops=(12 / 20, 16 / 20), drop=0.1,
                  weight_decay=1e-4))),
          evaluate=dict(batch_size=8, views=dict(temporal=args.clips))))
