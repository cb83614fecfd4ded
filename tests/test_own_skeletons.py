"""Skeletons beside videos of one's own, or without them."""
import shutil

import numpy as np
import pytest

from actionjax.data import own
from actionjax.data.formats.images import decode_frame
from actionjax.data.loading import pose3d
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig
from actionjax.data.own import validation
from actionjax.errors import RawDataError, UserError
from tests import raw_own


def test_skeletons_crop_the_video_and_follow_it(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=1, size=(128, 96))
  pose = raw_own.poses(1, (2, 6, 17), 50, 70)
  score = np.ones((2, 6, 17), np.float32)
  score[1, 2] = 0
  for name in ("clap", "wave"):
    np.savez(raw / name / "0.npz", pose2d=pose, pose_score=score)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"size": 16})
  dataset = raw_own.open_prepared(tmp_path / "data")
  record = dataset[0]
  assert dataset.info["layout"] == "coco_17" and dataset.info["poses"] == ["pose2d"]
  assert dataset.info["notes"] == {}
  there = score > 0
  low, high = pose[there].min(0), pose[there].max(0)
  x0, y0 = np.floor(low - 0.3 * (high - low))
  x1, y1 = np.ceil(high + 0.3 * (high - low)) + 1
  image = decode_frame(record["frames"][0])
  scale = 16 / min(1.2 * (high - low))  # of the box that networks see
  assert image.shape == (round((y1 - y0) * scale), round((x1 - x0) * scale), 3)
  np.testing.assert_array_equal(record["image_size"], image.shape[:2])
  affine = record["frame_to_original"].astype(float)
  back = record["pose2d"] @ affine[:, :2].T + affine[:, 2]
  np.testing.assert_allclose(back[there], pose[there], atol=1e-3)
  assert not record["pose2d"][1, 2].any() and not record["pose_score"][1, 2].any()
  frame = record["pose2d"][:, 3].reshape(-1, 2)
  np.testing.assert_array_equal(record["boxes"][3], [*frame.min(0), *frame.max(0)])
  raw_own.prepare("folder:whole", raw, tmp_path / "data",
                  options={"size": 48, "crop": "none"})
  record = raw_own.open_prepared(tmp_path / "data", "folder:whole")[0]
  assert decode_frame(record["frames"][0]).shape == (48, 64, 3)
  np.testing.assert_allclose(record["pose2d"][there], (pose[there] + 0.5) / 2 - 0.5, atol=1e-4)


def test_skeletons_of_another_length_or_size_are_stretched_and_counted(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=2)  # of 6 and 7 frames
  pose = raw_own.poses(0, (1, 3, 17), 5, 90)
  same = raw_own.poses(1, (1, 7, 17), 5, 40)
  for name in ("clap", "wave"):
    # Found in a rendition of twice the size.
    np.savez(raw / name / "0.npz", pose2d=pose, image_size=(96, 128))
    np.savez(raw / name / "1.npz", pose2d=same, image_size=(48, 64))
  lines = []
  raw_own.prepare("folder:mine", raw, tmp_path / "data", lines.append)
  assert "stretched_skeleton: 2 clips, such as clap/0" in lines
  found = raw_own.by_id(raw_own.open_prepared(tmp_path / "data"))
  for clip, expected in (("wave/0", (pose[:, [0, 0, 1, 1, 2, 2]] + 0.5) / 2 - 0.5),
                         ("wave/1", same)):
    affine = found[clip]["frame_to_original"].astype(float)
    back = found[clip]["pose2d"] @ affine[:, :2].T + affine[:, 2]
    np.testing.assert_allclose(back, expected, atol=1e-3)
  warnings = validation.validate("folder", str(raw), {}, 1).findings
  assert [str(w) for w in warnings] == [
      f"{name}/0: skeletons: have 3 frames, the video 6; time is stretched evenly"
      for name in ("clap", "wave")]


