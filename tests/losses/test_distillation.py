import pytest
import torch
from torch.nn import functional

from soloatlas.losses.distillation import hint_cosine, hint_l2

MODES = ["flat", "voxel", "flat_batch"]


def features(seed, batch=2, layout=torch.channels_last_3d, sizes=((3, 4, 4, 6), (5, 2, 2, 3))):
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(batch, *s, generator=generator, dtype=torch.float64) for s in sizes]
    return [x.contiguous(memory_format=layout).requires_grad_() for x in levels]


def by_definition(student, teacher, mode):
    total = 0
    for s, t in zip(student, teacher, strict=True):
        if mode == "voxel":
            total += 1 - functional.cosine_similarity(s, t, dim=1).mean()
        elif mode == "flat":
            total += 1 - functional.cosine_similarity(s.flatten(1), t.flatten(1), dim=1).mean()
        else:
            total += 1 - functional.cosine_similarity(s.flatten(), t.flatten(), dim=0)
    return total


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
def test_cosine_equals_the_definition_in_value_and_both_gradients(mode, layout):
    student, teacher = features(0, layout=layout), features(1, layout=layout)
    expected, loss = by_definition(student, teacher, mode), hint_cosine(student, teacher, mode)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    gradients = torch.autograd.grad(loss, student + teacher)
    rights = torch.autograd.grad(expected, student + teacher)
    for gradient, right in zip(gradients, rights, strict=True):
        torch.testing.assert_close(gradient, right)


@pytest.mark.parametrize("mode", MODES)
def test_volume_of_several_slabs(mode):
    student, teacher = (features(s, batch=1, sizes=((16, 40, 32, 32),)) for s in (0, 1))
    expected, loss = by_definition(student, teacher, mode), hint_cosine(student, teacher, mode)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(torch.autograd.grad(loss, student), torch.autograd.grad(expected, student))


@pytest.mark.parametrize("mode", MODES)
def test_range(mode):
    student = features(0)
    assert hint_cosine(student, [3 * s for s in student], mode).item() == pytest.approx(0, abs=1e-12)
    assert hint_cosine(student, [-s for s in student], mode).item() == pytest.approx(4)  # 2 for each level


def test_the_readings_differ():
    student, teacher = features(0), features(1)
    assert len({round(hint_cosine(student, teacher, mode).item(), 9) for mode in MODES}) == 3


def test_two_vectors_by_hand():
    student = [torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1, 1)]
    teacher = [torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1, 1)]
    for mode in MODES:
        assert hint_cosine(student, teacher, mode).item() == pytest.approx(1 - 0.6)
    assert hint_l2(student, teacher).item() == pytest.approx((4 + 16) / 2)


def test_l2_sums_over_levels():
    student, teacher = features(0), features(1)
    expected = sum(((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True))
    assert hint_l2(student, teacher).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("mode", MODES)
def test_features_of_zeros_give_finite_gradients(mode):
    student = [torch.zeros(1, 2, 2, 2, 2, requires_grad=True)]
    loss = hint_cosine(student, [torch.ones(1, 2, 2, 2, 2)], mode)
    loss.backward()
    assert loss.item() == 1
    assert torch.isfinite(student[0].grad).all()


def test_stopping_the_teacher_leaves_the_student_its_gradient():
    student, teacher = features(0), features(1)
    hint_cosine(student, [t.detach() for t in teacher]).backward()
    assert all(s.grad.abs().sum() > 0 for s in student)
    assert all(t.grad is None for t in teacher)


@pytest.mark.parametrize("mode", MODES)
def test_half_precision_features_are_taken_in_float32(mode):
    student, teacher = ([x.detach().bfloat16().requires_grad_() for x in features(s)] for s in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss = hint_cosine(student, teacher, mode)
    loss.backward()
    expected = by_definition([s.double() for s in student], [t.double() for t in teacher], mode)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
