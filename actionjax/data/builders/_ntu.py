"""What the builders of NTU RGB+D and NTU RGB+D 120 share: finding clips and encoding them."""
import dataclasses
import functools
import re

from actionjax.data.builders import _ntu_skeletons
from actionjax.data.clips import definition, encoding, videos
from actionjax.data.formats import archives
from actionjax.data.formats.archives import Source
from actionjax.errors import RawDataError

FPS = 30.0
MAX_FRAMES = 10_000  # longer than any clip: none is thinned
# Video, its header and the skeletons are counted by clocks of their own: frames that may differ.
CLOCKS = 2
# Of the colour image that the skeletons' 2D joints are in.
WIDTH, HEIGHT = 1920, 1080
# The first 17 setups are NTU RGB+D, with the first 60 actions; the others have the rest.
FIRST_SETUPS, SETUPS, FIRST_ACTIONS, ACTIONS, SUBJECTS = 17, 32, 60, 120, 106

_CLIP = r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})"
_FILE = re.compile(rf"(?:^|/)(?:{_CLIP}(\.skeleton|_rgb\.avi)|[^/]*missing_skeletons[^/]*\.txt)$",
                   re.IGNORECASE)
# Depth and infrared come as folders of images named like clips: not worth a look.
_IMAGES = re.compile(_CLIP + r".*")
_KINDS = {".skeleton": "skeleton", "_rgb.avi": "video"}


@dataclasses.dataclass(frozen=True)
class RawClip:
  """One clip's files; either may be None."""
  clip_id: str
  setup: int
  camera: int
  subject: int
  replication: int
  action: int
  skeleton: Source | None
  video: Source | None

  @property
  def sources(self) -> tuple[tuple[str, int], ...]:
    """(file name without its folder, bytes): the same from a zip or a folder."""
    return tuple((source.base, source.size) for source in (self.skeleton, self.video) if source)


def _numbers(match: re.Match, source: Source) -> tuple[int, ...]:
  """(setup, camera, subject, replication, action) of a file. Raises RawDataError."""
  numbers = tuple(int(number) for number in match.groups()[:5])
  setup, camera, subject, replication, action = numbers
  # Each data set has actions of its own.
  first, last = (1, FIRST_ACTIONS) if setup <= FIRST_SETUPS else (FIRST_ACTIONS + 1, ACTIONS)
  if not (1 <= setup <= SETUPS and 1 <= camera <= 3 and 1 <= subject <= SUBJECTS
          and 1 <= replication <= 2 and first <= action <= last):
    raise RawDataError(f"{source} is not a file of NTU RGB+D: there are setups 1-{SETUPS}, "
                       f"cameras 1-3, subjects 1-{SUBJECTS}, replications 1-2, actions 1-"
                       f"{FIRST_ACTIONS} in setups 1-{FIRST_SETUPS} and the others after them")
  return numbers


def find(raw_dir: str, title: str, setups: range, total: int, missing: int,
         *, video: bool, crop: bool | str) -> definition.Found:
  """The clips in a folder, however its files are spread over zip archives and subfolders.

  Left out, and said so in the remarks: clips whose skeleton file is absent or tracks nobody
  in any frame (where there are skeletons at all), clips without their video (where there
  are videos at all and video is wanted), and clips named in a file `*missing_skeletons*.txt`
  such as the dataset's authors publish.

  Args:
    raw_dir: the folder. title: the dataset's name for the user.
    setups: the dataset's; files of others are not looked at.
    total, missing: published numbers of clips and of those among them without skeletons.
    video: whether videos are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of the dataset in the folder, a broken archive, a file that the
      dataset does not have, different files for one clip, or a setup whose files are all of
      one kind; names the file.
  """
  del crop
  kinds, named = {}, set()
  for match, source in archives.listing(raw_dir, _FILE, skip=_IMAGES):
    if match[6] is None:
      text = source.read().decode("ascii", "replace").upper()
      named |= {name[0] for name in re.finditer(_CLIP, text)}
      continue
    kind = _KINDS[match[6].lower()]
    numbers = _numbers(match, source)
    if numbers[0] in setups and (video or kind == "skeleton"):
      archives.add(kinds.setdefault(kind, {}), numbers, source)
  if not kinds:
    wanted = ".skeleton or _rgb.avi" if video else ".skeleton"
    raise RawDataError(f"{raw_dir} holds no {wanted} files of {title}, nor zip archives of them; "
                       f"it holds: {archives.contents(raw_dir)}")
  every = sorted(set().union(*kinds.values()))
  _check_setups(raw_dir, kinds)
  absent = {kind: set(every) - set(files) for kind, files in kinds.items()}
  nobody = {clip for clip, file in kinds.get("skeleton", {}).items()
            if not _ntu_skeletons.tracks_somebody(file)}
  listed = {clip for clip in every if _clip_id(clip) in named}
  without = absent.get("skeleton", set()) | nobody
  silent = absent.get("video", set()) - without - listed
  out = without | silent | listed
  remarks = _remarks(title, len(every), total, missing if "skeleton" in kinds else None,
                     without, listed)
  if silent:
    remarks.append(f"warning: {_some(silent)} left out: the video is not there")
  if len(out) == len(every):
    raise RawDataError(f"{raw_dir}: none of the {len(every)} clips of {title} has all its files "
                       "and a tracked skeleton")
  clips = [RawClip(_clip_id(clip), *clip, kinds.get("skeleton", {}).get(clip),
                   kinds.get("video", {}).get(clip)) for clip in every if clip not in out]
  return definition.Found(clips, remarks)


