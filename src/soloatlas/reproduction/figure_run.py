"""Drawing a figure from its finished runs, and what is written beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soloatlas.atomic import write_json, write_text
from soloatlas.reproduction.drawings import drawn
from soloatlas.reproduction.row_run import Conditions, Finished, circumstances
from soloatlas.reproduction.rows import Pictures, Table


def write_plot(table: Table, rows: Sequence[Finished], stem: Path) -> str:
    """Draw the plot of a table: ``stem.png``, ``stem.svg`` and the numbers in it, ``stem-plotted.json``.

    Returns:
        Its caption.
    """
    shown = drawn(table, rows, stem)
    plotted = {"title": table.title, "source": table.source, "drawing": table.drawing, **shown}
    write_json(stem.with_name(f"{stem.name}-plotted.json"), plotted)
    return str(shown["caption"])


def write_figure(key: str, pictures: Pictures, conditions: Conditions, rows: Sequence[Finished], stem: Path) -> str:
    """Draw a figure of scans: ``stem.png`` and ``stem.svg``; ``stem.json`` says what is shown, ``stem.md`` shows it.

    Returns:
        Title and caption, and where it lies.
    """
    shown = drawn(pictures, rows, stem)
    caption = f"{shown['caption']} {pictures.remark}".strip()
    record = {
        "id": key,
        "title": pictures.title,
        "source": pictures.source,
        "drawing": pictures.drawing,
        **circumstances(conditions),
        "drawn_from": [_row(pictures, finished) for finished in rows],  # not "rows": it is no table of results
        **shown,
        "caption": caption,
    }
    title = (
        f"{pictures.source}: {pictures.title}. Ours on {record['cohort']}, preset {record['preset']}, "
        f"seed {record['seeds'][0]}."
    )
    write_json(stem.with_suffix(".json"), record)
    write_text(stem.with_suffix(".md"), f"{title}\n\n![{pictures.title}]({stem.name}.png)\n\n{caption}\n")
    return f"{title}\n\n{caption}\nfigure: {stem}.png, .svg"


def _row(pictures: Pictures, finished: Finished) -> dict[str, Any]:
    """What a row is, where its runs lie, and their DSC over all scans of the split."""
    row = finished.row
    return {
        "name": row.name,
        "method": row.method or pictures.method,
        "changes": list(row.changes),
        "stage": row.stage,
        "runs": [str(task.folder()) for task in finished.tasks],
        "dice": [run["mean_dice"] for run in finished.runs],
    }
