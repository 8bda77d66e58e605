"""Probabilities to native labels: brute force, sides, sliding window, clean-up."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from soloatlas import fields, inference
from soloatlas.data.volume import Grid
from soloatlas.prepare import place


def oblique_grid(shape, spacing, degrees, flip):
    a = np.deg2rad(degrees)
    turn = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing) @ np.diag([-1 if flip else 1, 1, 1])
    affine[:3, 3] = [3, -2, 5] - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@pytest.mark.parametrize("flip", [False, True])
def test_native_classes_equal_the_argmax_of_scipys_interpolation(flip):
    native = oblique_grid((40, 21, 17), (0.7, 1.3, 2.0), 20, flip)
    working = oblique_grid((16, 17, 18), (2.0, 2.0, 2.0), 0, False)
    placement = place(native, working)
    raw = ndimage.gaussian_filter(np.random.default_rng(0).random((11, 16, 17, 18)), (0, 2, 2, 2))
    maps = raw / raw.sum(axis=0)
    ours = inference.native_classes(torch.from_numpy(maps).float(), placement)
    to_working = np.linalg.inv(placement.matrix)
    grown = [
        ndimage.affine_transform(m, to_working, output_shape=native.shape, order=1, mode="grid-constant") for m in maps
    ]
    grown[0] = grown[0] + 1 - np.sum(grown, axis=0)
    inside = ndimage.affine_transform(np.ones(working.shape), to_working, output_shape=native.shape, order=1) > 0.999
    agree = ours == np.argmax(grown, axis=0)
    assert inside.mean() > 0.3
    assert agree[inside].mean() > 0.999
    assert ours.shape == native.shape


def test_visited_probabilities_sum_to_one_everywhere():
    grid = oblique_grid((9, 10, 11), (1.0, 1.0, 1.0), 0, False)
    bigger = oblique_grid((16, 16, 16), (1.0, 1.0, 1.0), 10, False)
    maps = torch.rand(3, 16, 16, 16)
    maps = maps / maps.sum(dim=0)
    seen = dict(inference.native_probabilities(maps, place(grid, bigger)))
    assert sorted(seen) == [0, 1, 2]
    np.testing.assert_allclose(sum(seen.values()), 1, atol=1e-5)


class Sided(nn.Module):
    """Class 1 where x is low, class 2 where x is high, by position alone."""

    def forward(self, image):
        x = fields.identity(image.shape[2:], image)[:, :1]
        middle = (image.shape[2] - 1) / 2
        return torch.cat([torch.zeros_like(x), middle - x, x - middle], dim=1), []


def test_a_flip_swaps_the_sides_back():
    image = torch.rand(1, 1, 16, 16, 16)
    plain = inference.student_probabilities(Sided(), image, precision="float32")
    flipped = inference.student_probabilities(Sided(), image, precision="float32", pairs=[(1, 2)], flip=True)
    torch.testing.assert_close(flipped, plain)


def test_a_sliding_window_of_a_local_network_equals_the_whole_volume():
    class Local(nn.Module):
        def forward(self, image):
            return torch.cat([image, 1 - image], dim=1), []

    image = torch.rand(1, 1, 24, 20, 28)
    whole = inference.student_probabilities(Local(), image, precision="float32")
    slid = inference.student_probabilities(Local(), image, window=(16, 16, 16), precision="float32")
    torch.testing.assert_close(slid, whole, atol=1e-5, rtol=1e-4)


def test_a_window_wider_than_the_grid_is_cut_to_it():
    class Mean(nn.Module):
        def forward(self, image):  # what a normalising network sees of padding
            return torch.cat([image, image.mean() + 0 * image], dim=1), []

    image = torch.rand(1, 1, 32, 16, 16)
    slid = inference.student_probabilities(Mean(), image, window=(16, 32, 16), precision="float32")
    halves = [
        inference.student_probabilities(Mean(), image[:, :, part], precision="float32")
        for part in (slice(0, 16), slice(16, 32))
    ]
    torch.testing.assert_close(slid[:, :4], halves[0][:, :4], atol=1e-3, rtol=0)
    torch.testing.assert_close(slid[:, -4:], halves[1][:, -4:], atol=1e-3, rtol=0)


def test_warped_atlas_probabilities_are_the_warped_one_hot():
    classes = torch.randint(0, 4, (1, 1, 8, 9, 10), dtype=torch.int16)
    field = torch.rand(1, 3, 8, 9, 10)
    maps = inference.warped_atlas_probabilities(classes, field, 4)
    torch.testing.assert_close(maps.float().sum(dim=0), torch.ones(8, 9, 10), atol=2e-3, rtol=0)
    labels = fields.warp_labels(classes, field)[0, 0]
    assert (maps.argmax(dim=0) == labels).float().mean() > 0.98


def test_only_the_largest_piece_of_each_class_is_kept():
    classes = np.zeros((10, 10, 10), int)
    classes[1:4, 1:4, 1:4], classes[8, 8, 8], classes[6:8, 1:3, 1:3] = 1, 1, 2
    kept = inference.largest_components(classes)
    assert kept[8, 8, 8] == 0
    assert (kept == 1).sum() == 27 and (kept == 2).sum() == 8
