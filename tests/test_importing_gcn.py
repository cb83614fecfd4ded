"""Graph networks of PYSKL and MMAction2: what they compute, against PyTorch's functions."""
import json
import subprocess
import sys

import jax
import numpy as np
import pytest

from actionjax import configuration, planning, recipe, skeletons
from actionjax.data.loading import graph as graph_clips
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_gcn, torch_layout
from actionjax.models import msg3d, stgcn
from actionjax.ops import graphs, skeleton_streams
from tests import raw_own, references
from tests.views import shared

pytest.importorskip("torch")
from tests import released_gcn, released_msg3d  # noqa: E402

V2, COCO = skeletons.layout("kinect_v2_25"), skeletons.layout("coco_17")
FINGERS = ("thumb", "index", "middle", "ring", "little")
HAND = {"name": "hand_21", "joints": ["wrist", *(f"{finger}_{i}" for finger in FINGERS
                                                 for i in range(4))],
        "bones": [[0 if i % 4 == 0 else i, i + 1] for i in range(20)]}


def hand_file(folder, **changes):
  """A file that describes MediaPipe's hand."""
  path = folder / "hand.json"
  path.write_text(json.dumps(HAND | changes))
  return str(path)


def pose(*shape, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def logits(found, pose, score=None):
  """What the imported network makes of a pose float[B,M,T,J,D]."""
  fields = {key: value for key, value in found.model.items() if key != "name"}
  model = {"stgcn": stgcn, "msg3d": msg3d}[found.model["name"]].Model(found.num_classes, **fields)
  batch = {f"pose{pose.shape[-1]}d": pose,
           "pose_score": np.ones(pose.shape[:-1], np.float32) if score is None else score}
  return jax.jit(lambda v, b: model.apply(v, b, train=False)[0])(found.variables, batch)


def agree(ours, theirs):
  assert np.ptp(theirs) > 0.05
  np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(1, np.abs(theirs).max()))


# --- Numbers ----------------------------------------------------------------------------------

@pytest.mark.parametrize("adaptive", ["importance", "offset", "init"])
@pytest.mark.parametrize("graph", ["layout", "random"])
def test_graphs_that_are_learnt_fixed_or_both(adaptive, graph):
  fixed = graphs.spatial_partition(COCO) if graph == "layout" else None
  state = released_gcn.state(17, subsets=4, graph=fixed, adaptive=adaptive)
  found = torch_gcn.import_gcn(state)
  assert found.model["adaptive"] == adaptive
  assert found.model["graph"] == ("partition" if graph == "layout" else "stored")
  x = pose(2, 2, 9, 17, 3)
  agree(logits(found, x[..., :2], x[..., 2]), released_gcn.forward(state, x, adaptive))
  # Each reading of the second array gives other numbers.
  if adaptive != "init":
    other = {"importance": "offset", "offset": "importance"}[adaptive]
    misread = released_gcn.forward(state, x, other)
    assert np.abs(misread - released_gcn.forward(state, x, adaptive)).max() > 0.05
    again = torch_gcn.import_gcn(state, adaptive=other)
    agree(logits(again, x[..., :2], x[..., 2]), misread)


def test_a_stored_graph_is_no_parameter():
  found = torch_gcn.import_gcn(released_gcn.state(17, adaptive="importance"))
  unit = found.variables["params"]["backbone"]["block0"]["graph_unit"]
  assert "adjacency" not in unit and "graph" not in unit
  stored = found.variables["batch_stats"]["backbone"]["block0"]["graph_unit"]["graph"]
  assert stored.shape == (3, 17, 17) and found.model["subsets"] == 3


@pytest.mark.parametrize("persons", [0, None, 2, 3])
def test_input_statistics_of_every_kind(persons):
  state = released_gcn.state(25, persons=persons, graph=graphs.spatial_partition(V2),
                             adaptive="importance")
  found = torch_gcn.import_gcn(state)
  assert found.model.get("input_norm", "joint") == {0: "none", None: "joint"}.get(persons, "person")
  x = pose(2, persons or 2, 9, 25, 3)
  agree(logits(found, x), released_gcn.forward(state, x, "importance"))


@pytest.mark.parametrize("stream", [None, ("joint", "bone"), ("bone", "joint_motion"),
                                    ("joint_motion", "bone_motion")])
