"""What the losses share: float32 arithmetic, slabs of a volume, scalars whose gradient is known already."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def precise(x: Tensor) -> torch.dtype:
    """float32, or float64 where ``x`` is."""
    return torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> Tensor:
    """``x`` in `precise` type."""
    return x.to(precise(x))


def slabs(*volumes: Tensor) -> Iterator[Any]:
    """(sample, slab along x, rows of each volume): rows (voxels, channels) in float32, a few MB at a time.

    ``volumes`` (batch, channel, x, y, z) have one shape. Channels-last volumes are read as they lie.
    """
    first = volumes[0]
    thick = max(1, (2**19 if first.device.type == "cpu" else 2**26) // first[0, :, 0].numel())
    for sample in range(len(first)):
        for start in range(0, first.shape[2], thick):
            slab = slice(start, start + thick)
            pieces = (volume[sample, :, slab].movedim(0, -1) for volume in volumes)
            yield sample, slab, *(full_precision(p.reshape(-1, first.shape[1])) for p in pieces)


def put(rows: Tensor, volume: Tensor, sample: int, slab: slice) -> None:
    """Write rows (voxels, channels) back to where `slabs` took them."""
    piece = volume[sample, :, slab]
    piece.copy_(rows.reshape(*piece.shape[1:], -1).movedim(-1, 0))


def with_gradients(value: Tensor, *pairs: tuple[Tensor, Tensor | None]) -> Tensor:
    """``value`` (a scalar) with the given gradients: pairs of (input, gradient or None).

    A loss that finds its gradient on the way to its value keeps one tensor per input for the backward pass,
    instead of every intermediate volume.
    """
    inputs, gradients = zip(*pairs, strict=True)
    return _Precomputed.apply(value, gradients, *inputs)


def wanted(x: Tensor) -> bool:
    """Whether a backward pass may ask for the gradient with respect to ``x``."""
    return x.requires_grad and torch.is_grad_enabled()


class _Precomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor | None, ...], *inputs: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        ctx.types = [x.dtype for x in inputs]
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if g is None else (g * grad).to(dtype) for g, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        ]
        return None, None, *scaled
