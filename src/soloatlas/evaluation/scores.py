"""The scores of one segmentation against the truth, structure by structure.

Everything is computed in the bounding box of one structure at a time; the volume is never one-hot encoded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.evaluation.surface import assd, hd95, nsd, surface_distances

METRICS = ("dice", "hd95_mm", "assd_mm", "nsd")
SCORED, MISSING, EXTRA, ABSENT, NOT_CONTOURED = "scored", "missing", "extra", "absent", "not contoured"


def evaluate_case(
    prediction: Volume,
    truth: Volume,
    table_values: Sequence[int],
    tolerance_mm: float = 1.0,
    not_contoured_if_absent: Collection[int] = frozenset(),
) -> dict[int, dict[str, Any]]:
    """Score one label map against the truth, for each label value of ``table_values`` but 0 (background).

    Args:
        prediction: integer labels, (x, y, z).
        truth: integer labels on the same grid.
        table_values: label values as they stand in the files, in any order, with any gaps.
        tolerance_mm: tolerance of the NSD, mm.
        not_contoured_if_absent: values that are not scored where the truth lacks them.

    Returns:
        value -> ``dice`` and ``nsd`` (0 to 1, 1 is best), ``hd95_mm``, ``assd_mm``, ``volume_truth_ml``,
        ``volume_prediction_ml`` and ``status``. Status "missing" (not predicted) and "extra" (not in the
        truth) give dice and nsd 0 and the image diagonal as distances; "absent" (in neither) and
        "not contoured" give ``None``.

    Raises:
        InputError: the grids differ.
    """
    _check_grids(prediction, truth)
    values = sorted({int(value) for value in table_values} - {0})
    scores = {}
    for value, predicted, true in _structures(prediction.array, truth.array, values):
        status = _status(bool(predicted.any()), bool(true.any()), value in not_contoured_if_absent)
        scores[value] = _metrics(status, predicted, true, truth.grid, tolerance_mm)
    return scores


def values_present(*arrays: np.ndarray) -> set[int]:
    """Label values other than 0 that occur in any of the integer ``arrays``."""
    return {int(value) for array in arrays for value in np.unique(array[array != 0])}


def _structures(
    prediction: np.ndarray, truth: np.ndarray, values: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Each value with the masks of prediction and truth, cut to the smallest box that holds both."""
    from scipy.ndimage import find_objects

    filled = _bounding_box((prediction != 0) | (truth != 0))
    predicted, true = _classes(prediction[filled], values), _classes(truth[filled], values)
    boxes = zip(find_objects(predicted, len(values)), find_objects(true, len(values)), strict=True)
    for number, (value, pair) in enumerate(zip(values, boxes, strict=True), start=1):
        box = _union([box for box in pair if box is not None])
        yield value, predicted[box] == number, true[box] == number


def _union(boxes: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    if not boxes:
        return (slice(0, 0),) * 3
    return tuple(
        slice(min(part.start for part in axis), max(part.stop for part in axis)) for axis in zip(*boxes, strict=True)
    )


def _check_grids(prediction: Volume, truth: Volume) -> None:
    if not prediction.grid.matches(truth.grid):
        apart = prediction.grid.difference(truth.grid, "the truth")
        raise InputError(
            f"{prediction.path}: not on the grid of {truth.path}: {apart}; predict on the grid of the truth"
        )


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    """Smallest box of ``mask``, or one voxel where it is empty: `find_objects` takes no empty array."""
    box = []
    for axis in range(mask.ndim):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(mask.ndim) if other != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1))
    return tuple(box)


def _classes(array: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Index + 1 of each voxel in the sorted ``values``, 0 where it is none of them (values may be huge)."""
    classes = np.zeros(array.shape, np.int32)
    if not values:
        return classes
    known = np.asarray(values, dtype=np.int64)
    filled = array != 0
    labels = array[filled].astype(np.int64)
    index = np.minimum(np.searchsorted(known, labels), len(known) - 1)
    classes[filled] = np.where(known[index] == labels, index + 1, 0)
    return classes


def _status(predicted: bool, true: bool, declared: bool) -> str:
    if true:
        return SCORED if predicted else MISSING
    if declared:
        return NOT_CONTOURED
    return EXTRA if predicted else ABSENT


def _metrics(status: str, prediction: np.ndarray, truth: np.ndarray, grid: Grid, tolerance_mm: float) -> dict[str, Any]:
    axes = grid.affine[:3, :3]
    if status == SCORED:
        overlap = 2 * np.count_nonzero(prediction & truth) / (prediction.sum() + truth.sum())
        distances = surface_distances(prediction, truth, axes)
        numbers: list[float | None] = [
            float(overlap),
            hd95(*distances),
            assd(*distances),
            nsd(*distances, tolerance_mm),
        ]
    elif status in (MISSING, EXTRA):
        diagonal = float(np.linalg.norm(np.multiply(grid.shape, grid.spacing)))
        numbers = [0.0, diagonal, diagonal, 0.0]
    else:
        numbers = [None, None, None, None]
    voxel_ml = abs(float(np.linalg.det(axes))) / 1000
    return {
        **dict(zip(METRICS, numbers, strict=True)),
        "volume_truth_ml": int(np.count_nonzero(truth)) * voxel_ml,
        "volume_prediction_ml": int(np.count_nonzero(prediction)) * voxel_ml,
        "status": status,
    }
