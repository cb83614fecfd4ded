"""MSRDailyActivity3D's depth video and skeletons; see `msr_daily_activity3d` for the dataset.

  a01_s01_e01_skeleton.txt ...      the skeletons
  a01_s01_e01_depth.bin ...         the depth videos, 320x240, in millimetres

  python -m actionjax.prepare --dataset=msr_daily_activity3d_depth --raw_dir=FOLDER

A frame takes 384 kB in the depth files, and a fraction of that as a 16-bit image, which is
lossless; to encode one takes a millisecond or two. The background is not removed: `depth_range` is
that of the person, by the depth of the joints.
"""
from actionjax.data.builders import _msr_daily
from actionjax.data.clips import encoding
from actionjax.data.clips.definition import Dataset


def find(raw_dir: str, *, video: bool, crop: bool | str):
  """The clips of a folder; see `msr_daily.find`. Raises RawDataError."""
  del crop
  return _msr_daily.find(raw_dir, "depth video" if video else "")


DATASET = Dataset(
    name="msr_daily_activity3d_depth",
    version="1.0.0",
    class_names=_msr_daily.CLASS_NAMES,
    layout="kinect_v1_20",
    modality="depth",
    fps=_msr_daily.FPS,
    variants=encoding.VARIANTS,
    protocols=_msr_daily.PROTOCOLS,
    find=find,
    encode=_msr_daily.encode_depth)
