"""Running a table's rows on a cohort: what is missing is run, what is there is reused, all is recorded."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from soloatlas.atomic import write_json
from soloatlas.data.cohorts.shared import shared_cohort
from soloatlas.data.study import Study, with_pool_labels
from soloatlas.errors import InputError
from soloatlas.methods import Method, load_method
from soloatlas.reproduction.public import public_study
from soloatlas.reproduction.rendering import as_text
from soloatlas.reproduction.structures import structure_dice
from soloatlas.reproduction.tables import TABLES, Row, Table
from soloatlas.runs import command_line, machine, read_record, versions
from soloatlas.settings import applicable, override, require_applicable, to_dict

Split = Literal["dev", "test"]

if TYPE_CHECKING:
    from soloatlas.training import Progress

# How each cohort is prepared and scored; chosen on its dev scans.
COHORTS: dict[str, dict[str, Any]] = {
    "hippocampus": {"unlabelled": 100, "changes": ()},
    "brain_malf": {"unlabelled": None, "changes": ("prepare.spacing=2.0",)},
    "headneck_openkbp": {
        "unlabelled": None,
        # Stored values are HU + 1024: a window of -200 to 500 HU, soft tissue and bone.
        "changes": ("prepare.spacing=4.0", "prepare.normalise=window", "prepare.window=[824.0, 1524.0]"),
        "labels": (1, 3, 4, 7),
        "not_contoured_if_absent": (1, 3, 4, 7),
    },
    "mouse_fvb": {"unlabelled": None, "changes": ()},
}


def reproduce_table(
    key: str,
    cohort: str,
    output: Path,
    seeds: Sequence[int] = (0,),
    split: Split = "test",
    changes: Sequence[str] = (),
    progress: Progress | None = None,
    data: Path | None = None,
) -> str:
    """Run every row of a table on a cohort and record it.

    Args:
        key: such as ``os-medseg:table-3``.
        cohort: a folder of the shared data or, given ``data``, a public data set (`public_study`).
        output: the record goes to ``output/<cohort>/<key>.json`` (``<key>-dev.json`` on the dev scans); the
            runs stay in ``runs/<cohort>`` of the working folder, and a finished one is not run again.
        seeds: each row is run with each.
        split: scans that are scored, ``test`` or ``dev``.
        changes: settings for every row.
        data: the user's copy of the public data set.

    Returns:
        The table as text: ours, published, and the paired difference from the reference row.

    Raises:
        InputError: no such table or cohort.
    """
    if key not in TABLES:
        raise InputError(f"reproduce {key}: not a table; known: {', '.join(TABLES)}")
    table = TABLES[key]
    presets = [load_method(row.method or table.method).preset("quick") for row in table.rows]
    require_applicable(presets, changes)
    study, own = _study(cohort, split, data, progress)
    cohort, every = study.name, (*own, *changes)
    rows = [_run_row(table, row, cohort, study, seeds, split, every, progress) for row in table.rows]
    record = _record(key, table, cohort, study, seeds, split, every, rows)
    name = key.replace(":", "-") + ("" if split == "test" else f"-{split}")
    write_json(output / cohort / f"{name}.json", record)
    return as_text(record)


def _study(cohort: str, split: Split, data: Path | None, progress: Progress | None) -> tuple[Study, tuple[str, ...]]:
    """The study of a cohort and the settings that prepare it."""
    if data is not None:
        return public_study(cohort, data, Path("runs") / "cohorts", split, progress)
    if cohort not in COHORTS:
        known = ", ".join(COHORTS)
        raise InputError(f"--cohort {cohort}: not one of {known}; a public data set needs --data too")
    return shared_cohort(cohort, COHORTS[cohort]["unlabelled"], split), COHORTS[cohort]["changes"]


def _run_row(
    table: Table,
    row: Row,
    cohort: str,
    study: Study,
    seeds: Sequence[int],
    split: Split,
    every: Sequence[str],
    progress: Progress | None,
) -> dict[str, Any]:
    method = row.method or table.method
    changes = (*applicable(load_method(method).preset("quick"), every), *row.changes)
    given = with_needed_labels(study, load_method(method).METHOD, row.atlases)
    runs = [run_and_score(method, changes, row.stage, cohort, given, seed, split, progress) for seed in seeds]
    return {
        "name": row.name,
        "method": method,
        "atlases": row.atlases,
        "changes": list(row.changes),
        "stage": row.stage,
        "headline": row.headline,
        "published": dict(zip_longest(table.measures, row.published)),
        "runs": runs,
    }


def with_needed_labels(study: Study, method: Method, atlases: int) -> Study:
    """The study of a shared cohort with labels of its pool, for the methods that may see them alone.

    They lie beside the atlas's. A multi-atlas method gets the first scans of the pool as further atlases.
    """
    labels = study.atlas_labels.parent
    if method.pool == "labelled":
        return with_pool_labels(study, labels)
    further = with_pool_labels(replace(study, unlabelled=study.unlabelled[: atlases - 1]), labels)
    pairs = tuple(zip(further.unlabelled, further.pool_labels, strict=True))
    return replace(study, more_atlases=pairs, unlabelled=study.unlabelled[len(pairs) :])


def run_and_score(
    method: str,
    changes: Sequence[str],
    stage: str,
    cohort: str,
    study: Study,
    seed: int,
    split: Split,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train (or find the finished run of the same settings), segment and score the study's test scans."""
    from soloatlas import pipeline
    from soloatlas.evaluation import evaluate

    settings = to_dict(override(load_method(method).preset("quick"), changes))
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:10]
    more = f"-{1 + len(study.more_atlases)}atlases" if study.more_atlases else ""
    folder = Path("runs") / cohort / f"{method}-{digest}{more}-seed{seed}"
    begun = (folder / "run.json").exists()
    if not begun:
        share_registration(folder, settings, seed)
    pipeline.train(study, folder, method, "quick", changes, seed, resume=begun, progress=progress)
    segmentations = folder / f"{split}-{stage}"
    rule = COHORTS.get(cohort, {})
    if not (segmentations / "segment.json").exists():
        pipeline.segment(folder, study.test_images, segmentations, stage, progress=progress)
    scores = evaluate(
        segmentations,
        study.test_labels,
        folder / f"{split}-{stage}-scores",
        label_names=study.label_names,
        labels=rule.get("labels"),
        not_contoured_if_absent=rule.get("not_contoured_if_absent", ()),
    )
    return {**_summary(scores, read_record(folder), seed), **_how_it_went(folder)}


