"""UTD-MHAD's builder, on made-up files and, where they are, on real ones."""
import pathlib
import pickle
import shutil
import zipfile

import numpy as np
import pytest
import scipy.io

from actionjax import skeletons
from actionjax.data import catalogue
from actionjax.data.builders import utd_mhad
from actionjax.data.clips import boxes, protocols
from actionjax.data.clips.dataset import Index
from actionjax.data.clips.record import complete
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError
from tests import raw_utd

CLIP = (3, 2, 4)


def encode(folder, variant="cropped", clip=0):
  options = utd_mhad.DATASET.variants[variant]
  return complete(utd_mhad.encode(utd_mhad.find(str(folder), **options)[clip], **options))


def rewrite(folder, kind, value, name=None):
  """Replaces the one clip's array; name: of its variable."""
  title, variable = {"depth": ("Depth", "d_depth"), "skeleton": ("Skeleton", "d_skel")}[kind]
  path = pathlib.Path(folder) / title / "a{}_s{}_t{}_{}.mat".format(*CLIP, kind)
  scipy.io.savemat(path, {name or variable: value})
  return path


@pytest.fixture
def raw(tmp_path):
  return raw_utd.write(tmp_path / "raw", [CLIP], frames=5)


@pytest.fixture
def arrays():
  seed = 324
  return raw_utd.depth(5, seed), raw_utd.skeleton(5, seed)


def test_classes_and_mirror():
  names = utd_mhad.CLASS_NAMES
  assert len(names) == 27
  assert (names[0], names[7], names[9], names[26]) == (
      "swipe_left", "draw_x", "draw_circle_ccw", "squat")
  swapped = {names[i]: names[j] for i, j in enumerate(utd_mhad.DATASET.mirror_classes) if i != j}
  assert swapped == {"swipe_left": "swipe_right", "swipe_right": "swipe_left",
                     "draw_circle_cw": "draw_circle_ccw", "draw_circle_ccw": "draw_circle_cw"}


def test_projection_by_hand():
  # u = 279.05 x/z + 160; v = 120 - 289.75 y/z: half a metre right and up at 2 m.
  np.testing.assert_allclose(utd_mhad.project(np.array([0.5, 0.5, 2.0])), (229.7625, 47.5625))
  np.testing.assert_allclose(utd_mhad.project(np.array([0.0, -1.0, 2.5])), (160, 235.9))


def test_record_of_a_clip(raw, arrays):
  video, skeleton = arrays
  record = encode(raw)
  assert (record["clip_id"], record["label"], record["subject"]) == ("a3_s2_t4", 2, 2)
  assert (record["camera"], record["setup"], record["fps"]) == (0, 0, 30)
  assert record["num_frames"] == len(record["frames"]) == 5
  # Poses: by joint name, one person, metres.
  names = ("head shoulder_centre spine hip_centre left_shoulder left_elbow left_wrist left_hand "
           "right_shoulder right_elbow right_wrist right_hand left_hip left_knee left_ankle "
           "left_foot right_hip right_knee right_ankle right_foot").split()
  layout = skeletons.layout("kinect_v1_20")
  for raw_joint, name in enumerate(names):
    np.testing.assert_allclose(record["pose3d"][0, :, layout.index(name)],
                               skeleton[raw_joint].T, rtol=1e-6)
  assert (record["pose_score"] == 1).all() and record["pose_score"].shape == (1, 5, 20)
  # The window: all frames' joints, 30 % on each side, within the image.
  u = 279.05 * skeleton[:, 0] / skeleton[:, 2] + 160
  v = -289.75 * skeleton[:, 1] / skeleton[:, 2] + 120
  dx, dy = 0.3 * np.ptp(u), 0.3 * np.ptp(v)
  x0, y0 = int(max(0, np.floor(u.min() - dx))), int(max(0, np.floor(v.min() - dy)))
  x1, y1 = int(min(320, np.ceil(u.max() + dx) + 1)), int(min(240, np.ceil(v.max() + dy) + 1))
  np.testing.assert_array_equal(record["frame_to_original"], [[1, 0, x0], [0, 1, y0]])
  np.testing.assert_array_equal(record["image_size"], [y1 - y0, x1 - x0])
  for t, frame in enumerate(record["frames"]):
    np.testing.assert_array_equal(images.decode_frame(frame), video[y0:y1, x0:x1, t])
  # 2D joints and boxes, in pixels of the stored frame.
  order = [names.index(joint) for joint in layout.joints]
  np.testing.assert_allclose(record["pose2d"][0, :, :, 0], u[order].T - x0, atol=1e-4)
  np.testing.assert_allclose(record["pose2d"][0, :, :, 1], v[order].T - y0, atol=1e-4)
  np.testing.assert_allclose(
      record["boxes"], np.stack([u.min(0) - x0, v.min(0) - y0, u.max(0) - x0, v.max(0) - y0], 1),
      atol=1e-4)
  person = video[y0:y1, x0:x1][video[y0:y1, x0:x1] > 0]
  np.testing.assert_allclose(record["depth_range"], np.quantile(person, (0.001, 0.999)), atol=1)


