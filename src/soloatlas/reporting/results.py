"""Sections on evaluations: scores compared, structure by structure, cases worst first, and overlays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from soloatlas.reporting.blocks import (
    DASH,
    Block,
    Drawing,
    Remark,
    Section,
    Table,
    interval,
    listed,
    number,
    swatch,
)
from soloatlas.reporting.contents import Contents, Evaluation
from soloatlas.reporting.figures import SERIES, Spread, draw_structures
from soloatlas.reporting.overlays import overlays
from soloatlas.reporting.scored import colour_of, names_of, run_name, worst_first

METRICS = (("dice", "DSC", 3), ("hd95_mm", "HD95\nmm", 2), ("assd_mm", "ASSD\nmm", 2), ("nsd", "NSD", 3))
LOST = ("missing", "extra")
CASES = 12  # listed at once; the others on demand


def results(contents: Contents, evaluations: Sequence[Evaluation]) -> list[Section]:
    """All sections on the evaluations, or one that says how to get them."""
    if not evaluations:
        said = Remark(
            "This page holds no evaluation. Score segmentations with soloatlas evaluate, then name the folder: "
            "soloatlas report RUN --evaluation FOLDER."
        )
        return [Section("results", "Results", "", [said])]
    main = evaluations[-1]
    blocks: list[Block] = [_comparison(evaluations)]
    blocks.append(_drawing(contents, evaluations))
    if len(evaluations) > 1:
        blocks.append(_side_by_side(contents, evaluations))
    blocks += [_structure_table(contents, e) for e in evaluations]
    cases = Section("cases", "Cases, worst first", "", [_case_table(e) for e in reversed(evaluations)])
    pictures = Section(
        "overlays",
        "Overlays",
        f"The three worst cases of “{main.name}” first, then its best one.",
        overlays(contents, evaluations),
    )
    return [Section("results", "Results", _lead(contents, evaluations), blocks), cases, pictures]


def _lead(contents: Contents, evaluations: Sequence[Evaluation]) -> str:
    main = evaluations[-1]
    mean, ends = main.result["mean_dice"], main.result.get("mean_dice_ci95")
    said = f"{main.name}: mean DSC {number(mean)} over {len(main.result['cases'])} cases"
    said += f" (95% interval {interval(ends)})" if ends else ""
    if len(evaluations) == 2 and None not in (mean, evaluations[0].result["mean_dice"]):
        difference = 100 * (mean - evaluations[0].result["mean_dice"])
        sense = "above" if difference >= 0 else "below"
        said += f", {abs(difference):.1f} points {sense} “{evaluations[0].name}”"
    return said + "."


def _comparison(evaluations: Sequence[Evaluation]) -> Table:
    header = [
        "What",
        "Cases",
        "DSC",
        "SD",
        "Min",
        "Max",
        "95% interval",
        "HD95\nmm",
        "ASSD\nmm",
        "NSD",
        "Missing",
        "Extra",
    ]
    rows: list[list[str]] = []
    for i, e in enumerate(evaluations):
        r, counts = e.result, e.result.get("counts", {})
        rows.append(
            [
                _named(e.name, i, evaluations),
                str(len(r["cases"])),
                *(number(r.get(f"{part}_dice")) for part in ("mean", "sd", "min", "max")),
                interval(r.get("mean_dice_ci95")),
                *(number(r.get(f"mean_{metric}"), digits) for metric, _, digits in METRICS[1:]),
                *(str(counts.get(kind, DASH)) for kind in LOST),
            ]
        )
    return Table(
        header,
        rows,
        "Scores over cases. Higher is better for DSC and NSD, lower for HD95 and ASSD. SD, min, max and interval are "
        "of the cases' mean DSC. Missing: structures of the truth that were not found; extra: found, not in the truth.",
        note=" ".join(dict.fromkeys(str(e.result.get("rule", "")) for e in evaluations)),
    )


def _named(name: str, index: int, evaluations: Sequence[Evaluation]) -> str:
    """The evaluation's name, with the colour it has in the drawing where there are several."""
    colour = SERIES[index % len(SERIES)]
    mark = Markup('<span class="swatch" style="background:{}"></span>{}').format(colour, name)
    return mark if len(evaluations) > 1 else name


