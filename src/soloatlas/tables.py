"""Results as text tables, for the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        first, *rest = row
        return "  ".join([first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(rest, widths[1:], strict=True))])

    return "\n".join([line(header), line(["-" * w for w in widths]), *map(line, rows)])


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def number(value: float | None, digits: int = 3) -> str:
    """A number, or a dash where nothing was scored."""
    return "-" if value is None else f"{value:.{digits}f}"


def difference(found: dict[str, Any] | None) -> str:
    """A paired difference with its interval, where there is one; a dash where nothing was compared."""
    return signed(found["dice"], found["ci95"]) if found and found["dice"] is not None else "-"


def signed(value: float, interval: Sequence[float] | None, digits: int = 3) -> str:
    """A number with its sign, and its interval where there is one."""
    ends = ", ".join(f"{end:+.{digits}f}" for end in interval or ())
    return f"{value:+.{digits}f}" + (f" [{ends}]" if ends else "")


METRICS = ("DSC", "HD95 mm", "ASSD mm", "NSD")


def mean_scores(result: dict[str, Any]) -> list[str]:
    """The means of metrics.json in the order of `METRICS`, as printed."""
    return [number(result[f"mean_{m}"], d) for m, d in (("dice", 3), ("hd95_mm", 2), ("assd_mm", 2), ("nsd", 3))]


def score_table(result: dict[str, Any]) -> str:
    """The table `evaluate` prints: a row per structure, then the mean over cases.

    Args:
        result: content of metrics.json.
    """
    rows = [[label.get("name", value), *mean_scores(label)] for value, label in result["labels"].items()]
    count = len(result["cases"])
    rows.append([f"mean over {count} case{'s' if count > 1 else ''}", *mean_scores(result)])
    return text_table(["structure", *METRICS], rows)
