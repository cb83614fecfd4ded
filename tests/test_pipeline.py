"""The pipeline: batches are a function of seed and step, and of nothing else."""
import dataclasses
import itertools
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import grain
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.data.builders import synthetic_actions
from actionjax.data.loading import pipeline, pose3d, video
from actionjax.data.loading.clip_transform import ClipTransform
from actionjax.data.loading.config import DataConfig, batch_spec
from actionjax.errors import UserError

CONFIG = DataConfig(
    dataset="synthetic_actions", variant="tiny", protocol="cross_subject", flip=0.5, threads=1,
    inputs=dict(video=video.Config(num_frames=4, size=(24, 20), crop=0.9, scale_jitter=0.1),
                pose=pose3d.Config(num_poses=5, persons=2, rotate=15.0)))


@pytest.fixture(scope="module")
def clips(tiny_data_dir):
  return pipeline.open_split(CONFIG, tiny_data_dir, "train")


def _train(clips, count, config=CONFIG, **kwargs):
  kwargs = dict(batch_size=8, seed=3) | kwargs
  return list(itertools.islice(pipeline.train_batches(clips, config, **kwargs), count))


def _test(clips, config=CONFIG, **kwargs):
  return list(pipeline.test_batches(clips, config, **kwargs))


def assert_equal(batches, others):
  assert len(batches) == len(others)
  for batch, other in zip(batches, others):
    assert set(batch) == set(other)
    for key in batch:
      assert batch[key].dtype == other[key].dtype
      np.testing.assert_array_equal(batch[key], other[key], err_msg=key)


def test_batches_have_the_declared_shapes_and_types(clips):
  spec = batch_spec(CONFIG, 8)
  batch, = _train(clips, 1)
  assert set(batch) == {*spec, "position", "unreadable"}
  for key, value in spec.items():
    assert (batch[key].shape, batch[key].dtype) == (value.shape, value.dtype), key
  assert batch["valid"].all() and not batch["unreadable"].any()
  assert not batch["pose_score"][:, 1].any() and not batch["pose3d"][:, 1].any()
  assert 0 < batch["video"].mean() < 255


def test_batches_depend_on_seed_and_step_alone(clips):
  batches = _train(clips, 12)  # 36 clips, batches of 8: more than two passes
  assert_equal(batches, _train(clips, 12))
  for step in (1, 4, 7):  # 36 / 8 = 4.5: step 4 crosses into the second pass
    assert_equal(batches[step:], _train(clips, 12 - step, step=step))
  other = _train(clips, 1, seed=4)
  assert not np.array_equal(other[0]["position"], batches[0]["position"])


@pytest.mark.parametrize("seed", [144932607, 984611932, 7])
def test_no_epoch_keeps_the_order_of_the_records(seed):
  # With Grain's shuffle, epoch 30 of the first two seeds has correlations of 0.6 and 0.5.
  length = 388
  shuffled = pipeline._Shuffled(grain.MapDataset.range(length), seed).repeat()
  orders = np.array([shuffled[i] for i in range(40 * length)]).reshape(40, length)
  np.testing.assert_array_equal(np.sort(orders, 1), np.tile(np.arange(length), (40, 1)))
  correlations = [np.corrcoef(order, np.arange(length))[0, 1] for order in orders]
  # The standard deviation of chance is 1 / sqrt(387) = 0.05.
  assert np.abs(correlations).max() < 0.25
  assert len({order.tobytes() for order in orders}) == 40


def test_every_pass_shows_every_clip_once_in_another_order_with_other_draws(clips):
  batches = _train(clips, 18, batch_size=4)
  passes = np.concatenate([b["position"] for b in batches]).reshape(2, 36)
  for order in passes:
    np.testing.assert_array_equal(np.sort(order), np.arange(36))
  assert (passes[0] != passes[1]).any()
  video = np.concatenate([b["video"] for b in batches])
  first, second = (int(np.flatnonzero(order == 5)[0]) for order in passes)
  assert not np.array_equal(video[first], video[36 + second])


