"""Running the rows of a table or figure on a cohort, and what is recorded of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soloatlas.atomic import write_json, write_text
from soloatlas.data.cohorts.shared import Split
from soloatlas.data.labels import read_label_names, united_sides
from soloatlas.data.study import Study
from soloatlas.devices import power_of_each
from soloatlas.errors import InputError
from soloatlas.evaluation import Scoring
from soloatlas.methods import load_method
from soloatlas.reproduction.deviations import deviations
from soloatlas.reproduction.figure_run import write_figure, write_plot
from soloatlas.reproduction.listing import everything
from soloatlas.reproduction.measures import derive
from soloatlas.reproduction.public import public_study
from soloatlas.reproduction.published import beside
from soloatlas.reproduction.recipes import cohort_recipe, cohort_study, paper_preset
from soloatlas.reproduction.rendering import as_latex, as_markdown, as_text
from soloatlas.reproduction.row_run import Conditions, Finished, circumstances, row_record, tasks_of
from soloatlas.reproduction.rows import Pictures, Table
from soloatlas.reproduction.side_by_side import run_tasks
from soloatlas.reproduction.structures import labels_of
from soloatlas.settings import require_applicable

if TYPE_CHECKING:
    from soloatlas.training import Progress


def reproduce_table(
    key: str,
    cohort: str,
    output: Path,
    seeds: Sequence[int] = (0,),
    split: Split = "test",
    changes: Sequence[str] = (),
    progress: Progress | None = None,
    data: Path | None = None,
    preset: str = "quick",
    minutes: float = 0.0,
    jobs: int = 1,
    tag: str = "",
) -> str:
    """Run every row of a table, or of a figure, on a cohort, record it and draw what the paper draws.

    Args:
        key: such as ``os-medseg:table-3`` or ``os-medseg:figure-5``.
        cohort: a folder of the shared data or, given ``data``, a public data set (`public_study`).
        output: the record goes to ``output/<cohort>/<key>.json`` (``<key>-dev.json`` on the dev scans), the table
            to ``.md`` and ``.tex`` beside it, a figure to ``.png`` and ``.svg``; the runs stay in ``runs/<cohort>``
            of the working folder, and a finished one is not run again.
        seeds: each row is run with each.
        split: scans that are scored, ``test`` or ``dev``.
        changes: settings for every row that has them.
        data: the user's copy of the public data set.
        preset: of every method.
        minutes: of training, filled by every run that trains (with SyN's fields, by the student's share of them); 0: as
            long as the steps take.
        jobs: runs at a time (`side_by_side`).
        tag: a word that keeps this record apart from others of the same table and cohort.

    Returns:
        The table as text: ours, published, and the paired difference from the reference row; or what a figure shows.

    Raises:
        InputError: no such table, figure or cohort, a change that no row's method has, or a run that lacks what
            is to be drawn.
    """
    known = everything()
    if key not in known:
        raise InputError(f"reproduce {key}: not a table or figure; known: {', '.join(known)}")
    if not re.fullmatch(r"[A-Za-z0-9]*", tag):
        raise InputError(f"--tag {tag}: is part of a file's name; give letters and digits")
    if tag == "dev" or f"{key}-{tag}" in known:
        raise InputError(f"--tag {tag}: names another record; choose another word")
    of = known[key]
    require_applicable([load_method(row.method or of.method).preset(preset) for row in of.rows], changes)
    conditions = _conditions(cohort, split, data, progress)
    if isinstance(of, Table):
        of = beside(key, of, conditions.study.name)
        if of.unite_sides:
            require_sides(conditions.study)
    limit = (f"loop.minutes={minutes}", "loop.fill=true") if minutes else ()
    conditions = replace(
        conditions,
        seeds=tuple(seeds),
        preset=preset,
        changes=(*conditions.changes, *changes, *limit),
        scoring=_scoring(of, conditions),
        power=power_of_each(jobs),
        tag=tag,
    )
    rows = _finished(of, conditions, jobs, progress)
    name = "-".join(filter(None, (key.replace(":", "-"), tag, "" if split == "test" else split)))
    stem = output / conditions.study.name / name
    if isinstance(of, Pictures):
        return write_figure(key, of, conditions, rows, stem)
    return _write_table(key, of, conditions, rows, stem)


def _finished(of: Table | Pictures, conditions: Conditions, jobs: int, progress: Progress | None) -> list[Finished]:
    """Every row with every seed, run where that is missing."""
    from soloatlas.pipeline import requested

    tasks = [tasks_of(of, row, conditions) for row in of.rows]
    for task in (task for of_row in tasks for task in of_row):  # before the first has run for hours
        requested(task.conditions.study, task.method, preset=task.conditions.preset, changes=task.conditions.changes)
    runs = iter(run_tasks([task for of_row in tasks for task in of_row], jobs, progress))
    return [
        Finished(row, tuple(of_row), tuple(next(runs) for _ in of_row))
        for row, of_row in zip(of.rows, tasks, strict=True)
    ]


def _write_table(key: str, table: Table, conditions: Conditions, rows: Sequence[Finished], stem: Path) -> str:
    """Record a table, plot it where the paper does, and return it as text."""
    record = _record(key, table, conditions, [row_record(table, finished) for finished in rows])
    write_json(stem.with_suffix(".json"), record)
    write_text(stem.with_suffix(".tex"), as_latex(record))
    plot = write_plot(table, rows, stem) if table.drawing else ""
    shown = f"\n![{table.title}]({stem.name}.png)\n\n{plot}\n" if plot else ""
    write_text(stem.with_suffix(".md"), as_markdown(record) + shown)
    return as_text(record) + (f"\n\n{plot}\nfigure: {stem}.png, .svg" if plot else "")


def _scoring(of: Table | Pictures, conditions: Conditions) -> Scoring:
    """How the cohort is scored, in the structures of the table if it has them and its recipe does not choose others."""
    scoring, study = conditions.scoring, conditions.study
    names = read_label_names(study.label_names) if study.label_names else {}
    labels = scoring.labels or labels_of(of.structures, names, all_of_them=of.all_structures)
    return replace(scoring, labels=labels, unite_sides=of.unite_sides)


def require_sides(study: Study) -> None:
    """See that structures can be scored left and right as one: before the first row is trained.

    Raises:
        InputError: no name tells the sides apart.
    """
    names = read_label_names(study.label_names) if study.label_names else {}
    if not united_sides(names):
        raise InputError(f"{study.name}: this table scores left and right as one, and no label has a left and a right")


def _conditions(cohort: str, split: Split, data: Path | None, progress: Progress | None) -> Conditions:
    """A cohort's study, and how it is prepared and scored."""
    if data is not None:
        study, own = public_study(cohort, data, Path("runs") / "cohorts", split, progress)
        return Conditions(study, split, changes=own)
    recipe = cohort_recipe(cohort)
    return Conditions(cohort_study(cohort, split), split, changes=recipe.changes, scoring=recipe.scoring)


