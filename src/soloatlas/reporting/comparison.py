"""The page of a comparison: one table, boxes per method, what each was given."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from soloatlas.atomic import write_text
from soloatlas.reporting.blocks import Block, Drawing, Fact, Remark, Section, Table, number
from soloatlas.reporting.figures import Spread, draw_structures
from soloatlas.reporting.page import rendered


def write_page(record: dict[str, Any], path: Path) -> None:
    """Write ``path``: one HTML file that loads nothing.

    Args:
        record: what `soloatlas.comparison.compare_methods` writes as compare.json.
    """
    from soloatlas.comparison.table import length_of

    text = rendered(
        title=f"Methods on {record['study']}",
        kicker=f"soloatlas {record['versions'].get('soloatlas', '')}".strip(),
        subtitle=f"{record['scans']} test scans, {record['unlabelled']} unlabelled; preset {record['preset']}, "
        f"seeds {', '.join(map(str, record['seeds']))}, {length_of(record)}.",
        cautions=cautions(record),
        facts=[Fact(number(row["dice"]), f"DSC, {row['method']}") for row in scored(record)[:4]],
        sections=[Section("scores", "Scores and cost", "", blocks(record))],
    )
    write_text(path, text)


def cautions(record: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the numbers."""
    bound = [row["method"] for row in record["rows"] if not row["one_shot"]]
    given = [f"{', '.join(bound)}: given labels of the pool, not one-shot."] if bound else []
    return given + [f"{row['method']} failed: {row['failed']}" for row in record["rows"] if "failed" in row]


def scored(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows of methods that did not fail."""
    return [row for row in record["rows"] if "failed" not in row]


def blocks(record: dict[str, Any]) -> list[Block]:
    """The table, the boxes, and how to read both."""
    from soloatlas.comparison.table import cells, header

    rows = scored(record)
    table = Table(
        header(),
        [cells(row) for row in record["rows"]],
        f"Every method on the same scans, best first; scored: {record['scored']}. SD, min and max over test scans; "
        "folding and SDlogJ of the fields to the first test scans, where labels are warped along fields; training "
        "without preparing the scans; a scan's time with all cores at work; memory: the peak of all, helpers included.",
        text_columns=2,
        note=f"Difference from {record['reference']}: Student's interval over scans and seeds. p: two-sided Wilcoxon "
        "signed-rank test of the DSC over scans against it, after Holm's correction for the number of methods.",
    )
    return [table, *_boxes(record, rows), Remark(HOW)]


HOW = (
    "Each method ran alone on the machine that its runs in compare.json name. Settings are those of the preset: the "
    "values of os-medseg and lt-net under quick were chosen on dev scans of the hippocampus cohort, those of others "
    "follow their sources and the common rule of the papers' tables; tune with --set before calling one the better."
)


def _boxes(record: dict[str, Any], rows: list[dict[str, Any]]) -> list[Block]:
    if not rows:
        return []
    best, methods = rows[0], [row["method"] for row in rows]
    panel = Spread("DSC", [[list(row["case_dice"].values()) for row in rows]], [[0] * len(rows)], best=1.0)
    return [
        Drawing(
            draw_structures([panel], methods, ["DSC"]),
            f"DSC of each test scan by method; {best['method']} has the highest mean, {number(best['dice'])}.",
            f"One point is one test scan (mean over structures and seeds); {record['scans']} scans.",
            "DSC by method",
        )
    ]
