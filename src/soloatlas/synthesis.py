"""Atlas + field + appearance -> labelled pairs, on the device (OS-MedSeg III-A, Eq. 1)."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from soloatlas import fields


class Pair(NamedTuple):
    """A synthetic labelled scan and the real scan it imitates, voxel for voxel on one grid.

    Attributes:
        synthetic: the atlas warped to the scan, (batch, 1, x, y, z).
        labels: its class map, same shape, exact by construction.
        real: the scan, under the same spatial change as the other two.
    """

    synthetic: Tensor
    labels: Tensor
    real: Tensor


def synthesise_pair(
    atlas: Float[Tensor, "1 1 x y z"],
    classes: Int[Tensor, "1 1 x y z"],
    scan: Float[Tensor, "1 1 x y z"],
    field: Float[Tensor, "1 3 x y z"],
    displacement: Float[Tensor, "1 3 u v w"] | None = None,
    label_warp: Literal["linear", "nearest"] = "linear",
    origin: Sequence[int] = (0, 0, 0),
) -> Pair:
    """Warp the atlas and its labels to a scan (Eq. 1), all three under one further spatial change.

    Args:
        atlas: image of the atlas; ``classes`` its class map.
        scan: the unlabelled scan that ``field`` registers the atlas to.
        field: displacement on the scan's grid pointing into the atlas, voxels.
        displacement: a spatial change of the pair (augmentation), on the part of the grid that starts at
            ``origin``; None leaves the pair where the scan is.
        label_warp: see `fields.warp_labels`.

    The change is composed with the field, so atlas and labels are interpolated once.
    """
    if displacement is None:
        return Pair(fields.warp(atlas, field), fields.warp_labels(classes, field, label_warp), scan)
    whole = fields.compose(displacement, field, origin)
    return Pair(
        fields.warp(atlas, whole, origin=origin),
        fields.warp_labels(classes, whole, label_warp, origin),
        fields.warp(scan, displacement, origin=origin),
    )


def match_histogram(
    image: Float[Tensor, "1 1 x y z"], reference: Float[Tensor, "1 1 x y z"], levels: int = 64
) -> Float[Tensor, "1 1 x y z"]:
    """Give ``image`` the intensity distribution of ``reference``, by a monotone piecewise-linear curve.

    Only voxels above 0 count and change: the empty background stays empty.
    """
    inside = image > 0
    steps = torch.linspace(0, 1, levels, device=image.device)
    source, target = _quantiles(image[inside], steps), _quantiles(reference[reference > 0], steps)
    if source is None or target is None:
        return image
    place = torch.searchsorted(source, image.contiguous()).clamp(1, levels - 1)
    low, high = source[place - 1], source[place]
    part = ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return torch.where(inside, target[place - 1] + part * (target[place] - target[place - 1]), image)


def matched_atlases(
    atlas: Float[Tensor, "1 1 x y z"], scan_of: Callable[[int], Tensor], room: float
) -> Callable[[int], Tensor]:
    """The atlas with the intensity distribution of scan ``n``, as a function of n (`match_histogram`).

    Each is made once and kept in float16, as the pool is, as far as ``room`` (bytes) goes.
    """

    @lru_cache(maxsize=int(room / (2 * atlas.numel())))
    def matched(item: int) -> Tensor:
        return match_histogram(atlas, scan_of(item)).half()

    return lambda item: matched(item).to(atlas.dtype)


def _quantiles(values: Tensor, steps: Tensor) -> Tensor | None:
    """Quantiles of a sample of the values (torch.quantile refuses more than 16 million)."""
    if values.numel() < len(steps):
        return None
    thinned = values.float()[:: max(1, values.numel() // 100_000)]
    return torch.quantile(thinned, steps)