def test_depth_range_ignores_what_is_not_near_the_joints(raw, arrays):
  video = arrays[0].copy()
  video[100:120, 140:180] = 3900  # 1.3 m behind the person, 8 % of its pixels
  rewrite(raw, "depth", video)
  assert encode(raw)["depth_range"].max() <= 2600
  shutil.rmtree(raw / "Skeleton")
  assert encode(raw)["depth_range"][1] == 3900  # without joints nobody can tell


def test_lost_joints_are_zero_with_score_zero(raw, arrays):
  skeleton = arrays[1].copy()
  skeleton[0, :, 1] = np.nan  # the head, in frame 1
  skeleton[7, 2, 2] = np.nan  # one coordinate of the left hand, in frame 2
  skeleton[3, :, 3] = 0  # the hip centre, in frame 3
  skeleton[:, :, 4] = 0  # nobody, in frame 4
  rewrite(raw, "skeleton", skeleton)
  record, layout = encode(raw), skeletons.layout("kinect_v1_20")
  lost = np.zeros((5, 20), bool)
  for t, joint in ((1, "head"), (2, "left_hand"), (3, "hip_centre")):
    lost[t, layout.index(joint)] = True
  lost[4] = True
  np.testing.assert_array_equal(record["pose_score"][0], ~lost)
  for name in ("pose3d", "pose2d"):
    assert np.isfinite(record[name]).all()
    assert (record[name][0][lost] == 0).all() and (record[name][0][~lost] != 0).all()
  assert np.isnan(record["boxes"][4]).all() and np.isfinite(record["boxes"][:4]).all()


def test_variants_differ_in_the_window_only(raw, arrays):
  cropped, whole, poses = (encode(raw, name) for name in ("cropped", "uncropped", "skeleton"))
  np.testing.assert_array_equal(images.decode_frame(whole["frames"][2]), arrays[0][:, :, 2])
  np.testing.assert_array_equal(whole["frame_to_original"], np.eye(2, 3))
  np.testing.assert_allclose(cropped["pose2d"] + cropped["frame_to_original"][:, 2],
                             whole["pose2d"], atol=1e-4)
  np.testing.assert_array_equal(cropped["pose3d"], poses["pose3d"])
  np.testing.assert_array_equal(whole["pose2d"], poses["pose2d"])
  assert poses["frames"] == [] and (poses["depth_range"] == 0).all()


def test_depth_alone(tmp_path, arrays):
  record = encode(raw_utd.write(tmp_path, [CLIP], frames=5, kinds=("depth",)))
  assert record["pose3d"].size == record["pose2d"].size == record["pose_score"].size == 0
  # The foreground: rows 60-199, columns 110+t to 209+t, t < 5; 30 % of 103 by 139 around.
  np.testing.assert_array_equal(record["frame_to_original"], [[1, 0, 79], [0, 1, 18]])
  assert images.decode_frame(record["frames"][0]).shape == (240 - 18, 245 - 79)
  np.testing.assert_array_equal(
      record["boxes"], [[31 + t, 42, 130 + t, 181] for t in range(5)])
  whole = np.quantile(arrays[0][arrays[0] > 0], (0.001, 0.999))
  np.testing.assert_allclose(record["depth_range"], whole, atol=1)


def test_skeleton_alone(tmp_path):
  raw_utd.write(tmp_path / "raw", [CLIP], kinds=("skeleton",))
  preparation.prepare("utd_mhad", str(tmp_path / "raw"), str(tmp_path), workers=1,
                      report=lambda line: None)
  dataset = catalogue.open_dataset(tmp_path, "utd_mhad")
  assert dataset.info["modality"] == "none" and dataset[0]["frames"] == []
  assert dataset[0]["pose3d"].shape == (1, 4, 20, 3)


