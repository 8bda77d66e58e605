"""Where the atlas lies in a scan: centre, rigid and affine alignment on small copies of both.

The default was chosen by the Dice of the atlas's labels carried by the alignment alone, on dev scans
(benchmarks/alignment.py, results/<cohort>/alignment-dev.json). It looks around the atlas's labels: over whole
bodies of different patients the shoulders decide, not the neck.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.prepare.grids import bounding_box, resample
from soloatlas.prepare.intensity import body, normalise
from soloatlas.settings import Align, Prepare

_VOXELS = 60_000  # of the atlas's body in its copy: about 3 mm for a brain, 1 mm for a hippocampus crop
_MAX_VOXELS = 4_000_000  # of one copy, however large the field of view
_SURROUNDINGS = 0.15  # how far around the labels to look, as a share of the size of their box
_BINS = 24  # of the joint histogram, which copies of 60 000 voxels fill
_STARTS = 4  # shifts of a full search that are followed at most
_CLOSE = 0.7  # of the best one's correlation: less is not followed
_ITERATIONS = 60  # per level
# Scores of right scans on dev: 0.55 and more after rigid or affine, 0.2 to 0.6 before; of scans turned upside
# down, inverted or of other anatomy mostly below 0.5, or only reached by a stretch beyond all anatomy.
_MIN_SCORE = {"none": 0.15, "centre": 0.15, "rigid": 0.45, "affine": 0.45}
_MIN_OVERLAP = 0.5
_MAX_STRETCH = 2.0


@dataclass(frozen=True, eq=False)
class Copy:
    """A scan on a small isotropic grid along the world axes, for alignment only.

    Attributes:
        image: (x, y, z) float32 in [0, 1].
        known: (x, y, z) bool, where the scan shows something: its field of view, less the empty space beyond
            a plane that cuts the body.
        inside: (x, y, z) bool, the body.
        grid: where it lies.
    """

    image: np.ndarray
    known: np.ndarray
    inside: np.ndarray
    grid: Grid

    def centre(self) -> np.ndarray:
        """Centre of mass of the body, (3,) mm."""
        middle = np.argwhere(self.inside).mean(axis=0)
        return np.asarray(self.grid.affine[:3, :3] @ middle + self.grid.affine[:3, 3])

    def radius(self) -> float:
        """Root mean square distance of the body from its centre, mm; at least one voxel."""
        spread = np.argwhere(self.inside).std(axis=0) * self.grid.spacing
        return max(float(np.linalg.norm(spread)), self.grid.spacing[0])


def align(scan: Volume, atlas: Volume, how: Align, labels: Volume | None = None) -> tuple[np.ndarray, float, bool]:
    """Where the atlas lies in ``scan``.

    - ``none``: the world coordinates of the files are taken as they are.
    - ``centre``: the centres of mass of both bodies meet (of both images, where there is no background).
    - ``rigid``, ``affine``: on from that and from the best shifts of a full search, by Mattes mutual
      information at two resolutions (SimpleITK, one thread, every voxel: the same input gives the same
      answer). What is found is kept only if it scores better than the centres did.

    The score is the normalised cross-correlation over both bodies, where both scans show something (and,
    given ``labels``, near those). A scan counts as aligned if the score is at least 0.45 (0.15 for
    ``none`` and ``centre``, which leave differences by design), at least half of that part of the atlas is
    covered, and nothing is mirrored, stretched or shrunk more than twofold.

    Args:
        scan: any grid, finite intensities.
        atlas: any grid, finite intensities.
        how: see above.
        labels: the atlas's labels (0 background): the part that has to match.

    Returns:
        (4, 4) float64 from atlas world to scan world in mm; the score in [-1, 1]; whether the scan aligned.
    """
    whole, reference = _reference(atlas, labels)
    moving = small_copy(scan, reference.grid.spacing[0])
    start = np.eye(4) if how == "none" else _shift(moving.centre() - whole.centre())
    score, covered, transform = max(_candidates(reference, moving, start, how), key=_first)
    stretch = np.linalg.svd(transform[:3, :3], compute_uv=False)
    plausible = np.linalg.det(transform) > 0 and stretch.max() <= _MAX_STRETCH and stretch.min() >= 1 / _MAX_STRETCH
    return transform, score, bool(score >= _MIN_SCORE[how] and covered >= _MIN_OVERLAP and plausible)


def small_copy(scan: Volume, step: float) -> Copy:
    """``scan`` at ``step`` mm along the world axes, normalised by the percentiles of its body."""
    grid = world_grid(scan.grid, step)
    matrix = np.linalg.solve(scan.grid.affine, grid.affine)
    image = resample(scan.array, matrix, grid.shape, fill=float(scan.array.min()))
    known = resample(np.ones(scan.array.shape, dtype=np.float32), matrix, grid.shape, order=0) > 0
    inside = body(image) & known
    if not inside.any():
        inside = known
    return Copy(normalise(image, Prepare(), inside), known & _uncut(inside), inside, grid)


def world_grid(grid: Grid, step: float) -> Grid:
    """The grid of ``step`` mm along the world axes that covers ``grid``, coarser if it would be huge."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in grid.shape], indexing="ij"), -1).reshape(-1, 3)
    world = corners @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    low, extent = world.min(0), np.ptp(world, axis=0)
    step = max(step, float(np.cbrt(extent.prod() / _MAX_VOXELS)))
    x, y, z = (max(1, int(n)) for n in np.ceil(np.round(extent / step, 3)))
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = low + extent / 2 - (np.array([x, y, z]) - 1) / 2 * step
    return Grid((x, y, z), affine)


