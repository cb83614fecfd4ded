"""PoseC3D on FineGYM's 2D skeletons.

  python -m actionjax.prepare --dataset=annotations --name=gym --raw_dir=FILE.pkl
  python -m actionjax.main --config=configs/posec3d_gym.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly|c3d|x3d; kind=joint|limb,
or joint+limb for a network each, whose scores are added; clips=N at test, each also mirrored
(clips=1: not); batch=N, with which the learning rate grows; epochs=N; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; released=pyskl|mmaction2, whose test pipeline;
dtype=NAME; seed=N.

The skeletons are those of PYSKL's annotation file (HRNet in annotated boxes, COCO's 17 joints).
The recipe is PYSKL's: SGD over 24 times ten epochs, on 8 GPUs of 32 clips.

The paper reaches a mean class accuracy (`mean_class_accuracy`) of 93.2 % with joints, 94.3 with
limbs added.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, **recipe.arguments("annotations:gym", "split"))
  return recipe.config(recipe.settings("posec3d_gym", args))
