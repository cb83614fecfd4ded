"""N-UCLA's builder, on files in the official form written here, and on real ones."""
import json
import re
import zipfile

import cv2
import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax import skeletons
from actionjax.data import catalogue
from actionjax.data.builders import nucla
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import Index
from actionjax.data.clips.record import complete
from actionjax.data.formats import images
from actionjax.data.preparing import preparation
from actionjax.errors import RawDataError

CLIP = "a08_s03_e01_v02"
FOLDER = "view_2/a08_s03_e01"


def pose(frames: int, seed: int = 0) -> np.ndarray:
  """float64[T,20,3]: a person 2.5 m away who moves sideways."""
  rng = np.random.default_rng(seed)
  body = rng.uniform([-0.3, -0.8, 2.4], [0.3, 0.7, 2.6], (20, 3))
  return np.round(body + np.linspace(0, 0.2, frames)[:, None, None] * [1.0, 0, 0], 6)


def pixels(skeleton: np.ndarray) -> np.ndarray:
  """The second version's Equation 1 with Y upwards, as plain numbers."""
  x, y, z = np.moveaxis(np.asarray(skeleton, np.float64), -1, 0)
  return np.stack([320 + 554.84 * x / z, 240 - 583.68 * y / z], -1)


def write_json(folder, skeleton, clip=CLIP, **fields):
  """A JSON file as skeleton papers use it; fields replace or (None) remove its own."""
  label = 1 + (1, 2, 3, 4, 5, 6, 8, 9, 11, 12).index(int(clip[1:3]))
  content = {"file_name": clip, "skeletons": np.asarray(skeleton).tolist(), "label": label}
  content = {k: v for k, v in (content | fields).items() if v is not None}
  path = folder / f"{clip}.json"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(content))
  return path


def write_frames(folder, count, size=(640, 480), where=FOLDER, first=9):
  """Frames `frame_9_tc_..._rgb.jpg` and on, beside depth images; returns their bytes."""
  files = []
  (folder / where).mkdir(parents=True, exist_ok=True)
  for t in range(count):
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    image[:, 3 * t:3 * t + 40] = (20, 200, 240)
    files.append(cv2.imencode(".jpg", image)[1].tobytes())
    stem = folder / where / f"frame_{first + t}_tc_{90467319 + 80 * t}"
    stem.with_name(stem.name + "_rgb.jpg").write_bytes(files[-1])
    stem.with_name(f"frame_{first + t}_tc_{90467351 + 80 * t}_depth_vis.jpg").write_bytes(b"-")
  (folder / where / "fileList.txt").write_text("not read")
  return files


def write_text(folder, frame, people, where=FOLDER):
  """One frame's skeletons as text: per person a line with a number, and 20 of x,y,z,state."""
  lines = []
  for number, person in enumerate(people):
    lines += [str(number), *(",".join(map(repr, map(float, (*joint, 2)))) for joint in person)]
  (folder / where).mkdir(parents=True, exist_ok=True)
  path = folder / where / f"frame_{frame}_tc_{90467351 + frame}_skeletons.txt"
  path.write_text("\n".join(lines) + "\n" * bool(lines))
  return path


def encode(folder, variant="skeleton", clip=0):
  options = nucla.DATASET.variants[variant]
  return complete(nucla.encode(nucla.find(str(folder), **options)[clip], **options))


def prepare(raw, data, variant="cropped"):
  lines = []
  preparation.prepare("nucla", str(raw), str(data), variant=variant, workers=1,
                      report=lines.append)
  return catalogue.open_dataset(data, "nucla", variant), lines


# ---- classes and protocols -----------------------------------------------------------------

def test_classes():
  assert len(set(nucla.CLASS_NAMES)) == 10 == len(nucla.ACTIONS)
  names = dict(zip(nucla.ACTIONS, nucla.CLASS_NAMES))
  assert (names[4], names[8], names[11], names[12]) == ("walk_around", "donning", "throw", "carry")


