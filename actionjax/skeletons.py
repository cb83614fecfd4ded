"""Joint layouts as data: names, bones, left/right pairs, parts, reference joints.

A layout is what a skeleton array's joint axis means. Everything that depends on
the order of joints (flipping, graph adjacency, normalisation, drawing, body-part
crops) reads it from here, so that no model or transform knows a sensor.

| layout | joints | coordinates | what makes such skeletons |
| --- | --- | --- | --- |
| kinect_v1_20 | 20 | 3D | Kinect v1: N-UCLA, UTD-MHAD, MSRDailyActivity3D |
| kinect_v2_25 | 25 | 3D | Kinect v2: NTU RGB+D |
| cad_15 | 15 | 3D | NITE (OpenNI): CAD-60, CAD-120 |
| lcrnet_13 | 13 | 3D | LCR-Net: Toyota Smarthome |
| coco_17 | 17 | 2D | HRNet and other pose networks trained on COCO |
| openpose_18 | 18 | 2D | OpenPose: Kinetics-Skeleton |
| jhmdb_15 | 15 | 2D | the annotators of JHMDB |

Others come from a small file (`find`): what it says, as one line of JSON, is then the
layout's name in records and checkpoints, so that these need no file beside them.
"""
import dataclasses
import functools

import numpy as np

from actionjax import layout_files
from actionjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Layout:
  """A joint layout.

  Attributes:
    name: the layout's name, as records and checkpoints store it.
    joints: names of the J joints, in order. Layouts share one vocabulary, so a
      joint that two layouts both have carries the same name in both.
    bones: pairs (parent, child) of joint names; a tree rooted at `root`.
    root: the joint that bones grow from.
    dimensions: 3, or 2 for layouts whose skeletons exist in images only.
    centre_joint, spine_joints: what `centre` and `spine` give; None where the layout has
      no such joints, which normalising 3D skeletons needs.
    heatmap_limbs: pairs of joints that limb heat maps draw, one channel each, where they
      are not the bones; in the order of the channels, which trained weights depend on.
    midpoints: (joint, (a, b)) for each joint that is by its definition halfway between
      two others.
    graph_centre: joint that graph networks count distances from; None takes the upper end of the
      spine, see `ops.graphs.centre_joint`.
  """
  name: str
  joints: tuple[str, ...]
  bones: tuple[tuple[str, str], ...]
  root: str
  dimensions: int = 3
  centre_joint: str | None = None
  spine_joints: tuple[str, str] | None = None
  heatmap_limbs: tuple[tuple[str, str], ...] = ()
  midpoints: tuple[tuple[str, tuple[str, str]], ...] = ()
  graph_centre: str | None = None

  @property
  def centre(self) -> str:
    """Joint that normalisation translates to the origin. Raises UserError where none is."""
    if self.centre_joint is None:
      raise UserError(f"layout {self.name} has no joint in the middle of the body, which "
                      "normalising skeletons puts at the origin; use a layout that has one: "
                      f"{_having('centre_joint')}")
    return self.centre_joint

  @property
  def middle(self) -> tuple[str, ...]:
    """Joints whose mean is the middle of the body: the `centre`, or the hips where there is none.

    Raises UserError where these lack too.
    """
    hips = ("left_hip", "right_hip")
    return hips if self.centre_joint is None and self.has(*hips) else (self.centre,)

  @property
  def spine(self) -> tuple[str, str]:
    """Joints (lower, upper) that give the body's vertical and scale. Raises UserError."""
    if self.spine_joints is None:
      raise UserError(f"layout {self.name} has no two joints along the spine, which aligning "
                      "skeletons takes the vertical from; use a layout that has them: "
                      f"{_having('spine_joints')}")
    return self.spine_joints

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
  def limbs(self) -> np.ndarray:
    """What limb heat maps draw, int[L, 2]: `heatmap_limbs`, else the bones."""
    return np.array([[self.index(a), self.index(b)] for a, b in self.heatmap_limbs or self.bones])

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

  @property
  def limb_mirror(self) -> np.ndarray:
    """Permutation int[L] that swaps the left and right ones of `limbs`."""
    order = [frozenset(pair) for pair in self.limbs.tolist()]
    return np.array([order.index(frozenset(self.mirror[list(pair)].tolist())) for pair in order])

  @property
  def limb_joints(self) -> np.ndarray:
    """Indices of the joints on arms and legs beyond shoulder and hip, int[n] (see `ON_LIMBS`)."""
    return np.array([i for i, joint in enumerate(self.joints) if joint.endswith(ON_LIMBS)])

  def part(self, name: str) -> np.ndarray:
    """Joint indices of a body part (see `PARTS`), int[n]; in layout order."""
    if name not in PARTS:
      raise ValueError(f"unknown body part {name!r}; known: {', '.join(PARTS)}")
    return np.array([i for i, joint in enumerate(self.joints)
                     if any(joint.endswith(end) and joint.startswith(start)
                            for start, end in PARTS[name])], dtype=int)


