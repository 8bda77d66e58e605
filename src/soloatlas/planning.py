"""What a training will cost here, measured before it is paid: a few steps of every stage, then arithmetic."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from soloatlas.data.study import Study
from soloatlas.devices import free_memory
from soloatlas.prepare import unprepared
from soloatlas.tables import text_table

if TYPE_CHECKING:
    import torch

    from soloatlas.training import Progress, Trial
    from soloatlas.training_run import TrainingRun

SAMPLE = 6  # scans of the pool that are prepared to see how long one takes


@dataclass(frozen=True)
class Part:
    """One part of a training: its name, its expected seconds, and how they were found."""

    name: str
    seconds: float
    how: str


@dataclass(frozen=True)
class Plan:
    """What a training will take.

    Attributes:
        study, method, preset: what was asked for; ``scans``: unlabelled ones that the method looks at.
        shape: voxels of the working grid; ``spacing`` in mm; ``patch``: what of it is seen at once, empty for all.
        device, precision: where and how it will be computed.
        parts: in their order.
        seconds: their sum.
        segment_seconds: of one scan, file to file, start of the program and loading of the run left out.
        memory_gb: peak of this process, and ``device_memory_gb`` of its GPU (0 without one).
        free_memory_gb: what the device has left now; None where the system does not tell.
        disk_gb: of the run's folder and of prepared scans in the cache; ``free_disk_gb`` where the program runs.
    """

    study: str
    method: str
    preset: str
    scans: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    patch: tuple[int, ...]
    device: str
    precision: str
    parts: tuple[Part, ...]
    seconds: float
    segment_seconds: float
    memory_gb: float
    device_memory_gb: float
    free_memory_gb: float | None
    disk_gb: float
    free_disk_gb: float

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return asdict(self)


def plan_training(
    study: Study,
    method: ModuleType,
    preset: str,
    settings: Any,
    seed: int,
    cache: Path,
    progress: Progress | None = None,
) -> Plan:
    """Prepare some scans, train a few steps of every stage in a folder that is thrown away, and extrapolate.

    Scans that are prepared stay in the cache: the training finds them there. The trial has the whole pool's size in
    memory (the sample, repeated).

    Args:
        study: as for a training; ``method`` the module of its method, ``settings`` those of its ``preset``.
        cache: where prepared scans are kept.
    """
    from soloatlas.machine import peak_memory
    from soloatlas.training import Trial
    from soloatlas.training_run import TrainingRun

    example = next(iter(study.unlabelled), study.atlas)
    if method.METHOD.pool == "none":
        study = replace(study, unlabelled=())
    scans, missing = len(study.unlabelled), unprepared(study, settings.prepare, cache)
    some = _of_pool(study, (missing or range(scans))[:SAMPLE])
    with tempfile.TemporaryDirectory(prefix="soloatlas-plan-") as folder:
        run = TrainingRun.begin(some, Path(folder) / "run", method, preset, settings, seed, resume=False)
        run.trial = Trial()
        preparing = _prepare(run, scans, len(missing), cache, progress)
        learning, device = _learn(run, study, progress)
        run.finish()
        parts = (preparing, *learning)
        grid = run.prepared.working  # type: ignore[union-attr]
        return Plan(
            study=study.name,
            method=method.METHOD.name,
            preset=preset,
            scans=scans,
            shape=grid.shape,
            spacing=grid.spacing,
            patch=tuple(run.record["settings"].get("student", {}).get("patch", ())),
            device=run.record["device"],
            precision=run.record["precision"],
            parts=parts,
            seconds=sum(part.seconds for part in parts),
            segment_seconds=_segment(run, example),
            memory_gb=peak_memory() / 1e9,
            device_memory_gb=_device_memory_gb(device),
            free_memory_gb=_known_gb(free_memory(device)),
            disk_gb=(_bytes_in(run.folder) + len(missing) * 2 * math.prod(grid.shape)) / 1e9,
            free_disk_gb=shutil.disk_usage(Path.cwd()).free / 1e9,
        )


def _of_pool(study: Study, numbers: Sequence[int]) -> Study:
    """The study with these scans of its pool, and their labels if it has any."""
    labels = tuple(study.pool_labels[n] for n in numbers) if study.pool_labels else ()
    return replace(study, unlabelled=tuple(study.unlabelled[n] for n in numbers), pool_labels=labels)


def _prepare(run: TrainingRun, scans: int, missing: int, cache: Path, progress: Progress | None) -> Part:
    """Prepare the run's scans, and say what all take that are ``missing`` in the cache."""
    ended: list[float] = []

    def watch(task: str, done: int, total: int, note: str = "") -> None:
        ended.append(time.monotonic())
        if progress:
            progress(task, done, total, note)

    began = time.monotonic()
    run.prepare(cache, watch)
    taken, sample = time.monotonic() - began, len(run.study.unlabelled)
    if not missing:
        return Part("prepare", taken * scans / max(1, sample), "from the cache")
    each = (ended[-1] - ended[1]) / max(1, sample - 1)  # the first to end has waited for the processes to start
    return Part("prepare", taken + each * (missing - sample), f"{missing} scans of {each:.2f} s")


