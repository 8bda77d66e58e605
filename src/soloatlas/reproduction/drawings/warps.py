"""The atlas warped to scans of the pool and led back (LT-Net, Fig. 3): images and labels, a line a scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from soloatlas.reporting import slices
from soloatlas.reproduction.drawings.sheet import class_colours, heading, named_colours, picture_grid, show
from soloatlas.reproduction.row_run import Finished, Task
from soloatlas.reproduction.rows import Pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from soloatlas.data.labels import LabelTable
    from soloatlas.material import Material

PIXELS = 300  # of a picture's longer side
UNIT = (0.0, 1.0)  # prepared intensities from black to white


@dataclass(frozen=True, eq=False)
class Pair:
    """An image (x, y, z) on the working grid and its classes; ``note`` tells a measure of it."""

    image: np.ndarray
    classes: np.ndarray
    note: str = ""


@dataclass(frozen=True, eq=False)
class Warped:
    """What a row makes of the first scans of the pool.

    Attributes:
        atlas: as prepared; ``scans`` the first of the pool, ``names`` theirs.
        there: the atlas warped to each.
        back: led back to its place; empty where the method does not learn the way.
        measures: of each field, as in fields.csv of a run.
    """

    atlas: Pair
    scans: list[np.ndarray]
    names: tuple[str, ...]
    there: list[Pair]
    back: list[Pair]
    measures: list[dict[str, float]]
    spacing: tuple[float, float, float]
    table: LabelTable


def draw(sheet: Figure, pictures: Pictures, rows: Sequence[Finished]) -> dict[str, Any]:
    """The atlas above; below a line a scan: the scan, and each row's warped atlas, there and back, with its labels.

    Returns:
        ``shown``: each scan's name, and of each row the measures of its field; ``voxel`` of the working grid in the
        plane.
    """
    found = [_warped(finished.tasks[0], pictures.scans) for finished in rows]
    first, plane = found[0], pictures.planes[0]
    at = slices.busiest(first.atlas.classes > 0)
    view = slices.view_of(first.atlas.image.shape, first.spacing, at, PIXELS, PIXELS)
    paint = partial(_painted, view=view, plane=plane, colours=class_colours(first.table))
    columns = _columns(rows, found)
    scans = [slices.grey(scan, view, plane, UNIT) for scan in first.scans]
    tall, aspect = 1 + len(scans), scans[0].shape[0] / scans[0].shape[1]
    above = [1, 3] + [0] * (len(scans) - 1)
    grid = picture_grid(sheet, [aspect] * tall, 1 + 2 * len(columns), above, [0] + [1] * len(scans))
    for axes in grid[0][2:]:
        show(axes, None)
    for axes, picture, title in zip(grid[0], paint(first.atlas), ("atlas", "its labels"), strict=False):
        show(axes, picture, title)
    for line, (name, scan) in enumerate(zip(first.names, scans, strict=True), start=1):
        show(grid[line][0], scan, "scan" if line == 1 else "", "", name)
        for place, (title, pairs) in enumerate(columns):
            image, labels = paint(pairs[line - 1])
            show(grid[line][1 + 2 * place], image, heading(title) if line == 1 else "", pairs[line - 1].note)
            show(grid[line][2 + 2 * place], labels, "its labels" if line == 1 else "")
    return {
        "caption": _caption(first.names) + named_colours(first.table),
        "voxel": list(at),
        "shown": _told(rows, found),
    }


def _columns(rows: Sequence[Finished], found: Sequence[Warped]) -> list[tuple[str, list[Pair]]]:
    columns = []
    for finished, warped in zip(rows, found, strict=True):
        columns.append((f"{finished.row.name}: atlas warped", warped.there))
        if warped.back:
            columns.append((f"{finished.row.name}: and led back", warped.back))
    return columns


def _painted(pair: Pair, view: slices.View, plane: str, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    image = slices.grey(pair.image, view, plane, UNIT)
    return image, slices.fill(image, slices.classes_of(pair.classes, view, plane), colours, 0.6)


def _warped(task: Task, count: int) -> Warped:
    from soloatlas.devices import choose_device
    from soloatlas.prepare import prepare_study
    from soloatlas.runs import load_weights, open_run
    from soloatlas.training import Session
    from soloatlas.training_run import default_cache, material_of

    run = open_run(task.folder())
    device = choose_device(run.settings.loop.device)
    session = Session(run.folder, task.seed, device, run.settings.loop)
    study = task.conditions.study
    study = replace(study, unlabelled=study.unlabelled[:count])
    prepared = prepare_study(study, run.settings.prepare, cache=default_cache())
    material = material_of(prepared, session, study)
    register, reverse = _ways(run.method, run.settings, partial(load_weights, run.folder), session)
    journeys = [_journey(material, item, register, reverse) for item in range(len(material.names))]
    return Warped(
        atlas=_pair(material.atlas, material.classes),
        scans=[_array(material.scans([item])) for item in range(len(material.names))],
        names=material.names,
        there=[there for there, _, _ in journeys],
        back=[back for _, back, _ in journeys if back],
        measures=[measures for _, _, measures in journeys],
        spacing=material.spacing,
        table=run.table,
    )


def _ways(
    method: Any, settings: Any, load: Callable[[str], Any], session: Any
) -> tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor] | None]:
    """What finds the field to a scan, and the one back where the method learns it."""
    from soloatlas.registration import registrar

    reverse = method.reverser(settings, load, session) if hasattr(method, "reverser") else None
    return registrar(settings, load, session), reverse


def _journey(
    material: Material, item: int, register: Callable[..., Tensor], reverse: Callable[..., Tensor] | None
) -> tuple[Pair, Pair | None, dict[str, float]]:
    """The atlas on its way to a scan and home, and measures of the field."""
    from soloatlas import fields
    from soloatlas.quality import describe_field

    field = register(material.atlas, material.scans([item]))
    measures, _ = describe_field(material, item, field, reverse)
    warped, labels = fields.warp(material.atlas, field), fields.warp_labels(material.classes, field)
    there = _pair(warped, labels, f"LNCC {measures['similarity_after']:.2f}")
    if reverse is None:
        return there, None, measures
    home = reverse(warped, material.atlas)
    back = _pair(fields.warp(warped, home), fields.warp_labels(labels, home))
    return there, replace(back, note=f"{measures['inverse_error_mm']:.2f} mm off"), measures


def _pair(image: Tensor, classes: Tensor, note: str = "") -> Pair:
    return Pair(_array(image), _array(classes), note)


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor[0, 0].cpu().numpy()
    return array


def _told(rows: Sequence[Finished], found: Sequence[Warped]) -> list[dict[str, Any]]:
    return [
        {
            "scan": name,
            "fields": {f.row.name: warped.measures[place] for f, warped in zip(rows, found, strict=True)},
        }
        for place, name in enumerate(found[0].names)
    ]


def _caption(names: Sequence[str]) -> str:
    return (
        f"The atlas, and the atlas warped to scans of the pool ({', '.join(names)}: the first, not chosen) on the "
        "working grid, in the plane that holds most of its labels. LNCC: local correlation with the scan, 1 is best. "
        "Led back: the warped atlas under the learnt way back, which should be the atlas again; mm: how far a voxel "
        "ends from its place, on average. " + slices.HANGING
    )
