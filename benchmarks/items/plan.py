"""What `soloatlas plan` foretells beside what the training then takes."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import Agreement, Case, Item, Part, Place

if TYPE_CHECKING:
    from soloatlas.planning import Plan

CLOSE = 0.3  # share by which a plan may be wrong
STEPS = ("registration.steps=150", "student.steps=200")
SHORT = ("registration.steps=2", "student.steps=2", "registration.channels=[4,4,4,4]", "student.channels=[4,4,8,8,8]")


def build(place: Place) -> Case:
    """A shortened `quick` training of the simulated cohort, and its plan; both find an empty cache."""
    from soloatlas.data.demo import simulate_cohort

    tiny = place.size == "tiny"
    folder = place.folder / "cohort"
    study = simulate_cohort(folder, pool=2 if tiny else 12, test=1, spacing=8.0 if tiny else 4.0)
    planned = partial(alone, plan, study, place.folder, SHORT if tiny else STEPS)
    trained = partial(alone, train, study, place.folder, SHORT if tiny else STEPS)
    return Case(planned, {"the training itself": trained}, lambda: agreement(planned(), trained(), tiny))


def alone(work: Callable[..., Any], *inputs: Any) -> Any:
    """``work`` in a process of its own, so that its memory is its own."""
    from soloatlas.machine import worker_pool

    with worker_pool(1) as pool:
        return pool.submit(work, *inputs).result()


def plan(study: Any, folder: Path, changes: tuple[str, ...]) -> Plan:
    """The plan of a training."""
    from soloatlas import pipeline

    shutil.rmtree(folder / "cache", ignore_errors=True)
    return pipeline.plan(study, changes=changes, cache=folder / "cache")


def train(study: Any, folder: Path, changes: tuple[str, ...]) -> tuple[dict[str, Any], float]:
    """The record of the training, and the disk that it filled, GB."""
    from soloatlas import pipeline
    from soloatlas.runs import read_record

    for name in ("cache", "run"):
        shutil.rmtree(folder / name, ignore_errors=True)
    record = read_record(pipeline.train(study, folder / "run", changes=changes, cache=folder / "cache"))
    files = [path for name in ("cache", "run") for path in (folder / name).rglob("*") if path.is_file()]
    return record, sum(path.stat().st_size for path in files) / 1e9


def agreement(planned: Plan, trained: tuple[dict[str, Any], float], tiny: bool) -> Agreement:
    """How far the plan is from what was then measured. Two steps foretell nothing: the smallest size has no limit."""
    limit = math.inf if tiny else CLOSE
    record, disk_gb = trained
    taken = sum(record["seconds"].values())
    return {
        "time, as a share": (abs(planned.seconds / taken - 1), limit),
        "memory, as a share": (abs(planned.memory_gb / record["peak_memory_gb"] - 1), limit),
        "disk, as a share": (abs(planned.disk_gb / disk_gb - 1), limit),
    }


SHAPES = {"tiny": (32, 32, 32), "small": (48, 64, 48)}
ITEM = Item(
    "plan",
    "a plan of a training (os-medseg, quick, 150 and 200 steps, 12 scans at 4 mm) beside the training",
    [Part("shortened quick", build, shapes=SHAPES, rounds=(1, 1), memory=False)],
)
