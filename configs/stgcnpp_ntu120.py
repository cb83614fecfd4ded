"""ST-GCN++, ST-GCN or MS-G3D on NTU RGB+D 120's skeletons, cross-subject or cross-setup.

  python -m actionjax.prepare --dataset=annotations --name=ntu120_3d --raw_dir=ntu120_3danno.pkl
  python -m actionjax.main --config=configs/stgcnpp_ntu120.py

Arguments and recipe are those of `stgcnpp_ntu60`; protocols xsub and xset; for 2D skeletons
dataset=annotations:ntu120,dimensions=2.

Published for ST-GCN++, cross-subject, 3D: joint 83.2 %, bone 85.6, joint motion 80.4, bone motion
81.5; joint and bone 87.0, all four 87.5; cross-setup 85.6, 87.5, 84.3, 83.0; 89.1 and 89.8.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import stgcn as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  return recipe.config("stgcnpp_ntu120", configuration.arguments(
      arg, **recipe.arguments("annotations:ntu120_3d", "xsub")))
