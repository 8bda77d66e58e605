"""Random spatial and intensity changes on the device: sampling apart from applying.

Intensities are in [0, 1] (see ``prepare``). Spatial changes are displacement fields in voxels, so that they
compose with a registration's field and everything is interpolated once.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from soloatlas import fields
from soloatlas.settings import Augment


class Spatial(NamedTuple):
    """One draw of a spatial change.

    Attributes:
        matrix: (3, 3) about the grid's centre, acting on mm.
        shift: (3,) voxels.
        control: (1, 3, i, j, k) displacement of the elastic control points, voxels.
    """

    matrix: Tensor
    shift: Tensor
    control: Tensor


class Intensity(NamedTuple):
    """One draw of an intensity change: curve exponent, gain, offset, log bias control points, noise."""

    gamma: float
    gain: float
    offset: float
    bias: Tensor
    noise: float


@torch.autocast("cpu", enabled=False)  # the same draw whatever the networks compute in
def sample_spatial(shape: Sequence[int], settings: Augment, generator: torch.Generator) -> Spatial:
    """Draw rotation, scaling, shear, translation and elastic control points for a grid of ``shape``."""

    def uniform(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator) * 2 - 1

    angles = uniform(3) * torch.pi / 180 * settings.rotation
    matrix = torch.diag((1 + settings.scale * uniform(3)).clamp(min=0.2))
    matrix = matrix + settings.shear * uniform(3, 3) * (1 - torch.eye(3))
    for axis, angle in enumerate(angles):
        matrix = _rotation(axis, angle) @ matrix
    shift = uniform(3) * settings.translation * torch.tensor(shape, dtype=torch.float32)
    points = [max(2, round(n / settings.elastic_spacing) + 1) for n in shape]
    control = torch.randn(1, 3, *points, generator=generator) * settings.elastic
    return Spatial(matrix, shift, control)


def _rotation(axis: int, angle: Tensor) -> Tensor:
    i, j = [a for a in range(3) if a != axis]
    matrix = torch.eye(3)
    matrix[i, i] = matrix[j, j] = angle.cos()
    matrix[i, j], matrix[j, i] = -angle.sin(), angle.sin()
    return matrix


def spatial_displacement(
    change: Spatial, shape: Sequence[int], spacing: Sequence[float], device: torch.device
) -> Float[Tensor, "1 3 x y z"]:
    """The displacement field of a spatial change on a grid of ``shape`` and ``spacing`` (mm); float32."""
    mm = torch.tensor(tuple(spacing), device=device)
    middle = (torch.tensor(tuple(shape), device=device) - 1) / 2
    with torch.autocast(device.type, enabled=False):  # a product in bf16 is off by a tenth of a voxel and in steps
        position = fields.identity(shape, mm) - middle.view(1, 3, 1, 1, 1)
        in_voxels = change.matrix.to(device) * mm[None, :] / mm[:, None]
        moved = torch.einsum("ij,bjxyz->bixyz", in_voxels - torch.eye(3, device=device), position)
        elastic = _smooth_upsample(change.control.to(device), shape)
        return moved + change.shift.to(device).view(1, 3, 1, 1, 1) + elastic


def smooth_displacement(
    shape: Sequence[int], deviation: float, spacing: int, generator: torch.Generator
) -> Float[Tensor, "1 3 x y z"]:
    """A smooth random displacement alone: ``deviation`` in voxels, of control points ``spacing`` voxels apart."""
    points = [max(2, round(n / spacing) + 1) for n in shape]
    return _smooth_upsample(torch.randn(1, 3, *points, generator=generator) * deviation, shape)


def _smooth_upsample(control: Tensor, shape: Sequence[int]) -> Tensor:
    """Control points to a grid, smooth across their cells: quadratic B-spline by pooling a linear one."""
    finer = [min(n, 2 * (c - 1) + 1) for n, c in zip(shape, control.shape[2:], strict=True)]
    out = functional.interpolate(control, size=finer, mode="trilinear", align_corners=True)
    out = functional.avg_pool3d(functional.pad(out, (1,) * 6, mode="replicate"), 3, stride=1)
    return functional.interpolate(out, size=tuple(shape), mode="trilinear", align_corners=True)


def sample_intensity(settings: Augment, generator: torch.Generator) -> Intensity:
    """Draw one intensity change."""
    gamma, gain, offset = (torch.rand(3, generator=generator) * 2 - 1).tolist()
    return Intensity(
        gamma=float(torch.tensor(gamma * settings.gamma).exp()),
        gain=1 + gain * settings.contrast,
        offset=offset * settings.contrast / 2,
        bias=torch.randn(1, 1, 4, 4, 4, generator=generator) * settings.bias,
        noise=float(torch.rand((), generator=generator)) * settings.noise,
    )


def change_intensity(
    image: Float[Tensor, "1 1 x y z"], change: Intensity, generator: torch.Generator
) -> Float[Tensor, "1 1 x y z"]:
    """Apply an intensity change; empty background (exactly 0) stays empty, results in [0, 1.5].

    Args:
        image: intensities in [0, 1].
        change: the draw.
        generator: on the image's device, for the noise.
    """
    bias = _smooth_upsample(change.bias.to(image.device), image.shape[2:]).exp()
    out = (image.clamp(0, 1) ** change.gamma * change.gain + change.offset) * bias
    noise = torch.randn(image.shape, generator=generator, device=image.device) * change.noise
    return torch.where(image > 0, (out + noise).clamp(0, 1.5), torch.zeros((), device=image.device))
