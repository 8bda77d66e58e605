"""The published forms that the program is compared with, written from their formulas.

VoxelMorph (Balakrishnan 2019): float32, windows summed by dense convolutions with a cube of ones, a grid kept with the
network. OS-MedSeg (Zhou 2024; its withdrawn code): float32, layers and losses as PyTorch has them, pairs made
beforehand and read from gzip NIfTI files at every step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from soloatlas.networks.layers import EPSILON
from soloatlas.networks.residual_unet import Block

Similarity = Callable[[Tensor, Tensor], Tensor]


def dense_correlation(fixed: Tensor, warped: Tensor, window: int = 9) -> Tensor:
    """VoxelMorph's local correlation: sums over windows, zeros beyond the border, 1e-5 under the fraction."""
    cube = torch.ones(1, 1, window, window, window, dtype=fixed.dtype, device=fixed.device)
    products = (fixed, warped, fixed * fixed, warped * warped, fixed * warped)
    f, w, ff, ww, fw = (functional.conv3d(x, cube, padding=window // 2) for x in products)
    size = window**3
    mean_f, mean_w = f / size, w / size
    cross = fw - mean_w * f - mean_f * w + mean_f * mean_w * size
    variance_f = ff - 2 * mean_f * f + mean_f * mean_f * size
    variance_w = ww - 2 * mean_w * w + mean_w * mean_w * size
    return -(cross * cross / (variance_f * variance_w + 1e-5)).mean()


def matching_epsilon(window: int = 9) -> float:
    """What ours has to add to its products of variances to be `dense_correlation`, whose sums are not means."""
    return 1e-5 / window**6


def diffusion(field: Tensor) -> Tensor:
    """Squared forward differences, averaged over voxels and over the three axes."""
    x = (field[:, :, 1:] - field[:, :, :-1]) ** 2
    y = (field[:, :, :, 1:] - field[:, :, :, :-1]) ** 2
    z = (field[:, :, :, :, 1:] - field[:, :, :, :, :-1]) ** 2
    return (x.mean() + y.mean() + z.mean()) / 3


class SpatialTransformer(nn.Module):
    """Warp with a grid made once for one size of image and stored in checkpoints."""

    grid: Tensor

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        axes = [torch.arange(n, dtype=torch.float32) for n in shape]
        self.register_buffer("grid", torch.stack(torch.meshgrid(*axes, indexing="ij"))[None])

    def forward(self, image: Tensor, field: Tensor) -> Tensor:
        """``image`` at each voxel's position plus ``field``."""
        position = self.grid + field
        scaled = [2 * (position[:, i] / (n - 1) - 0.5) for i, n in enumerate(image.shape[2:])]
        return functional.grid_sample(image, torch.stack(scaled[::-1], -1), align_corners=True)


def registration_loss(
    network: nn.Module,
    transformer: nn.Module,
    moving: Tensor,
    fixed: Tensor,
    similarity: Similarity,
    half: torch.dtype | None = None,
) -> Tensor:
    """VoxelMorph's loss with weight 1; the network under autocast to ``half``, the rest in float32."""
    with torch.autocast(fixed.device.type, dtype=half, enabled=half is not None):
        field = network(moving, fixed).field
    return similarity(fixed, transformer(moving, field)) + diffusion(field)


class PlainBlock(nn.Module):
    """Convolution, instance norm and PReLU by PyTorch's own layers, with the weights of one of our blocks."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """What our block computes with `soloatlas.networks.layers`."""
        x = functional.instance_norm(self.block.conv(x), eps=EPSILON)
        return functional.prelu(x, self.block.slope.to(x.dtype))


def contiguous(network: nn.Module) -> nn.Module:
    """A copy of ``network`` with channels first, as PyTorch makes it."""
    return copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


def plain(network: nn.Module, last: bool = False) -> nn.Module:
    """A copy of ``network`` with a `PlainBlock` in the place of each block, channels first (or ``last``)."""
    return _replaced(copy.deepcopy(network) if last else contiguous(network))


def _replaced(network: nn.Module) -> nn.Module:
    for name, child in list(network.named_children()):
        setattr(network, name, PlainBlock(child) if isinstance(child, Block) else _replaced(child))
    return network


def distillation_loss(
    student: nn.Module,
    teacher: nn.Module,
    pair: Sequence[Tensor],
    half: torch.dtype | None = None,
) -> Tensor:
    """Eq. 12 with weights of 1: cross entropy, squared error, one minus the cosine of two levels' features.

    Args:
        pair: synthetic scan, its class map, the real scan, (1, 1, x, y, z).
        half: type of the autocast; None: float32.
    """
    synthetic, classes, real = pair
    with torch.autocast(real.device.type, dtype=half, enabled=half is not None):
        logits, features = student(synthetic)
        reconstruction, guidance = teacher(real)
    levels = zip(features[:2], guidance[:2], strict=True)
    hint = [1 - functional.cosine_similarity(s.float().flatten(1), t.float().flatten(1)).mean() for s, t in levels]
    segmentation = functional.cross_entropy(logits.float(), classes[:, 0].long())
    return segmentation + functional.mse_loss(reconstruction.float(), real) + torch.stack(hint).sum()


class Triples(Dataset[tuple[Tensor, ...]]):
    """Synthetic scan, class map and real scan of each number, decoded from gzip whenever they are asked for."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.count = folder, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> tuple[Tensor, ...]:
        import nibabel

        paths = [self.folder / f"{kind}_{number}.nii.gz" for kind in ("synthetic", "classes", "real")]
        return tuple(torch.from_numpy(nibabel.load(path).get_fdata(dtype=np.float32))[None] for path in paths)


def forever(triples: Triples, device: str) -> Iterator[list[Tensor]]:
    """Batches of one triple, again and again, by a loader in this process as in the withdrawn code."""
    while True:
        for batch in DataLoader(triples, batch_size=1):
            yield [x.to(device) for x in batch]
