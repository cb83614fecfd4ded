"""Scaling of 8-bit video to what a network was trained on."""
import jax.numpy as jnp
import numpy as np

IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def scale(video, scaling: str, dtype=jnp.float32):
  """Pixels as networks read them, uint8[...,C] -> float[...,C].

  Args:
    scaling: "signed" for [-1, 1] (x/127.5 - 1, Inception I3D) or "imagenet" for x/255 less the
      ImageNet mean over its deviation.
    dtype: of the result; the arithmetic is float32.

  Raises:
    ValueError: another scaling.
  """
  x = video.astype(jnp.float32)
  if scaling == "signed":
    x = x / 127.5 - 1.0
  elif scaling == "imagenet":
    # Grey input takes the colour statistics' mean, so that repeating it changes little.
    mean, std = (IMAGENET_MEAN, IMAGENET_STD) if video.shape[-1] == 3 else (
        IMAGENET_MEAN.mean(), IMAGENET_STD.mean())
    x = (x / 255.0 - mean) / std
  else:
    raise ValueError(f"unknown scaling {scaling!r}; known: signed, imagenet")
  return x.astype(dtype)