def test_protocols_are_rules_over_names():
  names = [f"a{a:02d}_s{s:02d}_e00_v{v:02d}" for a in (1, 12) for s in (1, 2, 10)
           for v in (1, 2, 3)]
  index = Index.of([
      {"clip_id": n, "label": 0, "subject": int(n[5:7]), "camera": int(n[-2:]), "setup": 0,
       "num_frames": 1} for n in names])
  assert set(nucla.DATASET.protocols) == {f"view_{v}" for v in (1, 2, 3)} | {
      f"subject_{s}" for s in range(1, 11)}
  for protocol, suffix in [(f"view_{v}", rf".*_v0{v}") for v in (1, 2, 3)] + [
      ("subject_2", ".*_s02_.*"), ("subject_10", ".*_s10_.*")]:
    test = {n for n in names if re.fullmatch(suffix, n)}
    split = nucla.DATASET.protocols[protocol]
    rows = {part: set(index.clip_id[protocols.split(index, split, part)])
            for part in ("train", "test")}
    assert rows == {"train": set(names) - test, "test": test}


# ---- what a record holds ----------------------------------------------------------------------

def test_skeletons_survive_preparation_exactly(tmp_path):
  skeleton = pose(7)
  write_json(tmp_path / "raw/all_sqe", skeleton)
  dataset, lines = prepare(tmp_path / "raw", tmp_path, "skeleton")
  assert "view_2: 0 train, 1 test" in lines
  record = dataset[0]
  assert (record["clip_id"], record["label"], record["subject"], record["camera"],
          record["num_frames"], record["fps"]) == (CLIP, 6, 3, 2, 7, 12)
  np.testing.assert_array_equal(record["pose3d"], skeleton[None].astype(np.float32))
  np.testing.assert_allclose(record["pose2d"][0], pixels(skeleton), atol=1e-4)
  assert record["pose_score"].shape == (1, 7, 20) and (record["pose_score"] == 1).all()
  expected = np.concatenate([pixels(skeleton).min(1), pixels(skeleton).max(1)], 1)
  np.testing.assert_allclose(record["boxes"], expected, atol=1e-4)
  # Joint order: Kinect v1's, in which the hands are 7 and 11.
  layout = skeletons.layout(nucla.DATASET.layout)
  assert (layout.index("left_hand"), layout.index("right_hand")) == (7, 11)


def test_whole_frames_keep_their_files(tmp_path):
  write_json(tmp_path / "raw", pose(5))
  files = write_frames(tmp_path / "raw/multiview_action", 5)
  dataset, _ = prepare(tmp_path / "raw", tmp_path, "uncropped")
  record = dataset[0]
  assert record["frames"] == files and dataset.info["modality"] == "colour"
  assert (record["frame_to_original"] == np.eye(2, 3)).all()
  np.testing.assert_array_equal(record["image_size"], [480, 640])
  np.testing.assert_allclose(record["pose2d"][0], pixels(pose(5)), atol=1e-4)