def test_six_channels_are_two_streams(stream):
  state = released_gcn.state(25, channels=6, multi_scale=True, persons=2,
                             graph=graphs.spatial(V2))
  found = torch_gcn.import_gcn(state, stream=stream)
  named = stream or ("joint", "bone")
  assert found.stream == named and found.model["stream"] == tuple(
      name.removesuffix("_motion") for name in named) if named[0] == "joint_motion" else named
  x = pose(2, 2, 9, 25, 3)
  bone = np.zeros_like(x)
  for joint, parent in enumerate(skeleton_streams.bone_parents(V2)):
    bone[..., joint, :] = x[..., joint, :] - x[..., parent, :]
  motion = np.zeros_like(x)
  motion[:, :, :-1] = np.diff(x, axis=2)
  parts = {"joint": x, "bone": bone, "joint_motion": motion}
  if named == ("joint_motion", "bone_motion"):
    # The motion of consecutive frames is taken before, as `data.graph` does.
    x, named = motion, ("joint", "bone")
    parts = {"joint": motion, "bone": motion - motion[..., skeleton_streams.bone_parents(V2), :]}
  both = np.concatenate([parts[name] for name in named], -1)
  agree(logits(found, x), released_gcn.forward(state, both))


def test_a_hand_in_two_dimensions_without_scores(tmp_path):
  layout = hand_file(tmp_path)
  state = released_gcn.state(21, channels=2, multi_scale=True, widths=(12, 12, 12, 24))
  found = torch_gcn.import_gcn(state, layout=layout)
  # The description travels in the layout's name: the file is not needed any more.
  (tmp_path / "hand.json").unlink()
  assert found.model["scores"] is False and found.model["stage_sizes"] == (3, 1)
  assert skeletons.layout(found.model["layout"]).parents.tolist() == [
      0, 0, 1, 2, 3, 0, 5, 6, 7, 0, 9, 10, 11, 0, 13, 14, 15, 0, 17, 18, 19]
  x = pose(2, 1, 9, 21, 2)
  agree(logits(found, x), released_gcn.forward(state, x))
  # Nothing but coordinates is read.
  np.testing.assert_array_equal(logits(found, x), logits(found, x, pose(2, 1, 9, 21)))
  hand = skeletons.layout(found.model["layout"])
  assert graphs.centre_joint(hand) == "wrist"
  far = graphs.hops(graphs.binary(hand))[0]
  assert far.tolist() == [0, *[1, 2, 3, 4] * 5]
  inward = graphs.spatial(hand)[1]
  assert (inward[0, [1, 5, 9, 13, 17]] == 1).all() and inward.sum() == 20
  named = skeletons.layout(skeletons.find(hand_file(tmp_path, graph_centre="middle_0")))
  assert graphs.centre_joint(named) == "middle_0"


@pytest.mark.slow
@pytest.mark.parametrize("channels", [3, 6])
@pytest.mark.parametrize("graph", ["layout", "own", "untold"])
def test_ms_g3d_of_any_graph_and_channels(channels, graph):
  rng = np.random.default_rng(0)
  adjacency = np.triu(rng.random((25, 25)) < 0.1, 1) * 1.0
  network = released_msg3d.Network(graphs.binary(V2) if graph == "layout" else
                                   adjacency + adjacency.T)
  x = pose(2, 2, 8, 25, 3)
  bone = x - x[..., skeleton_streams.bone_parents(V2), :]
  expected = network(np.concatenate([x, bone], -1)[..., :channels])
  state = network.state
  if graph == "untold":  # only the graph that all others are computed from
    state = {name: value for name, value in state.items()
             if not name.endswith(".A") or name == "backbone.A"}
  found = torch_gcn.import_gcn(state)
  assert found.model.get("graph", "layout") == ("layout" if graph == "layout" else "stored")
  agree(logits(found, x), expected)


# --- What is told, and what is asked -----------------------------------------------------------

def test_numbers_that_tell_nothing_are_asked_about():
  state = released_gcn.state(17, adaptive="offset")
  for name in state:
    if name.endswith("PA"):
      state[name] = pose(*state[name].shape)
  with pytest.raises(UserError, match="say --adaptive=importance or --adaptive=offset"):
    torch_gcn.import_gcn(state)
  assert torch_gcn.import_gcn(state, adaptive="offset").model["adaptive"] == "offset"
  config = "model = dict(backbone=dict(type='STGCN', gcn_adaptive='importance'))"
  assert torch_gcn.import_gcn(state, config=config).model["adaptive"] == "importance"
  with pytest.raises(UserError, match="its own config says adaptive=importance, not offset"):
    torch_gcn.import_gcn(state, adaptive="offset", config=config)
  # As trainings begin.
  for learnt, start in (("offset", 1e-6), ("importance", 1.0)):
    new = {name: np.full_like(value, start) if name.endswith("PA") else value
           for name, value in state.items()}
    assert torch_gcn.import_gcn(new).model["adaptive"] == learnt