@pytest.mark.parametrize("threads", [2, 4])
def test_threads_change_nothing(clips, threads):
  config = dataclasses.replace(CONFIG, threads=threads)
  assert_equal(_train(clips, 6), _train(clips, 6, config))
  assert_equal(_test(clips, batch_size=5), _test(clips, config, batch_size=5))


@pytest.mark.slow
def test_worker_processes_change_nothing(clips):
  config = dataclasses.replace(CONFIG, workers=2)
  assert_equal(_train(clips, 6)[2:], _train(clips, 4, config, step=2))
  assert_equal(_test(clips, batch_size=5), _test(clips, config, batch_size=5))


def _joined(parts):
  """The rows of several processes' batches, one below the other."""
  return [{key: np.concatenate([row[key] for row in rows]) for key in rows[0]}
          for rows in zip(*parts)]


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_hold_contiguous_rows_of_the_same_batches(clips, processes):
  share = lambda p: dict(process=p, processes=processes)
  for step in (0, 3):
    whole = _train(clips, 6, step=step)
    assert_equal(whole, _joined([_train(clips, 6, step=step, **share(p))
                                 for p in range(processes)]))
  whole = _test(clips, batch_size=8, views=2)
  assert_equal(whole, _joined([_test(clips, batch_size=8, views=2, **share(p))
                               for p in range(processes)]))


