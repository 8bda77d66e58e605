import csv
import json
from pathlib import Path

import numpy as np
import pytest

from soloatlas.data.files import write_volume
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError
from soloatlas.evaluation import evaluate
from soloatlas.evaluation.cohort import match_files

SHAPE = (12, 10, 8)


def _write(path: Path, boxes: dict[int, slice], shape: tuple[int, int, int] = SHAPE) -> Path:
    array = np.zeros(shape, np.uint8)
    for value, where in boxes.items():
        array[where, 2:6, 2:6] = value
    write_volume(path, array, Grid(shape, np.diag([1.0, 1.0, 2.0, 1.0])))
    return path


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two cases: label 1 perfect in both; label 2 half right in "a", missing in "b"; 9 only predicted."""
    predictions, truth = tmp_path / "predictions", tmp_path / "truth"
    _write(truth / "a.nii.gz", {1: slice(1, 4), 2: slice(5, 9)})
    _write(predictions / "a.nii.gz", {1: slice(1, 4), 2: slice(5, 7)})
    _write(truth / "b.nii.gz", {1: slice(2, 5), 2: slice(6, 8)})
    _write(predictions / "b.nrrd", {1: slice(2, 5), 9: slice(9, 11)})
    return predictions, truth


def test_content(folders: tuple[Path, Path], tmp_path: Path):
    names = tmp_path / "labels.json"
    names.write_text(json.dumps({"1": "liver", "2": "spleen"}))
    content = evaluate(*folders, tmp_path / "out", label_names=names, workers=1)
    cases = content["cases"]
    assert {case: list(scores) for case, scores in cases.items()} == {c: ["1", "2", "9"] for c in "ab"}
    assert cases["a"]["2"]["dice"] == pytest.approx(2 / 3)
    assert [cases["b"][v]["status"] for v in ("1", "2", "9")] == ["scored", "missing", "extra"]
    assert cases["a"]["9"] == {
        **dict.fromkeys(("dice", "hd95_mm", "assd_mm", "nsd")),
        "volume_truth_ml": 0.0,
        "volume_prediction_ml": 0.0,
        "status": "absent",
    }
    assert content["case_means"]["a"]["dice"] == pytest.approx((1 + 2 / 3) / 2)
    assert content["case_means"]["b"]["dice"] == pytest.approx(1 / 3)
    assert content["mean_dice"] == pytest.approx((5 / 6 + 1 / 3) / 2)
    assert content["sd_dice"] == pytest.approx((5 / 6 - 1 / 3) / 2)
    assert (content["min_dice"], content["max_dice"]) == pytest.approx((1 / 3, 5 / 6))
    assert content["mean_hd95_mm"] > content["mean_assd_mm"] > 0
    assert content["counts"] == {
        "cases": 2,
        "labels": 3,
        "scored": 5,
        "missing": 1,
        "extra": 1,
        "unscored": 1,
    }
    spleen = content["labels"]["2"]
    assert spleen["name"] == "spleen" and spleen["missing"] == 1 and spleen["scored"] == 2
    assert spleen["mean_dice"] == pytest.approx(1 / 3)
    assert content["labels"]["9"]["name"] == "label 9"
    assert "NSD at 1 mm" in content["rule"] and "not scored" in content["rule"]
    assert (content["predictions"], content["truth"]) == tuple(str(folder) for folder in folders)


def test_written_tables(folders: tuple[Path, Path], tmp_path: Path):
    content = evaluate(*folders, tmp_path / "out", workers=1)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == content
    with (tmp_path / "out" / "metrics.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 6
    assert list(rows[0]) == [
        *("case", "label", "name", "dice", "hd95_mm", "assd_mm", "nsd"),
        *("volume_truth_ml", "volume_prediction_ml", "status"),
    ]
    half = next(row for row in rows if (row["case"], row["label"]) == ("a", "2"))
    assert float(half["dice"]) == pytest.approx(2 / 3, abs=1e-6)
    assert half["name"] == "label 2" and half["status"] == "scored"
    absent = next(row for row in rows if (row["case"], row["label"]) == ("a", "9"))
    assert absent["dice"] == "" and absent["status"] == "absent"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["metrics.csv", "metrics.json"]


def test_processes_give_the_same(folders: tuple[Path, Path]):
    steps: list[tuple[int, int]] = []
    alone = evaluate(*folders, None, workers=1, progress=lambda done, total: steps.append((done, total)))
    assert evaluate(*folders, None, workers=2) == alone
    assert steps == [(1, 2), (2, 2)]


def test_chosen_and_undrawn_labels(folders: tuple[Path, Path]):
    content = evaluate(*folders, None, labels=[1, 9], not_contoured_if_absent=[9], workers=1)
    assert list(content["labels"]) == ["1", "9"]
    assert content["mean_dice"] == 1.0
    assert content["cases"]["b"]["9"]["status"] == content["cases"]["a"]["9"]["status"] == "not contoured"
    assert content["labels"]["9"]["mean_dice"] is None and content["counts"]["unscored"] == 2
    assert "labels 1, 9" in content["rule"] and "Labels 9 are not scored" in content["rule"]


def test_nothing_scored_is_null(folders: tuple[Path, Path], tmp_path: Path):
    content = evaluate(*folders, tmp_path / "out", labels=[77], not_contoured_if_absent=[77], workers=1)
    assert content["mean_dice"] is None and content["mean_dice_ci95"] is None
    assert "NaN" not in (tmp_path / "out" / "metrics.json").read_text()


def test_labels_that_are_nowhere_are_refused(folders: tuple[Path, Path], tmp_path: Path):
    with pytest.raises(InputError, match="labels 77: in no truth and no prediction"):
        evaluate(*folders, tmp_path / "out", labels=[77], workers=1)
    assert not (tmp_path / "out").exists()


def test_missing_prediction_is_an_error(folders: tuple[Path, Path], tmp_path: Path):
    _write(folders[1] / "c.nii.gz", {1: slice(0, 2)})
    with pytest.raises(InputError, match="no prediction for c"):
        evaluate(*folders, tmp_path / "out", workers=1)
    assert not (tmp_path / "out").exists()


def test_extra_prediction_is_named(folders: tuple[Path, Path]):
    _write(folders[0] / "z.nii.gz", {1: slice(0, 2)})
    assert evaluate(*folders, None, workers=1)["predictions_without_truth"] == ["z"]


def test_grids_must_match(folders: tuple[Path, Path], tmp_path: Path):
    (folders[0] / "b.nrrd").unlink()
    _write(folders[0] / "b.nii.gz", {1: slice(2, 5)}, shape=(12, 10, 9))
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"predictions/b\.nii\.gz.*truth/b\.nii\.gz"):
            evaluate(*folders, tmp_path / "out", workers=workers)
    assert not (tmp_path / "out").exists()


def test_matching(tmp_path: Path):
    one = _write(tmp_path / "p" / "case_0000.nii.gz", {1: slice(1, 2)})
    other = _write(tmp_path / "t" / "case.nii.gz", {1: slice(1, 2)})
    assert match_files(one.parent, other.parent) == ({"case": (one, other)}, [])
    assert match_files(one, other) == ({"case": (one, other)}, [])
    assert match_files(one.parent, other) == ({"case": (one, other)}, [])
    exact = _write(tmp_path / "p" / "case.nii.gz", {1: slice(1, 2)})
    assert match_files(one.parent, other.parent) == ({"case": (exact, other)}, ["case_0000"])
    with pytest.raises(InputError, match="nowhere"):
        match_files(tmp_path / "nowhere", other.parent)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"labels": []}, "empty"),
        ({"labels": [0, 1]}, "label 0"),
        ({"not_contoured_if_absent": [-1]}, "label -1"),
        ({"tolerance_mm": -1.0}, "tolerance"),
        ({"tolerance_mm": float("nan")}, "tolerance"),
    ],
)
def test_wrong_requests(folders: tuple[Path, Path], wrong: dict, says: str):
    with pytest.raises(InputError, match=says):
        evaluate(*folders, None, **wrong)


def test_segmentations_bring_their_names(folders: tuple[Path, Path], tmp_path: Path):
    (folders[0] / "volumes.csv").write_text('case,label,name,ml\na,1,liver,3.5\na,2,"spleen, left",2\n')
    assert evaluate(*folders, None)["labels"]["1"]["name"] == "label 1", "a table that segment did not write"
    (folders[0] / "segment.json").write_text("{}")
    found = {value: label["name"] for value, label in evaluate(*folders, None)["labels"].items()}
    assert found == {"1": "liver", "2": "spleen, left", "9": "label 9"}
    (tmp_path / "names.json").write_text('{"1": "hepar"}')
    given = evaluate(*folders, None, label_names=tmp_path / "names.json")
    assert given["labels"]["1"]["name"] == "hepar" and given["labels"]["2"]["name"] == "label 2"


def test_a_label_to_score_that_is_nowhere_is_told(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture):
    evaluate(*folders, None, labels=[1, 77])
    assert "labels 77: in no truth and no prediction" in caplog.text


def test_united_sides_are_one_structure(tmp_path: Path):
    """Left: 4 slices, all found. Right: 2 slices, none found: 2 * 4 / (6 + 4), not the mean of 1 and 0."""
    truth = _write(tmp_path / "truth/a.nii.gz", {1: slice(0, 4), 2: slice(5, 7), 3: slice(8, 9)})
    found = _write(tmp_path / "found/a.nii.gz", {1: slice(0, 4), 3: slice(8, 9)})
    names = tmp_path / "labels.json"
    names.write_text(json.dumps({"1": "Left-Putamen", "2": "Right-Putamen", "3": "Brain-Stem"}))
    apart = evaluate(found, truth, None, label_names=names)
    one = evaluate(found, truth, None, label_names=names, unite_sides=True)
    assert apart["mean_dice"] == pytest.approx((1 + 0 + 1) / 3)
    assert one["cases"]["a"].keys() == {"1", "3"}
    assert one["cases"]["a"]["1"]["dice"] == pytest.approx(0.8)
    assert one["labels"]["1"]["name"] == "putamen" and one["labels"]["3"]["name"] == "Brain-Stem"
    only = evaluate(found, truth, None, label_names=names, unite_sides=True, labels=[2])
    assert only["mean_dice"] == pytest.approx(0.8), "a right side's value means the structure"
    with pytest.raises(InputError, match="--unite-sides: no structure has a left and a right name"):
        evaluate(found, truth, None, unite_sides=True)
