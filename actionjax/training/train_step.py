"""One gradient step and one evaluation step: pure functions, compiled once."""
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from actionjax.training import contracts
from actionjax.training.state import TrainState


def apply_masks(params, masks):
  """`params` with exact zeros where `masks` is False. Scalars True change nothing."""
  return jax.tree.map(lambda p, m: jnp.where(m, p, jnp.zeros((), p.dtype)), params, masks)


def make_train_step(model, loss: Callable, optimiser, labels, *, seed: int,
                    ema: float | None, augment: Callable | None = None) -> Callable:
  """Builds `train_step(state, batch, scale) -> (state, metrics)`.

  Args:
    model: linen module, called as `model(batch, train=True) -> (logits, out)`; `inputs` names
      what it reads, and `layout`, where it has one, the skeletons' joints.
    loss: `loss(logits, out, batch, params) -> (scalar, parts)`.
    optimiser: an optax transformation over the whole parameter tree.
    labels: from `optim.frozen_labels`. Frozen parameters get no gradient, and batch norms of
      modules that are frozen altogether are those of evaluation: they normalise by their running
      statistics, which stay as they are.
    seed: of the dropout draws; the key of a step is folded from seed and step alone.
    ema: decay of the averaged parameters, or None.
    augment: `augment(batch, key) -> batch`, on the devices, before the model sees the batch.

  The step's `scale` is a float scalar on the update: the reduce-on-plateau factor, an argument
  because the host decides it. Tracing the step checks the batch, see `contracts.check_batch`.
  """
  root = jax.random.key(seed)

  def train_step(state: TrainState, batch, scale):
    contracts.check_batch(batch, reads=(*model.inputs, "label", "valid"),
                          layout=getattr(model, "layout", None))
    rngs = {"dropout": jax.random.fold_in(root, state.step)}
    if augment is not None:
      # Of the same step, and another key than dropout's.
      batch = augment(batch, jax.random.fold_in(rngs["dropout"], 1))

    def forward(params):
      params = jax.tree.map(
          lambda p, label: jax.lax.stop_gradient(p) if label == "frozen" else p, params, labels)
      with nn.intercept_methods(_frozen_norms(labels)):
        (logits, out), updated = model.apply(
            {"params": params, "batch_stats": state.batch_stats}, batch, train=True,
            rngs=rngs, mutable=["batch_stats"])
      value, parts = loss(logits, out, batch, params)
      return value, (parts, logits, updated.get("batch_stats", {}))

    (value, (parts, logits, batch_stats)), gradients = jax.value_and_grad(
        forward, has_aux=True)(state.params)
    gradients = apply_masks(gradients, state.masks)
    updates, opt_state = optimiser.update(gradients, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: (u * scale).astype(u.dtype), updates)
    # Weights are masked after the update too: decay and momentum must not revive a dead filter.
    params = apply_masks(optax.apply_updates(state.params, updates), state.masks)
    average = state.ema
    if ema is not None:
      # The average starts short, else it would carry the random initial weights along.
      decay = jnp.minimum(ema, (1.0 + state.step) / (10.0 + state.step))
      average = jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), state.ema, params)
    valid = batch["valid"]
    correct = (jnp.argmax(logits, -1) == batch["label"]) * valid
    metrics = {"loss": value, "top1": correct.sum() / jnp.maximum(valid.sum(), 1),
               "gradient_norm": optax.tree.norm(gradients), **parts}
    if "unreadable" in batch:
      metrics["unreadable"] = batch["unreadable"].sum()
    return TrainState(state.step + 1, params, batch_stats, opt_state, state.masks,
                      average), metrics

  return train_step


def _frozen_norms(labels):
  """Makes batch norms of frozen modules those of evaluation, for `nn.intercept_methods`."""

  def intercept(call, args, kwargs, context):
    module = context.module
    if isinstance(module, nn.BatchNorm) and _is_frozen(labels, module.path):
      # `train` reaches all modules alike. The field, which Flax protects, is set because an
      # argument of the call may not contradict it; nor may there be both.
      object.__setattr__(module, "use_running_average", True)
      args, kwargs = args[:1], {**kwargs, "use_running_average": None}
    return call(*args, **kwargs)

  return intercept


def _is_frozen(labels, path) -> bool:
  """Whether all parameters of a module, or of one around it, are frozen."""
  for name in path:
    labels = labels.get(name, {})
    if set(jax.tree.leaves(labels)) == {"frozen"}:
      return True
  return False


def make_eval_step(model) -> Callable:
  """Builds `eval_step(variables, batch) -> (probabilities, streams)`.

  Probabilities are float32[B, num_classes]; streams hold those of every pathway that has a
  classifier of its own (`stream_logits`), by name.
  """

  def eval_step(variables, batch):
    logits, out = model.apply(variables, batch, train=False)
    return jax.tree.map(lambda x: jax.nn.softmax(x.astype(jnp.float32), axis=-1),
                        (logits, dict(out.get("stream_logits", {}))))

  return eval_step
