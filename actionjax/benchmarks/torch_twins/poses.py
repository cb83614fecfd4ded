"""Skeletons as networks read them: the twins of `ops.skeleton_frames` and `ops.skeleton_streams`.

Products with small matrices are written out, so that autocast leaves coordinates in float32.
"""
import math

import torch
import torch.nn.functional as F
from torch import nn

from actionjax import skeletons
from actionjax.errors import UserError
from actionjax.ops import skeleton_streams


class BodyCentred(nn.Module):
  """pose float[B,M,T,J,3] and score float[B,M,T,J] -> float[B,M,T,J,3].

  Args:
    layout: name of the joint layout.
    normalise: "translate", "align" (see `skeleton_frames`) or "upright" (`skeleton_streams`).
  """

  def __init__(self, layout: str, normalise: str):
    super().__init__()
    joints = skeletons.layout(layout)
    frames = {"translate": self._translate, "align": self._align, "upright": self._upright}
    if normalise not in frames:
      raise UserError(f"model.normalise must be one of {', '.join(frames)}, got {normalise!r}")
    self.frame = frames[normalise]
    self.centre = joints.index(joints.centre)
    if normalise != "translate":
      self.spine = tuple(joints.index(name) for name in joints.spine)
      side = "hip" if normalise == "align" else "shoulder"
      self.sides = joints.index(f"left_{side}"), joints.index(f"right_{side}")
    self.register_buffer("identity", torch.eye(3), persistent=False)

  def forward(self, pose: torch.Tensor, score: torch.Tensor) -> torch.Tensor:
    return self.frame(pose.float(), score.float())

  def _first(self, score):
    """The first frame whose first person has the centre joint, int[B]; 0 where none has."""
    return (score[:, 0, :, self.centre] > 0).int().argmax(1)

  def _translate(self, pose, score):
    first = self._first(score)[:, None, None].expand(-1, 1, 3)
    origin = pose[:, 0, :, self.centre].gather(1, first)
    return torch.where(score[..., None] > 0, pose - origin[:, :, None, None], 0.0)

  def _align(self, pose, score):
    (low, high), (left, right) = self.spine, self.sides
    frame, shown = pose[:, 0, 0], score[:, 0, 0] > 0
    up = frame[:, high] - frame[:, low]
    length = _length(up)
    up = up / length.clamp(min=1e-6)
    across = frame[:, left] - frame[:, right]
    across = across - (across * up).sum(-1, keepdim=True) * up
    across = across / _length(across).clamp(min=1e-6)
    axes = torch.stack([across, up, torch.linalg.cross(across, up)], 1)
    usable = shown[:, low] & shown[:, high] & shown[:, left] & shown[:, right]
    axes = torch.where(usable[:, None, None], axes, self.identity)
    scale = torch.where(usable[:, None], length.clamp(min=1e-3), 1.0)
    return _turned(self._translate(pose, score), axes) / scale[:, None, None, None]

  def _upright(self, pose, score):
    pose = self._translate(pose, score)
    first = self._first(score)[:, None, None].expand(-1, 1, score.shape[-1])
    shown = score[:, 0].gather(1, first)[:, 0] > 0
    index = first[..., None].expand(-1, -1, -1, 3)
    for (start, end), axis in ((self.spine, 2), (self.sides, 0)):
      frame = pose[:, 0].gather(1, index)[:, 0]
      usable = (shown[:, start] & shown[:, end])[:, None]
      direction = torch.where(usable, frame[:, end] - frame[:, start], 0.0)
      pose = _turned(pose, self._turn_onto(direction, axis))
    return pose

  def _turn_onto(self, direction, axis):
    """The shortest turn that brings float[B,3] onto a coordinate axis, float[B,3,3]."""
    length = _length(direction)
    unit = direction / length.clamp(min=1e-6)
    sine = torch.linalg.cross(unit, self.identity[axis].expand_as(unit))
    cosine = unit[:, axis, None, None]
    # Columns of the cross product's matrix; its square is s s^T - |s|^2.
    skew = torch.linalg.cross(sine[:, None].expand(-1, 3, -1),
                              self.identity.expand(len(sine), -1, -1)).transpose(1, 2)
    square = (sine[:, :, None] * sine[:, None]
              - (sine * sine).sum(-1)[:, None, None] * self.identity)
    turn = self.identity + skew + square / (1 + cosine).clamp(min=1e-12)
    clear = (sine.abs().sum(-1) > 1e-6) & (length[:, 0] > 1e-6)
    return torch.where(clear[:, None, None], turn, self.identity)


def _length(x):
  return (x * x).sum(-1, keepdim=True).sqrt()


def _turned(pose, rows):
  """float[B,M,T,J,3] in axes float[B,3,3], one a row."""
  return (pose[..., None, :] * rows[:, None, None, None]).sum(-1)


class Stream(nn.Module):
  """A batch -> one stream of normalised skeletons, float32[B,M,T,J,3].

  Args: as of `skeleton_streams.graph_input`.
  """

  def __init__(self, layout: str, dimensions: int | None, normalise: str | None, stream: str,
               pairs: str, image_size: tuple[int, int]):
    super().__init__()
    self.source, _ = skeleton_streams.inputs(layout, dimensions)
    self.scored = self.source == "pose2d"
    known = (skeleton_streams.NORMALISE_2D if self.scored else skeleton_streams.NORMALISE_3D)
    self.normalise = known[0] if normalise is None else normalise
    if self.normalise not in known:
      raise UserError(f"model.normalise must be one of {', '.join(known)}, got {normalise!r}")
    if stream not in skeleton_streams.STREAMS:
      raise UserError(f"stream must be one of {', '.join(skeleton_streams.STREAMS)}, got "
                      f"{stream!r}")
    self.stream = stream
    if not self.scored and self.normalise != "none":
      self.body = BodyCentred(layout, self.normalise)
    parents = skeleton_streams.bone_parents(skeletons.layout(layout), pairs)
    self.register_buffer("parents", torch.tensor(parents), persistent=False)
    half = torch.tensor([image_size[1] / 2, image_size[0] / 2])
    self.register_buffer("half_image", half, persistent=False)

  def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    x, score = batch[self.source].float(), batch["pose_score"].float()
    if self.normalise == "image":
      x = torch.where(score[..., None] > 0.01, x / self.half_image - 1, 0.0)
    elif self.normalise == "box":
      x = _in_box(x, score[..., None] > 0.01)
    elif self.normalise != "none":
      x = self.body(x, score)
    if self.scored:
      x = torch.cat([x, score[..., None]], -1)
    if self.stream.startswith("bone"):
      x = self._difference(x, x[..., self.parents, :])
    if self.stream.endswith("motion"):
      x = F.pad(self._difference(x[..., 1:, :, :], x[..., :-1, :, :]), (0, 0, 0, 0, 0, 1))
    return x

  def _difference(self, x, start):
    """Of coordinates; of scores the mean."""
    if not self.scored:
      return x - start
    return torch.cat([x[..., :-1] - start[..., :-1], (x[..., -1:] + start[..., -1:]) / 2], -1)


def _in_box(pose, shown):
  """`skeleton_streams.box_coordinates`."""
  low = torch.where(shown, pose, math.inf).amin((1, 2, 3), keepdim=True)
  high = torch.where(shown, pose, -math.inf).amax((1, 2, 3), keepdim=True)
  fits = (high - low > 10).all(-1, keepdim=True)
  middle = torch.where(fits, (low + high) / 2, 0.0)
  half = torch.where(fits, (high - low) / 2, 1.0)
  return torch.where(shown, (pose - middle) / half, 0.0)
