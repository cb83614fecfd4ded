"""NTU RGB+D: 60 actions, 40 subjects, three Kinect v2 cameras, 56,880 clips.

Shahroudy, Liu, Ng, Wang, "NTU RGB+D: A large scale dataset for 3D human activity analysis",
CVPR 2016. Nothing is downloaded here: the licence is granted on request at
https://rose1.ntu.edu.sg/dataset/actionRecognition. Of what is offered there, take

  nturgbd_skeletons_s001_to_s017.zip            5.8 GB   the skeletons
  nturgbd_rgb_s001.zip ... nturgbd_rgb_s017.zip   136 GB   the colour videos

and put them into one folder, as they are or extracted, in any subfolders:

  python -m actionjax.prepare --dataset=ntu60 --raw_dir=FOLDER

Skeletons alone are enough for models that read nothing else (--variant=skeleton: half an hour
of one core, a few GB). Videos alone work too, but without skeletons nobody is cropped. The
records of `cropped` take about 125 GB and 22 hours of one core, those of `square`, which
RGBPose-SlowFast reads, 90 GB and 24 hours, those of `uncropped` 115 GB and 7 hours, and twice the
space while they are put together; the time is shared by all cores. This is reckoned from one
official clip: 16 ms and 26 kB a frame cropped, 18 ms and 19 kB square, 5 ms and 24 kB uncropped, at
84 frames a clip.

Clips in which Kinect tracked nobody are left out and counted; the published number is 302. To
leave out exactly the published ones put the authors' list,
NTU_RGBD_samples_with_missing_skeletons.txt, into the folder. Then 56,578 clips remain,
40,091 / 16,487 across subjects and 37,646 / 18,932 across views. A damaged file stops the
preparation; a clip that cannot be mended can be added to that list.
"""
from actionjax.data.builders import _ntu, _ntu_skeletons, ntu120
from actionjax.data.clips import encoding, protocols
from actionjax.data.clips.definition import Dataset

CLASS_NAMES = ntu120.CLASS_NAMES[:_ntu.FIRST_ACTIONS]
SETUPS = range(1, _ntu.FIRST_SETUPS + 1)
CLIPS, MISSING_SKELETONS = 56880, 302
# The official training subjects of the cross-subject protocol (20 of 40).
TRAIN_SUBJECTS = tuple(subject for subject in ntu120.TRAIN_SUBJECTS if subject <= 40)

_CROSS_SUBJECT = protocols.cross_subject(TRAIN_SUBJECTS)
_CROSS_VIEW = protocols.cross_view(train_cameras=(2, 3), test_cameras=(1,))


def find(raw_dir: str, *, video: bool, crop: bool | str):
  """The clips of setups 1 to 17; see `ntu.find`. Raises RawDataError."""
  return _ntu.find(raw_dir, "NTU RGB+D", SETUPS, CLIPS, MISSING_SKELETONS,
                   video=video, crop=crop)


DATASET = Dataset(
    name="ntu60",
    version="1.3.0",
    class_names=CLASS_NAMES,
    layout="kinect_v2_25",
    modality="colour",
    persons=_ntu_skeletons.MAX_PERSONS,
    fps=_ntu.FPS,
    variants=encoding.VARIANTS,
    protocols={
        "cross_subject": _CROSS_SUBJECT,
        "cross_view": _CROSS_VIEW,
        # Action Machine's small subsets (its section 4). Its numbers of clips fit this rule for
        # the views (3,819 / 1,918), but not for the subjects: 3,597 / 2,758 against 4,317 / 1,439.
        "cross_view_small": protocols.restricted(_CROSS_VIEW, subject=range(1, 6)),
        "cross_subject_small": protocols.restricted(
            _CROSS_SUBJECT, subject=range(1, 11), camera=(1,))},
    find=find,
    encode=_ntu.encode)
