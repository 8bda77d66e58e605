"""What recorded results say of the papers' claims: read, paired over scans, resampled, judged. Nothing is trained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas.errors import InputError
from soloatlas.evaluation.statistics import (
    holm,
    interval_of,
    pitman_morgan,
    resampled,
    scored_cases,
    signed_rank,
    student_sample,
)
from soloatlas.methods.os_medseg import REGISTRATION
from soloatlas.reproduction.claims import CLAIMS, Claim, Comparison
from soloatlas.reproduction.records import cohort_of, form_of, recorded_tables

CONFIRMED, NOT_CONFIRMED, OPEN, UNDECIDED = "confirmed", "not confirmed", "open", "undecided"
NOT_MEASURED, NOT_MEANT = "not measured", "not of this cohort"

ERROR = 0.05  # of a claim
ROUNDING = 1e-9  # equal scores, summed in another order, differ by less
LOW = 0.25  # of the scans are the lowest
ENOUGH_SCANS = 6  # with five, differences of one sign come by chance more often than that (2 / 2^5)
ENOUGH_SEEDS, ENOUGH_MINUTES = 3, 7.6  # below either a verdict is preliminary; 8 min, for a limit is met nearly

OF_LOSSES = re.compile(
    r"(weight|pull|every|alpha|beta|dice|balance|similarity|smoothness|distance|transformation|anatomy|difference)="
)


@dataclass(frozen=True)
class Scale:
    """How a measure is read from a run.

    Attributes:
        key: of the run, case -> score.
        statistic: over cases (axis 0, or 1 of resamples).
        sign: -1 where less is better.
        title, digits: as shown.
        test: p of two rows' scores, where the statistic is no mean; None: a signed-rank test fits.
    """

    key: str
    statistic: Callable[..., Any]
    sign: int
    title: str
    digits: int
    test: Callable[[np.ndarray, np.ndarray], float] | None = None


SCALES = {
    "dice": Scale("case_dice", np.mean, 1, "DSC", 3),
    "hd95_mm": Scale("case_hd95_mm", np.mean, -1, "HD95 mm", 2),
    "small": Scale("case_small_dice", np.mean, 1, "DSC of small structures", 3),
    "sd": Scale("case_dice", np.std, -1, "SD of DSC", 3, pitman_morgan),
    "low": Scale("case_dice", np.mean, 1, "DSC of the lowest quarter of scans", 3),
}


@dataclass(frozen=True)
class Finding:
    """One comparison on one cohort.

    Attributes:
        name: of the comparison.
        effect: positive as claimed, in units of the measure; ``ci95`` its interval over scans and seeds.
        interval: the same at the level that Holm's step gives the comparison.
        p, p_holm: of the signed-rank test of a mean, else of the measure's own; corrected within the claim. None
            where the comparison has two borders, or more rows than two of what is no mean.
        status: of this comparison alone, by ``ci95``.
        refuted: whether it lies on the wrong side at the level of Holm's step, too, which makes the claim fail.
    """

    name: str
    effect: float
    ci95: list[float]
    interval: list[float]
    p: float | None
    p_holm: float | None
    status: str
    refuted: bool = False


@dataclass(frozen=True)
class Verdict:
    """What a cohort's records say of a claim.

    Attributes:
        status: see `judge`.
        table: that was read.
        scans, seeds: how many; ``minutes`` of training of the run that trained least, None where none trained.
        preliminary: why the verdict may change with more runs; empty where it is final.
        why: nothing was measured, or nothing can be decided.
        strengths: weights and kinds of the losses that were not the paper's, method by method.
    """

    claim: str
    cohort: str
    status: str
    table: str = ""
    scans: int = 0
    seeds: int = 0
    minutes: float | None = None
    preliminary: str = ""
    why: str = ""
    strengths: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()


Records = dict[str, dict[str, dict[str, Any]]]


def read_records(results: Path) -> Records:
    """Records of `reproduce` on test scans: cohort -> table -> content.

    Raises:
        InputError: no such folder, or a file that is not JSON.
    """
    if not results.is_dir():
        raise InputError(f"{results}: no such folder; give the one that reproduce wrote to by --results")
    found: Records = {}
    for _, content in recorded_tables(results):
        if content.get("split") == "test":
            found.setdefault(cohort_of(content), {})[content["id"]] = content
    return found


def verdicts(records: Records, paper: str = "", cohort: str = "") -> list[Verdict]:
    """Every claim on every cohort that has records, none left out; without records, on no cohort ("").

    Args:
        records: of `read_records`.
        paper: ``os-medseg`` or ``lt-net``; empty: both.
        cohort: one of the records' alone; empty: all.

    Raises:
        InputError: the cohort has no record.
    """
    if cohort and cohort not in records:
        raise InputError(f"--cohort {cohort}: no record of test scans; recorded: {', '.join(records) or 'none'}")
    claims = [claim for claim in CLAIMS.values() if not paper or claim.id.startswith(f"{paper}:")]
    asked = [cohort] if cohort else sorted(records) or [""]
    return [judge(claim, name, records.get(name, {})) for name in asked for claim in claims]


def judge(claim: Claim, cohort: str, records: Mapping[str, dict[str, Any]]) -> Verdict:
    """A claim by a cohort's records: table -> content.

    Intervals are Student's over scans and seeds for means, else bootstrap intervals over scans of scores averaged over
    seeds. A comparison is confirmed if its 95 % interval lies on the claimed side, not confirmed if it lies on the
    other, else open; of what is no mean it is open, too, if its test says that chance would do as much. A claim is
    confirmed if all its comparisons are (each at its own 5 %: Berger 1982, an intersection-union test), not confirmed
    if one lies on the other side at the level of Holm's step (the comparisons share the 5 %: the clearest of m has the
    level 1 - 0.05/m, the next 1 - 0.05/(m - 1), and so on), else open; undecided where more seeds, longer training or
    more scans may decide it.
    """
    if claim.cohorts and form_of(cohort, claim.cohorts) is None:
        return Verdict(claim.id, cohort, NOT_MEANT)
    known = [key for key in claim.tables if key in records]
    table = max(known, key=lambda key: len(records[key]["rows"][0]["runs"]), default=None)  # of equal ones the first
    if table is None:
        return Verdict(claim.id, cohort, NOT_MEASURED, why=f"no record of {' or '.join(claim.tables)}")
    record = records[table]
    rows = {row["name"]: row["runs"] for row in record["rows"]}
    names = list(dict.fromkeys(name for comparison in claim.comparisons for name, _ in comparison.weights))
    lacking = _lacking(rows, names, SCALES[claim.measure])
    if lacking:
        return Verdict(claim.id, cohort, NOT_MEASURED, table, why=lacking)
    runs = [run for name in names for run in rows[name]]
    seeds, minutes = min(len(rows[name]) for name in names), _least(runs)
    scores = scores_of(rows, names, SCALES[claim.measure].key)
    scores = lowest(scores) if claim.measure == "low" else scores
    found = Verdict(
        claim.id,
        cohort,
        OPEN,
        table,
        scans=len(scores),
        seeds=seeds,
        minutes=minutes,
        preliminary=_preliminary(seeds, minutes),
        strengths=_strengths(record, names),
    )
    if len(scores) < 2:
        return replace(found, status=UNDECIDED, why="a single scan has no interval")
    findings = tuple(compared(claim, names, scores))
    if len(scores) < ENOUGH_SCANS:
        why = f"{len(scores)} scans are too few to decide"
        undecided = tuple(replace(one, status=UNDECIDED) for one in findings)
        return replace(found, status=UNDECIDED, why=why, findings=undecided)
    status = _together(findings)
    return replace(found, status=UNDECIDED if status == OPEN and found.preliminary else status, findings=findings)


def _lacking(rows: Mapping[str, Sequence[dict[str, Any]]], names: Sequence[str], scale: Scale) -> str:
    """What the record does not hold of what the claim needs; empty where it is all there."""
    absent = [name for name in names if not rows.get(name)]
    if absent:
        return f"the record has no row {absent[0]!r}; run reproduce again"
    runs = [run for name in names for run in rows[name]]
    if any(scale.key not in run for run in runs):
        return f"the record does not hold the {scale.title} of each scan; run reproduce again"
    if any(all(score is None for score in run[scale.key].values()) for run in runs):
        return f"{scale.title}: nothing to score on this cohort"
    return ""


def scores_of(rows: Mapping[str, Sequence[dict[str, Any]]], names: Sequence[str], key: str) -> np.ndarray:
    """Scores (scans, seeds, rows) of the scans that every run has scored."""
    cases = scored_cases([run for name in names for run in rows[name]], key)
    seeds = range(min(len(rows[name]) for name in names))
    return np.array([[[rows[name][seed][key][case] for name in names] for seed in seeds] for case in cases])


def lowest(scores: np.ndarray) -> np.ndarray:
    """The quarter of the scans that are lowest by the mean over seeds and rows, so that no row's own choice decides.

    Args:
        scores: (scans, seeds, rows).
    """
    return scores[np.argsort(scores.mean((1, 2)), kind="stable")[: math.ceil(LOW * len(scores))]]


def _strengths(record: Mapping[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """Weights and kinds of losses that were not the paper's in these rows, where the record says."""
    methods = dict.fromkeys(row["method"] for row in record["rows"] if row["name"] in names)
    apart = {name: record.get("deviations", {}).get(name, ()) for name in methods}
    losses = {name: [one for one in told if OF_LOSSES.search(one)] for name, told in apart.items()}
    return tuple(f"{name}: {', '.join(told)}" for name, told in losses.items() if told)