# Ends of the names of the joints that arms and legs are followed by. Fingers are no limb's own.
ON_LIMBS = ("elbow", "wrist", "hand", "knee", "ankle", "foot")

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


def _having(field: str) -> str:
  return ", ".join(sorted(name for name, layout in LAYOUTS.items() if getattr(layout, field)))


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
    root="hip_centre", centre_joint="spine", spine_joints=("hip_centre", "spine"))

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
    root="hip_centre", centre_joint="spine", spine_joints=("hip_centre", "spine"))

# The 15 joints of NITE in the order of CAD-60's and CAD-120's files, whose "torso" is our
# spine. There is no hip centre: the spine is measured from there up to the neck.
CAD_15 = Layout(
    name="cad_15",
    joints=("head", "neck", "spine", "left_shoulder", "left_elbow", "right_shoulder",
            "right_elbow", "left_hip", "left_knee", "right_hip", "right_knee",
            "left_hand", "right_hand", "left_foot", "right_foot"),
    bones=(*_chain("spine", "neck", "head"),
           *_limb("left", "neck", ("shoulder", "elbow", "hand")),
           *_limb("right", "neck", ("shoulder", "elbow", "hand")),
           *_limb("left", "spine", ("hip", "knee", "foot")),
           *_limb("right", "spine", ("hip", "knee", "foot"))),
    root="spine", centre_joint="spine", spine_joints=("spine", "neck"))

# LCR-Net's 13 joints, from the feet up, right before left. It has no joint on the body's
# axis but the head, so its skeletons can be neither centred nor aligned by a joint of theirs.
LCRNET_13 = Layout(
    name="lcrnet_13",
    joints=(*(f"{side}_{name}" for name in ("ankle", "knee", "hip", "wrist", "elbow", "shoulder")
              for side in ("right", "left")), "head"),
    bones=tuple(bone for side in ("left", "right") for bone in (
        *_limb(side, "head", ("shoulder", "elbow", "wrist")),
        *_chain(f"{side}_shoulder", *_sided(side, ("hip", "knee", "ankle"))))),
    root="head")

_FACE_AND_BODY = tuple(bone for side in ("left", "right") for bone in (
    ("nose", f"{side}_eye"), (f"{side}_eye", f"{side}_ear"),
    *_chain(f"{side}_shoulder", *_sided(side, ("elbow", "wrist"))),
    *_chain(f"{side}_shoulder", *_sided(side, ("hip", "knee", "ankle")))))

# The 17 keypoints of COCO. 2D, and without any joint on the body's axis below the nose.
COCO_17 = Layout(
    name="coco_17",
    joints=("nose", *(f"{side}_{name}" for name in (
        "eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right"))),
    bones=(("nose", "left_shoulder"), ("nose", "right_shoulder"), *_FACE_AND_BODY),
    root="nose", dimensions=2,
    # The order of PoseC3D's limb models: the bones, and the pelvis.
    heatmap_limbs=(
        ("nose", "left_shoulder"), ("nose", "right_shoulder"),
        ("left_shoulder", "left_elbow"), ("left_elbow", "left_wrist"),
        ("right_shoulder", "right_elbow"), ("right_elbow", "right_wrist"),
        ("left_shoulder", "left_hip"), ("left_hip", "left_knee"), ("left_knee", "left_ankle"),
        ("right_shoulder", "right_hip"), ("right_hip", "right_knee"),
        ("right_knee", "right_ankle"), ("nose", "left_eye"), ("nose", "right_eye"),
        ("left_eye", "left_ear"), ("right_eye", "right_ear"), ("left_hip", "right_hip")))

# OpenPose's 18 keypoints (its COCO model), right before left. 2D; its neck is no keypoint
# of its own, but the middle of the shoulders.
OPENPOSE_18 = Layout(
    name="openpose_18",
    joints=("nose", "neck", *_sided("right", ("shoulder", "elbow", "wrist")),
            *_sided("left", ("shoulder", "elbow", "wrist")),
            *_sided("right", ("hip", "knee", "ankle")), *_sided("left", ("hip", "knee", "ankle")),
            "right_eye", "left_eye", "right_ear", "left_ear"),
    bones=(("neck", "nose"), ("neck", "left_shoulder"), ("neck", "right_shoulder"),
           *_FACE_AND_BODY),
    root="neck", dimensions=2, midpoints=(("neck", ("left_shoulder", "right_shoulder")),))

# The 15 joints of JHMDB's puppets, whose "face" is our head and whose "belly" our spine. 2D.
JHMDB_15 = Layout(
    name="jhmdb_15",
    joints=("neck", "spine", "head", *(f"{side}_{name}" for name in (
        "shoulder", "hip", "elbow", "knee", "wrist", "ankle") for side in ("right", "left"))),
    bones=(*_chain("spine", "neck", "head"),
           *_limb("left", "neck", ("shoulder", "elbow", "wrist")),
           *_limb("right", "neck", ("shoulder", "elbow", "wrist")),
           *_limb("left", "spine", ("hip", "knee", "ankle")),
           *_limb("right", "spine", ("hip", "knee", "ankle"))),
    root="spine", dimensions=2, centre_joint="spine", spine_joints=("spine", "neck"))

