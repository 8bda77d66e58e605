"""What is recorded under results/, and what the papers' claims come to by it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from made.common import ROOT
from soloatlas.tables import markdown_table as table
from soloatlas.tables import number


def records(root: Path | None = None) -> list[tuple[str, dict[str, Any]]]:
    """(path, content) of the result files that `soloatlas reproduce` wrote, by path."""
    from soloatlas.reproduction.records import recorded_tables

    root = root or ROOT
    return [
        (path.relative_to(root).as_posix(), content)
        for path, content in recorded_tables(root / "results")
        if {"split", "reference"} <= set(content)
    ]


NONE_YET = "No results are recorded yet: `results/` holds no file written by `soloatlas reproduce`."


def headline_results(root: Path | None = None) -> str:
    """For each cohort the method, the warped atlas and the peers, test scans only; a row of several tables once.

    It is shown from the table with the most seeds.
    """
    from soloatlas.reproduction.records import cohort_of

    best: dict[tuple[str, str], list[str]] = {}
    for path, record in records(root):
        if record["split"] != "test":
            continue
        for row in record["rows"]:
            key, seeds = (cohort_of(record), row["name"]), len(row["runs"])
            if row.get("headline") and (key not in best or int(best[key][6]) < seeds):
                scans = [str(record["scans"]), str(record["unlabelled"])]
                about = [f"`{row['method']}`", _labels(record), *scans]
                best[key] = [*key, *about, *_scores(row), f"[{Path(path).name}]({path})"]
    rows = [*best.values(), *peers(root or ROOT)]
    about = ["cohort", "row", "method", "labels", "scans", "unlabelled", "seeds", "min"]
    return table([*about, "DSC", "HD95 mm", "recorded in"], rows) if rows else NONE_YET


def peers(root: Path) -> list[list[str]]:
    """Rows of the peers that a script in benchmarks/ ran on the same test scans."""
    rows = []
    for path in sorted((root / "results").rglob("ants-syn.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        scores = ["-", number(r["mean_dice"], 3), number(r["mean_hd95_mm"], 2)]
        name = path.relative_to(root).as_posix()
        about = [r["cohort"], "ANTs SyN, ANTsPy defaults, same atlas", "-", "all", str(len(r["case_dice"])), "0", "1"]
        rows.append([*about, *scores, f"[{path.name}]({name})"])
    return sorted(rows)


def _labels(record: dict[str, Any]) -> str:
    """How many labels were scored, from `Scoring.in_words`."""
    listed = re.match(r"labels ([\d, ]*\d)", record.get("scored", "every label"))
    return str(listed[1].count(",") + 1) if listed else "all"


def _scores(row: dict[str, Any]) -> list[str]:
    minutes = sum(sum(run["seconds"].values()) for run in row["runs"]) / len(row["runs"]) / 60
    return [str(len(row["runs"])), f"{minutes:.0f}", number(row["dice"], 3), number(row["hd95_mm"], 2)]


def all_results(root: Path | None = None) -> str:
    """Every recorded table, row by row, ours beside the published figures."""
    parts = [_record(path, record) for path, record in records(root)]
    return "\n\n".join(parts) if parts else NONE_YET


def _record(path: str, record: dict[str, Any]) -> str:
    from soloatlas.reproduction.measures import derive
    from soloatlas.reproduction.records import cohort_of
    from soloatlas.reproduction.rendering import cells, notebook_note, published_in_words

    derive(record["rows"], record["reference"])  # as it is computed today
    every = ", ".join(f"`{c}`" for c in record["changes"]) or "none"
    return (
        f"### {record['id']} on {cohort_of(record)}, {record['split']} scans\n\n"
        f"{record['title']} ({record['source']}). {record['scans']} scans, {record['unlabelled']} unlabelled, "
        f"seeds {', '.join(map(str, record['seeds']))}; scored: {record.get('scored', 'not recorded')}; settings for "
        f"every row: {every}. {published_in_words(record)}Difference from: {record['reference']}, paired over scans, "
        f"95 % interval over scans and seeds. File: [{path}](../../{path}).{_former(record)}\n\n"
        + table(*cells({"measures": ["dice", "hd95_mm"], **record}))
        + notebook_note(record)
    )


def _former(record: dict[str, Any]) -> str:
    """Names the defaults that have changed since; a setting that did not exist then was as its class has it."""
    from soloatlas.methods import load_method, settings_of
    from soloatlas.settings import applicable, essential, flat, to_dict

    changed: dict[str, str] = {}
    for row in record["rows"]:
        module = load_method(row["method"])
        preset = record.get("preset", "quick")
        asked = [*applicable(module.preset(preset), record["changes"]), *row["changes"]]
        now, plain = (flat(essential(to_dict(s))) for s in (settings_of(module, preset, asked), module.Settings()))
        then = {**plain, **flat(essential(row["runs"][0]["settings"]))}
        changed |= {key: f"`{key}={then[key]}` (now {now[key]})" for key in now if then[key] != now[key]}
    return f" **Recorded with former defaults: {', '.join(changed.values())}.**" if changed else ""


NONE_COMPARED = "Nothing is recorded yet: `python benchmarks/compare_cohort.py` has not been run."


def comparisons(root: Path | None = None) -> str:
    """The table of every recorded `soloatlas compare`."""
    from soloatlas.comparison.table import cells, header, length_of

    root, parts = root or ROOT, []
    for path in sorted((root / "results").rglob("compare.json")):
        r = json.loads(path.read_text(encoding="utf-8"))
        name = path.relative_to(root).as_posix()
        about = (
            f"{r['scans']} test scans, {r['unlabelled']} unlabelled, preset {r['preset']}, seeds "
            f"{', '.join(map(str, r['seeds']))}, {length_of(r)}; p against {r['reference']}. "
            f"File: [{name}](../../{name})."
        )
        parts.append(f"### {r['study']}\n\n{about}\n\n{table(header(), [cells(row) for row in r['rows']])}")
    return "\n\n".join(parts) if parts else NONE_COMPARED


def claims(root: Path | None = None) -> str:
    """Each claim of the papers and what the recorded results say of it."""
    from soloatlas.reproduction.verdict_tables import as_markdown
    from soloatlas.reproduction.verdicts import read_records, verdicts

    return as_markdown(verdicts(read_records((root or ROOT) / "results")))
