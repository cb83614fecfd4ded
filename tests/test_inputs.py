"""A new input is one file: found, checked, loaded, trained on, stored and found again."""
import cv2
import numpy as np
import pytest

import actionjax
from actionjax import configuration, planning, recipe
from actionjax.data.loading import inputs, pipeline
from actionjax.data.loading.config import batch_spec, parse_data
from actionjax.errors import UserError
from tests import mean_colour

DATA = dict(dataset="synthetic_actions", variant="tiny", protocol="cross_subject", threads=1,
            colour=dict(module="tests.mean_colour", num_frames=3))


def test_a_training_on_a_new_input(tiny_data_dir, tmp_path):
  config = configuration.config(name="own_input", data_dir=tiny_data_dir, data=DATA, steps=(
      dict(kind="train", name="colours", batch_size=4, num_steps=5,
           model=dict(name="tests.mean_colour"), optim=dict(learning_rate=0.1)),
      dict(kind="evaluate", name="test", batch_size=4, views=dict(temporal=2))))
  found = recipe.run(config, tmp_path / "run")
  assert found["test"]["clips"] == 12
  model = actionjax.load(tmp_path / "run")
  assert model.data.inputs == {"colour": mean_colour.Config(3)}
  assert model.variables["params"]["head"]["kernel"].shape == (3, 12)
  clips = pipeline.open_split(model.data, tiny_data_dir, "test")
  scores = np.load(tmp_path / "run" / "01_test" / "scores.npz")
  for row in (0, 5):
    record = clips[row][1]
    # Two views of three frames, looked up and averaged by hand.
    count, weights = len(record["frames"]), model.variables["params"]["head"]
    views = [[int((i + position) * count / 3) for i in range(3)] for position in (0.25, 0.75)]
    means = np.array([np.mean([cv2.imdecode(np.frombuffer(record["frames"][frame], np.uint8), 1)[
        ..., ::-1].mean((0, 1)) for frame in frames], 0) for frames in views]) / 255
    logits = means @ np.asarray(weights["kernel"]) + np.asarray(weights["bias"])
    softmax = np.exp(logits - logits.max(-1, keepdims=True))
    expected = (softmax / softmax.sum(-1, keepdims=True)).mean(0)
    np.testing.assert_allclose(scores["probabilities"][row], expected, atol=1e-4)
  assert planning.plan(config).section()["steps"][0]["data"]["colour"] == dict(
      module="tests.mean_colour", num_frames=3)


def test_beside_the_inputs_of_the_package():
  data = parse_data(DATA | dict(video=dict(num_frames=2, size=(8, 8)), pose=dict(num_poses=4)),
                    "data")
  assert list(data.inputs) == ["colour", "pose", "video"]
  assert set(batch_spec(data, 2)) == {"label", "valid", "mean_colour", "video", "pose3d",
                                      "pose_score"}
  assert data.only(("mean_colour",)).arrays == ("mean_colour",)
  assert parse_data(data.section(), "data") == data
  assert inputs.known() == ("graph", "pose", "pose2d", "video")


@pytest.mark.parametrize("section, message", [
    (dict(colours=dict(num_frames=3)), "data has no key 'colours'; known: about, dataset"),
    (dict(colour=dict(module="tests.nowhere")), "data.colour.module: there is no tests.nowhere"),
    (dict(colour=dict(module="tests.mean_colour", frames=3)), "data.colour has no key 'frames'"),
    (dict(colour=dict(module="tests.mean_colour", num_frames="all")),
     "data.colour.num_frames must be an integer, got 'all'"),
    (dict(again=dict(module="tests.mean_colour")),
     "data: again and colour cannot both be given: a batch has one mean_colour"),
    (dict(colour=dict(module="actionjax.training.optim")), "data.colour.module: there is no")])
def test_mistakes(section, message):
  with pytest.raises(UserError) as error:
    parse_data(DATA | section, "data")
  assert str(error.value).startswith(message)
