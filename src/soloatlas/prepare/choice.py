"""Which scan to label: the one most like the others (OS-MedSeg, IV-A)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from soloatlas.data.files import list_scans, read_volume, scan_name
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError
from soloatlas.prepare.alignment import Copy, small_copy
from soloatlas.prepare.cohort import Progress, finite, in_processes
from soloatlas.prepare.grids import bounding_box, resample
from soloatlas.prepare.intensity import body

_VOXELS = 60_000  # of a typical body on the common grid, as in `align`


def choose_atlas(
    scans: Sequence[Path] | str | Path,
    transductive: Sequence[Path] = (),
    workers: int | None = None,
    progress: Progress | None = None,
    by: Literal["ncc", "average"] = "ncc",
) -> list[tuple[str, float]]:
    """Rank ``scans`` by their mean normalised cross-correlation with the others, best first.

    With ``by="average"`` by that with the groupwise mean of the others, LT-Net's rule: see `closest_to_average`.

    Every scan goes to one common grid, its body's centre of mass in the same place; each pair is compared
    where both show something. The grid has the typical size of a body in this pool (medians over the scans).

    Args:
        scans: the candidates, two or more; or their folder.
        transductive: the paper's own form compares the candidates with the images to be segmented, the test
            scans, instead of with one another. Results on those scans are then no longer results on unseen
            ones.
        workers: processes; default: the cores this process may use.
        progress: called with (scans done, scans in all); every scan is read twice and counts twice.

    Returns:
        (scan name, mean NCC) for each of ``scans``.

    Raises:
        InputError: fewer than two scans to compare (three, by their average), or one that cannot be read.
    """
    scans = list_scans(scans) if isinstance(scans, (str, Path)) else scans
    others = list(transductive)
    if by == "average":
        from soloatlas.prepare.average import closest_to_average

        if others:
            raise InputError("choose-atlas --by average looks at the scans alone; leave out --transductive")
        return closest_to_average(scans, workers, progress)
    if len(scans) < (1 if others else 2):
        raise InputError("choose-atlas: needs at least two scans to compare; give a folder with more")
    paths = [*scans, *others]
    finished = 0

    def tell(_: object) -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(finished, 2 * len(paths))

    grid = common_grid(paths, workers, tell)
    copies = in_processes(functools.partial(centred_copy, grid=grid), paths, workers, tell)
    ncc = pairwise_ncc(np.stack([c[0].ravel() for c in copies]), np.stack([c[1].ravel() for c in copies]))
    if others:
        means = ncc[: len(scans), len(scans) :].mean(axis=1)
    else:
        means = (ncc.sum(axis=1) - np.diag(ncc)) / (len(scans) - 1)
    ranked = [(scan_name(path), float(mean)) for path, mean in zip(scans, means, strict=True)]
    return sorted(ranked, key=lambda entry: (-entry[1], entry[0]))


def pairwise_ncc(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Normalised cross-correlation of every pair of images over the voxels that both know.

    Args:
        images: (n, voxels) intensities in [0, 1].
        known: (n, voxels) bool.

    Returns:
        (n, n) float64 in [-1, 1], symmetric; 0 where a pair shares nothing or one of it is constant there.
    """
    mask = known.astype(np.float32)
    x = images.astype(np.float32) * mask
    # [i, j]: over the voxels that i and j share, their number, and the sums of image i, its square, and i
    # times j.
    count, own, square, product = (
        part.astype(np.float64) for part in (mask @ mask.T, x @ mask.T, (x * x) @ mask.T, x @ x.T)
    )
    count = np.maximum(count, 1)
    variance = np.maximum(square - own**2 / count, 0)
    norm = np.sqrt(variance * variance.T)
    covariance = product - own * own.T / count
    usable = norm > 1e-6 * count
    return np.clip(np.where(usable, covariance / np.where(usable, norm, 1), 0), -1, 1)


def _body_size(path: Path) -> np.ndarray:
    """(4,): extent of the body's bounding box along the world axes, mm, and the body's volume, mm³."""
    scan = finite(read_volume(path))
    inside = body(scan.array)
    low, high = bounding_box(inside)
    ends = np.stack(np.meshgrid(*zip(low - 0.5, high + 0.5, strict=True), indexing="ij"), -1).reshape(-1, 3)
    world = ends @ scan.grid.affine[:3, :3].T
    return np.append(np.ptp(world, axis=0), inside.sum() * np.prod(scan.grid.spacing))


def common_grid(scans: Sequence[Path], workers: int | None, tell: Callable[[object], None]) -> Grid:
    """A grid around the origin of the typical size of these scans' bodies; ``tell`` is called for each scan."""
    sizes = np.stack(in_processes(_body_size, scans, workers, tell))
    *extent, volume = np.median(sizes, axis=0)
    step = float(np.cbrt(volume / _VOXELS))
    x, y, z = (max(2, round(float(side) / step)) for side in extent)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = -(np.array([x, y, z]) - 1) / 2 * step
    return Grid((x, y, z), affine)


def centred_copy(path: Path, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The scan on ``grid``, its body's centre of mass at the origin: intensities (float16), where known."""
    copy = small_copy(finite(read_volume(path)), grid.spacing[0])
    there = grid.affine.copy()
    there[:3, 3] += copy.centre()
    return place_copy(copy, grid, there)


def place_copy(copy: Copy, grid: Grid, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``copy`` resampled on ``grid``, whose voxels lie at ``there`` (4, 4) in the scan's world."""
    matrix = np.linalg.solve(copy.grid.affine, there)
    image = resample(copy.image, matrix, grid.shape)
    known = resample(copy.known, matrix, grid.shape, order=0) > 0
    return image.astype(np.float16), known
