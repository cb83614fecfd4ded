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
  args = configuration.arguments(
      arg, dataset="annotations:ntu120_3d", protocol="xsub", network="stgcnpp", stream="joint",
      dimensions=3, clips=10, batch=128, epochs=80.0, drop=0.0, released="pyskl", test="",
      dtype="float32", seed=0)
  return configuration.config(
      name="stgcnpp_ntu120", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol, threads=8, workers=0,
          graph=recipe.released_pipeline(args)),
      steps=recipe.steps(
          # The learning rate is 0.1 for 128 clips.
          arg, args, train=dict(
              batch_size=args.batch, epochs=args.epochs, drop_joints=args.drop, optim=dict(
                  name="sgd", learning_rate=0.1 * args.batch / 128, schedule="cosine",
                  momentum=0.9, nesterov=True, weight_decay=5e-4, decay_all=True)),
          evaluate=dict(batch_size=8, views=dict(temporal=args.clips))))
