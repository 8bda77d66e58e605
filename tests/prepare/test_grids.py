from __future__ import annotations

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from soloatlas.data.volume import Grid, Volume
from soloatlas.errors import InputError
from soloatlas.prepare import (
    Placement,
    canonical,
    field_of_view,
    labels_to_native,
    place,
    prepare_labels,
    resample,
    resample_classes,
    to_native,
    working_grid,
)
from soloatlas.settings import Prepare


def rotation(angles: tuple[float, float, float]) -> np.ndarray:
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = [a for a in range(3) if a != axis]
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    return matrix


def affine(spacing: tuple[float, ...], angles: tuple[float, float, float], flips: tuple[int, ...]) -> np.ndarray:
    out = np.eye(4)
    out[:3, :3] = rotation(angles) @ np.diag(np.multiply(spacing, flips))
    out[:3, 3] = (-37.5, 12.25, 80.0)
    return out


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """LAS, oblique, anisotropic and sub-millimetre grids."""
    scale = draw(st.sampled_from([0.1, 1.0, 3.0]))
    spacing = tuple(scale * draw(st.floats(0.7, 1.6)) for _ in range(3))
    angles = tuple(draw(st.sampled_from([0.0, 0.0, 0.3, -0.6])) for _ in range(3))
    flips = tuple(draw(st.sampled_from([1, -1])) for _ in range(3))
    shape = tuple(draw(st.integers(18, 26)) for _ in range(3))
    matrix = affine(spacing, angles, flips)
    turn = draw(st.permutations(range(3)))
    matrix[:, :3] = matrix[:, list(turn)]
    return Grid(shape, matrix)


def smooth_image(grid: Grid) -> np.ndarray:
    """A bell of a third of the field of view on a slope, in voxel coordinates."""
    axes = np.ogrid[tuple(slice(0, n) for n in grid.shape)]
    scaled = [(axis - (n - 1) / 2) / n for axis, n in zip(axes, grid.shape, strict=True)]
    return (np.exp(-sum(s**2 for s in scaled) / 0.1) + 0.2 * scaled[0]).astype(np.float32)


def blocks(grid: Grid) -> np.ndarray:
    out = np.zeros(grid.shape, dtype=np.uint8)
    out[4:10, 4:-4, 4:-4] = 1
    out[10:-4, 4:9, 4:-4] = 2
    out[10:-4, 9:-4, 4:-4] = 3
    return out


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return 2 * np.sum(one & two) / (one.sum() + two.sum())


@settings(max_examples=25, deadline=None)
@given(grids())
def test_own_spacing_round_trip_is_exact(grid: Grid) -> None:
    image, classes = smooth_image(grid), blocks(grid)
    working = working_grid(Volume(image, grid), Prepare(crop="none"))
    placement = place(grid, working)
    there = resample(image, placement.matrix, working.shape)
    np.testing.assert_array_equal(to_native(there, placement), image)
    labels = prepare_labels(classes, placement, 4)
    np.testing.assert_array_equal(labels_to_native(labels, placement, 4), classes)


@settings(max_examples=25, deadline=None)
@given(grids(), st.tuples(*[st.floats(-0.4, 0.4)] * 3), st.floats(0.9, 1.1), st.floats(0.6, 0.9))
def test_round_trip_through_an_aligned_grid(
    grid: Grid, angles: tuple[float, float, float], stretch: float, finer: float
) -> None:
    image, classes = smooth_image(grid), blocks(grid)
    # The working grid covers the scan turned by any angle, in steps finer than the scan's.
    step = finer * min(grid.spacing)
    reach = int(np.ceil(np.linalg.norm(np.multiply(grid.shape, grid.spacing)) * 1.2 / step)) + 2
    centred = np.diag([step, step, step, 1.0])
    centred[:3, 3] = -(reach - 1) / 2 * step
    transform = np.eye(4)
    transform[:3, :3] = rotation(angles) * stretch
    transform[:3, 3] = grid.centre()
    placement = place(grid, Grid((reach, reach, reach), centred), transform)
    back = to_native(resample(image, placement.matrix, placement.working.shape), placement)
    inner = (slice(2, -2),) * 3
    assert np.abs(back - image)[inner].max() < 0.04
    labels = labels_to_native(prepare_labels(classes, placement, 4), placement, 4)
    assert all(dice(labels == c, classes == c) > 0.93 for c in range(1, 4))


