"""2D skeletons on their way to the network: against the released code's numbers and by hand."""
import dataclasses
import itertools

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data import catalogue
from actionjax.data.loading import inputs, pipeline, pose2d, pose3d, pose_sampling, transforms
from actionjax.data.loading import video as videos
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, batch_spec
from actionjax.errors import UserError
from actionjax.evaluators import classification
from actionjax.ops import heatmaps
from tests import raw_own, references
from tests.views import shared

LAYOUT = skeletons.layout("coco_17")
SMALL = pose2d.Config(num_frames=6, persons=2, size=(24, 20), test_size=(32, 32))


def _record(points, score=None, size=(1080, 1920), **fields):
  points = np.asarray(points, np.float32)
  if score is None:
    score = (points != 0).any(-1)
  return {"clip_id": "x", "label": 1, "frames": [], "pose2d": points,
          "pose_score": np.asarray(score, np.float32), "image_size": np.array(size), **fields}


def _walk(persons=1, frames=10, seed=0, low=(40, 20), high=(140, 180)):
  return np.random.default_rng(seed).uniform(low, high, (persons, frames, 17, 2))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  """A prepared annotation file; coordinates in an image of 48 by 64."""
  root = tmp_path_factory.mktemp("pose2d")
  raw_own.prepare("annotations:mine", raw_own.dump(root / "a.pkl", raw_own.annotations(12)), root)
  return str(root)


def _config(prepared=None, **fields):
  about = None
  if prepared:
    about = catalogue.facts("annotations:mine", prepared)
  read = {name: fields.pop(name, None) for name in ("video", "pose", "pose2d") if name in fields}
  read = {name: value for name, value in ({"pose2d": SMALL} | read).items() if value is not None}
  return DataConfig(**dict(dataset="annotations:mine", protocol="xsub", about=about, threads=1,
                           inputs=read) | fields)


def _applied(config, record, framing):
  row = pose2d.apply(config, record, shared(LAYOUT)[0], framing)
  return row["pose2d"], row["pose_score"]


# ---- one clip ------------------------------------------------------------------------------


def test_testing_is_the_released_codes():
  known = references.stored("pose_sampling_mmaction")
  height, width = known["compact_img_shape"]
  # Twenty frames are fewer than a clip: all are seen, and the box is that of the fixture.
  config = pose2d.Config(persons=1, frames="mmaction2")
  record = _record(known["compact_in"])
  for clips in (1, 10):
    framings = pose2d.views(config, record, shared(LAYOUT, clips))
    for number, framing in enumerate(framings):
      start = number * 20 // clips
      np.testing.assert_array_equal(framing.frames, (start + np.arange(48)) % 20)
      points, score = _applied(config, record, framing)
      expected = known["compact_out"][:, framing.frames] * [64 / width, 64 / height]
      np.testing.assert_allclose(points, expected, rtol=1e-5, atol=1e-4)
      np.testing.assert_array_equal(score, 1)
  # Long clips: the frames themselves.
  long = _record(np.tile(known["compact_in"], (1, 16, 1, 1))[:, :300])
  frames = np.concatenate([f.frames for f in pose2d.views(config, long, shared(LAYOUT, 10))])
  np.testing.assert_array_equal(frames, known["uniform_test_T300_clips10"])


@pytest.mark.parametrize("test_resize", ["square", "center"])
def test_test_views_by_hand(test_resize):
  # Joints from (100, 50) to (140, 150); a quarter more: 70..  half sides 25 and 62.5.
  points = np.zeros((1, 4, 17, 2))
  points[:, :, 0], points[:, :, 1], points[:, :, 2] = (100, 50), (140, 150), (120, 100)
  config = dataclasses.replace(SMALL, hw_ratio=2.0, test_size=(64, 64), test_resize=test_resize)
  framing, = pose2d.views(config, _record(points), shared(LAYOUT))
  out, score = _applied(config, _record(points), framing)
  # Box: height 125 from 37 (37.5 cut) to 162, width 62.5 from 88 (88.75) to 151 (151.25).
  x, y = (np.array([100, 140, 120]) - 88) / 63 * 64, (np.array([50, 150, 100]) - 37) / 125 * 64
  if test_resize == "center":
    # 125x63 resized to 127x64, of which the middle 64 rows are taken: 31 above, 32 below.
    y = (np.array([50, 150, 100]) - 37) / 125 * 127 - 31
  np.testing.assert_allclose(out[0, 0, :3], np.stack([x, y], -1), rtol=1e-6)
  assert not out[0, :, 3:].any() and not out[1].any()
  np.testing.assert_array_equal(score[0, 0], [1, 1, 1] + [0] * 14)


