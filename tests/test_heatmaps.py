"""Heat maps against the released code's numbers and a loop in NumPy."""
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.benchmarks import heatmaps as benchmark
from actionjax.models.posec3d import MMACTION_LIMBS
from actionjax.ops import heatmaps
from tests import references

COCO = skeletons.layout("coco_17")
SIZE = (24, 32)


@functools.cache
def _drawing(**arguments):
  return jax.jit(lambda p, s: heatmaps.heatmaps(p, s, SIZE, COCO, **arguments))


def _draw(points, score, **arguments):
  return np.asarray(_drawing(**arguments)(points, score))


def _skeletons(persons, seed=0, batch=2, frames=3):
  return benchmark.example(batch, persons, frames, 17, SIZE, seed)


def test_numbers_of_the_released_code():
  known = references.stored("heatmaps_mmaction")
  size = int(known["height"]), int(known["width"])
  maps = jax.jit(lambda p, s: heatmaps.heatmaps(
      p, s, size, COCO, kind="both", limbs=known["limbs"], sigma=float(known["sigma"])))(
          known["keypoint"][None], known["keypoint_score"][None])
  expected = np.concatenate([known["joint"], known["limb"]], 1).transpose(0, 2, 3, 1)
  np.testing.assert_allclose(maps[0], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["joint", "limb"])
@pytest.mark.parametrize("persons", [1, 3])
def test_a_loop_over_windows_gives_the_same(kind, persons):
  points, score = _skeletons(persons)
  points[0, 0, 0] = points[0, 0, 0] * 2 - 10    # many joints outside of the map
  points[1, 0, 1, 5:9] = points[1, 0, 1, 5]     # limbs without length
  points[1, 0, 2, 3] = [150, -90]               # far outside
  score[0, 0, 1, 2:6] = 5e-4                    # missing ones
  limbs = COCO.limbs if kind == "limb" else None
  maps = _draw(points, score, kind=kind)
  for ours, p, s in zip(maps, points, score):
    np.testing.assert_allclose(ours, benchmark.numpy_maps(p, s, SIZE, limbs), rtol=0, atol=1e-5)


def test_a_map_by_hand():
  points, score = np.zeros((1, 1, 1, 17, 2), np.float32), np.zeros((1, 1, 1, 17), np.float32)
  points[..., 5, :], points[..., 7, :] = (10, 8), (20, 8)  # left shoulder and elbow
  score[..., 5], score[..., 7] = 0.5, 0.8
  maps = _draw(points, score, kind="both", windows=False, sigma=0.6)[0, 0]
  np.testing.assert_allclose(maps[9, 12, 5], 0.5 * np.exp(-(1 + 4) / 0.72), atol=1e-6)
  limb = 17 + [tuple(pair) for pair in COCO.limbs].index((5, 7))
  # Beside the segment, beyond its end, and on it; the lower confidence.
  for x, y, square in ((15, 9, 1), (21, 9, 2), (13, 8, 0)):
    np.testing.assert_allclose(maps[y, x, limb], 0.5 * np.exp(-square / 0.72), atol=2e-6)
  drawn = maps.reshape(-1, 34).any(0)
  assert np.flatnonzero(drawn).tolist() == [5, 7, limb]


@pytest.mark.parametrize("kind", ["joint", "limb"])
def test_persons_are_merged(kind):
  points, score = _skeletons(3)
  alone = [_draw(points[:, m:m + 1], score[:, m:m + 1], kind=kind) for m in range(3)]
  np.testing.assert_allclose(_draw(points, score, kind=kind), np.max(alone, 0), atol=3e-6)
  np.testing.assert_allclose(_draw(points, score, kind=kind, merge="sum"), np.sum(alone, 0),
                             atol=3e-6)


def test_scores_may_be_ignored_but_missing_joints_stay_missing():
  points, score = _skeletons(1)
  score[:, :, :, 4] = 0
  ones = np.where(score > 0, 1, 0).astype(np.float32)
  for kind in ("joint", "limb"):
    np.testing.assert_allclose(_draw(points, score, kind=kind, use_scores=False),
                               _draw(points, ones, kind=kind), atol=1e-7)
  assert not _draw(points, score, use_scores=False)[..., 4].any()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["joint", "limb"])