def _drawing(contents: Contents, evaluations: Sequence[Evaluation]) -> Drawing:
    names = names_of(contents, evaluations)
    ceiling = contents.record.get("ceiling", {}).get("dice", {})
    marks = [ceiling.get(run_name(contents, value)) for value in names]
    panels = []
    for metric, title in (("dice", "DSC"), ("hd95_mm", "HD95, mm")):
        values = [[_scored(e, value, metric) for value in names] for e in evaluations]
        lost = [[_lost(e, value) for value in names] for e in evaluations]
        best = metric == "dice"
        panels.append(Spread(title, values, lost, 1.0 if best else None, marks if best else ()))
    svg = draw_structures(panels, list(names.values()), [e.name for e in evaluations])
    means = "; ".join(f"{e.name} {number(e.result['mean_dice'])}" for e in evaluations)
    caption = (
        "DSC and HD95 of each structure. Each point is a case; boxes (from five cases on) show quartiles and median. "
        "Upright line: the ceiling, the atlas label's own round trip through the working grid. "
        "A triangle at the right edge of HD95: some case lacks the structure or invents it, and the distance, the "
        "image diagonal, lies beyond the axis; its DSC of 0 is drawn."
    )
    return Drawing(svg, f"DSC and HD95 per structure for {len(names)} structures; mean DSC: {means}.", caption)


def _rows(evaluation: Evaluation, value: str) -> list[dict[str, Any]]:
    return [scores[value] for scores in evaluation.result["cases"].values() if value in scores]


def _scored(evaluation: Evaluation, value: str, metric: str) -> list[float]:
    """Values of one structure; distances of lost ones are the image diagonal and are marked otherwise."""
    rows = [r for r in _rows(evaluation, value) if r.get(metric) is not None]
    return [r[metric] for r in rows if metric in ("dice", "nsd") or r.get("status") not in LOST]


def _lost(evaluation: Evaluation, value: str) -> int:
    return sum(r.get("status") in LOST for r in _rows(evaluation, value))


def _side_by_side(contents: Contents, evaluations: Sequence[Evaluation]) -> Table:
    header = ["Structure"]
    for _, title, _ in METRICS[:2]:
        header += [f"{title.splitlines()[0]}\n{e.name.lower()}" for e in evaluations] + ["Change"]
    rows = []
    for value, name in names_of(contents, evaluations).items():
        row: list[str] = [swatch(colour_of(contents.table, value), name)]
        for metric, _, digits in METRICS[:2]:
            means = [e.result["labels"].get(value, {}).get(f"mean_{metric}") for e in evaluations]
            row += [number(m, digits) for m in means] + [_change(means[0], means[-1], digits)]
        rows.append(row)
    caption = "Structure by structure, means over cases side by side. Change: the last minus the first."
    return Table(header, rows, caption)


def _change(first: float | None, last: float | None, digits: int) -> str:
    if first is None or last is None:
        return DASH
    return ("+" if last >= first else "") + number(last - first, digits)


def _structure_table(contents: Contents, evaluation: Evaluation) -> Table:
    ceiling = contents.record.get("ceiling", {}).get("dice", {})
    header = ["Structure", "n", "DSC", "SD", "Min", "Max", "95% interval", "Ceiling\nDSC"]
    header += ["HD95\nmm", "SD\nmm", "Max\nmm", "ASSD\nmm", "NSD", "Missing\n/ extra"]
    rows = []
    for value, name in names_of(contents, [evaluation]).items():
        label = evaluation.result["labels"][value]
        rows.append(
            [
                swatch(colour_of(contents.table, value), name),
                str(label.get("scored", DASH)),
                *(number(label.get(f"{part}_dice")) for part in ("mean", "sd", "min", "max")),
                interval(label.get("mean_dice_ci95")),
                number(ceiling.get(run_name(contents, value))),
                *(number(label.get(f"{part}_hd95_mm"), 2) for part in ("mean", "sd", "max")),
                number(label.get("mean_assd_mm"), 2),
                number(label.get("mean_nsd")),
                " / ".join(str(label.get(kind, DASH)) for kind in LOST),
            ]
        )
    return Table(header, rows, f"{evaluation.name}, per structure. n: cases in which the structure was scored.")


def _case_table(evaluation: Evaluation) -> Table:
    rows = []
    aligned = {c.get("output"): c for c in evaluation.segmentation.get("cases", [])}
    lost = [c["case"] for c in aligned.values() if not c.get("aligned", True)]
    for case in worst_first(evaluation):
        means, scores = evaluation.result["case_means"][case], evaluation.result["cases"][case]
        known = {v: s for v, s in scores.items() if s.get("dice") is not None}
        lowest = min(known, key=lambda v: known[v]["dice"]) if known else None
        name = evaluation.result["labels"][lowest].get("name", lowest) if lowest else DASH
        rows.append(
            [
                case,
                name,
                number(known[lowest]["dice"]) if lowest else DASH,
                *(number(means.get(metric), digits) for metric, _, digits in METRICS),
            ]
        )
    note = f"Do not align with the atlas: {listed(lost)}." if lost else ""
    return Table(
        ("Case", "Weakest structure", "its DSC", *(title for _, title, _ in METRICS)),
        rows,
        f"{evaluation.name}: {len(rows)} cases by rising mean DSC over structures.",
        text_columns=2,
        note=note,
        folded=len(rows) > CASES,
    )
