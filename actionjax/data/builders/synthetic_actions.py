"""Synthetic actions: the data set of the quickstart, generated on the spot, no download.

Twelve actions of an articulated 20-joint body, filmed in colour before cluttered
backgrounds by three cameras, with 3D skeletons as a depth sensor would give them. It is
made to tell models apart in minutes rather than to resemble the world:

* pairs that differ in one limb only (`wave_left_hand` / `wave_right_hand`, `kick_left` /
  `kick_right`): exact mirror images of one another;
* pairs that differ in time order only (`sit_down` / `stand_up`, `pick_up` / `put_down`,
  `push_away` / `pull_in`): exact reversals, idle time included, so that no single frame
  and no unordered set of frames tells them apart;
* `clap_hands` and `jumping_jacks`, which are periodic.

A left/right flip of the video or the skeleton swaps the classes of the one-limb pairs:
an augmentation that flips must replace the label by `MIRROR_CLASSES[label]`, or not be
used. Reversing time swaps the classes of the time-order pairs (`REVERSE_CLASSES`).

Subjects differ in proportions, clothes, speed and size of movement; every clip in place,
orientation (up to 15 degrees), room, distractors, light, idle time. Room, stool, box and
distractors are drawn without regard to the class.

A clip depends on (seed, action, subject, camera, repetition) alone, never on other clips
or on the order of generation.
"""
import dataclasses

import numpy as np

from actionjax.data.clips import definition
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import images
from actionjax.data.synthetic import motion, rendering, scene

CLASS_NAMES = tuple(action.name for action in motion.ACTIONS)
FPS = 15.0

TEST_SUBJECTS = (2, 5, 8)
TEST_CAMERAS = (2,)

POSE3D_NOISE = 0.012  # metres, standard deviation along each axis
POSE2D_NOISE = 1.0  # original pixels, standard deviation along each axis
MISSING = 0.01  # share of joints that the sensor loses
_JPEG_QUALITY = 90
# Leads the seeds of subjects, so that they never coincide with those of clips, whose
# second entry is an action.
_SUBJECT_STREAM = 7919


def _partner(same):
  """For each class the class with the same base motion that `same` accepts; int tuple."""
  actions = motion.ACTIONS
  return tuple(next((j for j, b in enumerate(actions) if b.base == a.base and same(a, b)), i)
               for i, a in enumerate(actions))


# The class that a clip belongs to after a left/right flip, and after reversal in time.
MIRROR_CLASSES = _partner(lambda a, b: a.mirrored != b.mirrored)
REVERSE_CLASSES = _partner(lambda a, b: a.backwards != b.backwards)


@dataclasses.dataclass(frozen=True)
class Clip:
  """One clip to be generated."""
  clip_id: str
  action: int
  subject: int
  camera: int
  repetition: int


def cross_subject(index) -> dict[str, np.ndarray]:
  """Subjects 2, 5 and 8 are tested, the others train; of `tiny`'s four, subject 2."""
  test = np.isin(np.asarray(index.subject), TEST_SUBJECTS)
  return {"train": ~test, "test": test}


def cross_view(index) -> dict[str, np.ndarray]:
  """Camera 2 is tested, cameras 0 and 1 train; `tiny` has no camera to test."""
  test = np.isin(np.asarray(index.camera), TEST_CAMERAS)
  return {"train": ~test, "test": test}


def find(raw_dir=None, *, subjects, cameras, repetitions, **_) -> definition.Found:
  """Lists the variant's clips, class by class. `raw_dir` is ignored: nothing is read."""
  return definition.Found(
      Clip(f"a{a:02d}_s{s:02d}_c{c}_r{r}", a, s, c, r)
      for a in range(len(CLASS_NAMES)) for s in range(subjects) for c in range(cameras)
      for r in range(repetitions))


def make_subject(seed: int, subject: int):
  """Body and clothes of a subject: (motion.Body, rendering.Clothes)."""
  rng = np.random.default_rng([seed, _SUBJECT_STREAM, subject + 1])
  return motion.make_body(rng), rendering.make_clothes(rng)


