"""PoseC3D on the Volleyball dataset: what a group does, from its 2D skeletons.

  python -m actionjax.prepare --dataset=volleyball --variant=skeleton --raw_dir=FOLDER
  python -m actionjax.main --config=configs/posec3d_volleyball.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly_narrow|slowonly|c3d|x3d;
kind=joint|limb, or joint+limb for a network each, whose scores are added, weights=A:B of either
(1:1); clips=N at test, each also mirrored (clips=1: not); batch=N, with which the learning rate
grows; epochs=N; test=DIR evaluates a converted checkpoint, in float32, and trains nothing;
released=pyskl|mmaction2, whose test pipeline; dtype=NAME; seed=N.

The skeletons are HRNet's in the players' tracks (`joints` of the dataset's docstring); those of an
annotation file of one's own are dataset=annotations:NAME. All persons, up to 13, are drawn into the
same maps, so that more of them cost the network nothing (section 4.4.3). Clips have 20 frames, of
which 12 are seen; the network is half as wide, 0.52 million parameters. In a mirror left and right
teams change places, and so do the labels. The rest is the recipe for NTU RGB+D, on 8 GPUs of 32
clips: the paper has no other. Not run here.

The paper reaches 91.3 %, and a graph network with 2.8 million parameters 89.2.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="volleyball", protocol="split", network="slowonly_narrow",
      kind="joint", weights="1:1", clips=10, batch=256, epochs=240.0, released="pyskl", test="",
      dtype="", seed=0)
  sizes = dict(size=(56, 56), test_size=(64, 64))
  return configuration.config(
      name="posec3d_volleyball", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol,
          variant=None if ":" in args.dataset else "skeleton", flip=0.5, threads=8, workers=0,
          pose2d=dict(num_frames=12, persons=0, **sizes,  # all that there are
                      **recipe.released_pipeline(args.released))),
      steps=recipe.steps(
          arg, args, model=dict(maps=dict(sigma=0.6, **sizes), dropout=0.5),
          # The learning rate is 0.4 for 256 clips.
          train=dict(batch_size=args.batch, epochs=args.epochs, optim=dict(
              name="sgd", learning_rate=0.4 * args.batch / 256, schedule="cosine", momentum=0.9,
              weight_decay=3e-4, decay_all=True, clip_norm=40.0)),
          # Twenty views of a clip are a batch of their own.
          evaluate=dict(batch_size=8, views=dict(temporal=args.clips, flips=args.clips > 1))))
