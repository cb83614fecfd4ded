"""CAD-120: 10 long activities with objects, four subjects, Kinect colour video and skeletons.

Koppula, Gupta, Saxena, "Learning human activities and object affordances from RGB-D videos", IJRR
2013. Nothing is downloaded here. Take the annotations and, for video, the RGB-D images of the four
subjects (1, 3, 4 and 5) from the page of the Cornell Activity Datasets
(http://pr.cs.cornell.edu/humanactivities/data.php). They are tar.gz archives: extract them into
one folder.

  Subject1_annotations/arranging_objects/0510175411.txt                  skeletons
  Subject1_rgbd_images/arranging_objects/0510175411/RGB_1.png ...        frames, for the variants
                                                 with frames; Depth_1.png ... are not read

  python -m actionjax.prepare --dataset=cad120 --raw_dir=FOLDER

There are 124 clips of some 500 frames. All takes about ten minutes of one core and 1.5 GB;
skeletons alone (--variant=skeleton) take seconds. An activity is the name of a folder; the
sub-activities, objects and affordances of the annotations are not read. A protocol tests one
subject and trains on the other three; results are pooled over the four. pose2d is not part of the
dataset: it is projected as for Kinect v1 (`ops/projection`, "v1").
"""
import re

from actionjax.data.builders import _cad
from actionjax.data.clips import definition, encoding, protocols
from actionjax.data.clips.definition import Dataset
from actionjax.data.formats import archives
from actionjax.errors import RawDataError

CLASS_NAMES = ("making_cereal", "taking_medicine", "stacking_objects", "unstacking_objects",
               "microwaving_food", "picking_objects", "cleaning_objects", "taking_food",
               "arranging_objects", "having_meal")
TITLE, CLIPS, SUBJECTS, SIZE = "CAD-120", 124, (1, 3, 4, 5), (640, 480)

_FILE = re.compile(
    r"(?:^|/)Subject(?P<subject>\d)_(?:annotations/(?P<class>\w+)/(?P<skeleton>\d+)\.txt"
    r"|rgbd_images/(?P<activity>\w+)/(?P<clip>\d+)/RGB_(?P<number>\d+)\.png)$", re.IGNORECASE)


def find(raw_dir: str, *, video: bool, crop: bool | str) -> definition.Found:
  """The clips in a folder, extracted or in zip archives.

  Args:
    raw_dir: the folder. video: whether frames are wanted. crop: unused here.

  Raises:
    RawDataError: nothing of CAD-120 in the folder, a broken archive, a file that CAD-120 does not
      have, different files for one clip, or a clip with one of two present kinds of files only;
      names the file.
  """
  del crop
  skeletons, images, labels = {}, {}, {}
  # Subject1_rgbd_images/Subject1_rgbd_images/ACTIVITY/CLIP, as some unpack it, below a folder.
  for match, source in archives.listing(raw_dir, _FILE, depth=6):
    activity = (match["class"] or match["activity"]).lower()
    if activity not in CLASS_NAMES or int(match["subject"]) not in SUBJECTS:
      raise RawDataError(f"{source} is not a file of {TITLE} (subjects "
                         f"{', '.join(map(str, SUBJECTS))}; {', '.join(CLASS_NAMES)})")
    clip = int(match["subject"]), match["skeleton"] or match["clip"]
    if labels.setdefault(clip, CLASS_NAMES.index(activity)) != CLASS_NAMES.index(activity):
      raise RawDataError(f"{source}: clip {clip[1]} of subject {clip[0]} lies in a folder of "
                         f"{CLASS_NAMES[labels[clip]]} too; take one away")
    if match["skeleton"]:
      archives.add(skeletons, clip, source)
    elif video:
      archives.add(images.setdefault(clip, {}), int(match["number"]), source)
  if not skeletons and not images:
    raise archives.nothing_found(
        raw_dir, "Subject1_annotations/ACTIVITY/*.txt or Subject1_rgbd_images/ACTIVITY/*/RGB_1.png",
        TITLE)
  return _cad.clips(raw_dir, TITLE, CLIPS, skeletons, images, labels, SIZE)


DATASET = Dataset(
    name="cad120",
    version="1.1.0",
    class_names=CLASS_NAMES,
    layout=_cad.LAYOUT,
    modality="colour",
    fps=_cad.FPS,
    variants=encoding.VARIANTS,
    protocols={f"subject_{subject}": protocols.leave_one_subject_out(subject)
               for subject in SUBJECTS},
    find=find,
    encode=_cad.encode)
