"""Raw files in the form of JHMDB, made up: a person who walks to the right over a gradient."""
import pathlib
import pickle

import numpy as np
import scipy.io

from tests import raw_ntu


def pos_img(frames: int, seed: int = 0) -> np.ndarray:
  """float64[2,15,T]: x from 100 to 160 and y from 60 to 180, moving by 2 pixels a frame."""
  rng = np.random.default_rng(seed)
  body = rng.uniform([100, 60], [160, 180], (15, 2)).T
  return np.round(body[:, :, None] + [[[2.0]], [[0]]] * np.arange(frames), 3)


def pixels(frames: int, seed: int = 0) -> np.ndarray:
  """float64[T,15,2]: where these joints are in an image whose first pixel is at 0, not at 1."""
  return pos_img(frames, seed).transpose(2, 1, 0) - 1


def image(t: int, size=(320, 240)) -> np.ndarray:
  """uint8[H,W,3]: frame t, RGB; a gradient, and a bright square whose place tells t."""
  width, height = size
  frame = np.zeros((height, width, 3), np.uint8)
  frame[..., 0] = np.linspace(0, 120, width).astype(np.uint8)
  frame[80:160, 100 + 4 * t:160 + 4 * t] = (250, 200, 40)
  return frame


def images(folder, frames: int, size=(320, 240)) -> list[np.ndarray]:
  """Writes 00001.png and on; returns the images."""
  import cv2
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  made = [image(t, size) for t in range(frames)]
  for t, frame in enumerate(made):
    cv2.imwrite(str(folder / f"{t + 1:05d}.png"), frame[..., ::-1])
  return made


def joints(root, clip: str, frames: int = 4, seed: int = 0) -> np.ndarray:
  """Writes a clip's joint_positions.mat; returns pos_img. A clip is CLASS/NAME."""
  positions = pos_img(frames, seed)
  path = pathlib.Path(root) / "joint_positions" / clip / "joint_positions.mat"
  path.parent.mkdir(parents=True, exist_ok=True)
  world = (positions / [[[320]], [[240]]] - 0.5) * [[[320 / 240]], [[1]]]
  scipy.io.savemat(path, {"pos_img": positions, "pos_world": world, "viewpoint": "SSW",
                          "scale": np.ones((1, frames))})
  return positions


def splits(root, listed: dict[str, tuple[int, int, int]]) -> None:
  """Writes the split files; {CLASS/NAME: (1, 2 or 0 in each of the three splits)}."""
  folder = pathlib.Path(root) / "splits"
  folder.mkdir(parents=True, exist_ok=True)
  for action in {clip.partition("/")[0] for clip in listed}:
    for split in range(3):
      lines = [f"{clip.partition('/')[2]}.avi {parts[split]}\n" for clip, parts in listed.items()
               if clip.startswith(action + "/")]
      (folder / f"{action}_test_split{split + 1}.txt").write_text("".join(lines))


def write(root, listed: dict[str, tuple[int, int, int]], frames: int = 4,
          kinds=("joints", "images")) -> pathlib.Path:
  """A whole distribution of small clips, the seed of each its place in the dict."""
  for seed, clip in enumerate(listed):
    if "joints" in kinds:
      joints(root, clip, frames, seed)
    if "images" in kinds:
      images(pathlib.Path(root) / "Rename_Images" / clip, frames)
    if "video" in kinds:
      raw_ntu.video(pathlib.Path(root) / "ReCompress_Videos" / f"{clip}.avi", frames, (320, 240))
  splits(root, listed)
  return pathlib.Path(root)


def pickled(root, parts: dict[str, list[tuple[str, np.ndarray]]]) -> pathlib.Path:
  """GT_*.pkl of {"train_1": [(label, float64[T,15,2]), ...]}."""
  root = pathlib.Path(root)
  root.mkdir(parents=True, exist_ok=True)
  for part, clips in parts.items():
    content = {"pose": [pose for _, pose in clips], "label": [label for label, _ in clips]}
    (root / f"GT_{part}.pkl").write_bytes(pickle.dumps(content, protocol=2))
  return root
