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
crops out; leak=true validates on test clips, as the papers do; warm_start=true goes on from the
first pass' weights in the second; norm=l2|rms; init=DIR; seed=N.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import hac


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, protocol="cross_subject", depth=50, scopes="both", uncropped=True, leak=False,
      warm_start=False, norm="l2", init="", seed=0)
  return hac.config(hac.Settings(
      name="hac_ntu60", dataset="ntu60", protocol=args.protocol, levels=(2, 6, 20),
      weights=hac.NTU_WEIGHTS, video=hac.PAPER_VIDEO, backbone=hac.resnet(args.depth),
      optim=hac.PAPER_OPTIM, uncropped="uncropped" if args.uncropped else None,
      scopes=hac.scopes(args.scopes), leak=args.leak, warm_start=args.warm_start,
      norm=args.norm, init=args.init, seed=args.seed, data=dict(flip=0.5, threads=16)))
