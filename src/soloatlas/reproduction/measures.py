"""What the runs of a row say: means and spread, beside the reference row, and beside the published cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from soloatlas.evaluation.statistics import paired_difference, scored_cases, student_interval

BY_CASE = {"dice": "case_dice", "hd95_mm": "case_hd95_mm"}  # measures that are means over cases


def derive(rows: Sequence[dict[str, Any]], reference: str) -> None:
    """Add to each row of a record what follows from its runs.

    Args:
        rows: with ``name``, ``published`` and ``runs``; ``reference`` is the name of one.
    """
    beside = next(row for row in rows if row["name"] == reference)
    for row in rows:
        row |= row_measures(row["runs"])
        row["structures"] = structure_means(row["runs"])
        row["minus_reference"] = paired_difference(row["runs"], beside["runs"])
        row["minus_published"] = minus_published(row)


def row_measures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Means over seeds of a row's DSC and HD95; standard deviation, minimum and maximum over cases of the DSC.

    A case's DSC is averaged over seeds first; the deviation is the population's. ``seed_sd`` is the
    deviation of the mean DSC over seeds (divisor n - 1), ``segment_s`` the seconds that segmenting a scan took.
    ``dice_without_zeros``: see `structures.dice_without_zeros`.
    """
    cases = scored_cases(runs)
    by_case = np.array([np.mean([run["case_dice"][c] for run in runs]) for c in cases])
    means = [run["mean_dice"] for run in runs]
    others = [run["mean_dice_without_zeros"] for run in runs if run.get("mean_dice_without_zeros") is not None]
    took = [run["segment_s"] for run in runs if "segment_s" in run]
    return {
        "dice": float(np.mean(means)),
        "hd95_mm": float(np.mean([run["mean_hd95_mm"] for run in runs])),
        "sd": float(by_case.std()),
        "min": float(by_case.min()),
        "max": float(by_case.max()),
        "seed_sd": float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
        "segment_s": float(np.mean(took)) if len(took) == len(runs) else None,
        "dice_without_zeros": float(np.mean(others)) if len(others) == len(runs) else None,
    }


def structure_means(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over seeds of each structure's DSC, where every seed has one."""
    names = [name for name in runs[0]["structure_dice"] if all(name in run["structure_dice"] for run in runs)]
    return {name: float(np.mean([run["structure_dice"][name] for run in runs])) for name in names}


def minus_published(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """For each measure with a published cell: ``difference``, ours minus the cell, and ``ci95`` over cases and seeds.

    The interval is None where the measure is no mean over cases, or the runs do not hold its scores.
    """
    found = {}
    for measure, cell in row["published"].items():
        ours = row[measure] if measure in row else row["structures"].get(measure)
        if cell is not None and ours is not None:
            ends = _interval(row["runs"], measure)
            found[measure] = {"difference": ours - cell, "ci95": ends and [end - cell for end in ends]}
    return found


def _interval(runs: Sequence[Mapping[str, Any]], measure: str) -> list[float] | None:
    """Student's interval of a mean over cases and seeds."""
    scores = [
        run.get(BY_CASE[measure]) if measure in BY_CASE else run.get("structure_case_dice", {}).get(measure)
        for run in runs
    ]
    known = [{"scores": of_run} for of_run in scores if of_run]
    if len(known) < len(scores):
        return None
    cases = scored_cases(known, "scores")
    return student_interval(np.array([[run["scores"][case] for run in known] for case in cases])) if cases else None
