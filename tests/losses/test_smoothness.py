import pytest
import torch

from soloatlas.losses.smoothness import bending_energy, diffusion

X, Y, Z = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (6, 7, 8)), indexing="ij")
ZERO = torch.zeros_like(X)


def field(*components: torch.Tensor) -> torch.Tensor:
    return torch.stack(components)[None]


CHECKERBOARD = field(*[(-1) ** (X + Y + Z)] * 3)


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (field(ZERO, ZERO + 3, ZERO), 0),  # a shift
        (field(2 * X, ZERO, ZERO), 4 / 9),  # slope 2: one of 3 channels, one of 3 axes
        (field(X + Y + Z, ZERO, 3 * Z), (3 + 9) / 9),
        (CHECKERBOARD, 4),  # central differences would give 0
    ],
)
def test_diffusion_by_hand(u, expected):
    assert diffusion(u).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("u", "expected"),
    [
        (field(2 * X - Y + 4, X + Y + Z, -3 * Z), 0),  # affine
        (field(X**2, ZERO, ZERO), 4 / 3),  # second derivative 2 in one of 3 channels
        (field(ZERO, ZERO, 3 * Y**2), 36 / 3),
        (field(X * Y, ZERO, ZERO), 2 / 3),  # a mixed term counts twice
        (field(ZERO, Y * Z, ZERO), 2 / 3),
        (CHECKERBOARD, 3 * 16),  # u(p+1) - 2 u(p) + u(p-1) = -4 u(p) along each axis
    ],
)
def test_bending_energy_by_hand(u, expected):
    assert bending_energy(u).item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("loss", [diffusion, bending_energy])
def test_gradient(loss):
    u = torch.randn(2, 3, 4, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.autograd.gradcheck(loss, (u.requires_grad_(),))


@pytest.mark.parametrize("loss", [diffusion, bending_energy])
def test_half_precision_fields_are_taken_in_float32(loss):
    u = CHECKERBOARD.bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(u)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(CHECKERBOARD).item(), rel=1e-6)
