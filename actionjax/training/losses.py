"""Losses: pure functions of the model's outputs, averaged over valid clips.

A config names one by its function name; its remaining keys are keyword arguments:
`loss(logits, out, batch, params, **config.loss) -> (scalar, parts)`.
"""
import functools
import inspect
from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from actionjax import configuration
from actionjax.errors import UserError

EmbeddingLoss = Literal["l2", "manhattan", "kl_visual_pose", "kl_pose_visual", "kl_both"]


def parse(section: Mapping, path: str):
  """The loss function of a section, its keyword arguments bound.

  Raises:
    UserError: there is no such loss, or an unknown key or value.
  """
  fields = dict(section)
  name = fields.pop("name", "cross_entropy")
  function = globals().get(name)
  if not callable(function) or "logits" not in inspect.signature(function).parameters:
    raise UserError(f"{path}.name: there is no loss {name!r} in actionjax.training.losses")
  configuration.check_keys(fields, _options(function), path)
  values = {key: value for key, value in fields.items() if value is not None}
  configuration.check_types(function, values, path)
  return functools.partial(function, **values)


def filled(section: Mapping) -> dict:
  """A loss section with all defaults filled in."""
  name = section.get("name", "cross_entropy")
  return {"name": name, **_options(globals()[name]),
          **{key: value for key, value in section.items() if value is not None}}


def _options(function) -> dict:
  """Keyword arguments with their defaults."""
  empty = inspect.Parameter.empty
  return {key: None if parameter.default is empty else parameter.default
          for key, parameter in inspect.signature(function).parameters.items()
          if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


def masked_mean(values, valid):
  """Mean of `values` [B] over the clips with `valid` [B] = 1; 0 where there is none."""
  return (values * valid).sum() / jnp.maximum(valid.sum(), 1.0)


def _per_clip_cross_entropy(logits, batch, label_smoothing):
  targets = optax.smooth_labels(
      jax.nn.one_hot(batch["label"], logits.shape[-1]), label_smoothing)
  return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)


def cross_entropy(logits, out, batch, params, *, label_smoothing: float = 0.0):
  """Softmax cross-entropy.

  Args:
    logits: float[B, N].
    batch: with `label` int[B] and `valid` float[B].
  """
  del out, params
  loss = masked_mean(_per_clip_cross_entropy(logits, batch, label_smoothing), batch["valid"])
  return loss, {}


def vpn(logits, out, batch, params, *, classification: float = 0.8, embedding: float = 0.2,
        attention: float = 1e-5, label_smoothing: float = 0.0, embedding_loss: EmbeddingLoss = "l2",
        epsilon: float = 0.1, attention_loss: Literal["thesis", "released"] = "thesis"):
  """VPN's objective: classification, spatial embedding and attention regulariser.

  lambda_1 CE + (1 - lambda_1) L_e + lambda_2 L_a with lambda_1 = 0.8, lambda_2 = 1e-5 (Das'
  thesis, section 4.4). Terms whose outputs the model does not have are left out: a model
  without embedding or attention trains with the same config.

  Args:
    logits: float[B, N].
    out: with `embedding_visual`, `embedding_pose` float[B, D] and `attention_spatial`
      float[B, h, w], `attention_temporal` float[B, t], where the model has them.
    embedding_loss: "l2", the squared distance of l2-normalised embeddings; "kl_visual_pose",
      "kl_pose_visual" or "kl_both", divergences between their softmaxes, the thesis'
      comparison; "manhattan", the released code's squared sum of absolute differences.
    epsilon: added to the squared norms that "l2" divides by. The pose's embedding starts at zero,
      where the distance's gradient is 2 / sqrt(epsilon): with 1e-6 it was 400 times the
      cross-entropy's, and stayed in Adam's second moments for thousands of steps.
    attention_loss: "thesis" for sum(A_S^2) + sum((1 - A_T)^2); "released" for the code's
      (1 - sum over units)^2, which has no gradient for a softmax.
  """
  del params
  valid = batch["valid"]
  ce = masked_mean(_per_clip_cross_entropy(logits, batch, label_smoothing), valid)
  total, parts = classification * ce, {"cross_entropy": ce}
  if "embedding_visual" in out:
    distance = masked_mean(
        embedding_distance(out["embedding_visual"], out["embedding_pose"], embedding_loss, epsilon),
        valid)
    total = total + embedding * distance
    parts["embedding"] = distance
  if "attention_spatial" in out or "attention_temporal" in out:
    penalty = masked_mean(attention_penalty(out, attention_loss), valid)
    total = total + attention * penalty
    parts["attention"] = penalty
  return total, parts


