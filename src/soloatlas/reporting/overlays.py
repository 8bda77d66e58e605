"""Overlays of segmentations on their scans: predicted filled, true outlined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from soloatlas.data.files import read_labels, read_volume
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError
from soloatlas.evaluation.cohort import match_files
from soloatlas.reporting import scored, slices
from soloatlas.reporting.about_run import display_window
from soloatlas.reporting.blocks import Block, Gallery, Remark, number
from soloatlas.reporting.contents import Contents, Evaluation

WORST = 3
MARGIN_MM = 12.0  # shown around the labels


@dataclass(frozen=True, eq=False)
class Case:
    """One case, cut to the labels' surroundings, RAS+ axes; label maps hold 0 and index + 1 of the structure."""

    image: np.ndarray
    truth: np.ndarray
    predictions: list[np.ndarray]
    spacing: tuple[float, float, float]
    window: tuple[float, float]


def overlays(contents: Contents, evaluations: Sequence[Evaluation]) -> list[Block]:
    """A gallery for each of the worst cases and the best of the last evaluation; a line for what cannot be shown."""
    ranked = [
        c
        for c in scored.worst_first(evaluations[-1])
        if evaluations[-1].result["case_means"][c].get("dice") is not None
    ]
    chosen = list(dict.fromkeys([*ranked[:WORST], *ranked[-1:]]))
    blocks: list[Block] = []
    for place, case in enumerate(chosen):
        best = place == len(chosen) - 1 and len(chosen) > 1
        shown = _rank(place, best, case)
        try:
            gallery = _gallery(contents, evaluations, case, shown)
            explained = any(isinstance(block, Gallery) for block in blocks)
            blocks.append(gallery if explained else _explained(gallery, contents, evaluations))
        except InputError as error:
            blocks.append(Remark(f"{shown} is left out: {error}."))
    return blocks


def _rank(place: int, best: bool, case: str) -> str:
    rank = "Best case" if best else ("Worst case", "Second worst case", "Third worst case")[place]
    return f"{rank}: {case}"


def _gallery(contents: Contents, evaluations: Sequence[Evaluation], name: str, title: str) -> Gallery:
    values = [int(v) for v in scored.structures_of(evaluations)]
    case, shown = load_case(contents, evaluations, name, values)
    colours = np.array([(0, 0, 0), *(scored.colour_of(contents.table, str(v)) for v in values)], dtype=np.uint8)
    wrong = case.predictions[-1] != case.truth
    view = slices.view_of(case.image.shape, case.spacing, slices.busiest(wrong), 240, 260)
    plain = {plane: slices.grey(case.image, view, plane, case.window) for plane in slices.PLANES}
    true = {plane: slices.classes_of(case.truth, view, plane) for plane in slices.PLANES}
    pictures = [slices.shown(slices.stack(list(plain.values())), "scan", f"{name}: the scan alone, three planes")]
    for evaluation, prediction in zip(shown, case.predictions, strict=True):
        rows = []
        for plane in slices.PLANES:
            filled = slices.fill(plain[plane], slices.classes_of(prediction, view, plane), colours)
            rows.append(slices.outline(filled, true[plane], colours))
        dice = evaluation.result["case_means"].get(name, {}).get("dice")
        label = f"{evaluation.name}, DSC {number(dice)}"
        alt = f"{name}: {label}; prediction filled, truth outlined; axial, coronal and sagittal planes"
        pictures.append(slices.shown(slices.stack(rows), label, alt))
    return Gallery(pictures, "", title)


def _explained(gallery: Gallery, contents: Contents, evaluations: Sequence[Evaluation]) -> Gallery:
    """The first gallery, with the caption and the legend of all."""
    caption = (
        "Filled: predicted; outlined: true, in the same colour. Colour beyond its outline is too much, an outline left "
        "unfilled is missed. From above: axial, coronal and sagittal plane, each where most voxels differ. "
        + slices.HANGING
    )
    legend = scored.legend_of(contents, evaluations)
    return replace(gallery, caption=caption, legend=legend if len(legend) <= 16 else ())


def load_case(
    contents: Contents, evaluations: Sequence[Evaluation], name: str, values: Sequence[int]
) -> tuple[Case, list[Evaluation]]:
    """The scan, truth and predictions of a case, and the evaluations that have it.

    Raises:
        InputError: a file is missing, moved or unreadable, or lies on another grid.
    """
    files = [_files(e, name) for e in evaluations if name in e.result["cases"]]
    shown = [e for e in evaluations if name in e.result["cases"]]
    truth, image = read_labels(files[-1][1]), read_volume(_scan_of(shown[-1], files[-1][0]))
    maps = [truth, *(read_labels(prediction) for prediction, _ in files)]
    for other in (image, *maps):
        if not other.grid.matches(truth.grid):
            raise InputError(f"{other.path}: lies on another grid than {truth.path}; segment the case again")
    coded = [slices.to_ras(Volume(_coded(m.array, values), m.grid))[0] for m in maps]
    array, spacing = slices.to_ras(image)
    anything = np.any([c > 0 for c in coded], axis=0)
    box = slices.box_around(anything, spacing, MARGIN_MM)
    first, *others = (c[box] for c in coded)
    return Case(array[box], first, others, spacing, display_window(contents, array[box])), shown


def _files(evaluation: Evaluation, name: str) -> tuple[Path, Path]:
    """(prediction, truth) of a case."""
    given = evaluation.result.get("truth", "")
    truth = [Path(path) for path in given] if isinstance(given, list) else Path(given)
    predictions = Path(evaluation.result.get("predictions", ""))
    if not predictions.exists():
        raise InputError(f"{predictions}: the predictions are no longer there")
    pairs, _ = match_files(predictions, truth)
    if name not in pairs:
        raise InputError(f"{given}: no truth for {name} any more")
    return pairs[name]


def _scan_of(evaluation: Evaluation, prediction: Path) -> Path:
    """The scan that was segmented, as segment.json beside the prediction says."""
    for case in evaluation.segmentation.get("cases", []):
        if case.get("output") == prediction.name:
            return Path(case["input"])
    raise InputError(f"{prediction.parent / 'segment.json'}: does not say which scan {prediction.name} belongs to")


def _coded(array: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """0 for everything but ``values``, else index + 1."""
    known = np.asarray(values)
    index = np.minimum(np.searchsorted(known, array), len(known) - 1)
    coded: np.ndarray = np.where(known[index] == array, index + 1, 0).astype(np.int16)
    return coded
