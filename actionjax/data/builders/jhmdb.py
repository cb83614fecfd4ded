"""JHMDB: 21 actions, 928 clips of single persons whose joints were marked by hand.

Jhuang, Gall, Zuffi, Schmid, Black, "Towards understanding action recognition", ICCV 2013. Nothing
is downloaded here. From http://jhmdb.is.tue.mpg.de take the joint positions, the splits and, for
video, the frames or the recompressed videos, and put them, extracted or as zip archives, into one
folder:

  joint_positions/CLASS/CLIP/joint_positions.mat
  splits/CLASS_test_split1.txt ... CLASS_test_split3.txt
  Rename_Images/CLASS/CLIP/00001.png ...        or ReCompress_Videos/CLASS/CLIP.avi

  python -m actionjax.prepare --dataset=jhmdb --raw_dir=FOLDER

Where a clip has both, the images are taken: it is those that the joints were marked in. All takes
a minute or two and 0.6 GB, joints alone (--variant=skeleton) take seconds. Splits 1, 2 and 3 have
660 / 268, 658 / 270 and 663 / 265 clips; results are usually the mean over the three.

The variant `pickled` reads the poses that DD-Net's repository (fandulu/DD-Net, data/JHMDB) spread
instead: GT_train_1.pkl, GT_test_1.pkl and those of splits 2 and 3, any of them. They hold 14 of the
21 classes, 609 clips (433 / 176, 433 / 176, 434 / 175), so that results on them are not JHMDB's.
Their coordinates are the dataset's `pos_world`: relative to the middle of the image and divided
by its height and by the person's scale. They are stored as they would be in an image of 320x240 of
a person of scale 1, who is 0.9 of its height tall.

The files count pixels from 1, as MATLAB does; records from 0, as all others.

Joints are always given, hidden ones and those outside the image by a guess of the annotators'.
`setup` says where a clip belongs: for each split k, bit k-1 is set if the clip trains in it, and
bit k+2 if it tests.
"""
import dataclasses
import hashlib
import pathlib
import re

import numpy as np

from actionjax.data.clips import definition, encoding, image_frames
from actionjax.data.clips.boxes import FARTHEST_PIXEL
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives, matlab, plain_pickle
from actionjax.data.formats.archives import Source
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

CLASS_NAMES = ("brush_hair", "catch", "clap", "climb_stairs", "golf", "jump", "kick_ball", "pick",
               "pour", "pullup", "push", "run", "shoot_ball", "shoot_bow", "shoot_gun", "sit",
               "stand", "swing_baseball", "throw", "walk", "wave")
FPS = 30.0
CLIPS = 928
WIDTH, HEIGHT, JOINTS, SPLITS = 320, 240, 15, 3
MAX_FRAMES = 1000  # no clip has more than 40
_CLASS = r"(?P<action>[a-z_]+)"
_FILE = re.compile(
    r"(?:^|/)(?:"
    rf"joint_positions/{_CLASS}/(?P<posed>[^/]+)/joint_positions\.mat"
    rf"|Rename_Images/{_CLASS.replace('action', 'imaged')}/(?P<folder>[^/]+)/(?P<number>\d+)\.png"
    rf"|ReCompress_Videos/{_CLASS.replace('action', 'filmed')}/(?P<video>[^./][^/]*)\.avi"
    rf"|splits/{_CLASS.replace('action', 'listed')}_test_split(?P<split>[123])\.txt)$")
_SKIPPED = re.compile(r"puppet_mask|puppet_flow_.*|\.AppleDouble|__MACOSX")
_PICKLE = re.compile(r"GT_(train|test)_([123])\.pkl")


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip: its files, or where it comes from a pickle its poses.

  Attributes:
    setup: the splits, as the module's description says.
    images: in order of time.
    pose: float64[T,15,2] of a pickle, else None.
  """
  clip_id: str
  label: int
  setup: int
  joints: Source | None = None
  images: tuple[Source, ...] = ()
  video: Source | None = None
  pose: np.ndarray | None = None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name, bytes): the same from a zip or a folder; the splits are told beside them."""
    files = (self.joints, *self.images, self.video)
    return (("setup", self.setup), ("poses", 0 if self.pose is None else self.pose.nbytes),
            *((file.base, file.size) for file in files if file))


def _bit(split: int, test: bool) -> int:
  return 1 << (split + 2 if test else split - 1)


def _official(split: int):
  """The protocol of one of the official splits, told by the index's `setup`."""
  def protocol(index):
    return {part: index.setup & _bit(split, part == "test") > 0 for part in ("train", "test")}
  return protocol


