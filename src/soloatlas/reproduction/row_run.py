"""Running one row of a table: what is missing is trained, what is there is reused, and all is scored."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.atomic import read_json, write_text
from soloatlas.data.cohorts.shared import Split
from soloatlas.data.files import file_sha256, list_scans, scan_name
from soloatlas.data.study import Study, with_more_atlases, with_pool_labels
from soloatlas.evaluation import EVERY_LABEL, Scoring, kept_scores, score_study
from soloatlas.machine import about_machine
from soloatlas.methods import Method, load_method, settings_of
from soloatlas.prepare import PREPARE_VERSION
from soloatlas.reproduction.recipes import CT_LOSSES
from soloatlas.reproduction.rows import Pictures, Row, Table
from soloatlas.reproduction.structures import (
    case_dice_of,
    dice_without_zeros,
    small_structures,
    structure_case_dice,
    structure_dice,
)
from soloatlas.runs import GENERATION, command_line, read_record, same_generation, versions
from soloatlas.settings import applicable, essential, to_dict

if TYPE_CHECKING:
    from soloatlas.training import Progress


POWER = "power.txt"  # in a run folder: see `Conditions`
_JOINT = ("brbs", "lt-net")  # learn no registration by itself
_REGISTRATION = Path("checkpoints") / "register.safetensors"  # in a run folder: what the first stage learnt


@dataclass(frozen=True)
class Conditions:
    """What all rows of a table have in common.

    Attributes:
        study: atlas, pool, and the scans that are scored.
        split: what those are, ``test`` or ``dev``.
        seeds: each row is run with each.
        preset: of the methods' settings; ``changes`` to them, where a method has the setting.
        scoring: of those scans.
        power: of the machine that each run has for itself; where training is limited by time, its result depends on it.
        tag: a word that tells the record from others of the same table and cohort.
    """

    study: Study
    split: Split = "test"
    seeds: tuple[int, ...] = (0,)
    preset: str = "quick"
    changes: tuple[str, ...] = ()
    scoring: Scoring = EVERY_LABEL
    power: str = ""
    tag: str = ""


@dataclass(frozen=True)
class Task:
    """One run of a row: a method, what of it is scored, and a seed, under the row's own conditions."""

    method: str
    stage: str
    seed: int
    conditions: Conditions

    def settings(self) -> dict[str, Any]:
        """The settings of the run that its result depends on."""
        c = self.conditions
        return essential(to_dict(settings_of(load_method(self.method), c.preset, c.changes)))

    def folder(self) -> Path:
        """Where the run lies, known by the hash of its settings (and the power, if time is short) and by its data."""
        settings = self.settings()
        depends = [GENERATION, PREPARE_VERSION, settings]
        depends += [self.conditions.power] if settings["loop"]["minutes"] else []
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:10]
        study, atlases = self.conditions.study, 1 + len(self.conditions.study.more_atlases)
        several = f"-{atlases}atlases" if atlases > 1 else ""
        seen = f"{len(study.unlabelled)}scans{several}"
        return Path("runs") / study.name / f"{self.method}-{digest}-{seen}-seed{self.run_seed()}"

    def run_seed(self) -> int:
        """The seed of the run; 0 where nothing is learnt: every seed is the same run."""
        return self.seed if load_method(self.method).METHOD.learns else 0

    def segmentations(self) -> Path:
        """Where the scans of the split lie segmented."""
        return self.folder() / f"{self.conditions.split}-{self.stage}"

    def scores(self) -> Path:
        """Where `evaluation.evaluate` writes."""
        united = "-united" if self.conditions.scoring.unite_sides else ""
        return self.folder() / f"{self.conditions.split}-{self.stage}-scores{united}"


@dataclass(frozen=True)
class Finished:
    """A row, its tasks, and what `run_and_score` said of each."""

    row: Row
    tasks: tuple[Task, ...]
    runs: tuple[dict[str, Any], ...]


