"""A whole study on the working grid: every scan prepared once, in parallel, and kept on disk."""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from soloatlas.atomic import write_array, write_json
from soloatlas.data.files import file_sha256, read_labels, read_volume, scan_name
from soloatlas.data.labels import LabelTable, label_table, read_label_names
from soloatlas.data.study import Study
from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.machine import cores, free_main_memory, worker_pool
from soloatlas.prepare.alignment import align
from soloatlas.prepare.grids import (
    Placement,
    grid_from_json,
    grid_to_json,
    place,
    prepare_labels,
    resample,
    working_grid,
)
from soloatlas.prepare.intensity import normalise
from soloatlas.settings import Prepare, from_dict, to_dict

HELPER_DIED = "a helper process died (out of memory, or a script without the __main__ guard); going on in one process"
PREPARE_VERSION = 3  # raise it when a scan would be prepared differently: caches of older versions are not read

Progress = Callable[[int, int], None]  # (scans done, scans in all)
Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the working grid.

    Attributes:
        name: file name without its ending.
        image: (x, y, z) float16 in [0, 1]; 0 outside the field of view.
        placement: the way back to the scan's own grid.
        score: normalised cross-correlation with the atlas after alignment, in [-1, 1].
        aligned: False where the alignment is not to be trusted (`align`).
    """

    name: str
    image: np.ndarray
    placement: Placement
    score: float
    aligned: bool


@dataclass(frozen=True, eq=False)
class PreparedStudy:
    """All that training needs of a study.

    Attributes:
        working: the grid of every image.
        atlas: the labelled scan.
        atlas_labels: (x, y, z) class map on the working grid.
        table: classes to file values, names, colours, sides.
        scans: the pool, in the study's order.
        settings: how they were prepared.
    """

    working: Grid
    atlas: Prepared
    atlas_labels: np.ndarray
    table: LabelTable
    scans: tuple[Prepared, ...]
    settings: Prepare


def prepare_scan(
    scan: Volume,
    atlas: Volume,
    working: Grid,
    settings: Prepare,
    labels: Volume | None = None,
    name: str | None = None,
) -> Prepared:
    """Align ``scan`` to ``atlas``, normalise it, and resample it to the working grid.

    Args:
        scan: as read, on its own grid. Values that are not finite count as its lowest finite value.
        atlas: as read; passing the atlas itself as ``scan`` aligns nothing.
        working: `working_grid` of the atlas.
        settings: alignment and normalisation.
        labels: the atlas's labels, on its grid: the alignment looks around them only.
        name: default: the scan's file name.
    """
    is_atlas = scan is atlas
    scan, atlas = finite(scan), finite(atlas)
    transform, score, aligned = np.eye(4), 1.0, True
    if not is_atlas:
        transform, score, aligned = align(scan, atlas, settings.align, labels)
    placement = place(scan.grid, working, transform)
    image = resample(normalise(scan.array, settings), placement.matrix, working.shape)
    name = name or (scan_name(scan.path) if scan.path else "scan")
    return Prepared(name, image.astype(np.float16), placement, score, aligned)


def prepare_study(
    study: Study,
    settings: Prepare,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> PreparedStudy:
    """Prepare the atlas and every scan of the pool.

    Args:
        study: where the files lie.
        settings: how to prepare them.
        cache: folder that keeps each prepared scan under a hash of its bytes, the atlas's, the settings and
            `PREPARE_VERSION`; None keeps nothing.
        workers: processes; default: one for each core, as far as memory goes. 1: no other process is started.
        progress: called with (scans done, scans in all), the scans found in the cache first.

    Returns:
        The study; a scan that does not align is kept, with ``aligned=False``.

    Raises:
        InputError: a file that cannot be read, or labels that do not lie on the atlas's grid.
    """
    atlas, labels = read_volume(study.atlas), read_labels(study.atlas_labels)
    if not labels.grid.matches(atlas.grid):
        raise InputError(f"{study.atlas_labels}: not on the grid of {study.atlas}; resample the labels to it")
    names = read_label_names(study.label_names) if study.label_names else None
    table = label_table([int(v) for v in np.unique(labels.array)], names)
    working = working_grid(finite(atlas), settings, labels)
    ready = prepare_scan(atlas, atlas, working, settings)
    classes = prepare_labels(table.encode(labels.array), ready.placement, table.classes)
    scans = _prepare_pool(study, settings, working, cache, workers or helpers(atlas), progress)
    return PreparedStudy(working, ready, classes, table, scans, settings)


def unprepared(study: Study, settings: Prepare, cache: Path | None) -> list[int]:
    """Which scans of the pool, by number, `prepare_study` would not find in the cache."""
    content = _content(study)
    kept = [_kept(scan, content, settings, cache) for scan in study.unlabelled]
    return [n for n, path in enumerate(kept) if path is None or not path.with_suffix(".json").is_file()]


def prepare_pool_labels(prepared: PreparedStudy, study: Study) -> list[np.ndarray]:
    """Class maps (x, y, z) of the pool on the working grid, in its order.

    Raises:
        InputError: a label map does not lie on its scan's grid, or holds a value that the atlas has not.
    """
    out = []
    for scan, path in zip(prepared.scans, study.pool_labels, strict=True):
        labels = read_labels(path)
        if not labels.grid.matches(scan.placement.native):
            raise InputError(f"{path}: not on the grid of its scan {scan.name}; resample the labels to it")
        try:
            classes = prepared.table.encode(labels.array)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        out.append(prepare_labels(classes, scan.placement, prepared.table.classes))
    return out


def save_prepared(folder: Path, study: PreparedStudy) -> None:
    """Write ``study`` as plain arrays (float16 images) and JSON; an older content of ``folder`` is replaced.

    ``prepared.json`` is taken away first and written last: with it, the folder is complete.
    """
    folder = Path(folder)
    (folder / "prepared.json").unlink(missing_ok=True)
    scans = []
    for number, prepared in enumerate((study.atlas, *study.scans)):
        write_array(folder / f"image-{number:04d}.npy", prepared.image)
        scans.append({"name": prepared.name, **_to_json(prepared)})
    write_array(folder / "atlas_labels.npy", study.atlas_labels)
    content = {
        "version": PREPARE_VERSION,
        "working": grid_to_json(study.working),
        "table": study.table.to_json(),
        "settings": to_dict(study.settings),
        "atlas": scans[0],
        "scans": scans[1:],
    }
    write_json(folder / "prepared.json", content)


def load_prepared(folder: Path) -> PreparedStudy:
    """The study that `save_prepared` wrote; needs numpy only.

    Raises:
        InputError: the folder is not complete, or of another version.
    """
    folder = Path(folder)
    try:
        content = json.loads((folder / "prepared.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: holds no complete prepared study; prepare it again") from error
    if content.get("version") != PREPARE_VERSION:
        raise InputError(f"{folder}: prepared by another version of soloatlas; prepare it again")
    try:
        scans = [
            _from_json(entry, entry["name"], folder / f"image-{number:04d}.npy")
            for number, entry in enumerate((content["atlas"], *content["scans"]))
        ]
        classes = np.load(folder / "atlas_labels.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError, KeyError) as error:
        raise InputError(f"{folder}: a prepared scan is missing or damaged; prepare it again") from error
    settings = from_dict(Prepare, content["settings"], where=str(folder / "prepared.json"))
    table, working = LabelTable.from_json(content["table"]), grid_from_json(content["working"])
    return PreparedStudy(working, scans[0], classes, table, tuple(scans[1:]), settings)


def in_processes(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int | None,
    done: Callable[[Result], None] | None = None,
) -> list[Result]:
    """``[work(job) for job in jobs]``, shared among processes; ``done`` sees each result as it comes.

    Where processes cannot start (a script without the ``if __name__ == "__main__"`` guard) or die, the rest is done
    here and a warning says so.
    """
    count = min(len(jobs), workers or cores())
    if count <= 1:
        return [_told(work(job), done) for job in jobs]
    results: dict[int, Result] = {}
    try:
        with worker_pool(count) as pool:
            try:
                for number, result in _as_completed(pool, work, jobs):
                    results[number] = _told(result, done)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    except BrokenProcessPool:
        warnings.warn(HELPER_DIED, RuntimeWarning, stacklevel=2)
    return [results[n] if n in results else _told(work(job), done) for n, job in enumerate(jobs)]


def _as_completed(pool: Any, work: Any, jobs: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    futures = {pool.submit(work, job): number for number, job in enumerate(jobs)}
    for future in concurrent.futures.as_completed(futures):
        yield futures[future], future.result()


def _told(result: Result, done: Callable[[Result], None] | None) -> Result:
    if done:
        done(result)
    return result


BYTES_A_VOXEL = 24  # of a scan at its own resolution, while it is prepared: read, smoothed, its body found


def helpers(like: Volume) -> int:
    """How many processes may prepare scans at a time: one a core, as far as scans like this one fit into memory."""
    room = free_main_memory() / (BYTES_A_VOXEL * like.array.size + 5e8)
    return max(1, int(min(cores(), room)))


@dataclass(frozen=True)
class _Job:
    """One scan of a pool; small, since it travels to another process (the grid is made again there)."""

    scan: Path
    atlas: Path
    labels: Path
    content: str  # hash of the atlas and its labels
    settings: Prepare
    kept: Path | None  # where the cache keeps it, without ending


def _prepare_pool(
    study: Study,
    settings: Prepare,
    working: Grid,
    cache: Path | None,
    workers: int | None,
    progress: Progress | None,
) -> tuple[Prepared, ...]:
    content = _content(study)
    jobs = [
        _Job(scan, study.atlas, study.atlas_labels, content, settings, _kept(scan, content, settings, cache))
        for scan in study.unlabelled
    ]
    found = {job.scan: hit for job in jobs if (hit := _recall(job, working)) is not None}
    missing = [job for job in jobs if job.scan not in found]
    finished = len(found)

    def tell(_: Prepared) -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(finished, len(jobs))

    if progress:
        progress(finished, len(jobs))
    fresh = in_processes(_prepare_one, missing, workers, tell)
    _atlases.clear()
    found.update((job.scan, prepared) for job, prepared in zip(missing, fresh, strict=True))
    return tuple(found[scan] for scan in study.unlabelled)


def _content(study: Study) -> str:
    return file_sha256(study.atlas) + file_sha256(study.atlas_labels)


def _kept(scan: Path, atlas: str, settings: Prepare, cache: Path | None) -> Path | None:
    if cache is None:
        return None
    key = json.dumps([PREPARE_VERSION, to_dict(settings), atlas, file_sha256(scan)])
    return Path(cache) / hashlib.sha256(key.encode()).hexdigest()[:32]


_atlases: dict[tuple[str, Prepare], tuple[Volume, Volume, Grid]] = {}  # the last one, in each process


def _prepare_one(job: _Job) -> Prepared:
    key = (job.content, job.settings)
    if key not in _atlases:
        _atlases.clear()
        atlas = finite(read_volume(job.atlas))
        labels = read_labels(job.labels)
        _atlases[key] = (atlas, labels, working_grid(atlas, job.settings, labels))
    atlas, labels, working = _atlases[key]
    prepared = prepare_scan(read_volume(job.scan), atlas, working, job.settings, labels, scan_name(job.scan))
    if job.kept is not None:
        write_array(job.kept.with_suffix(".npy"), prepared.image)
        write_json(job.kept.with_suffix(".json"), _to_json(prepared))  # last: with it, the entry is complete
    return prepared


def _recall(job: _Job, working: Grid) -> Prepared | None:
    """The scan from the cache, or nothing if it is not there or damaged."""
    if job.kept is None:
        return None
    try:
        content = json.loads(job.kept.with_suffix(".json").read_text(encoding="utf-8"))
        prepared = _from_json(content, scan_name(job.scan), job.kept.with_suffix(".npy"))
    except (OSError, EOFError, ValueError, KeyError):
        return None
    return prepared if prepared.image.shape == working.shape else None


def _to_json(prepared: Prepared) -> dict[str, Any]:
    return {
        "placement": prepared.placement.to_json(),
        "score": prepared.score,
        "aligned": prepared.aligned,
    }


def _from_json(content: dict[str, Any], name: str, image: Path) -> Prepared:
    placement = Placement.from_json(content["placement"])
    array = np.load(image, allow_pickle=False)
    return Prepared(name, array, placement, float(content["score"]), bool(content["aligned"]))


def finite(volume: Volume) -> Volume:
    """``volume`` itself, or with its lowest finite value in place of NaN and infinity if there are any."""
    bad = ~np.isfinite(volume.array)
    if not bad.any():
        return volume
    lowest = volume.array[~bad].min() if not bad.all() else 0
    return Volume(np.where(bad, lowest, volume.array), volume.grid, volume.path, volume.header)
