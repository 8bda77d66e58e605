"""What the runs of a row say together: means and spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from soloatlas.evaluation.statistics import scored_cases


def row_measures(runs: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """Means over seeds of a row's DSC and HD95; standard deviation, minimum and maximum over cases of the DSC.

    A case's DSC is averaged over seeds first; the deviation is the sample's (divisor n - 1). ``seed_sd`` is the
    deviation of the mean DSC over seeds, ``segment_s`` the seconds that segmenting a scan took.
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
        "sd": float(by_case.std(ddof=1)) if len(cases) > 1 else 0.0,
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
