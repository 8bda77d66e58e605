"""Pairs: one spatial change for scan, synthetic image and labels; intensities; patches."""

import numpy as np
import torch

from soloatlas import fields
from soloatlas.augmentation import change_intensity, sample_intensity, sample_spatial, spatial_displacement
from soloatlas.randomness import generator
from soloatlas.settings import Augment
from soloatlas.synthesis import match_histogram, matched_atlases, synthesise_pair


def a_change(shape, seed=0, **kwargs):
    settings = Augment(**kwargs)
    change = sample_spatial(shape, settings, generator(seed, "t"))
    return spatial_displacement(change, shape, (1.0, 1.0, 1.0), torch.device("cpu"))


def test_without_a_change_the_pair_is_equation_1(material):
    field = torch.rand(1, 3, *material.shape)
    pair = synthesise_pair(material.atlas, material.classes, material.scans([0]), field)
    assert torch.equal(pair.synthetic, fields.warp(material.atlas, field))
    assert torch.equal(pair.labels, fields.warp_labels(material.classes, field))
    assert torch.equal(pair.real, material.scans([0]))


def test_scan_and_synthetic_image_undergo_the_same_change(material):
    # If the scan is the atlas and the field is zero, pair and scan must stay voxel for voxel the same.
    displacement = a_change(material.shape)
    still = torch.zeros(1, 3, *material.shape)
    pair = synthesise_pair(material.atlas, material.classes, material.atlas, still, displacement)
    torch.testing.assert_close(pair.synthetic, pair.real, atol=1e-5, rtol=0)
    expected = fields.warp_labels(material.classes, displacement)
    assert (pair.labels == expected).float().mean() > 0.999


def test_a_patch_is_a_part_of_the_whole(material):
    displacement, field = a_change(material.shape), torch.rand(1, 3, *material.shape)
    whole = synthesise_pair(material.atlas, material.classes, material.scans([1]), field, displacement)
    part = (..., slice(4, 20), slice(8, 24), slice(2, 18))
    patch = synthesise_pair(
        material.atlas, material.classes, material.scans([1]), field, displacement[part], origin=(4, 8, 2)
    )
    for a, b in zip(whole, patch, strict=True):
        torch.testing.assert_close(a[part], b, atol=1e-5, rtol=0)


def test_a_pure_translation_and_a_pure_rotation():
    shape = (20, 20, 20)
    only = {"rotation": 0, "scale": 0, "shear": 0, "translation": 0, "elastic": 0}
    assert a_change(shape, **only).abs().max() == 0
    moved = a_change(shape, **{**only, "translation": 0.1})
    assert moved.flatten(2).std(dim=2).max() < 1e-4
    assert moved.abs().max() <= 2
    turned = a_change(shape, **{**only, "rotation": 20}) + fields.identity(shape, torch.zeros(())) - 9.5
    radius = (fields.identity(shape, torch.zeros(())) - 9.5).norm(dim=1)
    torch.testing.assert_close(turned.norm(dim=1), radius, atol=1e-4, rtol=0)


def test_rotation_acts_on_mm_not_voxels():
    settings = Augment(rotation=30, scale=0, shear=0, translation=0, elastic=0)
    spacing = (1.0, 2.0, 4.0)
    change = sample_spatial((10, 10, 10), settings, generator(3, "t"))
    voxels = spatial_displacement(change, (10, 10, 10), spacing, torch.device("cpu"))
    place = fields.identity((10, 10, 10), torch.zeros(())) - 4.5
    mm = torch.tensor(spacing).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(((place + voxels) * mm).norm(dim=1), (place * mm).norm(dim=1), atol=1e-3, rtol=0)


def test_a_change_is_float32_whatever_the_networks_compute_in():
    shape = (8, 96, 112)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = a_change(shape)
    assert rounded.dtype == torch.float32
    assert torch.equal(rounded, a_change(shape))


def test_intensity_changes_leave_the_background_empty():
    image = torch.rand(1, 1, 12, 12, 12)
    image[..., :4] = 0
    change = sample_intensity(Augment(), generator(0, "i"))
    out = change_intensity(image, change, generator(0, "n"))
    assert (out[..., :4] == 0).all()
    assert out.min() >= 0 and out.max() <= 1.5
    assert not torch.equal(out, image)
    again = change_intensity(image, sample_intensity(Augment(), generator(0, "i")), generator(0, "n"))
    assert torch.equal(out, again)


def test_matched_histogram_has_the_reference_quantiles():
    image, reference = torch.rand(1, 1, 24, 24, 24), torch.rand(1, 1, 24, 24, 24) ** 3 * 0.5 + 0.1
    image[..., :3] = 0
    out = match_histogram(image, reference)
    assert (out[..., :3] == 0).all()
    levels = np.linspace(0.05, 0.95, 10)
    ours = np.quantile(out[out > 0].numpy(), levels)
    np.testing.assert_allclose(ours, np.quantile(reference.numpy(), levels), atol=0.01)
    order = image[0, 0, 0, 0, 3:].argsort()
    assert (out[0, 0, 0, 0, 3:][order].diff() >= 0).all()


def test_matched_atlases_are_made_once_as_far_as_there_is_room():
    atlas, scans = torch.rand(1, 1, 16, 16, 16), [torch.rand(1, 1, 16, 16, 16) ** power for power in (2, 3)]
    asked: list[int] = []

    def scan_of(item):
        asked.append(item)
        return scans[item]

    kept = matched_atlases(atlas, scan_of, room=1e6)
    for item in (0, 1, 0, 1):
        torch.testing.assert_close(kept(item), match_histogram(atlas, scans[item]), atol=1e-3, rtol=0)
    assert asked == [0, 1]
    not_kept = matched_atlases(atlas, scan_of, room=0.0)
    assert torch.equal(not_kept(0), not_kept(0)) and asked == [0, 1, 0, 0]
