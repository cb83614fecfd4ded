"""The generated data set: reproducible bits, and the properties its docstring promises."""
import collections
import pickle
import types

import cv2
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.builders import synthetic_actions as synthetic
from actionjax.data.synthetic import motion, rendering, scene

LAYOUT = skeletons.KINECT_V1_20
SMALL = synthetic.DATASET.variants["small"]
TINY = synthetic.DATASET.variants["tiny"]
CLASS = {name: i for i, name in enumerate(synthetic.CLASS_NAMES)}


@pytest.fixture(scope="module")
def small_clips():
  """Every class once, over all subjects, cameras and both repetitions."""
  clips = {clip.clip_id: clip for clip in synthetic.find(**SMALL)}
  return [synthetic.encode(clips[f"a{a:02d}_s{(3 * a) % 10:02d}_c{a % 3}_r{a % 2}"], **SMALL)
          for a in range(12)]


@pytest.fixture(scope="module")
def tiny_clips():
  return [synthetic.encode(clip, **TINY) for clip in synthetic.find(**TINY)]


def same(a, b):
  return a.keys() == b.keys() and all(
      x == b[name] if isinstance(x, list | str) else np.array_equal(x, b[name])
      for name, x in a.items())


def index_of(variant):
  clips = synthetic.find(**variant)
  return types.SimpleNamespace(
      label=np.array([c.action for c in clips]), subject=np.array([c.subject for c in clips]),
      camera=np.array([c.camera for c in clips]))


def perform(action, seed=3, subject=0, num_frames=32, fps=15.0):
  body, _ = synthetic.make_subject(0, subject)
  return motion.perform(motion.ACTIONS[CLASS[action]], body, np.random.default_rng(seed),
                        num_frames, fps), body


def test_the_first_variant_is_720_balanced_clips_with_unique_ids():
  assert next(iter(synthetic.DATASET.variants)) == "small"
  clips = synthetic.find(None, **SMALL)
  assert len(clips) == 12 * 10 * 3 * 2 == len({clip.clip_id for clip in clips})
  for name in ("action", "subject", "camera", "repetition"):
    counts = collections.Counter(getattr(clip, name) for clip in clips)
    assert len(set(counts.values())) == 1, name
  assert clips[0].clip_id == "a00_s00_c0_r0"
  assert len(synthetic.find(**TINY)) == 48
  assert skeletons.layout(synthetic.DATASET.layout) is motion.LAYOUT


def test_a_clip_has_the_same_bits_in_any_order_and_after_pickling(tiny_clips):
  clips = synthetic.find(**TINY)
  for i in (47, 0, 21):
    again = synthetic.encode(pickle.loads(pickle.dumps(clips[i])), **TINY)
    assert same(tiny_clips[i], again)
  other = synthetic.encode(clips[0], **{**TINY, "seed": 1})
  assert not np.array_equal(other["pose3d"], tiny_clips[0]["pose3d"])


def test_repetitions_cameras_and_subjects_differ():
  clips = {clip.clip_id: clip for clip in synthetic.find(**SMALL)}
  poses = [synthetic.encode(clips[name], **{**SMALL, "size": 24})["pose3d"]
           for name in ("a00_s00_c0_r0", "a00_s00_c0_r1", "a00_s00_c1_r0", "a00_s01_c0_r0",
                        "a01_s00_c0_r0")]
  for i, a in enumerate(poses):
    assert all(np.abs(a - b).mean() > 0.01 for b in poses[:i])


def test_a_record_has_the_contract_s_fields(small_clips):
  for label, record in enumerate(small_clips):
    frames = [cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR)
              for f in record["frames"]]
    shapes = {frame.shape for frame in frames}
    assert len(frames) == record["num_frames"] == 32 and len(shapes) == 1
    height, width, channels = shapes.pop()
    assert channels == 3 and max(height, width) == 96
    assert record["label"] == label and record["fps"] == np.float32(15)
    for name, shape in (("frame_to_original", (2, 3)), ("boxes", (32, 4)), ("depth_range", (2,)),
                        ("pose3d", (1, 32, 20, 3)), ("pose2d", (1, 32, 20, 2)),
                        ("pose_score", (1, 32, 20))):
      assert record[name].shape == shape and record[name].dtype == np.float32, name
    x0, y0, x1, y1 = record["boxes"].T
    assert (0 <= x0).all() and (x0 < x1).all() and (x1 <= width - 1).all()
    assert (0 <= y0).all() and (y0 < y1).all() and (y1 <= height - 1).all()
    # The stored frame lies in the original image and keeps its aspect.
    affine = record["frame_to_original"].astype(float)
    corner = affine @ [width - 1, height - 1, 1]
    assert affine[0, 0] == affine[1, 1] and affine[0, 1] == affine[1, 0] == 0
    assert (affine[:, 2] >= 0).all() and (corner <= np.array(scene.IMAGE_SIZE) - 0.5).all()


