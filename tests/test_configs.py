"""Every shipped config, with its arguments, is planned and its models are shape-evaluated."""
import shutil

import numpy as np
import pytest

from actionjax import configuration, planning, skeletons
from actionjax.errors import UserError
from actionjax.steps import adopt, train
from actionjax.training import checkpoint
from tests import raw_own

# What each docstring documents; a new config must be listed here.
HAC = ("depth=18", "depth=101,leak=true", "scopes=none,uncropped=false,warm_start=true",
       "norm=rms", "levels=3:10:30", "levels=60:60:60", "weights=1:1/2:1/4:1/8",
       "levels=none:6:20,weights=none:1/4:1/2:1", "fraction=0.05")
ARGUMENTS = {
    "hac_ntu60": ("", "protocol=cross_view", *HAC),
    "hac_ntu120": ("", "protocol=cross_setup"),
    "hac_nucla": ("", "protocol=view_1", "protocol=view_2"),
    "hac_utd_mhad": ("", "cpu", "cpu,scopes=by_layers", "depth=34", "seed=1"),
    "own_data": ("", "inputs=pose", "inputs=pose2d", "cpu", "cpu,inputs=pose2d", "tiny",
                 "tiny,inputs=pose", "tiny,inputs=pose2d"),
    "posec3d_gym": ("", "kind=limb", "frames=32,sampling=strided,stride=2"),
    "posec3d_k400": ("",),
    "posec3d_ntu120": ("", "dataset=ntu120,protocol=cross_setup"),
    "posec3d_ntu60": ("", "kind=joint+limb", "network=c3d,kind=limb", "network=x3d,clips=1",
                      "batch=64,epochs=24", "frames=32,crop=false", "sampling=strided,stride=4",
                      "test=FOLDER,kind=limb",
                      "test=FOLDER,kind=limb,released=mmaction2",
                      "dataset=ntu60,protocol=cross_view"),
    "posec3d_utd_mhad": ("", "cpu", "cpu,kind=both,clips=10", "cpu,source=pose2d", "network=c3d",
                         "seed=1,epochs=2"),
    "posec3d_volleyball": ("",),
    "quickstart": ("", "tiny", "pose=none", "tiny,pose=none"),
    "rgbpose_gym": ("dataset=ntu60,protocol=cross_subject",),
    "rgbpose_ntu120": ("protocol=cross_setup",),
    "rgbpose_ntu60": ("", "frames=16,poses=48,laterals=pose_to_rgb", "rgb=FOLDER,gpus=1.0",
                      "test=FOLDER", "test=FOLDER,network=pose", "test=FOLDER,network=rgb",
                      "test=FOLDER,released=mmaction2,network=rgb"),
    "stgcnpp_utd_mhad": ("", "cpu", "cpu,stream=bone_motion", "variant=stgcn",
                          "cpu,drop=0.25", "seed=1", "variant=msg3d", "cpu,variant=msg3d"),
    "stgcnpp_nucla": ("", "protocol=view_1,stream=bone_motion", "variant=msg3d"),
    "stgcnpp_ntu120": ("dataset=annotations:ntu120,dimensions=2,network=stgcn",
                       "dataset=ntu120,protocol=cross_setup"),
    "stgcnpp_ntu60": ("dataset=ntu60,protocol=cross_subject",
                      "dataset=annotations:ntu60,dimensions=2,stream=joint+bone_motion",
                      "dataset=annotations:ntu60,dimensions=2,drop=0.25,batch=64,network=msg3d",
                      "dataset=annotations:ntu60,dimensions=2,test=FOLDER,stream=bone_motion",
                      "dataset=annotations:ntu60,dimensions=2,stream=joint:bone+joint_motion",
                      "dataset=annotations:ntu60,dimensions=2,released=mmaction0,network=stgcn"),
    "vpn_ntu60": ("protocol=cross_view", "pose=lstm"),
    "vpn_nucla": ("", "protocol=view_1,released"),
    "vpn_smarthome": ("", "protocol=cross_view_2,pose=lstm"),
    "vpn_ntu120": ("", "protocol=cross_setup", "pairs=all,shared=true",
                   "embedding_loss=kl_both", "attention=spatial", "attention=temporal",
                   "attention=none,embedding=none", "pose=lstm", "pose=none", "coupler=false",
                   "released"),
    "vpn_utd_mhad": ("", "cpu", "cpu,pose=lstm", "cpu,pose=none", "cpu,pose_first=false",
                     "cpu,backbone_first=true", "cpu,pose=none,backbone=i3d,epochs=20",
                     "cpu,attention=spatial", "cpu,attention=temporal", "cpu,attention=none",
                     "cpu,embedding=none", "cpu,coupler=false",
                     "cpu,pairs=all,embedding_loss=kl_pose_visual", "seed=1"),
}


