"""CAD-60: 12 household activities of four subjects, Kinect colour video and skeletons.

Sung, Ponce, Selman, Saxena, "Unstructured human activity detection from RGBD images", ICRA 2012.
Nothing is downloaded here. Take the archives of the four persons, data1.zip to data4.zip, from the
page of the Cornell Activity Datasets (http://pr.cs.cornell.edu/humanactivities/data.php) and put
them into one folder, as they are or extracted; folders may also be called Person1 to Person4:

  data1/activityLabel.txt           each clip's activity
  data1/0512164529.txt              its skeletons
  data1/0512164529/RGB_1.png ...    its frames, for the variants with frames; Depth_1.png ... are
                                    not read

  python -m actionjax.prepare --dataset=cad60 --raw_dir=FOLDER

There are 68 clips of 14 labels: the 12 activities, some done more than once, and "still" and
"random" of each subject, 80,000 frames or so. All takes a few minutes of one core and at most
1.6 GB; skeletons alone (--variant=skeleton) take seconds. A protocol tests one subject and trains
on the other three; results are pooled over the four. One subject is left-handed; nothing is
mirrored.

pose2d is not part of the dataset: it is projected as for Kinect v1 (`ops/projection`, "v1", halved
for 320x240), of which the linear rule in the dataset's README is an approximation for a person at
about 2.5 m.
"""
import re

from actionjax.data.builders import _cad
from actionjax.data.clips import definition, encoding, protocols
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives
from actionjax.data.formats.findings import shown
from actionjax.errors import RawDataError

CLASS_NAMES = (
    "rinsing_mouth_with_water", "brushing_teeth", "wearing_contact_lenses", "talking_on_the_phone",
    "drinking_water", "opening_pill_container", "cooking_chopping", "cooking_stirring",
    "talking_on_couch", "relaxing_on_couch", "writing_on_whiteboard", "working_on_computer",
    "still", "random")
TITLE, CLIPS, SUBJECTS, SIZE = "CAD-60", 68, 4, (320, 240)

_FILE = re.compile(r"(?:^|/)(?:(?P<labels>activityLabel\.txt)|(?P<skeleton>\d{10})\.txt"
                   r"|(?P<clip>\d{10})/RGB_(?P<number>\d+)\.png)$", re.IGNORECASE)
_SUBJECT = re.compile(r"(?:^|/)(?:data|person|subject)[ _]?(\d)(?=[/_.])", re.IGNORECASE)
# Other words for the same that papers and copies use.
_ALSO = {"rinsing_mouth": "rinsing_mouth_with_water", "wearing_contact_lens":
         "wearing_contact_lenses", "talking_on_phone": "talking_on_the_phone"}


def find(raw_dir: str, *, video: bool, crop: bool | str) -> definition.Found:
  """The clips in a folder, in zip archives or extracted.

  Args:
    raw_dir: the folder. video: whether frames are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of CAD-60 in the folder, a broken archive, a file whose subject is not
      told by a folder's name, different files for one clip, a clip without a label, or with one
      of two present kinds of files only; names the file.
  """
  del crop
  skeletons, images, lists = {}, {}, {}
  for match, source in archives.listing(raw_dir, _FILE):
    path = _cad.where(raw_dir, match, source)
    told = _SUBJECT.findall(path)
    if not told or not 1 <= int(told[-1]) <= SUBJECTS:
      raise RawDataError(f"{source} does not tell its subject: {TITLE}'s files lie in folders "
                         f"data1 to data{SUBJECTS}, or Person1 to Person{SUBJECTS}")
    subject = int(told[-1])
    if match["labels"]:
      archives.add(lists, subject, source)
    elif match["skeleton"]:
      archives.add(skeletons, (subject, match["skeleton"]), source)
    elif video:
      clip = images.setdefault((subject, match["clip"]), {})
      archives.add(clip, int(match["number"]), source)
  if not skeletons and not images:
    raise archives.nothing_found(raw_dir, "data1/0512164529.txt or data1/0512164529/RGB_1.png",
                                 TITLE)
  labels = {}
  for subject, source in lists.items():
    labels |= {(subject, clip): label for clip, label in _labels(source)}
  for clip in sorted({*skeletons, *images}):
    if clip not in labels:
      raise RawDataError(f"{raw_dir}: no activityLabel.txt of subject {clip[0]} has a line for "
                         f"{clip[1]}; fetch that subject's archive again")
  return _cad.clips(raw_dir, TITLE, CLIPS, skeletons, images, labels, SIZE)


def _labels(source):
  """Yields (clip's number, label) of an activityLabel.txt. Raises RawDataError naming the line."""
  for number, line in enumerate(source.read().decode("utf-8", "replace").splitlines(), 1):
    if line.strip() == "END":
      return
    clip, _, name = line.strip().rstrip(",").partition(",")
    if not line.strip():
      continue
    name = re.sub(r"[^a-z]+", "_", name.lower()).strip("_")
    name = _ALSO.get(name, name)
    if not re.fullmatch(r"\d{10}", clip.strip()) or name not in CLASS_NAMES:
      raise RawDataError(f"{source}, line {number}: {shown(line, 80)!r} is not a clip's number of "
                         f"ten digits and an activity of {TITLE}: {', '.join(CLASS_NAMES)}")
    yield clip.strip(), CLASS_NAMES.index(name)


DATASET = Dataset(
    name="cad60",
    version="1.1.0",
    class_names=CLASS_NAMES,
    layout=_cad.LAYOUT,
    modality="colour",
    fps=_cad.FPS,
    variants=encoding.VARIANTS,
    protocols={f"subject_{subject}": protocols.leave_one_subject_out(subject)
               for subject in range(1, SUBJECTS + 1)},
    find=find,
    encode=_cad.encode)