def test_pose2d_is_the_projection_of_pose3d_up_to_noise(small_clips):
  for record in small_clips:
    seen = record["pose_score"][0] > 0
    affine = record["frame_to_original"].astype(float)
    stored = (scene.project(record["pose3d"][0].astype(float)) - affine[:, 2]) / affine[0, 0]
    error = (stored - record["pose2d"][0])[seen]
    # 12 mm at 3 to 4 m and 1 pixel, each in the original, are about 1.4 pixels together.
    spread = error.std() * affine[0, 0]
    assert 1.0 < spread < 1.8
    assert np.abs(error.mean(axis=0)).max() < 0.2
    for name in ("pose3d", "pose2d"):
      assert not record[name][0][~seen].any()
  missing = 1 - np.mean([record["pose_score"] for record in small_clips])
  assert 0.004 < missing < 0.02


def test_the_drawn_person_is_where_the_boxes_are():
  """Two renderings that differ in clothes alone differ inside the boxes alone."""
  body, clothes = synthetic.make_subject(0, 1)
  performed, _ = perform("kick_left", subject=1, num_frames=6, fps=3.0)
  joints = motion_in_camera(performed)
  boxes = rendering.person_boxes(joints, body.girth)
  size, affine = rendering.stored_region(boxes, 96)
  films = []
  for shirt in (0.0, 1.0):
    rng = np.random.default_rng(0)
    camera = scene.make_camera(rng, 0)
    room = scene.make_room(rng, camera, 6, 3.0)
    stool, item = synthetic.furnish(rng, body, scene.Place(0.0, np.zeros(3)), performed)
    colours = {name: np.full(3, 255 * shirt) for name in clothes.colours}
    films.append(rendering.render(rng, camera, room, joints, performed.face, body.girth,
                                  rendering.Clothes(colours), stool, item, size, affine))
  changed = np.abs(films[0].astype(int) - films[1]).max(axis=-1) > 8
  for t in range(6):
    ys, xs = np.nonzero(changed[t])
    found = np.array([xs.min(), ys.min(), xs.max(), ys.max()])
    expected = (boxes[t].reshape(2, 2) - affine[:, 2]).reshape(4) / affine[0, 0]
    np.testing.assert_allclose(found, expected, atol=3.0)


def motion_in_camera(performed):
  camera = scene.make_camera(np.random.default_rng(0), 0)
  return camera.view(scene.Place(0.0, np.zeros(3)).to_world(performed.joints))


@pytest.mark.parametrize("action", synthetic.CLASS_NAMES)
def test_bones_keep_their_length_and_feet_stay_above_the_floor(action):
  performed, body = perform(action)
  ends = performed.joints[:, LAYOUT.edges]
  lengths = np.linalg.norm(ends[:, :, 0] - ends[:, :, 1], axis=-1)
  expected = [body.bones[child.removeprefix("left_").removeprefix("right_")]
              for _, child in LAYOUT.bones]
  np.testing.assert_allclose(lengths, np.broadcast_to(expected, lengths.shape), rtol=1e-9)
  ankles = performed.joints[:, LAYOUT.part("left_leg")[2]], performed.joints[
      :, LAYOUT.part("right_leg")[2]]
  lowest = np.minimum(ankles[0][:, 1], ankles[1][:, 1])
  assert lowest.min() >= motion.ANKLE_HEIGHT - 1e-9
  if action != "jumping_jacks":
    np.testing.assert_allclose(lowest, motion.ANKLE_HEIGHT, atol=1e-9)
  np.testing.assert_allclose(np.linalg.norm(performed.face, axis=-1), 1)


def test_camera_coordinates_keep_lengths_and_are_kinect_s():
  for number in range(3):
    camera = scene.make_camera(np.random.default_rng(5), number)
    np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-12)
    feet, head = camera.view(np.array([[0.0, 0.0, 0.0], [0.0, 1.7, 0.0]]))
    assert head[1] > feet[1] + 1.5 and 3 < feet[2] < 5  # y up, z away
    assert scene.project(head)[1] < scene.project(feet)[1]  # pixels count downwards
    left = camera.view(np.array([0.5, 1.0, 0.0]))
    assert left[0] > 0.3  # the left-hand side of a person who faces the camera


@pytest.mark.parametrize("left, right", [("wave_left_hand", "wave_right_hand"),
                                         ("kick_left", "kick_right")])
def test_one_limb_pairs_are_exact_mirror_images(left, right):
  a, _ = perform(left)
  b, _ = perform(right)
  np.testing.assert_array_equal(motion.mirror(a.joints)[:, LAYOUT.mirror], b.joints)
  np.testing.assert_array_equal(motion.mirror(a.face), b.face)
  # It is the named limb that moves most.
  limb = "hand" if left.startswith("wave") else "foot"
  for performed, side in ((a, "left"), (b, "right")):
    travel = np.linalg.norm(np.diff(performed.joints, axis=0), axis=-1).sum(axis=0)
    assert LAYOUT.joints[travel.argmax()] == f"{side}_{limb}"


@pytest.mark.parametrize("forth, back", [("sit_down", "stand_up"), ("pick_up", "put_down"),
                                         ("push_away", "pull_in")])