def test_a_config_beside_the_weights_names_the_stream():
  state = released_gcn.state(17)
  config = """
feats = ['bm']
train_pipeline = [dict(type='PreNormalize2D'), dict(type='GenSkeFeat', feats=feats)]
test_pipeline = [dict(type='GenSkeFeat', dataset='coco', feats=['bm'])]
"""
  assert torch_gcn.import_gcn(state, config=config).stream == ("bone_motion",)
  assert torch_gcn.import_gcn(state).stream is None
  assert torch_gcn.import_gcn(state, config="import os; os.abort()").stream is None
  with pytest.raises(UserError, match="reads 3 channels a joint, which are not joint and bone"):
    torch_gcn.import_gcn(state, stream=("joint", "bone"))


@pytest.mark.parametrize("name, title", [
    ("backbone.net.0.gcn1.convs.0.conv1.weight", "CTR-GCN"),
    ("backbone.gcn.0.gcn.conv_d.0.weight", "AAGCN"),
    ("module.backbone.gcn.0.gcn.pre.0.weight", "DG-STGCN"),
    ("backbone.agcn_networks.0.gcn.conv.weight", "2s-AGCN")])
def test_networks_that_are_not_there_are_named(name, title):
  state = {name: pose(4, 3, 1, 1), "backbone.A": graphs.spatial(COCO),
           "backbone.gcn.0.gcn.A": graphs.spatial(COCO)}
  with pytest.raises(UserError, match=f"x.pth is {title}, which is not implemented"):
    torch_gcn.import_gcn(state, source="x.pth")


def test_names_of_wrappers_and_of_other_versions():
  plain = released_gcn.state(17, adaptive="importance")
  expected = torch_gcn.import_gcn(plain)
  same = lambda found: jax.tree.map(np.testing.assert_array_equal, found.variables,
                                    expected.variables)
  for start in ("module.", "model.", "module.model."):
    same(torch_gcn.import_gcn({start + name: value for name, value in plain.items()}))
  scaled = torch_gcn.import_gcn(plain | {"data_preprocessor.mean": np.zeros(3)})
  same(scaled)
  assert scaled.left_out == ("data_preprocessor.mean",)
  same(torch_gcn.import_gcn({name.replace("fc_cls", "fc"): value
                             for name, value in plain.items()}))
  headless = {name: value for name, value in plain.items() if name.startswith("backbone.")}
  for state in (headless, {name.removeprefix("backbone."): v for name, v in headless.items()}):
    found = torch_gcn.import_gcn(state)
    assert found.num_classes is None and set(found.variables["params"]) == {"backbone"}
    jax.tree.map(np.testing.assert_array_equal, found.variables["params"]["backbone"],
                 expected.variables["params"]["backbone"])


def test_averaged_weights_are_taken_or_left():
  plain = released_gcn.state(17, adaptive="importance")
  learnt = [name for name in plain if not name.endswith(("running_mean", "running_var", "gcn.A"))]
  averaged = {f"ema_{name.replace('.', '_')}": plain[name] * np.float32(0.9) for name in learnt}
  both = plain | averaged
  ignored = torch_gcn.import_gcn(both)
  assert ignored.left_out == (f"ema_* ({len(averaged)} arrays)",)
  x = pose(1, 2, 9, 17, 3)
  see = lambda found: logits(found, x[..., :2], x[..., 2])
  agree(see(ignored), released_gcn.forward(plain, x, "importance"))
  chosen = plain | {name: plain[name] * np.float32(0.9) for name in learnt}
  agree(see(torch_gcn.import_gcn(both, ema=True)), released_gcn.forward(chosen, x, "importance"))
  with pytest.raises(UserError, match="holds no ema_"):
    torch_gcn.import_gcn(plain, ema=True)
  with pytest.raises(UserError, match="nothing stands beside ema_backbone_gone"):
    torch_gcn.import_gcn(both | {"ema_backbone_gone": np.zeros(2)}, ema=True)