LAYOUTS = {layout.name: layout for layout in (
    KINECT_V1_20, KINECT_V2_25, CAD_15, LCRNET_13, COCO_17, OPENPOSE_18, JHMDB_15)}


def layout(name: str) -> Layout:
  """The layout of that name, or that a line of JSON spells out (see `layout_files`).

  Raises:
    ValueError: lists the known ones. UserError: the JSON describes none.
  """
  if name.startswith("{"):
    return _described(name)
  if name not in LAYOUTS:
    raise ValueError(f"unknown joint layout {name!r}; known: {', '.join(sorted(LAYOUTS))}")
  return LAYOUTS[name]


def find(name: str) -> str:
  """What a user calls a layout, as records and checkpoints name it.

  Args:
    name: of a layout above, the path of a file of the user's (`*.json`, see `layout_files`), or
      what this function returned.

  Raises:
    UserError: neither; or a file that describes no layout.
  """
  if name in LAYOUTS:
    return name
  if not name.startswith("{") and not name.endswith(".json"):
    raise UserError(f"unknown joint layout {name!r}; known: {', '.join(sorted(LAYOUTS))}, or the "
                    "path of a .json file")
  written = name.startswith("{")
  line = layout_files.canonical(name if written else layout_files.read(name),
                                "layout" if written else name)
  _described(line)
  return line


def title(name: str | None) -> str:
  """A layout's name for messages, in which a whole description has no place; "none" for None."""
  return "none" if not name else layout(name).name if name.startswith("{") else name


@functools.cache
def _described(line: str) -> Layout:
  fields = layout_files.fields(line, "layout")
  if fields["name"] in LAYOUTS:
    raise UserError(f"layout file: name {fields['name']} is that of a built-in layout; choose "
                    "another")
  fields["joints"] = tuple(fields["joints"])
  for name in ("bones", "heatmap_limbs"):
    fields[name] = tuple(map(tuple, fields[name]))
  if fields["spine_joints"]:
    fields["spine_joints"] = tuple(fields["spine_joints"])
  return Layout(**fields)


def correspondence(source: Layout, target: Layout) -> dict[str, tuple[str, str]]:
  """Where each joint of one layout can be taken from in another.

  A joint corresponds to the one of the same name. One that the target defines as the
  middle of two others (OpenPose's neck) is their middle; one that only the source defines
  so is no anatomical joint, and serves nothing else.

  Returns:
    target joint -> the two source joints that it is halfway between, equal where it is
    copied. Joints that have no counterpart are absent.
  """
  defined, of_source = dict(target.midpoints), dict(source.midpoints)
  found = {}
  for joint in target.joints:
    if source.has(joint) and of_source.get(joint) == defined.get(joint):
      found[joint] = (joint, joint)
    elif joint in defined and source.has(*defined[joint]):
      found[joint] = defined[joint]
  return found


def convert(pose, score, source: str | Layout, target: str | Layout, *,
            allow_missing: bool = False):
  """Skeletons of one layout in another's joints.

  Args:
    pose: float[...,J,C], NumPy or JAX. score: float[...,J], 0 for a missing joint.
    source, target: layouts or their names.
    allow_missing: let joints of the target that the source has no counterpart of be
      missing (score 0, coordinates 0); otherwise they are an error.

  Returns:
    float[...,K,C] and float[...,K]; a joint between two others is missing if either is,
    and else has the lower of their scores.

  Raises:
    UserError: the target's joints that the source cannot give. ValueError: arrays that
      are not of the source layout, or an unknown layout.
  """
  source = layout(source) if isinstance(source, str) else source
  target = layout(target) if isinstance(target, str) else target
  if pose.shape[:-1] != score.shape or score.shape[-1:] != (source.num_joints,):
    raise ValueError(f"poses {pose.shape} with scores {score.shape} are not skeletons of the "
                     f"{source.num_joints} joints of {source.name}")
  found = correspondence(source, target)
  missing = [joint for joint in target.joints if joint not in found]
  if missing and not allow_missing:
    raise UserError(f"{source.name} has no {', '.join(missing)}, which {target.name} needs; "
                    "allow_missing=True leaves them without score")
  xp = pose.__array_namespace__()
  first, second = (np.array([source.index(found[joint][end]) if joint in found else 0
                             for joint in target.joints]) for end in (0, 1))
  there = xp.asarray([joint in found for joint in target.joints])
  new_score = xp.where(there, xp.minimum(score[..., first], score[..., second]), 0)
  # A copied joint is not averaged with itself: that could overflow half precision.
  a, b = pose[..., first, :], pose[..., second, :]
  middle = xp.where((first == second)[:, None], a, a / 2 + b / 2)
  return xp.where((new_score > 0)[..., None], middle, 0), new_score
