"""Toyota Smarthome, trimmed: 31 activities of 18 elderly people at home, seven cameras.

Das, Dai, Koperski, Minciullo, Garattoni, Bremond, Francesca, "Toyota Smarthome: Real-world
activities of daily living", ICCV 2019. Nothing is downloaded here: the licence is granted on
request at https://project.inria.fr/toyotasmarthome. Of what is offered there, put into one folder,
extracted or as zip archives, in any subfolders,

  mp4/Cook.Cut_p02_r00_v02_c03.mp4 ...     the videos (toyota_smarthome_mp4, 640x480)
  json/Cook.Cut_p02_r00_v02_c03.json ...   the skeletons (toyota_smarthome_skeleton, by LCR-Net)

  python -m actionjax.prepare --dataset=smarthome --raw_dir=FOLDER

There are 16,115 clips. Videos alone work, but without skeletons nobody is cropped; so do skeletons
alone (--variant=skeleton: some minutes of one core). Reckoned by the frame as for NTU RGB+D, at 12
seconds a clip, the records of `cropped` take up to 100 GB and 20 hours of one core, and twice the
space while they are put together; the time is shared by all cores. A clip with video but without
skeleton, or in which nobody was found, is kept, whole, with nobody in it.

Protocols: `cross_subject` (11 subjects train, 7 test, all 31 classes); `cross_view_1` (camera 1
trains) and `cross_view_2` (cameras 1, 3, 4, 6, 7 train), both of which test camera 2, validate on
camera 5 and have the 19 classes of `CROSS_VIEW_CLASSES` only. Labels are the same in all of them,
0 to 30, so that one set of records serves all: networks have 31 outputs, of which 12 are never
trained or asked for in the cross-view protocols. Results are means over the classes that occur
(`mean_class_accuracy`), which those 12 do not change.

A skeleton file is {"njts": 13, "frames": [[person, ...], ...]}; a person has `pose2d`, the x of
all joints and then their y, in pixels of 640x480, and `pose3d`, the x of all joints, their y, and
their z, in metres around the body's centre. The first person of a frame is taken, as by the
dataset's authors. LCR-Net's own axes are turned so that x is to the right in the image and y up
(see `_axes`); z, away from the camera, stays relative to the body.
"""
import dataclasses
import json
import re

import numpy as np

from actionjax.data.builders import _kinect
from actionjax.data.clips import boxes, definition, encoding, protocols
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

CLASS_NAMES = (
    "Cook.Cleandishes", "Cook.Cleanup", "Cook.Cut", "Cook.Stir", "Cook.Usestove", "Cutbread",
    "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Drink.Fromglass", "Eat.Attable",
    "Eat.Snack", "Enter", "Getup", "Laydown", "Leave", "Makecoffee.Pourgrains",
    "Makecoffee.Pourwater", "Maketea.Boilwater", "Maketea.Insertteabag", "Pour.Frombottle",
    "Pour.Fromcan", "Pour.Fromkettle", "Readbook", "Sitdown", "Takepills", "Uselaptop",
    "Usetablet", "Usetelephone", "Walk", "WatchTV")
CROSS_VIEW_CLASSES = (
    "Cutbread", "Drink.Frombottle", "Drink.Fromcan", "Drink.Fromcup", "Drink.Fromglass",
    "Eat.Attable", "Eat.Snack", "Enter", "Getup", "Leave", "Pour.Frombottle", "Pour.Fromcan",
    "Readbook", "Sitdown", "Takepills", "Uselaptop", "Usetablet", "Usetelephone", "Walk")
FPS = 20.0

TITLE, CLIPS, JOINTS, CAMERAS = "Toyota Smarthome", 16115, 13, 7
WIDTH, HEIGHT = 640, 480
MAX_FRAMES = 10_000  # longer than any clip: none is thinned
TRAIN_SUBJECTS = (3, 4, 6, 7, 9, 12, 13, 15, 17, 19, 25)
TEST_SUBJECTS = (2, 10, 11, 14, 16, 18, 20)


