from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from soloatlas.data.volume import Grid, Volume
from soloatlas.reporting import slices

COLOURS = np.array([(0, 0, 0), (200, 0, 0), (0, 0, 200)], np.uint8)


def test_planes_hang_as_radiologists_hang_them() -> None:
    array = np.zeros((4, 6, 5), np.float32)
    array[3, 5, 4] = 1  # most right, anterior, superior
    view = slices.View((3, 5, 4), (1.0, 1.0, 1.0), 1.0)
    for plane, shape in (("axial", (6, 4)), ("coronal", (5, 4)), ("sagittal", (5, 6))):
        flat = slices.cut(array, view, plane)
        assert flat.shape == shape and flat[0, 0] == 1 and flat.sum() == 1


def test_turned_files_come_to_ras() -> None:
    affine = np.array([[0, 0, -3.0, 0], [1.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])  # axes A, S, L
    array = np.arange(24).reshape(2, 3, 4)
    out, spacing = slices.to_ras(Volume(array, Grid((2, 3, 4), affine)))
    assert spacing == (3.0, 1.0, 2.0)
    assert np.array_equal(out, array.transpose(2, 0, 1)[::-1])


def test_pictures_show_millimetres_not_voxels() -> None:
    view = slices.view_of((10, 10, 10), (1.0, 1.0, 4.0), (5, 5, 5), width=80, height=80)
    assert view.scale == 0.5
    array = np.zeros((10, 10, 10), np.float32)
    assert slices.grey(array, view, "coronal", (0, 1)).shape == (80, 20, 3)
    assert slices.grey(array, view, "axial", (0, 1)).shape == (20, 20, 3)


def test_enlarged_labels_keep_their_area() -> None:
    array = np.zeros((20, 20, 3), np.uint8)
    array[5:15, 5:10], array[5:15, 10:15] = 1, 2
    flat = slices.classes_of(array, slices.View((10, 10, 1), (1, 1, 1), 0.25), "axial")
    assert flat.shape == (80, 80)
    for value in (1, 2):
        assert abs((flat == value).sum() / 16 - 50) < 1.5


def test_fill_and_outline_leave_the_rest_alone() -> None:
    picture, classes = np.full((9, 9, 3), 100, np.uint8), np.zeros((9, 9), int)
    classes[2:7, 2:7] = 1
    filled = slices.fill(picture, classes, COLOURS, 0.5)
    assert (filled[classes == 0] == 100).all() and (filled[classes == 1] == (150, 50, 50)).all()
    drawn = slices.outline(picture, classes, COLOURS)
    changed = (drawn != 100).any(-1)
    assert changed.sum() == 16 and not changed[3:6, 3:6].any() and not changed[classes == 0].any()


def test_folds_are_red_and_nothing_else_is() -> None:
    values = np.array([-1.0, 0.0, 0.1, 0.5, 1.0, 2.0, 10.0], np.float16)
    array = np.broadcast_to(values[:, None, None], (7, 3, 3))
    picture = slices.jacobian(array, slices.View((0, 1, 1), (1, 1, 1), 1.0), "axial")[0, ::-1]
    assert [tuple(colour) == slices.FOLDED for colour in picture] == [True, True] + [False] * 5
    assert picture[4].min() > 235  # volume kept: nearly white


def test_busiest_planes_and_box() -> None:
    mask = np.zeros((8, 8, 8), bool)
    assert slices.busiest(mask) == (4, 4, 4)
    mask[6, 1:4, 2] = True
    assert slices.busiest(mask)[0] == 6 and slices.busiest(mask)[2] == 2
    assert slices.centre_of(mask) == (6, 2, 2)
    assert slices.box_around(mask, (1.0, 2.0, 1.0), 2.0) == (slice(4, 9), slice(0, 5), slice(0, 5))


def test_png_keeps_greys_exactly() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16)[..., None], 3, axis=2)
    head, _, body = slices.png(grey).partition(",")
    assert head == "data:image/png;base64"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(base64.b64decode(body)))), grey[..., 0])
