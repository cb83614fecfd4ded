"""A smaller copy of a prepared dataset: fewer and smaller frames, 8 bits deep.

The copy is a prepared dataset of the same name, variant and version in a data folder of its own,
so that configs run on it unchanged. Its `info.json` says under `cut` what was taken away, and
evaluations repeat that in their results.

Depth is stored as the grey picture that `images.depth_to_grey` makes of it for the networks
anyway, without loss; smaller frames take the nearest pixel, as preparing depth does. Colour is
averaged over areas and stored as JPEG.
"""
import hashlib
import json
import pathlib
import shutil
import zlib

import cv2
import numpy as np

from actionjax.data import catalogue, own
from actionjax.data.clips import encoding
from actionjax.data.clips.dataset import INDEX_FILE, INFO_FILE, ClipDataset
from actionjax.data.clips.record import canonical, complete
from actionjax.data.formats import images
from actionjax.errors import UserError

# Skeletons are rounded to these powers of two, far below what a sensor tells apart: the zeros at
# the end of each number compress, and otherwise poses take more room than frames.
POSE3D_GRID, POSE2D_GRID = 2.0**-11, 2.0**-4  # metres, pixels
JPEG_QUALITY = 90
# PNG's own compression sees one image; that of the records' file sees a whole clip at once.
_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 0)
_COMPRESSION = "zstd:19"
_MIB = 2**20


def cut(dataset: ClipDataset, data_dir, *, size: int | None = None,
        frames: int | None = None, hold: bool = False, skeletons_only: bool = False,
        mib: float | None = None) -> dict:
  """Writes the smaller copy.

  Args:
    dataset: the prepared dataset.
    data_dir: root of the copy, which goes to the same place below it; must not hold it yet.
    size: pixels of the stored frames' longer side; frames are never enlarged. None keeps it.
    frames: at most so many frames of each clip, evenly in time. None keeps all.
    hold: keep all skeletons, and the number of frames: one that goes is replaced by the nearest
      in time that stays, at no cost. Without, skeletons are thinned with the frames.
    skeletons_only: leave all frames away.
    mib: the most that the copy may take on disk, in MiB.

  Returns:
    {"path": its folder, "clips": N, "bytes": on disk, "cut": as in info.json}.

  Raises:
    UserError: something is there already, the settings contradict each other or the dataset, or
      the copy would take more than `mib`; the message then says what would fit.
  """
  _check(dataset, size, frames, hold, skeletons_only, mib)
  from actionjax.data.preparing import tfds_dataset
  place = pathlib.Path(data_dir) / dataset.path.relative_to(dataset.path.parents[2])
  if place.exists():
    raise UserError(f"{place} is there already; delete it, or give another folder")
  root = place.parent / f".building-{place.name}"
  shutil.rmtree(root, ignore_errors=True)  # of a killed run
  staged = root / "staged"
  staged.mkdir(parents=True)
  try:
    sizes, poses = [], 0
    for number in range(len(dataset)):
      record = cut_record(dataset[number], size, frames, hold, skeletons_only)
      data = canonical(tfds_dataset.features().serialize_example(
          complete(record)))
      (staged / str(number)).write_bytes(data)
      sizes.append(len(data))
      poses += sum(len(zlib.compress(record[key].tobytes()))
                   for key in ("pose3d", "pose2d", "pose_score"))
    folder, shards = tfds_dataset.write(
        catalogue.of(dataset), catalogue.module(dataset.info["dataset"]),
        dataset.info["variant"], root, sizes,
        lambda number: (staged / str(number)).read_bytes(),
        compression=_COMPRESSION)
    has_frames, _, index = tfds_dataset.read_back(folder, shards)
    index.save(folder / INDEX_FILE)
    if own.is_own(dataset.info["dataset"]):  # the same clips in the same order
      shutil.copy(dataset.path / own.SPLITS_FILE, folder)
    done = {"size": size, "frames": frames, "hold": hold, "skeletons_only": skeletons_only,
            "bits": 8, "pose3d_grid": POSE3D_GRID, "pose2d_grid": POSE2D_GRID,
            "from_key": dataset.info["key"]}
    # Another key than the original's: preparing into this folder must not take it for that.
    key = hashlib.sha256(json.dumps(done, sort_keys=True).encode()).hexdigest()[:16]
    info = dataset.info | {
        "modality": dataset.info["modality"] if has_frames else "none", "key": key, "cut": done,
        "num_frames": int(index.num_frames.sum()), "shards": shards}
    (folder / INFO_FILE).write_text(json.dumps(info, indent=1) + "\n")
    total = sum(file.stat().st_size for file in folder.iterdir())
    if mib is not None and total > mib * _MIB:
      raise UserError(_what_fits(dataset, total, poses, mib, size, frames, skeletons_only))
    folder.rename(place)
  finally:
    shutil.rmtree(root, ignore_errors=True)
  return {"path": str(place), "clips": len(index), "bytes": total, "cut": done}


def _check(dataset, size, frames, hold, skeletons_only, mib) -> None:
  for option, value, least in (("size", size, 16), ("frames", frames, 1)):
    if value is not None and value < least:
      raise UserError(f"--{option}={value} must be at least {least}")
  if mib is not None and not mib > 0:
    raise UserError(f"--mib={mib:g} must be above 0")
  if "key" not in dataset.info:
    raise UserError(f"{dataset.path} was not made by actionjax.prepare; prepare it again")
  if "cut" in dataset.info:
    raise UserError(f"{dataset.path} is a cut itself; cut the dataset that it was made of")
  if hold and frames is None:
    raise UserError("--hold says nothing without --frames=N")
  first = dataset[0]
  if skeletons_only:
    if size is not None or hold:
      raise UserError(f"{'--size' if size is not None else '--hold'} says nothing beside "
                      "--skeletons_only")
    if not first["pose3d"].size and not first["pose2d"].size:
      raise UserError(f"{dataset.path} has no skeletons; leave out --skeletons_only")