def _cross_view(train_cameras):
  return protocols.restricted(
      protocols.cross_view(train_cameras, test_cameras=(2,), validation_cameras=(5,)),
      label=[CLASS_NAMES.index(name) for name in CROSS_VIEW_CLASSES])


_FILE = re.compile(r"(?:^|/)(([A-Za-z.]+)_p(\d+)_r\d+_v\d+_c(\d+))(?:(\.mp4)|(?:_pose3d)?\.json)$")


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files; either may be None."""
  clip_id: str
  label: int
  subject: int
  camera: int
  skeleton: Source | None
  video: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    return tuple((source.base, source.size) for source in (self.skeleton, self.video) if source)


def find(raw_dir: str, *, video: bool, crop: bool | str) -> definition.Found:
  """The clips in a folder, however its files are spread over zip archives and subfolders.

  Args:
    raw_dir: the folder. video: whether videos are wanted; without, clips that have no skeleton
      are left out. crop: unused here.

  Raises:
    RawDataError: nothing of the dataset in the folder, a broken archive, a file that the dataset
      does not have, different files for one clip, or a clip with a skeleton but no video where
      others have one; names the file.
  """
  del crop
  kinds, clips = {"skeleton": {}, "video": {}}, {}
  for match, source in archives.listing(raw_dir, _FILE):
    name, activity, subject, camera, film = match.groups()
    subject, camera = int(subject), int(camera)
    if activity not in CLASS_NAMES or not 1 <= camera <= CAMERAS or (
        subject not in TRAIN_SUBJECTS + TEST_SUBJECTS):
      raise RawDataError(f"{source} is not a file of {TITLE}, trimmed (31 activities, subjects "
                         f"{', '.join(map(str, sorted(TRAIN_SUBJECTS + TEST_SUBJECTS)))}, cameras "
                         f"1-{CAMERAS})")
    if video or not film:
      clips[name] = CLASS_NAMES.index(activity), subject, camera
      archives.add(kinds["video" if film else "skeleton"], name, source)
  if not clips:
    raise archives.nothing_found(
        raw_dir, f"ACTIVITY_pNN_rNN_vNN_cNN.json{' or .mp4' * video} files", TITLE)
  skeletons, films = kinds["skeleton"], kinds["video"]
  lacking = sorted(set(skeletons) - set(films))
  if films and lacking:
    raise RawDataError(f"{raw_dir} has the skeleton of {lacking[0]}, but no video of it; fetch it, "
                       "or take all videos away")
  remarks = [f"{len(clips)} of the {CLIPS} clips of {TITLE} are here"] * (len(clips) != CLIPS)
  without = sorted(set(clips) - set(skeletons))
  if skeletons and without:
    remarks.append(f"{len(without)} clip(s) without a skeleton, such as {without[0]}")
  return definition.Found([RawClip(name, *clips[name], skeletons.get(name), films.get(name))
                         for name in sorted(clips)], remarks)


# ---- skeletons -------------------------------------------------------------------------------

def _skeleton(source: Source) -> tuple[np.ndarray, np.ndarray]:
  """The first person of each frame as the file has it.

  Returns:
    pose2d float64[T,13,2] and pose3d float64[T,13,3]; NaN in frames without a person.

  Raises:
    RawDataError: no readable JSON file, or not as the module's description says; names the file
      and the frame.
  """
  try:
    content = json.loads(source.read().decode())
  except (ValueError, RecursionError) as error:
    raise RawDataError(f"{source} is not a readable JSON file ({shown(error, 100)}); "
                       "fetch it again") from None
  frames = content.get("frames") if isinstance(content, dict) else None
  if not isinstance(frames, list) or content.get("njts", JOINTS) != JOINTS:
    raise RawDataError(f"{source} is not an object with a list `frames` and `njts` {JOINTS}; "
                       "skeletons of LCR-Net, version 1, are read")
  flat = np.full((len(frames), 5 * JOINTS), np.nan)
  for t, persons in enumerate(frames):
    if persons == []:
      continue
    try:
      # Some releases append three more numbers to the coordinates of pose3d.
      person = persons[0]
      values = [*person["pose2d"], *person["pose3d"][:3 * JOINTS]]
      if len(person["pose2d"]) != 2 * JOINTS:
        raise ValueError
      flat[t] = np.array(values, np.float64)
    except (KeyError, TypeError, ValueError, OverflowError):
      raise RawDataError(f"{source}: frame {t + 1} is not a list of persons with pose2d of "
                         f"{2 * JOINTS} and pose3d of {3 * JOINTS} numbers; fetch it again"
                         ) from None
  return (flat[:, :2 * JOINTS].reshape(-1, 2, JOINTS).transpose(0, 2, 1),
          flat[:, 2 * JOINTS:].reshape(-1, 3, JOINTS).transpose(0, 2, 1))


def _axes(pose2d: np.ndarray, pose3d: np.ndarray) -> np.ndarray:
  """Signs float64[3] that turn a clip's pose3d so that x is right in the image, y up, z away.

  What LCR-Net's axes mean is not said anywhere, and its own tools take them in different ways. A
  person is seen from the side that the image shows: around the body's centre, pixels grow with x
  where x is right, and with y where y is down. The axes are right-handed, or left arms would be
  right ones, which tells z from the other two.

  Args:
    pose2d: float64[n,13,2]. pose3d: float64[n,13,3]; of frames with a person.
  """
  flat, solid = (pose - pose.mean(1, keepdims=True) for pose in (pose2d, pose3d))
  right, down = np.where((flat * solid[..., :2]).sum((0, 1)) < 0, -1, 1)
  return np.array([right, -down, right * down], np.float64)


def _pose(source: Source) -> encoding.Pose | None:
  """The person of a skeleton file; None where it has no frames. Raises RawDataError."""
  pose2d, pose3d = _skeleton(source)
  if not len(pose2d):
    return None
  with np.errstate(invalid="ignore"):
    there = ((np.abs(pose2d) < boxes.FARTHEST_PIXEL).all((1, 2))
             & (np.abs(pose3d) < _kinect.FARTHEST).all((1, 2)))
  signs = _axes(pose2d[there], pose3d[there])
  pose2d, pose3d = (np.where(there[:, None, None], pose, 0)[None]
                    for pose in (pose2d, pose3d * signs))
  score = np.repeat(there[None, :, None], JOINTS, 2).astype(np.float32)
  return encoding.Pose(pose2d, score, (WIDTH, HEIGHT), pose3d)


def _nobody(frames: int) -> encoding.Pose:
  shape = 1, frames, JOINTS
  return encoding.Pose(np.zeros((*shape, 2)), np.zeros(shape, np.float32), (WIDTH, HEIGHT),
                            np.zeros((*shape, 3)))


def encode(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only.

  Raises:
    RawDataError: an unreadable or malformed file, or a video and a skeleton of lengths that
      cannot belong together; names the files.
  """
  read = encoding.reader(raw.video, MAX_FRAMES) if video else None
  pose = _pose(raw.skeleton) if raw.skeleton else None
  if pose is None and read is None:
    pose = _nobody(1)  # files without any frame exist; a clip has at least one
  record = {"clip_id": raw.clip_id, "label": raw.label, "subject": raw.subject,
            "camera": raw.camera, "fps": FPS} | encoding.fields(
                pose, read, crop=crop, video=video, names=(raw.video, raw.skeleton))
  if pose is None:
    height, width = record["image_size"]
    whole = boxes.StoredWindow(0, 0, width, height, width, height)
    record = encoding.pose_fields(_nobody(record["num_frames"]), whole) | record
  if not record["pose_score"].any():
    record["notes"] = (*record.get("notes", ()), "nobody found")
  return record


DATASET = Dataset(
    name="smarthome",
    version="1.2.0",
    class_names=CLASS_NAMES,
    layout="lcrnet_13",
    modality="colour",
    fps=FPS,
    variants=encoding.VARIANTS,
    protocols={
        "cross_subject": protocols.cross_subject(TRAIN_SUBJECTS),
        "cross_view_1": _cross_view((1,)),
        "cross_view_2": _cross_view((1, 3, 4, 6, 7))},
    find=find,
    encode=encode)
