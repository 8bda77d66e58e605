"""Displacement fields as files that ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from soloatlas.data.files import write_displacements, write_volume
from soloatlas.prepare import Placement

LPS = np.array([-1.0, -1.0, 1.0])  # times RAS+ vectors, and the other way


def write_field(field: Tensor, placement: Placement, folder: Path, name: str) -> None:
    """Write a field and its Jacobian determinant on the working grid.

    ``<name>_field.nii.gz``: vectors in mm in LPS+ world axes, pointing from the (aligned) scan into the atlas.
    ``<name>_jacobian.nii.gz``: the determinant.

    Args:
        field: (1, 3, x, y, z) on the working grid, voxels.
    """
    from soloatlas.fields import jacobian_determinant

    grid = placement.working
    ras = np.einsum("ij,jxyz->xyzi", grid.affine[:3, :3], field[0].cpu().numpy().astype(np.float64))
    write_displacements(folder / f"{name}_field.nii.gz", ras * LPS, grid)
    write_volume(folder / f"{name}_jacobian.nii.gz", jacobian_determinant(field)[0].cpu().numpy(), grid)


def read_field(path: Path) -> Tensor:
    """A displacement field of a file, (1, 3, x, y, z) on its grid, voxels."""
    import nibabel
    import torch

    image: Any = nibabel.load(path)
    ras = np.asarray(image.dataobj)[:, :, :, 0] * LPS
    in_voxels = np.einsum("ij,xyzj->ixyz", np.linalg.inv(image.affine[:3, :3]), ras)
    return torch.from_numpy(in_voxels)[None].float()


def write_way_to_atlas(field: Tensor, placement: Placement, folder: Path, name: str) -> None:
    """Write ``<name>_to_atlas.nii.gz``: from every voxel of the scan's own grid to the atlas, alignment included.

    Beyond the working grid the field is that of its border.
    """
    write_displacements(folder / f"{name}_to_atlas.nii.gz", way_to_atlas(field, placement) * LPS, placement.native)


def way_to_atlas(field: Tensor, placement: Placement) -> np.ndarray:
    """(x, y, z, 3) on the scan's own grid: mm along RAS+ axes, from there to its place in the atlas's world.

    Args:
        field: (1, 3, x, y, z) on the working grid, voxels.
    """
    from scipy.ndimage import affine_transform

    native, working, to_working = placement.native, placement.working, placement.inverse()
    voxels = np.indices(native.shape).reshape(3, -1)
    there = to_working[:3, :3] @ voxels + to_working[:3, 3:]
    for axis, component in enumerate(field[0].cpu().numpy().astype(np.float64)):
        matrix, offset = to_working[:3, :3], to_working[:3, 3]
        there[axis] += affine_transform(component, matrix, offset, native.shape, order=1, mode="nearest").ravel()
    moved = working.affine[:3, :3] @ there + working.affine[:3, 3:]
    moved -= native.affine[:3, :3] @ voxels + native.affine[:3, 3:]
    return np.asarray(moved.T.reshape(*native.shape, 3))
