"""Figures of scans made for real on a tiny cohort: from missing runs to the picture, and what a stop leaves."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from soloatlas import pipeline
from soloatlas.data.labels import LabelTable
from soloatlas.data.study import Study
from soloatlas.errors import InputError, RunError
from soloatlas.evaluation import Scoring
from soloatlas.reproduction import FIGURES, TABLES, Row, reproduce_table
from soloatlas.reproduction.drawings import feature_maps, overlays
from soloatlas.reproduction.row_run import Conditions, Task

TINY = (
    "registration.steps=2",
    "registration.channels=[4,4,4,4]",
    "student.steps=2",
    "student.channels=[4,4,8,8,8]",
    "prepare.spacing=5.0",
    "prepare.align=centre",
)
FLAT = (*(change for change in TINY if not change.startswith("student")), "adversary.channels=[4,4,4,4]")
BOTH = (Row("CLMorph", stage="register", published=(0.7,)), Row("OS-MedSeg"))  # of one run


def reproduced(cohort, key, changes=TINY, split="test"):
    text = reproduce_table(key, "hippocampus", cohort / "results", (0,), split, changes)
    stem = cohort / "results/hippocampus" / (key.replace(":", "-") + ("-dev" if split == "dev" else ""))
    assert (
        stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG") and "<svg" in stem.with_suffix(".svg").read_text()
    )
    assert f"]({stem.name}.png)" in stem.with_suffix(".md").read_text() and f"figure: {stem}.png" in text
    return json.loads(stem.with_suffix(".json").read_text()), stem


def written(cohort):
    return {path.parent.name: path.stat().st_mtime_ns for path in cohort.glob("runs/*/*/weights.safetensors")}


def test_overlays_and_boxes_show_the_scores_of_the_runs(cohort, monkeypatch):
    monkeypatch.setitem(FIGURES, "os-medseg:figure-5", replace(FIGURES["os-medseg:figure-5"], rows=BOTH))
    plot = replace(TABLES["os-medseg:figure-4"], rows=BOTH, reference="OS-MedSeg")
    monkeypatch.setitem(TABLES, "os-medseg:figure-4", plot)
    record, _ = reproduced(cohort, "os-medseg:figure-5")
    (shown,) = record["shown"]
    made = written(cohort)
    (run,) = made
    assert record["drawn_from"][0]["runs"] == [f"runs/hippocampus/{run}"]
    metrics = {}
    for row, stage in (("CLMorph", "register"), ("OS-MedSeg", "student")):
        metrics[row] = json.loads((cohort / f"runs/hippocampus/{run}/test-{stage}-scores/metrics.json").read_text())
        assert shown["dice"][row] == metrics[row]["case_means"][shown["scan"]]["dice"]
    assert shown["scan"] == "test_01" and "Fig. 1 shows four of these columns" in record["caption"]
    table, stem = reproduced(cohort, "os-medseg:figure-4")
    assert written(cohort) == made, "both are drawn from one run"
    plotted = json.loads(stem.with_name(f"{stem.name}-plotted.json").read_text())
    assert plotted["published"]["mean of all structures"] == {"CLMorph": 0.7}
    grey = [v for v, label in metrics["OS-MedSeg"]["labels"].items() if "grey" in label["name"]]
    assert len(grey) == 2 and table["rows"][1]["published"]["dice"] is None
    for case, score in plotted["structures"]["grey matter"]["OS-MedSeg"].items():
        sides = [metrics["OS-MedSeg"]["cases"][case][value]["dice"] for value in grey]
        assert score == pytest.approx(sum(sides) / 2, abs=1e-4)


def test_feature_maps_go_on_after_a_stop_and_need_the_teacher(cohort, monkeypatch):
    train, begun = pipeline.train, []

    def stops_at_the_second(*args, **kwargs):
        begun.append(args[1])
        if len(begun) == 2:
            raise RunError("the power is gone")
        return train(*args, **kwargs)

    monkeypatch.setattr(pipeline, "train", stops_at_the_second)
    with pytest.raises(RunError, match="power"):
        reproduced(cohort, "os-medseg:figure-6", split="dev")
    made = written(cohort)
    assert len(made) == 1 and not list(cohort.glob("results/**/*.png"))
    record, _ = reproduced(cohort, "os-medseg:figure-6", split="dev")
    assert made.items() <= written(cohort).items() and len(written(cohort)) == 2
    assert [len(level) for level in record["cosine"]["student"]] == [1 + 4, 1 + 4], "a level and its channels"
    assert set(record["cosine"]) == {"student", "student without teacher"}
    assert all(-1 <= cos <= 1 for network in record["cosine"].values() for level in network for cos in level)
    (cohort / "runs/hippocampus" / next(iter(made)) / "checkpoints/distil.safetensors").unlink()
    with pytest.raises(InputError, match=r"distil.safetensors: cannot be read, and only it holds the teacher"):
        reproduced(cohort, "os-medseg:figure-6", split="dev")
    with pytest.raises(InputError, match=r"trained no teacher \(teacher.enabled=false\)"):
        reproduced(cohort, "os-medseg:figure-6", (*TINY, "teacher=false"), "dev")


def test_warped_atlases_have_the_measures_of_their_runs(cohort):
    record, _ = reproduced(cohort, "lt-net:figure-3", FLAT, "dev")
    assert [shown["scan"] for shown in record["shown"]] == ["scan_01", "scan_02", "scan_03"]
    for row in record["drawn_from"]:
        with (cohort / row["runs"][0] / "fields.csv").open() as file:
            measured = {line.pop("scan"): line for line in csv.DictReader(file)}
        assert ("inverse_error_mm" in measured["scan_01"]) == (row["name"] == "LT-Net"), "one has a way back"
        for shown in record["shown"]:
            found = {key: float(value) for key, value in measured[shown["scan"]].items()}
            assert shown["fields"][row["name"]] == pytest.approx(found, abs=1e-4)


def test_labels_that_are_not_scored_are_not_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = Study("heads", *[tmp_path / "a.nii"] * 2, ())
    task = Task("unet", "student", 0, Conditions(study, scoring=Scoring((3, 9))))
    table = LabelTable((0, 2, 3, 9), ("background", "cord", "gland", "jaw"), ((0, 0, 0),) * 4, ((1, 2),))
    task.folder().mkdir(parents=True)
    (task.folder() / "labels.json").write_text(json.dumps(table.to_json()))
    kept = overlays._scored(task)
    assert (kept.values, kept.names) == ((0, 3, 9), ("background", "gland", "jaw"))
    assert overlays._classes(np.array([[[0, 2, 3, 9, 200]]]), kept).tolist() == [[[0, 0, 1, 2, 0]]]


def test_a_patch_lies_within_the_grid_about_its_centre():
    assert feature_maps._patch((40, 64, 20), (5, 32, 10), ()) == (slice(0, 40), slice(0, 64), slice(0, 20))
    assert feature_maps._patch((40, 64, 20), (5, 32, 10), (32, 32, 32)) == (slice(0, 32), slice(16, 48), slice(0, 32))
