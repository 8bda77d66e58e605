"""One method with one seed: trained, segmented and scored in a process of its own, so that its memory is its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.atomic import read_json, write_json
from soloatlas.comparison.request import Request, changes_for
from soloatlas.data.files import file_sha256, scan_name
from soloatlas.data.study import Study
from soloatlas.devices import power_of_each
from soloatlas.errors import RunError
from soloatlas.evaluation import kept_scores, score_study
from soloatlas.machine import about_machine, helpers_memory, peak_memory, worker_pool
from soloatlas.methods import load_method, settings_of
from soloatlas.runs import GENERATION, read_record
from soloatlas.settings import essential, to_dict

if TYPE_CHECKING:
    from soloatlas.training import Progress

FIELDS = 5  # test scans whose fields are looked at


def found_or_run(
    study: Study, name: str, seed: int, output: Path, request: Request, progress: Progress | None
) -> dict[str, Any]:
    """The content of ``row.json`` of a run that is known by its settings, files and, under a limit of time, machine.

    Raises:
        InputError, RunError: the method failed; what it has done is gone on with by the next call.
    """
    changes = changes_for(name, request)
    settings = essential(to_dict(settings_of(load_method(name), request.preset, changes)))
    power = power_of_each(1) if request.minutes else ""
    depends = [GENERATION, name, settings, seed, asdict(request.scoring), _hashes(study), power]
    digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:10]
    folder = output / "runs" / f"{name}-{digest}-seed{seed}"
    if not (folder / "row.json").exists():
        if folder.exists() and not (folder / "run.json").exists():
            shutil.rmtree(folder)  # a process that was killed left it without its record
        if progress:
            progress(name, 0, 1, f"seed {seed}")
        _alone(study, name, seed, folder, request, changes)
        if progress:
            progress(name, 1, 1, f"seed {seed}")
    found: dict[str, Any] = read_json(folder / "row.json")
    return found


def _hashes(study: Study) -> list[str]:
    """Of every file that a method's result and score depend on."""
    more = [path for pair in study.more_atlases for path in pair]
    files = [study.atlas, study.atlas_labels, *more, *study.unlabelled, *study.pool_labels]
    return [file_sha256(path) for path in (*files, *study.test_images, *study.test_labels)]


def _alone(study: Study, name: str, *more: Any) -> None:
    try:
        with worker_pool(1) as pool:
            pool.submit(run_and_measure, study, name, *more).result()
    except BrokenProcessPool as error:
        raise RunError("its process died (out of memory?)") from error


def run_and_measure(study: Study, name: str, seed: int, folder: Path, request: Request, changes: Sequence[str]) -> None:
    """Train, segment and score one method with one seed, and write ``folder/row.json``."""
    from soloatlas import pipeline
    from soloatlas.progress import shown_progress

    with shown_progress() as progress:
        resume = (folder / "run.json").exists()
        pipeline.train(study, folder, name, request.preset, changes, seed, resume, progress=progress)
        seconds = _segment(study, folder, progress)
        memory = _memory()  # before the fields, which nobody needs to have maps
        found_fields = _fields_to_test(study, name, folder)
    scores = score_study(folder / "test", study, request.scoring, folder / "scores")
    record = read_record(folder)
    row = {
        "seed": seed,
        **kept_scores(scores),
        "train_s": record["seconds"].get("learn", 0.0),
        "prepare_s": record["seconds"].get("prepare", 0.0),
        "segment_s": seconds,
        **memory,
        "parameters": sum(record["parameters"].values()),
        **found_fields,
        "settings": record["settings"],
        "machine": about_machine(),
    }
    write_json(folder / "row.json", row)


def _segment(study: Study, folder: Path, progress: Progress | None) -> float:
    """Segment the test scans; seconds a scan with all cores at work, whether a method takes scans one by one or not.

    Maps of an earlier sitting are made anew: a part of the time tells nothing.
    """
    from soloatlas import pipeline

    shutil.rmtree(folder / "test", ignore_errors=True)
    start = time.monotonic()
    pipeline.segment(folder, study.test_images, folder / "test", progress=progress)
    return (time.monotonic() - start) / len(study.test_images)


def _memory() -> dict[str, float]:
    """Peak so far, GB: of this process or the largest of its helpers, and on a GPU of all tensors."""
    import torch

    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    return {"peak_memory_gb": max(peak_memory(), helpers_memory()) / 1e9, "device_memory_gb": gpu / 1e9}


def _fields_to_test(study: Study, name: str, folder: Path) -> dict[str, float]:
    """Folding (% of voxels) and SDlogJ of the fields along which labels come to the first test scans; none: empty."""
    from soloatlas import pipeline

    module = load_method(name)
    if module.METHOD.stages[-1] != "register" or hasattr(module, "group"):
        return {}
    scans, place = study.test_images[:FIELDS], folder / "with-fields"
    shutil.rmtree(place, ignore_errors=True)
    pipeline.segment(folder, scans, place, save_fields=True)
    measured = [field_measures(place / "fields" / f"{scan_name(path)}_field.nii.gz") for path in scans]
    shutil.rmtree(place)
    return {key: float(np.mean([m[key] for m in measured])) for key in measured[0]}


def field_measures(path: Path) -> dict[str, float]:
    """Folding in % of voxels, and SDlogJ, of a displacement field that `segment` has saved."""
    from soloatlas import fields
    from soloatlas.field_files import read_field

    field = read_field(path)
    return {
        "folding_percent": 100 * float(fields.folding_fraction(field)),
        "sd_log_jacobian": float(fields.sd_log_jacobian(field)),
    }
