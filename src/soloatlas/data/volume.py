"""A scan in memory: an array and where its voxels lie in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_TO_LPS = np.array([-1.0, -1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in the patient.

    Attributes:
        shape: number of voxels along each axis (x, y, z order of the array).
        affine: (4, 4) float64, voxel index to RAS+ world coordinates in mm.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxels along each axis, mm."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    def centre(self) -> np.ndarray:
        """World position of the middle of the grid, (3,) mm."""
        middle = (np.asarray(self.shape) - 1) / 2
        return np.asarray(self.affine[:3, :3] @ middle + self.affine[:3, 3])

    def shear(self) -> float:
        """How far the axes are from right angles: the largest cosine between two of them."""
        axes = self.affine[:3, :3] / np.asarray(self.spacing)
        return float(np.abs(axes.T @ axes - np.eye(3)).max())

    def itk(self) -> tuple[tuple[float, float, float], np.ndarray, np.ndarray]:
        """Spacing, origin (3,) mm and direction (3, 3) as ITK has them: world axes LPS+."""
        lps = _TO_LPS[:, None] * self.affine[:3]
        return self.spacing, lps[:, 3], lps[:, :3] / np.asarray(self.spacing)

    def matches(self, other: Grid, tolerance_mm: float = 1e-2) -> bool:
        """Whether both grids have the same shape and no corner lies further apart than ``tolerance_mm``."""
        return self.shape == other.shape and bool(np.abs(self._apart(other)).max() <= tolerance_mm)

    def difference(self, other: Grid, name: str) -> str:
        """In words, how this grid differs from that of what ``name`` calls: in its size, or in where its voxels lie."""
        if self.shape != other.shape:
            sizes = [" x ".join(map(str, grid.shape)) for grid in (self, other)]
            return f"{sizes[0]} voxels, {name} {sizes[1]}"
        furthest = np.linalg.norm(self._apart(other), axis=1).max()
        return f"its voxels lie up to {furthest:.3g} mm from {name}'s"

    def _apart(self, other: Grid) -> np.ndarray:
        """How far each corner lies from the corner of another grid of the same shape, (8, 3) mm."""
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dtype=float)
        corners[:, :3] *= np.asarray(self.shape) - 1
        return np.asarray((corners @ (self.affine - other.affine).T)[:, :3])


@dataclass(frozen=True, eq=False)
class Volume:
    """A 3-D image or label map with its grid.

    Attributes:
        array: (x, y, z), in the order of the file's own axes.
        grid: where the voxels lie.
        path: the file it came from, for messages.
        header: the file's own header, so that a result can be written as the input was.
    """

    array: np.ndarray
    grid: Grid
    path: Path | None = None
    header: Any = None


def fault_of(scan: Volume) -> str:
    """What makes an image (x, y, z) useless as a scan, in words: not finite, or the same everywhere; "" if nothing."""
    bad = scan.array.size - int(np.count_nonzero(np.isfinite(scan.array)))
    if bad:
        return f"{bad} voxels are NaN or infinite"
    low = float(scan.array.min())
    return f"empty: every voxel is {low:g}" if low == float(scan.array.max()) else ""
