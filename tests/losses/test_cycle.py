"""LT-Net's Eqs. 7-10 against brute force, finite differences and fields whose inverse is known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from soloatlas import fields
from soloatlas.losses.cycle import (
    anatomy_cycle,
    anatomy_difference,
    charbonnier,
    class_boxes,
    cycle_labels,
    image_cycle,
    inverse_residual,
    transformation_consistency,
)

SHAPE = (14, 12, 10)


def smooth_field(seed, size=1.5, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, 4, 4, 4, generator=generator)
    return size * torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear", align_corners=True)


def labels(seed=0, shape=SHAPE):
    generator = torch.Generator().manual_seed(seed)
    classes = torch.zeros(1, 1, *shape, dtype=torch.int16)
    classes[..., 2:6, 3:8, 2:5] = 1
    classes[..., 7:12, 1:6, 4:9] = 2
    classes[..., 8:10, 8:11, 1:3] = 4  # class 3 is absent
    noise = torch.rand(classes.shape, generator=generator) < 0.2
    return torch.where(noise & (classes > 0), torch.zeros((), dtype=torch.int16), classes)


def one_hot(classes, count):
    return torch.cat([(classes == k).float() for k in range(count)], 1)


def rho(x):
    return (x**2 + 0.001**2) ** 0.45


def test_charbonnier_by_hand():
    assert float(charbonnier(torch.tensor(0.0))) == pytest.approx((1e-6) ** 0.45)
    assert float(charbonnier(torch.tensor(-2.0))) == pytest.approx((4 + 1e-6) ** 0.45)
    x = torch.tensor([0.0, 1e-4, -0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(charbonnier, (x,))


def test_image_cycle_is_the_mean_absolute_difference():
    a, b = torch.rand(2, 1, 4, 4, 4), torch.rand(2, 1, 4, 4, 4)
    assert float(image_cycle(a, b)) == pytest.approx(np.abs(a.numpy() - b.numpy()).mean(), rel=1e-6)


def test_a_pair_of_inverse_scalings_costs_only_the_floor():
    # Forward x -> c + s (x - c), backward x -> c + (x - c) / s: linear, so trilinear sampling is exact.
    shape, s = (21, 21, 21), 0.8
    position = fields.identity(shape, torch.zeros(()))
    forward, backward = (s - 1) * (position - 10), (1 / s - 1) * (position - 10)
    residual = inverse_residual(forward, backward)
    torch.testing.assert_close(residual, torch.zeros_like(residual), atol=1e-5, rtol=0)
    assert float(transformation_consistency(forward, backward)) == pytest.approx(0.001**0.9, rel=1e-3)
    # The composition in the wrong order, or with the wrong sign, is no identity.
    assert float(transformation_consistency(forward, forward)) > 0.3


def test_transformation_consistency_against_a_loop_over_voxels():
    forward, backward = smooth_field(1), smooth_field(2)
    u, v = forward[0].double().numpy(), backward[0].double().numpy()
    total, count = 0.0, 0
    for p in np.ndindex(*SHAPE):
        q = np.array(p) + u[(slice(None), *p)]
        if (q < 0).any() or (q > np.array(SHAPE) - 1).any():
            continue
        low = np.minimum(np.floor(q).astype(int), np.array(SHAPE) - 2)
        part, there = q - low, np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([f if c else 1 - f for f, c in zip(part, corner, strict=True)])
            there += weight * v[(slice(None), *(low + corner))]
        total += rho(u[(slice(None), *p)] + there).mean()
        count += 1
    assert 0 < count < np.prod(SHAPE)
    assert float(transformation_consistency(forward, backward)) == pytest.approx(total / count, rel=1e-4)


@pytest.mark.parametrize("background", [False, True])
def test_label_terms_against_whole_one_hot_volumes(background):
    classes, forward, backward = labels(), smooth_field(3), smooth_field(4)
    present = [0, 1, 2, 4] if background else [1, 2, 4]
    original = one_hot(classes, 5)
    warped = fields.warp(original, forward)
    restored = fields.warp(warped, backward)
    o, w, r = (x[0, present].double().numpy().reshape(len(present), -1) for x in (original, warped, restored))
    dice = 1 - 2 * (o * r).sum(1) / ((o**2).sum(1) + (r**2).sum(1))
    pooled = 1 - 2 * (o * r).sum() / ((o**2).sum() + (r**2).sum())
    cycle = cycle_labels(classes, class_boxes(classes, 5, background), forward, backward)
    assert len(cycle) == len(present)
    assert float(anatomy_cycle(cycle)) == pytest.approx(dice.mean(), rel=1e-5)
    assert float(anatomy_cycle(cycle, "pooled")) == pytest.approx(pooled, rel=1e-5)
    change = rho(np.abs(o - w) - np.abs(w - r)).mean()
    assert float(anatomy_difference(cycle)) == pytest.approx(change, rel=1e-4)


def test_only_a_part_of_the_grid_is_touched():
    classes = torch.zeros(1, 1, 48, 48, 48, dtype=torch.int16)
    classes[..., 20:24, 20:24, 20:24] = 1
    still = torch.zeros(1, 3, 48, 48, 48)
    (found,) = cycle_labels(classes, class_boxes(classes, 2), still, still)
    assert max(found.original.shape[2:]) <= 10
    assert found.original.sum() == 64
    assert torch.equal(found.original, found.restored)
    assert float(anatomy_cycle([found])) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.floats(0.1, 6))
def test_boxes_hold_everything_that_can_move_into_a_class(seed, size):
    classes, forward, backward = labels(seed), smooth_field(seed, size), smooth_field(seed + 1, size)
    whole = fields.warp(fields.warp(one_hot(classes, 5), forward), backward)
    cycle = cycle_labels(classes, class_boxes(classes, 5), forward, backward)
    for index, found in zip((1, 2, 4), cycle, strict=True):
        assert float(found.restored.sum()) == pytest.approx(float(whole[0, index].sum()), rel=1e-4, abs=1e-3)


def test_gradients_of_the_label_terms_reach_both_fields():
    classes = labels()
    forward, backward = smooth_field(5).requires_grad_(), smooth_field(6).requires_grad_()
    cycle = cycle_labels(classes, class_boxes(classes, 5), forward, backward)
    (anatomy_cycle(cycle) + anatomy_difference(cycle)).backward()
    full_f, full_b = forward.detach().clone().requires_grad_(), backward.detach().clone().requires_grad_()
    original = one_hot(classes, 5)[:, [1, 2, 4]]
    warped = fields.warp(original, full_f)
    restored = fields.warp(warped, full_b)
    sums = (0, 2, 3, 4)
    dice = 1 - 2 * (original * restored).sum(sums) / (original.square().sum(sums) + restored.square().sum(sums))
    change = charbonnier((original - warped).abs() - (warped - restored).abs())
    (dice.mean() + change.mean()).backward()
    torch.testing.assert_close(forward.grad, full_f.grad, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(backward.grad, full_b.grad, atol=1e-6, rtol=1e-3)


def test_absent_classes_and_whole_background():
    boxes = class_boxes(labels(), 5, background=True)
    assert boxes[0] == tuple((0, n) for n in SHAPE)
    assert boxes[3] is None
    assert class_boxes(labels(), 5)[0] is None
    classes = labels()[0, 0].numpy()
    where = np.argwhere(classes == 2)
    assert boxes[2] == tuple((int(a), int(b) + 1) for a, b in zip(where.min(0), where.max(0), strict=True))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_labels_follow_a_field_that_is_not_finite(value):
    # The loop reports the terms that are not finite; it must come that far.
    classes = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int16)
    classes[..., 3:5, 3:5, 3:5] = 1
    still, broken = torch.zeros(1, 3, 8, 8, 8), torch.zeros(1, 3, 8, 8, 8)
    broken[0, 1, 4, 4, 4] = value
    (found,) = cycle_labels(classes, class_boxes(classes, 2), broken, still)
    assert found.original.sum() == 8
