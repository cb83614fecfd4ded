"""MSRDailyActivity3D's depth video and skeletons; see `msr_daily_activity3d` for the dataset.

  a01_s01_e01_skeleton.txt ...      the skeletons
  a01_s01_e01_depth.bin ...         the depth videos, 320x240, in millimetres

  python -m actionjax.prepare --dataset=msr_daily_activity3d_depth --raw_dir=FOLDER

A frame takes 384 kB in the depth files, and a fraction of that as a 16-bit image, which is
lossless; to encode one takes a millisecond or two. The background is not removed: `depth_range` is
that of the person, by the depth of the joints.
"""
from actionjax.data import clip_encoding, msr_daily
from actionjax.data.builders import msr_daily_activity3d

VERSION = "1.0.0"
CLASS_NAMES = msr_daily.CLASS_NAMES
LAYOUT = "kinect_v1_20"
POSES = ("pose3d", "pose2d")
MODALITY = "depth"
FPS = msr_daily.FPS
VARIANTS = clip_encoding.VARIANTS
NEEDS_RAW = True
PROTOCOLS = msr_daily_activity3d.PROTOCOLS


def find(raw_dir: str, *, video: bool, crop: bool):
  """The clips of a folder; see `msr_daily.find`. Raises RawDataError."""
  del crop
  return msr_daily.find(raw_dir, "depth video" if video else "")


encode = msr_daily.encode_depth