def test_lost_joints_leave_neither_marks_nor_nans(kind):
  points, score = _skeletons(2)
  points[:, 1], score[:, 1] = np.nan, 0
  np.testing.assert_allclose(_draw(points, score, kind=kind),
                             _draw(points[:, :1], score[:, :1], kind=kind), atol=1e-6)
  gradients = jax.jit(jax.grad(lambda p, s: _drawing(kind=kind)(p, s).sum(), (0, 1)))(
      points, score)
  assert all(np.isfinite(g).all() and np.abs(g).max() > 0.01 for g in gradients)


def test_the_exponential_of_limbs():
  exponents = np.linspace(-2, 200, 100_001, dtype=np.float32)
  expected = np.exp(-exponents.astype(np.float64))
  error = np.abs(np.asarray(heatmaps._decay(exponents)) - expected)
  assert (error / np.maximum(expected, 1)).max() < 4e-6
  assert not np.asarray(heatmaps._decay(exponents[exponents > 50])).any()


@pytest.mark.parametrize("kind,limbs", [("joint", None), ("both", None), ("limb", MMACTION_LIMBS)])
def test_mirrored_maps_are_maps_of_the_mirrored_skeleton(kind, limbs):
  points, score = _skeletons(1)
  turned = points.copy()
  turned[..., 0] = SIZE[1] - 1 - turned[..., 0]
  # A limb shorter than a pixel is its first joint, and whole pixels at a window's ends are not
  # symmetric: without windows, and with joints apart.
  expected = _draw(turned[..., COCO.mirror, :], score[..., COCO.mirror], kind=kind, limbs=limbs,
                   windows=False)
  maps = heatmaps.mirror(_draw(points, score, kind=kind, limbs=limbs, windows=False), COCO, kind,
                         limbs)
  np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_three_views_and_their_fit():
  rng = np.random.default_rng(0)
  points = rng.normal(0, 1, (2, 1, 4, 17, 3)).astype(np.float32)
  score = np.ones((2, 1, 4, 17), np.float32)
  score[0, 0, 0, 3], points[0, 0, 0, 3] = 0, 1e3
  front, side, above = heatmaps.three_views(points)
  np.testing.assert_array_equal(front, points[..., :2] * [1, -1])
  np.testing.assert_array_equal(side, points[..., [2, 1]] * [1, -1])
  np.testing.assert_array_equal(above, points[..., [0, 2]] * [1, -1])
  fit = jax.jit(lambda p, s: heatmaps.fit(p, s, SIZE, padding=0.25))
  fitted = np.asarray(fit(front, score))
  for clip, there in zip(fitted, score > 0):
    low, high = clip[there].min(0), clip[there].max(0)
    np.testing.assert_allclose((low + high) / 2, [15.5, 11.5], atol=1e-4)
    np.testing.assert_allclose((high - low).max(), 24 / 1.25, rtol=1e-5)
  assert np.isfinite(fit(front, np.zeros_like(score))).all()


@pytest.mark.parametrize("arguments,word", [
    (dict(kind="bone"), "bone"), (dict(merge="mean"), "mean")])
def test_mistakes_are_named(arguments, word):
  with pytest.raises(ValueError, match=word):
    _draw(*_skeletons(1), **arguments)
  with pytest.raises(ValueError, match="25 of kinect"):
    heatmaps.heatmaps(jnp.zeros((1, 1, 1, 17, 2)), jnp.zeros((1, 1, 1, 17)), SIZE,
                      skeletons.layout("kinect_v2_25"))


def test_other_layouts_have_their_own_limbs():
  layout = dataclasses.replace(skeletons.layout("jhmdb_15"))
  maps = jax.eval_shape(lambda: heatmaps.heatmaps(
      jnp.zeros((1, 2, 3, 15, 2)), jnp.zeros((1, 2, 3, 15)), SIZE, layout, kind="both"))
  assert maps.shape == (1, 3, *SIZE, 15 + 14)


def test_benchmark_compares_equal_things(capsys):
  rows = benchmark.run(rounds=1, batch=1, frames=2)
  assert len(rows) == len(benchmark.CASES) and max(row["difference"] for row in rows) < 1e-5
  assert "numpy/ours" in capsys.readouterr().out
