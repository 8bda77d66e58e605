"""Several methods on one study: the same data, splits, seeds and time for each; one table, one page.

A row (method and seed) is known by the hash of its settings and of the study's files; a finished one is not run
again. Each is trained in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.atomic import read_json, write_csv, write_json
from soloatlas.data.files import file_sha256
from soloatlas.data.study import Study, with_more_atlases
from soloatlas.errors import InputError, RunError
from soloatlas.evaluation import EVERY_LABEL, Scoring, kept_scores, score_study
from soloatlas.machine import about_machine
from soloatlas.methods import Method, available_methods, lacks_modules, load_method, settings_of
from soloatlas.runs import GENERATION, command_line, read_record, versions
from soloatlas.settings import applicable, essential, require_applicable, to_dict
from soloatlas.tables import number, text_table

if TYPE_CHECKING:
    from soloatlas.training import Progress

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")


@dataclass(frozen=True)
class Request:
    """What is asked of every method.

    Attributes:
        preset: of its settings; ``changes`` to them, where a method has the setting.
        seeds: each method is trained with each.
        minutes: of training at most; 0: as long as the steps take.
        reference: the method that others are tested against; empty: os-medseg where it takes part, else the first.
        scoring: of the study's test scans.
        atlases: labelled scans that a multi-atlas method gets: the atlas, and others from the labelled pool.
    """

    preset: str = "quick"
    changes: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    minutes: float = 0.0
    reference: str = ""
    scoring: Scoring = EVERY_LABEL
    atlases: int = 5


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
        InputError: no test labels, an unknown method, or one that needs what the study lacks.
        RunError: a method failed.
    """
    from soloatlas.reporting.comparison import write_page

    if not study.test_labels:
        raise InputError("compare: needs labelled test scans; give --test and --test-labels")
    names = _chosen(study, methods, request)
    reference = _reference(names, request.reference)
    require_applicable([load_method(name).preset(request.preset) for name in names], request.changes)
    rows = [_row(study, name, output, request, progress) for name in names]
    rows = _tested(rows, reference)
    record = {
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
    write_json(output / "compare.json", record)
    _write_csv(output / "compare.csv", rows)
    write_page(record, output / "compare.html")
    return as_text(record)


def _chosen(study: Study, methods: Sequence[str] | None, request: Request) -> list[str]:
    known = available_methods()
    if methods is None:
        return [name for name, m in known.items() if not _lacking(study, m, request)]
    for name in methods:
        lacking = _lacking(study, load_method(name).METHOD, request)
        if lacking:
            raise InputError(f"compare: {name} {lacking}")
    return list(methods)


def _reference(names: Sequence[str], asked: str) -> str:
    """The method that the others are tested against."""
    if asked and asked not in names:
        raise InputError(f"--reference {asked}: not among the methods to compare ({', '.join(names)})")
    return asked or ("os-medseg" if "os-medseg" in names else names[0])


def _lacking(study: Study, method: Method, request: Request) -> str:
    """What a method needs and the study or this machine has not; empty where nothing is missing."""
    if method.pool == "labelled" and not study.pool_labels:
        return "learns from the pool's labels; give --pool-labels DIR"
    if method.atlases == "several" and not study.pool_labels:
        return "takes further atlases from the pool; give --pool-labels DIR"
    taken = request.atlases - 1 if method.atlases == "several" else 0
    if len(study.unlabelled) < method.least + taken:
        return f"needs {method.least + taken} scans in the pool; give more" + (", or fewer --atlases" if taken else "")
    return lacks_modules(method)


def _study_for(method: Method, study: Study, request: Request) -> Study:
    """The study as a method may see it: labels of the pool for the bound, some as atlases, or none."""
    if method.pool == "labelled":
        return study
    if method.atlases == "one":
        return replace(study, pool_labels=())
    return with_more_atlases(study, request.atlases - 1)


def _row(study: Study, name: str, output: Path, request: Request, progress: Progress | None) -> dict[str, Any]:
    method = load_method(name).METHOD
    seen = _study_for(method, study, request)
    runs = [_run(seen, name, seed, output, request, progress) for seed in request.seeds]
    mean = {m: _mean([run[f"mean_{m}"] for run in runs]) for m in METRICS}
    means = {c: _mean([run["case_dice"][c] for run in runs]) for c in runs[0]["case_dice"]}
    cases = {c: mean for c, mean in means.items() if mean is not None}  # the others had nothing to score
    return {
        "method": name,
        "family": method.family,
        "one_shot": not (seen.pool_labels or seen.more_atlases),
        **mean,
        "min": min(cases.values(), default=None),
        "max": max(cases.values(), default=None),
        "case_dice": cases,
        **{key: _mean([run[key] for run in runs]) for key in COSTS},
        "runs": runs,
    }


COSTS = ("folding_percent", "sd_log_jacobian", "train_s", "segment_s", "peak_memory_gb", "parameters")


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def changes_for(name: str, request: Request) -> list[str]:
    """The request's changes that this method's settings have, and its time."""
    wanted = applicable(load_method(name).preset(request.preset), request.changes)
    return [*wanted, f"loop.minutes={request.minutes}"] if request.minutes else wanted


def _run(
    study: Study,
    name: str,
    seed: int,
    output: Path,
    request: Request,
    progress: Progress | None,
) -> dict[str, Any]:
    """One method with one seed: found, or trained, segmented and scored in a process of its own."""
    changes = changes_for(name, request)
    settings = essential(to_dict(settings_of(load_method(name), request.preset, changes)))
    depends = json.dumps([GENERATION, name, settings, seed, asdict(request.scoring), _hashes(study)], sort_keys=True)
    digest = hashlib.sha256(depends.encode()).hexdigest()[:10]
    folder = output / "runs" / f"{name}-{digest}-seed{seed}"
    if not (folder / "row.json").exists():
        if progress:
            progress(name, 0, 1, f"seed {seed}")
        _alone(run_row, study, name, seed, folder, request, changes)
        if progress:
            progress(name, 1, 1, f"seed {seed}")
    found: dict[str, Any] = read_json(folder / "row.json")
    return found


def _hashes(study: Study) -> list[str]:
    """Of every file that a method's result and score depend on."""
    more = [path for pair in study.more_atlases for path in pair]
    files = [study.atlas, study.atlas_labels, *more, *study.unlabelled, *study.pool_labels]
    return [file_sha256(path) for path in (*files, *study.test_images, *study.test_labels)]


def _alone(work: Callable[..., None], study: Study, name: str, *more: Any) -> None:
    """``work`` in a fresh process: its peak memory is that of this method alone.

    Raises:
        RunError: the process died.
    """
    try:
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(work, study, name, *more).result()
    except BrokenProcessPool as error:
        raise RunError(
            f"compare: the process of {name} died (out of memory?); the same command goes on with the methods that "
            "are left, --methods leaves one out"
        ) from error


def run_row(study: Study, name: str, seed: int, folder: Path, request: Request, changes: Sequence[str]) -> None:
    """Train, segment and score one method with one seed, and write ``folder/row.json``."""
    from soloatlas import pipeline
    from soloatlas.progress import shown_progress
    from soloatlas.reporting.contents import read_contents

    with shown_progress() as progress:
        resume = (folder / "run.json").exists()
        pipeline.train(study, folder, name, request.preset, changes, seed, resume, progress=progress)
        pipeline.segment(folder, study.test_images, folder / "test", progress=progress)
    scores = score_study(folder / "test", study, request.scoring, folder / "scores")
    record = read_record(folder)
    segmented = read_json(folder / "test" / "segment.json")
    fields = read_contents(folder).field_means()
    write_json(
        folder / "row.json",
        {
            "seed": seed,
            **kept_scores(scores),
            "train_s": sum(record["seconds"].values()),
            "segment_s": float(np.mean([case["seconds"] for case in segmented["cases"]])),
            "peak_memory_gb": record["peak_memory_gb"],
            "parameters": sum(record["parameters"].values()),
            "folding_percent": fields.get("folding_percent"),
            "sd_log_jacobian": fields.get("sd_log_jacobian"),
            "settings": record["settings"],
        },
    )


def _tested(rows: list[dict[str, Any]], reference: str) -> list[dict[str, Any]]:
    """The rows with their difference from the reference and its p-value, best first."""
    from soloatlas.evaluation.statistics import paired_difference, wilcoxon_holm

    base = next((row for row in rows if row["method"] == reference), None)
    if base is not None:
        others = [row for row in rows if row is not base]
        scored = {c for c in base["case_dice"] if all(c in row["case_dice"] for row in others)}
        apart = {
            r["method"]: [r["case_dice"][c] - value for c, value in base["case_dice"].items() if c in scored]
            for r in others
        }
        tested = wilcoxon_holm(apart)
        for row in others:
            row["minus_reference"] = paired_difference(row["runs"], base["runs"])
            row["p"], row["p_holm"] = tested[row["method"]]
    return sorted(rows, key=lambda row: -(row["dice"] or 0))


COLUMNS = {
    "dice": ("DSC", 3),
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
    "parameters": ("parameters", 0),
    "p_holm": ("p (Holm)", 4),
}


def length_of(record: dict[str, Any]) -> str:
    """How long each method of a comparison was trained, in words."""
    return f"{record['minutes']:g} min of training each" if record["minutes"] else "as many steps as the preset has"


def cells(row: dict[str, Any]) -> list[str]:
    """A row of the table as text."""
    return [row["method"], row["family"], *(number(row.get(key), digits) for key, (_, digits) in COLUMNS.items())]


def header() -> list[str]:
    """Titles of `cells`."""
    return ["method", "family", *(title for title, _ in COLUMNS.values())]


def as_text(record: dict[str, Any]) -> str:
    """The table of a comparison for a terminal."""
    limit = f", {length_of(record)}" if record["minutes"] else ""
    where = (
        f"{record['study']}: {record['scans']} test scans, {record['unlabelled']} unlabelled, preset "
        f"{record['preset']}, seeds {record['seeds']}{limit}; p: Wilcoxon signed-rank against {record['reference']}."
    )
    return f"{where}\n\n{text_table(header(), [cells(row) for row in record['rows']])}"


def _write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    cells = ([row["method"], row["family"], *(row.get(key) for key in COLUMNS)] for row in rows)
    write_csv(path, [["method", "family", *COLUMNS], *cells])
