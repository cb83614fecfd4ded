"""Skeletons as the released graph networks read them: against plain loops, and through a recipe."""
import math

import jax.numpy as jnp
import numpy as np
import pytest

import actionjax
from actionjax import configuration, recipe, skeletons
from actionjax.data import catalogue
from actionjax.data.loading import graph, pipeline, pose_sampling
from actionjax.data.loading.config import DataConfig, batch_spec, parse_data
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_layout
from actionjax.models import stgcn
from actionjax.ops import skeleton_streams
from actionjax.steps import train
from tests import raw_own, references
from tests.views import shared

KINECT, COCO = skeletons.layout("kinect_v2_25"), skeletons.layout("coco_17")
GRAPH_3D = graph.Config(num_frames=6)
GRAPH_2D = graph.Config(num_frames=6, dimensions=2)


def _record(points, score=None, **fields):
  points = np.asarray(points, np.float32)
  width = points.shape[-1]
  score = (points != 0).any(-1) if score is None else score
  return {"clip_id": "x", "label": 0, "frames": [], "image_size": np.array((1080, 1920)),
          f"pose{width}d": points, "pose_score": np.asarray(score, np.float32), **fields}


def _bodies(persons=2, frames=9, layout=KINECT, width=3, seed=0):
  return np.random.default_rng(seed).normal(1, 2, (persons, frames, layout.num_joints, width))


def _applied(config, choice, layout, **fields):
  row = graph.apply(config, {}, shared(layout, **fields)[0], choice)
  return row[config.source], row["pose_score"]


def _turned(vector, start, goal):
  """`vector` turned by the angle from `start` to `goal`, about what is square to both
  (Rodrigues' formula)."""
  axis = np.cross(start, goal) / np.linalg.norm(np.cross(start, goal))
  angle = math.acos(start @ goal / np.linalg.norm(start) / np.linalg.norm(goal))
  return (vector * math.cos(angle) + np.cross(axis, vector) * math.sin(angle)
          + axis * (axis @ vector) * (1 - math.cos(angle)))


def _released(points):
  """A person [T,25,3] that is always there, joint by joint, with the numbers of NTU's joints."""
  moved = points - points[0, 1]
  goal = moved[0, 1] - moved[0, 0]
  moved = np.array([[_turned(joint, goal, np.array([0, 0, 1])) for joint in frame]
                    for frame in moved])
  across = moved[0, 8] - moved[0, 4]
  return np.array([[_turned(joint, across, np.array([1, 0, 0])) for joint in frame]
                   for frame in moved])


def test_3d_skeletons_are_moved_and_turned_once_for_the_whole_clip():
  points = _bodies(1)
  found = graph.normalised(GRAPH_3D, _record(points), KINECT)
  np.testing.assert_allclose(found.points[0], _released(points[0]), atol=1e-5)
  on_device = skeleton_streams.upright(*(jnp.asarray(x, jnp.float32) for x in (
      points[None], np.ones((1, *points.shape[:3])))), KINECT)
  np.testing.assert_allclose(found.points, on_device[0], atol=1e-5)


def test_the_person_seen_longer_comes_first_and_its_gaps_go():
  points = _bodies(2)
  points[0, 3:] = 0
  points[1, [0, 5]] = 0
  found = graph.normalised(GRAPH_3D, _record(points), KINECT)
  kept = [1, 2, 3, 4, 6, 7, 8]
  assert found.num_frames == len(kept)
  np.testing.assert_allclose(found.points[0], _released(points[1, kept]), atol=1e-5)
  # The other one moves with it, and is absent where it was.
  assert not found.points[1, 2:].any() and not found.score[1, 2:].any() and found.score[1, :2].all()
  between = np.linalg.norm(points[0, 1] - points[1, 1], axis=-1)
  np.testing.assert_allclose(np.linalg.norm(found.points[1, 0] - found.points[0, 0], axis=-1),
                             between, rtol=1e-4)