def find(raw_dir: str, *, video: bool, crop: bool | str, pickled: bool) -> definition.Found:
  """The clips in a folder of the official files, or (pickled) of DD-Net's pickles.

  Args:
    raw_dir: the folder. video: whether frames are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of JHMDB in the folder, a broken archive, a file that JHMDB does not
      have, different files for one clip, a clip with joints but no frames (or the other way
      round) where others have both, or splits that are not there or name a clip otherwise;
      names the file.
  """
  del crop
  if pickled:
    return _find_pickled(raw_dir)
  joints, images, films, splits = {}, {}, {}, {}
  for match, source in archives.listing(raw_dir, _FILE, skip=_SKIPPED, depth=5):
    action = next(filter(None, (match[name] for name in ("action", "imaged", "filmed", "listed"))))
    if action not in CLASS_NAMES:
      raise RawDataError(f"{source} is not a file of JHMDB, which has no class {action}; known: "
                         f"{', '.join(CLASS_NAMES)}")
    if match["split"]:
      archives.add(splits, (action, int(match["split"])), source)
    elif match["posed"]:
      archives.add(joints, (action, match["posed"]), source)
    elif video and match["folder"]:
      archives.add(images.setdefault((action, match["folder"]), {}), int(match["number"]), source)
    elif video:
      archives.add(films, (action, match["video"]), source)
  frames = {clip: tuple(files[n] for n in sorted(files)) for clip, files in images.items()}
  kinds = {"joint positions": joints, "frames": films | frames}
  kinds = {kind: files for kind, files in kinds.items() if files}
  if not kinds:
    error = archives.nothing_found(raw_dir, "joint_positions/CLASS/CLIP/joint_positions.mat",
                                   "JHMDB")
    if any(_PICKLE.fullmatch(path.name) for path in pathlib.Path(raw_dir).iterdir()):
      raise RawDataError(f"{error}; to prepare its pickles give --variant=pickled")
    raise error
  archives.require_all(raw_dir, kinds, "/".join)
  clips = sorted(set().union(*kinds.values()))
  setups = _setups(raw_dir, splits, {action for action, _ in clips})
  unlisted = [clip for clip in clips if clip not in setups]
  remarks = [f"{len(clips)} of the {CLIPS} clips of JHMDB are here"] * (len(clips) != CLIPS)
  if unlisted:
    remarks.append(f"warning: {len(unlisted)} clip(s) that no split lists, such as "
                   f"{shown('/'.join(unlisted[0]))}")
  return definition.Found(
      [RawClip("/".join(clip), CLASS_NAMES.index(clip[0]), setups.get(clip, 0), joints.get(clip),
               frames.get(clip, ()), None if clip in frames else films.get(clip))
       for clip in clips], remarks)


def _setups(raw_dir: str, splits: dict, actions: set[str]) -> dict[tuple[str, str], int]:
  """`setup` of every clip that the split files list. Raises RawDataError."""
  setups = {}
  for action in sorted(actions):
    for split in range(1, SPLITS + 1):
      if (action, split) not in splits:
        raise RawDataError(f"{raw_dir} has no splits/{action}_test_split{split}.txt, which says "
                           "which clips train; fetch JHMDB's splits")
      source = splits[action, split]
      for number, line in enumerate(source.read().decode("utf-8", "replace").splitlines(), 1):
        name, _, part = line.strip().rpartition(" ")
        if not line.strip():
          continue
        if part not in ("0", "1", "2") or not name.strip().endswith(".avi"):
          raise RawDataError(f"{source}, line {number}: {shown(line, 60)!r} is not a clip's .avi "
                             "and 1 (train) or 2 (test); fetch it again")
        clip = action, name.strip().removesuffix(".avi")
        setup = setups.get(clip, 0)
        if setup & (_bit(split, False) | _bit(split, True)):
          raise RawDataError(f"{source}, line {number}: {shown(name, 60)} is listed twice; fetch "
                             "it again")
        setups[clip] = setup | (_bit(split, part == "2") if part != "0" else 0)
  return setups


