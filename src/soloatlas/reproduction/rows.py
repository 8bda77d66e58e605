"""What a table or a figure of a paper is made of: a row is a method with settings one step from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Plane = Literal["axial", "coronal", "sagittal"]


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
class Curve:
    """A line of a plot.

    Attributes:
        points: the rows on it, by name, with their places on the horizontal axis.
        begins_at_0: at 0 its DSC is 0 without a run, as in the paper: what registers has learnt nothing there.
    """

    name: str
    points: tuple[tuple[float, str], ...]
    begins_at_0: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a paper, or a figure that plots one.

    Attributes:
        reference: the row that the others are compared with.
        measures: its columns: ``dice``, ``hd95_mm``, over the test cases ``sd``, ``min`` and ``max`` of DSC, or
            names of structures (`structures.structure`).
        structures: that are scored where the cohort has all of them (`structures.structure`); else all it has.
        all_structures: false: those of them that the cohort has are scored, if it has any.
        unite_sides: left and right are scored as one structure.
        drawing: module of `drawings` that plots it; empty: it is not plotted.
        curves: what ``drawing="curves"`` plots; ``axis`` names their horizontal axis.
    """

    title: str
    source: str
    method: str
    published_on: str
    reference: str
    rows: tuple[Row, ...]
    measures: tuple[str, ...] = ("dice", "hd95_mm")
    structures: tuple[str, ...] = ()
    all_structures: bool = True
    unite_sides: bool = False
    drawing: str = ""
    axis: str = ""
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True)
class Pictures:
    """A figure of a paper that shows scans and what rows make of them.

    Attributes:
        method: of the rows that name none.
        drawing: module of `drawings`.
        scans: how many are shown, the first of the split or, where the drawing says so, of the pool.
        planes: in which they are cut.
        structures, all_structures, unite_sides: that are scored, as of a table.
        remark: what a reader who knows the paper's figure should know of ours.
    """

    title: str
    source: str
    method: str
    drawing: str
    rows: tuple[Row, ...]
    scans: int
    planes: tuple[Plane, ...]
    remark: str = ""
    structures: tuple[str, ...] = ()
    all_structures: bool = True
    unite_sides: bool = False


RANGE = ("dice", "sd", "min", "max")

OURS = Row("OS-MedSeg (student, teacher, SI+SL)", published=(0.854, 1.716), headline=True)