def tasks_of(table: Table | Pictures, row: Row, conditions: Conditions) -> list[Task]:
    """A row with every seed."""
    method = row.method or table.method
    preset = load_method(method).preset(conditions.preset)
    for_all = conditions.changes
    if "form=original" in row.changes:  # the authors' own losses, also where the cohort has others for every row
        for_all = tuple(change for change in for_all if change not in CT_LOSSES)
    changes = (*applicable(preset, for_all), *row.changes)
    study = with_needed_labels(with_share(conditions.study, row.share), load_method(method).METHOD, row.atlases)
    of_row = replace(conditions, study=study, changes=changes)
    return [Task(method, row.stage, seed, of_row) for seed in conditions.seeds]


def row_record(table: Table, finished: Finished) -> dict[str, Any]:
    """What a row is, its published cells, and what `run_and_score` said of each run."""
    row = finished.row
    return {
        "name": row.name,
        "method": row.method or table.method,
        "atlases": row.atlases,
        "share": row.share,
        "pool": len(finished.tasks[0].conditions.study.unlabelled),
        "changes": list(row.changes),
        "stage": row.stage,
        "headline": row.headline,
        "published": dict(zip_longest(table.measures, row.published)),
        "runs": list(finished.runs),
    }


def circumstances(conditions: Conditions) -> dict[str, Any]:
    """What the record of a table or figure says of how it was made."""
    study = conditions.study
    return {
        "cohort": study.name,
        "tag": conditions.tag,
        "split": conditions.split,
        "scans": len(study.test_images),
        "unlabelled": len(study.unlabelled),
        "atlas": study.atlas.name,
        "seeds": list(conditions.seeds),
        "preset": conditions.preset,
        "scored": conditions.scoring.in_words(),
        "notes": list(study.notes),
        "changes": list(conditions.changes),
        "command": command_line(),
        "machine": about_machine(),
        "versions": versions(),
    }


def with_share(study: Study, share: float) -> Study:
    """The study with that share of its pool, the first scans of it and one at least."""
    return replace(study, unlabelled=study.unlabelled[: max(1, round(share * len(study.unlabelled)))])


def with_needed_labels(study: Study, method: Method, atlases: int) -> Study:
    """The study of a shared cohort with labels of its pool, for the methods that may see them alone.

    They lie beside the atlas's; some public sets have scans without. The supervised bound learns from those that have
    labels, a multi-atlas method gets the first of them as further atlases.
    """
    if method.pool != "labelled" and atlases == 1:
        return study
    labels = study.atlas_labels.parent
    known = {scan_name(path) for path in list_scans(labels)}
    labelled = [path for path in study.unlabelled if scan_name(path) in known]
    if method.pool == "labelled":
        return with_pool_labels(replace(study, unlabelled=tuple(labelled)), labels)
    first = tuple(labelled[: atlases - 1])
    others = tuple(path for path in study.unlabelled if path not in first)
    given = with_pool_labels(replace(study, unlabelled=first), labels)
    return with_more_atlases(replace(given, unlabelled=(*first, *others)), len(first))


def run_and_score(task: Task, progress: Progress | None) -> dict[str, Any]:
    """Train (or find the finished run of the same settings), segment and score the study's test scans."""
    from soloatlas import pipeline
    from soloatlas.segmented import all_segmented

    c, study, folder = task.conditions, task.conditions.study, task.folder()
    if not (folder / "run.json").exists():
        share_registration(task)
    pipeline.train(study, folder, task.method, c.preset, c.changes, task.run_seed(), resume=True, progress=progress)
    write_text(folder / POWER, c.power)
    if not all_segmented(folder, task.stage, study.test_images, task.segmentations()):
        # Anew, whatever lies there: maps of scans that have changed, or of a run folder that has moved.
        shutil.rmtree(task.segmentations(), ignore_errors=True)
        pipeline.segment(folder, study.test_images, task.segmentations(), task.stage, progress=progress)
    scores = score_study(task.segmentations(), study, c.scoring, task.scores())
    made = read_json(task.segmentations() / "segment.json")["cases"]
    return {
        **_summary(scores, read_record(folder), task.seed),
        "segment_s": round(float(np.mean([case["seconds"] for case in made])), 2),
        **_how_it_went(folder),
    }