@functools.lru_cache(maxsize=1)  # the same atlas for every scan of a study
def _reference(atlas: Volume, labels: Volume | None) -> tuple[Copy, Copy]:
    """The atlas's copy, and the part of it that has to match: what it shows near the labels, if given."""
    volume = body(atlas.array).sum() * np.prod(atlas.grid.spacing)
    step = max(float(np.cbrt(volume / _VOXELS)), min(atlas.grid.spacing))
    copy = small_copy(atlas, step)
    if labels is None:
        return copy, _trimmed(copy)
    if not (labels.array > 0).any():
        raise InputError(f"{labels.path or 'the atlas labels'}: hold no label; give the labels of the atlas")
    return copy, _trimmed(replace(copy, known=copy.known & _near(labels, copy.grid)))


def _trimmed(copy: Copy) -> Copy:
    """The box of what is known, and two voxels more for smoothing: less to go through."""
    low, high = bounding_box(copy.known)
    low, high = np.maximum(low - 2, 0), np.minimum(high + 3, copy.grid.shape)
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    affine = copy.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ low
    x, y, z = (int(n) for n in high - low)
    inside = copy.inside[box] if copy.inside[box].any() else copy.known[box]
    return Copy(copy.image[box], copy.known[box], inside, Grid((x, y, z), affine))


def _near(labels: Volume, grid: Grid) -> np.ndarray:
    """Voxels of ``grid`` within a quarter of the labels' size of a label."""
    from scipy import ndimage

    matrix = np.linalg.solve(labels.grid.affine, grid.affine)
    marked = resample(labels.array > 0, matrix, grid.shape) > 0.01
    low, high = bounding_box(labels.array > 0)
    size = float(np.mean((high - low + 1) * labels.grid.spacing))
    if not marked.any():
        raise InputError(f"{labels.path or 'the atlas labels'}: lie outside the atlas; check their grid")
    return np.asarray(ndimage.distance_transform_edt(~marked) * grid.spacing[0] <= _SURROUNDINGS * size)


def _uncut(inside: np.ndarray) -> np.ndarray:
    """False beyond a plane that cuts the body: there the scan is empty, not the patient.

    A body that ends by itself tapers off. Where its cross-section jumps from under a tenth to over a quarter
    of the largest one within one step, the scanner stopped (or the file was filled up).
    """
    known = np.ones(inside.shape, dtype=bool)
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        area = inside.sum(axis=others) / inside.sum(axis=others).max()
        full = np.flatnonzero(area > 0.25)
        first, last = full[0], full[-1]
        along = np.ones(area.size, dtype=bool)
        along[:first] = not (first > 0 and area[first - 1] < 0.1)
        along[last + 1 :] = not (last + 1 < area.size and area[last + 1] < 0.1)
        known &= np.expand_dims(along, others)
    return known


