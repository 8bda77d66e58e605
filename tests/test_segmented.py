"""The lists of a folder of segmentations."""

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from soloatlas.data.files import file_sha256
from soloatlas.errors import InputError
from soloatlas.segmentation import Wishes
from soloatlas.segmented import all_segmented, remove_empty_lists, require_free, write_lists

WISHES = Wishes(stage="student")


def a_case(folder: Path, name: str):
    (folder / f"{name}.nii.gz").write_bytes(b"a map")
    (folder / "scans").mkdir(exist_ok=True)
    (folder / "scans" / f"{name}.nii.gz").write_bytes(name.encode())
    known = file_sha256(folder / "scans" / f"{name}.nii.gz")
    entry = {"case": name, "output": f"{name}.nii.gz", "sha256": known}
    return {**entry, "output_sha256": file_sha256(folder / entry["output"])}, [[1, "liver", 3.5]]


@pytest.fixture
def run(tmp_path):
    return SimpleNamespace(folder=tmp_path / "run")


def cases_in(folder: Path):
    return [case["case"] for case in json.loads((folder / "segment.json").read_text())["cases"]]


def test_calls_side_by_side_lose_nothing_of_each_other(run, tmp_path):
    one, two = tmp_path / "scans/one.nii.gz", tmp_path / "scans/two.nii.gz"
    write_lists(run, WISHES, tmp_path, [], [one])
    write_lists(run, WISHES, tmp_path, [], [two])
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "two")], [two])
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "one")], [one])
    assert cases_in(tmp_path) == ["two", "one"] and all_segmented(run.folder, "student", [one, two], tmp_path)
    assert not all_segmented(run.folder, "register", [one, two], tmp_path)
    assert not all_segmented(tmp_path / "another", "student", [one, two], tmp_path)
    two.write_bytes(b"another scan")
    assert not all_segmented(run.folder, "student", [one, two], tmp_path)
    with (tmp_path / "volumes.csv").open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == ["two", "one"]
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "two")], [two])
    assert cases_in(tmp_path) == ["one", "two"]
    (tmp_path / "one.nii.gz").unlink()
    write_lists(run, WISHES, tmp_path, [], [])
    assert cases_in(tmp_path) == ["two"]


def test_lists_of_nothing_are_taken_away_and_others_kept(run, tmp_path):
    write_lists(run, WISHES, tmp_path, [], [tmp_path / "one.nii.gz"])
    remove_empty_lists(tmp_path)
    assert not (tmp_path / "segment.json").exists() and not (tmp_path / "volumes.csv").exists()
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "one")], [])
    remove_empty_lists(tmp_path)
    assert cases_in(tmp_path) == ["one"]


def test_maps_of_others_are_not_written_over(run, tmp_path):
    scan = tmp_path / "scans/one.nii.gz"
    (tmp_path / "one.nii.gz").write_bytes(b"theirs")
    with pytest.raises(InputError, match=r"holds one\.nii\.gz, which is not of this run"):
        require_free(run, WISHES, [scan], tmp_path)
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "one")], [scan])
    require_free(run, WISHES, [scan], tmp_path)
    with pytest.raises(InputError, match="with stage student, not register"):
        require_free(run, Wishes(stage="register"), [scan], tmp_path)


def test_a_map_corrected_by_hand_is_neither_written_over_nor_taken_for_ours(run, tmp_path):
    one, two = tmp_path / "scans/one.nii.gz", tmp_path / "scans/two.nii.gz"
    write_lists(run, WISHES, tmp_path, [a_case(tmp_path, "one"), a_case(tmp_path, "two")], [one, two])
    assert all_segmented(run.folder, "student", [one, two], tmp_path)
    (tmp_path / "one.nii.gz").write_bytes(b"corrected by hand")
    with pytest.raises(InputError, match=r"one\.nii\.gz was changed after it was segmented; move it or"):
        require_free(run, WISHES, [one, two], tmp_path)
    require_free(run, WISHES, [two], tmp_path)
    assert not all_segmented(run.folder, "student", [one], tmp_path)
    (tmp_path / "one.nii.gz").unlink()
    require_free(run, WISHES, [one, two], tmp_path)
