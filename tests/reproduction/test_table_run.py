"""Tables as data, and a table run for real on a tiny cohort in the shared layout."""

import json
import pathlib
import shutil
from dataclasses import replace

import pytest
from scipy import stats

from soloatlas.data.cohorts import recorded_atlas
from soloatlas.data.study import Study
from soloatlas.devices import power_of_each
from soloatlas.errors import InputError
from soloatlas.evaluation.statistics import paired_difference
from soloatlas.methods import load_method
from soloatlas.reproduction import TABLES, reproduce_table
from soloatlas.reproduction.deviations import deviations
from soloatlas.reproduction.measures import minus_published
from soloatlas.reproduction.published import beside
from soloatlas.reproduction.recipes import COHORTS, Recipe, cohort_study, paper_preset
from soloatlas.reproduction.row_run import (
    Conditions,
    Task,
    registered_alike,
    share_registration,
    tasks_of,
    with_needed_labels,
)
from soloatlas.reproduction.side_by_side import waves
from soloatlas.reproduction.table_run import _notes
from soloatlas.reproduction.verdicts import read_records
from soloatlas.settings import override

TINY = (
    "registration.steps=2",
    "registration.channels=[4,4,4,4]",
    "student.steps=2",
    "student.channels=[4,4,8,8,8]",
    "prepare.spacing=5.0",
    "prepare.align=centre",
)


@pytest.mark.parametrize("key", TABLES)
def test_every_row_is_a_valid_change_of_settings(key):
    table = TABLES[key]
    made = [
        (row.method, str(override(load_method(row.method or table.method).preset("quick"), row.changes)))
        for row in table.rows
    ]
    names = [row.name for row in table.rows]
    assert len(set(names)) == len(names) and table.reference in names
    shown = [(row.stage, row.atlases, row.share) for row in table.rows]
    alike = len(made) - len(set(zip(made, shown, strict=True)))
    assert alike == (key == "os-medseg:figure-7a"), "rows differ; the two curves of Fig. 7a meet in quick's own weights"
    assert all(row.stage in load_method(row.method or table.method).METHOD.stages for row in table.rows)


def test_table_1_stands_beside_the_paper_s_data_of_the_same_kind():
    table = TABLES["os-medseg:table-1"]
    cells = {
        name: {row.name: row.published for row in beside("os-medseg:table-1", table, name).rows}
        for name in ("hippocampus", "bcv-code", "verse20", "verse2020")
    }
    assert cells["hippocampus"] == cells["verse2020"] == {row.name: row.published for row in table.rows}
    assert cells["bcv-code"]["Affine"] == (None, 13.569) and cells["bcv-code"]["U-Net"] == ()
    assert cells["verse20"]["SyN"] == (0.830, 1.794)
    assert beside("os-medseg:table-1", table, "verse20").published_on == "VerSe"
    main = TABLES["os-medseg:main"]
    assert beside("os-medseg:main", main, "bcv") is main


def test_every_cohort_has_a_recorded_atlas():
    assert all(recorded_atlas(name) for name in COHORTS)


def test_paired_differences_have_an_interval_over_cases_and_seeds():
    ours = [{"case_dice": {"a": 0.9, "b": 0.5}}, {"case_dice": {"a": 0.7, "b": 0.7}}]
    theirs = [{"case_dice": {"a": 0.6, "b": 0.5}}, {"case_dice": {"a": 0.6, "b": 0.5}}]
    found = paired_difference(ours, theirs)
    assert found["dice"] == pytest.approx((0.2 + 0.1) / 2)
    assert found["cases"] == 2
    # Both seeds have the mean 0.15: their variance is 0, and the interval is that of the cases' 0.2 and 0.1.
    assert found["ci95"] == pytest.approx(stats.t.interval(0.95, 1, 0.15, 0.05))


