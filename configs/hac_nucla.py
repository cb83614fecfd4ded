"""Hierarchical classification with network pruning on Northwestern-UCLA.

  python -m actionjax.prepare --dataset=nucla --raw_dir=FOLDER
  python -m actionjax.prepare --dataset=nucla --raw_dir=FOLDER --variant=uncropped
  python -m actionjax.main --config=configs/hac_nucla.py:depth=50,init=DIR

Runs the papers' ablation and writes it to ablation.md in the workdir, their figures beside it:
88.78 / 89.98 / 98.92 (views 1, 2, 3) in full, 91.10 / 91.95 / 98.92 pruned. They start from
NTU-60, cross-subject: the model of a finished hac_ntu60 run is `init=RUN/NN_full` (its
classifiers do not fit and stay behind).
Trainings of 20 epochs each, two to six of them and one for every pruning pass; the papers took
one GPU. Not run here.

Arguments: protocol=view_1|view_2|view_3, the camera that tests;
depth=18|34|50|101; scopes=both|altogether|by_layers|none; uncropped=false leaves the rows without
crops out; leak=true validates on test clips, as the papers do; warm_start=true goes on from the
first pass' weights in the second; norm=l2|rms; init=DIR; seed=N.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, protocol="view_3", depth=50, scopes="both", uncropped=True, leak=False,
      warm_start=False, norm="l2", init="", seed=0)
  return hac.config(hac.Settings(
      name="hac_nucla", dataset="nucla", protocol=args.protocol, levels=(None, 2, 5),
      weights=hac.SMALL_WEIGHTS, video=hac.PAPER_VIDEO, backbone=hac.resnet(args.depth),
      optim=hac.PAPER_OPTIM, uncropped="uncropped" if args.uncropped else None,
      scopes=hac.scopes(args.scopes), leak=args.leak, warm_start=args.warm_start,
      norm=args.norm, init=args.init, seed=args.seed, data=dict(flip=0.5, threads=16)))