def encode(raw: Clip, *, size, num_frames, fps, seed, **_) -> dict:
  """Generates one clip.

  Args:
    raw: an element of `find`.
    size: longest side of the stored frames, pixels.
    num_frames: T.
    fps: frames per second.
    seed: of the whole data set.

  Returns:
    A record: frames list[bytes] of T JPEG images, frame_to_original float32[2,3] (stored
    pixel to original pixel, centres at integers), image_size (height, width), fps float32,
    boxes float32[T,4] in stored pixels, depth_range float32[2] (zeros), pose3d
    float32[1,T,20,3] in metres in camera coordinates (x right, y up, z away), pose2d
    float32[1,T,20,2] in stored pixels, pose_score float32[1,T,20] (0, and zeros for
    coordinates, where the sensor lost a joint), label, subject, camera, setup (always 0),
    num_frames int, clip_id str.
  """
  body, clothes = make_subject(seed, raw.subject)
  rng = np.random.default_rng([seed, raw.action, raw.subject, raw.camera, raw.repetition])
  performed = motion.perform(motion.ACTIONS[raw.action], body, rng, num_frames, fps)
  camera, place = scene.make_camera(rng, raw.camera), scene.make_place(rng)
  joints = camera.view(place.to_world(performed.joints))
  room = scene.make_room(rng, camera, num_frames, fps)
  stool, item = furnish(rng, body, place, performed)

  boxes = rendering.person_boxes(joints, body.girth)
  frame_size, frame_to_original = rendering.stored_region(boxes, size)
  frames = rendering.render(
      rng, camera, room, joints, place.rotate(performed.face) @ camera.rotation.T, body.girth,
      clothes, stool, item, frame_size, frame_to_original)

  scale, origin = frame_to_original[0, 0], frame_to_original[:, 2]
  score = (rng.random(joints.shape[:2]) >= MISSING).astype(np.float32)
  pose3d = joints + rng.normal(0, POSE3D_NOISE, size=joints.shape)
  pose2d = scene.project(joints)
  pose2d = (pose2d + rng.normal(0, POSE2D_NOISE, size=pose2d.shape) - origin) / scale
  corners = np.clip((boxes.reshape(-1, 2, 2) - origin) / scale, 0, np.array(frame_size) - 1)
  return {
      "frames": [images.encode_jpeg(frame, _JPEG_QUALITY) for frame in frames],
      "frame_to_original": frame_to_original,
      "image_size": frame_size[::-1],
      "fps": np.float32(fps),
      "boxes": corners.reshape(-1, 4).astype(np.float32),
      "depth_range": np.zeros(2, np.float32),
      "pose3d": (pose3d * score[..., None])[None].astype(np.float32),
      "pose2d": (pose2d * score[..., None])[None].astype(np.float32),
      "pose_score": score[None],
      "label": raw.action, "subject": raw.subject, "camera": raw.camera, "setup": 0,
      "clip_id": raw.clip_id, "num_frames": num_frames,
  }


def furnish(rng, body, place, performed):
  """The stool behind and the box before the person, in every class alike.

  Args:
    rng: the clip's generator.
    body: the subject's motion.Body.
    place: scene.Place of the person.
    performed: the motion.Motion, whose `item` the box follows.

  Returns:
    (stool, item): scene.Solid at rest, scene.Solid of T frames.
  """
  seat = motion.seat_place(body)
  centre = place.to_world(seat * np.array([1.0, 0.0, 1.0]))
  stool = scene.Solid("cuboid", scene.make_colour(rng), np.array([0.38, seat[1], 0.34]),
                      centre[None], place.turn + rng.uniform(-0.1, 0.1))
  floor = performed.item - np.array([0.0, motion.OBJECT_SIZE / 2, 0.0])
  # Shifted before the hands, so that they stay visible around it.
  floor = floor + np.array([rng.uniform(-0.03, 0.03), 0.0, -rng.uniform(0.02, 0.08)])
  item = scene.Solid("cuboid", scene.make_colour(rng), np.full(3, motion.OBJECT_SIZE),
                     place.to_world(floor), place.turn)
  return stool, item


DATASET = Dataset(
    name="synthetic_actions",
    version="1.1.0",
    class_names=CLASS_NAMES,
    layout="kinect_v1_20",
    modality="colour",
    fps=FPS,
    variants={
        "small": {"size": 96, "num_frames": 32, "fps": FPS, "subjects": 10, "cameras": 3,
                  "repetitions": 2, "seed": 0},
        # For tests: the same movements at half the frame rate.
        "tiny": {"size": 48, "num_frames": 16, "fps": FPS / 2, "subjects": 4, "cameras": 1,
                 "repetitions": 1, "seed": 0}},
    protocols={"cross_subject": cross_subject, "cross_view": cross_view},
    find=find,
    encode=encode,
    # The box grows to 1.3 times its sides.
    reach={"small": 0.15, "tiny": 0.15},
    mirror_classes=MIRROR_CLASSES,
    needs_raw=False)
