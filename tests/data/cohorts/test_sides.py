"""Left and right: the tables of structures, by name and value."""

from __future__ import annotations

import numpy as np

from soloatlas.data.cohorts.candi import CANDI, CANDI_ROWS, KEPT
from soloatlas.data.cohorts.oasis import OASIS, OASIS_ROWS
from soloatlas.data.cohorts.sides import side_names
from soloatlas.data.labels import label_table, relabel

ROWS = {"Hippocampus": (17, 53), "Brain-Stem": (16,), "Putamen": (12, 51)}


def test_names_of_sides_make_pairs() -> None:
    names = side_names(ROWS)
    assert names == {
        12: "Left-Putamen", 16: "Brain-Stem", 17: "Left-Hippocampus", 51: "Right-Putamen", 53: "Right-Hippocampus",
    }  # fmt: skip
    table = label_table(names, {value: (name, None) for value, name in names.items()})
    assert {(table.values[a], table.values[b]) for a, b in table.pairs} == {(12, 51), (17, 53)}


def test_the_rows_of_table_2_of_os_medseg() -> None:
    pairs = [values for values in OASIS_ROWS.values() if len(values) == 2]
    assert all(right - left == (19 if left <= 10 else 16) for left, right in pairs)
    assert [values for values in OASIS_ROWS.values() if len(values) == 1] == [(11,), (12,), (13,)]
    assert len(OASIS_ROWS) == 19 and list(OASIS.names) == list(range(1, 36))
    assert (OASIS.names[14], OASIS.names[30], OASIS.names[13]) == (
        "Left-Hippocampus",
        "Right-Hippocampus",
        "Brain-Stem",
    )


def test_the_28_structures_of_candi_and_the_16_rows_of_table_4_of_lt_net() -> None:
    left = {2, 3, 4, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 28}
    right = {41, 42, 43, 46, 47, 49, 50, 51, 52, 53, 54, 60}
    assert set(CANDI.names) == set(KEPT) == left | right and len(KEPT) == 28
    assert len(CANDI_ROWS) == 16
    drawn = np.array([0, 2, 5, 26, 28, 30, 44, 58, 60, 62, 99])
    assert relabel(drawn, KEPT).tolist() == [0, 2, 0, 0, 28, 0, 0, 0, 60, 0, 0]
