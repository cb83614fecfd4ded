"""What is no batch is refused by the name of the array, before any model sees it."""
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from actionjax import models
from actionjax.evaluators import classification
from actionjax.training import contracts, losses, optim
from actionjax.training import state as states
from actionjax.training.train_step import make_train_step

LAYOUT, JOINTS = "coco_17", 17


def _batch(views=()):
  """A whole batch of 2 clips with 3 persons; poses in 5 frames, videos in 4."""
  shapes = {"video": (4, 8, 6, 3), "pose3d": (3, 5, JOINTS, 3), "pose2d": (3, 5, JOINTS, 2),
            "pose_score": (3, 5, JOINTS)}
  arrays = {name: np.zeros((2, *views, *shape), np.uint8 if name == "video" else np.float32)
            for name, shape in shapes.items()}
  return arrays | {"label": np.zeros(2, np.int32), "valid": np.ones(2, np.float32)}


def test_a_batch_passes_and_so_do_other_arrays_and_types():
  contracts.check_batch(_batch(), layout=LAYOUT, reads=("video", "pose2d"))
  contracts.check_batch(_batch((6,)), layout=LAYOUT, views=6)
  contracts.check_batch(_batch(), layout="")  # a dataset without skeletons
  contracts.check_batch({"x": np.zeros(7), "label": np.zeros(2, np.int64)})
  contracts.check_batch(jax.eval_shape(lambda b: b, _batch()), layout=LAYOUT)
  contracts.check_batch({"pose3d": jnp.zeros((1, 2, 3, 4, 3), jnp.bfloat16)})


WRONG = [
    ("label", lambda x: x.astype(np.float32), r"must be int\[B\]; got float32\[2\]"),
    ("label", lambda x: x[:, None], r"got int32\[2,1\]"),
    ("valid", lambda x: x > 0, r"must be float\[B\], B = 2; got bool\[2\]"),
    ("valid", lambda x: x[:1], r"B = 2; got float32\[1\]"),
    ("video", lambda x: x.astype(np.float32), r"must be uint8\[B,Tv,H,W,C\]"),
    ("video", lambda x: x[0], r"got uint8\[4,8,6,3\]"),
    ("video", lambda x: x[:1], r"B = 2; got uint8\[1,4,8,6,3\]"),
    ("pose3d", lambda x: x[..., :2], r"must be float\[B,M,T,J,3\], B = 2, J = 17; got"),
    ("pose3d", lambda x: x[..., :9, :], r"J = 17; got float32\[2,3,5,9,3\]"),
    ("pose3d", lambda x: x.astype(np.int32), r"got int32\[2,3,5,17,3\]"),
    ("pose2d", lambda x: x[:, :1], r"M = 3, T = 5, J = 17; got float32\[2,1,5,17,2\]"),
    ("pose2d", lambda x: x[..., :1], r"must be float\[B,M,T,J,2\]"),
    ("pose_score", lambda x: x[..., None], r"must be float\[B,M,T,J\]"),
    ("pose_score", lambda x: x[:, :, :4], r"T = 5, J = 17; got float32\[2,3,4,17\]"),
]


@pytest.mark.parametrize("name, change, message", WRONG)
def test_each_violation_is_caught_by_name(name, change, message):
  batch = _batch()
  batch[name] = change(batch[name])
  with pytest.raises(AssertionError, match=rf"batch\['{name}'\].*{message}"):
    contracts.check_batch(batch, layout=LAYOUT)


def test_views_and_what_is_read():
  with pytest.raises(AssertionError, match=r"batch\['video'\] must be uint8\[B,V,Tv,H,W,C\]"):
    contracts.check_batch(_batch(), views=1)
  with pytest.raises(AssertionError, match=r"V = 5; got uint8\[2,6,4,8,6,3\]"):
    contracts.check_batch(_batch((6,)), views=5)
  batch = _batch()
  del batch["pose2d"]
  with pytest.raises(AssertionError, match="the batch lacks pose2d, which the model reads"):
    contracts.check_batch(batch, reads=("video", "pose2d"))


def test_steps_refuse_what_is_no_batch():
  model = models.create(dict(name="stgcn"), num_classes=3, layout=LAYOUT)
  optimiser = optim.make(optim.OptimConfig(), 1, {})
  step = make_train_step(model, losses.cross_entropy, optimiser, {}, seed=0, ema=None)
  state = states.TrainState(step=np.int32(0), params={}, batch_stats={}, opt_state=(), masks={})
  view_step = classification.make_view_step(model, classification.ViewConfig())
  for call, views in ((lambda batch: jax.eval_shape(step, state, batch, np.float32(1)), ()),
                      (lambda batch: view_step({}, batch), (1,))):
    batch = _batch(views)
    batch["pose2d"] = batch["pose2d"][..., :9, :]
    with pytest.raises(AssertionError, match=r"batch\['pose2d'\] must be .*J = 17"):
      call(batch)
    del batch["pose2d"]
    with pytest.raises(AssertionError, match="the batch lacks pose2d"):
      call(batch)
