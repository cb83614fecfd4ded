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

Arguments: cpu; depth=18|34|50|101; scopes=both|altogether|by_layers|none; uncropped=false leaves
the rows without crops out; leak=true validates on test clips, as the paper does; warm_start=true
goes on from the first pass' weights in the second; norm=l2|rms; init=DIR; seed=N.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, cpu=False, depth=18, scopes="both", uncropped=True, leak=False, warm_start=False,
      norm="l2", init="", seed=0)
  # The paper's init is a network trained on NTU-60; from random weights its 20 epochs at 1e-4
  # leave the network untrained.
  optim = dict(name="adamw", learning_rate=1e-3, schedule="cosine", warmup=0.1,
               weight_decay=0.02, clip_norm=5.0)
  video = dict(num_frames=8, size=(112, 112), channels=1, crop=0.9, margin=0.1,
               scale_jitter=0.1, intensity_jitter=0.15)
  backbone = hac.resnet(args.depth)
  epochs, retrain, passes = 60.0, 20.0, 8
  if args.cpu:
    video.update(size=(64, 64))
    backbone |= dict(width=16)
    epochs, retrain, passes = 50.0, 8.0, 5
  return hac.config(hac.Settings(
      name="hac_utd_mhad", dataset="utd_mhad", protocol="cross_subject", levels=(None, 3, 9),
      weights=hac.SMALL_WEIGHTS, video=video, backbone=backbone,
      optim=optim, epochs=epochs, retrain_epochs=retrain, passes=passes,
      uncropped="uncropped" if args.uncropped else None, scopes=hac.scopes(args.scopes),
      # A class has sixteen training clips: of the one or two held out, probabilities say more
      # than counts.
      counts="soft", validation=0.1, leak=args.leak, warm_start=args.warm_start,
      norm=args.norm, init=args.init, seed=args.seed, ema=0.995,
      data=dict(time_jitter=0.15, threads=4), batch_size=8,
      dtype="float32" if args.cpu else "bfloat16"))
