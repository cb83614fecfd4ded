"""What Kinect's skeletons have in common, whichever dataset they come from."""
import numpy as np

# Nothing that the sensor sees is nearer or farther (m); its working range is 0.4 to 8 m.
NEAREST, FARTHEST = 0.1, 100.0


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


def resample(length: int, target: int) -> np.ndarray:
  """Which of `length` poses belongs to each of `target` frames of the same time, int[target]."""
  return ((2 * np.arange(target) + 1) * length // (2 * target)).astype(int)
