"""Comparing the scans of a study with each other: duplicates, and scans unlike the rest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from soloatlas.data.volume import Grid, Volume

Role = Literal["atlas", "unlabelled", "test"]

_FEWEST = 4  # scans without which "the rest" means nothing
# A scan is unlike the rest when it lies further from the median than six robust standard deviations (from the
# median absolute deviation, which is 0 where most scans agree) and further than an ordinary difference.
_DEVIATIONS = 6 * 1.4826
_LENGTH_FLOOR = float(np.log(1.5))  # voxel size and field of view: half as much again
_RANGE_FLOOR = 1.0  # intensities: shifted or stretched by the whole usual range
_CURVE_FLOOR = 0.08  # histograms: 3 of 306 scans of the shared cohorts pass it; inverted contrast is 0.06 to 0.2


@dataclass(frozen=True, eq=False)
class ScanFacts:
    """What is kept of a scan after reading it.

    Attributes:
        role: what the scan is in the study.
        path: its file.
        grid: where its voxels lie.
        extent: mm covered along the right, anterior and superior axis, (3,).
        spacing: mm between voxels along the same axes, (3,).
        digest: of the voxel values in RAS+ order, whatever the file's format and axis order.
        range: 0.5 and 99.5 % quantile of the values above the lowest, (2,).
        curve: quantiles between them brought to 0..1, the shape of the histogram, (33,).
    """

    role: Role
    path: Path
    grid: Grid
    extent: np.ndarray
    spacing: np.ndarray
    digest: str
    range: np.ndarray
    curve: np.ndarray


def axis_codes(grid: Grid) -> str:
    """The anatomical direction in which each array axis runs, such as "LAS"; every direction occurs once."""
    from scipy.optimize import linear_sum_assignment

    cosines = grid.affine[:3, :3] / np.asarray(grid.spacing)
    world = linear_sum_assignment(-np.abs(cosines.T))[1]
    return "".join(("LR", "PA", "IS")[w][int(cosines[w, axis] > 0)] for axis, w in enumerate(world))


def scan_facts(role: Role, path: Path, scan: Volume) -> ScanFacts:
    """Measure ``scan`` (finite, not constant)."""
    codes = axis_codes(scan.grid)
    order = [next(axis for axis in range(3) if codes[axis] in pair) for pair in ("LR", "PA", "IS")]
    flips = tuple(slice(None, None, 1 if codes[axis] in "RAS" else -1) for axis in order)
    canonical = np.ascontiguousarray(scan.array.transpose(order)[flips])
    spacing = np.asarray(scan.grid.spacing)[order]
    limits, curve = _histogram(scan.array)
    digest = hashlib.sha256(repr(canonical.shape).encode())
    digest.update(canonical.data)
    return ScanFacts(role, path, scan.grid, spacing * canonical.shape, spacing, digest.hexdigest(), limits, curve)


def _histogram(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sample = array.ravel()[:: max(1, array.size // 200_000)]
    above = sample[sample > array.min()]  # the lowest value is air, or outside the scan
    sample = above if above.size else sample
    low, high = np.quantile(sample, (0.005, 0.995))
    curve = (np.quantile(sample, np.linspace(0.02, 0.98, 33)) - low) / max(high - low, 1e-12)
    return np.array([low, high]), np.clip(curve, 0, 1)


def duplicates(facts: Iterable[ScanFacts]) -> list[tuple[ScanFacts, ScanFacts]]:
    """(scan, the earlier scan with the same voxels), whatever their names, formats and axis orders."""
    first: dict[str, ScanFacts] = {}
    pairs = [(fact, first.setdefault(fact.digest, fact)) for fact in facts]
    return [(fact, twin) for fact, twin in pairs if twin is not fact]


def mirrored(facts: Sequence[ScanFacts]) -> list[ScanFacts]:
    """Scans whose axes have the other handedness than those of most scans (LAS among RAS)."""
    hands = [bool(np.linalg.det(fact.grid.affine[:3, :3]) > 0) for fact in facts]
    usual, count = Counter(hands).most_common(1)[0] if hands else (True, 0)
    return [f for f, hand in zip(facts, hands, strict=True) if hand != usual and 2 * count > len(facts)]


def unlike(facts: Sequence[ScanFacts]) -> list[tuple[ScanFacts, str]]:
    """Scans that differ from the atlas and the pool, each with the reasons in words.

    Compared are voxel size, field of view, intensity range and the shape of the histogram, by median and
    median absolute deviation over atlas and pool; nothing is said of fewer than four scans.
    """
    rest = np.array([fact.role != "test" for fact in facts], dtype=bool)
    if rest.sum() < _FEWEST:
        return []
    spacing, extent, limits = (np.array([getattr(f, name) for f in facts]) for name in ("spacing", "extent", "range"))
    width = max(float(np.median(np.diff(limits[rest]))), 1e-12)
    curves = np.array([f.curve for f in facts])
    distance = np.abs(curves - np.median(curves[rest], axis=0)).mean(axis=1, keepdims=True)
    reasons: list[list[str]] = [[] for _ in facts]
    for what, join, values, compared, floor in (
        ("voxel size in mm", " x ", spacing, np.log(spacing), _LENGTH_FLOOR),
        ("field of view in mm", " x ", extent, np.log(extent), _LENGTH_FLOOR),
        ("intensities", " to ", limits, limits / width, _RANGE_FLOOR),
        ("distance of the histogram from the median one", "", distance, distance, _CURVE_FLOOR),
    ):
        usual = _joined(np.median(values[rest], axis=0), join)
        for index in _far(compared, rest, floor):
            reasons[index].append(f"{what} {_joined(values[index], join)}, usually {usual}")
    return [(fact, "; ".join(why)) for fact, why in zip(facts, reasons, strict=True) if why]


def _far(values: np.ndarray, rest: np.ndarray, floor: float) -> list[int]:
    """Rows of ``values`` (scans, k) with an entry far from the median over the rows marked in ``rest``."""
    apart = np.abs(values - np.median(values[rest], axis=0))
    limit = np.maximum(_DEVIATIONS * np.median(apart[rest], axis=0), floor)
    return np.flatnonzero((apart > limit).any(axis=1)).tolist()


def _joined(numbers: np.ndarray, sign: str) -> str:
    return sign.join(f"{number:.4g}" for number in numbers)