def test_skeletons_of_a_thinned_video(tmp_path):
  raw = tmp_path / "raw"
  for name in ("clap", "wave"):
    raw_own.video(raw / name / "0.mp4", 9)
    np.savez(raw / name / "0.npz", pose3d=(np.arange(9 * 20 * 3.0).reshape(1, 9, 20, 3) + 1) / 64)
  raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"max_frames": 5})
  dataset = raw_own.open_prepared(tmp_path / "data")
  record = dataset[1]
  assert dataset.info["layout"] == "kinect_v1_20" and record["num_frames"] == 5
  assert (record["pose3d"][0, :, 0, 0] * 64).tolist() == [1 + 60 * i for i in (0, 2, 4, 6, 8)]
  assert dataset.info["notes"] == {"thinned": ["clap/0", "wave/0"]}


def test_clips_without_a_skeleton_have_nobody(tmp_path):
  raw = raw_own.folder(tmp_path / "raw", clips=2)
  np.savez(raw / "clap/0.npz", pose3d=raw_own.poses(0, (1, 6, 25), width=3) / 20)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  dataset = raw_own.open_prepared(tmp_path / "data")
  assert dataset.info["notes"] == {"no_skeleton": ["clap/1", "wave/0", "wave/1"]}
  record = raw_own.by_id(dataset)["wave/1"]
  assert record["pose3d"].shape == (0, 7, 25, 3) and record["pose_score"].shape == (0, 7, 25)
  config = DataConfig(dataset="folder:mine", protocol="fraction",
                      inputs={"pose": pose3d.Config(num_poses=4, persons=2)},
                      about=own.Facts.of(dataset.info))
  row = ClipTransform(config).test(record)
  assert row["pose3d"].shape == (1, 2, 4, 25, 3) and not row["pose_score"].any()


def test_skeletons_alone(tmp_path):
  raw = tmp_path / "raw"
  for i, name in enumerate(("clap", "wave")):
    (raw / name).mkdir(parents=True)
    np.savez(raw / name / "0.npz", pose3d=raw_own.poses(i, (1, 4, 15), width=3), layout="cad_15",
             fps=12.5)
  raw_own.prepare("folder:mine", raw, tmp_path / "data")
  dataset = raw_own.open_prepared(tmp_path / "data")
  assert dataset.info["layout"] == "cad_15" and dataset.info["modality"] == "none"
  np.testing.assert_array_equal(dataset[1]["pose3d"], raw_own.poses(1, (1, 4, 15), width=3))
  assert dataset[1]["fps"] == 12.5 and not dataset[1]["frames"]