def _find_pickled(raw_dir: str) -> definition.Found:
  folder = pathlib.Path(raw_dir)
  files = sorted(path for path in folder.rglob("*.pkl") if _PICKLE.fullmatch(path.name))
  if not folder.is_dir() or not files:
    there = archives.contents(raw_dir) if folder.is_dir() else "nothing, as it is not a folder"
    raise RawDataError(f"{raw_dir} holds no GT_train_1.pkl or GT_test_1.pkl of JHMDB; it holds: "
                       f"{there}")
  clips, seen = {}, {}
  for path in files:
    part, split = _PICKLE.fullmatch(path.name).groups()
    if other := seen.get(path.name):
      raise RawDataError(f"two files of one part: {other} and {path}; take one away")
    seen[path.name] = path
    for label, pose in _pickled(path):
      content = hashlib.sha256(pose.tobytes()).hexdigest()
      setup = clips.get((label, content), (0, None))[0]
      if setup & (_bit(int(split), False) | _bit(int(split), True)):
        raise RawDataError(f"{path}: a clip of {CLASS_NAMES[label]} is twice in split {split}; "
                           "fetch it again")
      clips[label, content] = setup | _bit(int(split), part == "test"), pose
  remarks = [f"of split {split} there is no {name}" for split in "123" for part in ("train", "test")
             if (name := f"GT_{part}_{split}.pkl") not in seen]
  return definition.Found(
      # Named by content: a clip has one name in whichever of the files it is.
      [RawClip(f"{CLASS_NAMES[label]}_{content[:12]}", label, setup, pose=pose)
       for (label, content), (setup, pose) in sorted(clips.items(), key=lambda item: item[0])],
      remarks)


def _pickled(path: pathlib.Path):
  """Yields (label, pose float64[T,15,2]) of a pickle. Raises RawDataError naming file and clip."""
  content = plain_pickle.load(path)
  columns = [content.get(name) if isinstance(content, dict) else None for name in ("pose", "label")]
  if not all(isinstance(column, list) for column in columns) or len({*map(len, columns)}) != 1:
    raise RawDataError(f"{path} is not a dict of two lists, pose and label, of one length")
  for number, (pose, label) in enumerate(zip(*columns)):
    if not isinstance(label, str) or label not in CLASS_NAMES:
      raise RawDataError(f"{path}: label {number} is {shown(label, 60)!r}, which is not a class of "
                         "JHMDB")
    if not _is_pose(pose, (JOINTS, 2)):
      raise RawDataError(f"{path}: pose {number} is {_brief(pose)}, expected places "
                         f"[T,{JOINTS},2]")
    yield CLASS_NAMES.index(label), np.ascontiguousarray(pose, "<f8")


def _is_pose(value, after: tuple[int, int]) -> bool:
  """Whether it is an array [T, *after] of numbers that may be pixels, T at least 1."""
  return (isinstance(value, np.ndarray) and value.dtype.kind in "fiu" and value.ndim == 3
          and value.shape[1:] == after and len(value) > 0
          and bool((np.abs(value) < FARTHEST_PIXEL).all()))


def _brief(value) -> str:
  return (f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else
          type(value).__name__)


def _pose(raw: RawClip) -> encoding.Pose | None:
  """The joints in pixels, the first at 0; None where the clip has none. Raises RawDataError."""
  if raw.pose is not None:
    points = raw.pose * HEIGHT + [WIDTH / 2, HEIGHT / 2]
  elif raw.joints is not None:
    given = matlab.variable(raw.joints, "pos_img")
    points = given.transpose(2, 1, 0) if given.ndim == 3 else given
    if not _is_pose(points, (JOINTS, 2)):
      raise RawDataError(f"{raw.joints}: pos_img is {_brief(given)}, expected places "
                         f"[2,{JOINTS},T]; fetch it again")
  else:
    return None
  points = points[None].astype(np.float64) - 1  # MATLAB counts pixels from 1
  return encoding.Pose(points, np.ones(points.shape[:3], np.float32), (WIDTH, HEIGHT))


def encode(raw: RawClip, *, video: bool, crop: bool | str, pickled: bool) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only. pickled: unused here.

  Raises:
    RawDataError: an unreadable or malformed file, or frames and joints of lengths that cannot
      belong together; names the files.
  """
  del pickled
  read = encoding.reader(raw.video, MAX_FRAMES)
  if raw.images:
    read = lambda place: image_frames.read(raw.images, place, FPS)
  names = (raw.video or raw.images and pathlib.PurePath(raw.images[0].name).parent, raw.joints)
  return {"clip_id": raw.clip_id, "label": raw.label, "setup": raw.setup, "fps": FPS,
          } | encoding.fields(_pose(raw), read if video else None, crop=crop, video=video,
                                   names=names)


DATASET = Dataset(
    name="jhmdb",
    version="1.2.0",
    class_names=CLASS_NAMES,
    layout="jhmdb_15",
    modality="colour",
    poses=("pose2d",),
    fps=FPS,
    variants={
        **{name: options | {"pickled": False} for name, options in encoding.VARIANTS.items()},
        "pickled": {"crop": False, "video": False, "pickled": True}},
    protocols={f"split_{split}": _official(split) for split in range(1, SPLITS + 1)},
    find=find,
    encode=encode)
