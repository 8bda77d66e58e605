import math

import pytest
import torch
from torch.nn import functional

from soloatlas.losses.overlap import cross_entropy, cross_entropy_and_dice, soft_dice

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def example(layout, batch=2, count=5, size=(4, 3, 6)):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(batch, count, *size, generator=generator, dtype=torch.float64)
    classes = torch.randint(0, count, (batch, 1, *size), generator=generator)
    return logits.contiguous(memory_format=layout).requires_grad_(), classes


def dice_by_definition(logits, classes, background):
    """One-hot and whole-volume, class by class."""
    scans = []
    for p, t in zip(logits.softmax(1), classes[:, 0], strict=True):
        kept = [c for c in range(len(p)) if (t == c).any() and (background or c > 0)]
        sizes = [(p[c].sum(), (t == c).sum(), p[c][t == c].sum()) for c in kept]
        scans.append(sum(1 - 2 * both / (a + b + 1e-5) for a, b, both in sizes) / max(1, len(kept)))
    return sum(scans) / len(scans)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_cross_entropy_equals_torch_in_value_and_gradient(layout):
    logits, classes = example(layout)
    expected = functional.cross_entropy(logits, classes[:, 0])
    loss = cross_entropy(logits, classes.to(torch.uint8))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (right,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(gradient, right)
    assert gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("balance", [0.5, 1.0])
def test_balanced_cross_entropy_equals_torch_with_weights_of_its_classes(layout, balance):
    logits, classes = example(layout)
    counts = torch.stack([(classes == c).sum() for c in range(logits.shape[1])]).double()
    expected = functional.cross_entropy(logits, classes[:, 0], counts**-balance)
    loss = cross_entropy(logits, classes.to(torch.uint8), balance)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (right,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(gradient, right)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_both_in_one_pass_equal_one_after_the_other_in_value_and_gradient(layout):
    logits, classes = example(layout)
    together = cross_entropy_and_dice(logits, classes, 0.5)
    apart = cross_entropy(logits, classes, 0.5), soft_dice(logits, classes)
    for one, other in zip(together, apart, strict=True):
        assert one.item() == pytest.approx(other.item(), rel=1e-12)
    (gradient,), (right,) = (torch.autograd.grad(2 * a + 3 * b, logits) for a, b in (together, apart))
    torch.testing.assert_close(gradient, right)


def test_full_balance_is_the_mean_over_the_classes_that_are_there():
    classes = torch.tensor([0, 0, 0, 1]).reshape(1, 1, 4, 1, 1)
    logits = torch.tensor([[2.0, 0.0, -1.0]] * 4).T.reshape(1, 3, 4, 1, 1)
    of_each = -logits[0, :, 0, 0, 0].log_softmax(0)[:2]
    assert cross_entropy(logits, classes, 1.0).item() == pytest.approx(of_each.mean().item())
    assert cross_entropy(logits, classes).item() == pytest.approx((0.75 * of_each[0] + 0.25 * of_each[1]).item())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("background", [False, True])
def test_soft_dice_equals_the_definition_in_value_and_gradient(layout, background):
    logits, classes = example(layout)
    classes[0][classes[0] == 3] = 1  # a class absent from one scan
    expected = dice_by_definition(logits, classes, background)
    loss = soft_dice(logits, classes, background)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (right,) = (torch.autograd.grad(3 * x, logits) for x in (loss, expected))
    torch.testing.assert_close(gradient, right)


def test_volume_of_several_slabs():
    logits, classes = example(torch.channels_last_3d, batch=1, count=39, size=(11, 40, 40))
    expected = functional.cross_entropy(logits, classes[:, 0]) + dice_by_definition(logits, classes, False)
    loss = cross_entropy(logits, classes) + soft_dice(logits, classes)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    (gradient,), (right,) = (torch.autograd.grad(x, logits) for x in (loss, expected))
    torch.testing.assert_close(gradient, right)


def test_equal_logits():
    classes = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 2, 2, 1)
    logits = torch.zeros(1, 4, 2, 2, 1)
    assert cross_entropy(logits, classes).item() == pytest.approx(math.log(4))
    # Every probability is 1/4: class 1 gives 2 * (2/4) / (1 + 2), class 2 gives 2 * (1/4) / (1 + 1).
    assert soft_dice(logits, classes).item() == pytest.approx(1 - (1 / 3 + 1 / 4) / 2, rel=1e-4)


def test_right_and_wrong_predictions():
    classes = torch.tensor([0, 1, 1, 2]).reshape(1, 1, 2, 2, 1)
    right = 50 * functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float()
    assert soft_dice(right, classes).item() == pytest.approx(0, abs=1e-5)
    assert soft_dice(right.roll(1, 1), classes).item() == pytest.approx(1, abs=1e-5)
    assert soft_dice(right, torch.zeros_like(classes)).item() == 0  # nothing to count


@pytest.mark.parametrize("loss", [cross_entropy, soft_dice])
def test_half_precision_logits_are_taken_in_float32(loss):
    logits, classes = example(torch.channels_last_3d)
    half = logits.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(half, classes)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(half.double(), classes).item(), rel=1e-6)
    assert half.grad.dtype == torch.bfloat16
    right = torch.autograd.grad(loss(logits, classes), logits)[0]
    torch.testing.assert_close(half.grad.double(), right, rtol=0.05, atol=1e-4)


def test_a_structure_of_a_million_voxels_is_summed_up_exactly():
    logits = torch.zeros(1, 2, 100, 100, 100)
    logits[:, 1] = 3.5
    classes = torch.ones(1, 1, 100, 100, 100, dtype=torch.int16)
    p = float(torch.tensor([0.0, 3.5], dtype=torch.float64).softmax(0)[1])
    assert float(soft_dice(logits, classes)) == pytest.approx(1 - 2 * p / (p + 1), abs=2e-5)
