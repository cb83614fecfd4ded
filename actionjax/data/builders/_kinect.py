"""What Kinect's skeletons have in common, whichever dataset they come from."""
import numpy as np

# Nothing that the sensor sees is nearer or farther (m); its working range is 0.4 to 8 m.
NEAREST, FARTHEST = 0.1, 100.0
# Depth this far (mm) before or behind the joints' own range is not the person's.
DEPTH_MARGIN = 300


def split_lost(pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Skeletons as records store them: lost joints zero, with score 0.

  A joint is lost where it is NaN or infinite, all zeros, or at a place that the sensor
  cannot see (`NEAREST`, `FARTHEST`). Kinect's own tracking states are not asked: published
  results use inferred joints like any others.

  Args:
    pose: float[...,J,3] in metres, z away from the camera.

  Returns:
    pose float64[...,J,3] and score float32[...,J], 0 or 1.
  """
  with np.errstate(invalid="ignore"):
    there = (np.abs(pose) < FARTHEST).all(-1) & (pose[..., 2] > NEAREST)
  return np.where(there[..., None], pose, 0.0), there.astype(np.float32)


def number(text: str) -> float:
  """A number as Microsoft's C library writes it: -1.#IND and 1.#INF are NaN. Raises ValueError."""
  try:
    return float(text)
  except ValueError:
    if "#" in text:
      return np.nan
    raise


def depth_range(counts: np.ndarray, pose: np.ndarray, score: np.ndarray) -> np.ndarray:
  """Nearest and farthest depth of the person in mm, float32[2].

  The 0.1 and 99.9 % quantiles of all foreground pixels that lie within the joints' range of
  depth and `DEPTH_MARGIN` around it; zeros without foreground.

  Args:
    counts: int[n], pixels of each depth in mm; 0 is background.
    pose: float[...,J,3] in metres. score: float[...,J]; where all are 0, all depths count.
  """
  counts = counts.copy()
  counts[:1] = 0
  if score.any():
    z = pose[score > 0][:, 2] * 1000
    near, far = max(int(z.min()) - DEPTH_MARGIN, 1), int(z.max()) + DEPTH_MARGIN
    person = np.zeros_like(counts)
    person[near:far + 1] = counts[near:far + 1]
    counts = person if person.any() else counts
  total = counts.sum()
  if not total:
    return np.zeros(2, np.float32)
  below = np.cumsum(counts)
  return np.searchsorted(below, [0.001 * total, 0.999 * total], side="left").astype(np.float32)
