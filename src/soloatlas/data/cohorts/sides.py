"""Structures with a left and a right side, and the two ways in which the papers make one figure of them.

A table's rows are given as ``{"Hippocampus": (14, 30), "Brain-Stem": (13,)}``: the label value of the left and
of the right side, or of the structure where it has no sides.
"""

from __future__ import annotations

from collections.abc import Mapping

Rows = Mapping[str, tuple[int, ...]]


def side_names(rows: Rows) -> dict[int, str]:
    """Label value to name, rising: "Left-Hippocampus", "Right-Hippocampus", "Brain-Stem"."""
    names = {}
    for row, values in rows.items():
        sides = ("Left-", "Right-") if len(values) == 2 else ("",)
        names.update({value: f"{side}{row}" for side, value in zip(sides, values, strict=True)})
    return dict(sorted(names.items()))


def united(rows: Rows) -> dict[int, int]:
    """Both sides as one structure, for `soloatlas.data.labels.relabel`: the k-th row gets the value k.

    Wang et al. 2020 (LT-Net), Table 4: "Labels consisting of left and right structures are combined".
    """
    return {value: number for number, values in enumerate(rows.values(), start=1) for value in values}


def averaged(scores: Mapping[int, float | None], rows: Rows) -> dict[str, float | None]:
    """The mean of the scores of both sides, row by row.

    Zhou et al. 2024 (OS-MedSeg), Table II: "Scores for symmetrical brain regions are combined".

    Args:
        scores: label value to score; None, or no entry, where a structure was not scored.
        rows: of the table.

    Returns:
        Row to score; None where neither side was scored.
    """
    out: dict[str, float | None] = {}
    for row, values in rows.items():
        known = [score for value in values if (score := scores.get(value)) is not None]
        out[row] = sum(known) / len(known) if known else None
    return out
