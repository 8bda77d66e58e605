"""The settings of each data set give the grid that the paper names."""

from __future__ import annotations

import numpy as np
import pytest

from soloatlas.data.cohorts.catalogue import DATASETS
from soloatlas.data.volume import Grid, Volume
from soloatlas.methods import load_method
from soloatlas.prepare import working_grid
from soloatlas.settings import Prepare, override


def prepare(name: str, *more: str) -> Prepare:
    found: Prepare = override(load_method("os-medseg").preset("paper"), (*DATASETS[name].changes, *more)).prepare
    return found


def axes(codes: str, spacing: float = 1.0) -> np.ndarray:
    """An affine whose voxel axes run to these letters, such as "LIA"."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for column, letter in enumerate(codes):
        row = next(i for i, pair in enumerate(("RL", "AP", "SI")) if letter in pair)
        affine[row, column] = spacing if letter in "RAS" else -spacing
    return affine


def empty(shape: tuple[int, int, int], affine: np.ndarray) -> Volume:
    return Volume(np.zeros(shape, dtype=np.uint8), Grid(shape, affine))


@pytest.mark.parametrize(
    ("name", "codes", "spacing", "expected"),
    [
        ("oasis", "LIA", 1.0, (160, 224, 192)),  # 160 x 192 x 224 to L, I and A
        ("bcv", "RAS", 2.0, (192, 160, 192)),
        ("abdomenctct", "LAS", 2.0, (192, 160, 256)),
    ],
)
def test_scans_that_come_cropped_keep_their_grid(
    name: str, codes: str, spacing: float, expected: tuple[int, int, int]
) -> None:
    shape = DATASETS[name].shape
    assert shape is not None
    working = working_grid(empty(shape, axes(codes, spacing)), prepare(name))
    assert working.shape == expected and working.spacing == (spacing,) * 3


@pytest.mark.parametrize("codes", ["RAS", "PIR", "LPS", "PSL"])
def test_the_thoracic_spine_lies_in_64_96_192_at_2_mm(codes: str) -> None:
    shape = (60, 70, 80)
    atlas, labels = empty(shape, axes(codes, 4.0)), empty(shape, axes(codes, 4.0))
    labels.array[20:40, 10:30, 50:60] = 5
    working = working_grid(atlas, prepare("verse20"), labels)
    assert working.shape == (64, 96, 192) and working.spacing == (2.0, 2.0, 2.0)
    middle = atlas.grid.affine @ np.array([29.5, 19.5, 54.5, 1])
    np.testing.assert_allclose(working.centre(), middle[:3])


def test_the_brain_of_candi_lies_in_160_160_128_of_the_files_voxels() -> None:
    # Coronal slices of 1.5 mm: the third axis of the file runs to the front.
    affine = axes("LSA") @ np.diag([0.9375, 0.9375, 1.5, 1.0])
    atlas, labels = empty((256, 256, 128), affine), empty((256, 256, 128), affine)
    labels.array[60:200, 90:230, 10:120] = 17
    changes = ("prepare.crop=labels", "prepare.size=[160,128,160]")  # as data.cohorts.candi finds for such files
    working = working_grid(atlas, prepare("candi", *changes), labels)
    assert working.shape == (160, 128, 160)
    np.testing.assert_allclose(working.spacing, (0.9375, 1.5, 0.9375))
    inside = np.linalg.solve(working.affine, affine @ np.array([[60, 90, 10, 1], [199, 229, 119, 1]]).T)[:3]
    assert inside.min() >= 0 and (inside.max(axis=1) < working.shape).all()