def _how_it_went(folder: Path) -> dict[str, Any]:
    """Means of fields.csv over the pool, steps made of each stage, and how sure a discriminator was."""
    from soloatlas.reporting.contents import read_contents

    contents = read_contents(folder)
    points = {stage: [at for curve in terms.values() for at, _ in curve] for stage, terms in contents.curves.items()}
    out: dict[str, Any] = {
        "fields": contents.field_means(),
        "steps": {stage: max(steps) for stage, steps in points.items()},
    }
    if game := contents.game():
        out["discriminator"] = game
    return out


def _summary(scores: dict[str, Any], run: dict[str, Any], seed: int) -> dict[str, Any]:
    labels, cases = scores["labels"], scores["cases"]
    small = small_structures(labels, cases)
    return {
        "seed": seed,
        **kept_scores(scores),
        "mean_dice_without_zeros": dice_without_zeros(cases),
        "structure_dice": structure_dice(labels),
        "structure_case_dice": structure_case_dice(labels, cases),
        "small_structures": small,
        "case_small_dice": case_dice_of(small, labels, cases),
        "seconds": run["seconds"],
        "peak_memory_gb": run["peak_memory_gb"],
        "parameters": run["parameters"],
        "ceiling": run["ceiling"]["mean_dice"],
        "settings": run["settings"],
        "machine": run["machine"],
        "versions": run["versions"],
    }


def registration_settings(settings: dict[str, Any], method: str) -> dict[str, Any]:
    """What a learnt registration depends on; DataAug's may see the atlas among the scans.

    The method counts where time is limited, since each gives its registration another share of it, and where all is
    learnt in one stage.
    """
    own = {key: settings.get(key) for key in ("registration", "prepare", "loop")}
    own["method"] = method if settings["loop"]["minutes"] or method in _JOINT else ""
    return own | {"atlas in pool": settings.get("sampling", {}).get("atlas", False)}


def share_registration(task: Task) -> None:
    """Start the run of ``task`` with the trained registration of a finished run beside it, if one has the same.

    Rows that differ after the registration then compare students on the very same synthetic pairs. Under a limit of
    time the student has what the registration has left of it: its checkpoint tells how long it took.
    """
    other, folder = registered_alike(task), task.folder()
    if other is None:
        return
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(other / _REGISTRATION, folder / _REGISTRATION)
    lines = (other / "metrics.csv").read_text().splitlines(keepends=True)
    rows = [line for line in lines if line.startswith(("stage,", "register,"))]
    (folder / "metrics.csv").write_text("".join(rows))


def registered_alike(task: Task) -> Path | None:
    """A finished run beside that of ``task`` whose learnt registration is the one of this task, or None.

    The same: settings, seed, the contents of atlas, labels and unlabelled scans and, where time is limited, the method
    and the power of the machine.
    """
    settings, folder = task.settings(), task.folder()
    wanted = registration_settings(settings, task.method)
    for other in sorted(folder.parent.glob(f"*-seed{task.seed}")):
        if other == folder or not (other / _REGISTRATION).exists() or not (other / "run.json").exists():
            continue  # without a record: another process is just beginning there
        found = read_record(other)
        same = registration_settings(essential(found["settings"]), found["method"]) == wanted
        same = same and not (settings["loop"]["minutes"] and _power_of(other) != task.conditions.power)
        same = same and same_generation(found) and found["state"] == "finished"
        if same and _on_inputs(found, task.conditions.study):
            return other
    return None


def _power_of(run: Path) -> str | None:
    """Of the machine on which a row's run was made, None where that was not kept."""
    return (run / POWER).read_text(encoding="utf-8") if (run / POWER).exists() else None


def _on_inputs(record: dict[str, Any], study: Study) -> bool:
    """Whether a run had the very atlas, labels and pool of ``study``, by the contents of the files."""
    given = record["inputs"]
    before = [file["sha256"] for file in (given["atlas"], given["atlas_labels"], *given["unlabelled"])]
    return before == [file_sha256(path) for path in (study.atlas, study.atlas_labels, *study.unlabelled)]
