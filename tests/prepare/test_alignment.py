from __future__ import annotations

import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.prepare import align, resample
from soloatlas.prepare.alignment import correlation, small_copy
from soloatlas.settings import Align

SHAPE = (48, 56, 44)
CENTRE = (np.array(SHAPE) - 1) / 2


def phantom(seed: int = 0) -> np.ndarray:
    """An egg with texture, different in every direction, in a background of zero."""
    index = np.indices(SHAPE).astype(float)
    x, y, z = (i - c for i, c in zip(index, CENTRE, strict=True))
    egg = (x / 15) ** 2 + (y / (20 + 0.2 * y)) ** 2 + (z / 13) ** 2 < 1
    texture = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2.5)
    marks = 60 * (np.hypot(x - 6, y - 5) < 4) - 50 * (np.hypot(y + 8, z - 3) < 4)
    return np.where(egg, 120 + 25 * texture / texture.std() + marks, 0).clip(0).astype(np.float32)


def turned(angle: float, stretch: float, shift: tuple[float, float, float]) -> np.ndarray:
    """Atlas world to scan world: a turn about z and a stretch around the phantom's centre, and a shift."""
    out = np.eye(4)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    out[:3, :3] = turn * stretch
    out[:3, 3] = CENTRE - out[:3, :3] @ CENTRE + shift
    return out


ATLAS = Volume(phantom(), Grid(SHAPE, np.eye(4)))


def seen_through(transform: np.ndarray, grid: Grid, scale: float = 1.0) -> Volume:
    """The phantom as a scan on ``grid``, moved by ``transform``."""
    matrix = np.linalg.inv(transform) @ grid.affine
    return Volume(scale * resample(phantom(), matrix, grid.shape), grid)


def las_grid() -> Grid:
    affine = np.diag([-1.2, 0.9, 1.1, 1.0])
    affine[:3, 3] = (70, -10, 300)
    return Grid((60, 76, 60), affine)


def error_mm(found: np.ndarray, truth: np.ndarray) -> float:
    """Largest error over the corners of the phantom's egg."""
    signs = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)])
    corners = np.c_[CENTRE + signs * (9, 12, 8), np.ones(8)]
    return float(np.linalg.norm((corners @ (found - truth).T)[:, :3], axis=1).max())


@pytest.mark.parametrize(("how", "stretch"), [("rigid", 1.0), ("affine", 1.12)])
def test_a_known_transform_is_found(how: Align, stretch: float) -> None:
    truth = turned(0.2, stretch, (12.0, 4.0, 311.0))
    found, score, aligned = align(seen_through(truth, las_grid(), scale=1e4), ATLAS, how)
    assert error_mm(found, truth) < 0.8
    assert score > 0.85  # not 1: both were resampled
    assert aligned


def test_the_same_input_gives_the_same_bits_and_leaves_itk_as_it_was() -> None:
    scan = seen_through(turned(0.15, 1.05, (10.0, 0.0, 300.0)), las_grid())
    threads = SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads()
    one, two = align(scan, ATLAS, "affine"), align(scan, ATLAS, "affine")
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1:] == two[1:]
    assert SimpleITK.ProcessObject.GetGlobalDefaultNumberOfThreads() == threads


def test_none_and_centre() -> None:
    truth = turned(0.0, 1.0, (12.0, 4.0, 311.0))
    scan = seen_through(truth, las_grid())
    transform, score, aligned = align(scan, ATLAS, "none")
    np.testing.assert_array_equal(transform, np.eye(4))
    assert not aligned and score < 0.1
    transform, score, aligned = align(scan, ATLAS, "centre")
    np.testing.assert_array_equal(transform[:3, :3], np.eye(3))
    np.testing.assert_allclose(transform[:3, 3], (12.0, 4.0, 311.0), atol=0.5)
    assert aligned and score > 0.8


def wrong_scans() -> dict[str, np.ndarray]:
    x, y, z = np.indices(SHAPE)
    other = 100 * ((x - 24) ** 2 + (y - 20) ** 2 < 9) + 100 * ((y - 30) ** 2 + (z - 30) ** 2 < 9)
    return {
        "upside down and inside out": np.where(phantom() > 0, 300 - phantom(), 0)[:, :, ::-1],
        "noise": np.random.default_rng(3).normal(size=SHAPE),
        "crossing rods": other,
        "nothing": np.zeros(SHAPE),
    }


@pytest.mark.parametrize("what", wrong_scans())
def test_a_wrong_scan_is_flagged(what: str) -> None:
    scan = Volume(np.ascontiguousarray(wrong_scans()[what], dtype=np.float32), Grid(SHAPE, np.eye(4)))
    transform, _, aligned = align(scan, ATLAS, "affine")
    assert not aligned
    assert np.isfinite(transform).all()


def test_labels_say_which_part_has_to_match() -> None:
    # The lower part of the body slides away to the side; the labels lie in the upper part.
    image = phantom(5)
    moved = image.copy()
    moved[:, :, :24] = np.roll(image[:, :, :24], 6, axis=1)
    marked = np.zeros(SHAPE, dtype=np.int32)
    marked[18:30, 20:36, 28:34] = 1
    atlas, scan = Volume(image, ATLAS.grid), Volume(moved, ATLAS.grid)

    def off(transform: np.ndarray) -> float:
        points = np.c_[np.argwhere(marked), np.ones(marked.sum())]
        return float(np.linalg.norm((points @ (transform - np.eye(4)).T)[:, :3], axis=1).mean())

    near, _, aligned = align(scan, atlas, "rigid", Volume(marked, ATLAS.grid))
    far, _, _ = align(scan, atlas, "rigid")
    assert aligned
    assert off(near) < 0.5 < off(far)


def test_labels_without_any_label_are_refused() -> None:
    empty = Volume(np.zeros(SHAPE, dtype=np.int32), ATLAS.grid)
    with pytest.raises(InputError, match="hold no label"):
        align(ATLAS, ATLAS, "rigid", empty)


def test_empty_space_beyond_a_cut_is_not_known() -> None:
    column = np.zeros((40, 40, 40), dtype=np.float32)
    column[10:30, 10:30, 8:] = 100  # cut below by the end of the scan, at z = 8; above by the file's own end
    copy = small_copy(Volume(column, Grid((40, 40, 40), np.eye(4))), 1.0)
    known = copy.known.any(axis=(0, 1))
    assert not known[:8].any()
    assert known[8:].all()
    egg = small_copy(ATLAS, 1.0)
    assert egg.known.all()


def test_correlation_agrees_with_numpy() -> None:
    one, two = np.random.default_rng(0).normal(size=(2, 500))
    assert correlation(one, two) == pytest.approx(np.corrcoef(one, two)[0, 1])
    assert correlation(one, np.ones(500)) == 0
    assert correlation(one[:0], two[:0]) == 0
