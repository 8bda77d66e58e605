"""What can be reproduced: each table and figure with its rows, what they need and how long they take."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from soloatlas.machine import about_machine
from soloatlas.methods import load_method
from soloatlas.reproduction.figures import FIGURES
from soloatlas.reproduction.records import cohort_of, recorded_tables
from soloatlas.reproduction.rows import Pictures, Row, Table
from soloatlas.reproduction.tables import TABLES


def everything() -> dict[str, Table | Pictures]:
    """Tables and figures by id, in the order of their ids."""
    every: dict[str, Table | Pictures] = {**TABLES, **FIGURES}
    return dict(sorted(every.items()))


def as_lines(results: Path) -> str:
    """A line for each: id, table or figure or both, what it needs, how long its rows took here, and its title."""
    header = ["id", "kind", "needs", "hippocampus took", "title"]
    lines = [header, *(_line(of) for of in described(results))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _line(of: dict[str, Any]) -> list[str]:
    needs, methods = of["needs"], of["needs"]["methods"]
    words = [methods[0] if len(methods) == 1 else f"{len(methods)} methods"]
    words += ["labels of the pool"] if needs["labelled_pool"] else []
    words += [f"{needs['atlases']} atlases"] if needs["atlases"] > 1 else []
    words += ["left and right labels"] if needs["sides"] else []
    words += [f"extra {needs['extra']}"] if needs["extra"] else []
    return [of["id"], of["kind"], ", ".join(words), _took(of["rows"]), of["title"]]


def _took(rows: list[dict[str, Any]]) -> str:
    """Minutes of one seed of every row that was recorded on hippocampus, on a machine like this, as quick."""
    told = {"this_machine": True, "preset": "quick", "cohort": "hippocampus"}.items()
    known = [[entry for entry in row["recorded"] if told <= entry.items()] for row in rows]
    minutes = [entries[-1]["minutes"] for entries in known if entries]
    if not minutes:
        return "-"
    total = sum(sum(one) / len(one) for one in minutes)
    return f"{total:.0f} min" if len(minutes) == len(rows) else f"{total:.0f} min, {len(minutes)} of {len(rows)} rows"


def kind(key: str, of: Table | Pictures) -> str:
    """``table``, ``figure``, or ``table and figure`` for a table of the paper that is plotted as well."""
    if ":figure-" in key:
        return "figure"
    return "table and figure" if of.drawing else "table"


def described(results: Path) -> list[dict[str, Any]]:
    """All that is listed, ready for JSON.

    Args:
        results: folder of the records that earlier calls of reproduce wrote; how long a row took is read there.

    Returns:
        For each ``id``, ``title``, ``source``, ``kind``; ``needs``: ``methods``, ``labelled_pool`` (a row learns from
        labels of the pool), ``atlases`` (labelled scans that a row takes at most), ``sides`` (names of labels that tell
        left from right), ``extra`` of the package (``ants``) or empty; ``rows``: each row's ``name``,
        ``method``, ``stage``, ``changes``, ``share`` of the pool, ``atlases``, ``typical`` (the method's own estimate
        for the preset quick on 2 cores) and ``recorded``.
    """
    recorded = list(_recorded(results))
    return [_described(key, of, recorded) for key, of in everything().items()]


def _described(key: str, of: Table | Pictures, recorded: list[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    methods = sorted({row.method or of.method for row in of.rows})
    return {
        "id": key,
        "title": of.title,
        "source": of.source,
        "kind": kind(key, of),
        "needs": {
            "methods": methods,
            "labelled_pool": any(load_method(name).METHOD.pool == "labelled" for name in methods),
            "atlases": max(row.atlases for row in of.rows),
            "sides": of.unite_sides,
            "extra": "ants" if any(_by_ants(of, row) for row in of.rows) else "",
        },
        "rows": [_row(of, row, recorded) for row in of.rows],
    }


def _by_ants(of: Table | Pictures, row: Row) -> bool:
    return bool(load_method(row.method or of.method).METHOD.modules) or "registration.network=syn" in row.changes


def _row(of: Table | Pictures, row: Row, recorded: list[tuple[Any, dict[str, Any]]]) -> dict[str, Any]:
    method = row.method or of.method
    took: list[dict[str, Any]] = []
    for which, entry in recorded:
        # Tables share runs: the same minutes stand in several records.
        if which == (method, row.changes, row.share, row.atlases) and entry not in took:
            took.append(entry)
    return {
        "name": row.name,
        "method": method,
        "stage": row.stage,
        "changes": list(row.changes),
        "share": row.share,
        "atlases": row.atlases,
        "typical": load_method(method).METHOD.typical,
        "recorded": took,
    }


def _recorded(results: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(what a row was, how long its runs took) of every record of a table.

    ``minutes`` of preparing and training, a number for each seed; with the registration where another row made it.
    """
    here = {key: about_machine()[key] for key in ("processor", "cores")}
    for _, record in recorded_tables(results):
        if "reference" not in record or record["id"] not in TABLES:
            continue
        for row in record["rows"]:
            method = row.get("method") or TABLES[record["id"]].method
            entry = {
                "cohort": cohort_of(record),
                "unlabelled": record["unlabelled"],
                "preset": record.get("preset", "quick"),
                "changes": record["changes"],
                "minutes": [round(sum(run["seconds"].values()) / 60, 1) for run in row["runs"]],
                "machine": record["machine"],
                "this_machine": here.items() <= record["machine"].items(),
            }
            yield (method, tuple(row["changes"]), row.get("share", 1.0), row.get("atlases", 1)), entry
