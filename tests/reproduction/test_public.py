"""A table on a user's copy of a public data set: the cohort that is made of it, its atlas, and the run."""

import json

import pytest

from soloatlas import pipeline
from soloatlas.data.cohorts.candi import CANDI
from soloatlas.data.cohorts.decathlon import MSD
from soloatlas.data.demo import simulate_cohort
from soloatlas.errors import InputError
from soloatlas.prepare import choose_atlas
from soloatlas.reproduction import reproduce_table
from soloatlas.reproduction.public import RULE, public_cohort, public_study
from soloatlas.runs import read_record

TINY = (
    "registration.steps=2",
    "registration.channels=[4,4,4,4]",
    "student.steps=2",
    "student.channels=[4,4,8,8,8]",
    "prepare.spacing=5.0",
    "prepare.align=centre",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("made"), pool=2, test=4, seed=1, spacing=5.0)


@pytest.fixture
def task(made, tmp_path, monkeypatch):
    """The simulated cohort as a task of the Decathlon: five labelled scans and two others."""
    folder = tmp_path / "Task11_Made"
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True)
    labelled = [(made.atlas, made.atlas_labels), *zip(made.test_images, made.test_labels, strict=True)]
    for number, (image, labels) in enumerate(labelled, start=1):
        (folder / f"imagesTr/made_{number}.nii.gz").write_bytes(image.read_bytes())
        (folder / f"labelsTr/made_{number}.nii.gz").write_bytes(labels.read_bytes())
    for number, image in enumerate(made.unlabelled, start=6):
        (folder / f"imagesTr/made_{number}.nii.gz").write_bytes(image.read_bytes())
    (folder / "dataset.json").write_text(made.label_names.read_text())
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_table_on_a_public_data_set(task, tmp_path):
    text = reproduce_table("os-medseg:table-5", "msd", tmp_path / "results", changes=TINY, data=task)
    assert "Ours on Task11_Made (1 test scans, 5 unlabelled" in text
    assert "\nnote: the scans of imagesTs are not used\n" in text
    record = json.loads((tmp_path / "results/Task11_Made/os-medseg-table-5.json").read_text())
    assert record["cohort"] == "Task11_Made" and record["changes"] == list(TINY)
    assert record["notes"][0].startswith("split by the rule 'every fifth'; ours")
    assert list(record["rows"][0]["runs"][0]["case_dice"]) == ["made_5"]
    settled = json.loads((tmp_path / "runs/cohorts/Task11_Made/split.json").read_text())
    labelled = [task / f"imagesTr/made_{number}.nii.gz" for number in range(1, 5)]
    assert (settled["atlas"], settled["atlas_rule"]) == (choose_atlas(labelled, workers=1)[0][0], RULE)
    # Runs know the scans of a cohort by the names of its links, and give them names of their own.
    run = next(path for path in (tmp_path / "runs/Task11_Made").iterdir())
    inputs = read_record(run)["inputs"]
    assert inputs["unlabelled"][-1]["path"] == str(tmp_path / "runs/cohorts/Task11_Made/images/made_7.nii.gz")
    pairs = pipeline.synthesise(run, tmp_path / "pairs")
    assert len(list((pairs / "images").iterdir())) == 5
    again = reproduce_table("os-medseg:table-5", "msd", tmp_path / "results", changes=TINY, data=task)
    assert again == text


def test_an_atlas_that_is_named_is_kept(task, tmp_path):
    folder = public_cohort(MSD, task, tmp_path / "cohorts", atlas="made_3")
    assert public_cohort(MSD, task, tmp_path / "cohorts") == folder
    settled = json.loads((folder / "split.json").read_text())
    assert (settled["atlas"], settled["atlas_rule"]) == ("made_3", "named by --atlas")
    public_cohort(MSD, task, tmp_path / "cohorts", atlas="made_2")
    assert json.loads((folder / "split.json").read_text())["atlas"] == "made_2"
    with pytest.raises(InputError, match="not a labelled scan of the pool"):
        public_cohort(MSD, task, tmp_path / "cohorts", atlas="made_6")


def test_a_cohort_is_named_after_data_set_and_split(task, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "soloatlas.reproduction.public.public_cohort",
        lambda dataset, data, output, split, progress: asked.append((dataset.name, split)) or output / "none",
    )
    for cohort in ("oasis", "oasis-l2r", "oasis-code", "oasis-l2r-code", "bcv"):
        with pytest.raises(InputError, match="no cohort 'none'"):
            public_study(cohort, task, tmp_path / "cohorts", "test")
    assert asked == [
        ("oasis", None), ("oasis-l2r", None), ("oasis", "code"), ("oasis-l2r", "code"), ("bcv", None),
    ]  # fmt: skip
    for cohort in ("oasis-dev", "brain"):
        with pytest.raises(InputError, match="not a data set"):
            public_study(cohort, task, tmp_path / "cohorts", "test")


def test_a_public_data_set_without_its_files_is_refused(tmp_path):
    with pytest.raises(InputError, match="a public data set needs --data"):
        reproduce_table("os-medseg:table-3", "oasis", tmp_path)
    with pytest.raises(InputError, match="holds none of the expected files"):
        public_cohort(CANDI, tmp_path, tmp_path / "cohorts")
