"""PoseC3D on Kinetics-400's 2D skeletons.

  python -m actionjax.prepare --dataset=annotations --name=k400 --raw_dir=FOLDER/k400_hrnet.pkl
  python -m actionjax.main --config=configs/posec3d_k400.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly_346|slowonly|c3d|x3d;
kind=joint|limb, or joint+limb for a network each, whose scores are added, weights=A:B of either
(1:1); clips=N at test, each also mirrored (clips=1: not); batch=N, with which the learning rate
grows; epochs=N; test=DIR evaluates a converted checkpoint, in float32, and trains nothing;
released=pyskl|mmaction2, whose test pipeline; dtype=NAME; seed=N.

PYSKL's annotations for Kinetics refer to other files for the key points: put their folder `kpfiles`
beside k400_hrnet.pkl. Up to ten persons of a frame are drawn, those of the best scores, and frames
without anybody left out, as PYSKL does it. The recipe is PYSKL's: the network with blocks 3, 4, 6,
weight decay 1e-4, SGD over 24 times ten epochs, on 8 GPUs of 32 clips; not run at this size here.

The paper reaches 46.0 % with joints, 47.7 with limbs added.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="annotations:k400", protocol="split", network="slowonly_346", kind="joint",
      weights="1:1", clips=10, batch=256, epochs=240.0, released="pyskl", test="", dtype="",
      seed=0)
  sizes = dict(size=(56, 56), test_size=(64, 64))
  return configuration.config(
      name="posec3d_k400", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol, flip=0.5, threads=8, workers=0,
          pose2d=dict(num_frames=48, persons=0, **sizes,  # all that there are
                      **recipe.released_pipeline(args.released))),
      steps=recipe.steps(
          arg, args, model=dict(maps=dict(sigma=0.6, **sizes), dropout=0.5),
          # The learning rate is 0.4 for 256 clips.
          train=dict(batch_size=args.batch, epochs=args.epochs, optim=dict(
              name="sgd", learning_rate=0.4 * args.batch / 256, schedule="cosine", momentum=0.9,
              weight_decay=1e-4, decay_all=True, clip_norm=40.0)),
          # Twenty views of a clip are a batch of their own.
          evaluate=dict(batch_size=8, views=dict(temporal=args.clips, flips=args.clips > 1))))
