"""MSRDailyActivity3D's depth video and skeletons; see `msr_daily_activity3d` for the dataset.

  a01_s01_e01_skeleton.txt ...      the skeletons
  a01_s01_e01_depth.bin ...         the depth videos, 320x240, in millimetres

  python -m actionjax.prepare --dataset=msr_daily_activity3d_depth --raw_dir=FOLDER

A frame takes 384 kB in the depth files, and a fraction of that as a 16-bit image, which is
lossless; to encode one takes a millisecond or two. The background is not removed: `depth_range` is
that of the person, by the depth of the joints.
"""
from actionjax.data.builders import _msr_daily, msr_daily_activity3d
from actionjax.data.clips import encoding

VERSION = "1.0.0"
CLASS_NAMES = _msr_daily.CLASS_NAMES
LAYOUT = "kinect_v1_20"
POSES = ("pose3d", "pose2d")
MODALITY = "depth"
FPS = _msr_daily.FPS
VARIANTS = encoding.VARIANTS
NEEDS_RAW = True
PROTOCOLS = msr_daily_activity3d.PROTOCOLS


def find(raw_dir: str, *, video: bool, crop: bool):
  """The clips of a folder; see `msr_daily.find`. Raises RawDataError."""
  del crop
  return _msr_daily.find(raw_dir, "depth video" if video else "")


encode = _msr_daily.encode_depth