def _record(key: str, table: Table, conditions: Conditions, rows: list[dict[str, Any]]) -> dict[str, Any]:
    derive(rows, table.reference)
    papers = paper_preset(conditions.study.name)
    return {
        "id": key,
        "title": table.title,
        "source": table.source,
        "published_on": table.published_on,
        "measures": list(table.measures),
        **circumstances(conditions),
        "papers_preset": papers,
        "deviations": deviations(
            list(dict.fromkeys(row["method"] for row in rows)), conditions.preset, conditions.changes, papers
        ),
        "reference": table.reference,
        "notes": [*conditions.study.notes, *_notes(table, conditions)],
        "rows": rows,
    }


def _notes(table: Table, conditions: Conditions) -> list[str]:
    """What a limit of time means for a row that is half of a method, and for one that SyN registers."""
    halves = [row for row in table.rows if row.stage == "register" and _has_student(row.method or table.method)]
    by_syn = [row for row in table.rows if "registration.network=syn" in row.changes]
    if not any(change.startswith("loop.minutes=") for change in conditions.changes):
        return []
    told = (
        (halves, "the registration has a share of the limit alone, the student of the same run has the rest"),
        (by_syn, "SyN's time is no part of the limit; the student has what is its share beside a network"),
    )
    return [f"{', '.join(row.name for row in rows)}: {what}" for rows, what in told if rows]


def _has_student(method: str) -> bool:
    return "student" in load_method(method).METHOD.stages