@settings(max_examples=25, deadline=None)
@given(grids(), grids())
def test_matrix_and_inverse_make_the_identity(native: Grid, working: Grid) -> None:
    placement = place(native, working)
    np.testing.assert_allclose(placement.matrix @ placement.inverse(), np.eye(4), atol=1e-6)
    # The matrix takes a voxel to the same place in the world.
    index = np.array([3, 5, 7, 1.0])
    world = native.affine @ placement.matrix @ index
    np.testing.assert_allclose(world, working.affine @ index, atol=1e-5)


def test_placement_survives_json() -> None:
    import json

    grid = Grid((5, 6, 7), affine((0.3, 1 / 3, 0.1), (0.2, 0.1, 0.7), (1, -1, 1)))
    placement = place(grid, canonical(grid), affine((1, 1, 1), (0.1, 0, 0), (1, 1, 1)))
    copy = Placement.from_json(json.loads(json.dumps(placement.to_json())))
    np.testing.assert_array_equal(copy.matrix, placement.matrix)
    np.testing.assert_array_equal(copy.native.affine, placement.native.affine)
    assert copy.working.shape == placement.working.shape


def test_identity_returns_the_input_exactly() -> None:
    image = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32) * 1e5
    for order in (0, 1):
        np.testing.assert_array_equal(resample(image, np.eye(4), image.shape, order), image)
    nearly = np.eye(4) + np.random.default_rng(1).normal(size=(4, 4)) * 1e-13
    np.testing.assert_array_equal(resample(image, nearly, image.shape), image)


def test_resample_against_a_hand_computed_line() -> None:
    image = np.array([0.0, 10.0, 20.0, 40.0]).reshape(4, 1, 1)
    matrix = np.eye(4)
    matrix[0] = (0.5, 0, 0, -0.5)
    # Positions -0.5, 0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4: half a voxel beyond the border is still the border.
    out = resample(image, matrix, (10, 1, 1), fill=-1)
    np.testing.assert_allclose(out.ravel(), [0, 0, 5, 10, 15, 20, 30, 40, 40, -1])


def test_resample_agrees_with_scipy_inside() -> None:
    image = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(20, 22, 24)), 2)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation((0.2, -0.1, 0.3))
    matrix[:3, 3] = (2.0, 3.0, -1.0)
    points = np.indices(image.shape).reshape(3, -1)
    there = matrix[:3, :3] @ points + matrix[:3, 3:]
    expected = ndimage.map_coordinates(image, there, order=1, cval=np.nan).reshape(image.shape)
    known = np.isfinite(expected)
    assert known.mean() > 0.5
    np.testing.assert_allclose(resample(image, matrix, image.shape)[known], expected[known], atol=1e-5)


def test_coarser_steps_are_smoothed_first() -> None:
    # A checkerboard of single voxels has no place on a grid of three voxels: it must go to its mean.
    board = (np.indices((30, 30, 30)).sum(axis=0) % 2).astype(np.float32)
    out = resample(board, np.diag([3.0, 3.0, 3.0, 1.0]), (10, 10, 10))
    assert np.abs(out[2:-2, 2:-2, 2:-2] - 0.5).max() < 0.02
    assert set(np.unique(resample(board, np.diag([3.0, 3, 3, 1]), (10, 10, 10), order=0))) == {0.0, 1.0}
    constant = np.full((30, 30, 30), 7.0)
    np.testing.assert_allclose(resample(constant, np.diag([2.5, 3.0, 4.0, 1.0]), (8, 8, 7)), 7.0, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(grids(), st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.floats(0.5, 2.5), st.integers(0, 99))
def test_classes_equal_one_hot_and_argmax(
    grid: Grid, angles: tuple[float, float, float], step: float, seed: int
) -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid.shape), 2)
    classes = np.digitize(noise, np.quantile(noise, [0.5, 0.7, 0.9])).astype(np.int32)
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(angles) * step
    matrix[:3, 3] = (3.0, -2.0, 4.0)
    ours = resample_classes(classes, matrix, (16, 17, 18), 4)
    maps = np.stack([resample(classes == c, matrix, (16, 17, 18)) for c in range(4)])
    best = np.sort(maps, axis=0)
    decided = (best[-1] - best[-2] > 1e-4) | (best[-1] == 0)  # rounding decides ties
    assert decided.mean() > 0.6  # half steps put many points between two voxels
    np.testing.assert_array_equal(ours[decided], maps.argmax(axis=0)[decided])
    assert ours.dtype == np.uint8


