"""Joint layouts as data: names, bones, left/right pairs, parts, reference joints.

A layout is what a skeleton array's joint axis means. Everything that depends on
the order of joints (flipping, graph adjacency, normalisation, drawing, body-part
crops) reads it from here, so that no model or transform knows a sensor.
"""
import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Layout:
  """A joint layout.

  Attributes:
    name: the layout's name, as records and checkpoints store it.
    joints: names of the J joints, in order. Layouts share one vocabulary, so a
      joint that two layouts both have carries the same name in both.
    bones: pairs (parent, child) of joint names; a tree rooted at `root`.
    root: the joint that bones grow from.
    centre: joint that normalisation translates to the origin.
    spine: pair of joints (lower, upper) that gives the body's vertical and scale.
  """
  name: str
  joints: tuple[str, ...]
  bones: tuple[tuple[str, str], ...]
  root: str
  centre: str
  spine: tuple[str, str]

  @property
  def num_joints(self) -> int:
    """J."""
    return len(self.joints)

  def index(self, joint: str) -> int:
    """Position of a joint by name. Raises ValueError naming layout and joint."""
    try:
      return self.joints.index(joint)
    except ValueError:
      raise ValueError(f"layout {self.name} has no joint {joint!r}") from None

  def has(self, *joints: str) -> bool:
    """Whether every named joint exists in this layout."""
    return all(joint in self.joints for joint in joints)

  @property
  def edges(self) -> np.ndarray:
    """Bones as joint indices, int[J-1, 2]: (parent, child)."""
    return np.array([[self.index(a), self.index(b)] for a, b in self.bones])

  @property
  def parents(self) -> np.ndarray:
    """Parent index of each joint, int[J]; the root is its own parent."""
    parents = np.full(self.num_joints, self.index(self.root))
    for parent, child in self.edges:
      parents[child] = parent
    return parents

  @property
  def mirror(self) -> np.ndarray:
    """Permutation int[J] that swaps left and right joints: pose[..., mirror, :]."""
    swap = {"left": "right", "right": "left"}
    names = []
    for joint in self.joints:
      side, _, rest = joint.partition("_")
      names.append(f"{swap[side]}_{rest}" if side in swap else joint)
    return np.array([self.index(name) for name in names])

  def part(self, name: str) -> np.ndarray:
    """Joint indices of a body part (see `PARTS`), int[n]; in layout order."""
    if name not in PARTS:
      raise ValueError(f"unknown body part {name!r}; known: {', '.join(PARTS)}")
    return np.array([i for i, joint in enumerate(self.joints)
                     if any(joint.endswith(end) and joint.startswith(start)
                            for start, end in PARTS[name])], dtype=int)


# Body part -> (prefix, suffix) of the joint names that belong to it.
PARTS = {
    "left_arm": (("left_", "shoulder"), ("left_", "elbow"), ("left_", "wrist"),
                 ("left_", "hand"), ("left_", "hand_tip"), ("left_", "thumb")),
    "right_arm": (("right_", "shoulder"), ("right_", "elbow"), ("right_", "wrist"),
                  ("right_", "hand"), ("right_", "hand_tip"), ("right_", "thumb")),
    "left_leg": (("left_", "hip"), ("left_", "knee"), ("left_", "ankle"), ("left_", "foot")),
    "right_leg": (("right_", "hip"), ("right_", "knee"), ("right_", "ankle"),
                  ("right_", "foot")),
    "head": (("", "head"), ("", "neck"), ("", "nose"), ("", "eye"), ("", "ear")),
    "torso": (("hip_", "centre"), ("", "spine"), ("shoulder_", "centre")),
}


def _chain(*joints):
  return tuple(zip(joints[:-1], joints[1:]))


def _limb(side, start, names):
  return _chain(start, *(f"{side}_{name}" for name in names))


_ARM = ("shoulder", "elbow", "wrist", "hand")
_LEG = ("hip", "knee", "ankle", "foot")


def _sided(side, names):
  return tuple(f"{side}_{name}" for name in names)


# Kinect v1's 20 joints in the SDK's order, as Northwestern-UCLA and MSRDailyActivity3D
# store them. Datasets that shuffle them (UTD-MHAD) are brought into this order.
KINECT_V1_20 = Layout(
    name="kinect_v1_20",
    joints=("hip_centre", "spine", "shoulder_centre", "head",
            *_sided("left", _ARM), *_sided("right", _ARM),
            *_sided("left", _LEG), *_sided("right", _LEG)),
    bones=(*_chain("hip_centre", "spine", "shoulder_centre", "head"),
           *_limb("left", "shoulder_centre", _ARM), *_limb("right", "shoulder_centre", _ARM),
           *_limb("left", "hip_centre", _LEG), *_limb("right", "hip_centre", _LEG)),
    root="hip_centre", centre="spine", spine=("hip_centre", "spine"))

# Kinect v2's 25 joints in the SDK's order, as NTU RGB+D stores them. "hip_centre" is
# the SDK's SpineBase, "spine" SpineMid, "shoulder_centre" SpineShoulder.
KINECT_V2_25 = Layout(
    name="kinect_v2_25",
    joints=("hip_centre", "spine", "neck", "head",
            *_sided("left", _ARM), *_sided("right", _ARM),
            *_sided("left", _LEG), *_sided("right", _LEG),
            "shoulder_centre", "left_hand_tip", "left_thumb",
            "right_hand_tip", "right_thumb"),
    bones=(*_chain("hip_centre", "spine", "shoulder_centre", "neck", "head"),
           *_limb("left", "shoulder_centre", (*_ARM, "hand_tip")),
           *_limb("right", "shoulder_centre", (*_ARM, "hand_tip")),
           ("left_hand", "left_thumb"), ("right_hand", "right_thumb"),
           *_limb("left", "hip_centre", _LEG), *_limb("right", "hip_centre", _LEG)),
    root="hip_centre", centre="spine", spine=("hip_centre", "spine"))

LAYOUTS = {layout.name: layout for layout in (KINECT_V1_20, KINECT_V2_25)}


def layout(name: str) -> Layout:
  """The layout of that name. Raises ValueError that lists the known ones."""
  if name not in LAYOUTS:
    raise ValueError(f"unknown joint layout {name!r}; known: {', '.join(sorted(LAYOUTS))}")
  return LAYOUTS[name]
