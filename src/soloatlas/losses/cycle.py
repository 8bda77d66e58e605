"""There and back again: what a reversible correspondence must give back (LT-Net, Eqs. 7-10).

The forward field lies on the scan's grid and points into the atlas, the backward field lies on the atlas's
grid and points into the warped atlas. Sums over the volume are printed in the paper; means are taken here,
since only so are the four terms weighted by lambda_2 "comparable in magnitude", as the paper says.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from soloatlas import fields
from soloatlas.losses._common import full_precision

EPSILON, GAMMA = 0.001, 0.45  # of the Charbonnier penalty; "the same setting as UnFlow"

Box = tuple[tuple[int, int], ...]  # first voxel and the one after the last, along each axis


class ClassCycle(NamedTuple):
    """One structure along the cycle, cropped to the part of the grid where any of the three is not 0.

    Attributes:
        original: its one-hot map in the atlas, (1, 1, u, v, w).
        warped: that map warped forward (trilinear).
        restored: and warped back.
        share: voxels of the part over voxels of the whole grid.
    """

    original: Tensor
    warped: Tensor
    restored: Tensor
    share: float


def charbonnier(x: Tensor) -> Tensor:
    """The generalised Charbonnier penalty (x^2 + epsilon^2)^gamma of each element (Sun 2014; LT-Net section 4).

    A robust distance: about |x|^0.9. At 0 it is 0.002, not 0.
    """
    return (x * x).add_(EPSILON**2).pow(GAMMA)


def image_cycle(atlas: Float[Tensor, "batch 1 x y z"], restored: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, ""]:
    """Mean absolute difference between the atlas and itself warped there and back.

    Eq. (7), Wang 2020 (LT-Net). In float32, in units of intensity.
    """
    return (full_precision(restored) - full_precision(atlas)).abs().mean()


def transformation_consistency(
    forward: Float[Tensor, "batch 3 x y z"], backward: Float[Tensor, "batch 3 x y z"]
) -> Float[Tensor, ""]:
    """Charbonnier penalty of where a voxel ends after the forward and the backward field: at home it is 0.002.

    Eq. (8), Wang 2020. Penalty of each component, mean over components and over the voxels whose forward
    field stays within the grid (others have no backward field to follow).

    Args:
        forward: on the scan's grid, voxels; ``backward`` on the atlas's.
    """
    residual = inverse_residual(forward, backward)
    inside = stays_inside(forward)
    return (charbonnier(residual) * inside).sum() / (3 * inside.sum().clamp(min=1))


def inverse_residual(
    forward: Float[Tensor, "batch 3 x y z"], backward: Float[Tensor, "batch 3 x y z"]
) -> Float[Tensor, "batch 3 x y z"]:
    """Displacement that is left after the forward and then the backward field, in voxels."""
    return fields.compose(full_precision(forward), full_precision(backward))


def stays_inside(field: Float[Tensor, "batch 3 x y z"]) -> Float[Tensor, "batch 1 x y z"]:
    """1 where a voxel's displacement ends within the grid, else 0."""
    position = fields.identity(field.shape[2:], field) + field.detach()
    last = torch.tensor(field.shape[2:], device=field.device).view(1, 3, 1, 1, 1) - 1
    return ((position >= 0) & (position <= last)).all(1, keepdim=True).to(position.dtype)


def anatomy_cycle(cycle: Sequence[ClassCycle], average: Literal["class", "pooled"] = "class") -> Float[Tensor, ""]:
    """Dice loss between the atlas's labels and themselves warped there and back.

    Eq. (9), Wang 2020, with squares in the denominator as in V-Net. How classes are combined is not printed:
    "class" takes the mean of their losses, "pooled" sums over classes within the fraction. In [0, 1].
    """
    both = torch.stack([(c.original * c.restored).sum() for c in cycle])
    sizes = torch.stack([c.original.square().sum() + c.restored.square().sum() for c in cycle])
    if average == "pooled":
        return 1 - 2 * both.sum() / sizes.sum()
    return (1 - 2 * both / sizes).mean()


def anatomy_difference(cycle: Sequence[ClassCycle]) -> Float[Tensor, ""]:
    """Charbonnier penalty between the change of each structure on the way there and on the way back.

    Eq. (10), Wang 2020; mean over all voxels of the grid and classes. 0.002 where the two changes are equal
    (as they are wherever the structure is nowhere near).
    """
    nothing = EPSILON ** (2 * GAMMA)
    means = []
    for c in cycle:
        change = (c.original - c.warped).abs() - (c.warped - c.restored).abs()
        means.append(charbonnier(change).mean() * c.share + nothing * (1 - c.share))
    return torch.stack(means).mean()


