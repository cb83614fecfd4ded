"""PoseC3D on NTU RGB+D's 2D skeletons, 56 578 clips, cross-subject or cross-view.

  python -m actionjax.prepare --dataset=annotations --name=ntu60 --raw_dir=FILE.pkl
  python -m actionjax.main --config=configs/posec3d_ntu60.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly|c3d|x3d; kind=joint|limb,
or joint+limb for a network each, whose scores are added; clips=N at test, each also mirrored
(clips=1: not); batch=N, with which the learning rate grows; epochs=N; test=DIR evaluates a
converted checkpoint, in float32, and trains nothing; released=pyskl|mmaction2, whose test pipeline;
dtype=NAME; seed=N.

The skeletons are those of PYSKL's annotation file (HRNet, COCO's 17 joints; protocols xsub,
xview). dataset=ntu60,protocol=cross_subject takes the sensor's own 25 joints in the colour image
instead. The recipe is PYSKL's: SGD over 24 times ten epochs, on 8 GPUs of 32 clips.

The paper reaches 93.7 % cross-subject with joints, 94.1 with limbs added, and 97.1 cross-view; one
clip costs 15.6 billion multiply-adds.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, **recipe.arguments("annotations:ntu60", "xsub"))
  return recipe.config(recipe.settings("posec3d_ntu60", args))
