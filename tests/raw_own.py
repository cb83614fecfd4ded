"""Made-up data in the forms that users bring: videos, tables, annotation files."""
import csv
import pathlib
import pickle

import av
import numpy as np

from actionjax.data import catalogue
from actionjax.data.formats.findings import Findings
from actionjax.data.own import annotations as kind
from actionjax.data.preparing import preparation

STEP = 12  # grey levels between one frame and the next


def video(path, frames: int = 6, size=(64, 48), codec: str = "mpeg4", pixels: str = "yuv420p",
          rate: int = 10) -> pathlib.Path:
  """Writes a video: red left, green top right, and frame i's grey level 30 + STEP * i below it."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  width, height = size
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=rate)
    stream.width, stream.height, stream.pix_fmt = width, height, pixels
    for i in range(frames):
      image = np.zeros((height, width, 3), np.uint8)
      image[:, :width // 2] = 200, 20, 20
      image[:height // 2, width // 2:] = 20, 200, 20
      image[height // 2:, width // 2:] = min(255, 30 + STEP * i)
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
    container.mux(stream.encode())
  return path


def halve(path) -> None:
  """Cuts off the second half of a file."""
  data = path.read_bytes()
  path.write_bytes(data[:len(data) // 2])


def grey(image: np.ndarray) -> float:
  """The mean level of an image's lower right part, which tells the frame's number."""
  height, width = image.shape[:2]
  return float(image[height * 5 // 8:height * 7 // 8, width * 5 // 8:width * 7 // 8].mean())


def folder(root, classes=("clap", "wave"), clips: int = 3, **kwargs) -> pathlib.Path:
  """A folder a class, of videos 0.mp4, 1.mp4, ... of 6, 7, ... frames."""
  root = pathlib.Path(root)
  for name in classes:
    for i in range(clips):
      video(root / name / f"{i}.mp4", frames=6 + i, **kwargs)
  return root


def poses(seed: int = 0, shape=(1, 6, 17), low=4.0, high=40.0, width: int = 2) -> np.ndarray:
  """Coordinates float32[M,T,J,width] between two numbers."""
  return np.random.default_rng(seed).uniform(low, high, (*shape, width)).astype(np.float32)


def annotation(name: str, label: int, seed: int = 0, shape=(2, 5, 17), width: int = 2,
               image_size=(48, 64), **changes) -> dict:
  """One annotation as PYSKL has them."""
  frames = shape[1]
  found = {"frame_dir": name, "label": label, "total_frames": frames,
           "img_shape": image_size, "original_shape": image_size,
           "keypoint": poses(seed, shape, width=width).astype(np.float16)}
  if width == 2:
    rng = np.random.default_rng(seed + 1)
    found["keypoint_score"] = rng.uniform(0.1, 1, shape).astype(np.float16)
  return {**found, **changes}


def annotations(count: int = 8, **kwargs) -> dict:
  """A whole annotation file's content: two classes, the last quarter of the clips tested."""
  made = [annotation(f"clip{i:02d}", i % 2, seed=i, **kwargs) for i in range(count)]
  ids = [one["frame_dir"] for one in made]
  edge = count * 3 // 4
  return {"split": {"xsub_train": ids[:edge], "xsub_val": ids[edge:]}, "annotations": made}


def dump(path, content, protocol: int = 4) -> pathlib.Path:
  """Pickles something; returns the path."""
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(pickle.dumps(content, protocol=protocol))
  return path


def quiet(line: str) -> None:
  """Reports nothing."""
  del line


def prepare(dataset: str, raw, data, report=quiet, **kwargs) -> dict:
  """Prepares a dataset in this process."""
  return preparation.prepare(dataset, raw and str(raw), str(data), workers=1, report=report,
                             **kwargs)


def open_prepared(data, name: str = "folder:mine"):
  """A dataset that was prepared in the folder `data`."""
  return catalogue.open_dataset(str(data), name)


def by_id(dataset) -> dict:
  """The records of a dataset by their clips' ids."""
  return {dataset[i]["clip_id"]: dataset[i] for i in range(len(dataset))}


def table(path, rows, header=("path", "label")) -> pathlib.Path:
  """Writes rows as a CSV file; returns its path."""
  with open(path, "w", newline="", encoding="utf-8") as file:
    csv.writer(file).writerows([header, *rows])
  return pathlib.Path(path)


def mutations(data: bytes, positions, values, cut: int | None) -> bytes:
  """Bytes with some of them replaced, and the end cut off."""
  changed = bytearray(data)
  for position, value in zip(positions, values):
    changed[position % len(changed)] = value
  return bytes(changed if cut is None else changed[:cut % (len(changed) + 1)])


def survey_annotations(path, **options):
  """An annotation file surveyed with the kind's options, and the findings."""
  findings = Findings()
  return kind.survey(str(path), findings, **(kind.OPTIONS | options)), findings
