"""What ties a registration network and a segmenter together (BRBS, He 2022)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from soloatlas import fields
from soloatlas.losses._common import full_precision


def overlap_of_maps(
    moving: Float[Tensor, "1 classes x y z"],
    fixed: Float[Tensor, "1 classes x y z"],
    field: Float[Tensor, "1 3 x y z"],
    epsilon: float = 1.0,
) -> Float[Tensor, ""]:
    """One minus the Dice overlap of structures after registration, mean over classes, background included.

    The semantic consistency of He 2022: where the structures of one image come to lie in the other. Squares in the
    denominator (V-Net), as in the published code: two equal maps of probabilities then overlap wholly. A class that
    neither image shows counts as overlapping. In [0, 1]; computed in float32, one class at a time; the gradient goes
    to the field.
    """
    losses = []
    for index in range(moving.shape[1]):
        warped, there = fields.warp(moving[:, index : index + 1], field), full_precision(fixed[:, index : index + 1])
        losses.append(
            1 - (2 * (warped * there).sum() + epsilon) / (warped.square().sum() + there.square().sum() + epsilon)
        )
    return torch.stack(losses).mean()


def warped_inverse_residual(
    forward: Float[Tensor, "batch 3 x y z"], backward: Float[Tensor, "batch 3 x y z"]
) -> Float[Tensor, "batch 3 x y z"]:
    """How far the way back is from minus the way there warped by itself, -u(p + u(p)) - v(p), in voxels.

    The inverse consistency of BRBS's code. It is 0 for inverse translations; where u has a slope a along its axis,
    v must be -a (1 + a) p, while the inverse of u is -a / (1 + a) p: the two agree to first order only.
    `losses.cycle.inverse_residual` has no such error.

    Args:
        forward: u, voxels; outside its grid it keeps the value of the border.
        backward: v.
    """
    forward, backward = full_precision(forward), full_precision(backward)
    return -fields.warp(forward, forward, padding="border") - backward


def mix_consistency(
    student: nn.Module, first: Float[Tensor, "1 1 x y z"], second: Float[Tensor, "1 1 x y z"], share: float
) -> Float[Tensor, ""]:
    """Mean squared difference between the logits of a mixed scan and the mixed logits of the two scans.

    He 2022: what is seen in a mixture of two scans is the mixture of what is seen in each. Both sides get the
    gradient, as in the published code.

    Args:
        student: returns (logits, features).
        first, second: scans; ``share`` of the first in the mixture.
    """
    target = share * student(first)[0].float() + (1 - share) * student(second)[0].float()
    found = student(share * first + (1 - share) * second)[0].float()
    return (found - target).square().mean()
