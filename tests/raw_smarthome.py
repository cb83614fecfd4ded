"""Raw files in the form of Toyota Smarthome, made up: a person who walks to the right."""
import json
import pathlib

import numpy as np

from tests import raw_ntu


def poses(frames: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """pose2d float64[T,13,2] in pixels of 640x480, and pose3d float64[T,13,3].

  The latter is in metres around the body's centre: x right in the image, y up, z away. The former
  is what a camera of 500 pixels' focal length sees of it 3 m away.
  """
  rng = np.random.default_rng(seed)
  body = rng.uniform([-0.3, -0.8, -0.2], [0.3, 0.8, 0.2], (13, 3))
  body = np.round(body - body.mean(0), 6)
  place = body + [0, 0, 3] + np.arange(frames)[:, None, None] * [0.05, 0, 0]
  image = [320, 240] + 500 * place[..., :2] * [1, -1] / place[..., 2:]
  return np.round(image, 4), np.broadcast_to(body, (frames, 13, 3)).copy()


def person(pose2d: np.ndarray, pose3d: np.ndarray, more=()) -> dict:
  """One person of one frame; all x, then all y, and for pose3d all z, and more numbers."""
  return {"pose2d": pose2d.T.ravel().tolist(), "pose3d": [*pose3d.T.ravel().tolist(), *more],
          "cumscore": 12.5, "angle_left": 0.1, "angle_right": 0.2}


def text(pose2d: np.ndarray, pose3d: np.ndarray, empty=(), more=()) -> str:
  """A skeleton file. empty: frames without a person; others have a second one beside the first."""
  frames = [[] if t in empty else [person(flat, solid, more), person(flat + 50, solid * 0.9, more)]
            for t, (flat, solid) in enumerate(zip(pose2d, pose3d))]
  return json.dumps({"K": 100, "njts": 13, "frames": frames})


def write(folder, clips, frames: int = 4, kinds=("skeleton", "video"), axes=(-1, 1, 1)):
  """Writes clips (names such as Walk_p02_r00_v02_c03), the seed of each its place in the list.

  axes: signs of the files' x, y and z against x right, y up, z away.
  """
  folder = pathlib.Path(folder)
  (folder / "json").mkdir(parents=True, exist_ok=True)
  for seed, clip in enumerate(clips):
    if "skeleton" in kinds:
      pose2d, pose3d = poses(frames, seed)
      (folder / "json" / f"{clip}.json").write_text(text(pose2d, pose3d * axes))
    if "video" in kinds:
      raw_ntu.video(folder / "mp4" / f"{clip}.mp4", frames, (640, 480))
  return folder
