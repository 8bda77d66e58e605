"""Structures by name, their sides as one, and the printed cells beside them."""

import pytest

from soloatlas.reproduction import TABLES
from soloatlas.reproduction.rendering import as_latex, as_markdown, cells
from soloatlas.reproduction.structures import structure, structure_dice


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
    assert "| 50 % of A_1 \\| B | 0.700 | 2.00 | 0.900 | - | +0.000 [-0.010, +0.020] |" in markdown
    assert markdown.endswith("Note: simulated\n")
    assert r"50 \% of A\_1 | B & 0.700 & 2.00 & 0.900 & - & +0.000 [-0.010, +0.020] \\" in latex
    assert latex.count(r"\toprule") == 1 and r"\begin{tabular}{lrrrrr}" in latex
