"""DSC of each structure by each row (OS-MedSeg, Table II and Fig. 4): a panel a structure, boxes over test scans."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.methods import load_method
from soloatlas.reporting.figures import draw_box, jitter
from soloatlas.reproduction.drawings.sheet import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILION,
    WIDTH,
    cohort_of,
    short,
)
from soloatlas.reproduction.row_run import Finished, Task
from soloatlas.reproduction.rows import Table
from soloatlas.reproduction.structures import structure_case_dice

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACROSS = 5  # panels side by side
MEAN = "mean of all structures"
_COLOURS = {
    "supervised": BLACK,
    "LS": PURPLE,
    "Trad": ORANGE,
    "ABS": BLUE,
    "multi-atlas": BLUE,
    "LRLS": GREEN,
}

ByScan = dict[str, float]  # name of a test scan to DSC


def draw(sheet: Figure, table: Table, rows: Sequence[Finished]) -> dict[str, Any]:
    """Boxes and points of the test scans, coloured by family of methods; a diamond is the paper's cell.

    Returns:
        ``structures``: structure -> row -> test scan -> DSC, sides and seeds averaged; ``published``: structure ->
        row -> the paper's cell.
    """
    values = _by_structure(table, rows)
    printed = {name: _published(table, rows, name) for name in values}
    names = [finished.row.name for finished in rows]
    across = min(ACROSS, len(values))
    lines = -(-len(values) // across)
    sheet.set_size_inches(WIDTH, lines * (0.125 * len(rows) + 0.28) + 0.3)
    lowest = min((v for of in values.values() for row in of.values() for v in row.values()), default=0.0)
    lowest = min([lowest, *(v for of in printed.values() for v in of.values())])
    for place, name in enumerate(values):
        axes = sheet.add_subplot(lines, across, place + 1)
        _panel(axes, [values[name].get(n, {}) for n in names], [printed[name].get(n) for n in names], _colours(rows))
        axes.set_title(name, pad=3)
        axes.set_xlim(max(0.0, lowest - 0.03), 1.0)
        axes.set_yticks(range(len(names)), [short(n) if place % across == 0 else "" for n in names])
        axes.tick_params(axis="y", length=0)
        if place + across >= len(values):
            axes.set_xlabel("DSC")
    return {"caption": _caption(table, rows), "structures": values, "published": printed}


def _panel(axes: Axes, values: Sequence[ByScan], printed: Sequence[float | None], colours: Sequence[str]) -> None:
    for at, (of_row, cell, colour) in enumerate(zip(values, printed, colours, strict=True)):
        scans = list(of_row.values())
        draw_box(axes, scans, at, colour, vertical=False, width=0.7)
        axes.plot(scans, at + jitter(len(scans), 0.25), "o", color=colour, markersize=1.2, markeredgewidth=0, alpha=0.7)
        if cell is not None:
            axes.plot([cell], [at], "D", color=BLACK, markerfacecolor="white", markersize=2.8, markeredgewidth=0.6)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.grid(True, axis="x")


def _by_structure(table: Table, rows: Sequence[Finished]) -> dict[str, dict[str, ByScan]]:
    """The mean first, then the paper's structures in its order, then any others."""
    found: dict[str, dict[str, ByScan]] = {MEAN: {}}
    for finished in rows:
        of_seeds = [_of_run(task) for task in finished.tasks]
        for name in of_seeds[0]:
            found.setdefault(name, {})[finished.row.name] = _mean_of([seed.get(name, {}) for seed in of_seeds])
    order = [name for name in (MEAN, *table.measures) if name in found]
    return {name: found[name] for name in [*order, *sorted(set(found) - set(order))]}


def _of_run(task: Task) -> dict[str, ByScan]:
    """Structure -> test scan -> DSC, left and right averaged, as evaluation wrote it."""
    scores = json.loads((task.scores() / "metrics.json").read_text(encoding="utf-8"))
    labels, cases = scores["labels"], scores["cases"]
    found = {MEAN: {case: score["dice"] for case, score in scores["case_means"].items()}}
    found |= structure_case_dice(labels, cases)
    scored = {name: {case: dice for case, dice in of.items() if dice is not None} for name, of in found.items()}
    return {name: of for name, of in scored.items() if of or name == MEAN}


def _mean_of(seeds: Sequence[Mapping[str, float]]) -> ByScan:
    """Mean over seeds of each scan that all of them have."""
    common = [case for case in seeds[0] if all(case in seed for seed in seeds)]
    return {case: round(float(np.mean([seed[case] for seed in seeds])), 4) for case in common}


def _published(table: Table, rows: Sequence[Finished], name: str) -> dict[str, float]:
    measure = "dice" if name == MEAN else name
    printed = {f.row.name: dict(zip(table.measures, f.row.published, strict=False)).get(measure) for f in rows}
    return {row: cell for row, cell in printed.items() if cell is not None}


def _colours(rows: Sequence[Finished]) -> list[str]:
    """By family; the last row is the paper's own method."""
    families = [load_method(finished.tasks[0].method).METHOD.family for finished in rows]
    return [*(_COLOURS[family] for family in families[:-1]), VERMILION]


def _caption(table: Table, rows: Sequence[Finished]) -> str:
    averaged = "sides and seeds" if len(rows[0].runs) > 1 else "sides"
    return (
        f"DSC of each test scan of {cohort_of(rows)} (points; mean over {averaged}), quartiles and median; "
        f"whiskers reach to 1.5 quartile ranges. Diamonds: published on {table.published_on}, as far as the text kept "
        "them. Black: supervised bound; purple: learnt from the atlas alone; orange: classical registration; blue: "
        "learnt registration; green: registration and segmentation learnt; red: the paper's method."
    )