@pytest.mark.parametrize("name, argument, message", [
    ("posec3d_utd_mhad", "source=3d", "source=3d is neither pose3d nor pose2d"),
    ("posec3d_ntu60", "network=gcn", "network must be one of slowonly, slowonly_346,"),
    ("posec3d_ntu60", "test=FOLDER,kind=joint+limb", "test=FOLDER is one network: give kind="),
    ("hac_ntu60", "levels=2:6", "levels must be 3 numbers above 0, or none, with colons between"),
    ("hac_ntu60", "weights=1:2:x:1", "weights must be 4 numbers above 0, or none"),
    ("hac_ntu60", "weights=1:2:0:1", "weights must be 4 numbers above 0, or none"),
    ("hac_nucla", "weights=1:1:1:1", "weights=1:1:1:1 must be none where there is no level"),
    ("hac_ntu60", "scopes=all", "scopes must be one of both, altogether, by_layers, none"),
    ("posec3d_ntu60", "released=open", "released must be one of pyskl, mmaction2, got open"),
    ("stgcnpp_ntu60", "network=gcn", "network must be one of stgcnpp, stgcn, msg3d, got gcn"),
    ("stgcnpp_ntu60", "stream=joint+bones", "stream must be one of joint, bone,"),
    ("stgcnpp_ntu60", "test=FOLDER,stream=joint+bone", "test=FOLDER is one network"),
    ("stgcnpp_ntu60", "test=FOLDER,drop=0.5", "test=FOLDER trains nothing: leave out drop"),
    ("posec3d_ntu60", "test=FOLDER,epochs=2,batch=8", "trains nothing: leave out batch, epochs"),
    ("rgbpose_ntu60", "test=FOLDER,gpus=1", "trains nothing: leave out gpus"),
    ("rgbpose_ntu60", "test=FOLDER,network=rgb,laterals=none", "laterals=none is for network=rgb"),
    ("rgbpose_ntu60", "gpus=0", "gpus=0 and epochs=1 must be above 0"),
    ("stgcnpp_ntu60", "stream=joint+joint", "names a stream twice"),
    ("rgbpose_ntu60", "network=pose", "network=pose says what test=DIR holds"),
    ("posec3d_ntu60", "weights=2:1", "weights=2:1 is for kind=joint.limb"),
    ("posec3d_ntu60", "kind=joint+limb,weights=2", "weights=2 must be two numbers from 0 on"),
    ("posec3d_ntu60", "kind=joint+limb,weights=0:0", "weights=0:0 must be two numbers"),
    ("posec3d_ntu60", "kind=joint+limb,weights=-1:2", "weights=-1:2 must be two numbers"),
    ("rgbpose_ntu60", "released=all", "released must be one of pyskl, mmaction2, got all"),
    ("stgcnpp_ntu60", "released=all", "released must be one of pyskl, mmaction2, mmaction0"),
    ("stgcnpp_ntu60", "stream=joint:bone_motion", "joins coordinates and motion"),
    ("rgbpose_ntu60", "laterals=all", "laterals must be one of both, rgb_to_pose, pose_to_rgb")])
def test_mistakes_in_arguments_are_named_at_once(name, argument, message):
  with pytest.raises(UserError, match=message):
    configuration.load(f"{configuration.shipped_directory()}/{name}.py:{argument}")