@pytest.mark.slow
def test_the_mirrored_view_is_the_reversed_map():
  config = dataclasses.replace(SMALL, num_frames=5)
  record = _record(_walk(2, 7), np.random.default_rng(1).uniform(0.3, 1, (2, 7, 17)))
  plain, mirrored = (_applied(config, record, pose2d.views(
      config, record, shared(LAYOUT, mirror=mirror))[0]) for mirror in (False, True))
  for kind, windows, most in (("joint", False, 1e-5), ("limb", False, 1e-5),
                              ("joint", True, 0.012)):
    there, back = (heatmaps.heatmaps(jnp.array(points)[None], jnp.array(score)[None], (32, 32),
                                     LAYOUT, kind=kind, windows=windows)
                   for points, score in (plain, mirrored))
    np.testing.assert_allclose(back, heatmaps.mirror(there, LAYOUT, kind), atol=most)
  assert np.abs(mirrored[0] - plain[0]).max() > 1


class _Fixed:
  """A generator that draws the middle of every interval, and the given integers in turn."""

  def __init__(self, *integers):
    self._integers = list(integers)

  def random(self, size=None):
    return 0.5 if size is None else np.full(size, 0.5)

  def uniform(self, low, high, size=None):
    return (low + high) / 2 if size is None else np.full(size, (low + high) / 2)

  def integers(self, limit):
    return np.zeros_like(limit) if np.ndim(limit) else self._integers.pop(0)


def test_training_by_hand():
  # A square of 125 from (57, 37), resized to 64; a window of 0.78 of its area, that is 57x57
  # (56.5 rounded), at (3, 5); scaled to 20 wide and 24 high.
  points = np.zeros((1, 12, 17, 2))
  points[:, :, 0], points[:, :, 1] = (100, 50), (140, 150)
  for mirror in (False, True):
    framing = pose2d.draw(SMALL, _record(points), shared(LAYOUT, mirror=mirror)[0], _Fixed(3, 5))
    np.testing.assert_array_equal(framing.frames, np.arange(6) * 2)
    out, score = _applied(SMALL, _record(points), framing)
    side = round(np.sqrt(0.78 * 64 * 64))
    x = ((np.array([100, 140]) - 57) / 125 * 64 - 3) / side * 20
    y = ((np.array([50, 150]) - 37) / 125 * 64 - 5) / side * 24
    places = [0, 1]
    if mirror:
      x, places = 20 - x, LAYOUT.mirror[:2]
    np.testing.assert_allclose(out[0, 0, places], np.stack([x, y], -1), rtol=1e-5)
    assert score[0].sum() == 2 * 6 and (score[0][:, places] == 1).all()


def test_training_windows_keep_their_bounds():
  rng = np.random.default_rng(0)
  record, config = _record(_walk(frames=30)), dataclasses.replace(SMALL, num_frames=30)
  box = pose_sampling.compact(record["pose2d"], (1080, 1920))[2]
  side = box[2] - box[0]
  for _ in range(200):
    window = pose2d.draw(config, record, shared(LAYOUT)[0], rng).box
    assert (window[:2] >= box[:2] - 1e-6).all() and (window[2:] <= box[2:] + 1e-6).all()
    share = np.prod(window[2:] - window[:2]) / side**2
    assert 0.54 < share < 1.01


@pytest.mark.parametrize("case", ["nobody", "lost", "nan", "one frame", "tiny", "unknown size"])
def test_clips_with_little_in_them(case):
  points, score = _walk(2, 9), np.ones((2, 9, 17))
  size = (240, 320)
  if case == "nobody":
    points, score = np.zeros((0, 9, 17, 2)), np.zeros((0, 9, 17))
  elif case == "lost":
    points, score = 0 * points, 0 * score
  elif case == "nan":
    points[1] = np.nan
  elif case == "one frame":
    points, score = points[:, :1], score[:, :1]
  elif case in ("tiny", "unknown size"):
    points, size = 100 + points / 100, (0, 0) if case == "unknown size" else size
  record, config = _record(points, score, size), SMALL
  rng = np.random.default_rng(0)
  framings = [*pose2d.views(config, record, shared(LAYOUT, 2)),
              pose2d.draw(config, record, shared(LAYOUT, mirror=True)[0], rng)]
  for framing in framings:
    out, found = _applied(config, record, framing)
    assert out.shape == (2, 6, 17, 2) and np.isfinite(out).all()
    assert (out[found == 0] == 0).all()
    persons = {"nobody": [0, 0], "lost": [0, 0], "nan": [1, 0]}.get(case, [1, 1])
    np.testing.assert_array_equal(found.max((1, 2)), persons)
  if case == "tiny":  # too small to be cut out: the whole image
    np.testing.assert_array_equal(framings[0].box, [0, 0, 320, 240])
  if case == "unknown size":  # all joints, from the image's corner
    np.testing.assert_array_equal(framings[0].box[2:],
                                  np.ceil(points.astype(np.float32).max((0, 1, 2))))


