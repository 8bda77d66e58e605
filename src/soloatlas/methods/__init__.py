"""The methods: one file each, found by entry point, listed without importing torch."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Any, Literal

from soloatlas.errors import InputError

Family = Literal["LS", "Trad", "ABS", "LRLS", "supervised", "multi-atlas"]


@dataclass(frozen=True)
class Method:
    """What a reader should know of a method before running it.

    Attributes:
        name: on the command line.
        family: LS learns from the atlas alone; Trad registers classically; ABS learns to register; LRLS
            learns registration to learn segmentation.
        paper: citation.
        needs: what it trains on.
        typical: time and memory of the ``quick`` preset on 2 CPU cores.
        stages: what `segment --stage` can give, the method's own result last: ``register``, the atlas's labels
            warped; ``student``, the network that segments.
        pool: what it learns from the pool: its ``scans``, ``labelled`` scans (which is not one-shot), or ``none``.
        atlases: how many labelled scans it takes.
    """

    name: str
    family: Family
    paper: str
    needs: str
    typical: str
    stages: tuple[Literal["register", "student"], ...]
    pool: Literal["scans", "labelled", "none"] = "scans"
    atlases: Literal["one", "several"] = "one"


def available_methods() -> dict[str, Method]:
    """Every installed method by name; another package adds one by the entry point ``soloatlas.methods``."""
    return {name: load_method(name).METHOD for name in _entry_points()}


def load_method(name: str) -> ModuleType:
    """The module of a method; what it holds is told in docs/explanation/architecture.md.

    Raises:
        InputError: there is no such method.
    """
    points = _entry_points()
    if name not in points:
        close = difflib.get_close_matches(name, points, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise InputError(f"--method {name}: not a method; {hint}known: {', '.join(points)}")
    module: ModuleType = points[name].load()
    return module


def check_settings(settings: Any) -> None:
    """Refuse values that no method can work with, in the parts that ``settings`` has.

    Raises:
        InputError: naming the setting and what it may be.
    """
    counts = {"loop.accumulate": settings.loop.accumulate, "loop.log_steps": settings.loop.log_steps}
    if hasattr(settings, "student"):
        s = settings.student
        counts["student.batch"] = s.batch
        if s.patch and (len(s.patch) != 3 or any(n < 32 or n % 16 for n in s.patch)):
            raise InputError(f"student.patch={list(s.patch)}: give three multiples of 16, each at least 32")
        if len(s.channels) != 5:
            raise InputError("student.channels takes five widths")
    if hasattr(settings, "registration"):
        counts["registration.batch"] = settings.registration.batch
        if len(settings.registration.channels) != 4:
            raise InputError("registration.channels takes four widths")
    low = [name for name, count in counts.items() if count < 1]
    if low:
        raise InputError(f"{' and '.join(low)} must be at least 1")


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in sorted(metadata.entry_points(group="soloatlas.methods"))}
