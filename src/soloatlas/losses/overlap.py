"""How well predicted classes agree with given ones.

Both losses walk through the volume in slabs, in float32, and keep only the logits for the backward pass:
with 39 classes a one-hot volume, its probabilities and their logarithms would outweigh the network. The
channels-last layout is read as it lies.
"""

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from soloatlas.losses._common import full_precision, precise, put, slabs


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
    counts = torch.bincount(classes.reshape(-1).long(), minlength=logits.shape[1])
    weights = counts.clamp(min=1).to(precise(logits)) ** -balance
    return _CrossEntropy.apply(logits, classes, weights / (weights * counts).sum())


def soft_dice(
    logits: Float[Tensor, "batch classes x y z"],
    classes: Integer[Tensor, "batch 1 x y z"],
    background: bool = False,
    epsilon: float = 1e-5,
) -> Float[Tensor, ""]:
    """One minus the Dice overlap of softmax probabilities with the given classes.

    Per scan and class 2 sum(p t) / (sum(p) + sum(t) + epsilon), after Milletari 2016 but with plain sums,
    averaged over the classes present in that scan's ``classes``, then over scans. Class 0 counts only with
    ``background``. A class absent from a scan has no overlap to gain and is left to the cross entropy; a
    scan with no class to count gives 0. Scalar in [0, 1]. Computed in float32.
    """
    return _SoftDice.apply(logits, classes, background, epsilon)


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


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(logits, classes, weights)
        total = torch.zeros((), dtype=precise(logits), device=logits.device)
        for _, _, rows, truth in _pairs(logits, classes):
            total += functional.cross_entropy(rows, truth, weights, reduction="sum")
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, classes, weights = ctx.saved_tensors
        scale = grad * weights
        result = torch.empty_like(logits)
        for sample, slab, rows, truth in _pairs(logits, classes):
            of_voxel = scale[truth][:, None]
            gradient = rows.softmax(1).mul_(of_voxel)
            gradient.scatter_add_(1, truth[:, None], -of_voxel)
            put(gradient, result, sample, slab)
        return result, None, None


class _SoftDice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, classes: Tensor, background: bool, epsilon: float) -> Tensor:
        count = logits.shape[1]
        both, predicted, given = (
            torch.zeros(len(logits), count, dtype=precise(logits), device=logits.device) for _ in range(3)
        )
        for sample, _, rows, truth in _pairs(logits, classes):
            p = rows.softmax(1)
            predicted[sample] += p.sum(0)
            both[sample].index_add_(0, truth, p.gather(1, truth[:, None])[:, 0])
            given[sample] += torch.bincount(truth, minlength=count)
        counted = given > 0
        counted[:, 0] &= background
        weight = counted.to(both.dtype) / (counted.sum(1, keepdim=True).clamp(min=1) * len(logits))
        size = predicted + given + epsilon
        ctx.save_for_backward(logits, classes, weight * 2 * both / size**2, weight * 2 / size)
        missed = 1 - 2 * both / size
        return (weight * missed).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, classes, everywhere, inside = ctx.saved_tensors
        everywhere, inside = everywhere * grad, inside * grad
        result = torch.empty_like(logits)
        for sample, slab, rows, truth in _pairs(logits, classes):
            p = rows.softmax(1)
            # d/dp is `everywhere` minus, at the given class, `inside`; then through the softmax.
            gain = (p.gather(1, truth[:, None])[:, 0] * inside[sample][truth])[:, None]
            gradient = p * (everywhere[sample] - (p @ everywhere[sample])[:, None] + gain)
            gradient.scatter_add_(1, truth[:, None], -gain)
            put(gradient, result, sample, slab)
        return result, None, None, None


def _pairs(logits: Tensor, classes: Tensor) -> Iterator[tuple[int, slice, Tensor, Tensor]]:
    """(sample, slab, logits (voxels, classes), class indices (voxels,)), slab by slab."""
    for sample, slab, rows in slabs(logits):
        yield sample, slab, rows, classes[sample, 0, slab].reshape(-1).long()
