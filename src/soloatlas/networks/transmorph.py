"""TransMorph: a Swin transformer encodes both images, convolutions decode the field.

J. Chen et al., "TransMorph: Transformer for unsupervised medical image registration", Medical Image Analysis
2022. The Swin layers are MONAI's.
"""

import functools
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import avg_pool3d, interpolate, leaky_relu, pad

from soloatlas.errors import InputError
from soloatlas.networks.layers import convolve, normalise
from soloatlas.networks.registration import RegistrationOutput, double_field

PATCH = 4  # voxels of an embedded patch along each axis
DEPTHS, HEADS = (2, 2, 4, 2), (4, 4, 8, 8)
DROP_PATH = 0.3  # of the deepest block, rising linearly from 0
MULTIPLE = 32  # the patch and three mergings


class TransMorph(nn.Module):
    """TransMorph without integration (46.7 million parameters at its own width).

    Images are padded with zeros to a multiple of 32 voxels and the field is cropped: any size will do. The
    paper's window is 1/32 of the volume; here it is that of its 160x192x224 volumes for every size (a window
    larger than a feature map shrinks to it).

    Args:
        channels: widths of the four stages, each twice the one before; the first is the patches' embedding.
        half_resolution: leave out the full-size decoder block and double the field linearly, sizes and values.
        window: voxels of a stage's attention window.

    Raises:
        InputError: the widths do not double.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (96, 192, 384, 768),
        half_resolution: bool = False,
        window: tuple[int, int, int] = (5, 6, 7),
    ) -> None:
        super().__init__()
        from monai.networks.nets.swin_unetr import BasicLayer, PatchMergingV2

        if any(b != 2 * a for a, b in pairwise(channels)) or channels[0] % 8:
            raise InputError("transmorph: registration.channels are multiples of 8, each twice the one before")

        self.half_resolution = half_resolution
        narrow, *_ = channels
        half, full = narrow // 2, max(3, narrow // 6)
        self.embed = nn.Conv3d(2, narrow, PATCH, stride=PATCH)
        self.embed_norm = nn.LayerNorm(narrow)
        rates = torch.linspace(0, DROP_PATH, sum(DEPTHS)).split(list(DEPTHS))
        self.stages = nn.ModuleList(
            BasicLayer(width, depth, heads, window, drop_path=rate.tolist(), mlp_ratio=4.0, qkv_bias=False)
            for width, depth, heads, rate in zip(channels, DEPTHS, HEADS, rates, strict=True)
        )
        for stage in self.stages:
            _know_positions(stage, window)
        self.merges = nn.ModuleList(PatchMergingV2(width) for width in channels[:-1])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in channels)
        self.at_half, self.at_full = _Layer(2, half), _Layer(2, full)
        widths = [channels[2], channels[1], channels[0], half, full][: 4 if half_resolution else 5]
        inputs = [channels[3], *widths[:-1]]
        self.decoder = nn.ModuleList(
            nn.Sequential(_Layer(i + skip, skip), _Layer(skip, skip)) for i, skip in zip(inputs, widths, strict=True)
        )
        self.flow = nn.Conv3d(widths[-1], 3, 3, padding=1)
        nn.init.normal_(self.flow.weight, std=1e-5)  # training starts from the identity
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(
        self, moving: Float[Tensor, "atlases 1 x y z"], fixed: Float[Tensor, "batch 1 x y z"]
    ) -> RegistrationOutput:
        """Register ``moving`` (one image for the whole batch, or one each) to ``fixed``; any size."""
        shape = fixed.shape[2:]
        pair = _padded(torch.cat([moving.expand_as(fixed), fixed], 1))
        skips = self._encode(pair)
        skips.append(self.at_half(avg_pool3d(pair, 2)))
        if not self.half_resolution:
            skips.append(self.at_full(pair))
        x, *rest = skips
        for block, skip in zip(self.decoder, rest, strict=True):
            x = interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skip.to(x.dtype)], 1))
        with torch.autocast(x.device.type, enabled=False):
            field = self.flow(x.float())
        field = double_field(field) if self.half_resolution else field
        return RegistrationOutput(field[:, :, : shape[0], : shape[1], : shape[2]])

    def _encode(self, pair: Tensor) -> list[Tensor]:
        """Normalised features of the four stages, the deepest first."""
        x = _last(self.embed(pair))
        x = _first(self.embed_norm(x))
        levels: list[Tensor] = []
        for depth, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            _know_positions(stage, x.shape[2:], x.device)
            x = stage(x)
            levels.insert(0, _first(norm(_last(x))))
            if depth < len(self.merges):
                x = _first(self.merges[depth](_last(x)))
        return levels


def _know_positions(stage: nn.Module, size: Sequence[int], device: torch.device | None = None) -> None:
    """Give every offset within a window its own bias, also where a map of this size is smaller than the window.

    MONAI cuts the positions of the whole window short there, and equal offsets get different biases. Nothing of it is
    kept with the weights.
    """
    table: tuple[int, int, int] = stage.window_size  # type: ignore[assignment]
    window = tuple(min(n, w) for n, w in zip(size, table, strict=True))
    found = torch.from_numpy(relative_positions(window, table)).to(device)
    for block in stage.blocks:  # type: ignore[union-attr]
        block.attn.register_buffer("relative_position_index", found, persistent=False)


@functools.cache
def relative_positions(window: tuple[int, ...], table: tuple[int, ...]) -> np.ndarray:
    """(n, n) rows, in a table of biases, of the offsets between the n voxels of ``window``.

    The table holds each offset within a window of the size ``table``, the last axis running fastest.
    """
    voxels = np.indices(window).reshape(len(window), -1)
    offsets = voxels[:, :, None] - voxels[:, None, :] + np.reshape(table, (-1, 1, 1)) - 1
    return np.ravel_multi_index(tuple(offsets), tuple(2 * n - 1 for n in table)).astype(np.int64)


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = convolve(self.conv, x)
        return leaky_relu(normalise(x, x.shape[1]), 0.01)


def _last(x: Tensor) -> Tensor:
    return x.movedim(1, -1)


def _first(x: Tensor) -> Tensor:
    return x.movedim(-1, 1)


def _padded(x: Tensor) -> Tensor:
    """With zeros behind the end of each axis, up to a multiple of 32."""
    missing: Sequence[int] = [-n % MULTIPLE for n in x.shape[2:]]
    return pad(x, [n for size in reversed(missing) for n in (0, size)])
