"""A public data set as a cohort: links, new label values, split.json; and the cohort as a study."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from soloatlas.data.cohorts import laying_out
from soloatlas.data.cohorts.candi import CANDI
from soloatlas.data.cohorts.laying_out import lay_out, record_atlas
from soloatlas.data.cohorts.oasis import OASIS
from soloatlas.data.cohorts.shared import cohort_changes, shared_cohort
from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.labels import read_label_names
from soloatlas.data.study import read_study
from soloatlas.errors import InputError

Write = Callable[..., Path]


@pytest.fixture
def candi(write: Write, tmp_path: Path) -> Path:
    for number in range(1, 13):
        name = f"HC_{number:03d}"
        write(f"candi/{name}_MR/anat/NIfTI/anat.nii.gz", (number, 7))
        write(f"candi/{name}_MR/{name}_MR_seg/NIfTI/seg.nii.gz", (2, 3, 30, 60))
    return tmp_path / "candi"


def test_scans_are_linked_under_names_of_their_own(candi: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    folder = lay_out(CANDI, candi, tmp_path / "cohorts", progress=lambda *step: steps.append(step))
    assert folder == tmp_path / "cohorts" / "candi"
    image = folder / "images" / "HC_003.nii.gz"
    assert image.is_symlink() and read_volume(image).array.flat[0] == 3
    assert Path(os.path.realpath(image)) == candi / "HC_003_MR/anat/NIfTI/anat.nii.gz"
    assert steps == [(done, 12) for done in range(1, 13)]
    # 30 is not one of the 28 structures. The given label map stays as it is.
    new, old = (read_labels(path).array for path in (folder / "labels/HC_003.nii.gz", next(candi.rglob("seg.nii.gz"))))
    assert new.flat[:4].tolist() == [2, 3, 0, 60] and old.flat[:4].tolist() == [2, 3, 30, 60]
    assert read_label_names(folder / "labels.json")[60] == ("Right-VentralDC", None)


def test_split_json_tells_origin_settings_and_departures(candi: Path, tmp_path: Path) -> None:
    folder = lay_out(CANDI, candi, tmp_path / "cohorts")
    content = json.loads((folder / "split.json").read_text())
    assert content["test"] == ["HC_005", "HC_010"] and len(content["pool"]) == 10 and content["dev"] == []
    assert (content["dataset"], content["layout"], content["split"]) == ("candi", "NITRC", "paper")
    assert cohort_changes(folder) == ("prepare.align=centre", "prepare.crop=labels", "prepare.size=[160,160,128]")
    assert content["notes"][0].startswith("split by the rule 'every fifth'")


def test_the_cohort_is_a_study_once_its_atlas_is_recorded(candi: Path, tmp_path: Path) -> None:
    folder = lay_out(CANDI, candi, tmp_path / "cohorts")
    with pytest.raises(InputError, match=r"candi.split\.json: names no atlas"):
        read_study(folder)
    record_atlas(folder, "HC_002", "by hand")
    study = read_study(folder)
    assert study == shared_cohort("candi", root=folder.parent)
    assert (study.name, study.atlas.name) == ("candi", "HC_002.nii.gz")
    assert len(study.unlabelled) == 9 and study.atlas not in study.unlabelled
    assert [p.name for p in study.test_labels] == ["HC_005.nii.gz", "HC_010.nii.gz"]
    assert any("28" in note for note in study.notes)
    with pytest.raises(InputError, match="no dev scans"):
        shared_cohort("candi", split="dev", root=folder.parent)
    for wrong in ("HC_005", "HC_999"):
        with pytest.raises(InputError, match="not a labelled scan of the pool"):
            record_atlas(folder, wrong, "by hand")


def test_a_complete_cohort_is_not_made_again(candi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = lay_out(CANDI, candi, tmp_path / "cohorts")
    record_atlas(first, "HC_002", "by hand")

    def refuse(*_: object) -> None:
        raise AssertionError("made again")

    monkeypatch.setattr(laying_out, "_place", refuse)
    assert lay_out(CANDI, candi, tmp_path / "cohorts") == first
    assert json.loads((first / "split.json").read_text())["atlas"] == "HC_002"
    candi.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="holds a cohort of other data"):
        lay_out(CANDI, tmp_path / "moved", tmp_path / "cohorts")


def test_an_interrupted_cohort_is_no_cohort_and_is_made_whole(
    candi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lay_out(CANDI, candi, tmp_path / "cohorts", progress=stop)
    assert not (tmp_path / "cohorts/candi/split.json").exists()
    folder = lay_out(CANDI, candi, tmp_path / "cohorts")
    assert len(list((folder / "images").iterdir())) == len(list((folder / "labels").iterdir())) == 12


def test_where_links_cannot_be_made_scans_are_copied(
    candi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    folder = lay_out(CANDI, candi, tmp_path / "cohorts")
    image = folder / "images" / "HC_003.nii.gz"
    assert not image.is_symlink()
    assert image.read_bytes() == (candi / "HC_003_MR/anat/NIfTI/anat.nii.gz").read_bytes()


def test_both_splits_of_oasis_stand_side_by_side(neurite: Path, tmp_path: Path) -> None:
    paper = lay_out(OASIS, neurite, tmp_path / "cohorts")
    code = lay_out(OASIS, neurite, tmp_path / "cohorts", "code")
    assert (paper.name, code.name) == ("oasis", "oasis-code")
    record_atlas(code, "OASIS_OAS1_0001_MR1", "by hand")
    study = shared_cohort("oasis-code", split="dev", root=code.parent)
    assert (len(study.unlabelled), len(study.test_images)) == (334, 40)
    assert (code / "labels/OASIS_OAS1_0001_MR1.nii.gz").is_symlink(), "values stay, so the map is linked"
    assert np.unique(read_labels(study.atlas_labels).array).tolist() == list(range(36))
    with pytest.raises(InputError, match="--split papers: oasis has paper, code"):
        lay_out(OASIS, neurite, tmp_path / "cohorts", "papers")


def test_a_missing_scan_is_named(neurite: Path, tmp_path: Path) -> None:
    gone = sorted(neurite.glob("OASIS*"))[7] / "aligned_norm.nii.gz"
    gone.unlink()
    with pytest.raises(InputError, match="an error; see soloatlas datasets oasis --data") as caught:
        lay_out(OASIS, neurite, tmp_path / "cohorts")
    assert str(caught.value).endswith(f"the first: {gone}: is missing")
    assert not (tmp_path / "cohorts").exists()
