"""The working grid, and the exact way between it and the grid of each scan."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.prepare.intensity import body
from soloatlas.settings import Prepare

_HALF = 0.5 + 1e-3  # a voxel reaches half a step to each side; the rest is rounding
_MAX_MARGIN = 0.2  # of the body along each axis
_DIGITS = 9  # matrices are rounded to this, so that a product that should be the identity is the identity


@dataclass(frozen=True, eq=False)
class Placement:
    """Where a scan's own grid lies on the working grid, its alignment to the atlas included.

    Attributes:
        native: the grid of the scan's file.
        working: the grid that networks see, the same for every scan of a study.
        matrix: (4, 4) float64, takes a voxel index of ``working`` to one of ``native``.
    """

    native: Grid
    working: Grid
    matrix: np.ndarray

    def inverse(self) -> np.ndarray:
        """(4, 4) float64, takes a voxel index of ``native`` to one of ``working``."""
        return np.linalg.inv(self.matrix)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; Python writes floats so that they read back to the same bits."""
        return {
            "native": grid_to_json(self.native),
            "working": grid_to_json(self.working),
            "matrix": self.matrix.tolist(),
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Placement:
        """The placement that `to_json` wrote."""
        native, working = grid_from_json(content["native"]), grid_from_json(content["working"])
        return cls(native, working, np.array(content["matrix"], dtype=np.float64))


def grid_to_json(grid: Grid) -> dict[str, Any]:
    """``{"shape": [x, y, z], "affine": 4 rows}``."""
    return {"shape": [int(n) for n in grid.shape], "affine": np.asarray(grid.affine).tolist()}


def grid_from_json(content: dict[str, Any]) -> Grid:
    """The grid that `grid_to_json` wrote."""
    x, y, z = (int(n) for n in content["shape"])
    return Grid((x, y, z), np.array(content["affine"], dtype=np.float64))


def place(native: Grid, working: Grid, transform: np.ndarray | None = None) -> Placement:
    """The placement of a scan on ``native``, given (4, 4) atlas world to scan world in mm."""
    through = working.affine if transform is None else transform @ working.affine
    return Placement(native, working, _rounded(np.linalg.solve(native.affine, through)))


def field_of_view(placement: Placement) -> np.ndarray:
    """(x, y, z) bool on the working grid: voxels whose centre lies within a voxel of the scan.

    Elsewhere a prepared image is 0, which is no measurement.
    """
    return _within(_rounded(placement.matrix), placement.working.shape, placement.native.shape)


def resample(
    array: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], order: int = 1, fill: float = 0.0
) -> np.ndarray:
    """``out[q] = array(matrix @ q)`` by interpolation; the identity returns the input exactly.

    Where one output step spans more than one voxel of the input, the input is smoothed first, by the Gaussian
    that makes up the difference between the two voxel sizes taken as full widths at half maximum (Cardoso et
    al., MICCAI 2015). With ``order=0`` nothing is smoothed. A point within half a voxel outside the outermost
    centres takes the value at the border; further out it takes ``fill``.

    Args:
        array: (x, y, z), any numeric type.
        matrix: (4, 4), takes an output voxel index to an input voxel index.
        shape: of the output.
        order: 0 nearest, 1 linear, 3 cubic.
        fill: value outside the input.

    Returns:
        ``shape`` float32.
    """
    from scipy import ndimage

    matrix = _rounded(matrix)
    smooth = array.astype(np.float32, copy=False)
    if order > 0:
        smooth = _smoothed(smooth, matrix)
    steps, start = matrix[:3, :3], matrix[:3, 3]
    if np.array_equal(steps, np.diag(np.diag(steps))):
        steps = np.diag(steps)  # scipy is several times faster where axes stay apart
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The behavior of affine_transform", category=UserWarning)
        out = ndimage.affine_transform(
            smooth, steps, start, output_shape=tuple(shape), output=np.float32, order=order, mode="nearest"
        )
    out[~_within(matrix, shape, array.shape)] = fill
    return np.asarray(out)