def test_time_order_pairs_are_exact_reversals(forth, back):
  a, _ = perform(forth)
  b, _ = perform(back)
  for name in ("joints", "face", "item"):
    np.testing.assert_array_equal(getattr(a, name)[::-1], getattr(b, name))
  # The pair differs: the clip ends elsewhere than it begins.
  assert np.abs(a.joints[-1] - a.joints[0]).max() > 0.2


def test_movements_do_what_their_names_say():
  joint = {name: i for i, name in enumerate(LAYOUT.joints)}
  for seed in range(8):
    sit, body = perform("sit_down", seed)
    hips = sit.joints[:, joint["hip_centre"], 1]
    assert hips[-1] < 0.65 * hips[0]
    assert abs(sit.joints[-1, joint["left_hip"], 1] - motion.seat_place(body)[1]) < 0.15
    pick, _ = perform("pick_up", seed)
    assert pick.item[0, 1] == motion.OBJECT_SIZE / 2 and pick.item[-1, 1] > 0.8
    hands = pick.joints[:, [joint["left_hand"], joint["right_hand"]]]
    np.testing.assert_allclose(hands.mean(axis=1)[-1], pick.item[-1], atol=0.05)
    assert np.linalg.norm(hands.mean(axis=1) - pick.item, axis=-1).min() < 0.12
    clap, _ = perform("clap_hands", seed)
    gap = np.linalg.norm(clap.joints[:, joint["left_hand"]]
                         - clap.joints[:, joint["right_hand"]], axis=-1)
    assert gap.min() < 0.2 and gap.max() > 0.4
    push, _ = perform("push_away", seed)
    reach = -push.joints[:, joint["left_hand"], 2]
    assert reach[-1] > reach[0] + 0.2
    jump, _ = perform("jumping_jacks", seed)
    assert jump.joints[:, joint["left_hand"], 1].max() > jump.joints[0, joint["head"], 1]


def test_movements_are_smooth():
  """No joint is faster than 14 m/s or jumps: ten times finer sampling, ten times less."""
  for action in synthetic.CLASS_NAMES:
    coarse, _ = perform(action)
    fine, _ = perform(action, num_frames=320, fps=150.0)
    step, fine_step = (np.linalg.norm(np.diff(m.joints, axis=0), axis=-1).max()
                       for m in (coarse, fine))
    assert step < 14 / 15 and fine_step < 14 / 150, action


def test_flip_and_reversal_permute_the_classes():
  for classes in (synthetic.MIRROR_CLASSES, synthetic.REVERSE_CLASSES):
    assert all(classes[classes[i]] == i for i in range(12))
  swapped = {CLASS[name] for name in ("wave_left_hand", "wave_right_hand", "kick_left",
                                      "kick_right")}
  assert {i for i, j in enumerate(synthetic.MIRROR_CLASSES) if i != j} == swapped
  assert synthetic.MIRROR_CLASSES[CLASS["kick_left"]] == CLASS["kick_right"]
  assert synthetic.REVERSE_CLASSES[CLASS["sit_down"]] == CLASS["stand_up"]
  assert synthetic.REVERSE_CLASSES[CLASS["clap_hands"]] == CLASS["clap_hands"]


def test_protocols_share_no_subject_or_camera():
  for variant in synthetic.DATASET.variants.values():
    index = index_of(variant)
    for name, field in (("cross_subject", "subject"), ("cross_view", "camera")):
      split = synthetic.DATASET.protocols[name](index)
      assert (split["train"] ^ split["test"]).all()
      ids = getattr(index, field)
      assert not set(ids[split["train"]]) & set(ids[split["test"]])
  split = synthetic.DATASET.protocols["cross_subject"](index_of(SMALL))
  assert (split["train"].sum(), split["test"].sum()) == (504, 216)
  split = synthetic.DATASET.protocols["cross_view"](index_of(SMALL))
  assert (split["train"].sum(), split["test"].sum()) == (480, 240)
  split = synthetic.DATASET.protocols["cross_subject"](index_of(TINY))
  assert (split["train"].sum(), split["test"].sum()) == (36, 12)


def test_the_background_does_not_give_the_class_away():
  """Nearest neighbours by the colours of the first frame's upper corners: chance."""
  variant = {**SMALL, "size": 32, "num_frames": 2, "fps": 1.0, "cameras": 1, "repetitions": 2}
  corners, labels = [], []
  for clip in synthetic.find(**variant):
    record = synthetic.encode(clip, **variant)
    frame = cv2.imdecode(np.frombuffer(record["frames"][0], np.uint8), cv2.IMREAD_COLOR)
    corners.append([frame[:3, :3].mean(axis=(0, 1)), frame[:3, -3:].mean(axis=(0, 1))])
    labels.append(clip.action)
  corners, labels = np.array(corners).reshape(len(labels), -1), np.array(labels)
  distance = np.square(corners[:, None] - corners).sum(axis=-1)
  np.fill_diagonal(distance, np.inf)
  right = (labels[distance.argmin(axis=1)] == labels).mean()
  assert right < 1 / 12 + 4 * np.sqrt(1 / 12 * 11 / 12 / len(labels))
