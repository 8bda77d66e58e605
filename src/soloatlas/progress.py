"""How far long work is: bars with an estimate on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from soloatlas.training import Progress

QUIET_SECONDS = 20.0  # between two lines about one task where no bar can be drawn


def counting(progress: Progress | None, task: str) -> Callable[[int, int], None] | None:
    """``progress`` for a part that only counts (done, total)."""
    return None if progress is None else lambda done, total: progress(task, done, total)


@contextlib.contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield a function (task, done, total, note) that shows progress on standard error."""
    if sys.stderr.isatty():
        with _bars() as progress:
            yield progress
    else:
        yield _lines()


@contextlib.contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(task: str, done: int, total: int, note: str = "") -> None:
            if task not in tasks:
                tasks[task] = bars.add_task(task, total=total, note=note)
            elif done <= bars.tasks[tasks[task]].completed:  # a task of the same name begins anew
                bars.reset(tasks[task], total=total, note=note)
            bars.update(tasks[task], completed=done, total=total, note=note)

        yield progress


def _lines() -> Progress:
    began: dict[str, tuple[float, int]] = {}  # time and count when this round of the task was first heard of
    last: dict[str, int] = {}
    told: dict[str, float] = {}

    def progress(task: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        if done <= last.get(task, -1) or task not in began:  # a task of the same name begins anew
            began[task], told[task] = (now, done), now
        last[task] = done
        start, count = began[task]
        if not total or (done < total and now - told[task] < QUIET_SECONDS):
            return
        told[task] = now
        left = (now - start) * (total - done) / max(done - count, 1)
        print(f"{task}: {done}/{total}, {left:.0f} s left {note}".rstrip(), file=sys.stderr, flush=True)

    return progress
