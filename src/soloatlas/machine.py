"""The machine: its name, cores and main memory as far as this process may use them, what it took, and helpers."""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ProcessPoolExecutor


def about_machine() -> dict[str, Any]:
    """What this program runs on: for run.json and result files."""
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def own_cores() -> list[int]:
    """Numbers of those that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def worker_pool(count: int, begin: Callable[..., None] | None = None, *shared: Any) -> ProcessPoolExecutor:
    """So many processes, each of which first calls ``begin(*shared)``; they end when this one does, however it ends.

    Spawned, not forked: a fork of a process with threads may hang.
    """
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin_worker, (begin, *shared))


def _begin_worker(begin: Callable[..., None] | None, *shared: Any) -> None:
    """A worker whose parent was killed would work on, and then wait for work for ever."""
    import multiprocessing
    import threading

    def end_with_parent() -> None:
        parent = multiprocessing.parent_process()
        assert parent
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
    if begin:
        begin(*shared)


def cores() -> int:
    """How many this process may use."""
    return len(own_cores())


def free_main_memory() -> float:
    """Bytes that may still be filled: of the machine, or of the container that this process may not leave.

    Infinite where the system does not tell.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        whole = next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return float("inf")
    return min(whole, *(_left_in(Path("/sys/fs/cgroup"), *names) for names in _LIMITS))


_LIMITS = (  # of control groups, version 2 and 1: what may be filled, what is filled
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


def _left_in(group: Path, limit: str, used: str) -> float:
    try:
        room = float((group / limit).read_text()) - float((group / used).read_text())
        statistics = (group / limit).with_name("memory.stat").read_text().splitlines()
    except (OSError, ValueError):  # no such group, or "max"
        return float("inf")
    # Files that were read stay in memory as long as nobody needs it.
    return room + sum(float(line.split()[1]) for line in statistics if line.startswith("inactive_file "))


def forget_peak_memory() -> None:
    """Count the peak from here on: a process may train one run after the other. Linux alone can."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> float:
    """Largest resident memory since `forget_peak_memory`, else of this process so far, bytes; 0 where nobody counts.

    Of this program alone: ru_maxrss may hold that of the process before it.
    """
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return _resident("RUSAGE_SELF")


def helpers_memory() -> float:
    """Largest resident memory of any process that this one has started and that has ended, bytes; 0 where unknown."""
    return _resident("RUSAGE_CHILDREN")


def _resident(whose: str) -> float:
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    return resource.getrusage(getattr(resource, whose)).ru_maxrss * (1.0 if sys.platform == "darwin" else 1024.0)
