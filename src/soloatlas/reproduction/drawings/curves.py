"""DSC by a setting or by the share of unlabelled scans (OS-MedSeg, Fig. 7): ours beside the published points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.reproduction.drawings.sheet import COLUMN, SERIES, cohort_of
from soloatlas.reproduction.row_run import Finished
from soloatlas.reproduction.rows import Curve, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def draw(sheet: Figure, table: Table, rows: Sequence[Finished]) -> dict[str, Any]:
    """A solid line of ours and a dashed one of the paper's for each curve; places are evenly spaced.

    Returns:
        ``axis``, and ``curves``: for each its ``name``, places ``x``, ``ours`` (mean over seeds), each seed's
        ``seeds`` and ``published``.
    """
    by_name = {finished.row.name: finished for finished in rows}
    curves = [_points(curve, by_name) for curve in table.curves]
    places = sorted({x for curve in curves for x in curve["x"]})
    sheet.set_size_inches(COLUMN, 2.4)
    axes = sheet.add_subplot()
    for curve, colour in zip(curves, SERIES, strict=False):
        _line(axes, curve, [places.index(x) for x in curve["x"]], colour, cohort_of(rows), table.published_on)
    axes.set_xticks(range(len(places)), [f"{x:g}" for x in places])
    axes.set_xlabel(table.axis)
    axes.set_ylabel("DSC")
    axes.grid(True, axis="y")
    axes.legend(frameon=False)
    return {"caption": _caption(table, rows), "axis": table.axis, "curves": curves}


def _points(curve: Curve, rows: Mapping[str, Finished]) -> dict[str, Any]:
    found = [rows[name] for _, name in curve.points]
    seeds = [[run["mean_dice"] for run in finished.runs] for finished in found]
    published = [finished.row.published[0] if finished.row.published else None for finished in found]
    places = [x for x, _ in curve.points]
    if curve.begins_at_0:
        places, seeds, published = [0.0, *places], [[0.0] * len(seeds[0]), *seeds], [0.0, *published]
    return {
        "name": curve.name,
        "x": places,
        "ours": [float(np.mean(values)) for values in seeds],
        "seeds": seeds,
        "published": published,
    }


def _line(axes: Axes, curve: dict[str, Any], at: list[int], colour: str, cohort: str, elsewhere: str) -> None:
    axes.plot(
        at, curve["ours"], "-o", color=colour, markersize=3.5, linewidth=1.3, label=f"{curve['name']}, ours ({cohort})"
    )
    if len(curve["seeds"][0]) > 1:
        for place, values in zip(at, curve["seeds"], strict=True):
            axes.plot([place] * len(values), values, "_", color=colour, markersize=5, markeredgewidth=0.8)
    printed = [(place, value) for place, value in zip(at, curve["published"], strict=True) if value is not None]
    if printed:
        label = f"{curve['name']}, published ({elsewhere})"
        style: Any = {"color": colour, "markersize": 3.5, "linewidth": 0.9, "markerfacecolor": "white"}
        axes.plot(*zip(*printed, strict=True), "--s", label=label, **style)


def _caption(table: Table, rows: Sequence[Finished]) -> str:
    several = " Dashes: single seeds." if len(rows[0].runs) > 1 else ""
    return (
        f"Solid: ours on {cohort_of(rows)}, mean over scans and seeds.{several} Dashed: the paper's on "
        f"{table.published_on}, read off its plot. Values are evenly spaced."
    )
