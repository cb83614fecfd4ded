"""Small networks to prune and compact, and what tests of both compute on them."""
import functools

import jax
import jax.numpy as jnp
import numpy as np

from actionjax import models
from actionjax.models.resnet3d import ResNet3D
from actionjax.pruning import masks, scores
from actionjax.training import losses, optim, train_step
from actionjax.training import state as states

BASIC = dict(block="basic", stage_sizes=(2, 1), width=6, spatial_strides=(1, 2),
             temporal_strides=(1, 1))
BOTTLENECK = BASIC | dict(block="bottleneck", width=5)
HAC = dict(name="video_network", levels=(2,),
           backbone=dict(name="resnet3d", **BASIC | dict(stage_sizes=(1, 1))))


def fill(shapes, seed=0):
  """Random variables of these shapes, as far from their initial values as after a training."""
  rng = np.random.default_rng(seed)

  def draw(path, leaf):
    if path[-1].key in ("scale", "var"):
      return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
    spread = 0.3 if leaf.ndim == 1 else (2 / np.prod(leaf.shape[:-1])) ** 0.5
    return jnp.asarray(rng.normal(0, spread, leaf.shape), leaf.dtype)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def shapes(model, x):
  """The shapes of a network's variables."""
  return jax.eval_shape(lambda: model.init(jax.random.key(0), x, train=False))


def clip(seed=0, size=12):
  """Random clips float32[2,3,size,size,3]."""
  return jnp.asarray(np.random.default_rng(seed).normal(size=(2, 3, size, size, 3)), jnp.float32)


def resnet(seed=0, **fields):
  """A backbone and random variables of it."""
  model = ResNet3D(**fields)
  return model, fill(shapes(model, clip()), seed)


def hac(config=None):
  """A hierarchical classifier of three classes."""
  return models.create(config or HAC, num_classes=3, layout="kinect_v1_20")


def hac_batch(seed=0):
  """A batch that `hac` reads: four clips of three frames."""
  rng = np.random.default_rng(seed)
  return {"video": rng.integers(0, 256, (4, 3, 12, 12, 3)).astype(np.uint8),
          "label": rng.integers(0, 3, 4).astype(np.int32), "valid": np.ones(4, np.float32)}


def passes(params, count=2, fraction=0.3, scope="by_layers", rule=None):
  """The masks after so many passes, each of which takes a share of the surviving filters."""
  alive = masks.unpruned(params)
  for _ in range(count):
    found = scores.filter_scores(masks.apply_masks(params, alive), rule)
    alive = masks.make_masks(found, alive, fraction, scope)
  return alive


def run(model, variables, x, train=False):
  """(features, endpoints), or with `train` those and the new statistics."""
  kwargs = dict(train=True, mutable=["batch_stats"]) if train else dict(train=False)
  return jax.jit(lambda v, x: model.apply(v, x, **kwargs))(variables, x)


def size(tree):
  """The number of a tree's entries."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def flat(tree):
  """{path: leaf} of a tree."""
  return dict(zip(states.path_names(tree), jax.tree.leaves(tree)))


def without(params, dead):
  """Masks with the given channels dead, by convolution."""
  alive = flat(masks.unpruned(params))
  sizes = {path: leaf.shape[-1] for path, leaf in flat(params).items()}
  for module, channels in dead.items():
    for leaf in masks.channel_leaves(f"{module}/kernel", params):
      alive[leaf] = jnp.asarray(~np.isin(np.arange(sizes[leaf]), list(channels)))
  return jax.tree.unflatten(jax.tree.structure(params), list(alive.values()))


def trainer(model, variables, alive, name, ema=0.9):
  """A training's first state under masks, and its jitted step."""
  labels = optim.frozen_labels(variables["params"], ())
  optimiser = optim.make(optim.OptimConfig(name=name, learning_rate=1e-2, weight_decay=0.1,
                                           decay_all=True), 10, labels)
  loss = functools.partial(losses.cross_entropy, params=None)
  step = jax.jit(train_step.make_train_step(
      model, lambda logits, out, batch, params: loss(logits, out, batch), optimiser, labels,
      seed=0, ema=ema))
  state = states.create({**variables, "params": masks.apply_masks(variables["params"], alive)},
                        optimiser, ema=ema is not None)
  return state.replace(masks=alive), step