def test_bodies_without_a_direction_or_of_nobody_stay():
  points = _bodies(1)
  points[0, 0, 0] = points[0, 0, 1] - [0, 0, 2]  # already upright
  points[0, 0, 4] = 0  # no left shoulder
  found = graph.normalised(GRAPH_3D, _record(points), KINECT).points[0]
  np.testing.assert_allclose(found[1], points[0, 1] - points[0, 0, 1], atol=1e-5)
  nobody = graph.normalised(GRAPH_3D, _record(np.zeros((1, 4, 25, 3))), KINECT)
  assert nobody.num_frames == 4 and not nobody.points.any()
  with pytest.raises(UserError, match="lcrnet_13 has no"):
    graph.normalised(GRAPH_3D, _record(np.ones((1, 4, 13, 3))), skeletons.layout("lcrnet_13"))
  with pytest.raises(UserError, match="20 joints; kinect_v2_25 has 25"):
    graph.normalised(GRAPH_3D, _record(np.ones((1, 4, 20, 3))), KINECT)
  with pytest.raises(UserError, match="no 2D skeletons"):
    graph.normalised(GRAPH_2D, _record(np.ones((0, 0, 17, 2))), COCO)


@pytest.mark.parametrize("dimensions, layout", [(2, COCO), (3, KINECT)])
@pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((1, 1), np.nan), np.ones((2, 1))])
def test_nobody_no_numbers_and_a_single_frame(dimensions, layout, points):
  config = graph.Config(num_frames=6, dimensions=dimensions, motion=True)
  shape = (*points.shape, layout.num_joints, dimensions)
  record = _record(np.broadcast_to(points[..., None, None], shape), np.ones(shape[:3]))
  clip = graph.normalised(config, record, layout)
  frames = graph.views(config, record, shared(layout, 2))[1][1]
  found, score = _applied(config, (clip, frames), layout)
  assert found.shape == (2, 6, layout.num_joints, dimensions)
  assert not found.any() and np.isfinite(score).all()


def test_2d_skeletons_are_shares_of_the_half_image():
  score = np.ones((1, 2, 17))
  score[0, 0, 3] = 0.005
  points = np.broadcast_to([480.0, 810.0], (1, 2, 17, 2))
  record = _record(points, score)
  found = graph.normalised(GRAPH_2D, record, COCO)
  np.testing.assert_allclose(found.points[0, 0, 0], [-0.5, 0.5])
  np.testing.assert_array_equal(found.points[0, 0, 3], 0)
  np.testing.assert_allclose(found.score, score)
  other = graph.Config(num_frames=6, dimensions=2, frames="mmaction2")
  np.testing.assert_allclose(graph.normalised(other, record, COCO).points[0, 0, 3], [-0.5, 0.5])


@pytest.mark.parametrize("dimensions, layout", [(2, COCO), (3, KINECT)])
def test_motion_is_of_consecutive_frames(dimensions, layout):
  points = _bodies(2, 40, layout, dimensions) * 100
  score = np.random.default_rng(1).uniform(0.1, 1, points.shape[:3]) if dimensions == 2 else None
  record = _record(points, score)
  config = {motion: graph.Config(num_frames=6, dimensions=dimensions, motion=motion)
            for motion in (False, True)}
  still, moving = (graph.normalised(config[motion], record, layout) for motion in (False, True))
  frames = graph.views(config[True], record, shared(layout))[0][1]
  assert np.diff(frames).min() > 1
  found, means = _applied(config[True], (moving, frames), layout)
  for place, frame in enumerate(frames):
    following = still.points[:, min(frame + 1, 39)]
    np.testing.assert_allclose(found[:, place], following - still.points[:, frame], atol=1e-3)
    if dimensions == 2:
      np.testing.assert_allclose(means[:, place], score[:, frame:frame + 2].mean(1), atol=1e-6)
  # What a network makes of it: the bones' motion, as of the whole clip.
  scored = dimensions == 2
  whole, part = (np.concatenate([x, s[..., None]], -1) if scored else x
                 for x, s in (still, (found, means)))
  expected = skeleton_streams.stream(jnp.asarray(whole), "bone_motion", layout, scored=scored)
  bones = skeleton_streams.stream(jnp.asarray(part), "bone", layout, scored=scored)
  np.testing.assert_allclose(bones, expected[:, frames], atol=1e-3)
  last = _applied(config[True], (moving, np.array([39] * 6)), layout)
  assert not last[0].any() and (last[1].any() == (not scored))


