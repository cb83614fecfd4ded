"""What networks look at lies in what is stored, for every config, and all persons are read."""
import dataclasses

import numpy as np
import pytest

from actionjax import configuration, planning
from actionjax.data import own
from actionjax.data.clips import boxes, encoding
from actionjax.data.formats import images
from actionjax.data.loading import pipeline, pose2d, pose3d, pose_sampling, transforms, video
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, batch_spec
from actionjax.errors import UserError
from tests import preparing, raw_ntu, raw_own

WIDTH, HEIGHT = 1920, 1080


def walk(rng) -> np.ndarray:
  """float64[1,30,17,2]: a person of some size who stands, or walks through the image."""
  body = rng.uniform(-0.5, 0.5, (17, 2)) * rng.uniform([40, 80], [400, 700])
  start, end = rng.uniform([200, 200], [1700, 900], (2, 2))
  way = start + (end - start) * np.linspace(0, rng.choice([0, 1]), 30)[:, None]
  return (way[:, None] + body + rng.normal(0, 5, (30, 17, 2)))[None]


def test_every_square_lies_in_the_stored_ones():
  """Of any frames of 200 clips: what is missing of a square lies beyond the image."""
  rng = np.random.default_rng(0)
  for _ in range(200):
    points = walk(rng)
    window = boxes.clip_window(boxes.pose_boxes(points, np.ones(points.shape[:3])), WIDTH, HEIGHT,
                               square=True)
    for _ in range(5):
      frames = rng.choice(30, rng.integers(1, 8))
      _, _, box = pose_sampling.compact(points[:, frames], (HEIGHT, WIDTH))
      seen = np.clip(box, 0, [WIDTH, HEIGHT] * 2)
      assert (seen[:2] >= [window.x0 - 1, window.y0 - 1]).all(), (points, frames)
      assert (seen[2:] <= [window.x1 + 1, window.y1 + 1]).all(), (points, frames)


def test_networks_see_as_much_of_an_upright_person_as_is_there():
  """A box of 243 x 620, its margin included, used to be stored as 100 x 256."""
  low, high = np.array([800, 250]), np.array([800 + 243 / 1.2, 250 + 620 / 1.2])
  window = boxes.clip_window(np.array([[*low, *high]]), WIDTH, HEIGHT, encoding.STORED_SHORT_SIDE)
  np.testing.assert_allclose(window.to_original[:, :2], np.eye(2))
  box = transforms.clip_box(window.to_stored(np.array([[low, high]])).reshape(1, 4),
                            window.size, margin=0.1)
  np.testing.assert_allclose(box[2:] - box[:2], [243, 620], atol=0.01)
  # Twice as large, the shorter side is reduced to 256.
  twice = boxes.clip_window(np.array([[*low * 2, *high * 2]]), 2 * WIDTH, 2 * HEIGHT, 256)
  assert twice.to_original[0, 0] == pytest.approx(486 / 256, rel=2e-3)


# ---- RGBPose-SlowFast ------------------------------------------------------------------------

def _rgbpose(variant: str) -> DataConfig:
  section = configuration.load("configs/rgbpose_ntu60.py").data
  return dataclasses.replace(planning_data(section), variant=variant)


def planning_data(section) -> DataConfig:
  """A config's data section as it is read."""
  from actionjax.data.loading.config import parse_data
  return parse_data(section, "config.data")


def _bright(root):
  """A clip of an upright person (103 x 517 pixels) in frames of one grey."""
  import av
  pose = raw_ntu.body(12)
  low = pose[..., 5:7].min((0, 1))
  pose[..., 5] = 900 + (pose[..., 5] - low[0]) / 2
  root.mkdir()
  (root / f"{raw_ntu.name(1)}.skeleton").write_bytes(raw_ntu.text(12, {1: (0, pose)}).encode())
  with av.open(str(root / f"{raw_ntu.name(1)}_rgb.avi"), "w") as container:
    stream = container.add_stream("mpeg4", rate=30)
    stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), 180, np.uint8), "rgb24")
    for _ in range(12):
      container.mux(stream.encode(frame))
    container.mux(stream.encode())
  return root


def test_rgbpose_sees_the_whole_square_around_an_upright_person(tmp_path):
  raw, shares = _bright(tmp_path / "raw"), {}
  for variant in ("cropped", "square", "uncropped"):
    dataset, _ = preparing.prepare("ntu60", raw, tmp_path, variant)
    rows = ClipTransform(_rgbpose(variant), views=3).test(dataset[0])["video"]
    shares[variant] = float((rows < 90).mean())
  assert shares["square"] == shares["uncropped"] == 0
  assert shares["cropped"] > 0.5  # which is why a plan refuses it


@pytest.mark.parametrize("changes, message", [
    ({"variant": "cropped"}, "data.video.box=pose2d shows the square around the skeletons, but the "
                             "stored frames are cut to the persons' box; prepare it with "
                             "--variant=square and give data.variant=square"),
    ({"pose2d.padding": 0.5}, "padding=0.5 look beyond the stored squares"),
    ({"pose2d.hw_ratio": 2.0}, "hw_ratio=2 and padding=0.25 look beyond the stored squares")])
