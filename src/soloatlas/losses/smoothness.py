"""How smooth a displacement field is. Fields are in voxels, so the values are per voxel.

Values and gradients are found in one pass, a derivative at a time: memory holds the gradient and one derivative.
"""

from collections.abc import Iterator
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from soloatlas.losses._common import full_precision, wanted, with_gradients

Stencil = dict[tuple[int, ...], float]  # factors of the neighbours, by their offset of -1, 0 or 1 along each axis


def diffusion(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, ""]:
    """Mean square of the field's first differences, averaged over the three axes.

    Eq. (8), Zhou 2024; Balakrishnan 2019. Forward differences as printed (central ones are blind to a
    checkerboard); a mean where the paper prints a sum, since only so is its weight of 1 the one it used.
    Scalar of at least 0, without unit (voxels per voxel, squared). Computed in float32.
    """
    u = full_precision(field.detach())
    gradient = torch.zeros_like(u) if wanted(field) else None
    value, room = u.new_zeros(()), torch.empty_like(u)
    for axis in (2, 3, 4):
        length = u.shape[axis] - 1
        change = room.narrow(axis, 0, length)
        torch.sub(u.narrow(axis, 1, length), u.narrow(axis, 0, length), out=change)
        value += _mean_square(change) / 3
        if gradient is not None:
            change *= 2 / (3 * change.numel())
            gradient.narrow(axis, 1, length).add_(change)
            gradient.narrow(axis, 0, length).sub_(change)
    return with_gradients(value, (field, gradient))


def bending_energy(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, ""]:
    """Mean square of the field's second derivatives, mixed ones counted twice, over the volume's interior.

    Eq. (9), Zhou 2024; Rueckert 1999. Central differences on the interior as in the authors' withdrawn code,
    where the paper says forward ones; but u(p+1) - 2 u(p) + u(p-1) for the pure terms, where that code takes
    a central difference twice, (u(p+2) - 2 u(p) + u(p-2)) / 4: equal for quadratic fields, and blind to a
    checkerboard. A mean where the paper prints a sum. Zero for affine fields.

    Scalar of at least 0, per voxel squared. Needs at least 3 voxels an axis. Computed in float32.
    """
    u = full_precision(field.detach())
    gradient = torch.zeros_like(u) if wanted(field) else None
    value, derivative = u.new_zeros(()), torch.empty_like(_interior(u))
    for count, stencil in _second_derivatives():
        derivative.zero_()
        for offset, factor in stencil.items():
            derivative.add_(_interior(u, offset), alpha=factor)
        value += count * _mean_square(derivative)
        if gradient is not None:  # back through the same stencil
            derivative *= 2 * count / derivative.numel()
            for offset, factor in stencil.items():
                _interior(gradient, offset).add_(derivative, alpha=factor)
    return with_gradients(value, (field, gradient))


def _mean_square(x: Tensor) -> Tensor:
    """Mean of the squares, an eighth of the volume at a time: no volume of squares is held."""
    return torch.stack([part.square().sum() for part in x.chunk(8, dim=2)]).sum() / x.numel()


def _second_derivatives() -> Iterator[tuple[int, Stencil]]:
    """How often each second derivative counts, and its stencil."""
    unit = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    for a in unit:
        ahead, behind = (tuple(sign * i for i in a) for sign in (1, -1))
        yield 1, {ahead: 1.0, (0, 0, 0): -2.0, behind: 1.0}
    for a, b in combinations(unit, 2):
        corners = [(s, t) for s in (1, -1) for t in (1, -1)]
        yield 2, {tuple(s * i + t * j for i, j in zip(a, b, strict=True)): s * t / 4 for s, t in corners}


def _interior(volume: Tensor, offset: tuple[int, ...] = (0, 0, 0)) -> Tensor:
    """The voxels that have neighbours on all sides, moved by ``offset``: a view."""
    for axis, step in zip((2, 3, 4), offset, strict=True):
        volume = volume.narrow(axis, 1 + step, volume.shape[axis] - 2)
    return volume