def _how_it_went(folder: Path) -> dict[str, Any]:
    """Means of fields.csv over the pool and, of an adversarial run, how sure the discriminator was.

    It counts as certain in a row of metrics.csv (a mean over some steps) if it judges over 95 % of the patches
    rightly, as confused below 55 %.
    """
    from soloatlas.reporting.contents import read_contents

    contents = read_contents(folder)
    out: dict[str, Any] = {"fields": contents.field_means()}
    right = [value for terms in contents.curves.values() for _, value in terms.get("D right", [])]
    if right:
        certain, confused = np.mean(np.array(right) > 0.95), np.mean(np.array(right) < 0.55)
        out["discriminator"] = {
            "certain": float(certain),
            "confused": float(confused),
            "mean_right": float(np.mean(right)),
            "sd_right": float(np.std(right)),
        }
    return out


def _summary(scores: dict[str, Any], run: dict[str, Any], seed: int) -> dict[str, Any]:
    from soloatlas.evaluation import kept_scores

    return {
        "seed": seed,
        **kept_scores(scores),
        "structure_dice": structure_dice(scores["labels"]),
        "seconds": run["seconds"],
        "peak_memory_gb": run["peak_memory_gb"],
        "parameters": run["parameters"],
        "ceiling": run["ceiling"]["mean_dice"],
        "settings": run["settings"],
    }


def share_registration(folder: Path, settings: dict[str, Any], seed: int) -> None:
    """Start ``folder`` with the trained registration of a finished run beside it, if one has the same.

    Rows that differ after the registration then compare students on the very same synthetic pairs.
    """
    for other in sorted(folder.parent.glob(f"*-seed{seed}")):
        trained = other / "checkpoints" / "register.safetensors"
        if other == folder or not trained.exists():
            continue
        found = read_record(other)
        same = all(found["settings"].get(k) == settings.get(k) for k in ("registration", "prepare", "loop"))
        if found["state"] == "finished" and same:
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained, folder / "checkpoints" / "register.safetensors")
            lines = (other / "metrics.csv").read_text().splitlines(keepends=True)
            rows = [line for line in lines if line.startswith(("stage,", "register,"))]
            (folder / "metrics.csv").write_text("".join(rows))
            return


def _record(
    key: str,
    table: Table,
    cohort: str,
    study: Study,
    seeds: Sequence[int],
    split: Split,
    every: Sequence[str],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:
    reference = next((r for r in rows if r["name"] == table.reference), rows[-1])
    for row in rows:
        row |= row_measures(row["runs"])
        row["structures"] = _structure_means(row["runs"])
        row["minus_reference"] = paired_difference(row["runs"], reference["runs"])
    return {
        "id": key,
        "title": table.title,
        "source": table.source,
        "published_on": table.published_on,
        "measures": list(table.measures),
        "cohort": cohort,
        "split": split,
        "scans": len(study.test_images),
        "unlabelled": len(study.unlabelled),
        "atlas": study.atlas.name,
        "seeds": list(seeds),
        "notes": list(study.notes),
        "changes": list(every),
        "reference": reference["name"],
        "rows": rows,
        "command": command_line(),
        "machine": machine(),
        "versions": versions(),
    }


def row_measures(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over seeds of a row's DSC and HD95; standard deviation, minimum and maximum over cases of the DSC.

    A case's DSC is averaged over seeds first; the deviation is the sample's (divisor n - 1). ``seed_sd`` is the
    deviation of the mean DSC over seeds.
    """
    cases = [c for c in runs[0]["case_dice"] if runs[0]["case_dice"][c] is not None]
    by_case = np.array([np.mean([run["case_dice"][c] for run in runs]) for c in cases])
    means = [run["mean_dice"] for run in runs]
    return {
        "dice": float(np.mean(means)),
        "hd95_mm": float(np.mean([run["mean_hd95_mm"] for run in runs])),
        "sd": float(by_case.std(ddof=1)) if len(cases) > 1 else 0.0,
        "min": float(by_case.min()),
        "max": float(by_case.max()),
        "seed_sd": float(np.std(means, ddof=1)) if len(means) > 1 else 0.0,
    }


def _structure_means(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Means over seeds of each structure's DSC, where every seed has one."""
    names = [name for name in runs[0]["structure_dice"] if all(name in run["structure_dice"] for run in runs)]
    return {name: float(np.mean([run["structure_dice"][name] for run in runs])) for name in names}


def paired_difference(runs: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean DSC difference over the same cases and seeds, with a bootstrap interval over cases.

    Differences are averaged over seeds within a case first, so that a case counts once.
    """
    from soloatlas.evaluation.statistics import bootstrap_interval

    cases = [c for c in runs[0]["case_dice"] if runs[0]["case_dice"][c] is not None]
    differences = [
        float(np.mean([a["case_dice"][c] - b["case_dice"][c] for a, b in zip(runs, reference, strict=True)]))
        for c in cases
    ]
    return {"dice": float(np.mean(differences)), "ci95": bootstrap_interval(differences), "cases": len(cases)}
