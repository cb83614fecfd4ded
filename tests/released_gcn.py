"""ST-GCN and ST-GCN++ as PYSKL names their arrays and computes them, in PyTorch's functions alone.

Written from the description of the networks (Yan et al., 2018; Duan et al., 2022): nothing of ours
takes part, and every axis is PyTorch's [N,C,T,V].
"""
import numpy as np
import torch
from torch.nn import functional as F

from tests import references


def state(joints: int, channels: int = 3, persons: int | None = None, subsets: int = 3,
          widths=(12, 12, 24), multi_scale: bool = False, adaptive: str = "init",
          graph: np.ndarray | None = None, classes: int = 5, head: str = "cls_head.fc_cls") -> dict:
  """Numbers for a network.

  Args:
    persons: of the input's statistics (data_bn_type 'MVC'); None for one kind of all ('VC'), 0 for
      no statistics.
    graph: float[K,V,V] that is fixed; None for a random one.
    adaptive: "init" (A is read as it is), "importance" or "offset".
    head: what the classifier is called; "" for none.
  """
  found = {}

  def add(name, *shape):
    found[name] = references.generated(name, shape)

  def conv_bn(conv, bn, o, i, *kernel):
    if conv:
      add(f"{conv}.weight", o, i, *kernel)
      add(f"{conv}.bias", o)
    if bn:
      for leaf in ("weight", "bias", "running_mean", "running_var"):
        add(f"{bn}.{leaf}", o)

  if persons != 0:
    conv_bn("", "backbone.data_bn", joints * channels * (persons or 1), 0)
  random = np.random.default_rng(joints)
  if graph is None:
    graph = random.uniform(size=(subsets, joints, joints)) * (
        random.uniform(size=(subsets, joints, joints)) < 0.2)
  i = channels
  for n, o in enumerate(widths):
    block = f"backbone.gcn.{n}"
    found[f"{block}.gcn.A"] = np.asarray(graph, np.float32)
    if adaptive == "importance":
      learnt = np.where(graph != 0, 1 + 0.3 * random.standard_normal(graph.shape), 0.4)
      found[f"{block}.gcn.PA"] = learnt.astype(np.float32)
    elif adaptive == "offset":
      found[f"{block}.gcn.PA"] = (0.1 * random.standard_normal(graph.shape)).astype(np.float32)
    conv_bn(f"{block}.gcn.conv", "", len(graph) * o, i, 1, 1)
    conv_bn("", f"{block}.gcn.bn", o, 0)
    if multi_scale:
      if i != o:
        conv_bn(f"{block}.gcn.down.0", f"{block}.gcn.down.1", o, i, 1, 1)
      sizes = [o - 5 * (o // 6)] + [o // 6] * 5
      for b, size in enumerate(sizes[:5]):
        conv_bn(f"{block}.tcn.branches.{b}.0", f"{block}.tcn.branches.{b}.1", size, o, 1, 1)
      for b, size in enumerate(sizes[:4]):
        conv_bn(f"{block}.tcn.branches.{b}.3.conv", "", size, size, 3, 1)
      conv_bn(f"{block}.tcn.branches.5", "", sizes[5], o, 1, 1)
      conv_bn(f"{block}.tcn.transform.2", f"{block}.tcn.transform.0", o, o, 1, 1)
      conv_bn("", f"{block}.tcn.bn", o, 0)
    else:
      conv_bn(f"{block}.tcn.conv", f"{block}.tcn.bn", o, o, 9, 1)
    if n and i != o:
      conv_bn(f"{block}.residual.conv", f"{block}.residual.bn", o, i, 1, 1)
    i = o
  if head:
    add(f"{head}.weight", classes, i)
    add(f"{head}.bias", classes)
  return found


def forward(arrays: dict, x: np.ndarray, adaptive: str = "init") -> np.ndarray:
  """Logits [N,classes] of float[N,M,T,V,C]; blocks that widen halve the frames."""
  p = {name.replace("fc_cls", "fc"): torch.tensor(value, dtype=torch.float64)
       for name, value in arrays.items()}
  x = torch.tensor(x, dtype=torch.float64)
  n, m, t, v, c = x.shape

  def bn(x, name):
    return F.batch_norm(x, p[f"{name}.running_mean"], p[f"{name}.running_var"],
                        p[f"{name}.weight"], p[f"{name}.bias"], False, 0, 1e-5)

  def conv(x, name, **kwargs):
    weight = p[f"{name}.weight"]
    return F.conv2d(x, weight, p[f"{name}.bias"], **kwargs)

  x = x.permute(0, 1, 3, 4, 2)
  if "backbone.data_bn.weight" in p:
    each = len(p["backbone.data_bn.weight"]) == v * c
    x = bn(x.reshape(n * m, v * c, t) if each else x.reshape(n, m * v * c, t), "backbone.data_bn")
  x = x.reshape(n * m, v, c, t).permute(0, 2, 3, 1)
  block = 0
  while f"backbone.gcn.{block}.gcn.A" in p:
    name = f"backbone.gcn.{block}"
    out = len(p[f"{name}.gcn.bn.weight"])
    stride = 2 if block and x.shape[1] != out else 1
    graph = p[f"{name}.gcn.A"]
    if adaptive == "importance":
      graph = graph * p[f"{name}.gcn.PA"]
    elif adaptive == "offset":
      graph = graph + p[f"{name}.gcn.PA"]
    parts = conv(x, f"{name}.gcn.conv").reshape(len(x), len(graph), out, *x.shape[2:])
    y = bn(torch.einsum("nkctv,kvw->nctw", parts, graph), f"{name}.gcn.bn")
    multi_scale = f"{name}.tcn.branches.5.weight" in p
    if multi_scale:
      down = f"{name}.gcn.down"
      y = y + (bn(conv(x, f"{down}.0"), f"{down}.1") if f"{down}.0.weight" in p else x)
    y = F.relu(y)
    if multi_scale:
      branches = []
      for b in range(5):
        branch = f"{name}.tcn.branches.{b}"
        z = F.relu(bn(conv(y, f"{branch}.0"), f"{branch}.1"))
        branches.append(F.max_pool2d(z, (3, 1), (stride, 1), (1, 0)) if b == 4 else conv(
            z, f"{branch}.3.conv", stride=(stride, 1), padding=(b + 1, 0), dilation=(b + 1, 1)))
      branches.append(conv(y, f"{name}.tcn.branches.5", stride=(stride, 1)))
      y = F.relu(bn(torch.cat(branches, 1), f"{name}.tcn.transform.0"))
      y = bn(conv(y, f"{name}.tcn.transform.2"), f"{name}.tcn.bn")
    else:
      y = bn(conv(y, f"{name}.tcn.conv", stride=(stride, 1), padding=(4, 0)), f"{name}.tcn.bn")
    if block:
      short = f"{name}.residual"
      y = y + (bn(conv(x, f"{short}.conv", stride=(stride, 1)), f"{short}.bn")
               if f"{short}.conv.weight" in p else x)
    x, block = F.relu(y), block + 1
  pooled = x.reshape(n, m, *x.shape[1:]).mean((1, 3, 4))
  return (pooled @ p["cls_head.fc.weight"].T + p["cls_head.fc.bias"]).numpy()
