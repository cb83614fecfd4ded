"""RGBPose-SlowFast on NTU RGB+D 60's videos and 2D skeletons.

  python -m actionjax.prepare --dataset=ntu60 --raw_dir=FOLDER
  python -m actionjax.main --config=configs/rgbpose_ntu60.py

Trains the network of the video and that of the skeletons alone, copies both into the joint network
and fine-tunes it; tests all three and late fusion, and writes streams.md, the paper's figures
beside ours: 96.5 % cross-subject (94.9, 93.2 and 96.0 the others).

Arguments: dataset=NAME and protocol=NAME, as prepared; frames=N and poses=N of a clip;
laterals=both|rgb_to_pose|pose_to_rgb|none; clips=N at test; gpus=N of the released 8, with which
batches and learning rates shrink; rgb=DIR and pose=DIR start from runs or converted models instead
of training these streams; epochs=SHARE of the released 180, 180 and 20; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; network=rgbpose|rgb|pose, which it holds;
dtype=NAME; seed=N.

The sensor's own skeletons are 25 joints in the colour image; the paper's are COCO's 17 of HRNet.
For those, prepare the videos with PYSKL's annotation file
(--dataset=folder --name=NAME --skeletons=FILE.pkl) and give dataset=folder:NAME,protocol=split.
A training of this size takes 8 GPUs; not run here.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import rgbpose as recipe

# Of ten clips, with 8 frames and 32 poses; 97.0 with 16 and 48.
PAPER = {
    ("cross_subject", 8, 32): dict(rgb_test=94.9, pose_test=93.2, late_fusion=96.0, test=96.5),
    ("cross_subject", 16, 48): dict(test=97.0)}


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, **recipe.arguments("ntu60", "cross_subject"))
  paper = PAPER.get((args.protocol, args.frames, args.poses), {})
  return recipe.config(recipe.settings("rgbpose_ntu60", args, paper=paper))