def test_windows_beyond_what_is_stored_are_refused_by_a_plan(tmp_path, changes, message):
  config = configuration.load("configs/rgbpose_ntu60.py")
  config.data_dir = str(tmp_path)
  for name, value in changes.items():
    section, _, key = name.rpartition(".")
    place = config.data[section] if section else config.data
    with place.unlocked():
      place[key] = value
  with pytest.raises(UserError, match=rf"^config.steps\[0\].*: .*{message}"):
    planning.plan(config, lenient=True)


@pytest.mark.parametrize("reach, fields, message", [
    (boxes.GROW, dict(margin=0.35), "margin=0.35 and scale_jitter=0 look 0.35 of the persons' box"),
    (boxes.GROW, dict(margin=0.25, scale_jitter=0.1), "look 0.325 of .* end after 0.3"),
    (boxes.GROW, dict(margin=0.3), None), (0.15, dict(margin=0.1, scale_jitter=0.1), None),
    (0.15, dict(margin=0.2), "frames end after 0.15"),
    (boxes.GROW, dict(square=True, margin=0.0), "data.video.square, grown by .* to 1 times the"),
    ("square", dict(square=True), None), ("square", dict(margin=0.3), None),
    ("square", dict(square=True, margin=0.2), "to 1.4 times the box, .* cut to squares grown to"),
    (None, dict(square=True, margin=2.0), None),
    (boxes.GROW, dict(box="frame"), None)])
def test_how_far_a_window_may_reach(reach, fields, message):
  config = video.Config(num_frames=2, size=(8, 8), **fields)
  if message is None:
    config.check_reach(reach, {"video": config})
  else:
    with pytest.raises(UserError, match=message):
      config.check_reach(reach, {"video": config})


def test_a_folder_s_frames_are_checked_as_well(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=2)
  for path in raw.glob("*/*.mp4"):
    np.savez(path.with_suffix(".npz"), pose2d=raw_own.poses())
  told = {}
  for crop in own.CROPS:
    raw_own.prepare("folder:mine", raw, tmp_path / crop, options={"crop": crop})
    config = configuration.load("configs/rgbpose_gym.py:dataset=folder:mine,protocol=fraction")
    config.data_dir = str(tmp_path / crop)
    try:
      planning.plan(config)
    except UserError as error:
      told[crop] = str(error)
  assert set(told) == {"persons"} and "prepare it with --crop=square" in told["persons"]


# ---- brightness ------------------------------------------------------------------------------

@pytest.mark.parametrize("colour", [(126, 128, 128), (100, 90, 160), (150, 140, 100)])
def test_reduced_and_unreduced_frames_are_of_one_brightness(tmp_path, colour):
  """Of one Y, Cb, Cr, whose red, green and blue BT.601's formula says."""
  import av

  from actionjax.data.clips import videos
  planes = np.concatenate([np.full(n, c, np.uint8) for n, c in zip((64 * 96, 32 * 48, 32 * 48),
                                                                   colour)])
  with av.open(str(tmp_path / "a.mkv"), "w") as container:
    stream = container.add_stream("ffv1", rate=10)
    stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
    container.mux(stream.encode(av.VideoFrame.from_ndarray(planes.reshape(96, 96), "yuv420p")))
    container.mux(stream.encode())
  y, cb, cr = np.array(colour, float) - [16, 128, 128]
  y *= 255 / 219
  expected = np.array([y + 1.402 * 255 / 224 * cr,
                       y - (0.344136 * cb + 0.714136 * cr) * 255 / 224, y + 1.772 * 255 / 224 * cb])
  part = 8, 8, 72, 56
  for window in (boxes.whole_window(96, 64), boxes.whole_window(96, 64, 32),
                 boxes.StoredWindow(*part, 64, 48), boxes.StoredWindow(*part, 32, 24)):
    found = []
    with pytest.MonkeyPatch.context() as patch:
      patch.setattr(images, "encode_jpeg", lambda image, quality, found=found: found.append(image))
      videos.read(tmp_path / "a.mkv", lambda *_, window=window: window, 3)
    assert found[0].shape == (*window.size, 3)
    np.testing.assert_allclose(found[0].mean((0, 1)), expected, atol=0.51)


# ---- persons ---------------------------------------------------------------------------------

def _persons(count: int, frames: int = 6) -> dict:
  """An annotation of people in places of their own; the last one walks, the one before runs."""
  rng = np.random.default_rng(count)
  points = np.repeat(rng.uniform(2, 6, (count, 1, 17, 2)), frames, 1)
  points += np.arange(count)[:, None, None, None] * [7, 0]
  points[-1, ..., 1] += 2 * np.arange(frames)[:, None]
  if count > 1:
    points[-2, ..., 1] += 4 * np.arange(frames)[:, None]
  return {"keypoint": points.astype(np.float16), "total_frames": frames,
          "keypoint_score": np.full(points.shape[:3], 0.9, np.float16)}