def test_frames_are_those_of_the_released_code():
  choices = graph.views(GRAPH_3D, _record(_bodies(1, 50)), shared(KINECT, 3))
  np.testing.assert_array_equal(
      [frames for _, frames in choices], pose_sampling.evaluation_frames(50, 6, 3, extra_draw=True))
  points, score = _applied(GRAPH_3D, choices[1], KINECT)
  assert points.shape == (2, 6, 25, 3) and not points[1].any() and not score[1].any()
  mirrored, _ = _applied(GRAPH_3D, choices[1], KINECT, mirror=True)
  left, right = KINECT.index("left_elbow"), KINECT.index("right_elbow")
  np.testing.assert_array_equal(mirrored[0, :, left], points[0, :, right] * [-1, 1, 1])


def test_an_unknown_image_size_is_the_released_one():
  points = np.broadcast_to([480.0, 810.0], (1, 2, 17, 2))
  record = _record(points, image_size=np.zeros(2, int))
  record["pose2d"] = np.where(np.arange(17)[:, None] == 3, np.nan, points)
  found = graph.normalised(GRAPH_2D, record, COCO)
  np.testing.assert_allclose(found.points[0, 0, 0], [-0.5, 0.5])
  assert not found.score[0, :, 3].any()


@pytest.mark.parametrize("layout", [KINECT, skeletons.layout("lcrnet_13")])
def test_mmaction2_before_version_1_reads_the_start_over_and_over(layout):
  """Raw coordinates: nobody is moved, turned or put first, and no layout needs a spine for it."""
  points = _bodies(3, 4, layout)
  points[0, 1:] = 0
  config = graph.Config(num_frames=10, frames="mmaction0")
  record = _record(points)
  looped = points[:2][:, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1]]
  for choice in (*graph.views(config, record, shared(layout, 2)),
                 graph.draw(config, record, shared(layout)[0], np.random.default_rng(0))):
    found, score = _applied(config, choice, layout)
    np.testing.assert_allclose(found, looped, rtol=1e-6)
    np.testing.assert_array_equal(score, (looped != 0).any(-1))


def test_shares_of_the_box_around_a_clip():
  points = np.random.default_rng(0).uniform(100, 300, (2, 9, 17, 2))
  score = np.ones((2, 9, 17))
  points[1, 4], score[1, 4] = 0, 0
  config = graph.Config(num_frames=6, dimensions=2, box=True)
  found = graph.normalised(config, _record(points, score), COCO)
  there = points[score > 0]
  low, high = there.min(0), there.max(0)
  expected = np.where(score[..., None] > 0, 2 * (points - low) / (high - low) - 1, 0)
  np.testing.assert_allclose(found.points, expected, atol=1e-5)
  small = np.where(score[..., None] > 0, points / 100, 0)
  for pixels, marks in ((small, score), (small, np.zeros_like(score))):
    found = graph.normalised(config, _record(pixels, marks), COCO)
    np.testing.assert_allclose(found.points, pixels * marks[..., None], rtol=1e-6)


def test_mistakes_are_named():
  for fields, message in ((dict(dimensions=4), "dimensions must be one of 2, 3, got 4"),
                          (dict(frames="all"), "must be one of pyskl, mmaction2, mmaction0, got"),
                          (dict(frames="mmaction0", motion=True), "goes with neither motion nor"),
                          (dict(persons=0), "persons must be at least 1"),
                          (dict(image_size=(0, 5)), "must be .height, width.")):
    with pytest.raises(ValueError, match=message):
      graph.Config(**fields)
  data = dict(dataset="synthetic_actions", protocol="cross_subject", graph={})
  parse = lambda name="stgcn", drop=0.0, given=None, **model: train.parse(train.Config(
      name="x", data=given or data, batch_size=2, num_steps=1, drop_joints=drop,
      model=dict(name=name, **model)), "x")
  moving = data | dict(graph=dict(motion=True))
  with pytest.raises(UserError, match="x.drop_joints: data.graph.motion is taken before joints"):
    parse(normalise="none", drop=0.5, given=moving)
  assert parse(normalise="none", given=moving).data.motion
  with pytest.raises(UserError, match="the model draws them in pixels; give data.pose2d"):
    parse("posec3d", given=dict(dataset="utd_mhad", protocol="cross_subject",
                                graph=dict(dimensions=2)))
  with pytest.raises(UserError, match="lcrnet_13 has no"):
    parse(normalise="none", given=dict(dataset="smarthome", protocol="cross_subject", graph={}))
  with pytest.raises(UserError, match="x.model.normalise must be none"):
    parse(normalise="upright")
  with pytest.raises(UserError, match="data.graph.motion=True and stream=bone"):
    parse(normalise="none", stream="bone_motion")
  with pytest.raises(UserError, match="data: graph and pose cannot both be given"):
    parse_data(data | dict(pose=dict(num_poses=3)), "data")