def test_released_codes_draw_different_frames():
  record = _record(_walk(frames=60))
  frames = {name: pose2d.views(dataclasses.replace(SMALL, frames=name), record, shared(LAYOUT, 3))
            for name in pose_sampling.RELEASED}
  for name, extra in (("pyskl", True), ("mmaction2", False)):
    np.testing.assert_array_equal(
        [framing.frames for framing in frames[name]],
        pose_sampling.evaluation_frames(60, 6, 3, extra_draw=extra))
  assert not np.array_equal(frames["pyskl"][0].frames, frames["mmaction2"][0].frames)


@pytest.mark.parametrize("fields, message", [
    (dict(test_resize="squash"), "test_resize must be one of square, center, got 'squash'"),
    (dict(frames="paper"), "frames must be one of pyskl, mmaction2, got 'paper'"),
    (dict(size=(56,)), r"size must be \(an integer, an integer\), got \(56,\)"),
    (dict(num_frames=0), "num_frames must be at least 1, got 0"),
    (dict(area=(0.5, 1.2)), r"area must be two rising bounds in \(0, 1\], got 0.5, 1.2"),
    (dict(persons=-1), "persons must be at least 0"),
    (dict(aspect=(2, 1)), "aspect must be two rising bounds"),
    (dict(padding=-1), "hw_ratio must be above 0 and padding 0 or more")])
def test_wrong_sections(fields, message):
  with pytest.raises(ValueError, match=message):
    pose2d.Config(**fields)


# ---- with a video --------------------------------------------------------------------------


def _filmed(frames=8, size=(120, 160)):
  """A clip in which every joint is a white dot of five pixels, and its record."""
  rng = np.random.default_rng(0)
  points = np.zeros((1, frames, 17, 2))
  points[0, :, 0] = rng.uniform((20, 20), (140, 100), (frames, 2)).round()
  points[0, :, 1] = (20, 20)
  points[0, :, 2] = (140, 100)
  images = np.zeros((frames, *size, 3), np.uint8)
  for image, (x, y) in zip(images, points[0, :, 0].astype(int)):
    cv2.rectangle(image, (x - 2, y - 2), (x + 2, y + 2), (255, 255, 255), -1)
  return _record(points, size=size, frames=list(images), boxes=np.zeros((0, 4)),
                 depth_range=np.zeros(2))


def _joint(**fields):
  return DataConfig(
      dataset="annotations:mine", protocol="xsub", flip=0.5, about=_about(),
      inputs=dict(
          pose2d=dataclasses.replace(SMALL, num_frames=8, size=(96, 96), test_size=(112, 112)),
          video=videos.Config(num_frames=8, size=(96, 96), test_size=(112, 112), box="pose2d",
                             sampling="uniform")), **fields)


def _about():
  from actionjax.data import own
  return own.Facts(("a", "b"), "coco_17", "colour", ("pose2d",), ("xsub",))


def _check_dots(video, points, mirrored):
  """The white dot lies where the joint says; pixels count from corners, hence the half."""
  joint = LAYOUT.mirror[0] if mirrored else 0
  found = 0
  for image, (x, y) in zip(video, points[0, :, joint]):
    if not (4 < x < image.shape[1] - 4 and 4 < y < image.shape[0] - 4):
      continue
    weight = image[..., 0].astype(float)
    rows, columns = np.indices(weight.shape)
    centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
    np.testing.assert_allclose(centre, (x, y), atol=1.6)
    found += 1
  return found