@pytest.fixture
def crowd(tmp_path):
  """A data_dir with annotations of one to five persons a clip."""
  made = [raw_own.annotation(f"clip{i}", i % 2, **_persons(count))
          for i, count in enumerate((1, 2, 5, 3, 2, 4))]
  ids = [one["frame_dir"] for one in made]
  raw_own.prepare("annotations:crowd", raw_own.dump(tmp_path / "a.pkl", {
      "split": {"train": ids[:3], "val": ids[3:]}, "annotations": made}), tmp_path)
  return str(tmp_path)


def _read(data_dir: str, **fields) -> DataConfig:
  from actionjax.data import catalogue
  return DataConfig(dataset="annotations:crowd", protocol="split",
                    about=catalogue.facts("annotations:crowd", data_dir),
                    inputs={"pose2d": pose2d.Config(num_frames=4, **fields)})


def test_all_persons_of_a_dataset_are_read(crowd):
  config = _read(crowd)
  assert batch_spec(config, 3)["pose2d"].shape == (3, 5, 4, 17, 2)
  clips = pipeline.open_split(config, crowd, "train")
  assert clips.dataset.info["persons"] == {"1": 1, "2": 2, "3": 1, "4": 1, "5": 1}
  batch = next(pipeline.train_batches(clips, config, batch_size=3, seed=0))
  assert sorted((batch["pose_score"] > 0).all((2, 3)).sum(1)) == [1, 2, 5]
  # What a checkpoint says of its data leaves it to the dataset, too.
  assert config.section()["pose2d"]["persons"] == 0
  assert config.left_out(clips.dataset.info["persons"]) == ()


@pytest.mark.parametrize("name", ["ntu60", "ntu120", "gym", "k400", "volleyball", "utd_mhad"])
def test_configs_of_poses_leave_nobody_out(name):
  section = configuration.load(f"configs/posec3d_{name}.py").data
  if "pose2d" in section:
    assert pose2d.Config(**section.pose2d).persons == 0


def test_of_more_persons_those_who_move_are_read_and_the_others_counted(crowd, capsys):
  config = _read(crowd, persons=2)
  clips = pipeline.open_split(config, crowd, "train")
  record = next(clips.dataset[i] for i in range(6) if len(clips.dataset[i]["pose_score"]) == 5)
  kept = transforms.main_persons(record["pose2d"], record["pose_score"], 2)
  assert kept.tolist() == [3, 4]
  row = ClipTransform(config).test(record)
  expected = ClipTransform(config).test(record | {
      key: record[key][3:] for key in ("pose2d", "pose_score")})
  np.testing.assert_array_equal(row["pose2d"], expected["pose2d"])
  line, = config.left_out(clips.dataset.info["persons"])
  assert line == ("data.pose2d.persons=2: 3 of 6 clips of annotations:crowd have more, up to 5; 6 "
                  "persons are left out, those who move least")
  plan = configuration.load("configs/own_data.py:dataset=annotations:crowd,protocol=split,"
                            "inputs=pose2d,tiny")
  plan.data_dir = crowd
  with plan.data.pose2d.unlocked():
    plan.data.pose2d.persons = 2
  planning.plan(plan)
  assert capsys.readouterr().err.count(line) == 1


def test_who_is_chosen():
  rng = np.random.default_rng(0)
  points = np.repeat(rng.uniform(0, 100, (4, 1, 17, 2)), 20, 1)
  score = np.full((4, 20, 17), 0.8, np.float32)
  # Nobody moves: the surest are read. Large ones do not come before small ones.
  score[2] = 0.9
  points[0] *= 5
  assert transforms.main_persons(points, score, 1).tolist() == [2]
  points[1] += rng.normal(0, 3, (20, 1, 1))  # who moves
  points[3] += rng.normal(0, 4, (20, 1, 1))  # who seems to, in joints that are hardly believed
  score[3] = 0.05
  assert transforms.main_persons(points, score, 1).tolist() == [1]
  assert transforms.main_persons(points, score, 2).tolist() == [1, 3]
  # Joints that are missing lie at 0, far away, and are no motion.
  score[2, ::2], points[2, ::2] = 0, 0
  assert transforms.main_persons(points, score, 1).tolist() == [1]
  assert transforms.main_persons(points, score, 4).tolist() == [0, 1, 2, 3]


def test_poses_in_metres_choose_alike():
  points = np.zeros((3, 8, 25, 3), np.float32) + np.arange(25, dtype=np.float32)[:, None] / 20 + 1
  points[1] += np.arange(8)[:, None, None] / 10
  record = {"pose3d": points, "pose_score": np.ones((3, 8, 25), np.float32), "label": 0,
            "clip_id": "x"}
  config = DataConfig(dataset="ntu60", protocol="cross_subject",
                      inputs={"pose": pose3d.Config(num_poses=8)})
  row = ClipTransform(config).test(record)
  np.testing.assert_array_equal(row["pose3d"][0, 0], points[1])
