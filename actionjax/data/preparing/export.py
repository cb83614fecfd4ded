"""The skeletons of a prepared dataset as files of the interchange format."""
import numpy as np

from actionjax.data import catalogue, own
from actionjax.data.clips.skeleton_arrays import Skeletons
from actionjax.data.own.interchange_files import Clip, Header, write
from actionjax.errors import UserError


def export(dataset, folder) -> dict:
  """Writes the skeletons of a prepared dataset, with all of its protocols.

  2D poses go out in pixels of the original image.

  Args:
    dataset: a `clips.dataset.ClipDataset`. folder: see `interchange_files.write`.

  Returns:
    {"clips": N, "poses": names}.

  Raises:
    UserError: its clips have no skeletons, or the folder cannot be written to.
  """
  source = catalogue.of(dataset)
  first = dataset[0]
  poses = [name for name in ("pose3d", "pose2d") if first[name].shape[2]]
  if not poses:
    raise UserError(f"{dataset.path} has no skeletons to export")

  def clips():
    for number in range(len(dataset)):
      record = dataset[number]
      pose2d = record["pose2d"] if "pose2d" in poses else None
      size = tuple(int(n) for n in record["image_size"]) if pose2d is not None else None
      if pose2d is not None and not np.array_equal(record["frame_to_original"], np.eye(2, 3)):
        to_original = record["frame_to_original"].astype(np.float64)
        pose2d = np.where(record["pose_score"][..., None] > 0,
                          pose2d @ to_original[:, :2].T + to_original[:, 2], 0)
        size = None  # of the original image, a part of which is stored
      yield Clip(record["clip_id"], record["label"],
                 Skeletons(record["pose3d"] if "pose3d" in poses else None, pose2d,
                           record["pose_score"], size),
                 record["subject"], record["camera"], record["setup"], record["fps"])

  splits = np.zeros((len(source.protocols), len(dataset)), np.uint8)
  for row, protocol in zip(splits, source.protocols.values()):
    for part, mask in protocol(dataset.index).items():
      row[mask] = own.PARTS.index(part) + 1
  write(folder, Header(tuple(dataset.info["class_names"]), dataset.info["layout"],
                       tuple(source.protocols)), clips(), splits)
  return {"clips": len(dataset), "poses": poses}
