"""A converted PoseC3D checkpoint is evaluated at once, on an annotation file of the user's."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import actionjax
from actionjax import configuration, planning, recipe, skeletons
from actionjax.data import catalogue
from actionjax.data.loading import pose2d
from actionjax.errors import UserError
from actionjax.importers import conversion, torch_layout, torch_posec3d
from actionjax.models import posec3d, resnet3d
from actionjax.ops import heatmaps
from tests import raw_own, references
from tests.views import shared

BACKBONE = {**posec3d.SLOWONLY, "stage_sizes": (1, 1, 1), "width": 4}
POSE2D = dict(num_frames=4, size=(16, 16), test_size=(20, 20))
MAPS = dict(size=(16, 16), test_size=(20, 20))
CLASSES = 3


def _state(layout="coco_17", classes=CLASSES):
  """Numbers under PyTorch's names for a small Pose-SlowOnly."""
  fields = {key: value for key, value in BACKBONE.items() if key != "name"}
  maps = skeletons.layout(layout).num_joints
  template = jax.eval_shape(lambda: resnet3d.Backbone(**fields).init(
      jax.random.key(0), jnp.zeros((1, 2, 32, 32, maps)), train=False))
  features = 16 * BACKBONE["width"]
  state = {"cls_head.fc_cls.weight": references.generated("fc.weight", (classes, features)),
           "cls_head.fc_cls.bias": np.zeros(classes, np.float32)}
  for keys, leaf in jax.tree_util.tree_flatten_with_path(template)[0]:
    path, shape = tuple(key.key for key in keys)[1:], leaf.shape
    name = "backbone." + torch_posec3d._resnet_name(path)
    if path[-1] == "kernel":
      shape = (shape[-1], shape[-2], *shape[:-2])
    state[name] = references.generated(name, shape)
  return state


@pytest.fixture(scope="module")
def place(tmp_path_factory):
  """A folder with a prepared annotation file, `data`, and a converted checkpoint, `converted`."""
  root = tmp_path_factory.mktemp("adopt")
  content = raw_own.annotations(8)
  for number, one in enumerate(content["annotations"]):
    one["label"] = number % CLASSES
  raw_own.prepare("annotations:mine", raw_own.dump(root / "a.pkl", content), root / "data")
  _convert(root, "converted", _state())
  return root


def _convert(root, name, state, **options):
  (root / "file.pth").touch()
  # Nothing but 17 maps says what these are of.
  options = dict(kind="joint") | options
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(torch_layout, "read_torch", lambda path: state)
    return conversion.convert("torch_posec3d", str(root / "file.pth"), str(root / name), **options)


def _config(root, source="converted", **model):
  return configuration.config(
      name="adopted", data_dir=str(root / "data"),
      data=dict(dataset="annotations:mine", protocol="xsub", pose2d=POSE2D),
      steps=(dict(kind="adopt", source=str(root / source), model=dict(
                 name="posec3d", backbone=BACKBONE, maps=MAPS) | model),
             dict(kind="evaluate", name="test", batch_size=2,
                  views=dict(temporal=3, flips=True))))


@pytest.mark.slow
def test_the_scores_are_those_of_the_released_test_pipeline(place, tmp_path):
  config = _config(place)
  metrics = recipe.run(config, tmp_path / "run")["test"]
  assert metrics["clips"] == 2 and metrics["views"]["flips"]
  scores = np.load(tmp_path / "run" / "01_test" / "scores.npz")
  # The released way: heat maps of every clip, and the same arrays reversed.
  dataset = catalogue.open_dataset(config.data_dir, "annotations:mine")
  section, layout = pose2d.Config(**POSE2D), skeletons.layout("coco_17")
  model = actionjax.load(tmp_path / "run" / "00_network")
  fields = {key: value for key, value in BACKBONE.items() if key != "name"}
  network = resnet3d.Backbone(**fields)
  dense = model.variables["params"]["head"]["dense"]
  inner = {name: tree["backbone"] for name, tree in model.variables.items()}

  @jax.jit
  def probabilities(maps):
    features = network.apply(inner, maps, train=False)[0].mean((1, 2, 3))
    return jax.nn.softmax(features @ dense["kernel"] + dense["bias"])

  for clip, found in zip(scores["clip_ids"], scores["probabilities"]):
    record = dataset[dataset.index.clip_id.tolist().index(clip)]
    agreed = shared(layout, 3)
    views = [pose2d.apply(section, record, agreed[0], framing)
             for framing in pose2d.views(section, record, agreed)]
    maps = heatmaps.heatmaps(*(jnp.stack([view[array] for view in views])
                               for array in ("pose2d", "pose_score")), (20, 20), layout)
    views = jnp.concatenate([maps, heatmaps.mirror(maps, layout)])
    expected = probabilities(views).mean(0)
    # Mirrored maps differ in the outermost pixels of windows.
    np.testing.assert_allclose(found, expected, atol=5e-3)
    assert np.ptp(expected) > 0.02
  assert model.layout.name == "coco_17" and model.class_names == ("0", "1", "2")
  assert recipe.run(config, tmp_path / "run")["test"] == metrics  # done already