def _candidates(
    reference: Copy, moving: Copy, start: np.ndarray, how: Align
) -> Iterator[tuple[float, float, np.ndarray]]:
    """(score, share of the atlas covered, transform), one way after the other."""

    def scored(transform: np.ndarray) -> tuple[float, float, np.ndarray]:
        return (*_score(reference, moving, transform), transform)

    yield scored(start)
    if how in ("none", "centre"):
        return
    # A shift may score well in the wrong place: several are followed at low resolution, the best goes on.
    starts = [start, *(_shift(by) for by in _best_shifts(reference, moving))]
    found = [scored(_optimise(reference, moving, first, "rigid", [2])) for first in starts]
    if how == "affine":
        found = [scored(_optimise(reference, moving, rigid[2], "affine", [2])) for rigid in found]
    best = max(found, key=_first)
    yield best
    yield scored(_optimise(reference, moving, best[2], how, [1]))


def _first(candidate: tuple[float, float, np.ndarray]) -> float:
    return candidate[0]


def _shift(by: np.ndarray) -> np.ndarray:
    transform = np.eye(4)
    transform[:3, 3] = by
    return transform


def _score(reference: Copy, moving: Copy, transform: np.ndarray) -> tuple[float, float]:
    """Normalised cross-correlation over both bodies where both are known; share of the atlas known."""
    matrix = np.linalg.solve(moving.grid.affine, transform @ reference.grid.affine)
    shape = reference.grid.shape
    image = resample(moving.image, matrix, shape)
    both = reference.known & (resample(moving.known, matrix, shape, order=0) > 0)
    wanted = reference.known & reference.inside
    covered = (both & wanted).sum() / max(1, wanted.sum())
    both &= reference.inside | (resample(moving.inside, matrix, shape, order=0) > 0)
    return correlation(image[both], reference.image[both]), float(covered)


def correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Correlation coefficient of two lists of values; 0 if one is constant or empty."""
    if one.size == 0:
        return 0.0
    a = one - one.mean(dtype=np.float64)
    b = two - two.mean(dtype=np.float64)
    norm = np.sqrt((a * a).sum() * (b * b).sum())
    return float((a * b).sum() / norm) if norm > 1e-9 * one.size else 0.0


def _best_shifts(reference: Copy, moving: Copy) -> list[np.ndarray]:
    """Translations in mm with the largest masked normalised cross-correlation (Padfield, TIP 21:2706, 2012).

    All shifts at once by Fourier transforms, at half the copies' resolution; shifts that leave less than 60 %
    of the largest possible overlap are not looked at.
    """
    from scipy import fft

    fixed = _halved(reference.image * reference.known), _halved(reference.known)
    moved = _halved(moving.image * moving.known), _halved(moving.known)
    shape = [fft.next_fast_len(a + b - 1, real=True) for a, b in zip(fixed[0].shape, moved[0].shape, strict=True)]
    # Sums over the overlap of both masks, for every shift: of 1, of each image, its square, and the product.
    a, ma, aa = (np.conj(fft.rfftn(part, shape)) for part in (*fixed, fixed[0] ** 2))
    b, mb, bb = (fft.rfftn(part, shape) for part in (*moved, moved[0] ** 2))
    count, sa, sb, saa, sbb, sab = (
        fft.irfftn(product, shape) for product in (ma * mb, a * mb, ma * b, aa * mb, ma * bb, a * b)
    )
    safe = np.maximum(count, 1)
    variances = np.maximum(saa - sa**2 / safe, 0) * np.maximum(sbb - sb**2 / safe, 0)
    usable = (count > 0.6 * count.max()) & (variances > 1e-6 * variances.max())
    ncc = np.where(usable, (sab - sa * sb / safe) / np.sqrt(np.where(usable, variances, 1)), -1)
    step = 2 * moving.grid.spacing[0]
    between = moving.grid.affine[:3, 3] - reference.grid.affine[:3, 3]
    return [between + step * peak for peak in _peaks(ncc, moved[0].shape, reference.radius() / 2 / step)]


def _peaks(ncc: np.ndarray, positive: tuple[int, ...], apart: float) -> Iterator[np.ndarray]:
    """Signed shifts of the highest values of a circular map, each at least ``apart`` from those before.

    ``positive``: number of shifts along each axis that are not negative.
    """
    axes = [
        np.where(np.arange(n) < size, np.arange(n), np.arange(n) - n)
        for n, size in zip(ncc.shape, positive, strict=True)
    ]
    x, y, z = np.ix_(*axes)
    left = ncc.copy()
    for _ in range(_STARTS):
        where = np.unravel_index(int(left.argmax()), left.shape)
        if left[where] < _CLOSE * ncc.max():
            return
        peak = np.array([axis[index] for axis, index in zip(axes, where, strict=True)])
        left[(x - peak[0]) ** 2 + (y - peak[1]) ** 2 + (z - peak[2]) ** 2 < apart**2] = -1
        yield peak


def _halved(array: np.ndarray) -> np.ndarray:
    """Means of blocks of 2 x 2 x 2; an odd last plane is repeated."""
    padded = np.pad(array.astype(np.float32), [(0, n % 2) for n in array.shape], mode="edge")
    x, y, z = (n // 2 for n in padded.shape)
    return padded.reshape(x, 2, y, 2, z, 2).mean(axis=(1, 3, 5))


def _optimise(reference: Copy, moving: Copy, start: np.ndarray, kind: str, shrink: list[int]) -> np.ndarray:
    """The rigid or affine transform that SimpleITK reaches from ``start``; ``start`` where it gives up.

    ``shrink``: how much coarser than the copies to work, level by level.
    """
    import SimpleITK

    # In units of the body's radius a step means the same for shifts, angles and stretches. In mm the first
    # step of an affine search may mirror the scan.
    unit = reference.radius()
    step = reference.grid.spacing[0] / unit
    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricFixedMask(_itk(reference.known.astype(np.uint8), reference.grid, unit))
    method.SetMetricMovingMask(_itk(moving.known.astype(np.uint8), moving.grid, unit))
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel([factor - 1 for factor in shrink])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=step,
        minStep=0.01 * step,
        numberOfIterations=_ITERATIONS,
        relaxationFactor=0.7,
        gradientMagnitudeTolerance=1e-8,
    )
    transform = SimpleITK.Euler3DTransform() if kind == "rigid" else SimpleITK.AffineTransform(3)
    centre = reference.centre()
    transform.SetCenter((centre / unit).tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation(((start[:3, :3] @ centre + start[:3, 3] - centre) / unit).tolist())
    method.SetInitialTransform(transform, inPlace=True)
    with _quiet_single_thread():
        try:
            method.Execute(_itk(reference.image, reference.grid, unit), _itk(moving.image, moving.grid, unit))
        except RuntimeError:  # the overlap was lost on the way
            return start
    out = np.eye(4)
    out[:3, :3] = np.reshape(transform.GetMatrix(), (3, 3))
    out[:3, 3] = np.multiply(transform.GetTranslation(), unit) + centre - out[:3, :3] @ centre
    return out


def _itk(array: np.ndarray, grid: Grid, unit: float) -> Any:
    """A SimpleITK image of a copy. Its axes run along the world's, so RAS numbers serve on both sides."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing([side / unit for side in grid.spacing])
    image.SetOrigin((grid.affine[:3, 3] / unit).tolist())
    return image


@contextlib.contextmanager
def _quiet_single_thread() -> Iterator[None]:
    """Sums over threads come in any order; one thread gives the same bits every time.

    What ITK prints when an overlap is lost says nothing more than the flag ``aligned``.
    """
    from SimpleITK import ProcessObject

    threads, warns = ProcessObject.GetGlobalDefaultNumberOfThreads(), ProcessObject.GetGlobalWarningDisplay()
    ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
        ProcessObject.SetGlobalWarningDisplay(warns)
