"""Fields against identities, analytic fields and brute force."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from soloatlas import fields


def smooth_field(shape, amplitude, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 4, 4, 4, generator=generator) * amplitude
    return functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)


@given(st.tuples(*[st.integers(2, 23)] * 3), st.integers(1, 3), st.integers(1, 2))
@settings(max_examples=25, deadline=None)
def test_identity_returns_the_input_exactly(shape, channels, batch):
    image = torch.rand(batch, channels, *shape) * 1000
    assert torch.equal(fields.warp(image, torch.zeros(batch, 3, *shape)), image)


@given(st.tuples(*[st.integers(-3, 3)] * 3))
@settings(max_examples=20, deadline=None)
def test_whole_voxel_shift_is_a_roll(shift):
    image = torch.rand(1, 1, 9, 10, 11)
    field = torch.tensor(shift, dtype=torch.float32).view(1, 3, 1, 1, 1).expand(1, 3, 9, 10, 11)
    expected = torch.zeros_like(image)
    source, target = [], []
    for n, s in zip((9, 10, 11), shift, strict=True):
        target.append(slice(max(0, -s), n - max(0, s)))
        source.append(slice(max(0, s), n - max(0, -s)))
    expected[(..., *target)] = image[(..., *source)]
    torch.testing.assert_close(fields.warp(image, field), expected, atol=2e-5, rtol=0)


def test_each_channel_moves_along_its_own_axis():
    ramp = fields.identity((6, 7, 8), torch.zeros(()))
    for axis in range(3):
        field = torch.zeros(1, 3, 6, 7, 8)
        field[:, axis] = 0.25
        moved = fields.warp(ramp, field, padding="border")[:, :, :-1, :-1, :-1] - ramp[:, :, :-1, :-1, :-1]
        expected = torch.zeros(3)
        expected[axis] = 0.25
        torch.testing.assert_close(moved.mean(dim=(0, 2, 3, 4)), expected, atol=1e-5, rtol=0)


def test_warp_of_a_part_equals_the_part_of_the_warp():
    image, field = torch.rand(1, 2, 12, 13, 14), smooth_field((12, 13, 14), 2.0)
    whole = fields.warp(image, field)[:, :, 3:9, 2:10, 4:12]
    part = fields.warp(image, field[:, :, 3:9, 2:10, 4:12], origin=(3, 2, 4))
    torch.testing.assert_close(part, whole)


def test_gradient_by_the_field_is_kept_at_zero_displacement():
    image = fields.identity((6, 6, 6), torch.zeros(()))[:, :1]
    field = torch.zeros(1, 3, 6, 6, 6, requires_grad=True)
    fields.warp(image, field, padding="border").sum().backward()
    assert field.grad is not None
    # The image rises by 1 per voxel along x, so d(sum)/du_x is 1 inside and 0 for the other axes.
    torch.testing.assert_close(field.grad[0, 0, 1:-1, 1:-1, 1:-1], torch.ones(4, 4, 4), atol=1e-4, rtol=0)
    assert field.grad[0, 1:, 1:-1, 1:-1, 1:-1].abs().max() < 1e-4


@given(st.integers(0, 10_000), st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_linear_labels_equal_the_argmax_of_the_warped_one_hot(seed, classes):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (1, 1, 8, 9, 10), generator=generator)
    field = smooth_field((8, 9, 10), 2.0, seed)
    one_hot = functional.one_hot(labels[:, 0], classes).movedim(-1, 1).float()
    warped = fields.warp(one_hot, field)
    warped[:, 0] += 1 - warped.sum(dim=1)  # outside the volume is background
    ours = fields.warp_labels(labels, field)
    picked = warped.gather(1, ours)[:, 0]
    # Equal up to ties that differ by rounding: the class we chose has the largest probability.
    assert (warped.amax(dim=1) - picked).max() < 1e-5
    assert (ours[:, 0] == warped.argmax(dim=1)).float().mean() > 0.999


def test_nearest_labels_equal_nearest_warp():
    labels = torch.randint(0, 5, (1, 1, 8, 9, 10))
    field = smooth_field((8, 9, 10), 1.7)
    expected = fields.warp(labels.float(), field, mode="nearest").long()
    assert (fields.warp_labels(labels, field, mode="nearest") == expected).float().mean() > 0.999


def test_composition_equals_two_warps():
    # On a ramp every interpolation is exact, so both ways must agree to rounding.
    ramp = fields.identity((24, 24, 24), torch.zeros(()))
    a, b = smooth_field((24, 24, 24), 1.0, 1), smooth_field((24, 24, 24), 1.0, 2)
    once = fields.warp(ramp, fields.compose(a, b), padding="border")
    twice = fields.warp(fields.warp(ramp, b, padding="border"), a, padding="border")
    inner = (..., slice(6, -6), slice(6, -6), slice(6, -6))
    torch.testing.assert_close(once[inner], twice[inner], atol=1e-4, rtol=0)


def test_integration_of_a_linear_velocity_is_the_matrix_exponential():
    shape = (33, 33, 33)
    position = fields.identity(shape, torch.zeros(())) - 16
    velocity = position * torch.tensor([0.2, -0.1, 0.05]).view(1, 3, 1, 1, 1)
    expected = position * (torch.tensor([0.2, -0.1, 0.05]).exp() - 1).view(1, 3, 1, 1, 1)
    got = fields.integrate(velocity, 7)
    inner = (..., slice(8, -8), slice(8, -8), slice(8, -8))
    torch.testing.assert_close(got[inner], expected[inner], atol=5e-3, rtol=0)


def test_inverse_composes_to_zero():
    field = smooth_field((28, 28, 28), 1.0, 3)
    rest = fields.compose(fields.invert(field), field)
    assert rest[..., 5:-5, 5:-5, 5:-5].abs().max() < 1e-3


def test_jacobian_of_a_scaling_and_of_a_fold():
    position = fields.identity((9, 9, 9), torch.zeros(()))
    stretch = position * torch.tensor([0.5, 0.0, -0.2]).view(1, 3, 1, 1, 1)
    torch.testing.assert_close(fields.jacobian_determinant(stretch), torch.full((1, 9, 9, 9), 1.2))
    assert fields.sd_log_jacobian(stretch).item() == pytest.approx(0, abs=1e-4)
    mirror = position * torch.tensor([-2.0, 0.0, 0.0]).view(1, 3, 1, 1, 1)
    assert fields.folding_fraction(mirror).item() == 1


def test_resize_keeps_physical_displacement():
    field = torch.ones(1, 3, 9, 9, 9)
    bigger = fields.resize(field, (17, 9, 33))
    assert bigger.shape == (1, 3, 17, 9, 33)
    torch.testing.assert_close(bigger.mean(dim=(0, 2, 3, 4)), torch.tensor([2.0, 1.0, 4.0]))