@pytest.mark.parametrize("changes, message", [
    (dict(bones=HAND["bones"][:-1]), "bones must be a tree that grows from"),
    (dict(bones=[*HAND["bones"][:-1], [3, 4]]), "bones must be a tree"),
    (dict(bones=[*HAND["bones"][:-1], ["wrist", "toe"]]), "bones has 'toe', which is none of"),
    (dict(joints=["wrist"] * 21), "joints must be different names"),
    (dict(joint=["a"]), "unknown field 'joint'"), (dict(name="coco_17"), "of a built-in layout"),
    (dict(dimensions=4), "dimensions must be 2 or 3"), (dict(name=""), "lacks name")])
def test_layout_files_that_describe_none(tmp_path, changes, message):
  with pytest.raises(UserError, match=message):
    skeletons.find(hand_file(tmp_path, **changes))


def test_layout_files_that_are_not_there(tmp_path):
  with pytest.raises(UserError, match="none.json cannot be read"):
    skeletons.find(str(tmp_path / "none.json"))
  with pytest.raises(UserError, match="unknown joint layout 'hand'; known: .*, or the path of a"):
    skeletons.find("hand")
  with pytest.raises(UserError, match="21 joints; say which layout that is"):
    torch_gcn.import_gcn(released_gcn.state(21))


# --- Whole runs --------------------------------------------------------------------------------

def _convert(root, name, state, **options):
  (root / "file.pth").touch()
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(torch_layout, "read_torch", lambda path: state)
    return conversion.convert("torch_gcn", str(root / "file.pth"), str(root / name), **options)


def _config(root, name, **changes):
  arguments = dict(dataset="annotations:mine", network="stgcn", dimensions=2, clips=2,
                   test=root / name) | changes
  config = configuration.load(
      f"{configuration.shipped_directory()}/stgcnpp_ntu60.py:"
      + ",".join(f"{key}={value}" for key, value in arguments.items()))
  config.data_dir = str(root / "data")
  return config