def compared(claim: Claim, names: Sequence[str], scores: np.ndarray) -> list[Finding]:
    """Each comparison of a claim: effect, intervals, test and status.

    Args:
        names: rows, in the order of the last axis of ``scores`` (scans, seeds, rows).
    """
    scale, by_scan = SCALES[claim.measure], scores.mean(1)
    weights = [scale.sign * _vector(comparison, names) for comparison in claim.comparisons]
    effects = scale.statistic(by_scan, axis=0)
    if scale.test is None:
        drawn = [student_sample(scores @ weight) for weight in weights]
    else:
        resamples = resampled(by_scan, scale.statistic)
        drawn = [resamples @ weight for weight in weights]
    tests = _tests(claim, by_scan, weights)
    found = []
    for n, (interval, status) in enumerate(holm_intervals(drawn, claim)):
        effect, ci95 = float(effects @ weights[n]), interval_of(drawn[n])
        p, p_holm = tests[n]
        refuted = status == NOT_CONFIRMED and not _by_chance(claim, p_holm)
        own = OPEN if _by_chance(claim, p) else _side(ci95, claim)
        found.append(Finding(claim.comparisons[n].name, effect, ci95, interval, p, p_holm, own, refuted))
    return found


def _by_chance(claim: Claim, p: float | None) -> bool:
    """Whether the test of what is no mean says that chance would do as much."""
    return SCALES[claim.measure].test is not None and p is not None and p >= ERROR


