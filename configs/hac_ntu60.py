"""Hierarchical classification with network pruning on NTU RGB+D 60.

  python -m actionjax.prepare --dataset=ntu60 --raw_dir=FOLDER
  python -m actionjax.prepare --dataset=ntu60 --raw_dir=FOLDER --variant=uncropped
  python -m actionjax.main --config=configs/hac_ntu60.py:depth=50,init=DIR

Runs the papers' ablation and writes it to ablation.md in the workdir, their figures beside it:
95.45 / 98.59 (cross-subject / cross-view) in full, 95.66 / 98.79 pruned. They start from ImageNet.
A 2D ResNet of ImageNet becomes a start with
`python -m actionjax.convert --format=torch_resnet2d --checkpoint=resnet50.pth --out=DIR`.
Trainings of 20 epochs each, two to six of them and one for every pruning pass; the papers took
one GPU. Not run here.

Arguments: protocol=cross_subject|cross_view;
depth=18|34|50|101; scopes=both|altogether|by_layers|none; uncropped=false leaves the rows without
crops out; leak=true trains on all training clips and validates on test clips, as the papers do;
warm_start=true goes on from the first pass' weights in the second; norm=l2|rms; levels=2:6:20 and
weights=1/8:1/4:1/2:1 (or none), fraction=0.1: superclasses and weights by level and the share that
a pass prunes, where others than the papers' best are asked for; init=DIR; seed=N.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, protocol="cross_subject", depth=50, scopes="both", uncropped=True, leak=False,
      warm_start=False, norm="l2", init="", levels="", weights="", fraction=0.1, seed=0)
  # Cut from the box resized to 256x256 (section "Preprocessing").
  data = dict(dataset="ntu60", protocol=args.protocol,
              validation=0.1, validation_from="test" if args.leak else "train", flip=0.5,
              threads=16, video=dict(num_frames=8, size=(224, 224), crop=0.875, margin=0.1))
  levels = recipe.levels(args.levels, (2, 6, 20))
  return configuration.config(
      name="hac_ntu60", seed=args.seed, data=data, batch_size=16,
      steps=recipe.steps(
          args, data=data, model=dict(backbone=recipe.resnet(args.depth), dtype="bfloat16"),
          # Superclasses and loss weights by level (section "Implementation details").
          group=dict(levels=levels, counts="hard", seed=args.seed),
          weights=recipe.weights(args.weights, (1 / 8, 1 / 4, 1 / 2, 1.0), levels),
          # A tenth of the rate after two epochs in a row without a lower validation loss (same
          # section; the optimiser is that of the code the papers build on).
          train=dict(epochs=20.0, optim=dict(name="adam", learning_rate=1e-4, schedule="constant",
                                             plateau_factor=0.1, plateau_patience=1)),
          retrain=dict(epochs=20.0), repeat=dict(passes=8, patience=2),
          prune=dict(fraction=args.fraction, norm=args.norm),
          evaluate=dict(views=dict(temporal=5))))