def test_many_classes_and_absent_ones() -> None:
    classes = np.zeros((6, 6, 6), dtype=np.int32)
    classes[2, 3, 4] = 300
    out = resample_classes(classes, np.eye(4), (6, 6, 6), 301)
    assert out.dtype == np.int16
    np.testing.assert_array_equal(out, classes)
    far = np.eye(4)
    far[:3, 3] = 100
    assert not resample_classes(classes, far, (6, 6, 6), 301).any()


def test_canonical_agrees_with_nibabel() -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(np.float32)
    for flips in ((-1, 1, 1), (1, -1, -1), (-1, -1, -1)):
        matrix = affine((0.5, 1.0, 2.0), (0.3, 0.2, -0.1), flips)[:, [1, 2, 0, 3]]
        grid = canonical(Grid((4, 5, 6), matrix))
        theirs = nibabel.as_closest_canonical(nibabel.Nifti1Image(array, matrix))
        assert grid.shape == theirs.shape
        np.testing.assert_allclose(grid.affine, theirs.affine, atol=1e-9)


def head(shape: tuple[int, int, int] = (40, 50, 45)) -> np.ndarray:
    array = np.zeros(shape, dtype=np.float32)
    array[10:20, 12:40, 5:35] = 100
    return array


def test_working_grid_covers_the_body_and_its_margin() -> None:
    grid = Grid((40, 50, 45), np.diag([-1.0, 1.0, 1.0, 1.0]))  # LAS
    working = working_grid(Volume(head(), grid), Prepare(margin=3, multiple=8))
    assert working.shape == (16, 40, 40)  # 10, 28 and 30 mm, 6 mm more, up to a multiple of 8
    placement = place(grid, working)
    assert resample(head(), placement.matrix, working.shape).sum() == head().sum()
    np.testing.assert_array_equal(placement.matrix[:3, :3], np.diag([-1, 1, 1]))
    ends = working.affine @ np.array([[0, 0, 0, 1], [15, 39, 39, 1]]).T
    body_low, body_high = np.array([-19, 12, 5]), np.array([-10, 39, 34])
    assert (ends[:3, 0] <= body_low - 3).all() and (ends[:3, 1] >= body_high + 3).all()


def test_working_grid_at_another_spacing_keeps_the_centre() -> None:
    grid = Grid((40, 50, 45), np.diag([1.0, 1.0, 1.0, 1.0]))
    working = working_grid(Volume(head(), grid), Prepare(margin=2, multiple=4, spacing=2.0))
    assert working.spacing == pytest.approx((2, 2, 2))
    assert working.shape == (8, 16, 20)
    np.testing.assert_allclose(working.centre(), [14.5, 25.5, 19.5])


def test_the_margin_of_a_small_body_is_a_fifth_of_it() -> None:
    grid = Grid((40, 50, 45), np.diag([0.15, 0.15, 0.15, 1.0]))
    # 10, 28 and 30 voxels of 0.15 mm: 2, 5.6 and 6 voxels to each side, not the 40 that 6 mm would be.
    assert working_grid(Volume(head(), grid), Prepare(margin=6.0, multiple=2)).shape == (14, 40, 42)


