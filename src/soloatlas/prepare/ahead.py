"""Scans prepared ahead in other processes, while this one works on those that are ready."""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from soloatlas.data.files import read_labels, read_scan, read_volume, scan_name
from soloatlas.data.volume import Grid, Volume
from soloatlas.machine import worker_pool
from soloatlas.prepare.cohort import HELPER_DIED, Prepared, helpers, prepare_scan
from soloatlas.settings import Prepare

FEW = 4  # so many scans are prepared sooner than processes have started

Ready = tuple[Volume, Prepared]  # a scan as it was read, and on the working grid

_shared: tuple[Volume, Grid, Prepare, Volume] | None = None  # in a helper process


def prepare_ahead(
    scans: Sequence[Path], atlas: Volume, working: Grid, settings: Prepare, labels: Volume, workers: int | None = None
) -> Iterator[Ready]:
    """Each scan and `prepare_scan` of it, in their order; at most one for each process waits to be taken.

    Args:
        scans: files.
        atlas, working, settings, labels: as for `prepare_scan`; the two volumes as they were read from their files.
        workers: processes; default: one for each core, as far as memory goes. 1: no other process is started.

    Where processes cannot start (a script without the ``if __name__ == "__main__"`` guard) or die, the rest is done
    here and a warning says so.

    Raises:
        InputError: when its turn has come, a scan that cannot be read.
    """
    count, taken = min(len(scans) - FEW, workers or helpers(atlas)), 0
    if count > 1 and atlas.path and labels.path:
        try:
            for ready in _in_processes(scans, (atlas.path, working, settings, labels.path), count):
                taken += 1
                yield ready
        except BrokenProcessPool:
            warnings.warn(HELPER_DIED, RuntimeWarning, stacklevel=2)
    for path in scans[taken:]:
        yield _prepare(path, atlas, working, settings, labels)


def _in_processes(scans: Sequence[Path], shared: tuple[Path, Grid, Prepare, Path], count: int) -> Iterator[Ready]:
    pool = worker_pool(count, _begin, *shared)
    try:
        ahead = count + 1  # each holds a scan at its own resolution
        waiting = deque(pool.submit(_prepare_there, path) for path in scans[:ahead])
        for path in (*scans[ahead:], *[None] * min(len(scans), ahead)):
            ready = waiting.popleft().result()
            if path is not None:
                waiting.append(pool.submit(_prepare_there, path))
            yield ready
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(atlas: Path, working: Grid, settings: Prepare, labels: Path) -> None:
    # By their files: a process that dies while it is handed more than a pipe holds would leave us waiting for ever.
    global _shared
    _shared = (read_volume(atlas), working, settings, read_labels(labels))


def _prepare_there(path: Path) -> Ready:
    assert _shared
    return _prepare(path, *_shared)


def _prepare(path: Path, atlas: Volume, working: Grid, settings: Prepare, labels: Volume) -> Ready:
    scan = read_scan(path)
    return scan, prepare_scan(scan, atlas, working, settings, labels, scan_name(path))