def test_a_table_is_run_recorded_and_not_run_again(cohort):
    text = reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), changes=TINY)
    assert "Cosine similarity loss" in text and "0.854" in text
    path = cohort / "results/hippocampus/os-medseg-table-5.json"
    record = json.loads(path.read_text())
    assert [row["name"] for row in record["rows"]] == ["L2 loss", "Cosine similarity loss"]
    assert record["rows"][1]["minus_reference"]["dice"] == 0
    assert {"machine", "versions", "command", "seeds", "split"} <= set(record)
    first = record["rows"][0]["runs"][0]
    assert set(first["case_hd95_mm"]) == set(first["case_small_dice"]) == set(first["case_dice"])
    assert first["segment_s"] > 0 and record["rows"][0]["segment_s"] > 0
    assert "registration.steps=2 (paper: 0)" in record["deviations"]["os-medseg"]
    assert "prepare.spacing=5.0 (paper: None)" in path.with_suffix(".md").read_text()
    assert "mean_dice_without_zeros" in first and "dice_without_zeros" in record["rows"][0]
    runs = {p.name: (p / "weights.safetensors").stat().st_mtime_ns for p in (cohort / "runs/hippocampus").iterdir()}
    assert len(runs) == 2
    again = reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), changes=TINY)
    assert again == text
    after = {p.name: (p / "weights.safetensors").stat().st_mtime_ns for p in (cohort / "runs/hippocampus").iterdir()}
    assert after == runs


def test_a_limited_run_is_known_by_the_power_it_had(cohort):
    table = TABLES["os-medseg:main"]
    (task,) = tasks_of(table, table.rows[0], Conditions(cohort_study("hippocampus", "test")))

    def folder(*changes, power="a chip, 2 cores"):
        return replace(task, conditions=replace(task.conditions, changes=changes, power=power)).folder()

    limit = "loop.minutes=8"
    assert folder() == folder(power="a chip, 1 cores")
    assert folder(limit) == folder(limit) != folder(limit, power="a chip, 1 cores")
    assert power_of_each(2) != power_of_each(1)


def test_a_limited_registration_is_shared_by_runs_of_the_same_power_with_its_time(cohort):
    limited = (*TINY, "loop.minutes=5")  # ends with its steps
    reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), changes=limited)
    runs = cohort / "runs/hippocampus"
    assert len({p.read_bytes() for p in runs.glob("*/checkpoints/register.safetensors")}) == 1
    study = cohort_study("hippocampus", "test")
    here = Conditions(study, changes=(*limited, "hint.weight=3"), power=power_of_each(1))

    def found(method="os-medseg", **more):
        task = Task(method, "student", 0, replace(here, **more))
        return registered_alike(task)

    assert found() is not None and found(power="another chip") is None
    others = tuple(change for change in limited if not change.startswith("student"))
    assert found("dataaug", changes=limited) is None, "its registration has another share of the time"
    assert found("clmorph", changes=others) is None
    assert found("brbs", changes=limited) is None, "it has no stage that registers"


def test_seeds_of_a_method_that_learns_nothing_are_one_run(cohort):
    table, conditions = TABLES["os-medseg:table-1"], Conditions(cohort_study("hippocampus", "test"), seeds=(0, 1))
    rows = {row.method: [task.folder() for task in tasks_of(table, row, conditions)] for row in table.rows}
    assert len(set(rows["rigid"])) == len(set(rows["syn"])) == 1
    assert len(set(rows["unet"])) == len(set(rows["voxelmorph-1"])) == 2


def test_a_tag_keeps_a_record_apart(cohort):
    name = "os-medseg-main-longer.json"
    main = ("os-medseg:main", "hippocampus", cohort / "results", (0,))
    reproduce_table(*main, changes=TINY)
    reproduce_table(*main, changes=(*TINY, "student.steps=3"), tag="longer")
    folder = cohort / "results/hippocampus"
    assert {path.name for path in folder.glob("*.json")} == {"os-medseg-main.json", name}
    assert set(read_records(cohort / "results")) == {"hippocampus", "hippocampus-longer"}
    records = [json.loads((folder / one).read_text()) for one in ("os-medseg-main.json", name)]
    steps = [record["rows"][1]["runs"][0]["steps"] for record in records]
    assert steps == [{"register": 2, "distil": 2}, {"register": 2, "distil": 3}]
    assert "steps made: Atlas labels warped: " in (folder / "os-medseg-main.md").read_text()
    for tag, why in (
        ("a/b", "is part of a file's name"),
        ("2.5mm", "is part of a file's name"),
        ("dev", "names another"),
    ):
        with pytest.raises(InputError, match=f"--tag {tag}: {why}"):
            reproduce_table(*main, tag=tag)
    with pytest.raises(InputError, match="--tag alone: names another record"):
        reproduce_table("os-medseg:alpha", *main[1:], tag="alone")


