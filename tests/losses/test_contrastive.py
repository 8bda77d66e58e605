import math

import pytest
import torch

from soloatlas.losses.contrastive import contrastive

ATLAS = torch.tensor([[1.0, 0.0, 0.0]])


def circle(*degrees: float) -> torch.Tensor:
    """Unit vectors at angles to the atlas."""
    angles = torch.tensor(degrees) * math.pi / 180
    return torch.stack([angles.cos(), angles.sin(), torch.zeros_like(angles)], 1)


def test_two_scans_by_hand():
    # cos 60 = 1/2 to the atlas, cos 120 = -1/2 to each other; temperature 1/2 doubles both.
    loss = contrastive(circle(60, -60), ATLAS.expand(2, 3))
    assert loss.item() == pytest.approx(-math.log(math.e / (math.e + 1 / math.e)), rel=1e-5)


def test_equal_features_of_n_scans_give_log_n():
    for n in (2, 3, 5):
        assert contrastive(ATLAS.expand(n, 3), ATLAS.expand(n, 3)).item() == pytest.approx(math.log(n), rel=1e-5)


def test_copies_of_the_atlas_are_no_negatives():
    scans = circle(10, 95, -40)
    copies = contrastive(scans, ATLAS.expand(3, 3))
    by_scan = []
    for i in range(3):
        others = torch.cat([scans[:i], scans[i + 1 :]])
        by_scan.append(contrastive(scans[i : i + 1], ATLAS, negatives=others))
    assert copies.item() == pytest.approx(torch.stack(by_scan).mean().item(), rel=1e-5)


def test_length_of_features_does_not_matter():
    scans = circle(10, 95, -40)
    scaled = contrastive(5 * scans, 0.1 * ATLAS.expand(3, 3), 0.2, negatives=7 * circle(30))
    assert scaled.item() == pytest.approx(contrastive(scans, ATLAS.expand(3, 3), 0.2, circle(30)).item(), rel=1e-5)


def test_falls_when_pairs_align_and_scans_part():
    near, far = circle(40, -40), circle(80, -80)
    collapsed, opposite = circle(0, 0), circle(180, 180)
    values = [contrastive(x, ATLAS.expand(2, 3)).item() for x in (opposite, collapsed, near)]
    assert values == sorted(values, reverse=True)
    seen = contrastive(circle(20), ATLAS, negatives=circle(25)), contrastive(circle(20), ATLAS, negatives=far)
    assert seen[0] > seen[1] > 0


def test_batch_of_one_has_nothing_to_be_told_from():
    scan = circle(50).requires_grad_()
    loss = contrastive(scan, ATLAS)
    loss.backward()
    assert loss.item() == 0
    assert (scan.grad == 0).all()


def test_batch_of_one_learns_against_scans_seen_earlier():
    scan = circle(50).requires_grad_()
    contrastive(scan, ATLAS, negatives=circle(60, 120)).backward()
    step = scan.detach() - 0.1 * scan.grad
    assert step[0, 0] / step.norm() > math.cos(math.radians(50))  # towards the atlas


def test_gradient_and_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    u, a, n = (torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(3))
    assert torch.autograd.gradcheck(lambda *x: contrastive(x[0], x[1], 0.5, x[2]), (u, a, n))
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive(u.float(), a.float())
    assert loss.item() == pytest.approx(contrastive(u, a).item(), rel=1e-5)