def test_cropped_frames_and_joints_share_the_stored_pixels(tmp_path):
  write_json(tmp_path / "raw", pose(5))
  files = write_frames(tmp_path / "raw", 5)
  dataset, _ = prepare(tmp_path / "raw", tmp_path)
  record = dataset[0]
  points = pixels(pose(5)).reshape(-1, 2)
  low, high = points.min(0), points.max(0)
  margin = 0.3 * (high - low)
  x0, y0 = np.maximum(np.floor(low - margin), 0).astype(int)
  x1, y1 = np.minimum(np.ceil(high + margin) + 1, [640, 480]).astype(int)
  scale = min(1, 256 / min(np.minimum(high + margin / 3, [640, 480])
                           - np.maximum(low - margin / 3, 0)))
  frames = np.stack([images.decode_frame(frame) for frame in record["frames"]])
  assert frames.shape[1:3] == (round((y1 - y0) * scale), round((x1 - x0) * scale))
  affine = record["frame_to_original"].astype(np.float64)
  np.testing.assert_allclose(np.diag(affine), 1 / scale, rtol=5e-3)
  back = record["pose2d"][0] @ affine[:, :2].T + affine[:, 2]
  np.testing.assert_allclose(back, pixels(pose(5)), atol=1e-3)
  # The outer corner of the stored frame is that of the window.
  np.testing.assert_allclose(affine[:, 2] - affine[:, :2] @ [0.5, 0.5], [x0 - 0.5, y0 - 0.5],
                             atol=1e-3)
  for t, frame in enumerate(frames):
    whole = cv2.imdecode(np.frombuffer(files[t], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    part = cv2.resize(whole[y0:y1, x0:x1], frame.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(frame.astype(int) - part).mean() < 2


def test_frames_come_in_the_order_of_their_numbers(tmp_path):
  write_frames(tmp_path, 4, first=8)  # frame_10 sorts before frame_8 as text
  record = encode(tmp_path, "uncropped")
  starts = [int(np.argmax(images.decode_frame(frame)[200, :, 0] > 150))
            for frame in record["frames"]]
  assert starts == sorted(starts) and len(set(starts)) == 4


def test_skeletons_of_another_length_are_matched_in_proportion(tmp_path):
  write_json(tmp_path, pose(6))
  write_frames(tmp_path, 9)
  record = encode(tmp_path, "uncropped")
  picks = np.floor((np.arange(9) + 0.5) * 6 / 9).astype(int)
  np.testing.assert_array_equal(record["pose3d"][0], pose(6)[picks].astype(np.float32))


def test_reduced_frames_move_the_joints_with_them(tmp_path):
  write_json(tmp_path, pose(3))
  write_frames(tmp_path, 3, size=(320, 240))
  record = encode(tmp_path, "uncropped")
  np.testing.assert_allclose(record["pose2d"][0], (pixels(pose(3)) + 0.5) / 2 - 0.5, atol=1e-4)


def test_text_skeletons_belong_to_their_frames(tmp_path):
  write_frames(tmp_path, 4, first=20)
  near, far = pose(1)[0], pose(1, 1)[0] + [0, 0, 1.0]
  write_text(tmp_path, 20, [near])
  write_text(tmp_path, 22, [far, near])  # the nearer person is the one
  write_text(tmp_path, 23, [])
  record = encode(tmp_path, "uncropped")
  assert record["pose_score"][0].all(1).tolist() == [True, False, True, False]
  np.testing.assert_array_equal(record["pose3d"][0, [0, 2]], [near.astype(np.float32)] * 2)
  assert (record["pose3d"][0, [1, 3]] == 0).all()
  # A JSON file goes first; texts alone make a clip of skeletons.
  assert encode(tmp_path, "skeleton")["pose_score"][0].all(1).tolist() == [True, True, False]
  write_json(tmp_path, pose(4, 5))
  np.testing.assert_array_equal(encode(tmp_path)["pose3d"][0], pose(4, 5).astype(np.float32))


def test_clips_without_skeletons_are_kept_with_nobody_in_them(tmp_path):
  raw = tmp_path / "raw"
  write_json(raw, pose(3))
  write_frames(raw, 3)
  write_frames(raw, 4, where="view_1/a12_s10_e00")
  dataset, lines = prepare(raw, tmp_path)
  assert lines[0] == "1 clip(s) without a skeleton, such as a12_s10_e00_v01"
  record = dataset[1]
  assert record["clip_id"] == "a12_s10_e00_v01" and record["label"] == 9
  assert images.decode_frame(record["frames"][0]).shape == (480, 640, 3)
  assert record["pose3d"].shape == (1, 4, 20, 3) and (record["pose_score"] == 0).all()
  assert np.isnan(record["boxes"]).all()
  found = nucla.find(str(raw), **nucla.DATASET.variants["skeleton"])
  assert [clip.clip_id for clip in found] == [CLIP]


def test_lost_joints_have_score_zero(tmp_path):
  skeleton = pose(4)
  skeleton[0, 3] = np.nan
  skeleton[1, 4, 1] = np.inf
  skeleton[2, 5] = 0
  skeleton[3, 6] = [0, 0, 1e30]
  write_json(tmp_path, skeleton)
  record = encode(tmp_path)
  lost = np.zeros((4, 20), bool)
  lost[range(4), [3, 4, 5, 6]] = True
  np.testing.assert_array_equal(record["pose_score"][0], ~lost)
  for name in ("pose3d", "pose2d"):
    assert (record[name][0][lost] == 0).all() and np.isfinite(record[name]).all()


# ---- files and mistakes -------------------------------------------------------------------------

def test_archives_give_the_same_clips(tmp_path):
  write_json(tmp_path / "raw", pose(3))
  write_frames(tmp_path / "raw", 3)
  (tmp_path / "zips").mkdir()
  with zipfile.ZipFile(tmp_path / "zips/all.zip", "w") as archive:
    for file in sorted((tmp_path / "raw").rglob("*.*")):
      archive.write(file, file.relative_to(tmp_path / "raw"))
  ours, theirs = (nucla.find(str(tmp_path / name)) for name in ("raw", "zips"))
  assert preparation.fingerprint(ours) == preparation.fingerprint(theirs)
  a, b = (nucla.encode(found[0]) for found in (ours, theirs))
  assert a["frames"] == b["frames"] and len(a["frames"]) == 3


def test_mistakes_in_the_folder(tmp_path):
  with pytest.raises(RawDataError, match="nowhere is not a folder"):
    nucla.find(str(tmp_path / "nowhere"))
  (tmp_path / "notes.txt").write_text("")
  with pytest.raises(RawDataError, match=r"holds no view_V/.* files of N-UCLA; it holds: notes"):
    nucla.find(str(tmp_path))
  write_json(tmp_path, pose(3))
  write_frames(tmp_path, 3, where="view_1/a08_s03_e01")
  with pytest.raises(RawDataError, match=f"has the skeleton of {CLIP}, but no frames of it; fetch"):
    nucla.find(str(tmp_path))
  (tmp_path / "a07_s03_e01_v02.json").write_text("{}")
  with pytest.raises(RawDataError, match="a07_s03_e01_v02.json is not a file of N-UCLA"):
    nucla.find(str(tmp_path))
  (tmp_path / "a07_s03_e01_v02.json").unlink()
  write_json(tmp_path / "again", pose(4))
  with pytest.raises(RawDataError, match=f"two different files for one clip: .*{CLIP}.json"):
    nucla.find(str(tmp_path))


def text_of(**fields):
  base = {"file_name": CLIP, "label": 7, "skeletons": pose(3).tolist()}
  return json.dumps({k: v for k, v in (base | fields).items() if v is not None})


RAGGED = pose(3).tolist()
RAGGED[1] = RAGGED[1][:-1]


@pytest.mark.parametrize("text, message", [
    ("", "is not a readable JSON file"),
    (text_of()[:500], "is not a readable JSON file"),
    ("[" * 100000, "is not a readable JSON file"),
    ("[1, 2]", "is not a JSON object"),
    (text_of(skeletons=None), "has no skeletons; it holds: file_name, label"),
    ('{"\\u001b": 1}', r"has no skeletons; it holds: \\x1b$"),
    (text_of(skeletons=[]), r"skeletons is float64\[0\], expected numbers \[T,20,3\]"),
    (text_of(skeletons=pose(3)[:, :15].tolist()), r"skeletons is float64\[3, 15, 3\], expected"),
    (text_of(skeletons=pose(3)[..., :2].tolist()), r"skeletons is float64\[3, 20, 2\]"),
    (text_of(skeletons=RAGGED), r"skeletons is object\[\], expected numbers"),
    (text_of(skeletons=pose(3).astype(str).tolist()), r"skeletons is <U\d+\[3, 20, 3\]"),
    (text_of(skeletons=[[[None] * 3] * 20]), r"skeletons is object\[1, 20, 3\]"),
    (text_of(skeletons=[[[10**30] * 3] * 20]), r"skeletons is object\[1, 20, 3\]"),
    (text_of(skeletons=np.full((2, 20, 3), np.nan).tolist()),
     "no joint of its 2 skeletons is usable"),
    (text_of(skeletons=np.zeros((2, 20, 3)).tolist()), "no joint of its 2 skeletons is usable"),
    (text_of(skeletons=(1000 * pose(2)).tolist()), "no joint of its 2 skeletons is usable"),
    (text_of(label=8), "label is '8', but the file's name says 7"),
    (text_of(file_name="a01_s01_e00_v01"), "file_name is 'a01_s01_e00_v01', but the file's name"),
])
def test_malformed_json_is_an_error_that_names_file_and_field(tmp_path, text, message):
  path = tmp_path / f"{CLIP}.json"
  path.write_text(text)
  with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}") as caught:
    encode(tmp_path)
  assert "\n" not in str(caught.value)


def test_malformed_frames_and_texts(tmp_path):
  files = write_frames(tmp_path, 3)
  path = next((tmp_path / FOLDER).glob("frame_10_*_rgb.jpg"))
  other = cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))[1].tobytes()
  for data, message in ((b"", "is not a readable image"), (files[1][:900], "truncated JPEG"),
                        (other, r"is an image of \[240, 320, 3\], the clip's first of \[480")):
    path.write_bytes(data)
    with pytest.raises(RawDataError, match=f"^{re.escape(str(path))}.*{message}.*fetch it again"):
      encode(tmp_path, "cropped")
  path.write_bytes(files[1])
  text = write_text(tmp_path, 9, [pose(1)[0]])
  whole = text.read_text()
  for data, message in (("\n".join(whole.split("\n")[:15]), "has 15 lines, which is not a mul"),
                        (whole.replace(",", ";"), "after line 1 are not x,y,z each"),
                        (re.sub(r",[^,]*,2.0", "", whole), "after line 1 are not x,y,z each")):
    text.write_text(data)
    with pytest.raises(RawDataError, match=f"^{re.escape(str(text))}.*{message}"):
      encode(tmp_path, "cropped")


