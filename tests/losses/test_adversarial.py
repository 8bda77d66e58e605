"""LT-Net's Eq. 4 in both forms, against hand-computed values."""

import math

import pytest
import torch

from soloatlas.losses.adversarial import discriminator_loss, generator_loss, verdicts


def verdict(*values):
    return torch.tensor(values).view(1, 1, -1, 1, 1)


def test_least_squares_form():
    real, warped = verdict(1.0, 0.0), verdict(0.5, -0.5)
    assert float(discriminator_loss(real, warped)) == pytest.approx(0.5 + 0.25)
    assert float(generator_loss(warped)) == pytest.approx((0.25 + 2.25) / 2)


def test_printed_form_is_minus_the_sum_of_the_two_norms():
    real, warped = verdict(0.0, 2.0), verdict(1.0, -3.0)

    def s(x):
        return 1 / (1 + math.exp(-x))

    norm_real = math.sqrt((s(0) ** 2 + s(2) ** 2) / 2)
    norm_warped = math.sqrt(((s(1) - 1) ** 2 + (s(-3) - 1) ** 2) / 2)
    assert float(discriminator_loss(real, warped, "printed")) == pytest.approx(-norm_real - norm_warped, rel=1e-5)
    assert float(generator_loss(warped, "printed")) == pytest.approx(norm_warped, rel=1e-5)


@pytest.mark.parametrize("form", ["least-squares", "printed"])
def test_both_forms_are_the_same_game_one_is_real(form):
    real = verdict(0.3).requires_grad_()
    warped = verdict(0.4).requires_grad_()
    discriminator_loss(real, warped, form).backward()
    assert real.grad.sum() < 0 < warped.grad.sum(), "descending raises D(real) and lowers D(warped)"
    fooled = verdict(0.4).requires_grad_()
    generator_loss(fooled, form).backward()
    assert fooled.grad.sum() < 0, "the generator raises D(warped)"


@pytest.mark.parametrize("form", ["least-squares", "printed"])
def test_gradients(form):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(2, 1, 2, 2, 2, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(lambda x, y: discriminator_loss(x, y, form), (a, b))
    assert torch.autograd.gradcheck(lambda x: generator_loss(x, form), (a,))


def test_a_perfect_generator_has_a_finite_gradient():
    warped = verdict(80.0).requires_grad_()  # a sigmoid of 1 in float32
    generator_loss(warped, "printed").backward()
    assert torch.isfinite(warped.grad).all()


def test_verdicts_say_how_often_the_discriminator_is_right():
    found = verdicts(verdict(0.9, 0.4), verdict(0.1, 0.2))
    assert float(found["D(real)"]) == pytest.approx(0.65)
    assert float(found["D(warped)"]) == pytest.approx(0.15)
    assert float(found["D right"]) == pytest.approx(0.75)
    assert float(verdicts(verdict(1.0), verdict(-1.0), "printed")["D right"]) == 1
