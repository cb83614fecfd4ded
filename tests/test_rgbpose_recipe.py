"""RGBPose-SlowFast as a recipe: two networks alone, their merger, and its three accuracies."""
import json

import numpy as np
import pytest

from actionjax import recipe
from actionjax.evaluators import metrics, scores
from actionjax.models import posec3d, rgbpose

pytestmark = pytest.mark.slow

RGB = {**rgbpose.RGB, "depth": None, "block": "bottleneck", "stage_sizes": (1, 1, 1, 1),
       "width": 4}
POSE = {**posec3d.SLOWONLY_FUSED, "stage_sizes": (1, 1, 1), "width": 4}
# The generated skeletons in three views, each scaled to fill its map.
MAPS = dict(size=(8, 8), source="pose3d", fill=True)


def _config(data_dir):
  """Both streams train for a step. The joint training leaves the start as it is: only laterals
  are trained, and what reads them is zero."""
  one_step = dict(kind="train", num_steps=1, optim=dict(name="sgd", learning_rate=0.05))
  frozen = ("backbone/rgb/.*", "backbone/pose/.*", "head_rgb/.*", "head_pose/.*")
  fuse = lambda name, a, b, **fields: dict(
      kind="fuse", name=name, sources=(dict(scores=a), dict(scores=b)), **fields)
  return dict(
      name="small_rgbpose", data_dir=data_dir, batch_size=4,
      data=dict(dataset="synthetic_actions", variant="tiny", protocol="cross_subject",
                video=dict(num_frames=2, size=(32, 32)), pose=dict(num_poses=8)),
      steps=(
          dict(one_step, name="rgb", model=dict(name="video_network", backbone=RGB)),
          dict(kind="evaluate", name="rgb_test"),
          dict(one_step, name="pose", model=dict(name="posec3d", backbone=POSE, maps=MAPS)),
          dict(kind="evaluate", name="pose_test"),
          fuse("late_fusion", "rgb_test", "pose_test"),
          dict(one_step, name="joint", freeze=frozen, loss=dict(name="two_stream"),
               model=dict(name="rgbpose", rgb=RGB, pose=POSE, maps=MAPS),
               init_from=rgbpose.start_from("rgb", "pose")),
          dict(kind="evaluate", name="joint_test"),
          dict(kind="fuse", name="two_to_one", sources=(
              dict(scores="joint_test", stream="rgb", weight=2.0),
              dict(scores="joint_test", stream="pose")))))


@pytest.fixture(scope="module")
def finished(tiny_data_dir, tmp_path_factory):
  """(config, workdir, metrics) of the whole recipe."""
  workdir = tmp_path_factory.mktemp("runs") / "run"
  config = _config(tiny_data_dir)
  return config, workdir, recipe.run(config, workdir)


def _scores(finished, step):
  found, = finished[1].glob(f"*_{step}/scores.npz")
  return scores.load(found)[0]


def test_the_joint_network_starts_as_late_fusion(finished):
  _, workdir, found = finished
  joint, late = _scores(finished, "joint_test"), _scores(finished, "late_fusion")
  np.testing.assert_allclose(joint.probabilities, late.probabilities, atol=1e-4)
  for stream in ("rgb", "pose"):
    alone = _scores(finished, f"{stream}_test")
    np.testing.assert_allclose(joint.streams[stream], alone.probabilities, atol=1e-4)
    assert np.ptp(alone.probabilities, 0).max() > 1e-4, "the clips differ"
  assert found["joint_test"]["top1"] == found["late_fusion"]["top1"]
  loaded = next(workdir.glob("*_joint/loaded.txt")).read_text().splitlines()
  padded = [line for line in loaded if line.startswith("padded: params/backbone/pose/")]
  assert len(padded) == 4 and not any(line.startswith("mismatched") for line in loaded)


def test_every_stream_and_their_sum_are_reported(finished):
  _, workdir, found = finished
  joint = _scores(finished, "joint_test")
  assert set(joint.streams) == {"rgb", "pose"}
  np.testing.assert_allclose(
      joint.probabilities, (joint.streams["rgb"] + joint.streams["pose"]) / 2, atol=1e-5)
  for stream, probabilities in joint.streams.items():
    assert found["joint_test"]["streams"][stream] == metrics.summarise(probabilities, joint.labels)
  assert "streams" not in found["rgb_test"]
  weighted = _scores(finished, "two_to_one").probabilities
  np.testing.assert_allclose(
      weighted, (2 * joint.streams["rgb"] + joint.streams["pose"]) / 3, atol=1e-6)
  rows = [json.loads(line) for line in
          next(workdir.glob("*_joint/metrics.jsonl")).read_text().splitlines()]
  assert rows[0]["loss"] == pytest.approx(
      rows[0]["cross_entropy_rgb"] + rows[0]["cross_entropy_pose"], rel=1e-5)


def test_a_fusion_killed_before_its_marker_is_done_again(finished):
  config, workdir, found = finished
  folder, = workdir.glob("*_late_fusion")
  for file in folder.iterdir():
    file.unlink()
  assert recipe.run(config, workdir) == found
