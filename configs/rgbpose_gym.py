"""RGBPose-SlowFast on FineGYM's videos and 2D skeletons (99 classes).

  python -m actionjax.prepare --dataset=folder --name=gym --raw_dir=FOLDER --skeletons=gym.pkl
  python -m actionjax.main --config=configs/rgbpose_gym.py

Trains the network of the video and that of the skeletons alone, copies both into the joint network
and fine-tunes it; tests all three and late fusion, and writes streams.md, the paper's figures
beside ours: 94.1 % mean class accuracy (88.5, 92.0 and 93.4 the others).

Arguments: dataset=NAME and protocol=NAME, as prepared; frames=N and poses=N of a clip;
laterals=both|rgb_to_pose|pose_to_rgb|none; clips=N at test; gpus=N of the released 8, with which
batches and learning rates shrink; rgb=DIR and pose=DIR start from runs or converted models instead
of training these streams; epochs=SHARE of the released 180, 180 and 20; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; network=rgbpose|rgb|pose, which it holds;
dtype=NAME; seed=N.

The clips of FOLDER lie in train/CLASS and test/CLASS; the skeletons are those of PYSKL's annotation
file, COCO's 17 joints. A training of this size takes 8 GPUs; not run here.
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
  args = configuration.arguments(arg, **recipe.arguments("folder:gym", "split"))
  paper = PAPER.get((args.frames, args.poses), {})
  return recipe.config(recipe.settings(
      "rgbpose_gym", args, paper=paper, metric="mean_class_accuracy"))
