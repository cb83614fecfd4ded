"""Protocols: who trains, who tests, and what is held out for validation."""
import collections
import dataclasses

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from actionjax.data import catalogue
from actionjax.data.clips import protocols
from actionjax.data.clips.dataset import Index
from actionjax.errors import UserError


def make_index(classes=5, subjects=6, cameras=3, repetitions=2):
  rows = [(a, s, c, r) for a in range(classes) for s in range(1, subjects + 1)
          for c in range(1, cameras + 1) for r in range(repetitions)]
  return Index.of([{"clip_id": f"a{a}_s{s}_c{c}_r{r}", "label": a, "subject": s, "camera": c,
                    "setup": r, "num_frames": 10} for a, s, c, r in rows])


def shuffled(index, seed):
  order = np.random.default_rng(seed).permutation(len(index))
  return Index(**{f.name: getattr(index, f.name)[order] for f in dataclasses.fields(index)})


def ids(index, *args, **kwargs):
  return set(index.clip_id[protocols.split(index, *args, **kwargs)].tolist())


@pytest.mark.parametrize("protocol, field, train, test", [
    (protocols.cross_subject((1, 3, 5)), "subject", {1, 3, 5}, {2, 4, 6}),
    (protocols.leave_one_subject_out(4), "subject", {1, 2, 3, 5, 6}, {4}),
    (protocols.cross_view(test_cameras=(3,)), "camera", {1, 2}, {3}),
    (protocols.cross_view(train_cameras=(2,)), "camera", {2}, {1, 3}),
    (protocols.cross_view((1,), (2,)), "camera", {1}, {2}),  # camera 3 is on neither side
    (protocols.cross_setup((0,)), "setup", {0}, {1}),
])
def test_sides(protocol, field, train, test):
  index = make_index()
  for part, expected in (("train", train), ("test", test)):
    rows = protocols.split(index, protocol, part)
    assert set(getattr(index, field)[rows].tolist()) == expected
    assert len(rows) == sum(value in expected for value in getattr(index, field))
    assert (np.diff(rows) > 0).all()


def test_validation_from_the_test_side_leaks_and_holds_nothing_out():
  index, protocol = make_index(), protocols.cross_subject((1, 3, 5))
  leaking = dict(validation=0.1, validation_from="test")
  test = ids(index, protocol, "test")
  held = ids(index, protocol, "validation", **leaking)
  assert held < test and len(held) == round(0.1 * len(test))
  labels = index.label[protocols.split(index, protocol, "validation", **leaking)]
  assert np.ptp(np.bincount(labels)) <= 1  # as many of every class
  assert ids(index, protocol, "fit", **leaking) == ids(index, protocol, "train")
  assert ids(index, protocol, "test", **leaking) == test
  assert ids(index, protocol, "validation", validation=(4,), validation_from="test") == {
      clip for clip in test if "_s4_" in clip}
  with pytest.raises(UserError, match="the test side has no subject 3"):
    protocols.split(index, protocol, "validation", validation=(3,), validation_from="test")


def test_contradictory_protocols_are_defects():
  with pytest.raises(ValueError, match=r"both train and test: \[2\]"):
    protocols.cross_view((1, 2), (2, 3))
  with pytest.raises(ValueError, match="needs"):
    protocols.cross_view()


@hypothesis.given(fraction=st.floats(0.03, 0.9), seed=st.integers(0, 99),
                  classes=st.integers(1, 7), subjects=st.integers(2, 6))
@hypothesis.settings(max_examples=40, deadline=None)
def test_fraction_partitions_the_training_side(fraction, seed, classes, subjects):
  index = make_index(classes, subjects)
  protocol = protocols.leave_one_subject_out(1)
  train = ids(index, protocol, "train")
  options = dict(validation=fraction, seed=seed)
  hypothesis.assume(round(fraction * len(train)) >= 1)
  fit, held = ids(index, protocol, "fit", **options), ids(index, protocol, "validation", **options)
  assert fit | held == train and not fit & held
  assert not held & ids(index, protocol, "test")
  per_class = (subjects - 1) * 6
  counts = collections.Counter(clip.split("_")[0] for clip in held)
  assert len(held) == min(round(fraction * len(train)), classes * (per_class - 1))
  for label in range(classes):  # within one clip of its exact share
    assert abs(counts[f"a{label}"] - fraction * per_class) < 1


@hypothesis.given(seed=st.integers(0, 2**31))
@hypothesis.settings(max_examples=20, deadline=None)
def test_order_of_the_records_does_not_matter(seed):
  index = make_index()
  protocol = protocols.cross_subject((1, 3, 5))
  for part in protocols.SPLITS:
    assert ids(index, protocol, part) == ids(shuffled(index, seed), protocol, part)


def test_seeds_draw_different_clips_and_one_seed_the_same():
  index, protocol = make_index(), protocols.cross_subject((1, 3, 5))
  a, b = (ids(index, protocol, "validation", seed=seed) for seed in (0, 1))
  assert a != b and len(a) == len(b) == 9  # of 90
  # A frozen draw: a run that is continued must hold out what it held out before.
  assert sorted(a) == sorted(ids(index, protocol, "validation"))


def test_held_out_subjects():
  index, protocol = make_index(), protocols.cross_subject((1, 3, 5))
  rows = protocols.split(index, protocol, "validation", validation=(3,))
  assert set(index.subject[rows].tolist()) == {3} and len(rows) == 30
  rows = protocols.split(index, protocol, "fit", validation=(3,))
  assert set(index.subject[rows].tolist()) == {1, 5}
  with pytest.raises(UserError, match="the training side has no subject 2"):
    protocols.split(index, protocol, "fit", validation=(2, 3))
  with pytest.raises(UserError, match="'fit' has no clips"):
    protocols.split(index, protocol, "fit", validation=(1, 3, 5))


def test_mistakes():
  index, protocol = make_index(), protocols.cross_subject((1, 3, 5))
  with pytest.raises(UserError, match="unknown split 'val'; known: train, fit, validation, test"):
    protocols.split(index, protocol, "val")
  with pytest.raises(UserError, match="'test' has no clips"):
    protocols.split(index, protocols.cross_view(test_cameras=(9,)), "test")
  with pytest.raises(UserError, match="'validation' has no clips"):
    protocols.split(index, protocol, "validation", validation=0.0)
  assert len(protocols.split(index, protocol, "fit", validation=0)) == 90
  for wrong in (1.0, -0.1, 3):
    with pytest.raises(UserError, match="not a fraction"):
      protocols.split(index, protocol, "fit", validation=wrong)


def test_protocols_by_name():
  dataset = catalogue.load("utd_mhad")
  assert dataset.protocol("cross_subject") is dataset.protocols["cross_subject"]
  with pytest.raises(UserError, match="unknown protocol 'cv' of utd_mhad; known: cross_subject"):
    dataset.protocol("cv")