def cut_record(record: dict, size: int | None = None, frames: int | None = None,
               hold: bool = False, skeletons_only: bool = False) -> dict:
  """A record of a cut; arguments as of `cut`, fields as in `record.features`.

  Raises:
    UnreadableClipError: a frame does not decode.
  """
  record = dict(record)
  count = record["num_frames"]
  kept = encoding.resample(count, min(frames or count, count))
  if hold:
    nearest = np.abs(np.arange(count)[:, None] - kept).argmin(1)
  else:
    nearest = np.arange(len(kept))
    _thin(record, kept)
  encoded = [] if skeletons_only else [record["frames"][pick] for pick in kept
                                       if record["frames"]]
  if encoded:
    shape = tuple(int(n) for n in record["image_size"])
    target = _reduced(shape, size)
    encoded = [_encode(data, record, target) for data in encoded]
    encoded = [encoded[place] for place in nearest]
    _scale(record, shape, target)
  record["frames"] = encoded
  present = record["pose_score"][..., None] > 0
  for name, grid in (("pose3d", POSE3D_GRID), ("pose2d", POSE2D_GRID)):
    if record[name].size:
      record[name] = np.where(present, np.round(record[name] / grid) * grid, 0).astype(np.float32)
  return record


def _thin(record: dict, kept: np.ndarray) -> None:
  """Keeps the moments int[n] of all that stands for the clip's frames, but for the frames."""
  count = record["num_frames"]
  if len(record["boxes"]):
    record["boxes"] = record["boxes"][kept]
  for name in ("pose3d", "pose2d", "pose_score"):
    if record[name].size:
      record[name] = record[name][:, kept]
  record["fps"] = record["fps"] * len(kept) / count
  record["num_frames"] = len(kept)


def _reduced(shape: tuple[int, int], size: int | None) -> tuple[int, int]:
  """(height, width) with the longer side at most `size`."""
  scale = min(1.0, (size or max(shape)) / max(shape))
  return tuple(max(1, round(side * scale)) for side in shape)


def _encode(data: bytes, record: dict, target: tuple[int, int]) -> bytes:
  """A stored frame at its new size, 8 bits deep."""
  frame = images.decode_frame(data, f"a frame of clip {record['clip_id']}")
  depth = frame.dtype == np.uint16
  if depth:
    frame = images.depth_to_grey(frame, record["depth_range"])
  elif frame.shape[:2] == target:
    return data
  if frame.shape[:2] != target:
    frame = cv2.resize(frame, target[::-1], interpolation=cv2.INTER_NEAREST_EXACT if depth else
                       cv2.INTER_AREA)
  if not depth:
    return images.encode_jpeg(frame, JPEG_QUALITY)
  done, data = cv2.imencode(".png", frame, _PNG)
  if not done:
    raise ValueError(f"cannot encode an image of {frame.shape} as PNG")
  return data.tobytes()


def _scale(record: dict, old: tuple[int, int], new: tuple[int, int]) -> None:
  """Brings all that is measured in the stored frame's pixels to another size (height, width)."""
  factor = np.array([new[1] / old[1], new[0] / old[0]])
  affine = record["frame_to_original"].astype(np.float64)
  # A new pixel x lies at (x + 1/2) / factor - 1/2 of the old frame.
  record["frame_to_original"] = np.concatenate(
      [affine[:, :2] / factor, (affine[:, 2] + affine[:, :2] @ (0.5 / factor - 0.5))[:, None]], 1)
  record["image_size"] = np.array(new)
  boxes = record["boxes"].reshape(-1, 2, 2)
  record["boxes"] = ((boxes + 0.5) * factor - 0.5).reshape(-1, 4)
  if record["pose2d"].size:
    record["pose2d"] = np.where(record["pose_score"][..., None] > 0,
                                (record["pose2d"] + 0.5) * factor - 0.5, 0)


def _what_fits(dataset, total: int, poses: int, mib: float, size, frames,
               skeletons_only: bool) -> str:
  """The one line for a cut that is too large.

  Args:
    total: its bytes. poses: bytes of these that the skeletons take.
  """
  lengths = dataset.index.num_frames
  taken = f"the cut takes {total / _MIB:.1f} MiB, more than --mib={mib:g}; "
  # A little less than in proportion: what is left compresses worse.
  share = 0.95 * (mib * _MIB - poses) / max(total - poses, 1)
  fitting = []
  if not skeletons_only and share > 0:
    longest = int(lengths.max())
    counts = [int(np.minimum(lengths, n).sum()) for n in range(longest + 1)]
    now = counts[min(frames or longest, longest)]
    most = max(n for n, count in enumerate(counts) if count <= share * now)
    side = size or max(int(n) for n in dataset[0]["image_size"])
    if most >= 1:
      fitting.append(f"--frames={most}")
    if side * share >= 16:
      fitting.append(f"--size={int(side * share)}")
  if fitting:
    return taken + f"{' or '.join(fitting)} would fit"
  if not skeletons_only and poses and poses < 0.95 * mib * _MIB:
    return taken + "--skeletons_only would fit"
  return taken + (f"its skeletons alone take {poses / _MIB:.1f} MiB: allow more"
                  if poses else "allow more")
