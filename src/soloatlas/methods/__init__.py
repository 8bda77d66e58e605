"""The methods: one file each, found by entry point, listed without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from types import ModuleType
from typing import Literal

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
    """

    name: str
    family: Family
    paper: str
    needs: str
    typical: str


def available_methods() -> dict[str, Method]:
    """Every installed method by name; another package adds one by the entry point ``soloatlas.methods``."""
    return {name: load_method(name).METHOD for name in _entry_points()}


def load_method(name: str) -> ModuleType:
    """The module of a method: METHOD, preset(name), train(...), probabilities(...).

    Raises:
        InputError: there is no such method.
    """
    points = _entry_points()
    if name not in points:
        raise InputError(f"--method {name}: not a method; known: {', '.join(points)}")
    module: ModuleType = points[name].load()
    return module


def _entry_points() -> dict[str, metadata.EntryPoint]:
    return {point.name: point for point in sorted(metadata.entry_points(group="soloatlas.methods"))}
