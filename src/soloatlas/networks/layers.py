"""Convolution, normalisation and PReLU without PyTorch's slow and wrong paths on a CPU.

With 16 channels the last two cost nearly as much as the convolutions when taken from `torch.nn`: instance
norm returns another memory layout (every following convolution converts it back), group norm's and PReLU's
backward passes are not vectorised, and max-pooling leaves bf16 under autocast. The mathematics here is the
usual one; only the backward passes are written out, with a few whole-tensor operations.
"""

from collections.abc import Callable
from math import gcd
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

EPSILON = 1e-5  # added to the variance, as in every framework's instance norm


def convolve(convolution: nn.Module, x: Float[Tensor, "batch i a b c"]) -> Float[Tensor, "batch o d e f"]:
    """``convolution(x)``; on a CPU, volumes of at most two voxels along an axis in float32.

    In bf16 oneDNN (torch 2.13) returns a weight gradient with uninitialised memory in it where the first axis
    has two voxels, as the bottleneck of a scan 32 voxels long; and, on some processors, a wrong value where a
    strided output is one voxel wide (pytorch #169688). So few voxels cost nothing in float32.
    """
    if x.device.type == "cpu" and min(x.shape[2:]) <= 2:
        with torch.autocast("cpu", enabled=False):
            return convolution(x.float()).to(x.dtype)
    return convolution(x)


def normalise(x: Float[Tensor, "batch channel x y z"], groups: int) -> Float[Tensor, "batch channel x y z"]:
    """Zero mean and unit variance over the voxels and channels of each group, per scan; no scale, no shift.

    ``groups`` = channels is instance norm, ``groups`` = 1 is layer norm over channels and voxels. The memory
    layout and the type of ``x`` are kept; statistics are computed in float32 whatever the type.
    """
    if x.device.type == "cpu":
        if torch.is_grad_enabled():
            return _Normalise.apply(x, groups)
        return torch.group_norm(x, groups, eps=EPSILON)
    if groups == x.shape[1]:  # not torch.group_norm: autocast would turn it into float32
        return torch.instance_norm(x, None, None, None, None, True, 0.0, EPSILON, True)
    return torch.group_norm(x, groups, eps=EPSILON)


def prelu(x: Float[Tensor, "batch channel x y z"], slope: Float[Tensor, "1"]) -> Float[Tensor, "batch channel x y z"]:
    """``x`` where positive, ``slope * x`` elsewhere, with one learnt slope (He 2015)."""
    if x.device.type == "cpu" and torch.is_grad_enabled():
        return _PReLU.apply(x, slope)
    return functional.prelu(x, slope.to(x.dtype))


def max_pool(x: Float[Tensor, "batch channel x y z"]) -> Float[Tensor, "batch channel x//2 y//2 z//2"]:
    """Largest value of each 2x2x2 block, in the type of ``x`` (autocast would return float32)."""
    with torch.autocast(x.device.type, enabled=False):
        return functional.max_pool3d(x, 2)


class _Normalise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, groups: int) -> Tensor:
        batch, channels = x.shape[:2]
        # Unit weights in float32 make the kernel return its statistics in float32.
        ones = torch.ones(channels, dtype=_wide(x))
        out, _, inverse = torch.ops.aten.native_group_norm(
            x, ones, torch.zeros_like(ones), batch, channels, x[0, 0].numel(), groups, EPSILON
        )
        ctx.save_for_backward(out, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        out, inverse = ctx.saved_tensors  # inverse: (batch, groups), one over the standard deviation
        grad = grad.contiguous(memory_format=_layout(out))
        rows, spread = _rows(out)
        grad_rows, _ = _rows(grad)
        per_group = out.shape[1] // inverse.shape[1]

        def group_mean(product: Tensor) -> Tensor:
            sums = _channel_sums(product, out).unflatten(1, (-1, per_group)).sum(2, keepdim=True)
            return (sums / (per_group * out[0, 0].numel())).expand(-1, -1, per_group).flatten(1)

        # d/dx of the normalisation: (g - mean(g) - out * mean(g * out)) / standard deviation.
        product = rows * grad_rows
        along, mean = group_mean(product), group_mean(grad_rows)
        result = torch.mul(rows, spread(-along), out=product).add_(grad_rows).sub_(spread(mean))
        result.mul_(spread(inverse.repeat_interleave(per_group, 1)))
        return _unrows(result, out), None


class _PReLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.leaky_relu(x, slope.item())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, slope = ctx.saved_tensors
        grad = grad.contiguous(memory_format=_layout(x))
        below = x.clamp(max=0).mul_(grad)
        grad_slope = _channel_sums(_rows(below)[0], x).sum().reshape(1).to(slope.dtype)
        return torch.ops.aten.leaky_relu_backward(grad, x, slope.item(), False), grad_slope


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last_3d) and not x.is_contiguous()
    return torch.channels_last_3d if last else torch.contiguous_format


def _repeat(x: Tensor) -> int:
    """How many neighbouring voxels share a row: short rows of few channels are not vectorised."""
    return gcd(x[0, 0].numel(), max(1, 128 // x.shape[1]))


def _rows(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """A three-dimensional view of ``x`` and a function that lays (batch, channel) numbers out against it."""
    if _layout(x) is torch.channels_last_3d:
        repeat = _repeat(x)
        rows = x.permute(0, 2, 3, 4, 1).reshape(x.shape[0], -1, x.shape[1] * repeat)
        return rows, lambda values: values.to(x.dtype).repeat(1, repeat)[:, None]
    return x.reshape(x.shape[0], x.shape[1], -1), lambda values: values.to(x.dtype)[:, :, None]


def _unrows(rows: Tensor, like: Tensor) -> Tensor:
    batch, channels, *size = like.shape
    if _layout(like) is torch.channels_last_3d:
        return rows.reshape(batch, *size, channels).permute(0, 4, 1, 2, 3)
    return rows.reshape(like.shape)


def _channel_sums(rows: Tensor, like: Tensor) -> Tensor:
    """Sums over voxels, (batch, channel) float32; short partial sums keep bf16 rounding from adding up."""
    axis = 1 if _layout(like) is torch.channels_last_3d else 2
    blocks = gcd(rows.shape[axis], 256)
    sums = rows.unflatten(axis, (blocks, -1)).sum(axis + 1).to(_wide(like)).sum(axis)
    return sums.unflatten(1, (-1, like.shape[1])).sum(1)
