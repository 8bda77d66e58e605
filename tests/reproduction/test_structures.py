"""Structures by name, their sides as one, and the printed cells beside them."""

import json

import pytest

from soloatlas.data.study import Study
from soloatlas.evaluation import Scoring
from soloatlas.reproduction import TABLES
from soloatlas.reproduction.measures import row_measures
from soloatlas.reproduction.rendering import as_latex, as_markdown, cells, notebook_note
from soloatlas.reproduction.row_run import Conditions
from soloatlas.reproduction.structures import (
    CANDI_STRUCTURES,
    case_dice_of,
    dice_without_zeros,
    labels_of,
    small_structures,
    structure,
    structure_dice,
)
from soloatlas.reproduction.table_run import _scoring


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Left Thalamus Proper", "thalamus"),
        ("Right-Thalamus", "thalamus"),
        ("Left-VentralDC", "ventral dc"),
        ("Left-Inf-Lat-Vent", "inf lat vent"),
        ("Brain-Stem", "brain stem"),
        ("CSF (other)", "csf"),
        ("Right-Accumbens-area", "accumbens area"),
        ("3rd Ventricle", "3rd ventricle"),
    ],
)
def test_cohorts_and_papers_mean_the_same(name, expected):
    assert structure(name) == expected


def test_sides_are_averaged_and_what_was_not_scored_is_left_out():
    labels = {
        "1": {"name": "Left-Caudate", "mean_dice": 0.8},
        "2": {"name": "Right-Caudate", "mean_dice": 0.6},
        "3": {"name": "Brain-Stem", "mean_dice": 0.9},
        "4": {"name": "Left-vessel", "mean_dice": None},
    }
    assert structure_dice(labels) == pytest.approx({"caudate": 0.7, "brain stem": 0.9})


@pytest.mark.parametrize("key", ["os-medseg:table-2", "lt-net:table-4"])
def test_every_row_has_a_cell_or_a_gap_for_each_column(key):
    table = TABLES[key]
    assert all(len(row.published) == len(table.measures) for row in table.rows)


def test_printed_structures_average_to_the_printed_mean_where_none_is_lost():
    whole = next(row for row in TABLES["os-medseg:table-2"].rows if row.name == "Fully supervised").published
    # Sides count twice in the paper's mean over 35 labels; the mean of the columns is close to it.
    assert sum(whole[:-1]) / 19 == pytest.approx(whole[-1], abs=0.01)


def test_structures_are_lines_with_the_published_cell_in_brackets():
    rows = [
        {"name": "A", "dice": 0.7, "structures": {"caudate": 0.81}, "published": {"caudate": 0.9, "dice": None}},
        {"name": "B", "dice": 0.6, "structures": {}, "published": {"caudate": None, "dice": 0.5}},
    ]
    header, lines = cells({"measures": ["caudate", "dice"], "rows": rows})
    assert header == ["structure", "A", "B"]
    assert lines == [["caudate", "0.810 (0.900)", "- (-)"], ["mean", "0.700 (-)", "0.600 (0.500)"]]


def test_a_table_is_written_as_markdown_and_latex():
    row = {
        "name": "50 % of A_1 | B",
        "dice": 0.7,
        "hd95_mm": 2.0,
        "published": {"dice": 0.9, "hd95_mm": None},
        "minus_published": {"dice": {"difference": -0.2, "ci95": [-0.3, -0.1]}},
        "runs": [{"steps": {"distil": 10}}, {"steps": {"distil": 20}}],
        "minus_reference": {"dice": 0.0, "ci95": [-0.01, 0.02]},
    }
    record = {
        "measures": ["dice", "hd95_mm"],
        "rows": [row],
        "notes": ["simulated"],
        **dict.fromkeys(("source", "title", "cohort", "split", "preset", "published_on", "reference"), "x"),
        **dict.fromkeys(("scans", "unlabelled", "seeds"), 1),
    }
    markdown, latex = as_markdown(record), as_latex(record)
    assert (
        "| 50 % of A_1 \\| B | 0.700 | 2.00 | 0.900 | - | -0.200 [-0.300, -0.100] | - | +0.000 [-0.010, +0.020] |"
        in markdown
    )
    assert markdown.endswith("Note: simulated\n\nNote: steps made: 50 % of A_1 | B: distil 15\n")
    cells = r"50 \% of A\_1 | B & 0.700 & 2.00 & 0.900 & - & -0.200 [-0.300, -0.100] & - & +0.000 [-0.010, +0.020] \\"
    assert cells in latex
    assert latex.count(r"\toprule") == 1 and r"\begin{tabular}{lrrrrrrr}" in latex


