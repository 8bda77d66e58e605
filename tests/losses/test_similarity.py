import itertools
import math

import pytest
import torch

from soloatlas.losses.similarity import local_cross_correlation, mutual_information, reconstruction_error


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def brute_force_correlation(fixed: torch.Tensor, warped: torch.Tensor, window: int, epsilon: float) -> float:
    half, total = window // 2, 0.0
    voxels = list(itertools.product(*(range(n) for n in fixed.shape)))
    for voxel in voxels:
        around = tuple(slice(max(0, p - half), p + half + 1) for p in voxel)
        a, b = fixed[around].flatten(), warped[around].flatten()
        a, b = a - a.mean(), b - b.mean()
        total += ((a * b).mean() ** 2 / ((a * a).mean() * (b * b).mean() + epsilon)).item()
    return -total / len(voxels)


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9])
def test_correlation_equals_windows_taken_one_by_one(window):
    fixed, warped = noise(1, 1, 6, 9, 7), noise(1, 1, 6, 9, 7, seed=1)
    expected = brute_force_correlation(fixed[0, 0], warped[0, 0], window, 1e-3)
    assert local_cross_correlation(fixed, warped, window, 1e-3).item() == pytest.approx(expected, abs=1e-12)


def test_correlation_gradient():
    fixed = noise(2, 1, 4, 5, 6).requires_grad_()
    warped = noise(2, 1, 4, 5, 6, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda f, w: local_cross_correlation(f, w, 3), (fixed, warped))
    assert torch.autograd.gradcheck(lambda w: local_cross_correlation(fixed.detach(), w, 9), (warped,))


def test_correlation_is_minus_one_for_linearly_related_images():
    fixed = 100 * noise(1, 1, 12, 12, 12, dtype=torch.float32)
    assert local_cross_correlation(fixed, 3 - 2 * fixed).item() == pytest.approx(-1, abs=1e-4)


@pytest.mark.parametrize("level", [0.0, 0.7, 1000.0])
def test_correlation_of_constant_regions_is_finite_and_zero(level):
    fixed = torch.full((1, 1, 10, 10, 10), level)
    warped = torch.full((1, 1, 10, 10, 10), level, requires_grad=True)
    loss = local_cross_correlation(fixed, warped)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-3)
    assert torch.isfinite(warped.grad).all()


def test_correlation_takes_half_precision_in_float32_also_under_autocast():
    fixed, warped = (noise(1, 1, 10, 10, 10, seed=s).bfloat16() for s in (0, 1))
    expected = local_cross_correlation(fixed.double(), warped.double())
    with torch.autocast("cpu", torch.bfloat16):
        loss = local_cross_correlation(fixed, warped.requires_grad_())
    loss.backward()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-4)
    assert warped.grad.dtype == torch.bfloat16


def exact_information(fixed: torch.Tensor, warped: torch.Tensor, bins: int) -> torch.Tensor:
    """The definition, in float64, one big matrix per image, gradient by autograd."""
    centres = torch.arange(bins, dtype=torch.float64) / (bins - 1)

    def shares(x):
        kernel = torch.exp(-0.5 * ((x.flatten()[:, None] - centres) * (bins - 1)) ** 2)
        return kernel / kernel.sum(1, keepdim=True)

    joint = shares(fixed).T @ shares(warped) / fixed.numel()
    independent = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return (torch.special.xlogy(joint, joint) - torch.special.xlogy(joint, independent)).sum()


@pytest.mark.parametrize("size", [(5, 6, 7), (45, 40, 41)])  # within one block of voxels, and over two
def test_information_equals_the_definition_in_value_and_gradient(size):
    fixed = noise(2, 1, *size).requires_grad_()
    warped = (0.5 * fixed.detach() + 0.5 * noise(2, 1, *size, seed=1)).requires_grad_()
    expected = -sum(exact_information(f, w, 32) for f, w in zip(fixed, warped, strict=True)) / 2
    expected_gradients = torch.autograd.grad(expected, (fixed, warped))
    loss = mutual_information(fixed, warped)
    gradients = torch.autograd.grad(loss, (fixed, warped))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    for gradient, right in zip(gradients, expected_gradients, strict=True):
        assert (gradient - right).norm() < 1e-3 * right.norm()


def test_information_in_float32_under_autocast():
    fixed, warped = noise(1, 1, 12, 12, 12), noise(1, 1, 12, 12, 12, seed=1)
    with torch.autocast("cpu", torch.bfloat16):
        loss = mutual_information(fixed.float(), warped.float())
    assert loss.item() == pytest.approx(mutual_information(fixed, warped).item(), rel=1e-5)


def test_information_with_a_large_constant_background():
    fixed, warped = torch.full((1, 1, 96, 128, 128), 0.1003), torch.full((1, 1, 96, 128, 128), 0.2017)
    fixed[:, :, :8], warped[:, :, :8] = noise(8, 128, 128).float(), noise(8, 128, 128).float()
    in_float64 = mutual_information(fixed.double(), warped.double())
    assert mutual_information(fixed, warped).item() == pytest.approx(in_float64.item(), rel=1e-4)


def test_information_bounds():
    image = noise(1, 1, 16, 16, 16)
    itself, unrelated = (
        mutual_information(image, image),
        mutual_information(image, noise(1, 1, 16, 16, 16, seed=1)),
    )
    assert -math.log(32) < itself < -1.5
    assert -0.2 < unrelated <= 0
    assert mutual_information(image, 1 - image).item() == pytest.approx(itself.item(), rel=1e-9)


def test_information_outside_the_range_is_clamped_and_gets_no_gradient():
    fixed = noise(1, 1, 6, 6, 6)
    warped = (3 * noise(1, 1, 6, 6, 6, seed=1) - 1).requires_grad_()
    loss = mutual_information(fixed, warped)
    loss.backward()
    outside = (warped < 0) | (warped > 1)
    assert loss.item() == mutual_information(fixed, warped.detach().clamp(0, 1)).item()
    assert outside.any() and (warped.grad[outside] == 0).all() and (warped.grad[~outside] != 0).all()


def test_information_of_constant_images_is_zero_and_finite():
    warped = torch.full((1, 1, 4, 4, 4), 0.5, requires_grad=True)
    loss = mutual_information(torch.zeros(1, 1, 4, 4, 4), warped)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert torch.isfinite(warped.grad).all()


def test_reconstruction_error_by_hand():
    image = torch.tensor([0.0, 1.0, 2.0, 3.0]).reshape(1, 1, 2, 2, 1)
    assert reconstruction_error(image, torch.ones_like(image)).item() == pytest.approx((1 + 0 + 1 + 4) / 4)
    assert reconstruction_error(image.bfloat16(), image.bfloat16()).dtype == torch.float32
