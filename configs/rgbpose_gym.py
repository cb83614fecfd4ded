"""RGBPose-SlowFast on FineGYM's videos and 2D skeletons (99 classes).

  python -m actionjax.prepare --dataset=folder --name=gym --raw_dir=FOLDER --skeletons=gym.pkl \
    --crop=square
  python -m actionjax.main --config=configs/rgbpose_gym.py

Trains the network of the video and that of the skeletons alone, copies both into the joint network
and fine-tunes it; tests all three and late fusion, and writes streams.md, the paper's figures
beside ours: 94.1 % mean class accuracy (88.5, 92.0 and 93.4 the others).

Arguments: dataset=NAME and protocol=NAME, as prepared; frames=N and poses=N of a clip;
laterals=both|rgb_to_pose|pose_to_rgb|none; clips=N at test; gpus=N of the released 8, with which
batches and learning rates shrink; rgb=DIR and pose=DIR start from runs or converted models instead
of training these streams; epochs=SHARE of the released 180, 180 and 20; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; network=rgbpose|rgb|pose, which it holds;
released=pyskl|mmaction2, whose test clips; dtype=NAME; seed=N.

The clips of FOLDER, named like PYSKL's annotations, lie in one folder, and the labels and lists of
that file count; or in train/CLASS and test/CLASS. The skeletons are the file's, COCO's 17 joints.
The network of the video looks at the square around them, hence --crop=square. A training of this
size takes 8 GPUs; not run here.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import rgbpose as recipe

# Of ten clips, mean class accuracy, with 8 frames and 32 poses; 95.6 with 16 and 48.
PAPER = {
    (8, 32): dict(rgb_test=88.5, pose_test=92.0, late_fusion=93.4, test=94.1),
    (16, 48): dict(test=95.6)}


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="folder:gym", protocol="split", frames=8, poses=32, laterals="both",
      clips=10, gpus=8.0, rgb="", pose="", epochs=1.0, test="", released="pyskl",
      network="rgbpose", dtype="", seed=0)
  image = dict(size=(224, 224), test_size=(256, 256))
  sgd = dict(name="sgd", momentum=0.9, decay_all=True, clip_norm=40.0)
  return configuration.config(
      name="rgbpose_gym", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol, variant=recipe.variant(args.dataset),
          flip=0.5, threads=16, workers=0,
          video=dict(num_frames=args.frames, sampling="uniform", box="pose2d", **image),
          pose2d=dict(num_frames=args.poses, persons=0, short_side=256, **image,
                      **recipe.released_pipeline(args.released))),
      steps=recipe.steps(
          arg, args, title=f"rgbpose_gym, {args.clips} clips", metric="mean_class_accuracy",
          paper=PAPER.get((args.frames, args.poses), {}),
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
