"""Joint layouts: what every one of them must satisfy, and conversion between them."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.ops import graphs, skeleton_frames

LAYOUTS = sorted(skeletons.LAYOUTS)


@pytest.mark.parametrize("name", LAYOUTS)
def test_bones_form_a_tree_rooted_at_the_root(name):
  layout = skeletons.layout(name)
  assert layout.name == name and len(set(layout.joints)) == layout.num_joints
  assert layout.edges.shape == (layout.num_joints - 1, 2)
  children = layout.edges[:, 1]
  root = layout.index(layout.root)
  assert sorted([root, *children]) == list(range(layout.num_joints))  # one parent each
  for joint in range(layout.num_joints):
    seen = set()
    while joint != root:  # every joint leads to the root, without a circle
      assert joint not in seen
      seen.add(joint)
      joint = layout.parents[joint]
  assert layout.parents[root] == root


@pytest.mark.parametrize("name", LAYOUTS)
def test_mirror_is_an_involution_that_keeps_bones(name):
  layout = skeletons.layout(name)
  mirror = layout.mirror
  np.testing.assert_array_equal(mirror[mirror], np.arange(layout.num_joints))
  for joint, other in zip(layout.joints, mirror):
    moved = layout.joints[other]
    assert (joint == moved) == (not joint.startswith(("left_", "right_")))
    assert moved.removeprefix("left_").removeprefix("right_") == (
        joint.removeprefix("left_").removeprefix("right_"))
  bones = {tuple(edge) for edge in layout.edges}
  assert {tuple(mirror[list(edge)]) for edge in layout.edges} == bones


@pytest.mark.parametrize("name", LAYOUTS)
def test_parts_are_disjoint_and_cover_the_body(name):
  layout = skeletons.layout(name)
  parts = {part: layout.part(part) for part in skeletons.PARTS}
  joined = np.concatenate(list(parts.values()))
  assert sorted(joined) == list(range(layout.num_joints))
  for limb in ("arm", "leg"):
    np.testing.assert_array_equal(
        sorted(layout.mirror[parts[f"left_{limb}"]]), parts[f"right_{limb}"])
  assert all(list(indices) == sorted(indices) for indices in parts.values())


# What the sensors have along the body's axis: (centre, (lower, upper) of the spine).
AXES = {"kinect_v1_20": ("spine", ("hip_centre", "spine")),
        "kinect_v2_25": ("spine", ("hip_centre", "spine")),
        "cad_15": ("spine", ("spine", "neck")), "jhmdb_15": ("spine", ("spine", "neck"))}


@pytest.mark.parametrize("name", LAYOUTS)
def test_reference_joints_exist_or_are_an_error_that_says_so(name):
  layout = skeletons.layout(name)
  assert layout.has(layout.root, "left_hip", "right_hip")
  assert layout.dimensions == (2 if name in ("coco_17", "openpose_18", "jhmdb_15") else 3)
  if name in AXES:
    assert (layout.centre, layout.spine) == AXES[name]
    assert layout.has(layout.centre, *layout.spine)
    return
  pose, score = jnp.ones((1, 1, 2, layout.num_joints, 3)), jnp.ones((1, 1, 2, layout.num_joints))
  with pytest.raises(UserError, match=f"layout {name} has no .*use a layout that has .*: "
                                      "cad_15, jhmdb_15, kinect_v1_20, kinect_v2_25$"):
    skeleton_frames.body_centred(pose, score, name, "align")
  # Between the hips is the middle of a body without a spine.
  assert layout.middle == ("left_hip", "right_hip")
  pose = np.random.default_rng(0).normal(size=(1, 2, 3, layout.num_joints, 3)).astype(np.float32)
  score = np.ones(pose.shape[:4], np.float32)
  hips = [layout.index("left_hip"), layout.index("right_hip")]
  score[0, 0, 0, hips[1]] = 0
  found, _ = skeleton_frames.body_centred(pose, score, name, "translate")
  expected = (pose - pose[0, 0, 1, hips].mean(0)) * score[..., None]
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("name", LAYOUTS)
def test_limbs_of_heat_maps(name):
  layout = skeletons.layout(name)
  limbs, mirror = layout.limbs, layout.limb_mirror
  np.testing.assert_array_equal(mirror[mirror], np.arange(len(limbs)))
  for limb, other in zip(limbs, mirror):
    assert set(layout.mirror[limb]) == set(limbs[other])
  if name != "coco_17":
    np.testing.assert_array_equal(limbs, layout.edges)
    return
  # PoseC3D's numbers, as its released configurations list them.
  assert limbs.tolist() == [
      [0, 5], [0, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [11, 13], [13, 15], [6, 12],
      [12, 14], [14, 16], [0, 1], [0, 2], [1, 3], [2, 4], [11, 12]]
  left, right = [0, 2, 3, 6, 7, 8, 12, 14], [1, 4, 5, 9, 10, 11, 13, 15]
  assert mirror[left].tolist() == right and mirror[16] == 16
  assert layout.mirror[1::2].tolist() == list(range(2, 17, 2))


@pytest.mark.parametrize("name", LAYOUTS)
def test_graphs_of_every_layout(name):
  layout = skeletons.layout(name)
  weights = graphs.normalise_symmetric(graphs.vpn_weights(layout))
  assert weights.shape == (layout.num_joints,) * 2 and np.isfinite(weights).all()
  assert np.linalg.matrix_power((weights > 0).astype(float), layout.num_joints).all()  # connected


def test_sensors_orders():
  # The SDKs' numbers (Kinect v1: NUI_SKELETON_POSITION_INDEX, Kinect v2: JointType).
  v1, v2 = skeletons.KINECT_V1_20, skeletons.KINECT_V2_25
  numbers = {"hip_centre": (0, 0), "spine": (1, 1), "head": (3, 3), "left_shoulder": (4, 4),
             "left_hand": (7, 7), "right_hand": (11, 11), "left_hip": (12, 12),
             "right_foot": (19, 19), "shoulder_centre": (2, 20)}
  for joint, (first, second) in numbers.items():
    assert (v1.index(joint), v2.index(joint)) == (first, second)
  assert v2.index("left_hand_tip") == 21 and v2.index("right_thumb") == 24


def test_orders_of_the_other_layouts():
  # Numbers of the makers: COCO's keypoints, OpenPose's COCO model, JHMDB's puppet,
  # CAD-60's columns and the joints that LCR-Net's own figures connect.
  numbers = {
      "coco_17": {"nose": 0, "left_eye": 1, "right_ear": 4, "left_shoulder": 5, "right_elbow": 8,
                  "left_wrist": 9, "left_hip": 11, "right_knee": 14, "right_ankle": 16},
      "openpose_18": {"nose": 0, "neck": 1, "right_shoulder": 2, "right_wrist": 4,
                      "left_shoulder": 5, "left_wrist": 7, "right_hip": 8, "right_ankle": 10,
                      "left_hip": 11, "left_ankle": 13, "right_eye": 14, "left_ear": 17},
      "jhmdb_15": {"neck": 0, "spine": 1, "head": 2, "right_shoulder": 3, "left_shoulder": 4,
                   "right_hip": 5, "left_elbow": 8, "right_knee": 9, "right_wrist": 11,
                   "right_ankle": 13, "left_ankle": 14},
      "cad_15": {"head": 0, "neck": 1, "spine": 2, "left_shoulder": 3, "left_elbow": 4,
                 "right_shoulder": 5, "left_hip": 7, "right_knee": 10, "left_hand": 11,
                 "right_hand": 12, "left_foot": 13, "right_foot": 14},
      "lcrnet_13": {"right_ankle": 0, "left_ankle": 1, "right_knee": 2, "left_hip": 5,
                    "right_wrist": 6, "left_elbow": 9, "right_shoulder": 10,
                    "left_shoulder": 11, "head": 12}}
  for name, joints in numbers.items():
    layout = skeletons.layout(name)
    assert {joint: layout.index(joint) for joint in joints} == joints
  # PYSKL's graphs of the two 2D layouts, as unordered pairs of numbers.
  coco = {(15, 13), (13, 11), (16, 14), (14, 12), (11, 5), (12, 6), (9, 7), (7, 5), (10, 8),
          (8, 6), (5, 0), (6, 0), (1, 0), (3, 1), (2, 0), (4, 2)}
  openpose = {(4, 3), (3, 2), (7, 6), (6, 5), (13, 12), (12, 11), (10, 9), (9, 8), (11, 5),
              (8, 2), (5, 1), (2, 1), (0, 1), (15, 0), (14, 0), (17, 15), (16, 14)}
  for layout, pairs in ((skeletons.COCO_17, coco), (skeletons.OPENPOSE_18, openpose)):
    assert {frozenset(edge) for edge in layout.edges.tolist()} == set(map(frozenset, pairs))


def test_real_jhmdb_poses_have_the_layouts_proportions(real_data):
  import pickle
  with open(real_data / "jhmdb" / "GT_train_1.pkl", "rb") as file:
    poses = pickle.load(file)["pose"]
  frames = np.concatenate([np.asarray(pose) for pose in poses])
  layout = skeletons.JHMDB_15
  lengths = np.linalg.norm(frames[:, :, None] - frames[:, None], axis=-1).mean(0)
  # The joints of a limb are nearer to their parent than to the other side's.
  for parent, child in layout.edges:
    if layout.mirror[child] != child and layout.mirror[parent] != parent:
      assert lengths[child, parent] < 0.95 * lengths[child, layout.mirror[parent]]
  # The head is above the neck, which is above the belly, in most frames: y grows downwards.
  y = dict(zip(layout.joints, frames[..., 1].T))
  assert (y["head"] < y["neck"]).mean() > 0.85 and (y["neck"] < y["spine"]).mean() > 0.85
  assert (y["left_hip"] < y["left_ankle"]).mean() > 0.85


# ---- conversion ------------------------------------------------------------------------

def skeleton_of(name, *shape, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  joints = skeletons.layout(name).num_joints
  return rng.normal(size=(*shape, joints, channels)), rng.uniform(0.1, 1, (*shape, joints))


@pytest.mark.parametrize("source, target", [
    ("coco_17", "openpose_18"), ("kinect_v2_25", "kinect_v1_20")]
    + [(name, name) for name in LAYOUTS])
def test_round_trips(source, target):
  pose, score = skeleton_of(source, 2, 4)
  there, there_score = skeletons.convert(pose, score, source, target)
  assert there.shape == (2, 4, skeletons.layout(target).num_joints, 3)
  back, back_score = skeletons.convert(there, there_score, target, source, allow_missing=True)
  common = [skeletons.layout(target).has(joint) for joint in skeletons.layout(source).joints]
  np.testing.assert_array_equal(back[..., common, :], pose[..., common, :])
  np.testing.assert_array_equal(back_score[..., common], score[..., common])
  lost = ~np.array(common)
  assert (back[..., lost, :] == 0).all() and (back_score[..., lost] == 0).all()
  # Kinect v1 lacks the neck, the tips of the hands and the thumbs of v2; else nothing is lost.
  assert lost.sum() == (5 if source == "kinect_v2_25" != target else 0)


def test_kinect_v2_to_v1_by_hand():
  pose = np.arange(25.0)[:, None] + [0, 100, 200]
  found, score = skeletons.convert(pose, np.ones(25), "kinect_v2_25", "kinect_v1_20")
  # Kinect v1's order in v2's numbers: hip centre, spine, shoulder centre (20), head, limbs.
  assert found[:, 0].tolist() == [0, 1, 20, *range(3, 20)] and (score == 1).all()
  assert found[2].tolist() == [20, 120, 220]


def test_openpose_neck_is_the_middle_of_the_shoulders():
  pose, score = np.zeros((17, 2)), np.ones(17)
  pose[5], pose[6], score[5], score[6] = (10, 40), (30, 44), 0.9, 0.6
  found, found_score = skeletons.convert(pose, score, "coco_17", "openpose_18")
  assert found[1].tolist() == [20, 42] and found_score[1] == 0.6
  assert found[2].tolist() == [30, 44] and found[5].tolist() == [10, 40]  # right, left
  score[6] = 0  # a lost shoulder takes the neck with it
  found, found_score = skeletons.convert(pose, score, "coco_17", "openpose_18")
  assert found_score[[1, 2]].tolist() == [0, 0] and (found[[1, 2]] == 0).all()
  # Kinect's neck lies higher: it does not stand for OpenPose's, nor OpenPose's for Kinect's.
  kinect, target = skeletons.KINECT_V2_25, skeletons.OPENPOSE_18
  assert skeletons.correspondence(kinect, target)["neck"] == ("left_shoulder", "right_shoulder")
  assert "neck" not in skeletons.correspondence(target, kinect)


def test_missing_counterparts_are_named_or_missing():
  pose, score = skeleton_of("coco_17", 3, channels=2)
  with pytest.raises(UserError, match="coco_17 has no head, which lcrnet_13 needs; allow_missing"):
    skeletons.convert(pose, score, "coco_17", "lcrnet_13")
  found, found_score = skeletons.convert(pose, score, "coco_17", skeletons.LCRNET_13,
                                         allow_missing=True)
  assert (found_score[:, 12] == 0).all() and (found[:, 12] == 0).all()
  # The rest by number: the right ankle is 16 and 0, the left shoulder 5 and 11.
  np.testing.assert_array_equal(found[:, [0, 11]], pose[:, [16, 5]])
  assert (found_score[:, :12] > 0).all()
  with pytest.raises(ValueError, match=r"\(3, 17, 2\).*not .* the 25 joints of kinect_v2"):
    skeletons.convert(pose, score, "kinect_v2_25", "kinect_v1_20")
  with pytest.raises(ValueError, match=r"scores \(3, 16\)"):
    skeletons.convert(pose, score[:, 1:], "coco_17", "openpose_18")


def test_converts_the_same_in_jax():
  pose, score = skeleton_of("coco_17", 2, 5, channels=2)
  pose, score = pose.astype(np.float16), score.astype(np.float32)
  pose[0, 0, 3] = 60000  # an average of two such would overflow half precision
  expected = skeletons.convert(pose, score, "coco_17", "openpose_18")
  found = jax.jit(lambda p, s: skeletons.convert(p, s, "coco_17", "openpose_18"))(pose, score)
  for mine, theirs in zip(expected, found):
    assert mine.dtype == theirs.dtype
    np.testing.assert_array_equal(mine, theirs)
  assert np.isfinite(expected[0]).all()


def test_unknown_names_are_named():
  with pytest.raises(ValueError, match="unknown joint layout 'kinect'; known: cad_15, coco_17, "):
    skeletons.layout("kinect")
  with pytest.raises(ValueError, match="layout kinect_v1_20 has no joint 'neck'"):
    skeletons.KINECT_V1_20.index("neck")
  with pytest.raises(ValueError, match="unknown body part 'tail'"):
    skeletons.KINECT_V1_20.part("tail")