def _learn(run: TrainingRun, study: Study, progress: Progress | None) -> tuple[list[Part], torch.device]:
    """Make a few steps of every stage and measure some fields; what all of it takes, and on which device."""
    from soloatlas.training_run import material_of

    assert run.prepared and run.trial
    session, few, scans = run.session(progress), run.prepared, len(study.unlabelled)
    numbers = [n % len(few.scans) for n in range(scans)] if few.scans else []
    whole = replace(few, scans=tuple(few.scans[n] for n in numbers))
    began = time.monotonic()
    run.train(material_of(whole, session, _of_pool(run.study, numbers)), session)
    loop = run.settings.loop
    learning = stage_parts(run.trial, time.monotonic() - began, loop.minutes, loop.fill)
    run.measure_fields(material_of(few, session, run.study), session)
    took = run.record["seconds"].get("measure fields", 0.0)
    each = took / max(1, len(few.scans))
    return [*learning, Part("measure fields", each * scans, f"{scans} scans of {each:.2f} s")], session.device


def _known_gb(room: float) -> float | None:
    return room / 1e9 if math.isfinite(room) else None


def stage_parts(trial: Trial, taken: float, minutes: float = 0.0, fill: bool = False) -> list[Part]:
    """What the stages take in full, from a trial of them that took ``taken`` seconds in all.

    A step's price is the mean over the trial's steps but the first. What the trial spent outside of these happens
    once: making the networks, their first step, the fields of the pool.

    Args:
        minutes: limit of the training's time; 0: none. With ``fill`` all of it is taken.
    """
    parts, counted = [], 0.0
    for name, (steps, ended) in trial.stages.items():
        made, spent = len(ended) - 1, ended[-1] - ended[0]
        each = spent / made if made else 0.0
        counted += spent
        parts.append(Part(name, each * steps, f"{steps} steps of {each:.3f} s"))
    asked = sum(part.seconds for part in parts)
    if minutes and asked and (fill or asked > 60 * minutes):
        limit = f", to fill loop.minutes={minutes:g}" if fill else f" at most, cut to loop.minutes={minutes:g}"
        parts = [replace(p, seconds=p.seconds * 60 * minutes / asked, how=p.how + limit) for p in parts]
    return [*parts, Part("around them", taken - counted, "networks, first steps, fields of the pool")]


def _segment(run: TrainingRun, scan: Path) -> float:
    """Seconds of segmenting one scan with what the trial has left."""
    from soloatlas.runs import open_run
    from soloatlas.segmentation import segment_scans

    maps = segment_scans(open_run(run.folder), [scan], run.folder.parent / "maps", device=run.settings.loop.device)
    return float(json.loads((maps / "segment.json").read_text(encoding="utf-8"))["cases"][0]["seconds"])


def _device_memory_gb(device: torch.device) -> float:
    import torch

    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else 0.0


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def as_text(plan: Plan) -> str:
    """A plan for a terminal."""
    size = " x ".join(map(str, plan.shape))
    spacing = " x ".join(f"{s:.2f}" for s in plan.spacing)
    patches = f", patches of {' x '.join(map(str, plan.patch))}" if plan.patch else ""
    rows = [[part.name, duration(part.seconds), part.how] for part in plan.parts]
    rows.append(["in all", duration(plan.seconds), ""])
    gpu = f", {plan.device_memory_gb:.1f} GB of the GPU's" if plan.device_memory_gb else ""
    free = f" (free now: {plan.free_memory_gb:.1f} GB)" if plan.free_memory_gb is not None else ""
    return "\n".join(
        [
            f"{plan.study}: {plan.scans} unlabelled scans; {plan.method}, preset {plan.preset}, on {plan.device} in "
            f"{plan.precision}",
            f"working grid: {size} voxels of {spacing} mm{patches}",
            "",
            text_table(["part", "time", "how it was found"], rows),
            "",
            f"memory: {plan.memory_gb:.1f} GB{gpu}{free}",
            f"disk: {plan.disk_gb:.2f} GB, run folder and cache of prepared scans (free: {plan.free_disk_gb:.0f} GB)",
            f"segmenting: {plan.segment_seconds:.1f} s a scan, and some seconds to start",
        ]
    )


def duration(seconds: float) -> str:
    """Such as 2 h 05 min, 3 min 20 s, 45 s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