def test_video_and_skeletons_show_the_same_part():
  record, transform, found = _filmed(), ClipTransform(_joint()), 0
  rng = np.random.default_rng(0)
  boxes = set()
  for _ in range(12):
    row = transform.train(record, rng)
    assert row["video"].shape == (8, 96, 96, 3) and row["pose2d"].shape == (2, 8, 17, 2)
    # Eight of eight frames: both see them in order.
    mirrored = row["pose2d"][0, 0, 1, 0] > row["pose2d"][0, 0, 2, 0]
    found += _check_dots(row["video"], row["pose2d"], mirrored)
    boxes.add(row["pose2d"][0, 0, 1].tobytes())
  assert found > 60 and len(boxes) == 12
  row = ClipTransform(_joint(), views=2, flips=True).test(record)
  assert row["video"].shape == (4, 8, 112, 112, 3)
  for view in range(4):
    assert _check_dots(row["video"][view], row["pose2d"][view], view % 2) == 8
  np.testing.assert_array_equal(row["video"][1], row["video"][0][:, :, ::-1])


def test_the_papers_ablations_of_sampling_and_cropping():
  """One person walks through an image of 200 x 100, two pixels a frame."""
  layout = skeletons.layout("coco_17")
  points = np.random.default_rng(0).uniform(30, 50, (1, 40, 17, 2)).astype(np.float32)
  points[..., 0] += 2 * np.arange(40)[None, :, None]
  record = {"pose2d": points, "pose_score": np.ones((1, 40, 17), np.float32),
            "image_size": (100, 200), "clip_id": "x", "frames": [], "label": 0}
  at = lambda position: inputs.Shared(layout, "none", position)
  config = pose2d.Config(num_frames=6, persons=1, sampling="strided", stride=3, compact=False,
                         test_size=(50, 50))
  for choice, start in zip(pose2d.views(config, record, [at(0.0), at(0.999)]), (0, 24)):
    np.testing.assert_array_equal(choice.frames, start + 3 * np.arange(6))
    np.testing.assert_array_equal(choice.box, [0, 0, 200, 100])
    shown = pose2d.apply(config, record, at(0.0), choice)["pose2d"]
    np.testing.assert_allclose(shown, points[:, choice.frames] * [50 / 200, 50 / 100], rtol=1e-5)
  drawn = pose2d.draw(config, record, at(0.5), np.random.default_rng(1))
  np.testing.assert_array_equal(np.diff(drawn.frames), 3)
  # As released: frames out of every part of the clip, and the square around them.
  usual, = pose2d.views(pose2d.Config(num_frames=6, persons=1), record, [at(0.5)])
  assert np.ptp(usual.frames) > 20 and (usual.box[2] - usual.box[0] <
                                        200) and usual.box[1] != 0


def test_a_video_without_its_model_s_skeletons_still_follows_them():
  config = _joint()
  assert config.only(("video",)) == config
  alone = config.only(("pose2d", "pose_score"))
  assert alone.inputs == {"pose2d": config.inputs["pose2d"]}
  assert set(batch_spec(config, 2)) == {"label", "valid", "video", "pose2d", "pose_score"}
  assert batch_spec(config, 2, test=True)["video"].shape == (2, 8, 112, 112, 3)


def test_pixels_beside_the_image_are_black():
  record = _filmed()
  record["frames"] = [np.full_like(frame, 200) for frame in record["frames"]]
  # Joints from 20 to 140 across and 20 to 100 down: the square reaches 15 rows over the image.
  row = ClipTransform(_joint()).test(record)
  video = row["video"][0]
  assert (video[:, 0] == 0).all() and (video[:, -1] == 0).all() and (video[:, 56, 8:-8] > 190).all()
  window = transforms.Window(-50, 5, -10, 20, (6, 7))
  np.testing.assert_array_equal(window.apply(record["frames"][0]), np.zeros((6, 7, 3)))


def test_sections_that_do_not_go_together():
  frames = videos.Config(num_frames=2, size=(8, 8))
  for read, message in (
      (dict(pose=pose3d.Config(3)), "pose and pose2d cannot both be given"),
      (dict(video=frames), "video.box must be pose2d where there is a section pose2d"),
      (dict(video=dataclasses.replace(frames, box="pose2d"), pose2d=None),
       "video.box must")):
    with pytest.raises(UserError, match=message):
      _config(**read)
  with pytest.raises(ValueError, match="margin says nothing beside box=pose2d"):
    videos.Config(num_frames=2, size=(8, 8), box="pose2d", margin=0.2)
  about = dataclasses.replace(_about(), poses=("pose3d",))
  with pytest.raises(UserError, match="annotations:mine has pose3d, and the config's data.pose2d"):
    _ = _config(about=about).layout


# ---- batches -------------------------------------------------------------------------------


