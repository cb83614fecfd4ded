"""Dropping limb joints: what, how often, and that chance is a function of seed and clip."""
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.ops import corruption


@functools.partial(jax.jit, static_argnames=("layout", "dimensions"))
def _run(clips, seed, probability, layout, dimensions=2):
  keys = jax.vmap(lambda clip: jax.random.fold_in(jax.random.key(seed), clip))(clips)
  shape = (len(clips), 2, 250, skeletons.layout(layout).num_joints)
  return corruption.drop_limb_joints(jnp.ones((*shape, dimensions)), jnp.ones(shape),
                                     skeletons.layout(layout), probability, keys)


def _drop(probability, clips=range(8), layout="coco_17", dimensions=2, seed=0):
  """Which joints are gone, bool[B,2,250,V], of skeletons of ones."""
  pose, score = map(np.asarray, _run(np.array(clips), seed, probability, layout, dimensions))
  gone = score == 0
  np.testing.assert_array_equal(score, np.where(gone, 0, 1))
  np.testing.assert_array_equal(pose, np.repeat(~gone[..., None], dimensions, -1))
  return gone


@pytest.mark.parametrize("name, expected", [
    ("coco_17", {"elbow", "wrist", "knee", "ankle"}),
    ("kinect_v1_20", {"elbow", "wrist", "hand", "knee", "ankle", "foot"}),
    ("kinect_v2_25", {"elbow", "wrist", "hand", "knee", "ankle", "foot"}),
    ("cad_15", {"elbow", "hand", "knee", "foot"})])
def test_joints_on_limbs(name, expected):
  layout = skeletons.layout(name)
  names = [layout.joints[i] for i in layout.limb_joints]
  assert sorted(names) == sorted(f"{side}_{end}" for side in ("left", "right") for end in expected)


@pytest.mark.parametrize("name, dimensions", [("coco_17", 2), ("kinect_v1_20", 3)])
def test_one_joint_a_frame_and_only_of_limbs(name, dimensions):
  layout = skeletons.layout(name)
  gone = _drop(1.0, layout=name, dimensions=dimensions)
  np.testing.assert_array_equal(gone.sum(-1), 1)
  shares = gone.mean((0, 1, 2))
  on_limbs = np.isin(np.arange(layout.num_joints), layout.limb_joints)
  assert not shares[~on_limbs].any()
  # 4000 draws of n joints: four standard deviations.
  n = on_limbs.sum()
  np.testing.assert_allclose(shares[on_limbs], 1 / n, atol=4 * np.sqrt(1 / n / 4000))


@pytest.mark.parametrize("probability", [0.0, 1 / 8, 1 / 2])
def test_as_often_as_asked_for_and_nested(probability):
  gone, more = _drop(probability), _drop(1.0)
  deviation = np.sqrt(probability * (1 - probability) / 4000)
  assert abs(gone.any(-1).mean() - probability) <= 4 * deviation
  assert not (gone & ~more).any()


def test_a_clip_loses_the_same_in_any_company():
  together, alone = _drop(0.5), _drop(0.5, [4])
  np.testing.assert_array_equal(together[4], alone[0])
  assert (together[4] != together[3]).any()
  assert (_drop(0.5, [4], seed=1) != alone).any()


def test_a_batch_keeps_all_else():
  rng = np.random.default_rng(0)
  batch = {"video": rng.random((3, 2)), "pose3d": rng.random((3, 4, 1, 5, 20, 3)),
           "pose_score": np.ones((3, 4, 1, 5, 20), np.float32)}
  layout = skeletons.layout("kinect_v1_20")
  keys = jax.random.split(jax.random.key(0), 3)
  found = jax.jit(lambda b: corruption.drop_from_batch(b, layout, 1.0, keys))(batch)
  assert set(found) == set(batch)
  np.testing.assert_allclose(found["video"], batch["video"], rtol=1e-6)
  assert ((np.asarray(found["pose_score"]) == 0).sum(-1) == 1).all()
  kept = np.asarray(found["pose_score"]) > 0
  np.testing.assert_allclose(np.asarray(found["pose3d"])[kept], batch["pose3d"][kept], rtol=1e-6)
  assert not np.asarray(found["pose3d"])[~kept].any()


def test_mistakes_are_named():
  with pytest.raises(UserError, match=r"x.drop_joints must lie in \[0, 1\], got 1.5"):
    corruption.check(1.5, "x.drop_joints")
  with pytest.raises(UserError, match="x.drop_joints: the model reads no skeletons"):
    corruption.check(0.5, "x.drop_joints", ("video",))
  corruption.check(0.0, "x.drop_joints", ("video",))
