"""Mean, population standard deviation, range and bootstrap interval of a list of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 5000  # the ends of a 95% interval are then stable to about 2% of its width
SEED = 0  # the interval of a table must not change when it is printed again


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> list[float] | None:
    """Percentile bootstrap interval [low, high] of the mean (Efron 1979); ``None`` for fewer than 2 values.

    Always the same for the same values: the resampling starts from a fixed seed.
    """
    return None if len(values) < 2 else interval_of(resampled(np.asarray(values, dtype=float)), level)


def resampled(values: np.ndarray, statistic: Callable[..., Any] = np.mean) -> np.ndarray:
    """``statistic`` of `RESAMPLES` draws of cases with replacement; the same draws for the same number of cases.

    Args:
        values: (cases, ...); what belongs to one case is drawn together.
        statistic: of (resamples, cases, ...) along ``axis=1``.

    Returns:
        (resamples, ...), in the units of the statistic.
    """
    cases = len(values)
    draws = np.random.default_rng(SEED).integers(0, cases, (RESAMPLES, cases))
    return np.asarray(statistic(values[draws], axis=1))


def interval_of(resamples: np.ndarray, level: float = 0.95) -> list[float]:
    """The middle part [low, high] of what `resampled` returned for one number."""
    tail = 100 * (1 - level) / 2
    return [float(end) for end in np.percentile(resamples, [tail, 100 - tail])]


def wilcoxon_holm(differences: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, float]]:
    """`signed_rank` of the paired differences of each comparison, and the same after `holm`."""
    return holm({name: signed_rank(values) for name, values in differences.items()})


def signed_rank(differences: Sequence[float]) -> float:
    """p of the two-sided Wilcoxon signed-rank test; 1 where every difference is 0.

    Args:
        differences: one for each case; zeros are split between both signs (Pratt 1959).
    """
    from scipy.stats import wilcoxon

    return float(wilcoxon(differences, zero_method="zsplit").pvalue) if np.any(differences) else 1.0


def student_sample(values: np.ndarray, size: int = 20001) -> np.ndarray:
    """Where the mean may lie, as evenly likely values: quantiles of Student's t about it (Student 1908).

    The right width for few cases, where bootstrap intervals are too narrow: differences of one sign, however few,
    never leave 0 within those.

    Args:
        values: (cases, seeds), see `standard_error`.
    """
    from scipy.stats import t

    error, freedom = standard_error(values)
    return np.asarray(np.mean(values) + error * t.ppf((np.arange(size) + 0.5) / size, freedom))


def student_interval(values: np.ndarray, level: float = 0.95) -> list[float] | None:
    """Student's interval [low, high] of the mean over cases and seeds (`standard_error`); None for a single case."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    error, freedom = standard_error(values)
    half = float(error * t.ppf((1 + level) / 2, freedom))
    return [float(np.mean(values)) - half, float(np.mean(values)) + half]


def standard_error(values: np.ndarray) -> tuple[float, float]:
    """Standard error of a mean over cases and seeds, and its degrees of freedom.

    Both are draws: other cases and other seeds would have given another mean. Each seed meets each case once, so that
    the variances of cases, of seeds and of the rest follow from the mean squares of a two-way layout (Brennan,
    Generalizability Theory, 2001, 3.2), the degrees of freedom from Satterthwaite (1946). A variance of seeds that
    comes out negative is 0. With one seed: over cases alone.

    Args:
        values: (cases, seeds), two cases at least.
    """
    cases, seeds = values.shape
    of_case, of_seed = values.mean(1), values.mean(0)
    if seeds == 1:
        return float(of_case.std(ddof=1)) / cases**0.5, cases - 1
    rest = values - of_case[:, None] - of_seed + values.mean()
    free = np.array([cases - 1, seeds - 1, (cases - 1) * (seeds - 1)])
    squares = np.array([seeds * of_case.var(ddof=1), cases * of_seed.var(ddof=1), (rest**2).sum() / free[2]])
    signs = np.array([1, 1, -1]) if squares[1] > squares[2] else np.array([1, 0, 0])
    total = float(signs @ squares)
    if not total:
        return 0.0, cases - 1
    return (total / values.size) ** 0.5, max(1.0, total**2 / float(((signs * squares) ** 2 / free).sum()))


def paired_difference(runs: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean DSC difference over the same cases and seeds, with Student's interval over both (`standard_error`).

    Args:
        runs: of one row, a run for each seed, with ``case_dice``; ``reference`` those of another, in the same order.
    """
    cases = scored_cases([*runs, *reference])
    apart = [[a["case_dice"][c] - b["case_dice"][c] for a, b in zip(runs, reference, strict=True)] for c in cases]
    return {"dice": float(np.mean(apart)), "ci95": student_interval(np.array(apart)), "cases": len(cases)}


def scored_cases(runs: Sequence[Mapping[str, Any]], key: str = "case_dice") -> list[str]:
    """Cases in which every run had something to score; ``key`` of a run holds case -> score."""
    return [case for case in runs[0][key] if all(run[key].get(case) is not None for run in runs)]


def pitman_morgan(first: np.ndarray, second: np.ndarray) -> float:
    """p of the two-sided test that two paired samples spread alike: of no correlation between sum and difference.

    Pitman (1939) and Morgan (1939); 1 where sums or differences do not vary.
    """
    from scipy.stats import pearsonr

    total, apart = first + second, first - second
    varies = min(np.ptp(total), np.ptp(apart)) > 1e-9  # more than rounding does
    return float(pearsonr(total, apart).pvalue) if varies else 1.0


def holm(raw: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """(p, p after Holm's step-down correction) for each comparison."""
    corrected, highest = {}, 0.0
    for rank, name in enumerate(sorted(raw, key=lambda n: raw[n])):
        highest = max(highest, min(1.0, raw[name] * (len(raw) - rank)))
        corrected[name] = (raw[name], highest)
    return {name: corrected[name] for name in raw}


def summarise(name: str, values: Sequence[float | None]) -> dict[str, Any]:
    """``mean_<name>``, ``sd_`` (population), ``min_``, ``max_``, ``mean_<name>_ci95`` of what was scored.

    Values that are ``None`` (not scored) are left out; where nothing is left, every entry is ``None``.
    """
    scored = [value for value in values if value is not None]
    parts: dict[str, Callable[[list[float]], Any]] = {
        "mean": np.mean,
        "sd": np.std,
        "min": np.min,
        "max": np.max,
    }
    summary: dict[str, Any] = {
        f"{part}_{name}": float(function(scored)) if scored else None for part, function in parts.items()
    }
    return summary | {f"mean_{name}_ci95": bootstrap_interval(scored)}