@pytest.mark.slow
def test_a_hand_network_scores_a_dataset_of_hands(tmp_path):
  """Dataset and checkpoint carry the layout: its file is gone when they are used."""
  content = raw_own.annotations(8, shape=(1, 20, 21))
  for number, one in enumerate(content["annotations"]):
    one["label"] = number % 5
  layout = hand_file(tmp_path)
  subprocess.run(
      [sys.executable, "-m", "actionjax.prepare", "--dataset=annotations", "--name=mine",
       f"--raw_dir={raw_own.dump(tmp_path / 'a.pkl', content)}", f"--data_dir={tmp_path / 'data'}",
       f"--layout={layout}", "--workers=1"], check=True, capture_output=True)
  state = released_gcn.state(21, channels=2, multi_scale=True, adaptive="offset")
  assert "hand_21" in _convert(tmp_path, "hand", state, layout=layout)["network"]["layout"]
  (tmp_path / "hand.json").unlink()
  config = _config(tmp_path, "hand", network="stgcnpp")
  config.data.graph.box = True
  config.data.graph.threshold = 0.0
  # The network's fields that the config does not name are the file's.
  metrics = recipe.run(config, tmp_path / "run")["test"]
  assert metrics["clips"] == 2
  scores = np.load(tmp_path / "run" / "01_test" / "scores.npz")
  for clip, found in zip(scores["clip_ids"], scores["probabilities"]):
    raw = next(one for one in content["annotations"] if one["frame_dir"] == clip)
    points = raw["keypoint"].astype(np.float64)
    low, high = points.min((0, 1, 2)), points.max((0, 1, 2))
    whole = (points - (low + high) / 2) / ((high - low) / 2)
    x = np.zeros((2, 2, 100, 21, 2))
    x[:, 0] = np.stack([whole[0, (np.arange(100) + start) % 20] for start in (0, 10)])
    answer = released_gcn.forward(state, x, "offset")
    share = np.exp(answer) / np.exp(answer).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, share.mean(0), atol=1e-4)
  # Another process reads the run, from its own description.
  code = ("import sys, numpy, actionjax; model = actionjax.load(sys.argv[1]); "
          "print(model.layout.name, model.model.scores)")
  done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True,
                        capture_output=True, text=True)
  assert done.stdout.split() == ["hand_21", "False"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a prepared file of COCO's skeletons of five classes."""
  root = tmp_path_factory.mktemp("gcn")
  content = raw_own.annotations(8)
  for number, one in enumerate(content["annotations"]):
    one["label"] = number % 5
    one["keypoint"][1, 2:] = one["keypoint_score"][1, 2:] = 0
  raw_own.prepare("annotations:mine", raw_own.dump(root / "a.pkl", content), root / "data")
  return root


def test_other_streams_than_the_file_s_are_refused(place):
  state = released_gcn.state(17)
  assert _convert(place, "bm", state, stream=["bone_motion"])["stream"] == ("bone_motion",)
  with pytest.raises(UserError, match="bm reads the stream bone_motion, but .* gives it joint;"):
    planning.plan(_config(place, "bm"))
  with pytest.raises(UserError, match="gives it bone; give stream=bone_motion"):
    planning.plan(_config(place, "bm", stream="bone"))
  assert planning.plan(_config(place, "bm", stream="bone_motion"))
  six = released_gcn.state(17, channels=6)
  assert _convert(place, "six", six)["stream"] == ("joint", "bone")
  with pytest.raises(UserError, match="six holds a network with stream .*joint.*bone|reads the"):
    planning.plan(_config(place, "six"))
  planned = planning.plan(_config(place, "six", stream="joint:bone"))
  assert next(iter(planned.flatten())).outline.model.module.stream == ("joint", "bone")


@pytest.mark.slow
def test_mmaction2_before_version_1_gets_its_own_clips(place, tmp_path):
  """300 frames from the start, over and over, of skeletons that only PoseNormalize changed."""
  state = references.torch_stgcn(original=True)
  state["cls_head.fc.weight"], state["cls_head.fc.bias"] = (
      1e-2 * state["cls_head.fc.weight"][:5], state["cls_head.fc.bias"][:5])
  assert _convert(place, "older", state)["pipeline"] == "mmaction0"
  for released in ("pyskl", "mmaction2"):
    with pytest.raises(UserError, match="before its version 1, .*released=mmaction0"):
      planning.plan(_config(place, "older", released=released))
  recipe.run(_config(place, "older", released="mmaction0"), tmp_path / "run")
  scores = np.load(tmp_path / "run" / "01_test" / "scores.npz")
  found = torch_gcn.import_gcn(state)
  content = raw_own.annotations(8)["annotations"]
  for clip, share in zip(scores["clip_ids"], scores["probabilities"]):
    raw = next(one for one in content if one["frame_dir"] == clip)
    points = np.concatenate([raw["keypoint"], raw["keypoint_score"][..., None]], -1).astype(float)
    points[1, 2:] = 0
    points = points[:, np.arange(300) % 5]
    x = (points - [960, 540, 0.5]) / [1920, 1080, 1]
    answer = np.asarray(logits(found, x[None, ..., :2].astype(np.float32),
                               x[None, ..., 2].astype(np.float32)))[0]
    np.testing.assert_allclose(share, np.exp(answer) / np.exp(answer).sum(), atol=1e-4)
  assert np.ptp(scores["probabilities"]) > 0.05


def test_mmaction2_leaves_missing_joints_where_they_are():
  """(0, 0) becomes (-1, -1) for MMAction2, for a person who is absent in places too, and 0 for
  PYSKL."""
  points = np.random.default_rng(0).uniform(10, 300, (2, 8, 17, 2)).astype(np.float32)
  score = np.ones((2, 8, 17), np.float32)
  points[1, 3:], score[1, 3:] = 0, 0
  record = {"pose2d": points, "pose_score": score, "image_size": np.array((240, 320)),
            "clip_id": "x", "label": 0}
  made = {}
  for released in ("pyskl", "mmaction2"):
    config = graph_clips.Config(num_frames=8, persons=3, dimensions=2, frames=released)
    clip = graph_clips.normalised(config, record, COCO)
    made[released] = graph_clips.apply(config, record, shared(COCO)[0], (clip, np.arange(8)))
  half = np.array([160, 120])
  np.testing.assert_allclose(made["mmaction2"]["pose2d"][:2], (points - half) / half, atol=1e-6)
  assert (made["mmaction2"]["pose2d"][1, 3:] == -1).all()
  assert not made["mmaction2"]["pose2d"][2].any()  # a person that is not stored
  assert not made["pyskl"]["pose2d"][1, 3:].any()
  np.testing.assert_array_equal(made["pyskl"]["pose_score"], made["mmaction2"]["pose_score"])
  later = graph_clips.Config(num_frames=8, dimensions=2, frames="mmaction2", threshold=0.0)
  assert not graph_clips.normalised(later, record, COCO).points[1, 3:].any()
