"""What an appearance model minimises (DataAug, Zhao 2019)."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from soloatlas.losses._common import full_precision


def change_smoothness(
    change: Float[Tensor, "batch 1 x y z"], contours: Float[Tensor, "1 1 x y z"]
) -> Float[Tensor, ""]:
    """Mean absolute first difference of a change of intensity, except across the contours of the labels.

    The smoothness of Zhao 2019, section 3.2.2: intensities may jump where one structure ends. Scalar of at least 0,
    intensity per voxel, in float32.

    Args:
        change: added to the atlas.
        contours: 1 on the contours, else 0; see `label_contours`.
    """
    change = full_precision(change)
    kept = 1 - contours
    terms = []
    for axis in (2, 3, 4):
        n = change.shape[axis] - 1
        # A difference counts where neither of its two voxels lies on a contour.
        both = kept.narrow(axis, 0, n) * kept.narrow(axis, 1, n)
        terms.append((change.diff(dim=axis).abs() * both).mean())
    return torch.stack(terms).mean()


def label_contours(classes: Int[Tensor, "1 1 x y z"]) -> Float[Tensor, "1 1 x y z"]:
    """1 for voxels with a neighbour (across a face) of another class, else 0."""
    found = torch.zeros_like(classes, dtype=torch.bool)
    for axis in (2, 3, 4):
        n = classes.shape[axis] - 1
        apart = classes.narrow(axis, 0, n) != classes.narrow(axis, 1, n)
        size = [0, 0] * (4 - axis)
        found |= functional.pad(apart, [*size, 0, 1]) | functional.pad(apart, [*size, 1, 0])
    return found.float()