NAMES = ("Left-Caudate", "Right-Caudate", "Brain-Stem", "Left-vessel", "3rd Ventricle", "CSF", "Left-Pallidum")
LABELS = {str(value): {"name": name} for value, name in enumerate(NAMES, start=1)}


def case(*scored):
    """A case of `evaluation.evaluate`: (DSC, true volume in ml) of each label."""
    return {str(v): {"dice": dice, "volume_truth_ml": ml} for v, (dice, ml) in enumerate(scored, start=1)}


CASES = {
    "a": case((0.8, 4.0), (0.6, 4.0), (0.9, 20.0), (0.0, 0.2), (0.5, 1.0), (0.7, 2.0), (0.4, 1.5)),
    "b": case((0.8, 4.0), (0.8, 4.0), (0.9, 20.0), (None, 0.0), (0.3, 1.0), (0.7, 2.0), (0.0, 1.5)),
}


def test_the_smaller_half_of_the_structures_by_true_volume():
    small = small_structures(LABELS, CASES)
    assert small == ["vessel", "3rd ventricle", "pallidum"]  # 0.2, 1.0 and 1.5 ml; sides of the caudate are one
    assert case_dice_of(small, LABELS, CASES) == {"a": pytest.approx(0.9 / 3), "b": pytest.approx(0.15)}
    few = {value: LABELS[value] for value in ("1", "2", "3")}
    assert small_structures(few, {"a": {value: CASES["a"][value] for value in few}}) == []
    assert case_dice_of([], LABELS, CASES) == {"a": None, "b": None}


def test_the_notebooks_rule_leaves_out_zeros():
    a, b = (0.8 + 0.6 + 0.9 + 0.5 + 0.7 + 0.4) / 6, (0.8 + 0.8 + 0.9 + 0.3 + 0.7) / 5
    assert dice_without_zeros(CASES) == pytest.approx((a + b) / 2)
    assert dice_without_zeros({"a": case((0.0, 1.0)), "b": case((0.5, 1.0), (0.0, 1.0))}) == 0.5
    assert dice_without_zeros({"a": case((0.0, 1.0), (None, 0.0))}) is None


def test_the_notebooks_rule_is_a_footnote():
    runs = [
        {"case_dice": {"a": 0.5, "b": 0.7}, "mean_dice": 0.6, "mean_hd95_mm": 2.0, "mean_dice_without_zeros": zeros}
        for zeros in (0.7, 0.9)
    ]
    assert row_measures(runs)["dice_without_zeros"] == pytest.approx(0.8)
    assert row_measures([{k: v for k, v in runs[0].items() if "zeros" not in k}])["dice_without_zeros"] is None
    rows = [
        {"name": "A", "dice": 0.6, "dice_without_zeros": 0.8},
        {"name": "B", "dice": 0.5, "dice_without_zeros": 0.5},
    ]
    assert notebook_note({"rows": rows}).endswith("(shown only to explain a difference): A 0.800.")
    assert notebook_note({"rows": rows[1:]}).endswith("the same in every row.")
    assert notebook_note({"rows": [{"name": "C", "dice": 0.5}]}) == ""  # a record from before


def test_labels_of_structures_are_those_of_both_sides_or_none_are():
    names = {1: ("Left-Caudate", None), 2: ("Right Caudate", None), 5: ("CSF", None), 7: ("Optic Chiasm", None)}
    assert labels_of(("caudate", "csf"), names) == (1, 2, 5)
    assert labels_of(("caudate", "thalamus"), names) is None, "a mean over some of them would be another mean"
    assert labels_of((), names) is None
    assert labels_of(("caudate", "thalamus"), names, all_of_them=False) == labels_of(("caudate",), names)
    assert labels_of(("thalamus",), names, all_of_them=False) is None


def test_a_table_scores_its_structures_where_the_cohort_has_them(tmp_path):
    study = Study("s", tmp_path / "a", tmp_path / "b", (), label_names=tmp_path / "labels.json")
    names = {str(number + 1): structure for number, structure in enumerate(CANDI_STRUCTURES)}
    table = TABLES["lt-net:table-1"]
    for extra, expected in (({"40": "optic chiasm"}, tuple(range(1, 17))), ({"16": "vermis"}, None)):
        (tmp_path / "labels.json").write_text(json.dumps({**names, **extra}))
        assert _scoring(table, Conditions(study)).labels == expected
        assert _scoring(table, Conditions(study, scoring=Scoring((3,)))).labels == (3,)
        assert _scoring(TABLES["os-medseg:main"], Conditions(study)).labels is None