# ---- a converted checkpoint ----------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a prepared annotation file, `data`, and a converted ST-GCN, `converted`."""
  root = tmp_path_factory.mktemp("graph")
  content = raw_own.annotations(12)
  for number, one in enumerate(content["annotations"]):
    one["label"] = number % 6
  raw_own.prepare("annotations:mine", raw_own.dump(root / "a.pkl", content), root / "data")
  (root / "file.pth").touch()
  with pytest.MonkeyPatch.context() as patch:
    state = references.torch_stgcn()
    state["cls_head.fc_cls.weight"] *= 1e-3  # far from certain of a class
    patch.setattr(torch_layout, "read_torch", lambda path: state)
    conversion.convert("torch_gcn", str(root / "file.pth"), str(root / "converted"))
  return root


def test_3d_skeletons_that_are_not_there(place):
  config = DataConfig(dataset="annotations:mine", protocol="xsub", inputs={"graph": GRAPH_3D},
                      about=catalogue.facts("annotations:mine", str(place / "data")))
  with pytest.raises(UserError, match="mine has pose2d, and the config's data.graph reads pose3d"):
    batch_spec(config, 2)


def test_a_converted_checkpoint_scores_an_annotation_file(place, tmp_path):
  """Through the shipped recipe, and computed clip by clip from the stored skeletons."""
  config = configuration.load(
      f"{configuration.shipped_directory()}/stgcnpp_ntu60.py:dataset=annotations:mine,"
      f"network=stgcn,stream=joint_motion,dimensions=2,clips=3,test={place / 'converted'}")
  config.data_dir = str(place / "data")
  config.data.graph.num_frames = 8
  metrics = recipe.run(config, tmp_path / "run")["test"]
  assert metrics["clips"] == 3 and metrics["views"]["temporal"] == 3
  scores = np.load(tmp_path / "run" / "01_test" / "scores.npz")
  model = actionjax.load(tmp_path / "run")
  network = stgcn.Model(6, "coco_17", variant="stgcn", width=8, stage_sizes=(2, 1),
                        normalise="none")
  about = catalogue.facts("annotations:mine", str(place / "data"))
  clips = pipeline.open_split(DataConfig(
      dataset="annotations:mine", protocol="xsub", about=about), str(place / "data"), "test")
  for number, found in enumerate(scores["probabilities"]):
    record = clips[number][1]
    height, width = record["image_size"]
    there = record["pose_score"][..., None] > 0.01
    half = np.array([width / 2, height / 2])
    whole = np.concatenate([np.where(there, record["pose2d"] / half - 1, 0),
                            record["pose_score"][..., None]], -1)
    motion = np.zeros((2, *whole.shape[1:]))
    persons = min(2, len(whole))
    motion[:persons, :-1] = np.concatenate(
        [np.diff(whole[..., :2], axis=1), (whole[:, 1:, :, 2:] + whole[:, :-1, :, 2:]) / 2],
        -1)[:persons]
    picks = pose_sampling.evaluation_frames(whole.shape[1], 8, 3, extra_draw=True)
    batch = np.stack([motion[:, pick] for pick in picks]).astype(np.float32)
    logits, _ = network.apply(model.variables, {"pose2d": batch[..., :2],
                                                "pose_score": batch[..., 2]}, train=False)
    exponent = np.exp(logits - np.max(logits, -1, keepdims=True))
    expected = exponent / exponent.sum(-1, keepdims=True)
    np.testing.assert_allclose(found, expected.mean(0), atol=1e-5)
    arrays = {key: record[key] for key in ("pose2d", "pose_score", "image_size")}
    np.testing.assert_allclose(model(arrays), expected.mean(0), atol=1e-5)
  assert np.ptp(scores["probabilities"], 0).max() > 1e-3
