"""A comparison's rows as a table, and the tests between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from soloatlas.atomic import write_csv
from soloatlas.tables import difference, number, text_table

COLUMNS = {
    "dice": ("DSC", 3),
    "sd": ("SD", 3),
    "hd95_mm": ("HD95 mm", 2),
    "assd_mm": ("ASSD mm", 2),
    "nsd": ("NSD", 3),
    "min": ("min", 3),
    "max": ("max", 3),
    "folding_percent": ("folding %", 2),
    "sd_log_jacobian": ("SDlogJ", 3),
    "train_s": ("training s", 0),
    "segment_s": ("s a scan", 2),
    "peak_memory_gb": ("memory GB", 1),
    "device_memory_gb": ("GPU GB", 1),
    "parameters": ("parameters", 0),
    "p_holm": ("p (Holm)", 4),
}


def compared(rows: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """The rows with their difference from the reference and its p-value, best first; failed ones last, untested."""
    from soloatlas.evaluation.statistics import paired_difference, wilcoxon_holm

    scored_rows = [row for row in rows if "failed" not in row]
    base = next((row for row in scored_rows if row["method"] == reference), None)
    if base is not None:
        others = [row for row in scored_rows if row is not base]
        scored = {c for c in base["case_dice"] if all(c in row["case_dice"] for row in others)}
        apart = {
            r["method"]: [r["case_dice"][c] - value for c, value in base["case_dice"].items() if c in scored]
            for r in others
        }
        found = wilcoxon_holm(apart)
        for row in others:
            row["minus_reference"] = paired_difference(row["runs"], base["runs"])
            row["p"], row["p_holm"] = found[row["method"]]
    return sorted(rows, key=lambda row: ("failed" in row, -(row.get("dice") or 0)))


def length_of(record: dict[str, Any]) -> str:
    """How long each method of a comparison was trained, in words."""
    return f"{record['minutes']:g} min of training each" if record["minutes"] else "as many steps as the preset has"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table as text."""
    values = {key: number(row.get(key), digits) for key, (_, digits) in COLUMNS.items()}
    p = values.pop("p_holm")
    return [row["method"], row["family"], *values.values(), difference(row.get("minus_reference")), p]


def header() -> list[str]:
    """Titles of `cells`."""
    *titles, p = (title for title, _ in COLUMNS.values())
    return ["method", "family", *titles, "DSC minus reference [95 % CI]", p]


def as_text(record: dict[str, Any]) -> str:
    """The table of a comparison for a terminal."""
    limit = f", {length_of(record)}" if record["minutes"] else ""
    where = (
        f"{record['study']}: {record['scans']} test scans, {record['unlabelled']} unlabelled, preset "
        f"{record['preset']}, seeds {record['seeds']}{limit}; scored: {record['scored']}; p: Wilcoxon signed-rank "
        f"against {record['reference']}."
    )
    failed = [f"{row['method']} failed: {row['failed']}" for row in record["rows"] if "failed" in row]
    return "\n\n".join([where, text_table(header(), [cells(row) for row in record["rows"]]), *failed])


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``path``, the table as CSV with every digit."""
    more = ("difference", "difference_low", "difference_high")
    table = []
    for row in rows:
        apart = row.get("minus_reference") or {}
        interval = (apart.get("dice"), *(apart.get("ci95") or (None, None)))
        table.append([row["method"], row["family"], *(row.get(key) for key in COLUMNS), *interval])
    write_csv(path, [["method", "family", *COLUMNS, *more], *table])
