"""Networks that find the displacement field from the atlas to a scan.

G. Balakrishnan et al., "VoxelMorph", IEEE TMI 2019 (the U-Net with strided convolutions).
L. Liu et al., "Contrastive registration", IEEE TNNLS 2023 (weight-shared encoders, contrastive features).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.networks.layers import convolve, max_pool
from soloatlas.networks.residual_unet import require_multiple


class RegistrationOutput(NamedTuple):
    """What a registration network returns, in float32.

    Attributes:
        field: displacement in voxels; channel i moves along axis i; warp(moving, field) resembles fixed.
        moving_features: unit-length features of the moving images for the contrastive loss; None where a
            network has none.
        fixed_features: likewise of the fixed images.
        mean, log_deviation: of the Gaussian that the field is drawn from, voxels, on the decoder's own grid; None
            where a network draws none.
    """

    field: Float[Tensor, "batch 3 x y z"]
    moving_features: Float[Tensor, "batch features"] | None = None
    fixed_features: Float[Tensor, "batch features"] | None = None
    mean: Float[Tensor, "batch 3 u v w"] | None = None
    log_deviation: Float[Tensor, "batch 3 u v w"] | None = None


class SiameseRegistration(nn.Module):
    """The paper's registration network: one encoder for both images, skips, a field (Zhou 2024, III-A.1).

    The encoder halves the size four times by strided convolutions; at every scale the two images' features
    (at full size the images themselves) are concatenated and handed to the decoder. Convolutions are 3x3x3
    with LeakyReLU(0.2) and no normalisation. Contrastive features: global average of the deepest encoder
    output, one linear layer per stream, unit length.

    Args:
        channels: encoder widths at 1/2, 1/4, 1/8 and 1/16. The default is the paper's doubled width
            (1 591 779 parameters); (16, 32, 32, 32) is the undoubled one.
        half_resolution: end the decoder at half the size and double the field linearly, sizes and values. A
            fraction of the time and memory, for large grids; the number of parameters stays the same.
    """

    def __init__(self, channels: tuple[int, int, int, int] = (32, 64, 64, 64), half_resolution: bool = False) -> None:
        super().__init__()
        deep = channels[-1]
        self.encoder = nn.ModuleList(_Layer(i, o, stride=2) for i, o in zip((1, *channels), channels, strict=False))
        self.decoder = _Decoder(channels, [2 * c for c in channels], half_resolution)
        self.project_moving = nn.Linear(deep, deep)
        self.project_fixed = nn.Linear(deep, deep)

    def forward(
        self, moving: Float[Tensor, "atlases 1 x y z"], fixed: Float[Tensor, "batch 1 x y z"]
    ) -> RegistrationOutput:
        """Register ``moving`` (one image for the whole batch, or one each) to ``fixed``.

        Raises:
            InputError: a size is no multiple of 16.
        """
        require_multiple(fixed, 2 ** len(self.encoder), "SiameseRegistration")
        moving_levels, fixed_levels = self._encode(moving), self._encode(fixed)
        batch = len(fixed)
        joined = [
            torch.cat([m.expand(batch, *m.shape[1:]), f], 1) for m, f in zip(moving_levels, fixed_levels, strict=True)
        ]
        with torch.autocast(fixed.device.type, enabled=False):
            m = embed(moving_levels[-1], self.project_moving)
            f = embed(fixed_levels[-1], self.project_fixed)
        return RegistrationOutput(self.decoder(joined), m.expand(batch, -1), f)

    def _encode(self, image: Tensor) -> list[Tensor]:
        levels = [image]
        for convolution in self.encoder:
            levels.append(convolution(levels[-1]))
        return levels


class VoxelMorph(nn.Module):
    """The U-Net of VoxelMorph: both images enter one encoder as two channels (Balakrishnan 2019).

    Strided convolutions halve the size four times; otherwise as `SiameseRegistration`.

    Args:
        channels: encoder widths. The default, with decoder widths 32, 32, 32, 32, 32, 16, 16, is the one of
            the TMI paper's VoxelMorph-2 (301 411 parameters); (8, 32, 32, 32) is VoxelMorph-1 (274 387).
        half_resolution: as in `SiameseRegistration`.
        pooled: convolve at full size and halve by max-pooling, as the authors' PyTorch code and MONAI do
            (327 331 parameters), instead of by strides as in the paper.
        short: two convolutions at full size, of half the first width, instead of three: with the default channels
            the six decoder widths 32, 32, 32, 32, 8, 8 of the CVPR 2018 paper's VoxelMorph-1.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (16, 32, 32, 32),
        half_resolution: bool = False,
        pooled: bool = False,
        short: bool = False,
    ) -> None:
        super().__init__()
        self.pooled = pooled
        stride = 1 if pooled else 2
        self.encoder = nn.ModuleList(
            _Layer(i, o, stride=stride) for i, o in zip((2, *channels), channels, strict=False)
        )
        # From full size down: the features that the decoder is given.
        features = [*channels, channels[-1]] if pooled else [2, *channels]
        self.decoder = _Decoder(channels, features[1:], half_resolution, features[0], short)

    def forward(
        self, moving: Float[Tensor, "atlases 1 x y z"], fixed: Float[Tensor, "batch 1 x y z"]
    ) -> RegistrationOutput:
        """Register ``moving`` (one image for the whole batch, or one each) to ``fixed``.

        Raises:
            InputError: a size is no multiple of 16.
        """
        require_multiple(fixed, 2 ** len(self.encoder), "VoxelMorph")
        x = torch.cat([moving.expand_as(fixed), fixed], 1)
        levels = [] if self.pooled else [x]
        for convolution in self.encoder:
            x = convolution(x)
            levels.append(x)
            x = max_pool(x) if self.pooled else x
        return RegistrationOutput(self.decoder([*levels, x] if self.pooled else levels))


