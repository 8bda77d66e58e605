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
    from soloatlas.comparison import length_of

    text = rendered(
        title=f"Methods on {record['study']}",
        kicker=f"soloatlas {record['versions'].get('soloatlas', '')}".strip(),
        subtitle=f"{record['scans']} test scans, {record['unlabelled']} unlabelled; preset {record['preset']}, "
        f"seeds {', '.join(map(str, record['seeds']))}, {length_of(record)}.",
        cautions=cautions(record),
        facts=[Fact(number(row["dice"]), f"DSC, {row['method']}") for row in record["rows"][:4]],
        sections=[Section("scores", "Scores and cost", "", blocks(record))],
    )
    write_text(path, text)


def cautions(record: dict[str, Any]) -> list[str]:
    """What a reader must know before believing the numbers."""
    bound = [row["method"] for row in record["rows"] if not row["one_shot"]]
    return [f"{', '.join(bound)}: given labels of the pool, not one-shot."] if bound else []


def blocks(record: dict[str, Any]) -> list[Block]:
    """The table, the boxes, and how to read both."""
    from soloatlas.comparison import cells, header

    rows, methods = record["rows"], [row["method"] for row in record["rows"]]
    panel = Spread("DSC", [[list(row["case_dice"].values()) for row in rows]], [[0] * len(rows)], best=1.0)
    best = rows[0]
    return [
        Table(
            header(),
            [cells(row) for row in rows],
            "Every method on the same scans, best first. min and max over test scans; folding and SDlogJ of the "
            "fields to the pool; memory at the peak of training.",
            text_columns=2,
            note=f"p: two-sided Wilcoxon signed-rank test of the DSC over scans against {record['reference']}, "
            "after Holm's correction for the number of methods.",
        ),
        Drawing(
            draw_structures([panel], methods, ["DSC"]),
            f"DSC of each test scan by method; {best['method']} has the highest mean, {number(best['dice'])}.",
            f"One point is one test scan (mean over structures and seeds); {record['scans']} scans.",
            "DSC by method",
        ),
        Remark("Times were measured on one machine, one method after the other; see compare.json for it."),
    ]
