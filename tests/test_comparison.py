"""Methods beside one another on one study, for real and small; statistics against hand-computed values."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from soloatlas.comparison import Request, compare_methods
from soloatlas.comparison.request import changes_for, chosen_methods, chosen_reference, study_for
from soloatlas.comparison.run import field_measures
from soloatlas.comparison.table import cells, compared, header
from soloatlas.data.demo import simulate_cohort
from soloatlas.data.study import with_pool_labels, with_test
from soloatlas.errors import InputError, RunError
from soloatlas.evaluation.statistics import wilcoxon_holm
from soloatlas.methods import load_method

TINY = (
    "registration.steps=2", "registration.channels=[4,4,4,4]", "student.steps=2", "student.channels=[4,4,8,8,8]",
    "prepare.spacing=8", "prepare.align=centre",
)  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("cohort") / "study", pool=2, test=2, seed=0, spacing=5.0)


def test_wilcoxon_and_holm():
    generator = np.random.default_rng(0)
    groups = {"far": generator.normal(1, 0.3, 20), "near": generator.normal(0.1, 1, 20), "same": np.zeros(20)}
    found = wilcoxon_holm({name: list(values) for name, values in groups.items()})
    p = {name: stats.wilcoxon(groups[name]).pvalue for name in ("far", "near")}
    assert found["far"] == pytest.approx((p["far"], 3 * p["far"]))
    assert found["near"] == pytest.approx((p["near"], min(1, 2 * p["near"])))
    assert found["same"] == (1.0, 1.0)


def test_a_reference_that_takes_no_part_is_refused_and_the_first_stands_in(study, tmp_path):
    with pytest.raises(InputError, match="--reference syn: not among"):
        compare_methods(study, ["rigid", "affine"], tmp_path, Request(reference="syn"))
    assert chosen_reference(["rigid", "affine"], "") == "rigid"
    assert chosen_reference(["rigid", "os-medseg"], "") == "os-medseg"


def test_a_comparison_is_run_recorded_and_not_run_again(study, tmp_path):
    request = Request(changes=TINY, reference="resunet", minutes=0.05)
    text = compare_methods(study, ["voxelmorph-1", "resunet"], tmp_path, request)
    assert "voxelmorph-1" in text and "resunet" in text
    record = json.loads((tmp_path / "compare.json").read_text())
    rows = {row["method"]: row for row in record["rows"]}
    assert set(rows) == {"voxelmorph-1", "resunet"}
    assert rows["voxelmorph-1"]["folding_percent"] is not None and rows["resunet"]["folding_percent"] is None
    assert 0 <= rows["voxelmorph-1"]["p_holm"] <= 1 and "p" not in rows["resunet"]
    for row in rows.values():
        assert row["peak_memory_gb"] > 0 and row["train_s"] > 0 and row["segment_s"] > 0
        assert row["min"] <= row["dice"] <= row["max"] and row["sd"] > 0
        assert row["train_s"] >= 3, "as long as was asked for, not as many steps as the settings have"
    with (tmp_path / "compare.csv").open() as file:
        assert [line["method"] for line in csv.DictReader(file)] == [row["method"] for row in record["rows"]]
    page = (tmp_path / "compare.html").read_text()
    assert "<svg" in page and "http" not in page.replace("http://www.w3.org", "")
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/row.json")}
    assert len(made) == 2
    assert compare_methods(study, ["voxelmorph-1", "resunet"], tmp_path, request) == text
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/row.json")} == made


def test_several_atlases_come_from_the_labelled_pool(tmp_path):
    made = simulate_cohort(tmp_path / "study", pool=2, test=1, seed=0, spacing=8.0)
    labelled = replace(made, pool_labels=(made.test_labels[0], made.test_labels[0]))
    request = Request(atlases=2)
    seen = study_for(load_method("mabmis").METHOD, labelled, request)
    assert seen.more_atlases == ((made.unlabelled[0], made.test_labels[0]),)
    assert seen.unlabelled == made.unlabelled[1:] and not seen.pool_labels
    assert not study_for(load_method("unet").METHOD, labelled, request).pool_labels
    assert study_for(load_method("supervised").METHOD, labelled, request) is labelled


def test_changes_reach_the_methods_that_have_the_setting():
    request = Request(changes=TINY, minutes=2)
    assert changes_for("resunet", request) == [*TINY[2:], "loop.minutes=2", "loop.fill=true"]
    assert changes_for("syn", request) == [*TINY[4:], "loop.minutes=2", "loop.fill=true"]
    assert changes_for("os-medseg", Request(changes=TINY)) == list(TINY)


def test_a_change_may_be_for_one_method_alone():
    request = Request(changes=("brbs:student.steps=7", "student.steps=5", "prepare.atlas=a:b"))
    assert changes_for("brbs", request) == ["student.steps=5", "prepare.atlas=a:b", "student.steps=7"]
    assert changes_for("resunet", request) == ["student.steps=5", "prepare.atlas=a:b"]


def test_a_change_for_a_method_that_takes_no_part_is_refused(study, tmp_path):
    request = Request(changes=("brbs:student.steps=7",))
    with pytest.raises(InputError, match="brbs is not among the methods here"):
        compare_methods(study, ["rigid", "resunet"], tmp_path, request)
    with pytest.raises(InputError, match=r"resunet: .*nothing"):
        compare_methods(study, ["rigid", "resunet"], tmp_path, Request(changes=("resunet:student.nothing=1",)))
    assert not any(tmp_path.iterdir())


def test_methods_that_cannot_run_are_left_out_of_all_and_refused_by_name(study, tmp_path, monkeypatch):
    labelled = replace(study, pool_labels=study.test_labels)
    assert "mabmis" not in chosen_methods(labelled, None, Request(atlases=3)), "its atlases would be the whole pool"
    assert "mabmis" in chosen_methods(labelled, None, Request(atlases=2))
    assert "brbs" not in chosen_methods(replace(study, unlabelled=study.unlabelled[:1]), None, Request())
    with pytest.raises(InputError, match="mabmis needs 3 scans in the pool; give more, or fewer --atlases"):
        compare_methods(labelled, ["mabmis"], tmp_path, Request(atlases=3))
    monkeypatch.setattr("soloatlas.methods.util.find_spec", lambda name: None)
    assert not {"rigid", "affine", "syn", "greedy"} & set(chosen_methods(study, None, Request()))
    with pytest.raises(InputError, match=r"syn needs ants; pip install 'soloatlas\[ants\]'"):
        compare_methods(study, ["syn"], tmp_path, Request())


def test_a_scan_with_nothing_to_score_is_left_out():
    first, second = {"x": 0.5, "y": 0.7}, {"x": 0.5, "y": None}
    one = {"method": "a", "dice": 0.6, "case_dice": first, "runs": [{"case_dice": first}]}
    other = {"method": "b", "dice": 0.5, "case_dice": {"x": 0.5}, "runs": [{"case_dice": second}]}
    best, worst = compared([one, other], "b")
    assert best["method"] == "a" and best["minus_reference"]["dice"] == 0 and worst["method"] == "b"


def test_a_difference_on_one_scan_has_no_interval():
    one = {"method": "a", "family": "LS", "dice": 0.6, "case_dice": {"x": 0.6}, "runs": [{"case_dice": {"x": 0.6}}]}
    other = {"method": "b", "family": "LS", "dice": 0.5, "case_dice": {"x": 0.5}, "runs": [{"case_dice": {"x": 0.5}}]}
    best, worst = compared([one, other], "b")
    assert dict(zip(header(), cells(best), strict=True))["DSC minus reference [95 % CI]"] == "+0.100"
    assert dict(zip(header(), cells(worst), strict=True))["DSC minus reference [95 % CI]"] == "-"


def test_what_a_study_lacks_is_named(study, tmp_path):
    with pytest.raises(InputError, match="give --pool-labels"):
        compare_methods(study, ["supervised"], tmp_path, Request())
    with pytest.raises(InputError, match="not a method"):
        compare_methods(study, ["nothing"], tmp_path, Request())
    untested = study.__class__(**{**vars(study), "test_labels": ()})
    with pytest.raises(InputError, match="give --test"):
        compare_methods(untested, None, tmp_path, Request())
    with pytest.raises(InputError, match="go together"):
        with_test(study, tmp_path, None)
    with pytest.raises(InputError, match="no labels for 2 scans of the pool"):
        with_pool_labels(study, study.test_labels[0].parent)


def test_a_method_that_fails_is_named_the_others_are_scored_and_it_is_tried_again(study, tmp_path, monkeypatch):
    import soloatlas.comparison.run as run

    def fail(study, name, seed, folder, request, changes):
        if name == "unet":
            raise RunError("loss term 'dice' is not finite")
        inside(study, name, seed, folder, request, changes)

    inside = run.run_and_measure
    monkeypatch.setattr(run, "_alone", fail)
    request = Request(changes=TINY[2:], reference="resunet")
    with pytest.raises(RunError, match=r"unet failed \(loss term 'dice' is not finite\).*the same command tries again"):
        compare_methods(study, ["unet", "resunet"], tmp_path, request)
    record = json.loads((tmp_path / "compare.json").read_text())
    assert [row["method"] for row in record["rows"]] == ["resunet", "unet"] and record["rows"][0]["dice"] > 0
    assert "not finite" in (tmp_path / "compare.html").read_text()
    assert "unet,LS,," in (tmp_path / "compare.csv").read_text()
    monkeypatch.setattr(run, "_alone", inside)
    assert "failed" not in compare_methods(study, ["unet", "resunet"], tmp_path, request)


def test_what_a_killed_process_left_does_not_stand_in_the_way(study, tmp_path, monkeypatch):
    import soloatlas.comparison.run as run

    class KilledError(Exception):
        pass

    def killed(*given):
        inside(*given)
        folder = given[3]
        (folder / "row.json").unlink()
        (folder / "run.json").unlink()
        raise KilledError

    inside, request = run.run_and_measure, Request(changes=TINY[2:])
    monkeypatch.setattr(run, "_alone", inside)
    whole = compare_methods(study, ["resunet"], tmp_path / "whole", request)
    monkeypatch.setattr(run, "_alone", killed)
    with pytest.raises(KilledError):
        compare_methods(study, ["resunet"], tmp_path / "cut", request)
    assert list((tmp_path / "cut/runs").glob("resunet-*/test"))
    monkeypatch.setattr(run, "_alone", inside)
    again = compare_methods(study, ["resunet"], tmp_path / "cut", request)

    def scores(text):
        return text.splitlines()[-1].split()[:8]  # times differ

    assert scores(again) == scores(whole)


def test_settings_that_one_method_cannot_be_trained_with_are_refused_before_any_is(study, tmp_path):
    wrong = Request(changes=(*TINY, "registration.window=8"))
    with pytest.raises(InputError, match=r"compare: voxelmorph-1: registration.window=8: must be odd"):
        compare_methods(study, ["resunet", "voxelmorph-1"], tmp_path, wrong)
    assert not (tmp_path / "runs").exists()


def test_measures_of_a_saved_field_on_an_oblique_grid(tmp_path):
    import torch

    from soloatlas import fields
    from soloatlas.data.files import write_displacements
    from soloatlas.data.volume import Grid

    field = torch.randn(1, 3, 6, 7, 8, generator=torch.Generator().manual_seed(0))
    turn = np.array([[0.8, -0.6, 0, 4], [0.6, 0.8, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    affine = turn @ np.diag([-1.5, 1.0, 3.0, 1.0])
    world = np.einsum("ij,jxyz->xyzi", affine[:3, :3], field[0].numpy()) * [-1, -1, 1]
    write_displacements(tmp_path / "field.nii.gz", world, Grid((6, 7, 8), affine))
    found = field_measures(tmp_path / "field.nii.gz")
    assert found["folding_percent"] == pytest.approx(100 * float(fields.folding_fraction(field)), abs=0.3)
    assert found["folding_percent"] > 5
    assert found["sd_log_jacobian"] == pytest.approx(float(fields.sd_log_jacobian(field)), rel=0.02)