class _Decoder(nn.Module):
    """From features at every scale to a field: convolution, nearest doubling, skip, four times over.

    Args:
        channels: widths of the encoder, which the decoder's follow.
        skips: channels of the features at 1/2, 1/4, 1/8 and 1/16.
        half_resolution: end at half the size and double the field.
        full: channels at full size; the two images by default.
        short: as in `VoxelMorph`.
    """

    def __init__(
        self, channels: Sequence[int], skips: Sequence[int], half_resolution: bool, full: int = 2, short: bool = False
    ) -> None:
        super().__init__()
        deep = channels[-1]
        widths = [channels[0] // 2] * 2 if short else [deep, channels[0], channels[0]]
        self.half_resolution = half_resolution
        deepest, *inner = skips[::-1]
        self.levels = nn.ModuleList(_Layer(i, deep) for i in (deepest, *(deep + skip for skip in inner)))
        self.refine = nn.Sequential(*(_Layer(i, o) for i, o in zip([deep + full, *widths], widths, strict=False)))
        self.flow = nn.Conv3d(widths[-1], 3, 3, padding=1)
        nn.init.normal_(self.flow.weight, std=1e-5)  # training starts from the identity
        nn.init.zeros_(self.flow.bias)  # type: ignore[arg-type]

    def forward(self, skips: list[Tensor]) -> Tensor:
        images, *inner = skips
        x = self.levels[0](inner[-1])
        for convolution, skip in zip(self.levels[1:], inner[-2::-1], strict=True):
            x = convolution(_join(functional.interpolate(x, scale_factor=2), skip))
        if self.half_resolution:
            x = self.refine(_join(x, functional.avg_pool3d(images, 2)))
            return double_field(self._field(x))
        return self._field(self.refine(_join(functional.interpolate(x, scale_factor=2), images)))

    def _field(self, x: Tensor) -> Tensor:
        """In float32: bf16 has 8 bits, a step of 1/16 voxel for a displacement of 10."""
        with torch.autocast(x.device.type, enabled=False):
            return self.flow(x.float())


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(convolve(self.conv, x), 0.2, inplace=True)


def _join(x: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([x, skip.to(x.dtype)], 1)


def embed(deepest: Tensor, project: nn.Module) -> Tensor:
    """Contrastive features: global average of the deepest encoder output, one linear layer, unit length."""
    return functional.normalize(project(deepest.float().mean((2, 3, 4))), dim=1)


def double_field(field: Tensor) -> Tensor:
    """A field on cells twice as wide, brought to the full grid: a cell splits into two, so lengths double."""
    return 2 * functional.interpolate(field, scale_factor=2, mode="trilinear", align_corners=False)
