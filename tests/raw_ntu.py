"""Raw files in the form of NTU RGB+D, made up: bodies before a coloured background."""
import pathlib
import zipfile

import numpy as np

from actionjax.data.builders import ntu60
from tests import preparing

# A body's line: number, clipped edges, both hands' confidence and state, restricted, lean x
# and y, tracking state.
_HEADER = "{} 0 1 0 1 1 0 0.0276 -0.0575 2"


def body(frames: int, seed: int = 0, at=(0.0, 0.0, 3.0), sway: float = 0.1) -> np.ndarray:
  """float64[T,25,12] as the file's rows have them, rounded as its text is.

  A person 1.6 m tall and 0.5 m wide who moves sideways by `sway` metres altogether. Colour
  pixels are those of a pinhole of 1060 pixels around (960, 540).
  """
  rng = np.random.default_rng(seed)
  shape = rng.uniform([-0.25, -0.8, -0.1], [0.25, 0.8, 0.1], (25, 3))
  path = np.linspace(0, sway, frames)[:, None, None] * [1.0, 0, 0]
  place = shape + np.asarray(at) + path
  rows = np.zeros((frames, 25, 12))
  rows[..., :3] = np.round(place, 7)
  rows[..., 3:5] = np.round(256 + 100 * place[..., :2], 4)
  rows[..., 5] = np.round(960 + 1060 * place[..., 0] / place[..., 2], 4)
  rows[..., 6] = np.round(540 - 1060 * place[..., 1] / place[..., 2], 4)
  rows[..., 7:11] = rng.normal(size=4)
  rows[..., 11] = 2
  return rows


def name(setup=1, camera=1, subject=1, replication=1, action=1) -> str:
  """SsssCcccPpppRrrrAaaa."""
  return f"S{setup:03d}C{camera:03d}P{subject:03d}R{replication:03d}A{action:03d}"


CLIP = name(3, 2, 8, 1, 7)
NOBODY = "3\r\n0\r\n0\r\n0\r\n"  # three frames, no body in any


def text(num_frames: int, bodies: dict) -> str:
  """A `.skeleton` file.

  Args:
    num_frames: T.
    bodies: {number: (first frame, float[n,25,12])}, or {number: {frame: float[25,12]}}.
  """
  lines = [str(num_frames)]
  tracks = {name: value if isinstance(value, dict) else
            {value[0] + i: rows for i, rows in enumerate(value[1])}
            for name, value in bodies.items()}
  for t in range(num_frames):
    here = {name: track[t] for name, track in tracks.items() if t in track}
    lines.append(str(len(here)))
    for name, rows in here.items():
      lines += [_HEADER.format(name), "25"]
      lines += [" ".join(repr(float(value)).removesuffix(".0") for value in row) for row in rows]
  return "\r\n".join(lines) + "\r\n"


def video(path, frames: int, size=(192, 108), codec: str = "mpeg4") -> np.ndarray:
  """Writes a video of a bright square that moves over a gradient; returns uint8[T,H,W,3]."""
  import av
  width, height = size
  images = np.zeros((frames, height, width, 3), np.uint8)
  images[..., 0] = np.linspace(0, 120, width).astype(np.uint8)
  images[..., 2] = np.linspace(120, 0, height).astype(np.uint8)[:, None]
  side = height // 4
  for t, image in enumerate(images):
    x = width // 3 + 2 * t
    image[side:2 * side, x:x + side] = (250, 200, 40)
  pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
  with av.open(str(path), "w") as container:
    stream = container.add_stream(codec, rate=30)
    stream.width, stream.height = size
    stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
    if codec != "ffv1":
      stream.bit_rate = 4_000_000
    for image in images:
      container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
    container.mux(stream.encode())
  return images


def write(folder, clips, frames: int = 12, kinds=("skeleton", "video"), codec="mpeg4"):
  """Writes one-person clips (names as `name` gives them) as extracted; returns the folder."""
  folder = pathlib.Path(folder)
  folder.mkdir(parents=True, exist_ok=True)
  for seed, clip in enumerate(clips):
    if "skeleton" in kinds:
      path = folder / "nturgb+d_skeletons" / f"{clip}.skeleton"
      path.parent.mkdir(exist_ok=True)
      path.write_bytes(text(frames, {72057594037931101: (0, body(frames, seed))}).encode())
    if "video" in kinds:
      video(folder / "nturgb+d_rgb" / f"{clip}_rgb.avi", frames, codec=codec)
  return folder


def zipped(folder, target, method=zipfile.ZIP_DEFLATED) -> pathlib.Path:
  """The same files in archives named as the official ones, in another folder."""
  folder, target = pathlib.Path(folder), pathlib.Path(target)
  target.mkdir(parents=True, exist_ok=True)
  for part, title in (("nturgb+d_skeletons", "nturgbd_skeletons_s001_to_s017"),
                      ("nturgb+d_rgb", "nturgbd_rgb_s001")):
    if (folder / part).exists():
      with zipfile.ZipFile(target / f"{title}.zip", "w", method) as archive:
        for file in sorted((folder / part).iterdir()):
          archive.write(file, f"{part}/{file.name}")
  return target


def write_skeleton(folder, content, clip=CLIP) -> pathlib.Path:
  """One `.skeleton` file of that text or of those bytes."""
  path = folder / f"{clip}.skeleton"
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return path


def encode(folder, variant="skeleton", builder=ntu60) -> dict:
  """The first clip's record, without the detour over the disk."""
  return preparing.encode(builder, folder, variant)
