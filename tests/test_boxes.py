"""Cutting and reducing frames, against means over blocks of pixels."""
import numpy as np
import pytest

from actionjax.data.clips import boxes


def window(width, height, stored_width, stored_height):
  return boxes.StoredWindow(0, 0, width, height, stored_width, stored_height)


@pytest.mark.parametrize("factor", [2, 4, 8, 3, 5, 6, 12])
def test_a_reduced_frame_is_the_mean_of_blocks(factor):
  frame = np.random.default_rng(0).integers(0, 256, (30 * factor, 40 * factor, 3), np.uint8)
  found = window(40 * factor, 30 * factor, 40, 30).cut(frame)
  expected = frame.reshape(30, factor, 40, factor, 3).mean((1, 3))
  assert found.shape == (30, 40, 3)
  # Rounded once for each halving.
  assert np.abs(found - expected).max() <= 0.5 * max(1, np.log2(factor)) + 1e-9


def test_other_factors_keep_places_and_brightness():
  """A ramp stays one, with pixels' centres where `to_original` says they are."""
  ramp = np.broadcast_to(np.linspace(0, 250, 1920), (1080, 1920))
  frame = np.repeat(ramp[..., None], 3, 2).round().astype(np.uint8)
  here = window(1920, 1080, 455, 256)
  found = here.cut(frame).astype(float)
  assert found.shape == (256, 455, 3)
  scale, _, origin = here.to_original[0]
  expected = np.interp(scale * np.arange(455) + origin, np.arange(1920), ramp[0])
  np.testing.assert_allclose(found[100, 1:-1, 0], expected[1:-1], atol=1.5)
  assert found.mean() == pytest.approx(frame.mean(), abs=0.3)


def test_depth_is_never_mixed():
  frame = np.random.default_rng(0).choice(np.array([0, 700, 3000], np.uint16), (240, 320))
  found = window(320, 240, 80, 60).cut(frame)
  assert found.shape == (60, 80) and set(np.unique(found)) <= {0, 700, 3000}
