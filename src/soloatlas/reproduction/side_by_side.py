"""Several runs of a table at once, each in a process with cores, or a GPU, of its own.

A small network on a small grid keeps few cores busy: two runs with one core each are then done sooner than one after
the other with two. On a large grid measure first.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from soloatlas.devices import visible_gpus
from soloatlas.errors import RunError
from soloatlas.machine import own_cores, worker_pool
from soloatlas.progress import shown_progress
from soloatlas.reproduction.row_run import Task, registered_alike, registration_settings, run_and_score

if TYPE_CHECKING:
    from soloatlas.training import Progress


DIED = "reproduce: a process died (out of memory?); the same command goes on, fewer --jobs need less memory"


@dataclass(frozen=True)
class Place:
    """Where a process works: its cores and, where there are any, its GPU."""

    cores: frozenset[int]
    gpu: str = ""


def run_tasks(tasks: Sequence[Task], jobs: int, progress: Progress | None) -> list[dict[str, Any]]:
    """`run_and_score` of every task, in order, ``jobs`` at a time.

    Tasks of one run folder stay together. Of those that share a learnt registration one goes first, so that the others
    find it. What was finished when another failed is found again by the next call.
    """
    if jobs <= 1:
        return [run_and_score(task, progress) for task in tasks]
    results: dict[int, dict[str, Any]] = {}
    context = multiprocessing.get_context("spawn")
    free = context.Queue()
    for place in places(jobs):
        free.put(place)
    with worker_pool(jobs, _settle, free) as pool:
        for wave in waves(tasks):
            futures = [pool.submit(_together, [(n, tasks[n]) for n in numbers]) for numbers in wave]
            try:
                for done, future in enumerate(concurrent.futures.as_completed(futures), start=1):
                    results |= future.result()
                    if progress:
                        progress("runs", done, len(futures))
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, BrokenProcessPool):
                    raise RunError(DIED) from error
                raise
    return [results[number] for number in range(len(tasks))]


def waves(tasks: Sequence[Task]) -> list[list[list[int]]]:
    """Numbers of the tasks, by run folder, in two waves: the first of each registration yet to learn, then the rest."""
    folders: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        folders.setdefault(str(task.folder()), []).append(number)
    known: list[Any] = []
    first: list[list[int]] = []
    rest: list[list[int]] = []
    for numbers in folders.values():
        task = tasks[numbers[0]]
        study = task.conditions.study
        shared = [registration_settings(task.settings(), task.method), task.seed, study.unlabelled]
        learnt = shared in known or registered_alike(task)
        (rest if learnt else first).append(numbers)
        known.append(shared)
    return [first, rest]


def places(jobs: int) -> list[Place]:
    """Cores and GPUs of this machine shared out among so many processes; where there are too few, some share."""
    cores, gpus = own_cores(), visible_gpus() or [""]
    return [Place(frozenset(cores[n::jobs] or [cores[n % len(cores)]]), gpus[n % len(gpus)]) for n in range(jobs)]


def _settle(free: Any) -> None:
    """Keep this process, before it loads torch, to a place that is free."""
    place: Place = free.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, place.cores)
    os.environ["OMP_NUM_THREADS"] = str(len(place.cores))
    if place.gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = place.gpu


def _together(numbered: Sequence[tuple[int, Task]]) -> dict[int, dict[str, Any]]:
    with shown_progress() as show:

        def progress(task: str, done: int, total: int, note: str = "") -> None:
            show(f"{name} {task}", done, total, note)

        results = {}
        for number, task in numbered:
            name = task.folder().name
            results[number] = run_and_score(task, progress)
        return results
