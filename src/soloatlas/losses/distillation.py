"""How far the student's features are from the teacher's (the hint)."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from soloatlas.losses._common import full_precision, precise, put, slabs

HintMode = Literal["flat", "voxel", "flat_batch"]


def hint_cosine(
    student_features: Sequence[Float[Tensor, "batch _ _ _ _"]],
    teacher_features: Sequence[Float[Tensor, "batch _ _ _ _"]],
    mode: HintMode = "flat",
) -> Float[Tensor, ""]:
    """One minus the cosine between the two networks' features, summed over levels, mean over scans.

    Eqs. (3) and (4), Zhou 2024, whose N is read as the number of levels. What is one feature vector is not
    printed; three readings:

    - "flat": a scan's whole feature map at a level;
    - "voxel": the channels at one voxel, the cosine then averaged over voxels;
    - "flat_batch": the whole batch's feature map at a level (the withdrawn code).

    Both networks receive a gradient unless the caller detaches one. Scalar from 0 to twice the number of
    levels; a feature vector of zeros has cosine 0. Computed in float32, slab by slab.
    """
    pairs = zip(student_features, teacher_features, strict=True)
    mean_cosine = _VoxelCosine.apply if mode == "voxel" else _flat_batch if mode == "flat_batch" else _flat
    return torch.stack([1 - mean_cosine(student, teacher) for student, teacher in pairs]).sum()


def hint_l2(
    student_features: Sequence[Float[Tensor, "batch _ _ _ _"]],
    teacher_features: Sequence[Float[Tensor, "batch _ _ _ _"]],
) -> Float[Tensor, ""]:
    """Mean squared difference between the two networks' features, summed over levels.

    The L2 alternative of Table V, Zhou 2024 (Yim 2017). Scalar of at least 0. Computed in float32.
    """
    pairs = zip(student_features, teacher_features, strict=True)
    return torch.stack([functional.mse_loss(full_precision(s), full_precision(t)) for s, t in pairs]).sum()


def _flat(a: Tensor, b: Tensor) -> Tensor:
    return _cosine(_Products.apply(a, b)).mean()


def _flat_batch(a: Tensor, b: Tensor) -> Tensor:
    return _cosine(_Products.apply(a, b).sum(1))


def _cosine(products: Tensor) -> Tensor:
    """Cosines from the inner products (a.a, a.b, b.b) along the first axis."""
    aa, ab, bb = products
    tiny = torch.finfo(products.dtype).tiny
    return ab / (aa.clamp(min=tiny).sqrt() * bb.clamp(min=tiny).sqrt())


class _Products(torch.autograd.Function):
    """(a.a, a.b, b.b) of each scan's feature maps, (3, batch); keeps the maps as they are, nothing else."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        sums = torch.zeros(3, len(a), dtype=precise(a), device=a.device)
        for sample, _, s, t in slabs(a, b):
            sums[:, sample] += torch.stack([(s * s).sum(), (s * t).sum(), (t * t).sum()])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        by_a, by_b = (torch.empty_like(a) if wanted else None for wanted in ctx.needs_input_grad)
        for sample, slab, s, t in slabs(a, b):
            g_aa, g_ab, g_bb = grad[:, sample]
            if by_a is not None:
                put((2 * g_aa) * s + g_ab * t, by_a, sample, slab)
            if by_b is not None:
                put((2 * g_bb) * t + g_ab * s, by_b, sample, slab)
        return by_a, by_b


class _VoxelCosine(torch.autograd.Function):
    """Mean over scans and voxels of the cosine over channels; keeps the maps as they are, nothing else."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        total = torch.zeros((), dtype=precise(a), device=a.device)
        for _, _, s, t in slabs(a, b):
            total += _cosine(_row_products(s, t)).sum()
        return total / (a.numel() // a.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        a, b = ctx.saved_tensors
        by_a, by_b = (torch.empty_like(a) if wanted else None for wanted in ctx.needs_input_grad)
        scale = grad / (a.numel() // a.shape[1])
        for sample, slab, s, t in slabs(a, b):
            products = _row_products(s, t)
            cosine = scale * _cosine(products)
            aa, _, bb = products.clamp_(min=torch.finfo(s.dtype).tiny)
            across = (scale / (aa.sqrt() * bb.sqrt()))[:, None]
            if by_a is not None:
                put(across * t - (cosine / aa)[:, None] * s, by_a, sample, slab)
            if by_b is not None:
                put(across * s - (cosine / bb)[:, None] * t, by_b, sample, slab)
        return by_a, by_b


def _row_products(s: Tensor, t: Tensor) -> Tensor:
    return torch.stack([(s * s).sum(1), (s * t).sum(1), (t * t).sum(1)])