@pytest.mark.slow
def test_a_clip_as_arrays_gets_the_same_answer(place, tmp_path):
  recipe.run(_config(place), tmp_path / "run")
  model = actionjax.load(tmp_path / "run")
  record = catalogue.open_dataset(place / "data", "annotations:mine")[0]
  expected = model(record)
  arrays = {key: record[key] for key in ("pose2d", "pose_score", "image_size")}
  np.testing.assert_allclose(model(arrays), expected, atol=1e-6)
  lost = {**arrays, "pose2d": np.where(arrays["pose_score"][..., None] > 0.5, arrays["pose2d"],
                                       np.nan)}
  zero = {**arrays, "pose2d": np.nan_to_num(lost["pose2d"])}
  np.testing.assert_allclose(model(lost), model(zero), atol=1e-6)
  assert np.abs(model(lost) - expected).max() > 1e-4
  assert np.isfinite(model({**arrays, "pose2d": np.zeros_like(arrays["pose2d"])})).all()
  tall = dict(arrays, pose2d=np.full((1, 3, 17, 2), (10, 90)), pose_score=np.ones((1, 3, 17)))
  for change, message in (
      (dict(pose2d=np.ones((1, 4, 20, 2))), r"pose2d has shape .* reads \[M, T, 17, 2\]"),
      (dict(pose2d=np.ones((1, 0, 17, 2))), "pose2d has shape"),
      (dict(pose_score=np.ones((1, 4))), "pose_score has shape"),
      (dict(image_size=(1, 2, 3)), "must be .height, width"),
      (dict(tall, image_size=(60, 100)), r"image_size \(60, 100\) must be \(height, width\)")):
    with pytest.raises(UserError, match=message):
      model({**arrays, **change})
  del arrays["pose2d"]
  with pytest.raises(UserError, match="the clip has no pose2d"):
    model(arrays)


@pytest.mark.slow
def test_networks_that_do_not_fit_are_named(place, tmp_path):
  other = {**BACKBONE, "temporal_strides": (1, 1, 1)}
  for name, model, message in (
      ("a", dict(backbone=other), r"converted holds a network with backbone .*\[0\].model has"),
      ("b", dict(maps=dict(MAPS, kind="both")),
       "reads heat maps of kind joint, but .*kind is both; give kind=joint"),
      ("c", dict(layout="openpose_18"), "layout is 'openpose_18', but the dataset's skeletons")):
    with pytest.raises(UserError, match=message):
      recipe.run(_config(place, **model), tmp_path / name)
  _convert(tmp_path, "many", _state(classes=7))
  config = _config(place)
  config.steps[0].source = str(tmp_path / "many")
  with pytest.raises(UserError, match="many tells 7 classes apart, but annotations:mine has 3"):
    recipe.run(config, tmp_path / "d")
  assert _convert(tmp_path, "pose", _state("openpose_18"), layout="openpose_18")["layout"] == (
      "openpose_18")
  config.steps[0].source = str(tmp_path / "pose")
  with pytest.raises(UserError, match="pose reads skeletons of the layout openpose_18, but anno"):
    recipe.run(config, tmp_path / "e")
  with pytest.raises(UserError, match="unknown joint layout 'ape_3'; known: .*coco_17"):
    _convert(tmp_path, "ape", _state(), layout="ape_3")
  config.steps[0].source = str(tmp_path / "nowhere")
  with pytest.raises(UserError, match="nowhere"):
    recipe.run(config, tmp_path / "f")


def test_maps_and_skeletons_have_to_agree_before_anything_runs(place):
  with pytest.raises(UserError, match=r"model.maps.size is \(12, 12\), but data.pose2d.size"):
    planning.plan(_config(place, maps=dict(size=(12, 12), test_size=(20, 20))))
