"""BRBS's own networks: one design of U-Net registers and segments.

Y. He et al., "Learning better registration to learn better few-shot medical image segmentation", IEEE TNNLS 2022.
Widths and layers are those of its code: two convolutions a level, each with group norm (four channels a group) and
LeakyReLU(0.2); max-pooling; trilinear doubling; a 1x1x1 head.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.errors import InputError
from soloatlas.networks.layers import convolve, max_pool, normalise
from soloatlas.networks.registration import RegistrationOutput, double_field

PER_GROUP = 4  # channels that are normalised together
SLOPE = 0.2


class GroupUNet(nn.Module):
    """BRBS's segmenter (5 886 960 parameters and 17 for each class at its own widths); images of any size.

    Args:
        out_channels: classes.
        channels: widths from full size down, multiples of 4; each step halves the size.

    Raises:
        InputError: a width is no multiple of 4.
    """

    def __init__(self, out_channels: int, channels: tuple[int, ...] = (16, 32, 64, 128, 256)) -> None:
        super().__init__()
        self.trunk = _Trunk(1, channels)
        self.head = nn.Conv3d(channels[0], out_channels, 1)

    def forward(
        self, image: Float[Tensor, "batch 1 x y z"]
    ) -> tuple[Float[Tensor, "batch out x y z"], list[Float[Tensor, "batch _ _ _ _"]]]:
        """Logits and, since nothing takes hints from this network, no features."""
        x, y, z = image.shape[2:]
        return self.head(self.trunk(image))[:, :, :x, :y, :z], []


class GroupRegistration(nn.Module):
    """BRBS's registration network: the same U-Net on both images as two channels.

    Its flow head starts as any convolution does, so that training starts from a rough field, not from the identity.

    Args:
        channels: widths at full, 1/2, 1/4 and 1/8 size; at 1/16 it is twice the last.
        half_resolution: end the decoder at half the size and double the field linearly, sizes and values.

    Raises:
        InputError: a width is no multiple of 4.
    """

    def __init__(self, channels: tuple[int, int, int, int] = (16, 32, 64, 128), half_resolution: bool = False) -> None:
        super().__init__()
        self.half_resolution = half_resolution
        self.trunk = _Trunk(2, (*channels, 2 * channels[-1]), half_resolution)
        self.flow = nn.Conv3d(channels[1 if half_resolution else 0], 3, 1)

    def forward(
        self, moving: Float[Tensor, "atlases 1 x y z"], fixed: Float[Tensor, "batch 1 x y z"]
    ) -> RegistrationOutput:
        """Register ``moving`` (one image for the whole batch, or one each) to ``fixed``; any size."""
        x, y, z = fixed.shape[2:]
        features = self.trunk(torch.cat([moving.expand_as(fixed), fixed], 1))
        with torch.autocast(fixed.device.type, enabled=False):
            field = self.flow(features.float())
        field = double_field(field) if self.half_resolution else field
        return RegistrationOutput(field[:, :, :x, :y, :z])


class _Trunk(nn.Module):
    """The U-Net without its head; pads with zeros to a multiple of its coarsest voxel and does not crop."""

    def __init__(self, inputs: int, channels: tuple[int, ...], half_resolution: bool = False) -> None:
        super().__init__()
        if any(width % PER_GROUP for width in channels):
            raise InputError(f"network=group: channels {list(channels)} must be multiples of {PER_GROUP}")
        self.multiple = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(_two(i, o) for i, o in zip((inputs, *channels), channels, strict=False))
        levels = [(deep + skip, skip) for skip, deep in pairwise(channels)][::-1]
        self.decoder = nn.ModuleList(_two(i, o) for i, o in levels[: -1 if half_resolution else None])

    def forward(self, x: Tensor) -> Tensor:
        pad = [n for size in reversed(x.shape[2:]) for n in (0, -size % self.multiple)]
        levels: list[Tensor] = []
        for stage in self.encoder:
            levels.append(stage(max_pool(levels[-1]) if levels else functional.pad(x, pad)))
        *skips, x = levels
        for stage, skip in zip(self.decoder, reversed(skips), strict=False):
            x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            x = stage(torch.cat([x.to(skip.dtype), skip], 1))
        return x


def _two(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(_Layer(inputs, outputs), _Layer(outputs, outputs))


class _Layer(nn.Module):
    """Convolution, group norm with scale and shift, LeakyReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        nn.init.kaiming_normal_(self.conv.weight, SLOPE)
        self.scale, self.shift = nn.Parameter(torch.ones(outputs)), nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        x = normalise(convolve(self.conv, x), len(self.scale) // PER_GROUP)
        scale, shift = (p.to(x.dtype).reshape(-1, 1, 1, 1) for p in (self.scale, self.shift))
        return functional.leaky_relu(torch.addcmul(shift, x, scale), SLOPE)