def test_large_boxes_are_reduced_and_map_back():
  window = boxes.clip_window(np.array([[100.0, 50, 900, 350]]), 1920, 1080, 80)
  assert (window.x0, window.y0, window.x1, window.y1) == (0, 0, 1141, 441)
  assert (window.width, window.height) == (254, 98)  # reduced by 80 / 360, of the box grown by 10 %
  corners = np.array([[-0.5, -0.5], [253.5, 97.5]])  # the outer edges of the corner pixels
  back = corners @ window.to_original[:, :2].T + window.to_original[:, 2]
  np.testing.assert_allclose(back, [[-0.5, -0.5], [1140.5, 440.5]], atol=1e-3)
  np.testing.assert_allclose(window.to_stored(back), corners, atol=1e-4)
  frame = np.full((1080, 1920), 700, np.uint16)
  frame[:, ::2] = 0
  assert set(np.unique(window.cut(frame))) <= {0, 700}  # depth is never mixed
  assert window.cut(frame).shape == (98, 254)


def test_joints_outside_the_image_still_give_a_window():
  window = boxes.clip_window(np.array([[400.0, 300, 500, 400]]), 320, 240)
  assert (window.x0, window.y0, window.x1, window.y1) == (319, 239, 320, 240)
  assert window.cut(np.ones((240, 320), np.uint16)).shape == (1, 1)


def test_zips_folders_and_loose_files_are_the_same(raw, tmp_path):
  expected = encode(raw)
  zips = raw_utd.zipped(raw, tmp_path / "zips")
  loose = tmp_path / "loose"
  loose.mkdir()
  for file in raw.glob("*/*.mat"):
    shutil.copy(file, loose)
  both = tmp_path / "both"
  shutil.copytree(zips, both)
  shutil.copytree(raw, both, dirs_exist_ok=True)
  for folder in (zips, loose, both):
    record = encode(folder)
    for name in expected:
      np.testing.assert_array_equal(record[name], expected[name])
    assert len(utd_mhad.find(str(folder))) == 1
  assert pickle.loads(pickle.dumps(utd_mhad.find(str(zips)))) == utd_mhad.find(str(zips))


def test_wrong_folders(tmp_path, raw):
  with pytest.raises(RawDataError, match=f"{tmp_path}/no is not a folder"):
    utd_mhad.find(str(tmp_path / "no"))
  (tmp_path / "other").mkdir()
  (tmp_path / "other/a01_s02_e00_v01.json").write_text("{}")
  with pytest.raises(RawDataError, match="other holds no Depth.zip .*it holds: a01_s02_e00_v01"):
    utd_mhad.find(str(tmp_path / "other"))
  shutil.copy(raw / "Depth/a3_s2_t4_depth.mat", raw / "Depth/a28_s2_t4_depth.mat")
  with pytest.raises(RawDataError, match="a28_s2_t4_depth.mat is not a file of UTD-MHAD"):
    utd_mhad.find(str(raw))


def test_two_files_for_one_clip(raw):
  original = raw / "Depth/a3_s2_t4_depth.mat"
  shutil.copy(original, raw / "Depth/a03_s2_t4_depth.mat")
  with pytest.raises(RawDataError, match="two different files.*a0?3_s2.* and .*a0?3_s2"):
    utd_mhad.find(str(raw))
  (raw / "Depth/a03_s2_t4_depth.mat").unlink()
  (raw / "a3_s2_t4_depth.mat").write_bytes(original.read_bytes() + b"\0")
  with pytest.raises(RawDataError, match="two different files"):
    utd_mhad.find(str(raw))


def test_a_clip_without_its_skeleton(raw):
  shutil.copy(raw / "Depth/a3_s2_t4_depth.mat", raw / "Depth/a4_s2_t4_depth.mat")
  with pytest.raises(RawDataError, match="has no a4_s2_t4_skeleton.mat"):
    utd_mhad.find(str(raw))


@pytest.mark.parametrize("kind, value, name, message", [
    ("depth", np.zeros((240, 320, 5), np.uint16), "depth", "no variable d_depth; it holds: depth"),
    ("depth", np.zeros((240, 320, 5)), None, r"is float64\[240, 320, 5\], expected uint16"),
    ("depth", np.zeros((320, 240, 5), np.uint16), None, r"is uint16\[320, 240, 5\]"),
    ("skeleton", np.zeros((25, 3, 5)), None, r"is float64\[25, 3, 5\], expected float64\[20,3,T"),
    ("skeleton", np.zeros((20, 3)), None, r"is float64\[20, 3\]"),
])
def test_wrong_arrays_are_named(raw, kind, value, name, message):
  path = rewrite(raw, kind, value, name)
  with pytest.raises(RawDataError, match=f"{path}.*{message}"):
    encode(raw)


def test_different_lengths(raw, arrays):
  path = rewrite(raw, "skeleton", arrays[1][:, :, :4])
  depth = raw / "Depth/a3_s2_t4_depth.mat"
  with pytest.raises(RawDataError, match=f"{depth} has 5 frames, but {path} has 4"):
    encode(raw)


