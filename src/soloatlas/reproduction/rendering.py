"""A table's record as text: ours beside the published cells, rows by measures or structures by rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from soloatlas.reproduction.deviations import as_notes
from soloatlas.reproduction.measures import BY_CASE
from soloatlas.tables import difference, markdown_table, number, signed, text_table

MEASURES = {
    "dice": ("DSC", 3),
    "hd95_mm": ("HD95 mm", 2),
    "sd": ("SD", 3),
    "min": ("min", 3),
    "max": ("max", 3),
    "segment_s": ("s a scan", 1),
}

Cells = tuple[list[str], list[list[str]]]


def as_text(record: dict[str, Any]) -> str:
    """For a terminal, with what was run on what above it."""
    notes = "".join(f"\nnote: {note}" for note in [*record["notes"], *steps_made(record)])
    return f"{caption(record)}\n\n{_tables(record, text_table)}{notes}"


def as_markdown(record: dict[str, Any]) -> str:
    """A Markdown table under its caption."""
    notes = "".join(f"\n\nNote: {note}" for note in [*record["notes"], *steps_made(record)])
    tables = _tables(record, markdown_table)
    return f"{caption(record)}\n\n{tables}{notebook_note(record)}{as_notes(record)}{notes}\n"


def _tables(record: dict[str, Any], made: Callable[..., str]) -> str:
    """The table and, where structures are its lines, a second one of how far they are from the published cells."""
    apart = differences_by_structure(record)
    below = f"\n\nOurs minus published [95 % CI]:\n\n{made(*apart)}" if apart else ""
    return made(*cells(record)) + below


def steps_made(record: dict[str, Any]) -> list[str]:
    """Steps of each stage, mean over seeds, of the rows that were trained; nothing for records that do not say."""
    told = []
    for row in record["rows"]:
        runs = [run.get("steps", {}) for run in row["runs"]]
        stages = [f"{stage} {np.mean([run.get(stage, 0) for run in runs]):.0f}" for stage in runs[0]]
        told += [f"{row['name']}: {', '.join(stages)}"] if stages else []
    return [f"steps made: {'; '.join(told)}"] if told else []


def notebook_note(record: dict[str, Any]) -> str:
    """A footnote: each DSC by the released notebook's rule, or nothing where the record does not hold it.

    No column: the rule leaves missed structures out, and can only explain a difference from published figures.
    """
    both = [(row["name"], row["dice"], row.get("dice_without_zeros")) for row in record["rows"]]
    if any(other is None for _, _, other in both):
        return ""
    differing = [f"{name} {number(other)}" for name, dice, other in both if number(other) != number(dice)]
    rule = "DSC if structures with DSC 0 are left out of each scan's mean, as in OS-MedSeg's released notebook"
    return f"\n\n{rule} (shown only to explain a difference): {'; '.join(differing) or 'the same in every row'}."


def as_latex(record: dict[str, Any]) -> str:
    """A LaTeX table (booktabs)."""
    header, rows = cells(record)
    lines = [" & ".join(_escaped(cell) for cell in line) + r" \\" for line in (header, *rows)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_escaped(caption(record))}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}",
            r"\toprule",
            lines[0],
            r"\midrule",
            *lines[1:],
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _escaped(text: str) -> str:
    for character in "\\&%$#_{}":
        text = text.replace(character, r"\textbackslash " if character == "\\" else f"\\{character}")
    return text


def caption(record: dict[str, Any]) -> str:
    """What was run on what."""
    return (
        f"{record['source']}: {record['title']}. Ours on {record['cohort']} ({record['scans']} {record['split']} "
        f"scans, {record['unlabelled']} unlabelled, preset {record['preset']}, seeds {record['seeds']}; scored: "
        f"{record.get('scored', 'not recorded')}). {published_in_words(record)}Reference row: {record['reference']}."
    )


def published_in_words(record: dict[str, Any]) -> str:
    """What the published cells were measured on; empty where the table is our own and has none."""
    if not has_published(record):
        return ""
    return f"Published figures: the paper's, on {record['published_on']}. "


def has_published(record: dict[str, Any]) -> bool:
    """Whether any cell of the table has been published."""
    return any(value is not None for row in record["rows"] for value in row["published"].values())


def cells(record: dict[str, Any]) -> Cells:
    """Header and rows: a line for each row of the table, or for each structure where structures are measured."""
    return by_structure(record) if set(record["measures"]) - set(MEASURES) else by_row(record)


def by_row(record: dict[str, Any]) -> Cells:
    """Ours, published (where anything is) and the paired difference from the reference row."""
    measures = [(key, *MEASURES[key]) for key in record["measures"]]
    published = measures if has_published(record) else []
    apart = [one for one in published if one[0] in BY_CASE]
    rows = [
        [
            row["name"],
            *(number(row[key], digits) for key, _, digits in measures),
            *(number(row["published"][key], digits) for key, _, digits in published),
            *(_apart(row, key, digits) for key, _, digits in apart),
            difference(row["minus_reference"]),
        ]
        for row in record["rows"]
    ]
    titles = [title for _, title, _ in measures] + [f"published {title}" for _, title, _ in published]
    titles += [f"{title} minus published [95 % CI]" for _, title, _ in apart]
    return ["row", *titles, "DSC minus reference [95 % CI]"], rows


def _apart(row: dict[str, Any], measure: str, digits: int) -> str:
    """Ours minus the published cell, with the interval of ours over cases and seeds."""
    found = row["minus_published"].get(measure)
    return signed(found["difference"], found["ci95"], digits) if found else "-"


def by_structure(record: dict[str, Any]) -> Cells:
    """DSC of each structure by each method, the published one in brackets."""
    names = [row["name"] for row in record["rows"]]
    return ["structure", *names], [_structure(measure, record["rows"]) for measure in record["measures"]]


def differences_by_structure(record: dict[str, Any]) -> Cells | None:
    """Ours minus the published cell of each structure by each method; None where rows are measured as a whole."""
    if not set(record["measures"]) - set(MEASURES) or not has_published(record):
        return None
    rows = record["rows"]
    lines = [
        ["mean" if measure == "dice" else measure, *(_apart(row, measure, 3) for row in rows)]
        for measure in record["measures"]
    ]
    return ["structure", *(row["name"] for row in rows)], lines


def _structure(measure: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    ours = [row["dice"] if measure == "dice" else row["structures"].get(measure) for row in rows]
    published = [number(row["published"][measure], 3) for row in rows]
    title = "mean" if measure == "dice" else measure
    return [title, *(f"{number(value, 3)} ({cell})" for value, cell in zip(ours, published, strict=True))]