def test_ours_minus_the_published_cell_has_our_interval():
    runs = [{"case_dice": {"a": 0.9, "b": 0.5}, "structure_case_dice": {"brain": {"a": 0.8, "b": None}}}]
    row = {"published": {"dice": 0.6, "sd": 0.1, "brain": 0.7, "hd95_mm": None}, "runs": runs}
    found = minus_published(row | {"dice": 0.7, "sd": 0.2, "structures": {"brain": 0.8}})
    assert set(found) == {"dice", "sd", "brain"} and found["sd"]["ci95"] is None
    assert found["dice"]["difference"] == pytest.approx(0.1)
    assert found["dice"]["ci95"] == pytest.approx(stats.t.interval(0.95, 1, 0.1, 0.2))
    assert found["brain"] == {"difference": pytest.approx(0.1), "ci95": None}, "one scan has no interval"


def test_a_cohort_stands_beside_the_paper_s_recipe_for_its_kind():
    kinds = {name: paper_preset(name) for name in ("hippocampus", "headneck_openkbp", "bcv-code", "verse20")}
    assert kinds == {
        "hippocampus": "paper",
        "headneck_openkbp": "paper-ct",
        "bcv-code": "paper-ct",
        "verse20": "paper",
    }
    told = deviations(["os-medseg"], "quick", COHORTS["headneck_openkbp"].changes, "paper-ct")["os-medseg"]
    assert "hint.weight=0.1 (paper: 10.0)" in told
    assert not [one for one in told if one.startswith(("registration.similarity", "registration.smoothness"))]


def test_rows_in_their_authors_form_keep_their_losses_on_ct(cohort):
    table, study = TABLES["lt-net:table-5"], cohort_study("hippocampus", "test")
    conditions = Conditions(study, changes=COHORTS["headneck_openkbp"].changes)
    similarity = {
        row.name: task.settings()["registration"]["similarity"]
        for row in table.rows
        for task in tasks_of(table, row, conditions)
        if "registration" in task.settings()
    }
    assert similarity == {"VoxelMorph": "mi", "DataAug": "cc", "LT-Net": "mi"}


def test_a_table_of_both_sides_in_one_needs_names_with_sides_before_it_trains(cohort):
    (cohort / "data/hippocampus/labels.json").write_text('{"1": "one", "2": "two"}')
    with pytest.raises(InputError, match="hippocampus: this table scores left and right as one, and no label has"):
        reproduce_table("lt-net:table-4", "hippocampus", cohort / "results", (0,), changes=TINY[:3])
    assert not (cohort / "runs").exists()


def test_rows_share_one_registration_and_the_default_row_one_run(cohort):
    reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), "dev", TINY)
    registrations = {p.read_bytes() for p in (cohort / "runs/hippocampus").glob("*/checkpoints/register.safetensors")}
    assert len(registrations) == 1
    assert (cohort / "results/hippocampus/os-medseg-table-5-dev.json").exists()


def test_a_registration_of_other_scans_or_another_generation_is_not_shared(cohort):
    reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), "dev", TINY)
    runs = cohort / "runs/hippocampus"
    study = cohort_study("hippocampus", "dev")

    def shared(of=study, method="os-medseg", *more):
        new = more if method != "os-medseg" else ("hint.weight=3",)
        task = Task(method, "student", 0, Conditions(of, "dev", changes=(*TINY, *new)))
        shutil.rmtree(task.folder(), ignore_errors=True)
        share_registration(task)
        return (task.folder() / "checkpoints/register.safetensors").exists()

    assert shared()
    other = Task("os-medseg", "student", 0, Conditions(study, "dev", changes=(*TINY, "hint.weight=3")))
    assert waves([other]) == [[], [[0]]], "it need not wait for another to learn the registration"
    assert not shared(replace(study, atlas=study.atlas_labels))
    assert not shared(replace(study, unlabelled=study.unlabelled[:-1]))
    assert shared(study, "dataaug") and not shared(study, "dataaug", "sampling.atlas=true")
    assert not shared(study, "brbs"), "it learns all in one stage"
    for path in runs.glob("os-*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"generation": 0}))
    assert not shared()


def test_a_pool_with_scans_that_nobody_labelled_still_has_a_bound_and_atlases(tmp_path):
    for name in ("images/a", "images/b", "images/c", "images/d", "labels/a", "labels/c", "labels/d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.nii.gz").touch()
    image = {name: tmp_path / f"images/{name}.nii.gz" for name in "abcd"}
    study = Study("s", image["a"], tmp_path / "labels/a.nii.gz", (image["b"], image["c"], image["d"]))
    bound = with_needed_labels(study, load_method("supervised").METHOD, 1)
    assert [path.name for path in bound.unlabelled] == ["c.nii.gz", "d.nii.gz"]
    assert [path.name for path in bound.pool_labels] == ["c.nii.gz", "d.nii.gz"]
    several = with_needed_labels(study, load_method("mabmis").METHOD, 2)
    assert several.more_atlases == ((image["c"], tmp_path / "labels/c.nii.gz"),)
    assert several.unlabelled == (image["b"], image["d"]) and not several.pool_labels
    assert with_needed_labels(study, load_method("unet").METHOD, 1) == study


def test_runs_side_by_side_give_the_same_table(cohort):
    at_once = reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), changes=TINY, jobs=2)
    record = json.loads((cohort / "results/hippocampus/os-medseg-table-5.json").read_text())
    assert [row["name"] for row in record["rows"]] == ["L2 loss", "Cosine similarity loss"]
    assert all(0 < row["dice"] < 1 for row in record["rows"])
    assert reproduce_table("os-medseg:table-5", "hippocampus", cohort / "results", (0,), changes=TINY) == at_once
    registrations = {p.read_bytes() for p in (cohort / "runs/hippocampus").glob("*/checkpoints/register.safetensors")}
    assert len(registrations) == 1


