"""MS-G3D (Liu et al., 2020) as PYSKL names and computes it, in PyTorch's functions alone.

Layers make the numbers that they read, by name. Every axis is PyTorch's [N,C,T,V].
"""
import numpy as np
import torch
from torch.nn import functional as F

from tests import references


class Network:
  """An MS-G3D of any graph and number of input channels.

  Args:
    adjacency: float[V,V], symmetric.
    width: of the first block.
    scales, window_scales: K of the graphs of a frame and of a window.
    windows: frames of each.
  """

  def __init__(self, adjacency: np.ndarray, width: int = 12, scales: int = 3,
               window_scales: int = 2, windows=(3, 5)):
    self.state = {"backbone.A": np.asarray(adjacency, np.float32)}
    self.adjacency, self.width, self.windows = np.asarray(adjacency), width, windows
    self.scales, self.window_scales = scales, window_scales

  def __call__(self, x: np.ndarray, classes: int = 5) -> np.ndarray:
    """Logits [N,classes] of float[N,M,T,V,C]."""
    x = torch.tensor(x, dtype=torch.float64)
    n, m, t, v, c = x.shape
    x = self._bn(x.permute(0, 1, 3, 4, 2).reshape(n, m * v * c, t), "backbone.data_bn")
    x = x.reshape(n, m, v, c, t).permute(0, 1, 3, 4, 2).reshape(n * m, c, t, v)
    for stage in (1, 2, 3):
      out, stride, inputs = self.width * 2 ** (stage - 1), 1 if stage == 1 else 2, x.shape[1]
      path = self._multi_scale(x, f"backbone.sgcn{stage}.0", self.scales,
                               out if stage == 1 else inputs)
      path = self._temporal(path, f"backbone.sgcn{stage}.1", out, stride)
      path = self._temporal(path, f"backbone.sgcn{stage}.2", out, activate=False)
      for j, frames in enumerate(self.windows):
        path = path + self._window(x, f"backbone.gcn3d{stage}.gcn3d.{j}", frames, stride, out)
      x = self._temporal(F.relu(path), f"backbone.tcn{stage}", out)
    pooled = x.reshape(n, m, *x.shape[1:]).mean((1, 3, 4))
    return (pooled @ self._array("cls_head.fc_cls.weight", classes, x.shape[1]).T
            + self._array("cls_head.fc_cls.bias", classes)).numpy()

  def _array(self, name, *shape):
    self.state[name] = references.generated(name, shape)
    return torch.tensor(self.state[name], dtype=torch.float64)

  def _bn(self, x, name):
    mean, var, weight, bias = (self._array(f"{name}.{leaf}", x.shape[1]) for leaf in (
        "running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, mean, var, weight, bias, False, 0, 1e-5)

  def _conv(self, x, name, out, kernel=1, **kwargs):
    return F.conv2d(x, self._array(f"{name}.weight", out, x.shape[1], kernel, 1),
                    self._array(f"{name}.bias", out), **kwargs)

  def _multi_scale(self, x, name, scales, out, frames=1):
    """For each k the joints exactly k edges away and the joint itself, as a mean."""
    near = self.adjacency
    if frames > 1:
      near = np.tile(near + np.eye(len(near)), (frames, frames))
    own, graphs = np.eye(len(near)), []
    reached = [np.linalg.matrix_power((near > 0) + own, k) > 0 for k in range(scales)]
    for k in range(scales):
      graph = own if not k else np.maximum(reached[k] * 1.0 - reached[k - 1], own)
      graphs.append(graph / graph.sum(0))
    self.state[f"{name}.A"] = np.stack(graphs).astype(np.float32)
    graph = torch.tensor(np.stack(graphs)) + self._array(f"{name}.PA", scales, *near.shape)
    x = torch.einsum("kvu,nctv->nkctu", graph, x).flatten(1, 2)
    return F.relu(self._bn(self._conv(x, f"{name}.mlp.layers.0", out), f"{name}.mlp.layers.1"))

  def _temporal(self, x, name, out, stride=1, activate=True):
    sizes = [out // 6] * 5 + [out - 5 * (out // 6)]
    branches = []
    for b, size in enumerate(sizes[:5]):
      branch = f"{name}.branches.{b}"
      y = F.relu(self._bn(self._conv(x, f"{branch}.0", size), f"{branch}.1"))
      if b == 4:
        y = self._bn(F.max_pool2d(y, (3, 1), (stride, 1), (1, 0)), f"{branch}.4")
      else:
        y = self._bn(self._conv(y, f"{branch}.3.conv", size, 3, stride=(stride, 1),
                                padding=(b + 1, 0), dilation=(b + 1, 1)), f"{branch}.3.bn")
      branches.append(y)
    last = f"{name}.branches.5"
    branches.append(self._bn(self._conv(x, f"{last}.0", sizes[5], stride=(stride, 1)),
                             f"{last}.1"))
    if x.shape[1] != out or stride > 1:
      x = self._bn(self._conv(x, f"{name}.residual.conv", out, stride=(stride, 1)),
                   f"{name}.residual.bn")
    y = torch.cat(branches, 1) + x
    return F.relu(y) if activate else y

  def _window(self, x, name, frames, stride, out):
    n, c, t, v = x.shape
    side = frames // 2
    padded = F.pad(x, (0, 0, side, side))
    y = torch.stack([padded[:, :, i:i + t:stride] for i in range(frames)], 3).flatten(3)
    # Three channels are how the code knows its first block, whose windows widen at once.
    hidden = out if c == 3 else c
    y = self._multi_scale(y, f"{name}.gcn3d.1", self.window_scales, hidden, frames)
    y = y.reshape(n, hidden, -1, frames, v)
    weight = self._array(f"{name}.out_conv.weight", out, hidden, 1, frames, 1)
    y = F.conv3d(y, weight, self._array(f"{name}.out_conv.bias", out))[:, :, :, 0]
    return self._bn(y, f"{name}.out_bn")