def _clip_id(clip) -> str:
  return "S{:03d}C{:03d}P{:03d}R{:03d}A{:03d}".format(*clip)


def _some(clips) -> str:
  """A count of clips, and the first of them by name."""
  names = [_clip_id(clip) for clip in sorted(clips)[:3]]
  return (f"{len(clips)} clip{'s' * (len(clips) != 1)} ({', '.join(names)}"
          f"{', ...' * (len(clips) > 3)})")


def _check_setups(raw_dir, kinds) -> None:
  """A setup with files of one kind only is an unfinished download, not a missing skeleton."""
  if len(kinds) < 2:
    return
  setups = {kind: {clip[0] for clip in files} for kind, files in kinds.items()}
  for kind, other in (("skeleton", "video"), ("video", "skeleton")):
    lacking = sorted(setups[other] - setups[kind])
    if lacking:
      raise RawDataError(f"{raw_dir} has {other}s of setup {', '.join(map(str, lacking))}, but no "
                         f"{kind} of theirs; fetch them, or take the {other}s away (videos "
                         "are not needed with --variant=skeleton)")


def _remarks(title, found, total, published, without, listed) -> list[str]:
  """What to say of clips without skeletons, against the published number of them.

  published: None where no clip has a skeleton, as none is wanted.
  """
  lines = []
  gone = without | listed
  if gone:
    more = len(listed - without)
    by_list = f", {more} of them by a list of missing skeletons alone" if more else ""
    lines.append(f"{_some(gone)} without a tracked skeleton left out{by_list}")
  if found != total:
    lines.append(f"{found} of the {total} clips of {title} are here")
  elif published is not None and len(gone) != published:
    lines.append(f"warning: {len(gone)} of the {total} clips of {title} have no tracked skeleton; "
                 f"published results leave out {published}: their list, put into the raw folder "
                 "as ..._missing_skeletons.txt, is left out too")
  elif published is not None:
    lines.append(f"that many ({published}) are left out in published results too")
  return lines


def encode(raw: RawClip, *, video: bool, crop: bool | str) -> dict:
  """One clip as a record (see `data/clips/record.py`).

  Args:
    raw: from `find`. video: store the frames. crop: of the persons only; a clip without
      skeleton is stored whole.

  Raises:
    RawDataError: an unreadable or malformed file, or a video and a skeleton of lengths that
      cannot belong together; names the files.
  """
  pose, read = None, None
  if raw.skeleton:
    found = _ntu_skeletons.read(raw.skeleton)
    pose = encoding.Pose(found.pose2d, found.score, (WIDTH, HEIGHT), found.pose3d)
  if raw.video and video:
    read = functools.partial(_frames, raw.video)
  return {"clip_id": raw.clip_id, "label": raw.action - 1, "subject": raw.subject,
          "camera": raw.camera, "setup": raw.setup, "fps": FPS} | encoding.fields(
              pose, read, crop=crop, video=video, names=(raw.video, raw.skeleton))


def _frames(source: Source, place) -> videos.Stored:
  """The frames of a video. Raises RawDataError also where the last few do not decode."""
  with source.on_disk() as path:
    stored = videos.read(path, place, MAX_FRAMES)
  if len(stored.frames) < stored.facts.declared - CLOCKS:
    raise RawDataError(f"{source} is truncated: {len(stored.frames)} frames decode of the "
                       f"{stored.facts.declared} that it declares; fetch it again")
  return stored
