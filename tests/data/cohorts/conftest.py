"""Tiny files in the layouts of the public data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

Write = Callable[..., Path]
SHAPE = (4, 5, 6)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """``write("a/b.nii.gz", [1, 2])`` makes a scan of 4 x 5 x 6 voxels with these values and zeros."""
    made: dict[tuple[int, ...], bytes] = {}

    def one(name: str, values: tuple[int, ...] = (1,), affine: np.ndarray | None = None) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if affine is not None or values not in made:
            array = np.zeros(SHAPE, dtype=np.uint8)
            array.flat[: len(values)] = values
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
            if affine is not None:
                return path
            made[values] = path.read_bytes()
        path.write_bytes(made[values])
        return path

    return one


@pytest.fixture
def neurite(write: Write, tmp_path: Path) -> Path:
    """All 414 subjects of the Neurite release, ids with gaps; a folder is made of what is in it."""
    labels = tuple(range(1, 36))
    for number in [n for n in range(1, 458) if n % 10 != 8 or n > 430][:414]:
        folder = f"neurite/OASIS_OAS1_{number:04d}_MR1"
        write(f"{folder}/aligned_norm.nii.gz")
        write(f"{folder}/aligned_seg35.nii.gz", labels)
    write("neurite/OASIS_OAS1_0001_MR1/norm.nii.gz")
    (tmp_path / "neurite/subjects.txt").write_text("OASIS_OAS1_0001_MR1\n")
    return tmp_path / "neurite"
