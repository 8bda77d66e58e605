"""BRBS: the segmenter changes the registration's loss, each plays its own turn."""

from dataclasses import replace

import pytest
import torch

from soloatlas import fields
from soloatlas.errors import InputError
from soloatlas.losses.joint import mix_consistency, overlap_of_maps
from soloatlas.methods import brbs, settings_of
from soloatlas.randomness import generator
from soloatlas.registration import registration_network
from soloatlas.segmenter import residual_unet, segmentation_network
from soloatlas.settings import override

SMALL = (
    "registration.channels=[4,4,4,4]", "registration.half_resolution=false", "student.steps=3",
    "student.channels=[4,4,8,8,8]", "augment=false", "loop.precision=float32",
)  # fmt: skip


@pytest.fixture
def settings():
    return override(brbs.preset("quick"), SMALL)


@pytest.fixture
def networks(material, settings, session):
    registration = registration_network(settings.registration, 0, session.device)
    torch.nn.init.normal_(registration.decoder.flow.weight, std=0.05)
    return registration, residual_unet(settings.student, 3, session, "student")


def turn(material, networks, settings):
    scans = material.scans([0]), material.scans([1])
    return brbs.registration_turn(
        material.atlas, material.classes, *scans, *networks, settings, generator(0, "test", 0)
    )


def test_overlap_of_maps_by_hand():
    moving = torch.zeros(1, 3, 8, 6, 6)
    moving[:, 1, 2:5] = 1
    moving[:, 2, 5:7] = 1
    shift = torch.zeros(1, 3, 8, 6, 6)
    shift[:, 0] = 1.0  # what lies at 3 comes to 2
    fixed = torch.zeros_like(moving)
    fixed[:, 1, 1:4] = 1
    fixed[:, 2, 4:6] = 1
    assert float(overlap_of_maps(moving, fixed, shift)) == pytest.approx(0, abs=1e-5)
    still = torch.zeros_like(shift)
    # Per class, of 36 voxels a slice, with 1 added above and below; the background shows in neither and overlaps.
    expected = ((1 - (2 * 72 + 1) / (6 * 36 + 1)) + (1 - (2 * 36 + 1) / (4 * 36 + 1))) / 3
    assert float(overlap_of_maps(moving, fixed, still)) == pytest.approx(expected, abs=1e-5)
    unsure = 0.5 * torch.ones_like(moving)
    assert float(overlap_of_maps(unsure, unsure, still)) == pytest.approx(0, abs=1e-6)


def test_the_two_scans_of_a_step_differ():
    assert brbs._different([2, 1], 3) == (2, 1)
    assert brbs._different([2, 2], 3) == (2, 0)


def test_a_segmenter_that_is_linear_is_consistent_and_another_is_not():
    class Linear(torch.nn.Module):
        def forward(self, x):
            return torch.cat([3 * x, -x], 1), []

    class Square(torch.nn.Module):
        def forward(self, x):
            return x * x, []

    a, b = torch.rand(1, 1, 4, 4, 4), torch.rand(1, 1, 4, 4, 4)
    assert float(mix_consistency(Linear(), a, b, 0.3)) == pytest.approx(0, abs=1e-10)
    expected = (((0.3 * a + 0.7 * b) ** 2 - (0.3 * a**2 + 0.7 * b**2)) ** 2).mean()
    assert float(mix_consistency(Square(), a, b, 0.3)) == pytest.approx(float(expected), rel=1e-5)


def test_the_segmenter_changes_the_registrations_loss(material, networks, settings):
    registration, student = networks
    before = turn(material, networks, settings)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    after = turn(material, networks, settings)
    assert before["similarity"] == after["similarity"]
    assert before["semantic"] != after["semantic"]
    after["semantic"].backward()
    assert all(p.grad is None for p in student.parameters()), "but it gets no gradient from there"
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in registration.parameters())


def test_fields_of_both_directions_are_drawn_to_be_inverse(material, networks, settings):
    terms = turn(material, networks, settings)
    assert set(terms) == {"similarity", "smoothness", "contrast", "semantic", "inverse"}
    assert terms["inverse"] > 0
    assert "semantic" not in turn(material, networks, override(settings, ["joint.semantic=0"]))
    assert "inverse" not in turn(material, networks, override(settings, ["joint.inverse=0"]))


def test_the_contrast_tells_a_pair_from_the_third_image(material, networks, settings):
    contrast = turn(material, networks, settings)["contrast"]
    assert float(contrast.detach()) > 0.1
    slopes = torch.autograd.grad(contrast, networks[0].parameters(), allow_unused=True)
    assert sum(float(slope.abs().sum()) for slope in slopes if slope is not None) > 0


def test_the_authors_terms_are_semantic_and_inverse_without_contrast_and_dice_alone(material, session):
    own = settings_of(brbs, "quick", ["form=original", *SMALL])
    registration = registration_network(own.registration, 0, session.device)
    student = segmentation_network(own.student, 3, session)
    terms = turn(material, (registration, student), own)
    assert set(terms) == {"similarity", "smoothness", "semantic", "inverse"}
    composed = turn(material, (registration, student), override(own, ["joint.inverse_by=composition"]))
    assert composed["semantic"] == terms["semantic"] and composed["inverse"] != terms["inverse"]
    scans, draw = (material.scans([0]), material.scans([1])), generator(0, "test", 0)
    found = brbs.segmentation_turn(material.atlas, material.classes, *scans, registration, student, own, draw)
    assert set(found) == {"dice", "mix"}


def test_the_segmenters_turn_trains_the_segmenter_alone(material, networks, settings):
    registration, student = networks
    scans = material.scans([0]), material.scans([1])
    draw = generator(0, "test", 0)
    terms = brbs.segmentation_turn(material.atlas, material.classes, *scans, registration, student, settings, draw)
    assert set(terms) == {"cross entropy", "dice", "mix"}
    sum(terms.values()).backward()
    assert all(p.grad is None for p in registration.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())


def test_all_images_of_a_step_undergo_the_same_change(material, settings):
    moved = override(settings, ["augment=true", "augment.gamma=0", "augment.contrast=0", "augment.bias=0"])
    moved = override(moved, ["augment.noise=0"])
    alike = replace(material, pool=material.atlas.half().expand(3, -1, -1, -1, -1), atlas=material.atlas.half().float())
    atlas, classes, first, second = brbs._changed(0, [0, 1], alike, moved, 0)
    torch.testing.assert_close(atlas, first, atol=1e-5, rtol=0)
    torch.testing.assert_close(atlas, second, atol=1e-5, rtol=0)
    assert not torch.equal(atlas, alike.atlas)
    as_image = fields.warp_labels(alike.classes, torch.zeros(1, 3, *material.shape))
    assert classes.shape == as_image.shape


def test_both_networks_learn_in_turns(material, settings, session):
    nets = brbs.train(material, settings, session)
    fresh = registration_network(settings.registration, session.seed, session.device)
    moved = [not torch.equal(a, b) for a, b in zip(nets["registration"].parameters(), fresh.parameters(), strict=True)]
    assert any(moved)
    assert all(torch.isfinite(p).all() for net in nets.values() for p in net.parameters())


def test_what_cannot_be_trained_is_refused(material, settings, session):
    with pytest.raises(InputError, match=r"joint\.beta"):
        brbs.validate(override(settings, ["joint.beta=0"]))
    with pytest.raises(InputError, match="whole scans"):
        brbs.validate(override(settings, ["student.patch=[32,32,32]"]))
    assert brbs.METHOD.least == 2
