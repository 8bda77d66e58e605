"""Inputs of every size: made-up volumes for arithmetic, brains of the simulated cohort where anatomy matters.

The same size gives the same inputs in every process.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import Place, Shape

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from soloatlas.data.volume import Volume
    from soloatlas.material import Material

# Empty voxels around every made-up volume: published forms count zeros beyond the border into a window of 9, ours cuts
# the window off. Where nothing but zeros is near the border both are the same.
MARGIN = 10
SPACING = {"tiny": 8.0, "small": 2.0, "large": 1.0}  # mm, of brains that fill most of the grid


def scans(place: Place, seed: int = 0, filling: bool = False) -> tuple[Tensor, Tensor]:
    """Two alike but different textured ellipsoids, (1, 1, x, y, z) float32 in [0, 1], 0 around them.

    With ``filling`` the texture goes on to the border.
    """
    fixed, other = _texture(place.shape, seed), _texture(place.shape, seed + 1)
    inside = 1 if filling else _ellipsoid(place.shape)
    return (fixed * inside).to(place.device), ((0.6 * fixed + 0.4 * other) * inside).to(place.device)


def displacement(place: Place, seed: int = 0) -> Tensor:
    """A smooth random field of about a voxel, (1, 3, x, y, z) float32, 0 around the ellipsoid."""
    from soloatlas.augmentation import smooth_displacement

    field = smooth_displacement(place.shape, 1.0, 12, _generator(seed, "field"))
    return (field * _ellipsoid(place.shape)).to(place.device)


def structures(place: Place, count: int, seed: int = 0) -> Tensor:
    """Class map (1, 1, x, y, z) int16 of ``count`` classes: the cells around random points of the ellipsoid.

    Large ones are made on a coarser grid.
    """
    import torch
    from torch.nn import functional

    from soloatlas import fields

    step = max(1, min(place.shape) // 40)
    inside = _ellipsoid(place.shape)
    position = fields.identity([-(-n // step) for n in place.shape], torch.empty(0))[0] * step
    points = inside[0, 0].nonzero()
    chosen = points[torch.randperm(len(points), generator=_generator(seed, "structures"))[: count - 1]]
    classes, nearest = torch.zeros_like(position[0]), torch.full_like(position[0], math.inf)
    for index, point in enumerate(chosen, start=1):
        apart = (position - point.view(3, 1, 1, 1)).square().sum(0)
        classes[apart < nearest] = index
        nearest = torch.minimum(nearest, apart)
    whole = functional.interpolate(classes[None, None], place.shape, mode="nearest")
    return (whole.to(torch.int16) * inside).to(place.device)


def material(place: Place, classes: int, pool: int) -> Material:
    """A study on the working grid: an atlas with ``classes`` classes and ``pool`` scans like it."""
    import torch

    from soloatlas.material import Material

    atlas, _ = scans(place)
    unlabelled = torch.cat([scans(place, seed=2 + 2 * n)[1] for n in range(pool)]).half()
    names = tuple(f"scan_{n}" for n in range(pool))
    return Material(atlas, structures(place, classes), unlabelled, names, classes, (1.0, 1.0, 1.0))


def brains(place: Place) -> list[tuple[Volume, Volume]]:
    """(image, labels) of the simulated cohort's atlas and of a test scan, on grids of the place's shape.

    The cohort lies beside the folders of the items, made by the first that asks.
    """
    from soloatlas.data.demo import simulate_cohort
    from soloatlas.data.files import read_labels, read_volume
    from soloatlas.data.study import read_study

    folder = place.folder.parent / "cohort"
    made = folder.exists()
    study = read_study(folder) if made else simulate_cohort(folder, pool=1, test=1, spacing=SPACING[place.size])
    pairs = [(study.atlas, study.atlas_labels), (study.test_images[0], study.test_labels[0])]
    return [(fitted(read_volume(a), place.shape), fitted(read_labels(b), place.shape)) for a, b in pairs]


def write(path: Path, volume: Volume) -> None:
    """Write a volume as the program does."""
    from soloatlas.data.files import write_volume

    write_volume(path, volume.array, volume.grid)


def fitted(volume: Volume, shape: Shape) -> Volume:
    """``volume`` cut, or filled up with 0, about its middle to ``shape``; voxels stay where they are in the world."""
    from soloatlas.data.volume import Grid, Volume

    array = np.zeros(shape, volume.array.dtype)
    first = [(have - want) // 2 for have, want in zip(volume.array.shape, shape, strict=True)]
    taken = tuple(slice(max(f, 0), max(f, 0) + want) for f, want in zip(first, shape, strict=True))
    part = volume.array[taken]
    put = tuple(slice(max(-f, 0), max(-f, 0) + n) for f, n in zip(first, part.shape, strict=True))
    array[put] = part
    affine = volume.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.asarray(first)
    return Volume(array, Grid(shape, affine))


def divided(labels: Volume, count: int) -> Volume:
    """The five labels of the simulated cohort, each cut along y into slabs of equal volume: ``count`` structures."""
    from soloatlas.data.volume import Volume

    out, first = np.zeros(labels.array.shape, np.int32), 1
    for label in range(1, 6):
        pieces = (count + 5 - label) // 5
        where = labels.array == label
        y = where.nonzero()[1]
        out[where] = first + np.searchsorted(np.quantile(y, np.linspace(0, 1, pieces + 1)[1:-1]), y)
        first += pieces
    return Volume(out, labels.grid)


def _texture(shape: Shape, seed: int) -> Tensor:
    """Smooth structure at two scales and noise, (1, 1, x, y, z), within [0.05, 1]."""
    import torch
    from torch.nn import functional

    draw = _generator(seed, "texture")
    out = torch.full((1, 1, *shape), 0.5) + 0.02 * torch.randn(1, 1, *shape, generator=draw)
    for step, weight in ((16, 0.15), (5, 0.1)):
        coarse = torch.randn(1, 1, *(n // step + 2 for n in shape), generator=draw)
        out += weight * functional.interpolate(coarse, shape, mode="trilinear", align_corners=True)
    return out.clamp(0.05, 1)


def _ellipsoid(shape: Shape) -> Tensor:
    import torch

    axes = [torch.linspace(-1, 1, n) * (n - 1) / (n - 2 * MARGIN) for n in shape]
    x, y, z = torch.meshgrid(*axes, indexing="ij")
    return (x**2 + y**2 + z**2 <= 1)[None, None]


def _generator(seed: int, purpose: str) -> torch.Generator:
    from soloatlas.randomness import generator

    return generator(seed, "benchmarks", purpose)
