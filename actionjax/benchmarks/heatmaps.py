"""Heat maps of clips beside a loop over joints in NumPy.

The loop draws each Gaussian into its window, one frame, person and joint after the other, as
data pipelines do on the host. The two take turns, so that whatever else the machine does falls
on both alike. A turn is several calls, as a pipeline makes them one after another: the first one
finds the other's data in the caches and its own threads asleep. The table gives medians of calls.
"""
import statistics
import time

import jax
import numpy as np

from actionjax import skeletons
from actionjax.ops import compilation, heatmaps

FRAMES = 48
# Kind, persons, size of the maps.
CASES = (("joint", 1, (56, 56)), ("joint", 2, (64, 64)), ("limb", 1, (56, 56)),
         ("limb", 2, (64, 64)))


def run(rounds: int = 10, calls: int = 8, batch: int = 1, frames: int = FRAMES) -> list[dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each contestant, after one that is not counted (it compiles).
    calls: of a turn.
    batch: clips that the device draws at once; the loop draws one.
    frames: of a clip.

  Returns:
    One dict for each case: `case`, milliseconds a clip `ours` and `numpy`, their ratio
    `numpy/ours`, that of the processors' time, `cpu_ratio`, and the largest difference of
    values, `difference`.
  """
  rows = [_measure(case, rounds, calls, batch, frames) for case in CASES]
  print(table(rows, batch, frames))
  return rows


def _measure(case, rounds, calls, batch, frames):
  kind, persons, size = case
  layout = skeletons.layout("coco_17")
  points, score = example(batch, persons, frames, layout.num_joints, size)
  draw = jax.jit(lambda p, s: heatmaps.heatmaps(p, s, size, layout, kind=kind),
                 compiler_options=compilation.compiler_options())
  on_device = jax.device_put((points, score))
  limbs = layout.limbs if kind == "limb" else None
  contestants = {"ours": (lambda: jax.block_until_ready(draw(*on_device)), batch),
                 "numpy": (lambda: numpy_maps(points[0], score[0], size, limbs), 1)}
  passed, worked = ({name: [] for name in contestants} for _ in range(2))
  for turn in range(rounds + 1):
    for name, (call, clips) in contestants.items():
      for _ in range(calls):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        if turn:
          passed[name].append(1e3 * (time.perf_counter() - wall) / clips)
          worked[name].append(1e3 * (time.process_time() - cpu) / clips)
  row = {"case": f"{kind}, {persons} person{'s' * (persons > 1)}, {size[0]}x{size[1]}"}
  row |= {name: statistics.median(taken) for name, taken in passed.items()}
  row["numpy/ours"] = row["numpy"] / row["ours"]
  row["cpu_ratio"] = statistics.median(worked["numpy"]) / statistics.median(worked["ours"])
  ours, reference = (call() for call, _ in contestants.values())
  row["difference"] = float(np.abs(np.asarray(ours[0]) - reference).max())
  return row


def table(rows: list[dict], batch: int, frames: int = FRAMES) -> str:
  """The rows of `run` as text."""
  device = jax.devices()[0]
  columns = ("ours", "numpy", "numpy/ours", "cpu_ratio", "difference")
  lines = [f"Heat maps of {frames} frames, ms a clip ({batch} at once on the device); "
           f"{device.device_kind} ({device.platform})",
           f"{'case':<26}" + "".join(f"{name:>12}" for name in columns)]
  for row in rows:
    lines.append(f"{row['case']:<26}{row['ours']:>12.3f}{row['numpy']:>12.2f}"
                 f"{row['numpy/ours']:>12.1f}{row['cpu_ratio']:>12.1f}{row['difference']:>12.1e}")
  return "\n".join(lines)


def example(batch: int, persons: int, frames: int, joints: int, size: tuple[int, int],
            seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Wandering joints float32[B,M,T,V,2] within maps, and confidences float32[B,M,T,V]."""
  rng = np.random.default_rng(seed)
  places = rng.random((batch, persons, 1, joints, 2)) + rng.normal(
      0, 0.01, (batch, persons, frames, joints, 2)).cumsum(2)
  points = np.clip(places, 0, 1) * [size[1] - 1, size[0] - 1]
  score = rng.uniform(0.3, 1, (batch, persons, frames, joints))
  return points.astype(np.float32), score.astype(np.float32)


def numpy_maps(points: np.ndarray, score: np.ndarray, size: tuple[int, int],
               limbs: np.ndarray | None = None, sigma: float = 0.6) -> np.ndarray:
  """Heat maps by their definition, window by window.

  Args:
    points: float[M,T,V,2] in pixels. score: float[M,T,V].
    size: (H, W).
    limbs: int[L,2] for limbs instead of joints.

  Returns:
    float32[T,H,W,K].
  """
  persons, frames = score.shape[:2]
  pairs = [(joint, joint) for joint in range(score.shape[-1])] if limbs is None else limbs
  maps = np.zeros((len(pairs), frames, *size), np.float32)
  for channel, (first, second) in enumerate(pairs):
    for frame in range(frames):
      for person in range(persons):
        a, b = points[person, frame, first], points[person, frame, second]
        confidence = min(score[person, frame, first], score[person, frame, second])
        if confidence < 1e-3:
          continue
        if limbs is None or ((b - a)**2).sum() < 1:
          _draw_joint(maps[channel, frame], a, score[person, frame, first], sigma)
        else:
          _draw_limb(maps[channel, frame], a, b, confidence, sigma)
  return np.moveaxis(maps, 0, -1)


def _window(image, a, b, reach):
  """The part of an image about two points, and its coordinates in x and y."""
  x0, y0 = max(0, int(min(a[0], b[0]) - reach)), max(0, int(min(a[1], b[1]) - reach))
  x1, y1 = (max(0, int(max(a[axis], b[axis]) + reach) + 1) for axis in (0, 1))
  window = image[y0:y1, x0:x1]
  return (window, np.arange(x0, x0 + window.shape[1], dtype=np.float32),
          np.arange(y0, y0 + window.shape[0], dtype=np.float32)[:, None])


def _draw_joint(image, a, confidence, sigma):
  """Takes the maximum with one Gaussian, in place."""
  window, x, y = _window(image, a, a, 3 * sigma)
  if window.size:
    square = (x - a[0])**2 + (y - a[1])**2
    np.maximum(window, confidence * np.exp(-square / (2 * sigma**2)), out=window)


def _draw_limb(image, a, b, confidence, sigma):
  """The same with a Gaussian of the distance to the segment from a to b."""
  window, x, y = _window(image, a, b, 3 * sigma)
  if window.size:
    dx, dy, (along_x, along_y) = x - a[0], y - a[1], b - a
    share = np.clip((dx * along_x + dy * along_y) / (along_x**2 + along_y**2), 0, 1)
    square = (dx - share * along_x)**2 + (dy - share * along_y)**2
    np.maximum(window, confidence * np.exp(-square / (2 * sigma**2)), out=window)
