"""Hierarchical classification with network pruning on UTD-MHAD's depth video, cross-subject.

  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER
  python -m actionjax.prepare --dataset=utd_mhad --raw_dir=FOLDER --variant=uncropped
  python -m actionjax.main --config=configs/hac_utd_mhad.py         # one GPU
  python -m actionjax.main --config=configs/hac_utd_mhad.py:cpu     # two cores

Runs the paper's ablation (baseline, crops, superclasses, both, pruning in two scopes) and writes
it to ablation.md in the workdir, the paper's figures beside: 82.55 with crops, 86.05 in full,
91.63 pruned by layers. Theirs is colour video and a network trained on NTU-60 first; this is
depth video from random weights, unless `init` names a model (convert it with
`python -m actionjax.convert`, or take an hac_ntu60 run).

Measured with `cpu`: 81.4 % in full, 85.1 pruned altogether, 85.3 by layers, in 115 minutes on two
cores, partly beside other work (RESULTS.md); not run on a GPU.

Arguments: cpu; depth=18|34|50|101; scopes=both|altogether|by_layers|none; uncropped=false leaves
the rows without crops out; leak=true trains on all training clips and validates on test clips, as
the paper does; warm_start=true goes on from the first pass' weights in the second; norm=l2|rms;
levels=none:3:9 and weights=none:1/16:1/4:1, fraction=0.1: superclasses and weights by level and
the share that a pass prunes, where others than the paper's are asked for; init=DIR; seed=N.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac as recipe


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, cpu=False, depth=18, scopes="both", uncropped=True, leak=False, warm_start=False,
      norm="l2", init="", levels="", weights="", fraction=0.1, seed=0)
  data = dict(
      dataset="utd_mhad", protocol="cross_subject", validation=0.1,
      validation_from="test" if args.leak else "train", time_jitter=0.15, threads=4,
      video=dict(num_frames=8, size=(64, 64) if args.cpu else (112, 112), channels=1, crop=0.9,
                 margin=0.1, scale_jitter=0.1, intensity_jitter=0.15))
  backbone = recipe.resnet(args.depth, **(dict(width=16) if args.cpu else {}))
  levels = recipe.levels(args.levels, (None, 3, 9))
  return configuration.config(
      name="hac_utd_mhad", seed=args.seed, data=data, batch_size=8,
      steps=recipe.steps(
          args, data=data,
          model=dict(backbone=backbone, dtype="float32" if args.cpu else "bfloat16"),
          # A class has sixteen training clips: of the one or two held out, probabilities say more
          # than counts.
          group=dict(levels=levels, counts="soft", seed=args.seed),
          weights=recipe.weights(args.weights, (None, 1 / 16, 1 / 4, 1.0), levels),
          # The paper's init is a network trained on NTU-60; from random weights its 20 epochs at
          # 1e-4 leave the network untrained.
          train=dict(epochs=50.0 if args.cpu else 60.0, ema=0.995, optim=dict(
              name="adamw", learning_rate=1e-3, schedule="cosine", warmup=0.1, weight_decay=0.02,
              clip_norm=5.0)),
          retrain=dict(epochs=8.0 if args.cpu else 20.0),
          repeat=dict(passes=5 if args.cpu else 8, patience=2),
          prune=dict(fraction=args.fraction, norm=args.norm),
          evaluate=dict(views=dict(temporal=5))))
