"""Losses of the authors' own forms, by hand and against torch."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from soloatlas.losses.divergence import gaussian_divergence
from soloatlas.losses.joint import warped_inverse_residual
from soloatlas.losses.overlap import log_target_error
from soloatlas.losses.similarity import squared_difference


def test_logits_are_drawn_to_the_logarithm_of_the_labels():
    classes = torch.tensor([[0, 2]]).reshape(1, 1, 1, 1, 2)
    logits = torch.tensor([[1.0, -100.0], [-98.0, -100.0], [-100.0, 3.0]]).reshape(1, 3, 1, 1, 2)
    # Errors: 1 at the given class of the first voxel and 2 at its second; 3 at the given class of the second voxel.
    assert float(log_target_error(logits, classes)) == pytest.approx((1 + 4 + 9) / 6)
    assert float(log_target_error(torch.zeros(1, 2, 1, 1, 2), classes.clamp(max=1), -10.0)) == pytest.approx(50)
    perfect = torch.full((1, 3, 1, 1, 2), -100.0).scatter_(1, classes, 0.0).requires_grad_()
    loss = log_target_error(perfect, classes)
    loss.backward()
    assert float(loss.detach()) == 0 and perfect.grad.abs().max() == 0


def test_divergence_of_a_gaussian_is_torchs():
    draw = torch.Generator().manual_seed(0)
    mean, log_s = torch.randn(2, 3, 4, 5, 6, generator=draw), torch.randn(2, 3, 4, 5, 6, generator=draw)
    expected = kl_divergence(Normal(mean, log_s.exp()), Normal(0.0, 1.0)).mean()
    assert float(gaussian_divergence(mean, log_s)) == pytest.approx(float(expected), rel=1e-5)
    still = torch.zeros(1, 3, 2, 2, 2)
    assert float(gaussian_divergence(still, still)) == 0
    assert float(gaussian_divergence(still, still + math.log(0.5))) == pytest.approx(-0.375 + math.log(2))


def test_squared_difference_by_hand():
    a, b = torch.zeros(1, 1, 2, 1, 1), torch.tensor([0.5, 0.1]).reshape(1, 1, 2, 1, 1)
    assert float(squared_difference(a, b)) == pytest.approx((0.25 + 0.01) / 2)


def test_the_codes_inverse_is_right_for_translations_and_to_first_order_only():
    shift = torch.zeros(1, 3, 8, 6, 6)
    shift[:, 1] = 1.5
    assert warped_inverse_residual(shift, -shift).abs().max() < 1e-6
    slope = 0.1
    field = torch.zeros(1, 3, 21, 3, 3)
    field[:, 0] = slope * torch.arange(21.0).view(1, 21, 1, 1)
    inner = slice(0, 18)  # further out the field points beyond its grid
    made = -slope * (1 + slope) * torch.arange(21.0).view(1, 21, 1, 1)
    back = torch.zeros_like(field)
    back[:, 0] = made
    assert warped_inverse_residual(field, back)[:, :, inner].abs().max() < 1e-5
    back[:, 0] = -slope / (1 + slope) * torch.arange(21.0).view(1, 21, 1, 1)  # the true inverse
    left = warped_inverse_residual(field, back)[0, 0, 10, 0, 0]
    assert float(left) == pytest.approx(-slope * (1 + slope) * 10 + slope / (1 + slope) * 10, rel=1e-4)
