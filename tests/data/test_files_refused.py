"""Files that reading must refuse, each with one line that names the file and what is wrong."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from soloatlas.data.files import list_scans, read_labels, read_volume, write_volume
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError

SHAPE = (5, 6, 7)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha")


def image() -> np.ndarray:
    return np.random.default_rng(0).normal(100, 30, SHAPE).astype(np.float32)


def nifti(path: Path, array: np.ndarray) -> Path:
    nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), path)
    return path


def refused(path: Path, match: str) -> None:
    for read in (read_volume, read_labels):
        with pytest.raises(InputError, match=match) as caught:
            read(path)
        message = str(caught.value)
        assert str(path) in message and "\n" not in message


def test_missing_folder_and_unknown_format_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none.nii", "no such file")
    (tmp_path / "folder.nii.gz").mkdir()
    refused(tmp_path / "folder.nii.gz", "is a folder")
    (tmp_path / "scan.dcm").write_bytes(b"x")
    refused(tmp_path / "scan.dcm", "dcm2niix")
    (tmp_path / "empty.nii").touch()
    refused(tmp_path / "empty.nii", "0 bytes")


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    write_volume(path, image(), Grid(SHAPE, np.eye(4)))
    path.write_bytes(path.read_bytes()[:-60])
    refused(path, "cannot be read")


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = nifti(tmp_path / "a.nii.gz", image())
    content = bytearray(path.read_bytes())
    content[-6] ^= 0xFF  # the checksum, behind all data: a reader that stops early would not see it
    path.write_bytes(content)
    refused(path, "cannot be read")


@pytest.mark.parametrize("ending", [*ENDINGS, ".mgz", ".mhd"])
def test_a_file_that_is_something_else_is_refused(
    tmp_path: Path, ending: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(b"this is a letter, not a scan. " * 50)
    refused(path, "cannot be read")
    assert capfd.readouterr().err == ""


def test_4d_2d_and_vectors_are_refused(tmp_path: Path) -> None:
    refused(nifti(tmp_path / "a.nii", np.zeros((4, 4, 4, 3), np.float32)), r"4 axes \(4 x 4 x 4 x 3\)")
    refused(nifti(tmp_path / "b.nii", np.zeros((4, 4), np.float32)), "2 axes")
    write_volume(tmp_path / "c.nrrd", np.zeros((4, 5, 6, 2), np.float32), Grid((4, 5, 6), np.eye(4)))
    refused(tmp_path / "c.nrrd", r"4 axes \(4 x 5 x 6 x 2\)")
    SimpleITK.WriteImage(SimpleITK.Image([4, 4, 4, 4], SimpleITK.sitkUInt8), str(tmp_path / "d.mha"))
    refused(tmp_path / "d.mha", "4 axes")


def test_complex_and_colour_are_refused(tmp_path: Path) -> None:
    refused(nifti(tmp_path / "a.nii", np.zeros((4, 4, 4), np.complex64)), "complex")
    colour = np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    refused(nifti(tmp_path / "b.nii", colour), "colour")


@pytest.mark.parametrize("column", [(0, 0, 0), (1, 0, 0), (np.nan, 0, 0)])
def test_an_affine_without_inverse_is_refused(tmp_path: Path, column: tuple[float, ...]) -> None:
    path = nifti(tmp_path / "a.nii", image())
    content = bytearray(path.read_bytes())
    for row, value in enumerate(column):  # srow_x, srow_y, srow_z start at byte 280, 16 bytes each
        content[280 + 16 * row + 4 : 280 + 16 * row + 8] = np.float32(value).tobytes()
    path.write_bytes(content)
    refused(path, "affine")


def test_label_values_must_be_whole_and_not_negative(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[2, 3, 4] = 2.5
    for value, match in (
        (2.5, "2.5 is not a whole"),
        (-1, "-1 is negative"),
        (np.nan, "NaN"),
        (4e9, "above"),
    ):
        labels[2, 3, 4] = value
        with pytest.raises(InputError, match=match):
            read_labels(nifti(tmp_path / "a.nii", labels))


def test_whole_numbers_stored_as_float_are_labels(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.float32)
    labels[1], labels[2] = 2.9999, 207
    found = np.unique(read_labels(nifti(tmp_path / "a.nii", labels)).array)
    assert found.tolist() == [0, 3, 207]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.nii.gz")).write_bytes(b"")
    with pytest.raises(InputError, match=r"caf.*its name is not UTF-8; rename it"):
        list_scans(tmp_path)
