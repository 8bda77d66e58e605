"""DataAug's own segmenter: a 2-D U-Net that sees each axial slice by itself.

A. Zhao et al., "Data augmentation using learned transformations for one-shot medical image segmentation", CVPR 2019.
The encoder's widths, with two convolutions a stage, are those of its code. The rest is not in our sources and is taken
from the authors' other networks: LeakyReLU(0.2), no normalisation, max-pooling, nearest doubling, and a decoder that
mirrors the encoder.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.networks.layers import convolve

AT_ONCE = 16  # slices of a whole volume that pass together; the batch of the code


class SliceUNet(nn.Module):
    """2-D U-Net on axial slices (1 439 520 parameters and 33 for each class at its own widths); any size.

    Kernels of 3x3x1 do to a volume what 3x3 ones do to each of its slices. Slices are padded with zeros to a multiple
    of 2 to the number of halvings, and the logits are cropped.

    Args:
        out_channels: classes.
        channels: encoder widths from full size down; each step halves the size of a slice.
    """

    def __init__(self, out_channels: int, channels: tuple[int, ...] = (32, 32, 64, 64, 128, 128)) -> None:
        super().__init__()
        self.multiple = 2 ** (len(channels) - 1)
        self.encoder = nn.ModuleList(_two(i, o) for i, o in zip((1, *channels), channels, strict=False))
        levels = [(deep + skip, skip) for skip, deep in pairwise(channels)]
        self.decoder = nn.ModuleList(_two(i, o) for i, o in reversed(levels))
        self.head = nn.Conv3d(channels[0], out_channels, 1)

    def forward(
        self, image: Float[Tensor, "batch 1 x y z"]
    ) -> tuple[Float[Tensor, "batch out x y z"], list[Float[Tensor, "batch _ _ _ _"]]]:
        """Logits and, since nothing takes hints from this network, no features."""
        return torch.cat([self._slices(part) for part in image.split(AT_ONCE, 4)], 4), []

    def _slices(self, image: Tensor) -> Tensor:
        x, y = image.shape[2:4]
        padded = functional.pad(image, [0, 0, 0, -y % self.multiple, 0, -x % self.multiple])
        levels: list[Tensor] = []
        for stage in self.encoder:
            levels.append(stage(_pool(levels[-1]) if levels else padded))
        *skips, out = levels
        for stage, skip in zip(self.decoder, reversed(skips), strict=True):
            out = stage(torch.cat([functional.interpolate(out, scale_factor=(2, 2, 1)), skip], 1))
        return self.head(out)[:, :, :x, :y]


def _two(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(_Layer(inputs, outputs), _Layer(outputs, outputs))


class _Layer(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, (3, 3, 1), padding=(1, 1, 0))

    def forward(self, x: Tensor) -> Tensor:
        return functional.leaky_relu(convolve(self.conv, x), 0.2)


def _pool(x: Tensor) -> Tensor:
    """Largest value of each 2x2 block of a slice, in the type of ``x`` (autocast would return float32)."""
    with torch.autocast(x.device.type, enabled=False):
        return functional.max_pool3d(x, (2, 2, 1))