@pytest.mark.parametrize("batch_size", [1, 5, 8, 36, 50])
def test_testing_visits_every_clip_once(clips, batch_size):
  config = CONFIG.only(("pose3d",))
  batches = _test(clips, config, batch_size=batch_size)
  assert all(len(batch["label"]) == batch_size for batch in batches)
  rows = {key: np.concatenate([batch[key] for batch in batches])
          for key in ("position", "valid", "label", "unreadable", "pose3d")}
  assert len(rows["label"]) == -(-36 // batch_size) * batch_size
  np.testing.assert_array_equal(rows["position"], np.arange(len(rows["position"])))
  np.testing.assert_array_equal(rows["valid"], rows["position"] < 36)
  np.testing.assert_array_equal(rows["label"][:36], clips.dataset.index.label[clips.rows])
  assert not rows["unreadable"].any() and not rows["pose3d"][36:].any()


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_rows_loaded_one_by_one_make_the_same_batches(clips, monkeypatch, workers):
  config = dataclasses.replace(CONFIG, workers=workers)
  train, test = _train(clips, 6), _test(clips, batch_size=5, views=2)
  monkeypatch.setattr(pipeline, "AHEAD", 20_000)  # three rows of 5.8 kB
  assert_equal(train[2:], _train(clips, 4, config, step=2))
  assert_equal(test, _test(clips, config, batch_size=5, views=2))


def test_what_is_loaded_ahead_is_bound_by_bytes(clips, monkeypatch):
  """Sixteen threads, batches of a megabyte and a half, room for two and a half rows."""
  row = 4 * 24 * 20 * 3 * 8
  config = dataclasses.replace(CONFIG, threads=16).only(("video",))
  read, original = [], pipeline.Clips.__getitem__

  def count(self, position):
    read.append(position)
    return original(self, position)

  monkeypatch.setattr(pipeline.Clips, "__getitem__", count)
  monkeypatch.setattr(pipeline, "AHEAD", int(2.5 * row))
  batches = pipeline.test_batches(clips, config, batch_size=4, views=8)
  next(batches)
  time.sleep(0.5)  # the threads go on as far as they may
  assert 4 <= len(read) <= 4 + 2 + 2  # two wait, two are being loaded
  monkeypatch.undo()


class _Shortened(pipeline.Clips):
  """Clips of which every second one ends in the middle."""

  def __getitem__(self, position):
    position, record = super().__getitem__(position)
    if record is not None and position % 2:
      half = len(record["frames"]) // 2
      record = record | {"frames": record["frames"][:half], "boxes": record["boxes"][:half],
                         "pose3d": record["pose3d"][:, :half],
                         "pose_score": record["pose_score"][:, :half]}
    return position, record


def test_all_views_show_every_frame_and_are_filled_up(clips):
  clips = _Shortened(clips.dataset, clips.rows)
  every = dataclasses.replace(CONFIG, inputs=CONFIG.inputs | {"video": dataclasses.replace(
      CONFIG.inputs["video"], sampling="strided", stride=2)})
  frames = [len(clips[i][1]["frames"]) for i in range(len(clips))]
  stacks = [sum(-(-len(range(phase, n, 2)) // 4) for phase in (0, 1)) for n in frames]
  assert min(stacks) < max(stacks) and pipeline.longest(clips) == max(frames)
  batch, = _test(clips, every, batch_size=36, views="all", flips=True)
  assert batch["video"].shape == (36, 2 * max(stacks), 4, 24, 20, 3)
  np.testing.assert_array_equal(batch["view_valid"].sum(1), 2 * np.array(stacks))
  shortest = int(np.argmin(stacks))
  for name in ("video", "pose3d"):
    assert batch[name][shortest, 2 * min(stacks) - 1].any()
    assert not batch[name][shortest, 2 * min(stacks):].any()
  # Without a batch to be filled up to, a clip has as many views as it needs.
  _, record = clips[shortest]
  row = ClipTransform(every, views="all", flips=True).test(record)
  np.testing.assert_array_equal(row["video"], batch["video"][shortest, :2 * min(stacks)])
  padded = _test(clips, every, batch_size=25, views="all")[-1]
  assert not padded["view_valid"][11:].any() and padded["view_valid"][10].any()
  with pytest.raises(UserError, match="temporal=all needs data.video with sampling=strided"):
    ClipTransform(CONFIG, views="all")


def test_testing_shows_all_views(clips):
  batch, = _test(clips, batch_size=36, views=2, crops="three")
  assert batch["video"].shape == (36, 6, 4, 24, 20, 3)
  assert batch["pose3d"].shape == (36, 6, 2, 5, 20, 3)
  assert batch["label"].shape == (36,)
  single, = _test(clips, batch_size=36)
  assert single["video"].shape == (36, 1, 4, 24, 20, 3)
  assert not np.array_equal(batch["video"][:, 0], batch["video"][:, 1])  # crops
  assert not np.array_equal(batch["video"][:, 0], batch["video"][:, 3])  # times


class _Draws:
  """A generator whose `random` always answers the same; `uniform` gives the middle."""

  def __init__(self, value):
    self._value = value

  def random(self, size=None):
    return self._value if size is None else np.full(size, self._value)

  def uniform(self, low, high, size=None):
    middle = (low + high) / 2
    return middle if size is None else np.full(size, middle)


def test_mirroring_swaps_sides_and_labels(clips):
  config = dataclasses.replace(CONFIG, inputs=CONFIG.inputs | {
      "video": dataclasses.replace(CONFIG.inputs["video"], box="frame", crop=1.0)})
  layout = skeletons.layout(synthetic_actions.DATASET.layout)
  draws = _Draws(0.3)
  plain = ClipTransform(dataclasses.replace(config, flip=0.0))
  mirrored = ClipTransform(dataclasses.replace(config, flip=1.0))
  left, right = layout.index("left_hand"), layout.index("right_hand")
  swapped = set()
  for position in range(len(clips)):
    _, record = clips[position]
    a, b = plain.train(record, draws), mirrored.train(record, draws)
    np.testing.assert_array_equal(b["video"], a["video"][:, :, ::-1])
    np.testing.assert_array_equal(b["pose3d"][..., left, :],
                                  a["pose3d"][..., right, :] * [-1, 1, 1])
    np.testing.assert_array_equal(b["pose3d"], (a["pose3d"] * np.float32([-1, 1, 1]))[
        ..., layout.mirror, :])
    np.testing.assert_array_equal(b["pose_score"], a["pose_score"][..., layout.mirror])
    assert int(b["label"]) == synthetic_actions.MIRROR_CLASSES[int(a["label"])]
    if a["label"] != b["label"]:
      swapped.add(synthetic_actions.CLASS_NAMES[int(a["label"])])
  assert swapped == {"wave_left_hand", "wave_right_hand", "kick_left", "kick_right"}


def test_half_of_the_clips_are_mirrored(clips):
  config = CONFIG.only(("pose3d",))
  labels = clips.dataset.index.label[clips.rows]
  rows = _train(clips, 90, config)
  seen = np.concatenate([row["label"] for row in rows])
  truth = labels[np.concatenate([row["position"] for row in rows])]
  one_sided = np.isin(truth, [c for c, m in enumerate(synthetic_actions.MIRROR_CLASSES) if c != m])
  assert 0.3 < (seen != truth)[one_sided].mean() < 0.7
  np.testing.assert_array_equal(seen[~one_sided], truth[~one_sided])


class _Damaged:
  """A dataset in which some records' frames are no images."""

  def __init__(self, dataset, clips, frames=None):
    self._dataset, self._clips, self._frames = dataset, clips, frames
    self.index = dataset.index

  def __getitem__(self, i):
    record = self._dataset[i]
    if i in self._clips:
      record["frames"] = [frame[:100] for frame in record["frames"]] if (
          self._frames is None) else self._frames
    return record


@pytest.mark.parametrize("frames", [None, []], ids=["truncated", "empty"])
def test_unreadable_clips_count_for_nothing_and_harm_no_other(clips, frames):
  bad = {7, 20}
  damaged = pipeline.Clips(
      _Damaged(clips.dataset, {int(clips.rows[i]) for i in bad}, frames), clips.rows)
  kinds = ((_train(clips, 5), _train(damaged, 5)),
           (_test(clips, batch_size=8, views=2), _test(damaged, batch_size=8, views=2)))
  for whole, found in kinds:
    hit = 0
    for batch, other in zip(whole, found):
      lost = np.isin(batch["position"], list(bad))
      hit += lost.sum()
      np.testing.assert_array_equal(batch["position"], other["position"])
      np.testing.assert_array_equal(other["unreadable"], lost)
      for key in batch:
        np.testing.assert_array_equal(batch[key][~lost], other[key][~lost])
      for key in ("valid", "video", "pose3d", "pose_score"):
        assert not other[key][lost].any()
    assert hit >= 2


def test_parts(tiny_data_dir, clips):
  parts = {part: set(pipeline.open_split(CONFIG, tiny_data_dir, part).rows)
           for part in ("train", "fit", "validation", "test")}
  assert parts["fit"] | parts["validation"] == parts["train"]
  assert not parts["fit"] & parts["validation"] and not parts["train"] & parts["test"]
  assert parts["train"] | parts["test"] == set(range(48))
  with pytest.raises(UserError, match="protocol .cross_planet.*known: cross_sub"):
    pipeline.open_split(dataclasses.replace(CONFIG, protocol="cross_planet"), tiny_data_dir,
                       "train")
  with pytest.raises(UserError, match="not prepared in .*run: python -m actionjax.prepare"):
    pipeline.open_split(CONFIG, "/nowhere", "train")


def _alive(pid):
  try:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
  except OSError:
    return False


def _children(pid):
  found = []
  for entry in pathlib.Path("/proc").glob("[0-9]*"):
    try:
      fields = (entry / "stat").read_text().rpartition(")")[2].split()
    except OSError:
      continue
    if int(fields[1]) == pid:
      found.append(int(entry.name))
  return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_worker_processes_die_with_a_killed_parent(tmp_path, tiny_data_dir):
  script = tmp_path / "load.py"
  script.write_text(textwrap.dedent(f"""
      import time
      from actionjax.data.loading import pipeline, pose3d
      from actionjax.data.loading.config import DataConfig
      if __name__ == "__main__":
        config = DataConfig(
            dataset="synthetic_actions", variant="tiny", protocol="cross_subject", workers=2,
            inputs=dict(pose=pose3d.Config(num_poses=5)))
        clips = pipeline.open_split(config, {tiny_data_dir!r}, "train")
        batches = pipeline.train_batches(clips, config, batch_size=4, seed=0)
        for _ in range(4):
          next(batches)
        print("loaded", flush=True)
        time.sleep(600)
      """))
  process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
  try:
    assert process.stdout.readline() == "loaded\n"
    below = _children(process.pid)
    below += [grandchild for child in below for grandchild in _children(child)]
    assert len(below) >= 2
  finally:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
  deadline = time.monotonic() + 30
  while any(_alive(pid) for pid in below):
    assert time.monotonic() < deadline, "a loader process outlived its parent"
    time.sleep(0.05)
