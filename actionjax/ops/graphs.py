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
    raise UserError(f"pairs must be one of listed, all, none, got {pairs!r}")
  for a, b in layout.edges:
    weights[a, b] = weights[b, a] = bone
  np.fill_diagonal(weights, 0)
  return weights


def normalise_symmetric(weights: np.ndarray) -> np.ndarray:
  """D^-1/2 (E + I) D^-1/2, D the row sums of E + I (Kipf and Welling); [J,J] -> float32[J,J]."""
  with_self = weights + np.eye(len(weights), dtype=weights.dtype)
  scale = 1 / np.sqrt(with_self.sum(1))
  return (scale[:, None] * with_self * scale[None]).astype(np.float32)


def centre_joint(layout: Layout) -> str:
  """The joint that partitions by distance count from: the upper end of the spine.

  Shoulder centre where the sensor has one (ST-GCN's NTU graph), else neck (OpenPose), nose
  (COCO) or head. Layouts store their trees from other roots, so that edges are directed here. One
  without any of these, such as a hand, counts from its root, unless it names `graph_centre`.
  """
  if layout.graph_centre is not None:
    return layout.graph_centre
  known = ("shoulder_centre", "neck", "nose", "head")
  return next((joint for joint in known if layout.has(joint)), layout.root)


def binary(layout: Layout) -> np.ndarray:
  """1 where a bone joins two joints, float32[J,J]; symmetric, zero on the diagonal."""
  adjacency = np.zeros((layout.num_joints,) * 2, np.float32)
  for a, b in layout.edges:
    adjacency[a, b] = adjacency[b, a] = 1
  return adjacency


def hops(adjacency: np.ndarray) -> np.ndarray:
  """Number of edges on the shortest way between nodes, [V,V] -> float64[V,V]; inf for no way."""
  neighbour = (adjacency > 0) | np.eye(len(adjacency), dtype=bool)
  reached = np.eye(len(adjacency), dtype=bool)
  distance = np.where(reached, 0.0, np.inf)
  for step in range(1, len(adjacency)):
    wider = (reached.astype(np.float32) @ neighbour) > 0
    distance[wider & ~reached] = step
    reached = wider
  return distance


def normalise_columns(adjacency: np.ndarray) -> np.ndarray:
  """A D^-1 with D the column sums, [V,V] -> float32[V,V]; empty columns stay empty.

  A graph layer sends node v to node w with weight A[v, w]: what a node receives is then a mean.
  """
  total = adjacency.sum(0)
  return (adjacency / np.where(total > 0, total, 1)).astype(np.float32)


def spatial(layout: Layout) -> np.ndarray:
  """Joints themselves, their neighbours towards the centre, those away from it (ST-GCN++).

  Returns:
    float32[3,J,J], [from, to]: identity; inward, where a joint hears its neighbour nearer to
    `centre_joint`; outward, where it hears the farther ones; each column-normalised.
  """
  joined = binary(layout) > 0
  far = hops(joined)[layout.index(centre_joint(layout))]
  inward = joined & (far[:, None] < far[None])
  return np.stack([np.eye(layout.num_joints, dtype=np.float32),
                   normalise_columns(inward), normalise_columns(inward.T)])


def spatial_partition(layout: Layout, reach: int | None = 1) -> np.ndarray:
  """ST-GCN's spatial configuration partition (Yan et al., AAAI 2018, section 3.3).

  The neighbourhood A + I is normalised as a whole and then divided by hop distance to
  `centre_joint`.

  Args:
    reach: distances are told apart up to this many hops, and joints beyond it are all as far.
      The released code counts to 1, so that only joints one or two bones from the centre hear
      anything in the last subset; published weights belong to that. None counts all the way, as
      the paper describes it.

  Returns:
    float32[3,J,J], [from, to]: the joint itself; a neighbour farther from the centre or as far;
    a neighbour that is nearer.
  """
  joined = binary(layout)
  own = np.eye(layout.num_joints, dtype=np.float32)
  weights = normalise_columns(joined + own)
  far = hops(joined)[layout.index(centre_joint(layout))]
  if reach is not None:
    far = np.minimum(far, reach + 1)
  farther = far[:, None] >= far[None]
  return np.stack([weights * own, weights * joined * farther, weights * joined * ~farther])


def multi_scale(adjacency: np.ndarray, scales: int) -> np.ndarray:
  """MS-G3D's disentangled multi-scale graph (Liu et al., CVPR 2020, section 3.2).

  Args:
    adjacency: [V,V], of `binary` or `windowed`.
    scales: K.

  Returns:
    float32[K,V,V]: in scale k a node hears those exactly k hops away, and itself; each
    column-normalised. Scale 0 is the identity.
  """
  distance = hops(adjacency)
  own = np.eye(len(adjacency), dtype=bool)
  return np.stack([normalise_columns((distance == k) | own) for k in range(scales)])


def windowed(adjacency: np.ndarray, frames: int) -> np.ndarray:
  """MS-G3D's spatial-temporal graph of a window (section 3.3).

  float32[V,V] -> float32[frames*V,frames*V], A + I tiled: a joint neighbours itself and its
  neighbours in every frame of the window.
  """
  return np.tile(adjacency + np.eye(len(adjacency), dtype=np.float32), (frames, frames))