def test_unknown_tables_and_cohorts_are_refused(tmp_path):
    with pytest.raises(InputError, match="os-medseg:table-3"):
        reproduce_table("os-medseg:table-0", "hippocampus", tmp_path)
    with pytest.raises(InputError, match="brain_malf"):
        reproduce_table("os-medseg:table-3", "heart", tmp_path)


FEW = (
    *(change for change in TINY if not change.startswith("student")),  # no row has one
    "adversary.channels=[4,4,4,4]",
    "groupwise.tree_iterations=[1,1,1]",
    "groupwise.refine_iterations=[1,1,1]",
    "groupwise.rounds=1",
)


def test_rows_of_other_methods_get_the_labels_they_need_and_the_settings_they_have(cohort, monkeypatch):
    table = TABLES["lt-net:table-3"]
    monkeypatch.setitem(TABLES, "lt-net:table-3", replace(table, rows=(table.rows[0], table.rows[-1])))
    monkeypatch.setitem(COHORTS, "hippocampus", Recipe(unlabelled=2))
    split = cohort / "data/hippocampus/split.json"
    parts = json.loads(split.read_text())
    labelled, *others = parts["test"]  # only scans with labels may become a second atlas
    split.write_text(
        json.dumps({"pool": [parts["pool"][0], labelled, parts["pool"][1]], "dev": others, "test": others})
    )
    reproduce_table("lt-net:table-3", "hippocampus", cohort / "results", (0, 1), "dev", FEW)
    record = json.loads((cohort / "results/hippocampus/lt-net-table-3-dev.json").read_text())
    assert [row["method"] for row in record["rows"]] == ["mabmis", "lt-net"]
    assert [[run["seed"] for run in row["runs"]] for row in record["rows"]] == [[0, 1], [0, 1]]
    assert sorted(path.name.rpartition("-")[2] for path in (cohort / "runs/hippocampus").iterdir()) == [
        "seed0", "seed0", "seed1",
    ], "nothing is learnt by mabmis: one run"  # fmt: skip
    runs = {path.parent.name.split("-")[0]: path for path in (cohort / "runs/hippocampus").glob("*/run.json")}
    inputs = json.loads(runs["mabmis"].read_text())["inputs"]
    assert [pathlib.Path(one["path"]).name for one in inputs["more_atlases"]] == [f"{labelled}.nii.gz"] * 2
    assert "more_atlases" not in json.loads(runs["lt"].read_text())["inputs"]


def test_a_change_that_no_row_has_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"regstration.steps=2"):
        reproduce_table("lt-net:table-3", "hippocampus", tmp_path, changes=("regstration.steps=2",))


def test_a_note_says_that_half_a_method_has_a_share_of_the_limit_alone(cohort):
    conditions = Conditions(cohort_study("hippocampus", "test"))
    limited = replace(conditions, changes=("loop.minutes=8",))
    (note,) = _notes(TABLES["os-medseg:main"], limited)
    assert note.startswith("Atlas labels warped: the registration has a share of the limit")
    (syn,) = _notes(TABLES["os-medseg:networks"], limited)
    assert syn.startswith("SyN: SyN's time is no part of the limit")
    assert _notes(TABLES["os-medseg:main"], conditions) == _notes(TABLES["lt-net:table-1"], limited) == []
