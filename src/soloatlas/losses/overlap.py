"""How well predicted classes agree with given ones.

The losses walk through the volume in slabs, in float32, and keep only the logits for the backward pass:
with 39 classes a one-hot volume, its probabilities and their logarithms would outweigh the network. The
channels-last layout is read as it lies, and where both losses are wanted it is read once for the two.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from soloatlas.losses._common import full_precision, precise, put, slabs

EPSILON = 1e-5  # added to the denominator of soft Dice


def cross_entropy(
    logits: Float[Tensor, "batch classes x y z"], classes: Integer[Tensor, "batch 1 x y z"], balance: float = 0.0
) -> Float[Tensor, ""]:
    """Mean over voxels of minus the logarithm of the softmax probability of the given class.

    Eq. (11), Zhou 2024, with hard labels: the sum over classes has one term. Scalar of at least 0, nats;
    log(classes) for equal logits. ``classes`` holds indices 0 to classes - 1. Computed in float32.

    Args:
        balance: the mean is weighted by (voxels of the voxel's class in the batch) to the power of minus this.
            0: every voxel counts the same, as printed; 1: every class that is there.
    """
    return _Agreement.apply(logits, classes, _weights(logits, classes, balance), None)[0]


def soft_dice(
    logits: Float[Tensor, "batch classes x y z"],
    classes: Integer[Tensor, "batch 1 x y z"],
    background: bool = False,
    epsilon: float = EPSILON,
) -> Float[Tensor, ""]:
    """One minus the Dice overlap of softmax probabilities with the given classes.

    Per scan and class 2 sum(p t) / (sum(p) + sum(t) + epsilon), after Milletari 2016 but with plain sums,
    averaged over the classes present in that scan's ``classes``, then over scans. Class 0 counts only with
    ``background``. A class absent from a scan has no overlap to gain and is left to the cross entropy; a
    scan with no class to count gives 0. Scalar in [0, 1]. Computed in float32.
    """
    return _Agreement.apply(logits, classes, None, (background, epsilon))[1]


def cross_entropy_and_dice(
    logits: Float[Tensor, "batch classes x y z"], classes: Integer[Tensor, "batch 1 x y z"], balance: float = 0.0
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """`cross_entropy` and `soft_dice` (of the structures alone), the logits read once for the two."""
    return _Agreement.apply(logits, classes, _weights(logits, classes, balance), (False, EPSILON))


def log_target_error(
    logits: Float[Tensor, "batch classes x y z"], classes: Integer[Tensor, "batch 1 x y z"], floor: float = -100.0
) -> Float[Tensor, ""]:
    """Mean squared difference between logits and the logarithm of the one-hot classes, cut off at ``floor``.

    The target is 0 for the given class and ``floor`` for the others. DataAug's code (Zhao 2019) begins its segmenter's
    training so, with -100. Mean over voxels and classes, in float32; scalar of at least 0.
    """
    logits = full_precision(logits)
    target = torch.full_like(logits, floor).scatter_(1, classes.long(), 0.0)
    return functional.mse_loss(logits, target)


def _weights(logits: Tensor, classes: Tensor, balance: float) -> Tensor:
    """What a voxel of each class weighs in the cross entropy; over all voxels 1."""
    counts = torch.bincount(classes.reshape(-1).long(), minlength=logits.shape[1])
    weights = counts.clamp(min=1).to(precise(logits)) ** -balance
    return weights / (weights * counts).sum()


class _Agreement(torch.autograd.Function):
    """Weighted cross entropy, given ``weights``, and soft Dice, given ``overlap``: (background, epsilon)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, classes: Tensor, weights: Tensor | None, overlap: tuple[bool, float] | None
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        both, predicted, given = torch.zeros(3, *logits.shape[:2], dtype=precise(logits), device=logits.device)
        entropy = both.new_zeros(())
        for sample, _, rows, truth in _pairs(logits, classes):
            logarithms = rows.log_softmax(1)
            chosen = logarithms.gather(1, truth[:, None])[:, 0]
            if weights is not None:
                entropy -= (weights[truth] * chosen).sum()  # not @: autocast would round it
            if overlap is not None:
                predicted[sample] += logarithms.exp_().sum(0)
                # In float64: a running sum in float32 is off by per cents after a million voxels.
                both[sample] += torch.bincount(truth, chosen.exp().double(), logits.shape[1]).to(both.dtype)
                given[sample] += torch.bincount(truth, minlength=logits.shape[1])
        missed, everywhere, inside = _missed_overlap(both, predicted, given, *(overlap or (False, EPSILON)))
        ctx.save_for_backward(logits, classes, weights, everywhere, inside)
        return entropy, missed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_entropy: Tensor | None, of_overlap: Tensor | None) -> tuple[Tensor | None, ...]:
        logits, classes, weights, everywhere, inside = ctx.saved_tensors
        result = torch.empty_like(logits)
        for sample, slab, rows, truth in _pairs(logits, classes):
            p = rows.softmax(1)
            # d/d logits: p * (slope - sum(p * slope)), as of any softmax, and, of what the given class alone gains
            # (`own`), p * own everywhere and -own at that class.
            own = torch.zeros(len(rows), dtype=p.dtype, device=p.device)
            if of_entropy is not None and weights is not None:
                own += weights[truth] * of_entropy
            if of_overlap is None:
                gradient = p.mul_(own[:, None])
            else:
                slope = everywhere[sample] * of_overlap
                own += p.gather(1, truth[:, None])[:, 0] * inside[sample][truth] * of_overlap
                gradient = p.mul_((own - p @ slope)[:, None] + slope)
            put(gradient.scatter_add_(1, truth[:, None], -own[:, None]), result, sample, slab)
        return result, None, None, None


def _missed_overlap(
    both: Tensor, predicted: Tensor, given: Tensor, background: bool, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Soft Dice loss from each scan's and class's sums, (batch, classes), and its slopes.

    The slope with respect to a probability is the first of the two, minus, at the given class, the second.
    """
    counted = given > 0
    counted[:, 0] &= background
    weight = counted.to(both.dtype) / (counted.sum(1, keepdim=True).clamp(min=1) * len(both))
    size = predicted + given + epsilon
    return (weight * (1 - 2 * both / size)).sum(), weight * 2 * both / size**2, weight * 2 / size


def _pairs(logits: Tensor, classes: Tensor) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
    """(sample, slab, logits (voxels, classes), class indices (voxels,)), slab by slab."""
    for sample, slab, rows in slabs(logits):
        yield sample, slab, rows, classes[sample, 0, slab].reshape(-1).long()
