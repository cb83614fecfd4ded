"""PoseC3D on FineGYM's 2D skeletons.

  python -m actionjax.prepare --dataset=annotations --name=gym --raw_dir=FILE.pkl
  python -m actionjax.main --config=configs/posec3d_gym.py

Arguments: dataset=NAME and protocol=NAME, as prepared; network=slowonly|c3d|x3d; kind=joint|limb,
or joint+limb for a network each, whose scores are added, weights=A:B of either (1:1); clips=N at
test, each also mirrored (clips=1: not); batch=N, with which the learning rate grows; epochs=N;
test=DIR evaluates a converted checkpoint, in float32, and trains nothing; released=pyskl|mmaction2,
whose test pipeline; dtype=NAME; seed=N; for the paper's ablations frames=N,
sampling=strided,stride=N instead of uniform, crop=false, which shows the whole image.

The skeletons are those of PYSKL's annotation file (HRNet in annotated boxes, COCO's 17 joints).
The recipe is PYSKL's: SGD over 24 times ten epochs, on 8 GPUs of 32 clips; not run at this size
here.

The paper reaches a mean class accuracy (`mean_class_accuracy`) of 93.2 % with joints, 94.3 with
limbs added.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="annotations:gym", protocol="split", network="slowonly", kind="joint",
      weights="1:1", clips=10, batch=256, epochs=240.0, released="pyskl", test="", dtype="", seed=0,
      frames=48, sampling="uniform", stride=1, crop=True)
  sizes = dict(size=(56, 56), test_size=(64, 64))
  return configuration.config(
      name="posec3d_gym", seed=args.seed,
      data=dict(
          dataset=args.dataset, protocol=args.protocol, flip=0.5, threads=8, workers=0,
          pose2d=dict(num_frames=args.frames, sampling=args.sampling, stride=args.stride,
                      compact=args.crop, persons=0, **sizes,  # all that there are
                      **recipe.released_pipeline(args.released))),
      steps=recipe.steps(
          arg, args, model=dict(maps=dict(sigma=0.6, **sizes), dropout=0.5),
          # The learning rate is 0.4 for 256 clips.
          train=dict(batch_size=args.batch, epochs=args.epochs, optim=dict(
              name="sgd", learning_rate=0.4 * args.batch / 256, schedule="cosine", momentum=0.9,
              weight_decay=3e-4, decay_all=True, clip_norm=40.0)),
          # Twenty views of a clip are a batch of their own.
          evaluate=dict(batch_size=8, views=dict(temporal=args.clips, flips=args.clips > 1))))