def test_the_released_test_pipelines():
  load = lambda argument: configuration.load(
      f"{configuration.shipped_directory()}/posec3d_ntu60.py:test=FOLDER,{argument}")
  theirs, others = load("kind=limb"), load("kind=limb,released=mmaction2")
  clip = dict(num_frames=48, persons=0, size=(56, 56), test_size=(64, 64), sampling="uniform",
              stride=1, compact=True)
  assert dict(theirs.data.pose2d) == clip
  assert dict(others.data.pose2d) == clip | {"frames": "mmaction2", "test_resize": "center"}
  # All limb models of both projects have PYSKL's order, which is the layout's.
  for config in (theirs, others):
    assert "limbs" not in config.steps[0].model.maps
  assert skeletons.layout("coco_17").limbs.tolist() == [
      [0, 5], [0, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [11, 13], [13, 15], [6, 12],
      [12, 14], [14, 16], [0, 1], [0, 2], [1, 3], [2, 4], [11, 12]]


def test_released_clips_of_rgbpose_and_of_graph_networks():
  load = lambda argument: configuration.load(f"{configuration.shipped_directory()}/{argument}")
  for name in ("rgbpose_ntu60", "rgbpose_ntu120", "rgbpose_gym"):
    plain, others = load(f"{name}.py"), load(f"{name}.py:test=DIR,released=mmaction2")
    # MMAction2, too, scales the whole box for these; the video's frames follow.
    assert dict(others.data.pose2d) == dict(plain.data.pose2d) | {"frames": "mmaction2"}
    assert others.data.video == plain.data.video
  older = load("stgcnpp_ntu60.py:test=DIR,network=stgcn,released=mmaction0,dimensions=2")
  assert dict(older.data.graph) == dict(num_frames=300, persons=2, dimensions=2,
                                        frames="mmaction0", box=False)
  assert older.steps[1].views.temporal == 1


def test_weights_of_joints_and_limbs():
  load = lambda argument: configuration.to_dict(configuration.load(
      f"{configuration.shipped_directory()}/posec3d_gym.py:kind=joint+limb{argument}"))
  sources = lambda argument: load(argument)["steps"][-1]["sources"]
  assert sources("") == (dict(scores="joint_test", weight=1.0), dict(scores="limb_test",
                                                                     weight=1.0))
  assert [source["weight"] for source in sources(",weights=2:0.5")] == [2.0, 0.5]


def test_every_config_is_listed():
  shipped = {p.stem for p in configuration.shipped_directory().glob("*.py")} - {"__init__"}
  assert shipped == set(ARGUMENTS)


@pytest.fixture(scope="module")
def annotated(tmp_path_factory):
  """A data_dir in which the annotation files that configs name are prepared, all alike, and beside
  them a folder of converted weights that say nothing of their network, `converted`."""
  root = tmp_path_factory.mktemp("annotated")
  content = raw_own.annotations(8)
  content["split"] |= {name.removeprefix("xsub_"): ids for name, ids in content["split"].items()}
  raw_own.prepare("annotations:ntu60", raw_own.dump(root / "a.pkl", content), root)
  for name in ("ntu120", "gym", "k400"):
    shutil.copytree(root / "annotations" / "ntu60", root / "annotations" / name)
  checkpoint.save_model(root / "converted", {"params": {"x": np.zeros(3, np.float32)}},
                        {"format": 1, "source": "generated"})
  return str(root)


# Networks of hundreds of operations, each traced for seconds.
LARGE = ("rgbpose", "hac", "vpn_ntu120")


@pytest.mark.parametrize("name, argument", [
    pytest.param(name, argument,
                 marks=pytest.mark.slow if number or name.startswith(LARGE) else ())
    for name, arguments in ARGUMENTS.items() for number, argument in enumerate(arguments)])
def test_config_is_built_and_shape_evaluated(name, argument, annotated):
  argument = argument.replace("FOLDER", f"{annotated}/converted")
  config = configuration.load(f"configs/{name}.py:{argument}")
  config.data_dir = annotated
  planned = planning.plan(config, lenient=True)
  assert config.name == name and planned
  trainings = [step for step in planned.flatten() if step.module in (train, adopt)]
  assert trainings
  for step in trainings:
    # The plan has traced it, at test and in training, and found [batch size, classes] logits.
    model = step.outline.model
    assert model.module.num_classes == len(model.data.source.class_names)
    assert model.variables["params"]
