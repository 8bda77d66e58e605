"""What is told of a user's copy: nothing if it is whole, every problem at once if it is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.abdomen import BCV
from soloatlas.data.cohorts.checking import check_dataset
from soloatlas.data.cohorts.decathlon import MSD
from soloatlas.data.cohorts.oasis import OASIS
from soloatlas.data.cohorts.verse import VERSE20

Write = Callable[..., Path]
TINY_OASIS, TINY_BCV = replace(OASIS, shape=(4, 5, 6)), replace(BCV, shape=(4, 5, 6))


def about(findings: list[Finding], path: Path) -> list[tuple[str, str]]:
    return [(finding.level, finding.problem) for finding in findings if finding.where == str(path)]


def test_a_whole_copy_has_no_problem(neurite: Path) -> None:
    found, findings = check_dataset(TINY_OASIS, neurite)
    assert found is not None and len(found.cases) == 414
    assert findings == []


def test_every_problem_is_told_at_once_errors_first(neurite: Path, write: Write) -> None:
    folders = sorted(neurite.glob("OASIS*"))
    (folders[3] / "aligned_seg35.nii.gz").unlink()
    (folders[4] / "aligned_norm.nii.gz").write_bytes(b"\r\n")
    (folders[5] / "aligned_norm.nii.gz").unlink()
    shifted = np.eye(4)
    shifted[0, 3] = 3
    write(f"neurite/{folders[6].name}/aligned_seg35.nii.gz", (1,), shifted)
    channels = nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), dtype=np.uint8), np.eye(4))
    nibabel.save(channels, folders[7] / "aligned_norm.nii.gz")
    write(f"neurite/{folders[0].name}/aligned_seg35.nii.gz", (1, 2, 77))
    _, findings = check_dataset(TINY_OASIS, neurite)
    levels = [finding.level for finding in findings]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert about(findings, folders[4] / "aligned_norm.nii.gz") == [("error", "cannot be read (2 bytes)")]
    assert about(findings, folders[5] / "aligned_norm.nii.gz") == [("error", "is missing")]
    assert about(findings, folders[6] / "aligned_seg35.nii.gz") == [("error", "not on the grid of its scan")]
    (said,) = about(findings, folders[7] / "aligned_norm.nii.gz")
    assert said[1].startswith("has 4 axes (4 x 5 x 6 x 2)")
    assert about(findings, folders[0] / "aligned_seg35.nii.gz") == [("error", "label values 77 are not the data set's")]
    told = [problem for _, problem in about(findings, neurite)]
    assert told == [
        "scans with labels: 413, expected: 414",
        f"scans without labels: 1, expected: 0 ({folders[3].name})",
    ]
    assert len(findings) == 5 + len(told)


def test_another_size_is_told(neurite: Path) -> None:
    _, findings = check_dataset(OASIS, neurite)
    assert {finding.problem for finding in findings} == {"4 x 5 x 6 voxels, 160 x 192 x 224 are expected"}
    assert len(findings) == 414 and {finding.level for finding in findings} == {"warning"}


def test_a_known_bad_scan_is_named_and_so_are_missing_ones(write: Write, tmp_path: Path) -> None:
    for number in (*range(1, 11), *range(21, 41), *range(61, 71)):
        write(f"L2R_Task1_CT/img{number:04d}_bcv_CT.nii.gz")
        write(f"L2R_Task1_CT/seg{number:04d}_bcv_CT.nii.gz", (1, 2, 3, 4))
    _, findings = check_dataset(TINY_BCV, tmp_path)
    assert [f.problem for f in findings if "img0036" in f.where] == ["another project leaves it out as bad data"]
    assert "scans with labels: 40, expected: 50" in [f.problem for f in findings]
    assert "split paper is short: 10 of 20 in test" in [f.problem for f in findings]
    assert {f.level for f in findings} == {"warning"}


def test_a_label_map_of_other_structures_is_an_error(write: Write, tmp_path: Path) -> None:
    write("v/all/verse500/verse500_CT-ax.nii.gz")
    drawn = write("v/all/verse500/verse500_CT-ax_seg.nii.gz", tuple(range(8, 20)))
    found, findings = check_dataset(VERSE20, tmp_path / "v")
    assert (
        found is not None and "split paper: 1 scans with labels" in findings[0].problem and findings[0].level == "error"
    )
    # The list of centroids says T1 to T12, the map beside it holds nothing of the kind.
    labels = ",".join(f'{{"label": {value}}}' for value in range(8, 20))
    drawn.with_name("verse500_CT-ax_iso-ctd.json").write_text(f"[{labels}]")
    write("v/all/verse500/verse500_CT-ax_seg.nii.gz", (1, 2))
    _, findings = check_dataset(VERSE20, tmp_path / "v")
    assert about(findings, drawn) == [("error", "holds no label of the data set")]


@pytest.mark.parametrize("dataset", [OASIS, MSD], ids=lambda d: d.name)
def test_nothing_there_is_one_error(dataset: object, tmp_path: Path) -> None:
    found, findings = check_dataset(dataset, tmp_path)  # type: ignore[arg-type]
    assert found is None and len(findings) == 1
    assert (findings[0].level, findings[0].where) == ("error", str(tmp_path))
    assert findings[0].problem.startswith("holds none of the expected files; expected ")