def test_damaged_files(raw, tmp_path):
  zips = raw_utd.zipped(raw, tmp_path / "zips")
  whole = (zips / "Depth.zip").read_bytes()
  (zips / "Depth.zip").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(RawDataError, match="Depth.zip is not a whole zip archive"):
    utd_mhad.find(str(zips))
  damaged = bytearray(whole)
  damaged[5000:5200] = bytes(200)
  (zips / "Depth.zip").write_bytes(damaged)
  with pytest.raises(RawDataError, match="Depth.zip:Depth/a3_s2_t4_depth.mat cannot be read"):
    encode(zips)
  path = raw / "Depth/a3_s2_t4_depth.mat"
  data = path.read_bytes()
  for part in (data[: len(data) // 2], data[:100], b"", b"not MATLAB at all" * 20):
    path.write_bytes(part)
    with pytest.raises(RawDataError, match=f"{path} is not a readable MATLAB file"):
      encode(raw)


# ---- the real data -------------------------------------------------------------------

@pytest.fixture
def real(real_data):
  return real_data / "utd_mhad"


def test_real_protocol(real):
  clips = utd_mhad.find(str(real))
  assert len(clips) == 861
  index = Index.of([{"clip_id": c.clip_id, "label": c.action - 1, "subject": c.subject,
                             "camera": 0, "setup": 0, "num_frames": 1} for c in clips])
  protocol = utd_mhad.DATASET.protocols["cross_subject"]
  parts = {part: protocols.split(index, protocol, part) for part in protocols.SPLITS}
  assert (len(parts["train"]), len(parts["test"])) == (431, 430)
  assert (len(parts["fit"]), len(parts["validation"])) == (388, 43)
  assert set(index.label[parts["validation"]].tolist()) == set(range(27))
  # The three clips that the dataset lacks.
  counts = np.bincount(index.label)
  assert [i + 1 for i in np.flatnonzero(counts != 32)] == [8, 23, 27]


def test_real_clips(real, tmp_path):
  """A few clips, extracted: against their arrays, and the joints lie on the person."""
  names = ("a14_s3_t2", "a1_s1_t1", "a22_s4_t1", "a27_s8_t3")
  for title in ("Depth", "Skeleton"):
    with zipfile.ZipFile(real / f"{title}.zip") as archive:
      for name in names:
        archive.extract(f"{title}/{name}_{title.lower()}.mat", tmp_path / "raw")
  with zipfile.ZipFile(real / "Skeleton.zip") as archive:
    order = archive.read("Skeleton/Skeleton_joint_order.txt").decode()
  joints = [line.split(". ")[1].rstrip("; \r").replace("center", "centre")
            for line in order.splitlines() if line[:1].isdigit()]
  layout = skeletons.layout("kinect_v1_20")
  preparation.prepare("utd_mhad", str(tmp_path / "raw"), str(tmp_path), workers=1,
                      report=lambda line: None)
  dataset = catalogue.open_dataset(tmp_path, "utd_mhad")
  assert dataset.index.clip_id.tolist() == list(names)
  hits = []
  for record in (dataset[i] for i in range(4)):
    clip = record["clip_id"]
    depth = scipy.io.loadmat(tmp_path / f"raw/Depth/{clip}_depth.mat")["d_depth"]
    skeleton = scipy.io.loadmat(tmp_path / f"raw/Skeleton/{clip}_skeleton.mat")["d_skel"]
    assert record["num_frames"] == depth.shape[2] == skeleton.shape[2]
    for number, joint in enumerate(joints):
      np.testing.assert_allclose(record["pose3d"][0, :, layout.index(joint)],
                                 skeleton[number].T, rtol=1e-6)
    frames = np.stack([images.decode_frame(frame) for frame in record["frames"]])
    x0, y0 = record["frame_to_original"][:, 2].astype(int)
    height, width = frames.shape[1:]
    np.testing.assert_array_equal(
        frames, depth[y0:y0 + height, x0:x0 + width].transpose(2, 0, 1))
    assert (frames > 0).sum() > 0.99 * (depth > 0).sum()  # the crop cuts nothing off
    u, v = np.moveaxis(np.rint(record["pose2d"][0]).astype(int), -1, 0)
    times = np.arange(len(frames))[:, None]
    hits.append(frames[times, np.clip(v, 0, height - 1), np.clip(u, 0, width - 1)] > 0)
    near, far = record["depth_range"]
    assert 1500 < near < far < 4000 and far - near < 1500
    assert ((frames >= near) & (frames <= far)).sum() > 0.98 * (frames > 0).sum()
  assert np.concatenate(hits).mean() > 0.9
