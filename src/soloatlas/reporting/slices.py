"""Slices of scans as small pictures: planes, scales, labels in colour, outlines, PNG data URIs.

All arrays here have RAS+ axes. A slice is shown as radiologists hang it: the patient's right on the left of
axial and coronal planes, anterior at the top (axial) or on the left (sagittal), superior at the top.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from soloatlas.data.labels import Colour
from soloatlas.data.volume import Volume
from soloatlas.reporting.blocks import Picture, css

PLANES = ("axial", "coronal", "sagittal")  # cut across array axes 2, 1, 0
HANGING = "The patient's right is on the left of axial and coronal planes; anterior is on the left of sagittal ones."
FOLDED: Colour = (228, 26, 28)
JACOBIAN_MAP = "BrBG"  # its colours keep clear of the red of folding
JACOBIAN_RANGE = 4.0  # volumes from a quarter to four times are told apart
GAP = 4  # pixels between stacked planes


@dataclass(frozen=True)
class View:
    """Where three planes cut, and at what scale they are drawn.

    Attributes:
        index: voxel (x, y, z) in which the planes meet.
        spacing: mm along each axis.
        scale: mm per pixel.
    """

    index: tuple[int, int, int]
    spacing: tuple[float, float, float]
    scale: float

    def zoom(self, axis: int) -> tuple[float, float]:
        """Pixels per voxel along (rows, columns) of the plane across ``axis``."""
        first, second = (a for a in range(3) if a != axis)
        return self.spacing[second] / self.scale, self.spacing[first] / self.scale


def view_of(
    shape: Sequence[int], spacing: Sequence[float], index: Sequence[int], width: int = 240, height: int = 260
) -> View:
    """The view through ``index`` whose planes all fit into ``width`` x ``height`` pixels."""
    x, y, z = (n * s for n, s in zip(shape, spacing, strict=True))
    scale = max(max(x, y) / width, max(y, z) / height)
    i, j, k = (int(v) for v in index)
    return View((i, j, k), (float(spacing[0]), float(spacing[1]), float(spacing[2])), scale)


def to_ras(volume: Volume) -> tuple[np.ndarray, tuple[float, float, float]]:
    """The array with its axes permuted and flipped to nearest RAS+, and its spacing (mm) along them."""
    from nibabel import orientations

    turn = orientations.io_orientation(volume.grid.affine)
    array = orientations.apply_orientation(volume.array, turn)
    spacing = [0.0, 0.0, 0.0]
    for axis, size in zip(turn[:, 0].astype(int), volume.grid.spacing, strict=True):
        spacing[axis] = size
    return array, (spacing[0], spacing[1], spacing[2])


def centre_of(mask: np.ndarray) -> tuple[int, int, int]:
    """Voxel nearest the centre of mass of ``mask``, or the middle of the array where it is empty."""
    found = np.argwhere(mask)
    middle = found.mean(0) if len(found) else (np.asarray(mask.shape) - 1) / 2
    i, j, k = (int(v) for v in np.rint(middle))
    return i, j, k


def busiest(mask: np.ndarray) -> tuple[int, int, int]:
    """For each axis the plane that holds most of ``mask``; the middle where it is empty."""
    if not mask.any():
        return centre_of(mask)
    counts = [mask.sum(tuple(a for a in range(3) if a != axis)) for axis in range(3)]
    i, j, k = (int(count.argmax()) for count in counts)
    return i, j, k


def box_around(mask: np.ndarray, spacing: Sequence[float], margin_mm: float) -> tuple[slice, slice, slice]:
    """The box of ``mask`` with a margin, inside the array; the whole array where it is empty."""
    box = []
    for axis, size in enumerate(spacing):
        line = np.flatnonzero(mask.any(tuple(a for a in range(3) if a != axis)))
        margin = int(np.ceil(margin_mm / size))
        first, last = (line[0], line[-1]) if len(line) else (0, mask.shape[axis])
        box.append(slice(max(0, int(first) - margin), int(last) + margin + 1))
    return box[0], box[1], box[2]


def cut(array: np.ndarray, view: View, plane: str) -> np.ndarray:
    """One plane through the view's index, (rows, columns) as it is hung, still in voxels."""
    axis = 2 - PLANES.index(plane)
    return np.take(array, view.index[axis], axis)[::-1, ::-1].T


