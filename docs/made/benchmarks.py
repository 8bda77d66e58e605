"""What is recorded of speed, memory and growth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made.common import ROOT
from soloatlas.tables import markdown_table as table
from soloatlas.tables import number

# What a benchmark's target asks of each quantity.
ASKED = {
    "ratio": "at least {:g}x",
    "cost": "at most {:g}x its time",
    "memory_ratio": "at most {:g} of its memory",
    "seconds": "at most {:g} s",
    "process_gb": "at most {:g} GB",
    "memory_gb": "at most {:g} GB above inputs",
    "copies": "at most {:g} copies",
}

NONE_MEASURED = "Nothing is recorded yet: `results/benchmarks/` holds no file written by `make bench`."


def benchmarks(root: Path | None = None) -> str:
    """Every recorded benchmark, row by row."""
    paths = sorted(((root or ROOT) / "results" / "benchmarks").glob("*.json"))
    parts = [_benchmark(json.loads(path.read_text(encoding="utf-8"))) for path in paths]
    return "\n\n".join(parts) if parts else NONE_MEASURED


def _benchmark(record: dict[str, Any]) -> str:
    rows = [
        [f"{m['size']}, {m['device']}", part["name"], row["peer"] or "(ours alone)", *_measured(row), _asked(row)]
        for m in record["measurements"]
        for part in m["parts"]
        for row in part["rows"]
    ]
    header = ["size, device", "what", "beside", "seconds", "times faster", "memory", "target"]
    what = record["what"][0].upper() + record["what"][1:]
    return f"### {record['id']}\n\n{what}.\n\n{table(header, rows)}{_apart(record)}"


def _apart(record: dict[str, Any]) -> str:
    """How far ours was from the peers and from exact values before it was timed, and what failed."""
    lines = []
    for m in record["measurements"]:
        where = f"{m['size']}, {m['device']}"
        for part in m["parts"]:
            told = [f"{name} {found:.2g} ({limit:g} allowed)" for name, (found, limit) in part["agreement"].items()]
            lines += [f"- {where}, {part['name']}: {'; '.join(told)}"] if told else []
        lines += [f"- {where}: **failed**: {m['failed']}"] if "failed" in m else []
    return "\n\nDifferences:\n\n" + "\n".join(lines) if lines else ""


def _measured(row: dict[str, Any]) -> list[str]:
    """Seconds, speed with its quartiles and memory of a row; what was not measured is a dash."""
    if not row["fits"]:
        return ["does not fit", "-", "-"]
    speed = "{:.2f} [{:.2f}, {:.2f}]".format(row["ratio"], *row["spread"]) if "ratio" in row else "-"
    memory = f"{row['process_gb']:.2f} GB" if "process_gb" in row else number(row.get("memory_ratio"), 2)
    copies = f", {row['copies']:.1f} copies" if "copies" in row else ""
    busy = f", device {row['busy']:.0%} busy" if "busy" in row else ""
    return [number(row.get("seconds"), 3) + busy, speed, memory + copies]


def _asked(row: dict[str, Any]) -> str:
    verdict = {True: "met", False: "**missed**", None: "not measured"}[row["met"]]
    asked = "; ".join(ASKED[quantity].format(limit) for quantity, limit in row["target"].items())
    return f"{asked}: {verdict}" if asked else "-"


def scaling(root: Path | None = None) -> str:
    """Seconds a step and memory of every recorded point, axis by axis."""
    path = (root or ROOT) / "results" / "scaling.json"
    if not path.exists():
        return "Nothing is recorded yet: `python benchmarks/scaling.py` has not been run."
    rows = [
        [
            axis,
            "x".join(map(str, p["shape"])),
            *(str(p[key]) for key in ("classes", "pool", "batches", "processes")),
            *(number(p["seconds"].get(stage), 3) for stage in ("register", "distil")),
            f"{p['process_gb']:.2f}",
        ]
        for axis, points in json.loads(path.read_text(encoding="utf-8"))["axes"].items()
        for p in points
    ]
    header = ["grows", "voxels", "classes", "pool", "batches a step", "processes"]
    return table([*header, "registration step, s", "distillation step, s", "a process, GB"], rows)
