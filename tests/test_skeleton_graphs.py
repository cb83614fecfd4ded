"""Graphs of skeletons: subsets, scales and hops, in every layout."""
import numpy as np
import pytest

from actionjax import skeletons
from actionjax.ops import graphs

V1, V2 = (skeletons.layout(name) for name in ("kinect_v1_20", "kinect_v2_25"))
ALL = tuple(skeletons.LAYOUTS.values())


def test_spatial_subsets_are_directed_from_the_centre():
  identity, inward, outward = graphs.spatial(V2)
  np.testing.assert_array_equal(identity, np.eye(25))
  spine, centre = V2.index("spine"), V2.index("shoulder_centre")
  assert inward[centre, spine] == 1 and inward[spine, centre] == 0
  # The shoulder centre hears four neighbours, each a quarter; the head nobody farther.
  neighbours = [V2.index(j) for j in ("spine", "neck", "left_shoulder", "right_shoulder")]
  np.testing.assert_allclose(outward[neighbours, centre], 0.25)
  assert outward[:, V2.index("head")].sum() == 0 and inward[:, centre].sum() == 0


@pytest.mark.parametrize("layout", ALL, ids=lambda layout: layout.name)
def test_graphs_of_every_layout(layout):
  joints = layout.num_joints
  adjacency = graphs.binary(layout)
  assert adjacency.sum() == 2 * (joints - 1)
  np.testing.assert_array_equal(adjacency, adjacency.T)
  subsets = graphs.spatial(layout)
  np.testing.assert_array_equal((subsets > 0).sum(0), adjacency + np.eye(joints))
  whole = adjacency + np.eye(joints)
  for reach in (1, None):
    parts = graphs.spatial_partition(layout, reach)
    np.testing.assert_allclose(parts.sum(0), whole / whole.sum(0), atol=1e-6)
  # Counted all the way, each bone goes once inwards and once outwards; the released code tells
  # apart only the centre, its neighbours and the rest.
  assert [np.count_nonzero(a) for a in parts] == [joints, joints - 1, joints - 1]
  centre = layout.index(graphs.centre_joint(layout))
  once = adjacency[centre] > 0
  near = once | (adjacency @ adjacency[centre] > 0)
  near[centre] = False
  released = graphs.spatial_partition(layout)
  np.testing.assert_array_equal(released[2].any(0), near)
  assert np.count_nonzero(released[2]) == near.sum()
  assert np.count_nonzero(released[1]) == 2 * (joints - 1) - near.sum()


@pytest.mark.parametrize("frames", [1, 3])
def test_scales_are_exact_hop_distances(frames):
  adjacency = graphs.binary(V1) if frames == 1 else graphs.windowed(graphs.binary(V1), frames)
  assert adjacency.shape == (20 * frames,) * 2
  own = np.eye(len(adjacency))
  reach = [np.minimum(np.linalg.matrix_power(adjacency.astype(np.float64) + own, k), 1)
           for k in range(5)]
  scales = graphs.multi_scale(adjacency, 5)
  for k in range(1, 5):
    exact = reach[k] - reach[k - 1] + own
    np.testing.assert_allclose(scales[k], exact / exact.sum(0), atol=1e-6)
  np.testing.assert_array_equal(scales[0], own)


def test_hops_between_unconnected_nodes_are_infinite():
  adjacency = np.zeros((4, 4))
  adjacency[0, 1] = adjacency[1, 0] = 1
  assert graphs.hops(adjacency)[0].tolist() == [0, 1, np.inf, np.inf]
  np.testing.assert_array_equal(graphs.normalise_columns(np.zeros((3, 3))), np.zeros((3, 3)))
