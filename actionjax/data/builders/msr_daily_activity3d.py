"""MSRDailyActivity3D: 16 activities, 10 subjects, Kinect v1 colour video and skeletons.

Wang, Liu, Wu, Yuan, "Mining actionlet ensemble for action recognition with depth cameras", CVPR
2012. Nothing is downloaded here. The authors' page, https://wangjiangb.github.io/my_data.html,
links the archives; put them into one folder, as they are or extracted, in any subfolders:

  a01_s01_e01_skeleton.txt ...      the skeletons
  a01_s01_e01_rgb.avi ...           the colour videos, for the variants with frames

  python -m actionjax.prepare --dataset=msr_daily_activity3d --raw_dir=FOLDER

There are 320 clips: every subject does every activity twice, once sitting on and once standing by
the sofa where that is possible (episode 1 and 2; the record's `setup`). All takes some minutes of
one core and 1 GB, skeletons alone (--variant=skeleton) take seconds. Depth video is a dataset of
its own, msr_daily_activity3d_depth.

Joints come with their place in the depth image, as shares of its width and height; they are taken
to be the same shares of the colour image, which was seen from 2.5 cm beside it. Skeletons that
are shorter or longer than the video are matched to its frames in proportion, and counted.
"""
from actionjax.data.builders import _msr_daily
from actionjax.data.clips import encoding
from actionjax.data.clips.definition import Dataset


def find(raw_dir: str, *, video: bool, crop: bool | str):
  """The clips of a folder; see `msr_daily.find`. Raises RawDataError."""
  del crop
  return _msr_daily.find(raw_dir, "colour video" if video else "")


DATASET = Dataset(
    name="msr_daily_activity3d",
    version="1.2.0",
    class_names=_msr_daily.CLASS_NAMES,
    layout="kinect_v1_20",
    modality="colour",
    fps=_msr_daily.FPS,
    variants=encoding.VARIANTS,
    protocols=_msr_daily.PROTOCOLS,
    find=find,
    encode=_msr_daily.encode)
