"""Skeletons as raw files give them, checked and brought into a record's form."""
import dataclasses
from collections.abc import Mapping

import numpy as np

from actionjax import skeletons
from actionjax.data.formats.findings import Findings, shown
from actionjax.errors import UserError

# An image size is doubted where more than this share of joints lies outside it: feet below the
# picture's edge are usual. Turned round, it has to hold practically all of them.
_DOUBTFUL, _FITTING = 0.05, 0.01
SWAPPED, NOT_METRES, NOT_PIXELS = "swapped_image_size", "not_metres", "not_pixels"
# Nobody stands further from a depth sensor; larger numbers are pixels or millimetres.
_METRES = 20.0
# Nobody fits into so few pixels; such numbers are shares of the image's sides.
_PIXELS = 2.0
# Fields of the files that users write, for messages; "pose" is either.
NAMES = {"pose3d": "pose3d", "pose2d": "pose2d", "pose": "skeletons", "image_size": "image_size"}


@dataclasses.dataclass(frozen=True)
class Skeletons:
  """The poses of one clip, M persons, T frames, J joints.

  Attributes:
    pose3d: [M,T,J,3] in metres, or None. pose2d: [M,T,J,2] in pixels of the image, or None.
    score: [M,T,J] or None; 0 marks a missing joint.
    image_size: (height, width) that `pose2d` is measured in, or None if unknown.
  """
  pose3d: np.ndarray | None = None
  pose2d: np.ndarray | None = None
  score: np.ndarray | None = None
  image_size: tuple[int, int] | None = None

  @property
  def num_frames(self) -> int:
    """T."""
    return (self.pose3d if self.pose3d is not None else self.pose2d).shape[1]


@dataclasses.dataclass(frozen=True)
class Clean:
  """Checked poses: float32, missing joints at 0 with score 0, absent persons left out.

  Attributes:
    pose3d: [M,T,J,3] or None. pose2d: [M,T,J,2] or None. score: [M,T,J].
    image_size: (height, width), turned round where it was given as (width, height), or None.
    missing, joints: number of missing joints, and of all, of the persons that are there.
    notes: "nonfinite" where raw coordinates are no numbers, "no_person" where nobody is there,
      "swapped_image_size" where the size was turned round, "not_metres" and "not_pixels" where the
      coordinates can be neither.
  """
  pose3d: np.ndarray | None
  pose2d: np.ndarray | None
  score: np.ndarray
  image_size: tuple[int, int] | None
  missing: int
  joints: int
  notes: tuple[str, ...]


def problems(given: Skeletons, joints: int | None) -> list[tuple[str, str]]:
  """(field, what is wrong) of arrays that do not fit together.

  Args:
    joints: J of the layout; None if any will do.
  """
  found, shapes = [], {}
  for name, width in (("pose3d", 3), ("pose2d", 2)):
    value = getattr(given, name)
    if value is None:
      continue
    shape = list(value.shape)
    if value.dtype.kind not in "fiu":
      found.append((name, f"holds {value.dtype}, not numbers"))
    elif value.ndim != 4 or shape[3] != width or shape[1] < 1:
      found.append((name, f"has shape {shape}, expected [persons, frames, joints, {width}]"))
    else:
      shapes[name] = value.shape[:3]
      if joints is not None and shape[2] != joints:
        found.append((name, f"has {shape[2]} joints; the layout has {joints}"))
  if given.pose3d is None and given.pose2d is None:
    found.append(("pose3d", "is not there, nor is pose2d"))
  if len(set(shapes.values())) > 1:
    found.append(("pose2d", f"is [M, T, J] = {list(shapes['pose2d'])}, but pose3d is "
                            f"{list(shapes['pose3d'])}"))
  if given.score is not None and shapes:
    expected = next(iter(shapes.values()))
    if given.score.dtype.kind not in "fiu" or given.score.shape != expected:
      found.append(("pose_score", f"is {given.score.dtype}{list(given.score.shape)}, expected "
                                  f"numbers of shape {list(expected)}"))
  return found


def clean(given: Skeletons) -> Clean:
  """Poses without `problems`, in a record's form.

  A joint is missing where its score is not above 0, where a coordinate is not finite, and where
  all of one pose's coordinates are 0, as which raw files give lost ones. A person without a
  joint in any frame is left out; a clip may be left with none.
  """
  notes, present, poses = [], None, {}
  if given.score is not None:
    with np.errstate(over="ignore", invalid="ignore"):
      score = given.score.astype(np.float32)
    present = np.isfinite(score) & (score > 0)
  for name in ("pose3d", "pose2d"):
    value = getattr(given, name)
    if value is None:
      continue
    with np.errstate(over="ignore"):
      poses[name] = value.astype(np.float32)
    finite = np.isfinite(poses[name]).all(-1)
    if not finite.all():
      notes.append("nonfinite")
    found = finite & (poses[name] != 0).any(-1)
    present = found if present is None else present & found
  score = np.where(present, 1 if given.score is None else score, 0).astype(np.float32)
  there = present.any((1, 2))
  if not there.any():
    notes.append("no_person")
  poses = {name: np.where(present[..., None], value, 0)[there] for name, value in poses.items()}
  kept, size = present[there], given.image_size
  if "pose2d" in poses and size and size_is_swapped(poses["pose2d"], score[there], size):
    size = size[::-1]
    notes.append(SWAPPED)
  for name, note in (("pose3d", NOT_METRES), ("pose2d", NOT_PIXELS)):
    largest = float(np.abs(poses[name]).max()) if name in poses and kept.any() else None
    if largest is not None and (largest > _METRES if name == "pose3d" else largest <= _PIXELS):
      notes.append(note)
  return Clean(poses.get("pose3d"), poses.get("pose2d"), score[there], size,
               int((~kept).sum()), kept.size, tuple(dict.fromkeys(notes)))


