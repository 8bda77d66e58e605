"""What a table of a paper is made of: a row is a method with settings one step from the others."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as in the paper, with what it means.
        changes: settings that make it, as given to ``--set``.
        stage: ``student``, or ``register`` for the atlas's labels warped.
        published: the paper's cells, one for each measure of the table; None where one is empty or lost.
        headline: belongs among the main results (a method as a whole, not an ablation).
        method: where it is not the table's.
        atlases: labelled scans that it learns from; those beyond the atlas are the first of the pool.
        share: of the pool that it sees, the first scans of it.
    """

    name: str
    changes: tuple[str, ...] = ()
    stage: str = "student"
    published: tuple[float | None, ...] = ()
    headline: bool = False
    method: str = ""
    atlases: int = 1
    share: float = 1.0


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        reference: the row that the others are compared with.
        measures: its columns: ``dice``, ``hd95_mm``, over the test cases ``sd``, ``min`` and ``max`` of DSC, or
            names of structures (`structures.structure`).
        unite_sides: left and right are scored as one structure.
    """

    title: str
    source: str
    method: str
    published_on: str
    reference: str
    rows: tuple[Row, ...]
    measures: tuple[str, ...] = ("dice", "hd95_mm")
    unite_sides: bool = False


RANGE = ("dice", "sd", "min", "max")

OURS = Row("OS-MedSeg (student, teacher, SI+SL)", published=(0.854, 1.716), headline=True)
