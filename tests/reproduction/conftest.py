"""A tiny cohort in the shared layout, for tables and figures that are run for real."""

import json
import shutil

import pytest

from soloatlas.data.cohorts import recorded_atlas
from soloatlas.data.demo import simulate_cohort
from soloatlas.reproduction.recipes import COHORTS, Recipe


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """The simulated cohort in the shared layout, under the name of the hippocampus cohort."""
    study = simulate_cohort(tmp_path / "made", pool=3, test=2, seed=1, spacing=5.0)
    folder, atlas = tmp_path / "data/hippocampus", recorded_atlas("hippocampus")
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    shutil.copyfile(study.atlas, folder / f"images/{atlas}.nii.gz")
    shutil.copyfile(study.atlas_labels, folder / f"labels/{atlas}.nii.gz")
    for scan in study.unlabelled:
        shutil.copyfile(scan, folder / "images" / scan.name)
    for scan, truth in zip(study.test_images, study.test_labels, strict=True):
        shutil.copyfile(scan, folder / "images" / scan.name)
        shutil.copyfile(truth, folder / "labels" / truth.name)
    shutil.copyfile(study.label_names, folder / "labels.json")
    test = [scan.name.removesuffix(".nii.gz") for scan in study.test_images]
    pool = [atlas, *(scan.name.removesuffix(".nii.gz") for scan in study.unlabelled)]
    (folder / "split.json").write_text(json.dumps({"pool": pool, "dev": test[:1], "test": test}))
    monkeypatch.setitem(COHORTS, "hippocampus", Recipe(unlabelled=3))
    monkeypatch.setenv("SOLOATLAS_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path
