"""Raw files in the form of MSRDailyActivity3D, made up: a person 2.5 m away on a sofa."""
import pathlib

import numpy as np

from tests import raw_ntu


def joints(frames: int, seed: int = 0) -> np.ndarray:
  """float64[T,20,2,4]: rows of x, y, z in metres, and of u, v (shares of the image), depth."""
  rng = np.random.default_rng(seed)
  body = rng.uniform([-0.4, -0.7, 2.4], [0.4, 0.7, 2.6], (20, 3))
  world = body + np.linspace(0, 0.1, frames)[:, None, None] * [1.0, 0, 0]
  rows = np.ones((frames, 20, 2, 4))
  rows[..., 0, :3] = np.round(world, 6)
  rows[..., 1, 0] = np.round(0.5 + 0.9 * world[..., 0] / world[..., 2], 6)
  rows[..., 1, 1] = np.round(0.5 - 1.2 * world[..., 1] / world[..., 2], 6)
  rows[..., 1, 2] = np.round(1000 * world[..., 2])
  return rows


def text(rows: np.ndarray, persons=None) -> str:
  """A skeleton file; persons: how many each frame has, 1 everywhere by default.

  The second person of a frame stands a metre beside the first.
  """
  lines = [f"{len(rows)} 20"]
  for t, frame in enumerate(rows):
    count = 1 if persons is None else persons[t]
    lines.append(str(40 * count))
    for person in range(count):
      lines += [" ".join(map(repr, map(float, row)))
                for row in (frame + [[person, 0, 0, 0], [0, 0, 0, 0]]).reshape(40, 4)]
  return "\n".join(lines) + "\n"


def depth(frames: int, seed: int = 0, size=(320, 240)) -> np.ndarray:
  """int32[T,H,W] in mm: a wall at 4 m, and a person at 2.4 to 2.6 m in the middle."""
  rng = np.random.default_rng(seed)
  width, height = size
  video = np.full((frames, height, width), 4000, np.int32)
  for t in range(frames):
    x = width // 3 + t
    video[t, height // 4:-height // 4, x:x + width // 4] = rng.integers(
        2400, 2601, (height - 2 * (height // 4), width // 4))
  return video


def depth_bytes(video: np.ndarray) -> bytes:
  """A depth file of int32[T,H,W]; each row is followed by a byte for each pixel's person."""
  frames, height, width = video.shape
  header = np.array([frames, width, height], "<i4").tobytes()
  rows = [row.astype("<i4").tobytes() + (row < 3000).astype(np.uint8).tobytes()
          for frame in video for row in frame]
  return header + b"".join(rows)


def write(folder, clips, frames: int = 4, kinds=("skeleton", "rgb", "depth"),
          size=(640, 480)) -> pathlib.Path:
  """Writes clips (names such as a01_s02_e01), the seed of each its place in the list."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for seed, clip in enumerate(clips):
    if "skeleton" in kinds:
      (folder / f"{clip}_skeleton.txt").write_text(text(joints(frames, seed)))
    if "rgb" in kinds:
      raw_ntu.video(folder / f"{clip}_rgb.avi", frames, size)
    if "depth" in kinds:
      (folder / f"{clip}_depth.bin").write_bytes(depth_bytes(depth(frames, seed)))
  return folder
