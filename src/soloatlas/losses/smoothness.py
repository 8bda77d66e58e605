"""How smooth a displacement field is. Fields are in voxels, so the values are per voxel."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from soloatlas.losses._common import full_precision


def diffusion(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, ""]:
    """Mean square of the field's first differences, averaged over the three axes.

    Eq. (8), Zhou 2024; Balakrishnan 2019. Forward differences as printed (central ones are blind to a
    checkerboard); a mean where the paper prints a sum, since only so is its weight of 1 the one it used.
    Scalar of at least 0, without unit (voxels per voxel, squared). Computed in float32.
    """
    u = full_precision(field)
    return torch.stack([_mean_square(u.diff(dim=axis)) for axis in (2, 3, 4)]).mean()


def bending_energy(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, ""]:
    """Mean square of the field's second derivatives, mixed ones counted twice, over the volume's interior.

    Eq. (9), Zhou 2024; Rueckert 1999. Central differences on the interior as in the authors' withdrawn code,
    where the paper says forward ones; but u(p+1) - 2 u(p) + u(p-1) for the pure terms, where that code takes
    a central difference twice, (u(p+2) - 2 u(p) + u(p-2)) / 4: equal for quadratic fields, and blind to a
    checkerboard. A mean where the paper prints a sum. Zero for affine fields.

    Scalar of at least 0, per voxel squared. Needs at least 3 voxels an axis. Computed in float32, one term at
    a time, forgotten and made again for the backward pass.
    """
    u = full_precision(field)
    terms = [checkpoint(_second_derivative, u, a, b, use_reentrant=False) for a, b in _PAIRS]
    return torch.stack(terms).sum()


_PAIRS = ((2, 2), (3, 3), (4, 4), (2, 3), (2, 4), (3, 4))


def _second_derivative(u: Tensor, a: int, b: int) -> Tensor:
    """Mean square over the interior of the second derivative along axes ``a`` and ``b``, twice if mixed."""
    for axis in {2, 3, 4} - {a, b}:
        u = u.narrow(axis, 1, u.shape[axis] - 2)
    if a != b:
        return 2 * _mean_square(_central(_central(u, a), b))
    return _mean_square(u.diff(n=2, dim=a))


def _central(u: Tensor, axis: int) -> Tensor:
    length = u.shape[axis] - 2
    return (u.narrow(axis, 2, length) - u.narrow(axis, 0, length)) / 2


def _mean_square(x: Tensor) -> Tensor:
    return x.square().mean()
