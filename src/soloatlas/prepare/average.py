"""Which scan to label: the one closest to the anatomical average (the rule of VoxelMorph and LT-Net)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from soloatlas.data.files import read_volume, scan_name
from soloatlas.data.volume import Volume
from soloatlas.errors import InputError
from soloatlas.prepare.alignment import align, small_copy
from soloatlas.prepare.choice import centred_copy, common_grid, place_copy
from soloatlas.prepare.cohort import Progress, finite, in_processes

ROUNDS = 3  # of aligning every scan to the mean and averaging anew


def closest_to_average(
    scans: Sequence[Path], workers: int | None = None, progress: Progress | None = None
) -> list[tuple[str, float]]:
    """Rank ``scans`` by their correlation with the mean of the others after groupwise alignment, best first.

    The mean begins with every body's centre of mass in one place; in each of three rounds every scan is
    aligned rigidly to it (shapes and sizes stay as they are, so an unusual one remains unusual) and the mean
    is taken anew. A scan is compared with the mean of all others, never with one that holds itself.

    Args:
        scans: the candidates, three or more.
        workers: processes; default: the cores this process may use.
        progress: called with (scans done, scans in all); every scan counts once a round and twice before.

    Returns:
        (scan name, NCC) for each of ``scans``.

    Raises:
        InputError: fewer than three scans, or one that cannot be read.
    """
    if len(scans) < 3:
        raise InputError("choose-atlas --by average: needs at least three scans; use --by ncc")
    finished = 0

    def tell(_: object) -> None:
        nonlocal finished
        finished += 1
        if progress:
            progress(finished, (2 + ROUNDS) * len(scans))

    grid = common_grid(scans, workers, tell)
    images, known = _stacked(in_processes(functools.partial(centred_copy, grid=grid), scans, workers, tell))
    for _ in range(ROUNDS):
        aligned = functools.partial(_aligned_copy, mean=Volume(_mean(images, known), grid))
        images, known = _stacked(in_processes(aligned, scans, workers, tell))
    scores = correlation_with_others(images, known)
    ranked = [(scan_name(path), float(score)) for path, score in zip(scans, scores, strict=True)]
    return sorted(ranked, key=lambda entry: (-entry[1], entry[0]))


def correlation_with_others(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """NCC of each image with the mean of all others, over the voxels that both know.

    Args:
        images: (n, x, y, z) intensities in [0, 1]; ``known`` bool, where each shows something.

    Returns:
        (n,) in [-1, 1]; 0 where nothing is shared or one side is constant.
    """
    counts, sums = known.sum(0), (images * known).sum(0)
    out = np.zeros(len(images))
    for i, (image, mask) in enumerate(zip(images, known, strict=True)):
        others = counts - mask
        shared = mask & (others > 0)
        mean = (sums - image * mask)[shared] / others[shared]
        own = image[shared]
        if own.size and own.std() > 0 and mean.std() > 0:
            out[i] = np.corrcoef(own, mean)[0, 1]
    return out


def _mean(images: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the scans that know a voxel; 0 where none does."""
    counts = known.sum(0)
    return np.where(counts > 0, (images * known).sum(0) / np.maximum(counts, 1), 0).astype(np.float32)


def _stacked(copies: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.stack([image for image, _ in copies]).astype(np.float32), np.stack([known for _, known in copies])


def _aligned_copy(path: Path, mean: Volume) -> tuple[np.ndarray, np.ndarray]:
    """The scan on the mean's grid after rigid alignment: intensities (float16), where known."""
    scan = finite(read_volume(path))
    transform, _, _ = align(scan, mean, "rigid")
    return place_copy(small_copy(scan, mean.grid.spacing[0]), mean.grid, transform @ mean.grid.affine)
