"""UTD-MHAD's colour video and skeletons; see `utd_mhad`, its depth video, for the dataset.

Nothing is downloaded here. The authors' page, https://personal.utdallas.edu/~kehtar/UTD-MHAD.html,
links the archives; put them into one folder, as they are or extracted, in any subfolders:

  RGB-part1.zip ... RGB-part4.zip   a1_s1_t1_color.avi ..., 640x480, 30 frames a second
  Skeleton.zip                      a1_s1_t1_skeleton.mat ...

  python -m actionjax.prepare --dataset=utd_mhad_colour --raw_dir=FOLDER

Either kind may be absent as a whole. All 861 clips take some minutes of one core and less than
1 GB, skeletons alone (--variant=skeleton) take seconds.

`pose2d` is projected with the coefficients that the hierarchical-classification paper fitted on
this dataset (see `ops/projection.py`). Skeletons that are shorter or longer than the video are
matched to its frames in proportion, and counted.
"""
import re

from actionjax.data.builders import utd_mhad
from actionjax.data.clips import definition, encoding
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives
from actionjax.ops import projection

TITLE, SIZE, MAX_FRAMES = "UTD-MHAD", (640, 480), 1500
_FILE = re.compile(r"(?:^|/)a(\d+)_s(\d+)_t(\d+)_(color\.avi|skeleton\.mat)$", re.IGNORECASE)
_KINDS = {"color.avi": "colour video", "skeleton.mat": "skeleton"}


def find(raw_dir: str, *, video: bool, crop: bool | str) -> definition.Found:
  """The clips of a folder, however its files are spread over zip archives and subfolders.

  Args:
    raw_dir: the folder. video: whether videos are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of UTD-MHAD in the folder, a broken archive, a file that the dataset
      does not have, different files for one clip, or a clip of which only one of two present
      kinds exists; names the file.
  """
  del crop
  kinds = {}
  for match, source in archives.listing(raw_dir, _FILE):
    kind = _KINDS[match[4].lower()]
    clip = tuple(int(number) for number in match.groups()[:3])
    utd_mhad.check_clip(clip, source)
    if video or kind == "skeleton":
      archives.add(kinds.setdefault(kind, {}), clip, source)
  if not kinds:
    ending = "_color.avi or " * video
    raise archives.nothing_found(raw_dir, f"a*_s*_t*{ending}_skeleton.mat files", TITLE)
  archives.require_all(raw_dir, kinds, utd_mhad.clip_id)
  clips = sorted(set().union(*kinds.values()))
  files = [[kinds.get(kind, {}).get(clip) for kind in ("colour video", "skeleton")]
           for clip in clips]
  return definition.Found([utd_mhad.RawClip(utd_mhad.clip_id(clip), *clip, *found)
                         for clip, found in zip(clips, files)], utd_mhad.remarks(len(clips)))


def encode(raw: utd_mhad.RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only; a clip without skeleton
      is stored whole.

  Raises:
    RawDataError: an unreadable or malformed file, or a video and a skeleton of lengths that
      cannot belong together; names the files.
  """
  pose = None
  if raw.skeleton:
    pose3d, score = utd_mhad.read_pose(raw.skeleton)
    pose = encoding.Pose(projection.project(pose3d), score, SIZE, pose3d)
  return {"clip_id": raw.clip_id, "label": raw.action - 1, "subject": raw.subject,
          "fps": utd_mhad.FPS} | encoding.fields(
              pose, encoding.reader(raw.video, MAX_FRAMES) if video else None, crop=crop,
              video=video, names=(raw.video, raw.skeleton))


DATASET = Dataset(
    name="utd_mhad_colour",
    version="1.1.0",
    class_names=utd_mhad.CLASS_NAMES,
    layout=utd_mhad.LAYOUT,
    modality="colour",
    fps=utd_mhad.FPS,
    variants=encoding.VARIANTS,
    protocols=utd_mhad.DATASET.protocols,
    find=find,
    encode=encode,
    mirror_classes=utd_mhad.DATASET.mirror_classes)
