"""Distances between the surfaces of two masks, in mm.

The surface of a mask is the set of its voxels with at least one of their 6 neighbours outside the mask; what
lies beyond the array counts as outside. A distance is measured between voxel centres. These are MONAI's
definitions (edges by erosion), so the numbers can be compared; packages that weigh surface elements by area
(DeepMind's surface-distance) differ by a fraction of a voxel.
"""

from __future__ import annotations

import numpy as np

# Voxel axes read from float32 headers carry errors of about 1e-7: a distance of exactly the tolerance
# must not fall on either side of it by chance.
TOLERANCE_SLACK_MM = 1e-4


def surface(mask: np.ndarray) -> np.ndarray:
    """Voxels of ``mask`` (x, y, z, bool) with a 6-neighbour outside the mask or the array; same shape."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        here, values = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        here[1:] &= values[:-1]
        here[:-1] &= values[1:]
        here[0] = here[-1] = False
    return mask & ~inside


def surface_distances(prediction: np.ndarray, truth: np.ndarray, axes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance of every surface voxel of each mask to the nearest surface voxel of the other.

    Args:
        prediction: (x, y, z) bool, not empty.
        truth: (x, y, z) bool, not empty, on the same grid.
        axes: (3, 3), the voxel steps as columns, mm: the affine without its translation, sheared or not.

    Returns:
        Distances prediction to truth and truth to prediction, mm, one per surface voxel, unordered.
    """
    edge_prediction, edge_truth = surface(prediction), surface(truth)
    return (
        _directed(edge_prediction, edge_truth, axes),
        _directed(edge_truth, edge_prediction, axes),
    )


def _directed(start: np.ndarray, goal: np.ndarray, axes: np.ndarray) -> np.ndarray:
    from scipy.spatial import KDTree

    apart = np.argwhere(start & ~goal) @ axes.T  # shared voxels are at distance 0: no search
    shared = int(np.count_nonzero(start & goal))
    if not len(apart):
        return np.zeros(shared)
    # Sliding-midpoint splits: a median split is slow on grid points, which share their coordinates.
    tree = KDTree(np.argwhere(goal) @ axes.T, balanced_tree=False, compact_nodes=False)
    return np.concatenate([np.zeros(shared), tree.query(apart)[0]])


def hd95(forward: np.ndarray, backward: np.ndarray) -> float:
    """Larger of the 95th percentiles (interpolated linearly) of the two directed distances, mm."""
    return float(max(np.percentile(forward, 95), np.percentile(backward, 95)))


def assd(forward: np.ndarray, backward: np.ndarray) -> float:
    """Average symmetric surface distance, mm: the mean over the surface voxels of both masks together."""
    return float((forward.sum() + backward.sum()) / (len(forward) + len(backward)))


def nsd(forward: np.ndarray, backward: np.ndarray, tolerance_mm: float) -> float:
    """Share of the surface voxels of both masks within ``tolerance_mm`` of the other surface, 0 to 1.

    The normalised surface distance (surface Dice) of Nikolov et al. 2018, arXiv:1809.04430, in voxels.
    """
    limit = tolerance_mm + TOLERANCE_SLACK_MM
    near = np.count_nonzero(forward <= limit) + np.count_nonzero(backward <= limit)
    return float(near / (len(forward) + len(backward)))
