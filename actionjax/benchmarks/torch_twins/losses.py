"""The losses of `actionjax.training.losses` on tensors."""
import inspect
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from actionjax.errors import UserError
from actionjax.training import losses


class Objective(nn.Module):
  """A loss by its name in the library: (logits, out, batch) -> scalar tensor.

  Constants are buffers: on the device of the network it can be compiled and captured.

  Args:
    name: "cross_entropy", "vpn", "hierarchical" or "two_stream".
    **config: as of the library's function, whose defaults hold.

  Raises:
    UserError: another loss, or an argument that it does not take.
  """

  def __init__(self, name: str, **config: Any):
    super().__init__()
    if name not in _LOSSES:
      raise UserError(f"torch_twins: loss must be one of {', '.join(_LOSSES)}, got {name!r}")
    self.function = _LOSSES[name]
    parameters = inspect.signature(getattr(losses, name)).parameters.values()
    fields = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    self.config = fields | config
    for key, value in self.config.items():
      if key not in fields or value is inspect.Parameter.empty:
        raise UserError(f"torch_twins: loss {name} {'lacks' if key in fields else 'has no'} {key}")
    for i, classes in enumerate(self.config.pop("superclasses", ()), 1):
      if classes is not None:
        self.register_buffer(f"classes{i}", torch.tensor(classes), persistent=False)

  def forward(self, logits: torch.Tensor, out: dict, batch: dict[str, torch.Tensor]):
    return self.function(self, logits, out, batch, **self.config)


def loss(name: str, logits: torch.Tensor, out: dict, batch: dict[str, torch.Tensor],
         **config: Any) -> torch.Tensor:
  """`Objective(name, **config)` of these tensors, made anew: not to be captured or compiled.

  Args:
    logits: float[B,N]. out: what the twin returned beside them.
    batch: with `label` int64[B] and `valid` float[B].
  """
  return Objective(name, **config).to(logits.device)(logits, out, batch)


def _masked_mean(values, valid):
  return (values * valid).sum() / valid.sum().clamp(min=1.0)


def _entropy(logits, label, valid, smoothing):
  return _masked_mean(F.cross_entropy(logits.float(), label, reduction="none",
                                      label_smoothing=smoothing), valid)


def _cross_entropy(_, logits, out, batch, *, label_smoothing):
  return _entropy(logits, batch["label"], batch["valid"], label_smoothing)


def _vpn(_, logits, out, batch, *, classification, embedding, attention, label_smoothing,
         embedding_loss, epsilon, attention_loss):
  valid = batch["valid"]
  total = classification * _entropy(logits, batch["label"], valid, label_smoothing)
  if "embedding_visual" in out:
    distance = _embedding_distance(out["embedding_visual"].float(), out["embedding_pose"].float(),
                                   embedding_loss, epsilon)
    total = total + embedding * _masked_mean(distance, valid)
  penalties = _attention_penalties(out, attention_loss)
  if penalties:
    total = total + attention * _masked_mean(sum(penalties), valid)
  return total


def _hierarchical(objective, logits, out, batch, *, weights, label_smoothing):
  label, valid = batch["label"], batch["valid"]
  total = weights[-1] * _entropy(logits, label, valid, label_smoothing)
  for stage, level_logits in out["stage_logits"].items():
    level = int(stage.removeprefix("stage"))
    weight = weights[level - 1] if level < len(weights) else None
    classes = getattr(objective, f"classes{level}", None)
    if not weight or classes is None:
      raise UserError(f"the model has a level at {stage}, but the loss has no "
                      f"{'superclasses' if weight else 'weight'} for it")
    total = total + weight * _entropy(level_logits, classes[label], valid, label_smoothing)
  return total


def _two_stream(_, logits, out, batch, *, rgb, pose, label_smoothing):
  entropies = {stream: _entropy(logits, batch["label"], batch["valid"], label_smoothing)
               for stream, logits in out["stream_logits"].items()}
  return rgb * entropies["rgb"] + pose * entropies["pose"]


def _embedding_distance(visual, pose, kind, epsilon):
  """float[B,D] twice -> float[B]."""
  if kind == "l2":
    unit = lambda x: x * torch.rsqrt((x * x).sum(-1, keepdim=True) + epsilon)
    return (unit(visual) - unit(pose)).square().sum(-1)
  if kind == "manhattan":
    return (visual - pose).abs().sum(-1).square()
  log_v, log_p = visual.log_softmax(-1), pose.log_softmax(-1)
  divergence = lambda a, b: (a.exp() * (a - b)).sum(-1)
  if kind == "kl_visual_pose":
    return divergence(log_v, log_p)
  if kind == "kl_pose_visual":
    return divergence(log_p, log_v)
  if kind == "kl_both":
    return divergence(log_v, log_p) + divergence(log_p, log_v)
  raise UserError(f"unknown embedding_loss {kind!r}")


def _attention_penalties(out, kind):
  """float[B] of each attention there is."""
  if kind not in ("thesis", "released"):
    raise UserError(f"unknown attention_loss {kind!r}; known: thesis, released")
  penalties = []
  if "attention_spatial" in out:
    a = out["attention_spatial"].float().flatten(1)
    penalties.append(a.square().sum(1) if kind == "thesis" else (1 - a.sum(1)).square())
  if "attention_temporal" in out:
    a = out["attention_temporal"].float()
    penalties.append((1 - a).square().sum(1) if kind == "thesis" else (1 - a.sum(1)).square())
  return penalties


_LOSSES: dict[str, Callable[..., torch.Tensor]] = {
    "cross_entropy": _cross_entropy, "vpn": _vpn, "hierarchical": _hierarchical,
    "two_stream": _two_stream}
