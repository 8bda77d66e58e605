"""Several methods on one study: the same data, splits, seeds and time for each; one table, one page.

A row (method and seed) is known by the hash of its settings and of the study's files; a finished one is not run
again. The tables are written anew after each row: what is finished is never lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.atomic import write_json
from soloatlas.comparison.request import Request as Request
from soloatlas.comparison.request import (
    changes_for,
    chosen_methods,
    chosen_reference,
    require_changes_used,
    study_for,
)
from soloatlas.comparison.run import found_or_run
from soloatlas.comparison.table import as_text, compared, write_table
from soloatlas.data.study import Study
from soloatlas.errors import InputError, RunError
from soloatlas.machine import about_machine
from soloatlas.methods import load_method, settings_of
from soloatlas.runs import command_line, versions

if TYPE_CHECKING:
    from soloatlas.training import Progress

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")
COSTS = (
    "folding_percent",
    "sd_log_jacobian",
    "train_s",
    "segment_s",
    "peak_memory_gb",
    "device_memory_gb",
    "parameters",
)


def compare_methods(
    study: Study,
    methods: Sequence[str] | None,
    output: Path,
    request: Request,
    progress: Progress | None = None,
) -> str:
    """Train and score every method on the study's test scans; writes compare.json, compare.csv and compare.html.

    Args:
        study: with test scans and labels; with labels of its pool for the supervised bound and multi-atlas methods.
        methods: names; None: every installed one that the study suffices for.
        output: holds the runs and the results.
        request: see `Request`.

    Returns:
        The table as text.

    Raises:
        InputError: no test labels, an unknown method, one that needs what the study lacks, or settings that one of
            them cannot be trained with; nothing is trained then.
        RunError: methods failed; the tables hold the others, and the next call tries them again.
    """
    if not study.test_labels:
        raise InputError("compare: needs labelled test scans; give --test and --test-labels")
    names = chosen_methods(study, methods, request)
    reference = chosen_reference(names, request.reference)
    require_changes_used(names, request)
    for name in names:
        _require_trainable(name, request)
    rows: list[dict[str, Any]] = []
    for name in names:
        rows.append(_row(study, name, output, request, progress))
        record = _record(study, compared(rows, reference), request, reference)
        _write(record, output)
    if failed := [row["method"] for row in rows if "failed" in row]:
        why = next(row["failed"] for row in rows if "failed" in row)
        raise RunError(
            f"compare: {', '.join(failed)} failed ({why}); {output / 'compare.html'} has the others, the same command "
            "tries again, --methods leaves one out"
        )
    return as_text(record)


def _require_trainable(name: str, request: Request) -> None:
    module = load_method(name)
    try:
        module.validate(settings_of(module, request.preset, changes_for(name, request)))
    except InputError as error:
        raise InputError(f"compare: {name}: {error}") from error


def _row(study: Study, name: str, output: Path, request: Request, progress: Progress | None) -> dict[str, Any]:
    """A method's means over its seeds; why, if one of them failed."""
    method = load_method(name).METHOD
    seen = study_for(method, study, request)
    about = {
        "method": name,
        "family": method.family,
        "one_shot": not (seen.pool_labels or seen.more_atlases),
    }
    try:
        runs = [found_or_run(seen, name, seed, output, request, progress) for seed in request.seeds]
    except (InputError, RunError) as error:
        return {**about, "failed": str(error), "case_dice": {}, "runs": []}
    means = {c: _mean([run["case_dice"][c] for run in runs]) for c in runs[0]["case_dice"]}
    cases = {c: mean for c, mean in means.items() if mean is not None}  # the others had nothing to score
    return {
        **about,
        **{m: _mean([run[f"mean_{m}"] for run in runs]) for m in METRICS},
        "sd": float(np.std(list(cases.values()))) if cases else None,
        "min": min(cases.values(), default=None),
        "max": max(cases.values(), default=None),
        "case_dice": cases,
        **{key: _mean([run.get(key) for run in runs]) for key in COSTS},
        "runs": runs,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def _record(study: Study, rows: list[dict[str, Any]], request: Request, reference: str) -> dict[str, Any]:
    return {
        "study": study.name,
        "scans": len(study.test_images),
        "unlabelled": len(study.unlabelled),
        "preset": request.preset,
        "minutes": request.minutes,
        "seeds": list(request.seeds),
        "changes": list(request.changes),
        "scored": request.scoring.in_words(),
        "atlases": request.atlases,
        "reference": reference,
        "rows": rows,
        "command": command_line(),
        "machine": about_machine(),
        "versions": versions(),
    }


def _write(record: dict[str, Any], output: Path) -> None:
    from soloatlas.reporting.comparison import write_page

    write_json(output / "compare.json", record)
    write_table(output / "compare.csv", record["rows"])
    write_page(record, output / "compare.html")
