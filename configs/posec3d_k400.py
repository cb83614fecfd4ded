"""PoseC3D on Kinetics-400's 2D skeletons.

  python -m actionjax.prepare --dataset=annotations --name=k400 --raw_dir=FILE.pkl
  python -m actionjax.main --config=configs/posec3d_k400.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly_346|slowonly|c3d|x3d;
kind=joint|limb, or joint+limb for a network each, whose scores are added; clips=N at test, each
also mirrored (clips=1: not); batch=N, with which the learning rate grows; epochs=N; test=DIR
evaluates a converted checkpoint, in float32, and trains nothing; released=pyskl|mmaction2, whose
test pipeline; dtype=NAME; seed=N.

Annotations that hold their keypoints are read; PYSKL's own file for Kinetics refers to a file a
video instead, whose skeletons have to be put into one first. The recipe is PYSKL's: the network
with blocks 3, 4, 6, weight decay 1e-4, SGD over 24 times ten epochs, on 8 GPUs of 32 clips.

The paper reaches 46.0 % with joints, 47.7 with limbs added.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, **recipe.arguments("annotations:k400", "split",
                                                         network="slowonly_346"))
  return recipe.config(recipe.settings(
      "posec3d_k400", args, weight_decay=1e-4, pose2d=dict(persons=10)))
