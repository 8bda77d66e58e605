"""Both study layouts, loose files, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from soloatlas.data.files import write_volume
from soloatlas.data.study import make_study, read_study
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError


def scan(path: Path, seed: int = 0) -> Path:
    array = np.random.default_rng(seed).integers(0, 255, (3, 4, 5))
    write_volume(path, array, Grid((3, 4, 5), np.eye(4)))
    return path


def own(folder: Path, ending: str = ".nii.gz") -> Path:
    scan(folder / "atlas" / f"image{ending}", 1)
    scan(folder / "atlas" / f"labels{ending}", 2)
    for k in (3, 4):
        scan(folder / "unlabelled" / f"scan{k}{ending}", k)
    return folder


def nnunet(folder: Path, suffix: str = "_0000") -> Path:
    for k in (1, 2, 3):
        scan(folder / "imagesTr" / f"case_00{k}{suffix}.nii.gz", k)
    scan(folder / "labelsTr" / "case_002.nii.gz", 9)
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1}}))
    return folder


def names(paths: tuple[Path, ...]) -> list[str]:
    return [path.name for path in paths]


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
def test_own_layout(tmp_path: Path, ending: str) -> None:
    study = read_study(own(tmp_path / "cohort", ending))
    assert study.name == "cohort"
    assert study.atlas == tmp_path / "cohort" / "atlas" / f"image{ending}"
    assert study.atlas_labels == tmp_path / "cohort" / "atlas" / f"labels{ending}"
    assert names(study.unlabelled) == [f"scan3{ending}", f"scan4{ending}"]
    assert (study.label_names, study.test_images, study.test_labels, study.notes) == (None, (), (), ())


def test_own_layout_with_tests_and_names(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "labels.json").write_text("{}")
    for k in (8, 7):
        scan(tmp_path / "test" / "images" / f"t{k}.nii.gz", k)
        scan(tmp_path / "test" / "labels" / f"t{k}.nrrd", k)
    scan(tmp_path / "test" / "labels" / "t9.nii.gz", 9)
    study = read_study(tmp_path)
    assert names(study.test_images) == ["t7.nii.gz", "t8.nii.gz"]
    assert names(study.test_labels) == ["t7.nrrd", "t8.nrrd"]
    assert study.label_names == tmp_path / "labels.json"
    assert len(study.notes) == 1 and "t9.nii.gz has no test image" in study.notes[0]


def test_american_spelling_of_the_pool(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "unlabelled").rename(tmp_path / "unlabeled")
    assert len(read_study(tmp_path).unlabelled) == 2


def test_test_images_need_no_labels_but_all_or_none(tmp_path: Path) -> None:
    own(tmp_path)
    for k in (7, 8):
        scan(tmp_path / "test" / "images" / f"t{k}.nii.gz", k)
    assert read_study(tmp_path).test_labels == ()
    scan(tmp_path / "test" / "labels" / "t7.nii.gz")
    with pytest.raises(InputError, match=r"no labels for 1 test scans \(t8\); add them, or take"):
        read_study(tmp_path)
    scan(tmp_path / "test" / "labels" / "lab_8.nii.gz")
    with pytest.raises(InputError, match=r"\(t8\) \(there are some called lab_8\)"):
        read_study(tmp_path)


@pytest.mark.parametrize("suffix", ["_0000", ""])
def test_nnunet_and_decathlon_layout(tmp_path: Path, suffix: str) -> None:
    nnunet(tmp_path, suffix)
    scan(tmp_path / "imagesTs" / f"case_004{suffix}.nii.gz", 4)
    scan(tmp_path / "labelsTs" / "case_004.nii.gz", 5)
    study = read_study(tmp_path)
    assert study.atlas.name == f"case_002{suffix}.nii.gz"
    assert study.atlas_labels == tmp_path / "labelsTr" / "case_002.nii.gz"
    assert names(study.unlabelled) == [f"case_001{suffix}.nii.gz", f"case_003{suffix}.nii.gz"]
    assert study.label_names == tmp_path / "dataset.json"
    assert names(study.test_images) == [f"case_004{suffix}.nii.gz"]
    assert names(study.test_labels) == ["case_004.nii.gz"]


def test_a_number_of_four_digits_is_no_channel_without_nnunets_suffix(tmp_path: Path) -> None:
    for k in (1, 2):
        scan(tmp_path / "imagesTr" / f"case_000{k}.nii.gz", k)
    scan(tmp_path / "labelsTr" / "case_0002.nii.gz", 9)
    study = read_study(tmp_path)
    assert (study.atlas.name, names(study.unlabelled)) == ("case_0002.nii.gz", ["case_0001.nii.gz"])


def test_none_or_several_labelled_cases_are_refused(tmp_path: Path) -> None:
    nnunet(tmp_path)
    scan(tmp_path / "labelsTr" / "case_003.nii.gz", 9)
    with pytest.raises(InputError, match="2 cases of imagesTr have labels"):
        read_study(tmp_path)
    for path in (tmp_path / "labelsTr").iterdir():
        path.rename(path.with_name(f"other_{path.name}"))
    with pytest.raises(InputError, match="0 cases of imagesTr have labels"):
        read_study(tmp_path)


def test_several_channels_are_refused(tmp_path: Path) -> None:
    scan(nnunet(tmp_path) / "imagesTr" / "case_001_0001.nii.gz")
    with pytest.raises(InputError, match="case case_001 has several channels"):
        read_study(tmp_path)


def test_folders_that_are_no_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_study(tmp_path / "none")
    with pytest.raises(InputError, match="not a study"):
        read_study(tmp_path)
    own(tmp_path)
    shutil.rmtree(tmp_path / "unlabelled")
    with pytest.raises(InputError, match="unlabelled: no such folder"):
        read_study(tmp_path)
    (tmp_path / "unlabelled").mkdir()
    with pytest.raises(InputError, match="holds no scan"):
        read_study(tmp_path)
    (tmp_path / "atlas" / "labels.nii.gz").unlink()
    with pytest.raises(InputError, match=r"atlas: holds no labels\.nii\.gz"):
        read_study(tmp_path)


def test_loose_files(tmp_path: Path) -> None:
    own(tmp_path)
    (tmp_path / "atlas" / "dataset.json").write_text("{}")
    atlas = (tmp_path / "atlas" / "image.nii.gz", tmp_path / "atlas" / "labels.nii.gz")
    study = make_study(*atlas, tmp_path / "unlabelled")
    assert (study.atlas, study.atlas_labels) == atlas
    assert names(study.unlabelled) == ["scan3.nii.gz", "scan4.nii.gz"]
    assert study.label_names == tmp_path / "atlas" / "dataset.json"
    assert (study.name, study.notes) == ("unlabelled", ())
    (tmp_path / "my.txt").write_text("x")
    given = make_study(*map(str, atlas), str(tmp_path / "unlabelled"), str(tmp_path / "my.txt"), "mine")
    assert (given.name, given.label_names) == ("mine", tmp_path / "my.txt")


def test_the_atlas_and_its_labels_are_left_out_of_the_pool_and_this_is_said(tmp_path: Path) -> None:
    own(tmp_path)
    pool, atlas, labels = (tmp_path / p for p in ("unlabelled", "atlas/image.nii.gz", "atlas/labels.nii.gz"))
    shutil.copy(atlas, pool / "under_another_name.nii.gz")
    shutil.copy(labels, pool / "its_labels.nii.gz")
    for study in (make_study(atlas, labels, pool), read_study(tmp_path)):
        assert names(study.unlabelled) == ["scan3.nii.gz", "scan4.nii.gz"]
        assert len(study.notes) == 2
        assert "its_labels.nii.gz is the atlas's labels: left out" in study.notes[0]
        assert "under_another_name.nii.gz is the atlas: left out" in study.notes[1]


def test_an_atlas_as_large_as_its_labels_is_recognised(tmp_path: Path) -> None:
    for name in ("image.nii", "labels.nii", "pool/other.nii"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.ljust(40).encode())
    for name in ("image.nii", "labels.nii"):
        shutil.copy(tmp_path / name, tmp_path / "pool")
    study = make_study(tmp_path / "image.nii", tmp_path / "labels.nii", tmp_path / "pool")
    assert names(study.unlabelled) == ["other.nii"] and len(study.notes) == 2


def test_a_pool_of_the_atlas_alone_is_refused(tmp_path: Path) -> None:
    own(tmp_path)
    labels = tmp_path / "atlas" / "labels.nii.gz"
    with pytest.raises(InputError, match="holds no unlabelled scan"):
        make_study(tmp_path / "atlas" / "image.nii.gz", labels, tmp_path / "atlas")


def test_missing_files_are_refused(tmp_path: Path) -> None:
    own(tmp_path)
    image, labels, pool = (tmp_path / p for p in ("atlas/image.nii.gz", "atlas/labels.nii.gz", "unlabelled"))
    nowhere = tmp_path / "none.nii.gz"
    for arguments in ((nowhere, labels, pool), (image, nowhere, pool), (image, labels, nowhere)):
        with pytest.raises(InputError, match=r"none\.nii\.gz: no such"):
            make_study(*arguments)
    with pytest.raises(InputError, match="no such file of label names"):
        make_study(image, labels, pool, label_names=tmp_path / "none.json")