def _same(batches, others):
  for batch, other in zip(batches, others, strict=True):
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_batches_depend_on_seed_and_step_alone(prepared):
  config = _config(prepared, flip=0.5, time_jitter=0.3)
  clips = pipeline.open_split(config, prepared, "train")

  def train(count, config=config, **kwargs):
    kwargs = dict(batch_size=4, seed=3) | kwargs
    return list(itertools.islice(pipeline.train_batches(clips, config, **kwargs), count))

  batches = train(6)
  spec = batch_spec(config, 4)
  for key, value in spec.items():
    assert (batches[0][key].shape, batches[0][key].dtype) == (value.shape, value.dtype), key
  # The host sends coordinates: 48 frames of two skeletons, not 48 maps of 64x64 for each joint.
  c = config.inputs["pose2d"]
  joints = c.persons * c.num_frames * config.layout.num_joints
  sent = sum(value.nbytes for value in batches[0].values())
  coordinates = 4 * joints * (2 + 1) * np.dtype(np.float32).itemsize
  assert coordinates <= sent <= coordinates + 4 * 24  # labels and the clips' numbers
  _same(train(2, step=4), batches[4:])
  _same(train(6, dataclasses.replace(config, threads=3)), batches)
  assert not np.array_equal(train(1, seed=4)[0]["pose2d"], batches[0]["pose2d"])
  assert all(batch["valid"].all() for batch in batches)


def test_ten_clips_and_their_mirror_images_are_twenty_views(prepared):
  config = _config(prepared)
  clips = pipeline.open_split(config, prepared, "test")
  views = classification.ViewConfig(temporal=10, flips=True)
  batch, = pipeline.test_batches(clips, config, batch_size=5, views=10, flips=True)
  assert views.count == 20 and batch["pose2d"].shape == (5, 20, 2, 6, 17, 2)
  assert batch["valid"].tolist() == [1, 1, 1, 0, 0]
  plain, = pipeline.test_batches(clips, config, batch_size=5, views=10)
  np.testing.assert_array_equal(batch["pose2d"][:, ::2], plain["pose2d"])
  np.testing.assert_array_equal(batch["pose_score"][:, 1::2],
                                plain["pose_score"][..., LAYOUT.mirror])
  x, found = plain["pose2d"][..., LAYOUT.mirror, 0], plain["pose_score"][..., LAYOUT.mirror] > 0
  np.testing.assert_allclose(batch["pose2d"][:, 1::2, ..., 0][found], 31 - x[found], atol=1e-5)


def test_mirrored_views_vote_for_the_mirrored_class(prepared):
  """A model that tells by the first joint's side; its two classes swap in a mirror."""
  class Side:
    inputs = ("pose2d", "pose_score")

    def apply(self, variables, batch, train):
      left = batch["pose2d"][:, 0, 0, 0, 0] < 16
      return jnp.where(left[:, None], jnp.array([2.0, 0, 0]), jnp.array([0, 2.0, 0])), {}

  points = jnp.array([8.0, 31 - 8.0]).reshape(1, 2, 1, 1, 1, 1) * jnp.ones((1, 2, 1, 1, 1, 2))
  batch = {"pose2d": points, "pose_score": jnp.ones((1, 2, 1, 1, 1)), "label": jnp.zeros(1, int)}
  views = classification.ViewConfig(flips=True)
  run = lambda **kwargs: classification.make_view_step(Side(), views, **kwargs)({}, batch)[0][0]
  expected = jax.nn.softmax(jnp.array([2.0, 0, 0]))
  np.testing.assert_allclose(run(mirror_classes=(1, 0, 2)), expected, rtol=1e-6)
  np.testing.assert_allclose(run()[:2], (expected[:2] + expected[1::-1]) / 2, rtol=1e-6)


def test_records_of_another_layout_or_without_skeletons_are_refused(prepared):
  transform = ClipTransform(_config(prepared))
  for points, message in ((np.ones((1, 4, 20, 2)), "clip x has skeletons of 20 joints; coco_17"),
                          (np.ones((0, 0, 0, 2)), "clip x has no 2D skeletons, which data.pose2d")):
    with pytest.raises(UserError, match=message):
      transform.test(_record(points))


def test_several_windows_need_room(prepared):
  """Where all of the box is shown, three crops would be one."""
  for fields, fits in ((dict(), False), (dict(test_resize="center"), True)):
    config = _config(prepared, pose2d=dataclasses.replace(SMALL, **fields))
    if fits:
      assert ClipTransform(config, crops="three").count == 3
    else:
      with pytest.raises(UserError, match="views.crops=three needs room"):
        ClipTransform(config, crops="three")