@st.composite
def mutated(draw):
  """A good JSON file with bytes or values changed, moved or left out."""
  data = bytearray(text_of(skeletons=pose(2).tolist()).encode())
  for _ in range(draw(st.integers(1, 4))):
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    kind = draw(st.sampled_from(["cut", "byte", "value", "drop"]))
    if kind == "cut":
      data = data[:at]
    elif kind == "byte" and data:
      data[at] = draw(st.integers(0, 255))
    elif kind == "drop":
      del data[at:at + draw(st.integers(1, 40))]
    else:
      words = bytes(data).split(b", ")
      words[draw(st.integers(0, len(words) - 1))] = draw(st.sampled_from(
          [b"NaN", b"-Infinity", b"1e999", b"null", b"true", b"[]", b"{}", b'"1"', b"9" * 5000,
           b"-1e30", b"1e-300", b"0"]))
      data = bytearray(b", ".join(words))
  return bytes(data)


def check_that_only_the_documented_error_comes(folder, text):
  (folder / f"{CLIP}.json").write_bytes(text)
  try:
    record = encode(folder)
  except RawDataError as error:
    assert "\n" not in str(error) and str(folder) in str(error)
    return
  score = record["pose_score"]
  assert score.any() and record["pose3d"].shape == (*score.shape, 3) == (1, *score.shape[1:], 3)
  for name in ("pose3d", "pose2d"):
    assert np.isfinite(record[name]).all() and (record[name][score == 0] == 0).all()