def _tests(claim: Claim, scores: np.ndarray, weights: Sequence[np.ndarray]) -> list[tuple[float | None, float | None]]:
    """p of each comparison's test and p by Holm; None where no test fits one of them."""
    found = {str(number): _test(claim, scores, weight) for number, weight in enumerate(weights)}
    known = {name: p for name, p in found.items() if p is not None}
    return list(holm(known).values()) if len(known) == len(found) else [(None, None)] * len(weights)


def _test(claim: Claim, scores: np.ndarray, weight: np.ndarray) -> float | None:
    scale = SCALES[claim.measure]
    if claim.direction == "within":
        return None
    if scale.test is None:
        return signed_rank(scores @ weight + claim.margin)
    columns = np.flatnonzero(weight)
    if len(columns) != 2 or weight.sum() or claim.margin:
        return None
    return scale.test(scores[:, columns[0]], scores[:, columns[1]])


def _vector(comparison: Comparison, names: Sequence[str]) -> np.ndarray:
    weights = dict(comparison.weights)
    return np.array([weights.get(name, 0.0) for name in names])


def holm_intervals(drawn: Sequence[np.ndarray], claim: Claim) -> list[tuple[list[float], str]]:
    """Each comparison's interval at the level of its step, and what it says.

    Args:
        drawn: of each comparison its resampled effects.
    """
    decided: dict[int, tuple[list[float], str]] = {}
    going_on = True
    for rank, number in enumerate(sorted(range(len(drawn)), key=lambda n: _doubt(drawn[n], claim))):
        interval = interval_of(drawn[number], 1 - ERROR / (len(drawn) - rank))
        status = _side(interval, claim) if going_on else OPEN
        going_on = going_on and status != OPEN
        decided[number] = interval, status
    return [decided[number] for number in range(len(drawn))]


def _doubt(sample: np.ndarray, claim: Claim) -> float:
    """The share of resamples on the less likely side of the border."""
    if claim.direction != "within":
        return float(min(np.mean(sample <= -claim.margin), np.mean(sample >= -claim.margin)))
    below, above = np.mean(sample <= -claim.margin), np.mean(sample >= claim.margin)
    return float(min(max(below, above), 1 - below, 1 - above))


def _side(interval: Sequence[float], claim: Claim) -> str:
    low, high = interval[0] - ROUNDING, interval[1] + ROUNDING
    if claim.direction == "within":
        inside, outside = -claim.margin < low and high < claim.margin, low >= claim.margin or high <= -claim.margin
    else:
        inside, outside = low > -claim.margin, high < -claim.margin
    return CONFIRMED if inside else NOT_CONFIRMED if outside else OPEN


def _together(findings: Sequence[Finding]) -> str:
    if any(one.refuted for one in findings):
        return NOT_CONFIRMED
    return CONFIRMED if all(one.status == CONFIRMED for one in findings) else OPEN


def _least(runs: Sequence[dict[str, Any]]) -> float | None:
    """Minutes of training of the run that trained least. None where none trains.

    With SyN's fields a student has the share of a limit that it has beside a network: it is counted as the whole.
    """
    trained = [run for run in runs if sum(run.get("parameters", {}).values())]
    return min((run["seconds"].get("learn", 0) / 60 / _share(run) for run in trained), default=None)


def _share(run: dict[str, Any]) -> float:
    settings = run["settings"]
    by_syn = settings.get("registration", {}).get("network") == "syn"
    return 1 - REGISTRATION if by_syn and settings["loop"].get("minutes") else 1.0


def _preliminary(seeds: int, minutes: float | None) -> str:
    few = [f"{seeds} seed{'s' if seeds > 1 else ''}"] if seeds < ENOUGH_SEEDS else []
    short = [f"{minutes:.1f} min of training"] if minutes is not None and minutes < ENOUGH_MINUTES else []
    return ", ".join(few + short)
