"""Joint layouts: what every one of them must satisfy."""
import numpy as np
import pytest

from actionjax import skeletons

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


@pytest.mark.parametrize("name", LAYOUTS)
def test_reference_joints_exist(name):
  layout = skeletons.layout(name)
  assert layout.has(layout.root, layout.centre, *layout.spine, "left_hip", "right_hip")


def test_sensors_orders():
  # The SDKs' numbers (Kinect v1: NUI_SKELETON_POSITION_INDEX, Kinect v2: JointType).
  v1, v2 = skeletons.KINECT_V1_20, skeletons.KINECT_V2_25
  numbers = {"hip_centre": (0, 0), "spine": (1, 1), "head": (3, 3), "left_shoulder": (4, 4),
             "left_hand": (7, 7), "right_hand": (11, 11), "left_hip": (12, 12),
             "right_foot": (19, 19), "shoulder_centre": (2, 20)}
  for joint, (first, second) in numbers.items():
    assert (v1.index(joint), v2.index(joint)) == (first, second)
  assert v2.index("left_hand_tip") == 21 and v2.index("right_thumb") == 24


def test_unknown_names_are_named():
  with pytest.raises(ValueError, match="unknown joint layout 'kinect'; known: kinect_v1_20"):
    skeletons.layout("kinect")
  with pytest.raises(ValueError, match="layout kinect_v1_20 has no joint 'neck'"):
    skeletons.KINECT_V1_20.index("neck")
  with pytest.raises(ValueError, match="unknown body part 'tail'"):
    skeletons.KINECT_V1_20.part("tail")
