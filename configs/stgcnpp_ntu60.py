"""ST-GCN++, ST-GCN or MS-G3D on NTU RGB+D's skeletons, as PYSKL trains them.

  python -m actionjax.prepare --dataset=annotations --name=ntu60_3d --raw_dir=ntu60_3danno.pkl
  python -m actionjax.main --config=configs/stgcnpp_ntu60.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=stgcnpp|stgcn|msg3d; stream=joint|
bone|joint_motion|bone_motion, or several joined by +, a network each, whose scores are added (the
motions' count half), or by :, which one network reads at once; dimensions=3|2 of the skeletons;
clips=N at test; batch=N, with which the learning rate grows; epochs=N; drop=P trains with a joint
of a limb missing from every frame with that probability; test=DIR evaluates a converted checkpoint
of one stream, and trains nothing; released=pyskl|mmaction2|mmaction0 (MMAction2 before its version
1), whose clips; dtype=NAME; seed=N.

PYSKL's 2D skeletons (HRNet) are dataset=annotations:ntu60,dimensions=2; the sensor's own 3D ones,
from its own files, dataset=ntu60,protocol=cross_subject. The files' protocols are xsub and xview.
The recipe is PYSKL's: Nesterov SGD over 16 times five epochs, on 8 GPUs of 16 clips; not run at
this size here.

Published for ST-GCN++, cross-subject, 3D: joint 89.3 %, bone 90.1, joint motion 87.5, bone motion
87.3; joint and bone 91.4, all four 92.1. With 2D skeletons 89.3, 92.3, 84.0, 88.8; 92.8 and 93.2.
ST-GCN's joint stream in 3D reaches 87.8.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import stgcn as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="annotations:ntu60_3d", protocol="xsub", network="stgcnpp", stream="joint",
      dimensions=3, clips=10, batch=128, epochs=80.0, drop=0.0, released="pyskl", test="",
      dtype="float32", seed=0)
  return configuration.config(
      name="stgcnpp_ntu60", seed=args.seed,
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