def test_an_annotation_file_gives_the_skeletons(tmp_path):
  raw = tmp_path / "raw"
  clips = {"clap/S1_rgb": "S1", "clap/S2": "S2", "wave/S3": "wave/S3", "wave/S4": None}
  made = []
  for i, (clip, name) in enumerate(clips.items()):
    raw_own.video(raw / f"{clip}.mp4", 5)
    if name:
      made.append(raw_own.annotation(name, 7, seed=i, shape=(1, 5, 17), image_size=(48, 64)))
  raw_own.dump(raw / "poses.pkl", {"annotations": made, "split": {}})
  lines = []
  raw_own.prepare("folder:mine", raw, tmp_path / "data", lines.append,
                  options={"skeletons": "poses.pkl", "crop": "none"})
  found = raw_own.by_id(raw_own.open_prepared(tmp_path / "data"))
  for i, (clip, name) in enumerate(clips.items()):
    if name:
      np.testing.assert_array_equal(found[clip]["pose2d"],
                                    made[i]["keypoint"].astype(np.float32))
      assert found[clip]["label"] == clip.startswith("wave")
    else:
      assert found[clip]["pose2d"].shape == (0, 5, 17, 2)
  assert "no_skeleton: 1 clips, such as wave/S4" in lines
  raw_own.dump(raw / "poses.pkl", raw_own.annotations(4))
  with pytest.raises(RawDataError, match="no frame_dir is the name of a video, such as clap/S1"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data", options={"skeletons": "poses.pkl"})


@pytest.mark.parametrize("arrays, message", [
    (dict(pose2d=np.zeros((6, 17, 2))), r"pose2d: has shape \[6, 17, 2\], expected \[persons"),
    (dict(pose2d=np.zeros((1, 6, 17, 3))), "pose2d: has shape"),
    (dict(pose2d=np.full((1, 6, 17, 2), "x")), "pose2d: holds <U1, not numbers"),
    (dict(other=np.zeros(3)), "holds 'other.npy', which is not one of its arrays"),
    (dict(pose2d=np.full((1, 6, 17, 2), None)), "holds object, not numbers or text"),
    (dict(pose2d=np.ones((1, 6, 17, 2)), image_size=np.zeros(2)), "image_size: must be"),
    (dict(pose_score=np.ones((1, 6, 17))), "skeletons: has no pose"),
    (b"no archive", "is not a readable .npz archive"), (b"", "is not a readable .npz archive")])
def test_broken_skeleton_files_are_named(tmp_path, arrays, message):
  raw = raw_own.folder(tmp_path / "raw", clips=1)
  np.savez(raw / "clap/0.npz", pose2d=raw_own.poses())
  if isinstance(arrays, bytes):
    (raw / "wave/0.npz").write_bytes(arrays)
  else:
    np.savez(raw / "wave/0.npz", **arrays)
  with pytest.raises(RawDataError, match=f"wave/0.*{message}"):
    raw_own.prepare("folder:mine", raw, tmp_path / "data")


# ---- videos that the annotations label -------------------------------------------------------

NTU = [f"S001C00{camera}P00{person}R001A{action:03d}" for camera, person, action in (
    (1, 1, 1), (2, 1, 1), (1, 2, 13), (3, 2, 13), (2, 1, 60), (1, 2, 60))]


def _ntu(root, folder: str):
  """Videos named as NTU RGB+D's in one folder, and PYSKL's form of annotations beside it."""
  made = []
  for i, name in enumerate(NTU):
    raw_own.video(root / folder / f"{name}_rgb.avi", 5)
    made.append(raw_own.annotation(name, int(name[-3:]) - 1, seed=i, shape=(1, 5, 17)))
  raw_own.video(root / folder / "S001C001P001R001A120_rgb.avi", 5)
  raw_own.dump(root / "ntu60_hrnet.pkl", {"annotations": made, "split": {
      "xsub_train": NTU[:4], "xsub_val": NTU[4:], "xview_train": NTU[1::2],
      "xview_val": NTU[::2]}})


@pytest.mark.parametrize("folder", [".", "nturgb+d_rgb"])
def test_a_flat_folder_of_videos_beside_an_annotation_file(tmp_path, folder):
  raw, lines = tmp_path / "raw", []
  _ntu(raw, folder)
  raw_own.prepare("folder:ntu", raw, tmp_path / "data", lines.append,
                  options={"skeletons": "ntu60_hrnet.pkl", "crop": "square"})
  dataset = raw_own.open_prepared(tmp_path / "data", "folder:ntu")
  # Labels are the file's numbers, 60 classes, however many of them have clips.
  assert dataset.info["class_names"] == [str(label) for label in range(60)]
  found = {clip.rpartition("/")[2]: record["label"] for clip, record in
           raw_own.by_id(dataset).items()}
  assert found == {f"{name}_rgb": int(name[-3:]) - 1 for name in NTU}
  assert dataset.info["protocols"] == ["xsub", "xview"]
  assert any(line.endswith("A120_rgb: skeletons: has no annotation: left out")
             for line in lines)
  assert own.Facts.of(dataset.info).crop == "square"


def test_names_for_the_labels_of_annotations(tmp_path):
  _ntu(tmp_path / "raw", "videos")
  names = tmp_path / "names.txt"
  names.write_text("\n".join(f"action {n}" for n in range(1, 61)))
  options = {"skeletons": "ntu60_hrnet.pkl", "class_names": str(names)}
  raw_own.prepare("folder:ntu", tmp_path / "raw", tmp_path / "data", options=options)
  dataset = raw_own.open_prepared(tmp_path / "data", "folder:ntu")
  assert dataset.info["class_names"][12] == "action 13"
  raw_own.folder(tmp_path / "classes", clips=1)
  shutil.copy(tmp_path / "raw" / "ntu60_hrnet.pkl", tmp_path / "classes")
  with pytest.raises(UserError, match="--class_names says nothing without"):
    raw_own.prepare("folder:other", tmp_path / "classes", tmp_path / "data", options=options)
