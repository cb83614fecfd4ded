"""Raw files in the form of CAD-60 and CAD-120, made up: a person who walks to the right."""
import pathlib

import numpy as np

from tests import raw_jhmdb


def joints(frames: int, seed: int = 0) -> np.ndarray:
  """float64[T,15,3] in millimetres, x right, y up, z away, around (0, 0, 2500)."""
  rng = np.random.default_rng(seed)
  body = rng.uniform([-400, -700, 2400], [400, 700, 2600], (15, 3))
  return np.round(body + np.arange(frames)[:, None, None] * [20.0, 0, 0], 4)


def text(positions: np.ndarray, numbers=None, end: str = "END\n") -> str:
  """A skeleton file; numbers: of the frames, 1 and on by default."""
  lines = []
  for t, pose in enumerate(positions):
    line = [t + 1 if numbers is None else numbers[t]]
    for joint, xyz in enumerate(pose):
      # Orientations are those of another joint's place: nothing may take them for positions.
      line += [*range(100 * joint, 100 * joint + 9), 1] * (joint < 11) + [*xyz.tolist(), 1]
    lines.append(",".join(map(str, line)) + ",\n")
  return "".join(lines) + end


def images(folder, numbers, size=(320, 240)) -> None:
  """Writes RGB_n.png of frame n, beside Depth_n.png, which is none."""
  import cv2
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for number in numbers:
    image = raw_jhmdb.image(number, size)
    cv2.imwrite(str(folder / f"RGB_{number}.png"), image[..., ::-1])
    (folder / f"Depth_{number}.png").write_bytes(b"-")


def cad60(root, clips: dict[str, str], frames: int = 4, kinds=("skeleton", "images"),
          folder="data{}") -> pathlib.Path:
  """CAD-60 of {"1/0512164529": activity}, the seed of each clip its place in the dict."""
  root = pathlib.Path(root)
  for seed, (clip, activity) in enumerate(clips.items()):
    subject, _, name = clip.partition("/")
    place = root / folder.format(subject)
    place.mkdir(parents=True, exist_ok=True)
    if "skeleton" in kinds:
      (place / f"{name}.txt").write_text(text(joints(frames, seed)))
    if "images" in kinds:
      images(place / name, range(1, frames + 1))
    listed = place / "activityLabel.txt"
    before = listed.read_text().removesuffix("END\n") if listed.exists() else ""
    listed.write_text(f"{before}{name},{activity},\nEND\n")
  return root


def cad120(root, clips, frames: int = 4, kinds=("skeleton", "images")) -> pathlib.Path:
  """CAD-120 of "1/arranging_objects/0510175411", the seed of each clip its place in the list."""
  root = pathlib.Path(root)
  for seed, clip in enumerate(clips):
    subject, activity, name = clip.split("/")
    if "skeleton" in kinds:
      place = root / f"Subject{subject}_annotations" / activity
      place.mkdir(parents=True, exist_ok=True)
      (place / f"{name}.txt").write_text(text(joints(frames, seed)))
      (place / f"{name}_obj1.txt").write_text("1,1,10,10,20,20,\n")
      (place / "activityLabel.txt").write_text(f"{name},{activity},1:cup,\nEND\n")
    if "images" in kinds:
      images(root / f"Subject{subject}_rgbd_images" / activity / name, range(1, frames + 1),
             (640, 480))
  return root