def cycle_labels(
    classes: Int[Tensor, "1 1 x y z"],
    boxes: Sequence[Box | None],
    forward: Float[Tensor, "1 3 x y z"],
    backward: Float[Tensor, "1 3 x y z"],
) -> list[ClassCycle]:
    """Every structure warped forward (Eq. 2) and back, differentiable in both fields.

    One class at a time and only where it can be: no one-hot map of the whole volume exists.

    Args:
        classes: class map of the atlas.
        boxes: of the classes to follow, by class; None leaves a class out. See `class_boxes`.
        forward: on the scan's grid pointing into the atlas, voxels; ``backward`` the other way.
    """
    followed = {index: box for index, box in enumerate(boxes) if box is not None}
    parts = [_slices(region) for region in _regions(followed.values(), forward, backward)]
    out = []
    for index, (x, y, z), there, back in zip(
        followed, parts, _parts(forward, parts), _parts(backward, parts), strict=True
    ):
        original = (classes[:, :, x, y, z] == index).float()
        warped = fields.warp(original, there)
        restored = fields.warp(warped, back)
        out.append(ClassCycle(original, warped, restored, original.numel() / classes.numel()))
    return out


def _regions(boxes: Iterable[Box], forward: Tensor, backward: Tensor) -> list[Box]:
    """For each box of the atlas, the part of the grid that holds it, where it is warped to, and its way back."""
    far, near = _extremes(forward), _extremes(backward)
    out = []
    for box in boxes:
        there = _reached(box, forward, far)
        out.append(_union(box, there, _reached(there, backward, near)))
    return out


def _parts(field: Tensor, parts: Sequence[tuple[slice, ...]]) -> tuple[Tensor, ...]:
    """Those parts of a field; their gradients are gathered in one volume, not in one for each."""
    return _Parts.apply(field, parts)


class _Parts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, field: Tensor, parts: Sequence[tuple[slice, ...]]) -> tuple[Tensor, ...]:
        ctx.parts, ctx.size = parts, field.shape
        return tuple(field[:, :, x, y, z].clone() for x, y, z in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        whole = gradients[0].new_zeros(ctx.size)
        for (x, y, z), gradient in zip(ctx.parts, gradients, strict=True):
            whole[:, :, x, y, z] += gradient
        return whole, None


def class_boxes(classes: Int[Tensor, "1 1 x y z"], count: int, background: bool = False) -> list[Box | None]:
    """Bounding box of each class 0 to ``count`` - 1; None for one that is absent, or is background.

    With ``background`` class 0 counts too, with the whole grid as its box.
    """
    boxes: list[Box | None] = [tuple((0, n) for n in classes.shape[2:]) if background else None]
    for index in range(1, count):
        found = classes[0, 0] == index
        lines = [found.any(a).any(b) for a, b in ((1, 1), (0, 1), (0, 0))]
        boxes.append(tuple(_ends(line) for line in lines) if bool(found.any()) else None)
    return boxes


def _ends(line: Tensor) -> tuple[int, int]:
    places = line.nonzero()
    return int(places[0]), int(places[-1]) + 1


def _reached(box: Box, field: Tensor, extremes: list[list[float]]) -> Box:
    """Voxels whose displacement can end within a voxel of ``box``: p with lo - 1 < p + u(p) < hi.

    First with the ``extremes`` of the whole field, then with those within the box found so, which is smaller and
    still holds every such voxel.
    """
    x, y, z = _slices(_within(box, field.shape[2:], extremes))
    return _within(box, field.shape[2:], _extremes(field[:, :, x, y, z]))


def _within(box: Box, shape: Sequence[int], extremes: list[list[float]]) -> Box:
    """Where voxels that move by no less and no more than ``extremes`` can reach ``box`` from."""
    return tuple(
        (max(0, min(n - 1, int(lo - 1 - b))), min(n, max(1, int(hi + 2 - a))))
        for (lo, hi), a, b, n in zip(box, *extremes, shape, strict=True)
    )


def _extremes(field: Tensor) -> list[list[float]]:
    """Least and largest displacement along each axis."""
    one = field.detach()[0]
    # NaN and infinity: as far as a field can reach. The loss is then not finite either, and is reported as such.
    found = torch.stack([one.amin((1, 2, 3)), one.amax((1, 2, 3))])
    far = float(max(one.shape[1:]))
    low, high = found.nan_to_num(far, far, -far).clamp(-far, far)
    return [torch.where(found[0].isfinite(), low, -far).tolist(), torch.where(found[1].isfinite(), high, far).tolist()]


def _union(*boxes: Box) -> Box:
    return tuple((min(lo for lo, _ in ends), max(hi for _, hi in ends)) for ends in zip(*boxes, strict=True))


def _slices(box: Box) -> tuple[slice, ...]:
    return tuple(slice(lo, hi) for lo, hi in box)
