"""Adjacency matrices of skeleton graphs."""
import numpy as np

from actionjax.errors import UserError
from actionjax.skeletons import Layout

# Pairs of unconnected joints that VPN's released code joins (SPEC: hand R-ankle R, elbow R-knee
# R, elbow L-knee L, hand L-ankle L, hands, elbows).
VPN_PAIRS = (("right_hand", "right_ankle"), ("right_elbow", "right_knee"),
             ("left_elbow", "left_knee"), ("left_hand", "left_ankle"),
             ("right_hand", "left_hand"), ("right_elbow", "left_elbow"))


def vpn_weights(layout: Layout, *, bone: float = 5.0, other: float = 2.0,
                pairs: str = "listed") -> np.ndarray:
  """VPN's edge weights E (Das' thesis, section 4.4, "GCN backbone").

  Args:
    bone: alpha, the weight of a bone.
    other: beta, the weight of an unconnected pair.
    pairs: which unconnected pairs get beta: "listed" (the released code's six, those that the
      layout has), "all" (every pair, the thesis' formula) or "none".

  Returns:
    float32[J,J], symmetric, zero on the diagonal.
  """
  weights = np.zeros((layout.num_joints,) * 2, np.float32)
  if pairs == "all":
    weights[:] = other
  elif pairs == "listed":
    for a, b in VPN_PAIRS:
      if layout.has(a, b):
        i, j = layout.index(a), layout.index(b)
        weights[i, j] = weights[j, i] = other
  elif pairs != "none":
    raise UserError(f"pairs {pairs!r} is none of listed, all, none")
  for a, b in layout.edges:
    weights[a, b] = weights[b, a] = bone
  np.fill_diagonal(weights, 0)
  return weights


def normalise_symmetric(weights: np.ndarray) -> np.ndarray:
  """D^-1/2 (E + I) D^-1/2 with D the row sums of E + I (Kipf and Welling), float32[J,J]."""
  with_self = weights + np.eye(len(weights), dtype=weights.dtype)
  scale = 1 / np.sqrt(with_self.sum(1))
  return (scale[:, None] * with_self * scale[None]).astype(np.float32)
