"""Displacement fields: warp, compose, integrate, invert, resize, Jacobian determinant.

Everywhere: tensors are ``(batch, channel, x, y, z)``; channel ``i`` of a field moves along axis ``i``, in
voxels; ``warp(image, u)(p) = image(p + u(p))``; voxel centres sit on integers (``align_corners=True``).
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

Padding = Literal["zeros", "border"]


def identity(shape: Sequence[int], like: Tensor, origin: Sequence[int] = (0, 0, 0)) -> Float[Tensor, "1 3 x y z"]:
    """Voxel positions of a grid: channel ``i`` holds the index along axis ``i``, counted from ``origin``."""
    axes = [
        torch.arange(start, start + n, device=like.device, dtype=torch.float32)
        for n, start in zip(shape, origin, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def warp(
    image: Float[Tensor, "batch channel x y z"],
    field: Float[Tensor, "batch 3 u v w"],
    mode: Literal["linear", "nearest"] = "linear",
    padding: Padding = "zeros",
    origin: Sequence[int] = (0, 0, 0),
) -> Float[Tensor, "batch channel u v w"]:
    """Pull ``image`` back along ``field``: ``out(p) = image(p + field(p))`` (Eq. 1, OS-MedSeg).

    Args:
        image: any number of channels, any float type; computed in float32.
        field: displacement in voxels of ``image``.
        mode: trilinear or nearest interpolation.
        padding: value outside the image, 0 or that of the nearest border voxel.
        origin: index in ``image`` of the first voxel of ``field``, when the field covers only a part.

    A zero displacement returns the voxel exactly, not merely up to the rounding of the sampler's
    normalised coordinates.
    """
    with torch.autocast(field.device.type, enabled=False):
        image, field = image.float(), field.float()
        out = _sample(image, identity(field.shape[2:], field, origin) + field, mode, padding)
        return _exact_where_still(out, image, field, origin)


def _exact_where_still(out: Tensor, image: Tensor, field: Tensor, origin: Sequence[int]) -> Tensor:
    x, y, z = (slice(o, o + n) for o, n in zip(origin, field.shape[2:], strict=True))
    still = image[:, :, x, y, z]
    if still.shape[2:] != out.shape[2:]:
        return out  # the field reaches beyond the image
    moved = field.detach().abs().amax(dim=1, keepdim=True) > 0
    # Only the value is corrected: the gradient by the field stays that of the interpolation.
    return out + torch.where(moved, torch.zeros((), device=out.device), (still - out).detach())


def _sample(image: Tensor, positions: Tensor, mode: str, padding: str) -> Tensor:
    """Sample ``image`` at ``positions`` (voxels) with grid_sample."""
    scale = torch.tensor([2 / max(n - 1, 1) for n in image.shape[2:]], device=image.device).view(1, 3, 1, 1, 1)
    grid = (positions * scale - 1).flip(1).permute(0, 2, 3, 4, 1)
    how = {"linear": "bilinear", "nearest": "nearest"}[mode]
    slabs = _slabs(image, grid)
    if slabs > 1:
        batch, size = grid.shape[0], tuple(grid.shape[1:4])
        grid = grid.reshape(slabs, size[0] // slabs, *grid.shape[2:])
        image = image.expand(slabs, -1, -1, -1, -1)
        out = functional.grid_sample(image, grid, mode=how, padding_mode=padding, align_corners=True)
        return out.transpose(0, 1).reshape(batch, -1, *size)
    return functional.grid_sample(image, grid, mode=how, padding_mode=padding, align_corners=True)


def _slabs(image: Tensor, grid: Tensor) -> int:
    """In how many slabs along x to sample.

    On the CPU grid_sample shares its work over the batch only, so one volume would use one core: its slabs
    are handed over as a batch instead.
    """
    threads = torch.get_num_threads()
    if image.device.type != "cpu" or image.shape[0] != 1 or grid.shape[1] < threads:
        return 1
    return next(n for n in range(threads, 0, -1) if grid.shape[1] % n == 0)


def warp_labels(
    classes: Int[Tensor, "batch 1 x y z"],
    field: Float[Tensor, "batch 3 u v w"],
    mode: Literal["linear", "nearest"] = "linear",
    origin: Sequence[int] = (0, 0, 0),
) -> Int[Tensor, "batch 1 u v w"]:
    """Warp a class map (background 0 outside it).

    ``linear`` equals the arg-max of the trilinearly warped one-hot map (lowest class on a tie), for any
    number of classes at the same cost: only the eight neighbours of a position can win there, so each
    neighbour's weight is summed with those of its own class and the heaviest is kept.
    """
    position = identity(field.shape[2:], field, origin) + field.float()
    if mode == "nearest":
        return torch.cat([_take(c, p.round().int()) for c, p in zip(classes, position, strict=True)])[:, None]
    return torch.cat([_vote(c, p) for c, p in zip(classes, position, strict=True)])[:, None]


def _vote(classes: Tensor, position: Tensor) -> Tensor:
    base = position.floor()
    part = position - base
    first = base.int()
    corners = list(itertools.product((0, 1), repeat=3))
    labels = [_take(classes, first + torch.tensor(c, device=first.device).view(3, 1, 1, 1)) for c in corners]
    near, far = 1 - part, part
    weights = [_product([(far if c[i] else near)[i] for i in range(3)]) for c in corners]
    best, best_weight = labels[0], torch.zeros_like(weights[0])[None]
    for label in labels:
        weight = torch.zeros_like(best_weight)
        for other, w in zip(labels, weights, strict=True):
            weight += torch.where(other == label, w, 0)
        wins = (weight > best_weight) | ((weight == best_weight) & (label < best))
        best, best_weight = torch.where(wins, label, best), torch.where(wins, weight, best_weight)
    return best


def _product(factors: Sequence[Tensor]) -> Tensor:
    return factors[0] * factors[1] * factors[2]


def _take(classes: Tensor, index: Tensor) -> Tensor:
    """Class of the voxel at ``index`` (3, u, v, w) of ``classes`` (1, x, y, z); 0 outside."""
    shape = classes.shape[1:]
    inside = torch.ones_like(index[0], dtype=torch.bool)
    flat = torch.zeros_like(index[0])
    for axis, n in enumerate(shape):
        inside &= (index[axis] >= 0) & (index[axis] < n)
        flat = flat * n + index[axis].clamp(0, n - 1)
    taken = classes.reshape(-1)[flat.reshape(-1)].reshape(flat.shape)
    return torch.where(inside, taken, torch.zeros((), dtype=taken.dtype, device=taken.device))[None]


def compose(
    first: Float[Tensor, "batch 3 u v w"],
    then: Float[Tensor, "batch 3 x y z"],
    origin: Sequence[int] = (0, 0, 0),
) -> Float[Tensor, "batch 3 u v w"]:
    """Displacement of following ``first`` and then ``then``: ``first(p) + then(p + first(p))``.

    ``warp(image, compose(first, then))`` is ``warp(warp(image, then), first)`` with one interpolation.
    Outside its grid ``then`` keeps the value of the border.
    """
    return first + warp(then, first, padding="border", origin=origin)


def integrate(velocity: Float[Tensor, "batch 3 x y z"], steps: int = 7) -> Float[Tensor, "batch 3 x y z"]:
    """Displacement after unit time of a stationary velocity field, by scaling and squaring (Arsigny 2006).

    Args:
        velocity: voxels per unit time.
        steps: number of squarings; 0 returns ``velocity`` taken as a displacement.
    """
    field = velocity / 2**steps
    for _ in range(steps):
        field = compose(field, field)
    return field


def invert(field: Float[Tensor, "batch 3 x y z"], iterations: int = 30) -> Float[Tensor, "batch 3 x y z"]:
    """Inverse displacement ``v`` with ``v(p) = -u(p + v(p))``, by fixed-point iteration (Chen 2008).

    Converges where the field's slope stays below 1; elsewhere (folding) no inverse exists.
    """
    inverse = -field
    for _ in range(iterations):
        inverse = -warp(field, inverse, padding="border")
    return inverse


def resize(field: Float[Tensor, "batch 3 x y z"], shape: Sequence[int]) -> Float[Tensor, "batch 3 u v w"]:
    """Field on a grid of ``shape`` that spans the same corners; values scaled to the new voxels."""
    scale = [(new - 1) / (old - 1) for new, old in zip(shape, field.shape[2:], strict=True)]
    out = functional.interpolate(field.float(), size=tuple(shape), mode="trilinear", align_corners=True)
    return out * torch.tensor(scale, device=field.device).view(1, 3, 1, 1, 1)


def jacobian_determinant(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, "batch x y z"]:
    """Determinant of the derivative of ``p + field(p)``: local volume change, <= 0 where space folds.

    Central differences inside, one-sided at the border.
    """
    rows = []
    for i in range(3):
        slopes = list(torch.gradient(field[:, i].float(), dim=(1, 2, 3)))
        slopes[i] = slopes[i] + 1
        rows.append(slopes)
    (a, b, c), (d, e, f), (g, h, i_) = rows
    return a * (e * i_ - f * h) - b * (d * i_ - f * g) + c * (d * h - e * g)


def folding_fraction(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, " batch"]:
    """Fraction of voxels with a non-positive Jacobian determinant, in [0, 1]."""
    return (jacobian_determinant(field) <= 0).float().mean(dim=(1, 2, 3))


def sd_log_jacobian(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, " batch"]:
    """Standard deviation of the log Jacobian determinant (SDlogJ), determinants clamped to >= 1e-9.

    The clamp follows the Learn2Reg challenge's measure; a fold thus weighs heavily.
    """
    return jacobian_determinant(field).clamp(min=1e-9).log().std(dim=(1, 2, 3), unbiased=False)