def test_working_grid_without_crop_is_the_atlas_padded() -> None:
    grid = Grid((40, 50, 45), np.diag([0.15, 0.15, 0.15, 1.0]))
    working = working_grid(Volume(head(), grid), Prepare(crop="none", multiple=16))
    assert working.shape == (48, 64, 48)
    placement = place(grid, working)
    np.testing.assert_array_equal(placement.matrix[:3, :3], np.eye(3))
    assert np.array_equal(placement.matrix[:3, 3], np.round(placement.matrix[:3, 3]))


def marked(shape: tuple[int, int, int] = (40, 50, 45)) -> np.ndarray:
    """Two labels within 12..17, 20..29, 8..31 of the head."""
    labels = np.zeros(shape, dtype=np.int32)
    labels[12:15, 20:30, 8:20], labels[15:18, 20:30, 20:32] = 3, 7
    return labels


def test_working_grid_can_be_cropped_to_the_labels() -> None:
    grid = Grid((40, 50, 45), np.diag([-1.0, 1.0, 1.0, 1.0]))
    atlas, labels = Volume(head(), grid), Volume(marked(), grid)
    working = working_grid(atlas, Prepare(crop="labels", margin=1, multiple=2), labels)
    assert working.shape == (8, 12, 26)  # 6, 10 and 24 voxels, and 1 mm to each side
    # Middle of voxels 12 and 17 along the first axis, which runs to the left; of 20 and 29, of 8 and 31.
    np.testing.assert_allclose(working.centre(), [-14.5, 24.5, 19.5])
    with pytest.raises(InputError, match="the atlas has no label"):
        working_grid(atlas, Prepare(crop="labels"), Volume(0 * marked(), grid))


def test_working_grid_of_a_given_size_lies_about_the_centre_of_the_crop() -> None:
    grid = Grid((40, 50, 45), np.eye(4))
    atlas, labels = Volume(head(), grid), Volume(marked(), grid)
    for crop, centre in (("body", (14.5, 25.5, 19.5)), ("labels", (14.5, 24.5, 19.5)), ("none", (19.5, 24.5, 22.0))):
        chosen = Prepare(crop=crop, size=(16, 32, 48))
        working = working_grid(atlas, chosen, labels)
        assert working.shape == (16, 32, 48)
        # On the atlas's own voxels the middle can be half a voxel off; at another spacing it is exact.
        assert np.abs(working.centre() - centre).max() <= 0.5
        assert np.array_equal(working.affine, np.round(working.affine))
        coarse = working_grid(atlas, replace(chosen, spacing=2.0), labels)
        assert coarse.shape == (16, 32, 48) and coarse.spacing == (2.0, 2.0, 2.0)
        np.testing.assert_allclose(coarse.centre(), centre)


def test_the_axes_of_a_size_are_right_anterior_and_superior() -> None:
    turned = np.zeros((4, 4))  # a file with axes S, L, P
    turned[2, 0], turned[0, 1], turned[1, 2], turned[3, 3] = 1, -1, -1, 1
    atlas = Volume(head(), Grid((40, 50, 45), turned))
    working = working_grid(atlas, Prepare(size=(16, 32, 48)))
    assert working.shape == (16, 32, 48)
    np.testing.assert_array_equal(np.sign(np.diag(working.affine)), 1)


@pytest.mark.parametrize("size", [(16, 16, 24), (16, 0, 16), (-16, 16, 16)])
def test_sizes_that_cannot_be_halved_are_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="give three multiples of 16"):
        working_grid(Volume(head(), Grid((40, 50, 45), np.eye(4))), Prepare(size=size))


def test_field_of_view_tells_data_from_fill() -> None:
    native = Grid((4, 4, 4), np.eye(4))
    shifted = np.eye(4)
    shifted[:3, 3] = (-2, 0, 1)
    seen = field_of_view(place(native, Grid((8, 4, 4), shifted)))
    expected = np.zeros((8, 4, 4), dtype=bool)
    expected[2:6, :, :3] = True
    np.testing.assert_array_equal(seen, expected)
