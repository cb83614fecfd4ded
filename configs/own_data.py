"""A plain network on any prepared dataset, first of all your own.

  python -m actionjax.prepare --dataset=folder --name=mine --raw_dir=FOLDER
  python -m actionjax.main --config=configs/own_data.py:dataset=folder:mine,protocol=split,cpu

Arguments: dataset=NAME, for your own KIND:NAME; protocol, one of those that prepare printed;
inputs=video, an inflated ResNet-18 on 16 frames of 112x112, inputs=pose, a graph network on 3D
skeletons, or inputs=pose2d, PoseC3D on 2D skeletons; cpu: smaller networks on smaller inputs;
epochs=N; flip=0.5 mirrors half of the clips, for actions without a left and a right; init=DIR: a
model directory to start from; seed=N; tiny: the few seconds' worth that tests use. From random
weights, which small datasets do not carry far; it is meant as a first number. What it reaches
depends on the data.
"""
from ml_collections import ConfigDict

from actionjax import configuration
from actionjax.papers import posec3d


def get_config(arg: str = "") -> ConfigDict:
  """The config; see the module's docstring for `arg`."""
  args = configuration.arguments(
      arg, dataset="synthetic_actions", protocol="cross_subject", inputs="video", cpu=False,
      epochs=60.0, flip=0.0, init="", seed=0, tiny=False)
  if args.inputs not in ("video", "pose", "pose2d"):
    raise configuration.UserError(f"config argument inputs={args.inputs} is neither video nor pose "
                                  "nor pose2d")
  small = args.cpu or args.tiny
  data = dict(dataset=args.dataset, protocol=args.protocol, validation=0.1, flip=args.flip,
              time_jitter=0.15, threads=4, workers=0)
  if args.inputs == "video":
    data["video"] = dict(
        num_frames=4 if args.tiny else 16, size=(16, 16) if args.tiny else
        (56, 56) if small else (112, 112), crop=0.9, scale_jitter=0.1, intensity_jitter=0.15)
    backbone = dict(name="resnet3d", block="basic", kernels="factorised", stem_pool=(),
                    stem_kernel=(3, 7, 7), spatial_strides=(1, 2, 2, 1),
                    temporal_strides=(1, 2, 2, 1), stage_sizes=(2, 2, 2, 2), width=64)
    if small:
      backbone.update(stage_sizes=(1, 1, 1, 1), width=16)
    else:
      backbone.update(stem_strides=(2, 2, 2))
    if args.tiny:
      backbone.update(stage_sizes=(1,), width=4, spatial_strides=(2,), temporal_strides=(2,))
    model = dict(name="video_network", backbone=backbone, dropout=0.3,
                 dtype="float32" if small else "bfloat16")
  elif args.inputs == "pose2d":
    pose2d = dict(num_frames=48, persons=0, size=(56, 56), test_size=(64, 64))
    backbone = posec3d.backbone("slowonly_small" if small else "slowonly")
    if small:
      pose2d.update(num_frames=16, size=(32, 32), test_size=(36, 36), area=(0.8, 1.0))
    if args.tiny:
      pose2d.update(num_frames=4, size=(16, 16), test_size=(18, 18))
      backbone.update(stage_sizes=(1, 1, 1), width=4)
    data["pose2d"] = pose2d
    model = dict(name="posec3d", backbone=backbone, dtype="float32" if small else "bfloat16",
                 maps=dict(posec3d.FEW_CLIPS, size=pose2d["size"],
                           test_size=pose2d["test_size"]))
  else:
    data["pose"] = dict(num_poses=8 if args.tiny else 20, persons=2, rotate=15.0)
    model = dict(name="pose_network", pose=dict(name="gcn"))
    if args.tiny:
      model["pose"].update(features=8, conv_features=(8,))
  return configuration.config(
      name="own_data", seed=args.seed, data=data, batch_size=8, log_every=10, steps=(
          dict(kind="train", name="network", epochs=args.epochs, model=model,
               loss=dict(name="cross_entropy"), ema=0.995,
               optim=dict(name="adamw", learning_rate=1e-3, schedule="cosine", warmup=0.1,
                          weight_decay=0.02, clip_norm=5.0),
               init_from=(dict(source=args.init),) if args.init else ()),
          dict(kind="evaluate", name="test", views=dict(temporal=4))))