def resample_classes(classes: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int], count: int) -> np.ndarray:
    """A class map through `resample`: each class's one-hot map linearly, then the arg-max.

    One class at a time, each within its own bounding box; background is what the others leave of 1.

    Args:
        classes: (x, y, z) integers 0..count-1, 0 background.
        matrix: (4, 4), takes an output voxel index to an input voxel index.
        shape: of the output.
        count: number of classes, background included.

    Returns:
        ``shape``, uint8 up to 256 classes, int16 above; 0 outside the input.
    """
    from scipy import ndimage

    matrix = _rounded(matrix)
    best = np.zeros(shape, dtype=np.float32)
    taken = np.zeros(shape, dtype=np.float32)
    out = np.zeros(shape, dtype=np.uint8 if count <= 256 else np.int16)
    for label, box in enumerate(ndimage.find_objects(classes, max_label=count - 1), start=1):
        region = None if box is None else _reach(box, matrix, classes.shape, shape)
        if region is None:
            continue
        source, target = region
        part = _resample_part(classes[source] == label, matrix, source, target)
        better = part > best[target]
        best[target][better] = part[better]
        out[target][better] = label
        taken[target] += part
    out[best <= 1 - taken] = 0
    return out


def prepare_labels(classes: np.ndarray, placement: Placement, classes_count: int) -> np.ndarray:
    """The class map of a scan's own grid on the working grid (`resample_classes`)."""
    return resample_classes(classes, placement.matrix, placement.working.shape, classes_count)


def to_native(array: np.ndarray, placement: Placement, order: int = 1, fill: float = 0.0) -> np.ndarray:
    """An image or probability map of the working grid on the scan's own grid (`resample`)."""
    return resample(array, placement.inverse(), placement.native.shape, order, fill)


def labels_to_native(classes: np.ndarray, placement: Placement, classes_count: int) -> np.ndarray:
    """A class map of the working grid on the scan's own grid (`resample_classes`)."""
    return resample_classes(classes, placement.inverse(), placement.native.shape, classes_count)


def working_grid(atlas: Volume, settings: Prepare, labels: Volume | None = None) -> Grid:
    """The grid that networks see: the atlas's, axes turned to the nearest of R, A and S, cropped and padded.

    Turning is a permutation and flips only, so that an oblique atlas stays on its own voxels; at the atlas's
    own spacing its voxels are the working grid's voxels. The box holds the atlas's body (with
    ``crop="labels"`` its labels, with ``crop="none"`` its field of view without margin) and ``margin`` mm to
    each side, but no more than a fifth of the body (a mouse brain is 8 mm high), rounded up to ``multiple``
    voxels. Given a ``size``, the box has so many voxels about the same centre, whatever it cuts off.

    Args:
        atlas: as read, finite.
        settings: how to crop.
        labels: the atlas's labels, on its grid; needed by ``crop="labels"``.

    Raises:
        InputError: a ``size`` that networks cannot halve, or no label to crop around.
    """
    grid = canonical(atlas.grid)
    inside = _to_hold(atlas, settings, labels)
    low, high = _box(inside, atlas.grid, grid)
    own = np.array(grid.spacing)
    size = (high - low + 1) * own
    margin = np.zeros(3) if inside is None else np.minimum(settings.margin, _MAX_MARGIN * size)
    spacing = own if settings.spacing is None else np.full(3, settings.spacing)
    ratio = np.where(np.abs(spacing / own - 1) < 1e-4, 1.0, spacing / own)
    voxels = np.round((size + 2 * margin) / (own * ratio), 6)
    shape = np.ceil(voxels / settings.multiple).astype(int) * settings.multiple
    shape = shape if settings.size is None else _asked_size(settings)
    start = (low + high) / 2 - (shape - 1) / 2 * ratio
    start = np.where(ratio == 1, np.floor(start), start)
    into = np.eye(4)
    into[:3, :3], into[:3, 3] = np.diag(ratio), start
    x, y, z = (int(n) for n in shape)
    return Grid((x, y, z), grid.affine @ into)


def _to_hold(atlas: Volume, settings: Prepare, labels: Volume | None) -> np.ndarray | None:
    """What of the atlas the working grid has to hold, (x, y, z) bool; None: its field of view."""
    if settings.crop == "none":
        return None
    if settings.crop == "body":
        return body(np.nan_to_num(atlas.array))
    if labels is None or not (labels.array > 0).any():
        raise InputError("prepare.crop=labels: the atlas has no label; give its labels, or crop to the body")
    return labels.array > 0


def _asked_size(settings: Prepare) -> np.ndarray:
    size = np.array(settings.size)
    if (size <= 0).any() or (size % settings.multiple).any():
        raise InputError(f"prepare.size={size.tolist()}: give three multiples of {settings.multiple} voxels")
    return size


