"""Segmentations of test scans beside the expert's (OS-MedSeg, Fig. 5; LT-Net, Fig. 4): a column a row of the paper."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.data.files import read_labels, read_volume, scan_name, written_name
from soloatlas.data.labels import LabelTable
from soloatlas.data.volume import Volume
from soloatlas.reporting import slices
from soloatlas.reporting.about_run import display_window
from soloatlas.reporting.contents import read_contents
from soloatlas.reproduction.drawings.sheet import class_colours, heading, named_colours, picture_grid, show
from soloatlas.reproduction.row_run import Finished, Task
from soloatlas.reproduction.rows import Pictures
from soloatlas.tables import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARGIN_MM = 12.0  # shown around the expert's labels
PIXELS = 260  # of a picture's longer side


@dataclass(frozen=True, eq=False)
class Case:
    """One scan cut to the expert's labels, (x, y, z), RAS+ axes; label maps hold classes of the scored labels."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    predictions: list[np.ndarray]
    dice: list[float | None]
    spacing: tuple[float, float, float]
    window: tuple[float, float]
    first: tuple[int, ...]  # its first voxel in the whole scan


def draw(sheet: Figure, pictures: Pictures, rows: Sequence[Finished]) -> dict[str, Any]:
    """A line for each scan and plane: the scan, the expert's labels, and each row's with the expert's outlined.

    Returns:
        ``shown``: each scan's name, voxel (RAS+ axes) in which the planes meet, its intensities from black to white,
        and the DSC of each row on it.
    """
    test = rows[0].tasks[0].conditions.study.test_images[: pictures.scans]
    table = _scored(rows[0].tasks[0])
    colours = class_colours(table)
    cases = [_case(rows, place, table) for place in range(len(test))]
    views = [slices.view_of(c.image.shape, c.spacing, slices.busiest(c.truth > 0), PIXELS, PIXELS) for c in cases]
    lines = [(case, view, plane) for case, view in zip(cases, views, strict=True) for plane in pictures.planes]
    titles = ["scan", "expert", *(heading(finished.row.name) for finished in rows)]
    painted = [_pictures(case, view, plane, colours) for case, view, plane in lines]
    ends = [int(plane == pictures.planes[-1]) for _, _, plane in lines]
    top = max(title.count("\n") for title in titles) + 1
    aspects = [p[0].shape[0] / p[0].shape[1] for p in painted]
    grid = picture_grid(sheet, aspects, len(titles), [top] + [0] * (len(lines) - 1), ends)
    for line, (case, _, plane) in enumerate(lines):
        below = ["", "", *(f"DSC {number(value, 3)}" if ends[line] else "" for value in case.dice)]
        for column, picture in enumerate(painted[line]):
            beside = (f"{case.name}\n{plane}" if len(cases) > 1 else plane) if column == 0 else ""
            show(grid[line][column], picture, titles[column] if line == 0 else "", below[column], beside)
    return {
        "caption": _caption(cases) + named_colours(table),
        "shown": [_told(c, v, rows) for c, v in zip(cases, views, strict=True)],
    }


def _scored(task: Task) -> LabelTable:
    """Of the labels of a run those that are scored: the expert may have left out the others."""
    table = LabelTable.from_json(json.loads((task.folder() / "labels.json").read_text(encoding="utf-8")))
    labels = task.conditions.scoring.labels
    kept = [c for c, value in enumerate(table.values) if labels is None or c == 0 or value in labels]
    return LabelTable(
        values=tuple(table.values[c] for c in kept),
        names=tuple(table.names[c] for c in kept),
        colours=tuple(table.colours[c] for c in kept),
    )


def _case(rows: Sequence[Finished], place: int, table: LabelTable) -> Case:
    tasks = [finished.tasks[0] for finished in rows]
    study = tasks[0].conditions.study
    scan, truth = read_volume(study.test_images[place]), read_labels(study.test_labels[place])
    maps = [truth, *(read_labels(t.segmentations() / written_name(study.test_images[place])) for t in tasks)]
    turned = [slices.to_ras(Volume(_classes(m.array, table), m.grid))[0] for m in maps]
    array, spacing = slices.to_ras(scan)
    box = slices.box_around(turned[0] > 0, spacing, MARGIN_MM)
    image, name = array[box], scan_name(study.test_labels[place])
    window = display_window(read_contents(tasks[0].folder()), image)
    dice = [finished.runs[0]["case_dice"][name] for finished in rows]
    first, *others = (m[box] for m in turned)
    corner = tuple(int(side.start) for side in box)
    return Case(scan_name(study.test_images[place]), image, first, others, dice, spacing, window, corner)


def _classes(array: np.ndarray, table: LabelTable) -> np.ndarray:
    """Classes of the labels that the table knows, 0 elsewhere."""
    return table.encode(np.where(np.isin(array, table.values), array, 0))


def _pictures(case: Case, view: slices.View, plane: str, colours: np.ndarray) -> list[np.ndarray]:
    plain = slices.grey(case.image, view, plane, case.window)
    true = slices.classes_of(case.truth, view, plane)
    found = [slices.fill(plain, slices.classes_of(p, view, plane), colours, 0.6) for p in case.predictions]
    return [plain, slices.fill(plain, true, colours, 0.6), *(slices.outline(p, true, colours) for p in found)]


def _told(case: Case, view: slices.View, rows: Sequence[Finished]) -> dict[str, Any]:
    names = [finished.row.name for finished in rows]
    return {
        "scan": case.name,
        "voxel": [start + at for start, at in zip(case.first, view.index, strict=True)],
        "window": list(case.window),
        "dice": dict(zip(names, case.dice, strict=True)),
    }


def _caption(cases: Sequence[Case]) -> str:
    scans = ", ".join(case.name for case in cases)
    return (
        f"Test scan{'s' * (len(cases) > 1)} {scans}: the first of the split, not chosen. Filled: the method's labels; "
        "outlined, in the same colour: the expert's. Each plane is where the expert drew most. " + slices.HANGING
    )
