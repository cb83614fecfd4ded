"""PoseC3D on the Volleyball dataset: what a group does, from its 2D skeletons.

  python -m actionjax.prepare --dataset=annotations --name=volleyball --raw_dir=FILE.pkl
  python -m actionjax.main --config=configs/posec3d_volleyball.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly_narrow|slowonly|c3d|x3d;
kind=joint|limb, or joint+limb for a network each, whose scores are added; clips=N at test, each
also mirrored (clips=1: not); batch=N, with which the learning rate grows; epochs=N; test=DIR
evaluates a converted checkpoint, in float32, and trains nothing; released=pyskl|mmaction2, whose
test pipeline; dtype=NAME; seed=N.

All persons, up to 13, are drawn into the same maps, so that more of them cost the network nothing
(section 4.4.3). Clips have 20 frames, of which 12 are seen; the network is half as wide, 0.52
million parameters. The rest is the recipe for NTU RGB+D: the paper has no other.

The paper reaches 91.3 %, and a graph network with 2.8 million parameters 89.2.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(arg, **recipe.arguments("annotations:volleyball", "split",
                                                         network="slowonly_narrow"))
  return recipe.config(recipe.settings("posec3d_volleyball", args,
                                       pose2d=dict(num_frames=12, persons=13)))