def canonical(grid: Grid) -> Grid:
    """``grid`` with its axes permuted and flipped so that they point as nearly as can be to R, A and S."""
    directions = grid.affine[:3, :3] / np.array(grid.spacing)
    order, signs = _nearest_axes(directions)
    turn = np.zeros((4, 4))
    turn[3, 3] = 1
    for world, (axis, sign) in enumerate(zip(order, signs, strict=True)):
        turn[axis, world] = sign
        turn[axis, 3] = 0 if sign > 0 else grid.shape[axis] - 1
    x, y, z = (grid.shape[axis] for axis in order)
    return Grid((x, y, z), grid.affine @ turn)


def bounding_box(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last index of ``mask`` along each axis, (3,) and (3,)."""
    ends = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        where = np.flatnonzero(mask.any(axis=others))
        ends.append((where[0], where[-1]))
    return np.array([e[0] for e in ends]), np.array([e[1] for e in ends])


def _box(inside: np.ndarray | None, own: Grid, turned: Grid) -> tuple[np.ndarray, np.ndarray]:
    """First and last voxel to cover, in the indices of ``turned``."""
    if inside is None:
        return np.zeros(3), np.array(turned.shape) - 1.0
    low, high = bounding_box(inside)
    into = np.linalg.solve(turned.affine, own.affine)
    ends = np.stack([into[:3, :3] @ e + into[:3, 3] for e in (low, high)])
    return np.round(ends.min(0)), np.round(ends.max(0))


def _nearest_axes(directions: np.ndarray) -> tuple[list[int], list[int]]:
    """For each world axis the voxel axis that runs along it, and its sign."""
    import itertools

    order = max(
        itertools.permutations(range(3)),
        key=lambda axes: sum(abs(directions[world, axis]) for world, axis in enumerate(axes)),
    )
    return list(order), [1 if directions[world, axis] >= 0 else -1 for world, axis in enumerate(order)]


def _rounded(matrix: np.ndarray) -> np.ndarray:
    return np.round(matrix, _DIGITS) + 0.0  # + 0.0: no negative zeros


def _sigmas(matrix: np.ndarray) -> np.ndarray:
    """Standard deviation, in input voxels, of the smoothing along each input axis."""
    steps = np.linalg.norm(matrix[:3, :3], axis=1)  # a rotation alone has steps of 1: no smoothing
    return np.sqrt(np.maximum(steps**2 - 1, 0)) / (2 * np.sqrt(2 * np.log(2)))


def _smoothed(array: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    for axis, sigma in enumerate(_sigmas(matrix)):
        if sigma > 0.1:  # less changes nothing
            array = ndimage.gaussian_filter1d(array, sigma, axis, mode="nearest", truncate=3.0)
    return array


def _within(matrix: np.ndarray, shape: tuple[int, ...], source: tuple[int, ...]) -> np.ndarray:
    """``shape`` bool: whether ``matrix @ q`` lies within the voxels of an array of shape ``source``."""
    inside = np.ones(shape, dtype=bool)
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    for row, size in zip(matrix[:3], source, strict=True):
        along = sum(
            (step * axis for step, axis in zip(row[:3], axes, strict=True) if step != 0),
            start=np.array(row[3]),
        )
        inside &= (along >= -_HALF) & (along <= size - 1 + _HALF)
    return inside


Box = tuple[slice, slice, slice]


def _reach(box: Box, matrix: np.ndarray, source: tuple[int, ...], target: tuple[int, ...]) -> tuple[Box, Box] | None:
    """The part of the input that a class needs, and the part of the output that it can reach."""
    room = 2 + np.ceil(3 * _sigmas(matrix)).astype(int)
    low = np.maximum([s.start for s in box] - room, 0)
    high = np.minimum([s.stop for s in box] + room, source)
    corners = np.stack(np.meshgrid(*zip(low - 1, high, strict=True), indexing="ij"), -1).reshape(-1, 3)
    back = np.linalg.inv(matrix)
    reached = corners @ back[:3, :3].T + back[:3, 3]
    first = np.maximum(np.floor(reached.min(0)).astype(int), 0)
    last = np.minimum(np.ceil(reached.max(0)).astype(int) + 1, target)
    if (first >= last).any():
        return None
    return _slices(low, high), _slices(first, last)


def _slices(low: np.ndarray, high: np.ndarray) -> Box:
    x, y, z = (slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    return x, y, z


def _resample_part(part: np.ndarray, matrix: np.ndarray, source: Box, target: Box) -> np.ndarray:
    into, out = np.eye(4), np.eye(4)
    into[:3, 3] = [-s.start for s in source]
    out[:3, 3] = [t.start for t in target]
    x, y, z = (t.stop - t.start for t in target)
    return resample(part, into @ matrix @ out, (x, y, z))
