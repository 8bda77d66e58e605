"""Structures with a left and a right side, by name and label value.

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
