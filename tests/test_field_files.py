"""Saved fields: read and applied by SimpleITK they do what they do here."""

import numpy as np
import pytest
import SimpleITK
import torch

from soloatlas.augmentation import smooth_displacement
from soloatlas.data.files import write_volume
from soloatlas.data.volume import Grid
from soloatlas.field_files import way_to_atlas, write_way_to_atlas
from soloatlas.prepare import Placement


def turned(angle, spacing, origin):
    """Affine of an oblique grid."""
    c, s = np.cos(angle), np.sin(angle)
    affine = np.eye(4)
    affine[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.diag(spacing)
    affine[:3, 3] = origin
    return affine


@pytest.fixture
def placement():
    """An oblique, anisotropic scan whose alignment to the atlas turns, scales and moves it."""
    native = Grid((30, 34, 18), turned(0.2, (-1.9, 1.7, 3.0), (30, -20, -25)))
    working = Grid((32, 32, 32), turned(0.0, (2.0, 2.0, 2.0), (-31, -31, -31)))
    aligned = turned(-0.1, (1.1, 0.95, 1.05), (3.0, -2.0, 1.0))  # a point of the atlas's world to one of the scan's
    return Placement(native, working, np.linalg.inv(native.affine) @ aligned @ working.affine)


def test_without_a_field_the_way_is_the_alignment(placement):
    found = way_to_atlas(torch.zeros(1, 3, 32, 32, 32), placement)
    voxel = np.array([7, 21, 5])
    start = placement.native.affine @ [*voxel, 1]
    end = placement.working.affine @ placement.inverse() @ [*voxel, 1]
    np.testing.assert_allclose(found[tuple(voxel)], (end - start)[:3], atol=1e-9)


def test_simpleitk_takes_the_atlas_to_the_scan_by_one_file(placement, tmp_path):
    field = smooth_displacement((32, 32, 32), 1.5, 8, torch.Generator().manual_seed(0))
    atlas = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    atlas = torch.nn.functional.interpolate(atlas, (32, 32, 32), mode="trilinear", align_corners=True)[0, 0].numpy()
    write_volume(tmp_path / "atlas.nii.gz", atlas, placement.working)
    write_volume(tmp_path / "scan.nii.gz", np.zeros(placement.native.shape, np.float32), placement.native)
    write_way_to_atlas(field, placement, tmp_path, "scan")
    way = SimpleITK.ReadImage(str(tmp_path / "scan_to_atlas.nii.gz"), SimpleITK.sitkVectorFloat64)
    atlas_file, scan = (SimpleITK.ReadImage(str(tmp_path / f"{n}.nii.gz")) for n in ("atlas", "scan"))
    theirs = SimpleITK.Resample(atlas_file, scan, SimpleITK.DisplacementFieldTransform(way), SimpleITK.sitkLinear, -1.0)
    theirs = SimpleITK.GetArrayFromImage(theirs).transpose(2, 1, 0)
    checked = 0
    for voxel in np.ndindex(*placement.native.shape):
        there = (placement.inverse() @ [*voxel, 1])[:3]
        if not all(2 <= x <= 29 for x in there) or theirs[voxel] < 0:
            continue
        moved = there + interpolated(field[0].numpy(), there)
        assert theirs[voxel] == pytest.approx(interpolated(atlas[None], moved)[0], abs=2e-3)
        checked += 1
    assert checked > 3000


def interpolated(array, position):
    """Values (channels) of (channels, x, y, z) at a position, trilinear, by the eight voxels around it."""
    low = np.floor(position).astype(int)
    part, out = position - low, 0.0
    for corner in np.ndindex(2, 2, 2):
        weight = np.prod([p if c else 1 - p for p, c in zip(part, corner, strict=True)])
        out = out + weight * array[(slice(None), *np.minimum(low + corner, np.array(array.shape[1:]) - 1))]
    return out