@hypothesis.given(text=mutated())
@hypothesis.settings(max_examples=150, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_mutated_json_gives_the_documented_error_or_a_sound_record(tmp_path, text):
  check_that_only_the_documented_error_comes(tmp_path, text)


@pytest.mark.slow
@hypothesis.given(text=st.one_of(mutated(), st.binary(max_size=300)))
@hypothesis.settings(max_examples=1500, deadline=None,
                     suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_more_mutated_json(tmp_path, text):
  check_that_only_the_documented_error_comes(tmp_path, text)


# ---- the real data -------------------------------------------------------------------------

def test_real_sample(real_data, tmp_path):
  """30 official sequences, prepared, against their files."""
  raw = real_data / "nucla_sample"
  dataset, lines = prepare(raw, tmp_path, "skeleton")
  files = sorted(raw.glob("*.json"))
  assert dataset.index.clip_id.tolist() == [file.stem for file in files] and len(files) == 30
  assert np.bincount(dataset.index.label).tolist() == [3] * 10
  assert [line for line in lines if line.startswith("view_")] == [
      f"view_{v}: 20 train, 10 test" for v in (1, 2, 3)]
  layout = skeletons.layout("kinect_v1_20")
  inside = []
  for i, file in enumerate(files):
    content, record = json.loads(file.read_text()), dataset[i]
    assert record["label"] == content["label"] - 1
    np.testing.assert_array_equal(record["pose3d"][0],
                                  np.array(content["skeletons"], np.float32))
    assert (record["pose_score"] == 1).all()
    points = record["pose2d"][0]
    inside.append((points > 0) & (points < [640, 480]))
    # Upright persons, whose heads are above their feet: the image's y grows downwards.
    heads, feet = points[:, layout.index("head"), 1], points[:, layout.index("left_foot"), 1]
    assert (heads < feet).all()
    # Bones of a person's lengths, in metres: neighbours in the layout are neighbours.
    bones = np.linalg.norm(record["pose3d"][0][:, layout.edges[:, 0]]
                           - record["pose3d"][0][:, layout.edges[:, 1]], axis=-1)
    assert 0.02 < np.median(bones, 0).min() and np.median(bones, 0).max() < 0.6
  assert np.concatenate(inside).mean() > 0.97
