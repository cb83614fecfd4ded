"""Skeletons as heat maps, drawn on the device: the twin of `posec3d.Maps` and `ops.heatmaps`."""
import math

import torch
from torch import nn

from actionjax import skeletons
from actionjax.models import posec3d
from actionjax.ops import heatmaps

_FAR = 1e8  # Puts a pixel outside of a window so far away that its Gaussian is 0.


class Maps(nn.Module):
  """`pose2d` float[B,M,T,V,2] (or `pose3d`) and `pose_score` -> float32[B,T,H,W,K].

  Args:
    maps: how they are drawn; limbs by exact exponentials, where `ops.heatmaps` has a polynomial.
    layout: name of the joint layout.
  """

  def __init__(self, maps: posec3d.Maps, layout: str):
    super().__init__()
    self.maps = maps
    joints = skeletons.layout(layout)
    limbs = torch.tensor(joints.limbs if maps.limbs is None else maps.limbs)
    self.register_buffer("limbs", limbs.T.contiguous(), persistent=False)
    count = {"joint": joints.num_joints, "limb": len(limbs),
             "both": joints.num_joints + len(limbs)}[maps.kind]
    self.channels = count * (3 if maps.source == "pose3d" else 1)
    self.sizes = {True: tuple(maps.size), False: tuple(maps.test_size or maps.size)}
    for training, (height, width) in self.sizes.items():
      for axis, length in (("x", width), ("y", height)):
        self.register_buffer(f"{axis}_{training}", torch.arange(length, dtype=torch.float32),
                             persistent=False)
      middle = torch.tensor([(width - 1) / 2, (height - 1) / 2])
      self.register_buffer(f"middle_{training}", middle, persistent=False)
    self.register_buffer("rightwards", torch.tensor([1.0, 0.0]), persistent=False)

  def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    maps, points = self.maps, batch[self.maps.source].float()
    score = batch["pose_score"].float()
    views = [points]
    if maps.source == "pose3d":
      x, y, z = points.unbind(-1)
      views = [torch.stack(view, -1) for view in ((x, -y), (z, -y), (x, -z))]
    volumes = []
    for view in views:
      view = self._fit(view, score) if maps.fill else view * maps.scale
      if self.training and maps.jitters:
        view = self.jitter(view)
      if maps.kind != "limb":
        volumes.append(self._joints(view, score))
      if maps.kind != "joint":
        volumes.append(self._limbs(view, score))
    return volumes[0] if len(volumes) == 1 else torch.cat(volumes, -1)

  def _axes(self):
    """Pixels float[W] and float[H]."""
    return getattr(self, f"x_{self.training}"), getattr(self, f"y_{self.training}")

  def _fit(self, points, score):
    """Moves and scales every clip so that its skeletons fill the maps."""
    shown = ((score > 0) & torch.isfinite(points).all(-1))[..., None]
    low = torch.where(shown, points, math.inf).amin((1, 2, 3), keepdim=True)
    high = torch.where(shown, points, -math.inf).amax((1, 2, 3), keepdim=True)
    side = (high - low).amax(-1, keepdim=True) * 1.25
    usable = torch.isfinite(side) & (side > 0)
    scale = torch.where(usable, min(self.sizes[self.training]) / torch.where(usable, side, 1), 1)
    middle = torch.where(torch.isfinite(low), (low + high) / 2, 0)
    moved = (points - middle) * scale + getattr(self, f"middle_{self.training}")
    return torch.where(shown, moved, 0)

  def jitter(self, points: torch.Tensor) -> torch.Tensor:
    """`affine.random_affine` about the maps' middle, with PyTorch's random numbers."""
    maps, middle = self.maps, getattr(self, f"middle_{self.training}")
    draws = torch.rand(5, len(points), 1, 1, 1, device=points.device) * 2 - 1
    angle, size = math.radians(maps.rotate) * draws[0], maps.stretch * draws[1]
    aspect = maps.stretch * draws[2] / 2
    shift = maps.shift * min(self.sizes[self.training])
    cos, sin = angle.cos(), angle.sin()
    x, y = (points - middle).unbind(-1)
    return torch.stack([(size + aspect).exp() * (cos * x - sin * y) + shift * draws[3],
                        (size - aspect).exp() * (sin * x + cos * y) + shift * draws[4]],
                       -1) + middle

  def _amplitudes(self, points, score):
    drawn = (score >= heatmaps.THRESHOLD) & torch.isfinite(points).all(-1)
    return drawn, torch.where(drawn, score if self.maps.use_scores else 1.0, 0.0)

  def _near(self, pixels, low, high):
    """The window's pixels, bool[...,L,V]."""
    reach = 3 * self.maps.sigma
    return ((pixels >= torch.trunc(low - reach)[..., None, :])
            & (pixels <= torch.trunc(high + reach)[..., None, :]))

  def _joints(self, points, score):
    drawn, amplitude = self._amplitudes(points, score)
    points = torch.where(drawn[..., None], points, 0)
    factors = []
    for place, pixels in zip(points.unbind(-1), self._axes()):
      pixels = pixels[:, None]
      factor = torch.exp(-((pixels - place[..., None, :]) / self.maps.sigma)**2 / 2)
      if self.maps.windows:
        factor = factor * self._near(pixels, place, place)
      factors.append(factor)
    x, y = factors
    y = y * amplitude[..., None, :]
    return self._merged(y[:, :, :, :, None] * x[:, :, :, None])

  def _limbs(self, points, score):
    ends, scores = points[..., self.limbs, :], score[..., self.limbs]
    drawn, amplitudes = self._amplitudes(ends, scores)
    drawn = drawn.all(-2)
    a, b = torch.where(drawn[..., None, :, None], ends, 0).unbind(-3)
    square = ((b - a)**2).sum(-1)
    short = square < 1
    # One shorter than a pixel is drawn as its first joint.
    amplitude = torch.where(short, amplitudes[..., 0, :], amplitudes.amin(-2))
    amplitude = torch.where(drawn, amplitude, 0.0)
    b = torch.where(short[..., None], a, b)
    length = torch.where(short, 1.0, square).sqrt()
    direction = torch.where(short[..., None], self.rightwards, b - a)
    unit = (length * self.maps.sigma * 2**0.5)[..., None, :]
    half = torch.where(short, 0.0, square)[..., None, :] / 2 / unit
    middle, low, high = (a + b) / 2, torch.minimum(a, b), torch.maximum(a, b)
    terms = []
    for axis, pixels in enumerate(self._axes()):
      pixels = pixels[:, None]
      offset = pixels - middle[..., None, :, axis]
      parallel = offset * direction[..., None, :, axis] / unit
      across = offset * direction[..., None, :, 1 - axis] * (1 if axis else -1) / unit
      if self.maps.windows:
        near = self._near(pixels, low[..., axis], high[..., axis])
        parallel = torch.where(near, parallel, 0.0)
        across = torch.where(near, across, _FAR)
      terms.append((parallel, across))
    (px, vx), (py, vy) = terms
    beyond = torch.relu((py[:, :, :, :, None] + px[:, :, :, None]).abs() - half[:, :, :, None])
    across = vy[:, :, :, :, None] + vx[:, :, :, None]
    return self._merged(torch.exp(-(across * across + beyond * beyond))
                        * amplitude[:, :, :, None, None])

  def _merged(self, maps):
    """[B,M,T,H,W,K] -> [B,T,H,W,K]."""
    if maps.shape[1] == 1:
      return maps[:, 0]
    return maps.amax(1) if self.maps.merge == "max" else maps.sum(1)
