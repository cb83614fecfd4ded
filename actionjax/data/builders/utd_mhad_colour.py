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
import dataclasses
import re

from actionjax.data import archives, clip_encoding, videos
from actionjax.data.archives import Source
from actionjax.data.builders import utd_mhad
from actionjax.ops import projection

VERSION = "1.0.0"
CLASS_NAMES = utd_mhad.CLASS_NAMES
MIRROR_CLASSES = utd_mhad.MIRROR_CLASSES
LAYOUT = utd_mhad.LAYOUT
POSES = ("pose3d", "pose2d")
MODALITY = "colour"
FPS = utd_mhad.FPS
VARIANTS = clip_encoding.VARIANTS
NEEDS_RAW = True
PROTOCOLS = utd_mhad.PROTOCOLS

TITLE, SIZE, MAX_FRAMES = "UTD-MHAD", (640, 480), 1500
_FILE = re.compile(r"(?:^|/)a(\d+)_s(\d+)_t(\d+)_(color\.avi|skeleton\.mat)$", re.IGNORECASE)
_KINDS = {"color.avi": "colour video", "skeleton.mat": "skeleton"}


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files; either may be None."""
  clip_id: str
  action: int
  subject: int
  trial: int
  skeleton: Source | None
  video: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    return tuple((source.base, source.size)
                 for source in (self.skeleton, self.video) if source)


def find(raw_dir: str, *, video: bool, crop: bool) -> archives.Found:
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
  return archives.Found([RawClip(utd_mhad.clip_id(clip), *clip, kinds.get("skeleton", {}).get(clip),
                                 kinds.get("colour video", {}).get(clip)) for clip in clips],
                        utd_mhad.remarks(len(clips)))


def encode(raw: RawClip, *, video: bool, crop: bool) -> dict:
  """One clip as a record (see `data/records.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the person only; a clip without skeleton
      is stored whole.

  Raises:
    RawDataError: an unreadable or malformed file, or a video and a skeleton of lengths that
      cannot belong together; names the files.
  """
  def read(place):
    with raw.video.on_disk() as path:
      return videos.read(path, place, MAX_FRAMES)

  pose = None
  if raw.skeleton:
    pose3d, score = utd_mhad.read_pose(raw.skeleton)
    pose = clip_encoding.Pose(projection.project(pose3d), score, SIZE, pose3d)
  return {"clip_id": raw.clip_id, "label": raw.action - 1, "subject": raw.subject,
          "fps": FPS} | clip_encoding.fields(
              pose, read if video and raw.video else None, crop=crop, video=video,
              names=(raw.video, raw.skeleton))
