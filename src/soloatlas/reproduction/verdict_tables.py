"""Verdicts on the papers' claims as text, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from soloatlas.reproduction.claims import CLAIMS, Claim
from soloatlas.reproduction.verdicts import CONFIRMED, NOT_MEASURED, SCALES, UNDECIDED, Finding, Verdict
from soloatlas.tables import markdown_table, number, signed, text_table

RULE = (
    "Scores are paired: the same scan and seed in each row. Effects are positive as claimed, with a 95 % interval: for "
    "means Student's over scans and seeds, else by bootstrap over scans. Confirmed: the interval lies on the claimed "
    "side; not confirmed: on the other; open: it covers the border, or, of what is no mean, the test is not clear. "
    "Where a claim makes several comparisons, all must hold, each by its own 95 % interval; the claim is not confirmed "
    "if one lies on the other side at the level of Holm's steps. p, over scans: Wilcoxon signed-rank for means, Pitman "
    "and Morgan's for the standard deviation; corrected by Holm. On fewer than three seeds, fewer than six scans, or "
    "with a row that learnt for less than 8 minutes, a verdict is preliminary, and undecided instead of open."
)


def standing(verdict: Verdict) -> str:
    """The status in words, with what makes it preliminary or leaves it undecided."""
    early = ", preliminary" if verdict.preliminary and verdict.status != UNDECIDED else ""
    notes = [verdict.preliminary, verdict.why if verdict.status == UNDECIDED else ""]
    told = "; ".join(filter(None, notes))
    return f"{verdict.status}{early}{f' ({told})' if told else ''}"


def as_text(found: Sequence[Verdict]) -> str:
    """For a terminal: a table for each cohort, a line for each claim with the weakest of its comparisons."""
    header = ["claim", "status", "held", "weakest effect [95 % CI]"]
    parts = []
    for cohort in dict.fromkeys(verdict.cohort for verdict in found):
        own = [verdict for verdict in found if verdict.cohort == cohort]
        rows = [[v.claim, standing(v), _held(v), _weakest(v)] for v in own]
        parts.append(f"{cohort or 'no cohort'}\n\n{text_table(header, rows)}")
    return "\n\n".join([*parts, RULE, *_margins(found)])


def _held(verdict: Verdict) -> str:
    held = sum(finding.status == CONFIRMED for finding in verdict.findings)
    return f"{held} of {len(verdict.findings)}" if verdict.findings else "-"


def _weakest(verdict: Verdict) -> str:
    """The effect that is nearest to the wrong side."""
    if not verdict.findings:
        return "-"
    claim = CLAIMS[verdict.claim]
    within = claim.direction == "within"
    return _effect(min(verdict.findings, key=lambda one: -abs(one.effect) if within else one.effect), claim)


def _effect(finding: Finding, claim: Claim) -> str:
    return signed(finding.effect, finding.ci95, SCALES[claim.measure].digits)


def as_markdown(found: Sequence[Verdict], heading: str = "##") -> str:
    """Every claim with its status on each cohort, then what was measured, comparison by comparison."""
    cohorts = list(dict.fromkeys(verdict.cohort for verdict in found))
    parts = [overview(found, cohorts), RULE, *_margins(found)]
    for cohort in cohorts:
        rows = [row for verdict in found if verdict.cohort == cohort for row in _measured(verdict)]
        if rows:
            header = ["claim", "measure", "comparison", "effect [95 % CI]", "p", "status", "record"]
            own = [verdict for verdict in found if verdict.cohort == cohort]
            parts.append(f"{heading} {cohort}\n\n{markdown_table(header, rows)}{_strengths(own)}")
    return "\n\n".join(parts)


def _strengths(found: Sequence[Verdict]) -> str:
    """Where losses were not weighted as in the paper: what was tested is their effect at these weights."""
    told = dict.fromkeys((verdict.table, one) for verdict in found for one in verdict.strengths)
    lines = "\n".join(f"- `{table}`, {one}" for table, one in told)
    return (
        f"\n\nLosses that were not the paper's, for every row that does not say otherwise:\n\n{lines}" if told else ""
    )


def overview(found: Sequence[Verdict], cohorts: Sequence[str]) -> str:
    """A line for each claim, a column for each cohort."""
    by = {(verdict.claim, verdict.cohort): verdict for verdict in found}
    rows = [
        [f"{claim.sentence} `{claim.id}`", claim.source, *(standing(by[claim.id, cohort]) for cohort in cohorts)]
        for claim in CLAIMS.values()
        if (claim.id, cohorts[0]) in by
    ]
    return markdown_table(["claim", "source", *(cohort or "any cohort" for cohort in cohorts)], rows)


def _margins(found: Sequence[Verdict]) -> list[str]:
    """What counts as no difference, where a claim needs it."""
    claims = [CLAIMS[name] for name in dict.fromkeys(verdict.claim for verdict in found)]
    return [
        f"Margin of `{claim.id}`: {claim.margin:g} {SCALES[claim.measure].title}, since {claim.reason}."
        for claim in claims
        if claim.margin
    ]


def _measured(verdict: Verdict) -> list[list[str]]:
    """A line for each comparison, and one where a record lacks what is asked."""
    claim = CLAIMS[verdict.claim]
    start = [f"`{claim.id}`", SCALES[claim.measure].title]
    end = [f"`{verdict.table}`: {verdict.scans} scans, seeds: {verdict.seeds}"]
    if verdict.status == NOT_MEASURED and verdict.table:
        return [[*start, "-", "-", "-", f"{NOT_MEASURED}: {verdict.why}", f"`{verdict.table}`"]]
    return [
        [*start, one.name, _effect(one, claim), _p(one.p_holm), _of_comparison(one, verdict), *end]
        for one in verdict.findings
    ]


def _p(p: float | None) -> str:
    return "< 0.0001" if p is not None and p < 0.0001 else number(p, 4)


def _of_comparison(finding: Finding, verdict: Verdict) -> str:
    return f"{finding.status} ({verdict.why})" if verdict.why else finding.status


def as_json(found: Sequence[Verdict]) -> dict[str, Any]:
    """The rule, and each claim with its verdicts."""
    claims = [CLAIMS[name] for name in dict.fromkeys(verdict.claim for verdict in found)]
    return {
        "rule": RULE,
        "claims": [
            {
                **asdict(claim),
                "comparisons": {comparison.name: dict(comparison.weights) for comparison in claim.comparisons},
                "verdicts": [_plain(verdict) for verdict in found if verdict.claim == claim.id],
            }
            for claim in claims
        ],
    }


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {key: value for key, value in asdict(verdict).items() if key != "claim"}