def warn(clip: str, poses: Clean, findings: Findings, names: Mapping[str, str] = NAMES) -> None:
  """Warns of what `clean` noted.

  Args:
    names: of the fields in the file.
  """
  if "nonfinite" in poses.notes:
    findings.warn(clip, names["pose"], "has values that are not numbers, which count as missing "
                                       "joints")
  if "no_person" in poses.notes:
    findings.warn(clip, names["pose"], "has nobody: every joint is missing in every frame")
  if SWAPPED in poses.notes:
    height, width = poses.image_size
    findings.warn(clip, names["image_size"], f"({width}, {height}) must be (height, width), but by "
                  "the coordinates it is (width, height), and is taken as that")
  if NOT_METRES in poses.notes:
    findings.warn(clip, names["pose3d"], f"has a coordinate of {np.abs(poses.pose3d).max():.6g}, "
                  "which can be no metres; are these pixels and scores, or millimetres?")
  if NOT_PIXELS in poses.notes:
    findings.warn(clip, names["pose2d"], f"has no coordinate above {np.abs(poses.pose2d).max():.3g}"
                  ", which can be no pixels; multiply shares of the image by its width and height")


def size_is_swapped(pose2d: np.ndarray, score: np.ndarray, image_size: tuple[int, int]) -> bool:
  """Whether an image size is (width, height) where (height, width) is meant.

  It is where joints lie outside the image as given, and practically none would if it was turned
  round.

  Args:
    pose2d: [M,T,J,2] in pixels. score: [M,T,J], 0 marks a missing joint.
    image_size: as given.
  """
  points = pose2d[score > 0]
  height, width = image_size
  if not len(points) or height == width:
    return False

  def outside(height, width):
    return ((points < 0) | (points > [width, height])).any(-1).mean()

  return outside(height, width) > _DOUBTFUL and outside(width, height) <= _FITTING


def at_frames(poses: Clean, positions: np.ndarray, count: int) -> Clean:
  """Poses at some frames of a video, whose length may be another than theirs.

  Frame p of `count` is the pose at floor((p + 1/2) * T / count): time is stretched evenly. With
  T = count it is pose p.

  Args:
    positions: int[n], frames of the video. count: of all its frames.
  """
  length = poses.score.shape[1]
  picks = ((2 * positions + 1) * length) // (2 * count)
  return dataclasses.replace(
      poses, score=poses.score[:, picks],
      pose3d=None if poses.pose3d is None else poses.pose3d[:, picks],
      pose2d=None if poses.pose2d is None else poses.pose2d[:, picks])


# What J joints of 2 or 3 coordinates mean where nobody says it; other numbers are used by several
# layouts (25 in two dimensions may be OpenPose's or Kinect's, 17 in three COCO's or Human3.6M's).
GUESSES = {(17, 2): "coco_17", (18, 2): "openpose_18", (25, 3): "kinect_v2_25",
           (20, 3): "kinect_v1_20"}


def layout_joints(layout: str) -> int:
  """J of a layout by name."""
  return skeletons.layout(layout).num_joints


def find_layout(given: str, joints: int, width: int) -> str:
  """The name of the layout of skeletons.

  Args:
    given: by the user or the file; "" to guess.
    joints: J. width: coordinates a joint, 2 or 3.

  Raises:
    UserError: nothing is given and there is no telling, or no such layout, or one of another
      number of joints.
  """
  name = given or GUESSES.get((joints, width))
  known = ", ".join(sorted(f"{layout.name} ({layout.num_joints})"
                           for layout in skeletons.LAYOUTS.values()))
  if name is None:
    raise UserError(f"{joints} joints of {width} coordinates may be of several layouts: give "
                    f"--layout; known: {known}, or a .json file that describes it")
  if name not in skeletons.LAYOUTS and not name.startswith("{"):
    raise UserError(f"unknown joint layout {shown(name, 60)!r}; known: {known}")
  layout = skeletons.layout(name)
  if layout.num_joints != joints:
    raise UserError(f"{joints} joints a person, but the layout {layout.name} has "
                    f"{layout.num_joints}; give another --layout; known: {known}")
  return name