def grey(array: np.ndarray, view: View, plane: str, window: tuple[float, float]) -> np.ndarray:
    """A plane of an image in grey, (rows, columns, 3) uint8; ``window`` goes from black to white."""
    low, high = window
    flat = (cut(array, view, plane).astype(np.float32) - low) / max(high - low, 1e-6)
    flat = _enlarge(np.nan_to_num(flat).clip(0, 1), view, plane, order=1)
    return np.repeat((flat.clip(0, 1) * 255).round().astype(np.uint8)[..., None], 3, axis=2)


def classes_of(array: np.ndarray, view: View, plane: str) -> np.ndarray:
    """A plane of a label map, (rows, columns): each structure enlarged smoothly, the strongest wins."""
    flat = cut(array, view, plane)
    best = _enlarge((flat == 0).astype(np.float32), view, plane, order=1)
    out = np.zeros(best.shape, flat.dtype)
    for value in np.unique(flat[flat != 0]):
        share = _enlarge((flat == value).astype(np.float32), view, plane, order=1)
        out[share > best] = value
        best = np.maximum(best, share)
    return out


def fill(picture: np.ndarray, classes: np.ndarray, colours: np.ndarray, strength: float = 0.45) -> np.ndarray:
    """The picture with each structure tinted; ``colours`` (classes, 3) uint8 by class."""
    tinted = picture * (1 - strength) + colours[classes] * strength
    out: np.ndarray = np.where((classes > 0)[..., None], tinted, picture).round().astype(np.uint8)
    return out


def outline(picture: np.ndarray, classes: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """The picture with the border of each structure drawn just inside it, in a light tone of its colour."""
    from scipy.ndimage import maximum_filter, minimum_filter

    edge = (minimum_filter(classes, 3) != maximum_filter(classes, 3)) & (classes > 0)
    light = colours * 0.55 + 255 * 0.45
    out: np.ndarray = np.where(edge[..., None], light[classes], picture).round().astype(np.uint8)
    return out


def jacobian(array: np.ndarray, view: View, plane: str) -> np.ndarray:
    """A plane of Jacobian determinants in colour (see `jacobian_legend`), folds in red."""
    from matplotlib import colormaps

    flat = cut(array, view, plane).astype(np.float32)
    folded = _enlarge((flat <= 0).astype(np.float32), view, plane, order=0) > 0.5
    log = np.log2(np.clip(flat, 1 / JACOBIAN_RANGE, JACOBIAN_RANGE)) / np.log2(JACOBIAN_RANGE)
    level = _enlarge((log + 1) / 2, view, plane, order=1)
    colour = (colormaps[JACOBIAN_MAP](level)[..., :3] * 255).round()
    colour[folded] = FOLDED
    out: np.ndarray = colour.astype(np.uint8)
    return out


def jacobian_legend() -> list[tuple[str, str]]:
    """(CSS colour, meaning) of what `jacobian` draws."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    steps = (
        (0.0, "to ¼ of its volume"),
        (0.25, "½"),
        (0.5, "unchanged"),
        (0.75, "2 ×"),
        (1.0, "4 × and more"),
    )
    folds = [(css(FOLDED), "folded (determinant 0 or less)")]
    return [(to_hex(colormaps[JACOBIAN_MAP](at)), text) for at, text in steps] + folds


def stack(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below one another, centred on black."""
    width = max(p.shape[1] for p in pictures)
    rows = []
    for picture in pictures:
        spare = width - picture.shape[1]
        rows.append(np.pad(picture, ((0, GAP), (spare // 2, spare - spare // 2), (0, 0))))
    return np.concatenate(rows)[:-GAP]


def shown(picture: np.ndarray, title: str, alt: str) -> Picture:
    """A picture, (rows, columns, 3) uint8, for a gallery."""
    return Picture(png(picture), title, alt, picture.shape[1], picture.shape[0])


def png(picture: np.ndarray) -> str:
    """A picture, (rows, columns, 3) uint8, as the data URI of a PNG: grey if it is grey, else 255 colours."""
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture))
    plain = (picture == picture[..., :1]).all()
    image = image.convert("L") if plain else image.quantize(255, dither=Image.Dither.NONE)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _enlarge(flat: np.ndarray, view: View, plane: str, order: int) -> np.ndarray:
    from scipy.ndimage import zoom

    factors = view.zoom(2 - PLANES.index(plane))
    # Whole pixels at least one: a factor may round a thin plane away.
    factors = tuple(max(f, 1 / n) for f, n in zip(factors, flat.shape, strict=True))
    out: np.ndarray = zoom(flat, factors, order=order, mode="nearest", grid_mode=True)
    return out