def hierarchical(logits, out, batch, params, *, weights: tuple[float | None, ...],
                 superclasses: tuple[tuple[int, ...] | None, ...] = (),
                 label_smoothing: float = 0.0):
  """Hierarchical classification's objective: a weighted sum of the levels' cross-entropies.

  Args:
    logits: float[B, N] of the last level.
    out: with `stage_logits`, a dict of float[B, M] by stage name.
    weights: of the levels at stage 1, 2, ..., the last one's at the end; None or 0 where a level
      is absent (papers: 1/8, 1/4, 1/2, 1 for NTU; none, 1/16, 1/4, 1 for the smaller sets).
    superclasses: for every level but the last, class -> superclass, [N]; None where the level is
      absent. A step's `superclasses` fills it in.

  Raises:
    ValueError: a level of the model without weight or grouping.
  """
  del params
  last = masked_mean(_per_clip_cross_entropy(logits, batch, label_smoothing), batch["valid"])
  total, parts = weights[-1] * last, {"cross_entropy": last}
  for stage, found in out["stage_logits"].items():
    level = int(stage.removeprefix("stage")) - 1
    weight = weights[level] if level < len(weights) - 1 else None
    classes = superclasses[level] if level < len(superclasses) else None
    if not weight or classes is None:
      raise ValueError(f"the model has a level at {stage}, but the loss has no "
                       f"{'superclasses' if weight else 'weight'} for it")
    target = jnp.asarray(classes)[batch["label"]]
    value = masked_mean(_per_clip_cross_entropy(
        found, {**batch, "label": target}, label_smoothing), batch["valid"])
    total = total + weight * value
    parts[f"cross_entropy_{stage}"] = value
  return total, parts


def two_stream(logits, out, batch, params, *, rgb: float = 1.0, pose: float = 1.0,
               label_smoothing: float = 0.0):
  """RGBPose-SlowFast's objective: each pathway's own cross-entropy, weighted and added.

  CE_rgb + CE_pose (Duan et al., 2022, section 3.4). The fused scores get no loss of their own.

  Args:
    logits: not read.
    out: with `stream_logits`, a dict of float[B, N] by "rgb" and "pose".
    batch: with `label` int[B] and `valid` float[B].
    rgb, pose: weights of the two.
  """
  del logits, params
  total, parts = 0.0, {}
  for stream, weight in (("rgb", rgb), ("pose", pose)):
    value = masked_mean(_per_clip_cross_entropy(
        out["stream_logits"][stream], batch, label_smoothing), batch["valid"])
    total = total + weight * value
    parts[f"cross_entropy_{stream}"] = value
  return total, parts


def embedding_distance(visual, pose, kind: str, epsilon: float = 0.1):
  """Distance of two embeddings, float[B, D] and float[B, D] -> float[B], per clip. See `vpn`."""
  visual, pose = visual.astype(jnp.float32), pose.astype(jnp.float32)
  if kind == "l2":
    return jnp.square(_normalise(visual, epsilon) - _normalise(pose, epsilon)).sum(-1)
  if kind == "manhattan":
    return jnp.square(jnp.abs(visual - pose).sum(-1))
  log_v, log_p = jax.nn.log_softmax(visual), jax.nn.log_softmax(pose)
  divergence = lambda a, b: (jnp.exp(a) * (a - b)).sum(-1)
  if kind == "kl_visual_pose":
    return divergence(log_v, log_p)
  if kind == "kl_pose_visual":
    return divergence(log_p, log_v)
  if kind == "kl_both":
    return divergence(log_v, log_p) + divergence(log_p, log_v)
  raise ValueError(f"unknown embedding_loss {kind!r}; known: l2, manhattan, kl_visual_pose, "
                   "kl_pose_visual, kl_both")


def _normalise(x, epsilon: float):
  return x * jax.lax.rsqrt(jnp.square(x).sum(-1, keepdims=True) + epsilon)


def attention_penalty(out, kind: str):
  """The attention regulariser per clip, float[B]. See `vpn`."""
  if kind not in ("thesis", "released"):
    raise ValueError(f"unknown attention_loss {kind!r}; known: thesis, released")
  total = 0.0
  if "attention_spatial" in out:
    a = out["attention_spatial"].astype(jnp.float32)
    total += jnp.square(a).sum((1, 2)) if kind == "thesis" else jnp.square(1 - a.sum((1, 2)))
  if "attention_temporal" in out:
    a = out["attention_temporal"].astype(jnp.float32)
    total += jnp.square(1 - a).sum(1) if kind == "thesis" else jnp.square(1 - a.sum(1))
  return total
