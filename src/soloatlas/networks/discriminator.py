"""A critic of small neighbourhoods: is this patch of a real scan, or of a warped atlas?

P. Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017 (PatchGAN);
LT-Net takes "an extended 3D version" of it (Wang 2020, section 5).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.errors import InputError
from soloatlas.networks.layers import convolve, normalise

SMALLEST = 24  # voxels along an axis: three halvings and two convolutions that each take one voxel


class PatchDiscriminator(nn.Module):
    """PatchGAN with 4x4x4 convolutions; each output judges a neighbourhood of 70x70x70 voxels.

    Three convolutions of stride 2, two of stride 1; LeakyReLU(0.2); instance norm except at the first and
    the last.

    Args:
        channels: widths of the first four convolutions (the CVPR paper's: 64, 128, 256, 512, which make
            11 047 873 parameters in three dimensions).
    """

    def __init__(self, channels: tuple[int, int, int, int] = (64, 128, 256, 512)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv3d(i, o, 4, stride=s, padding=1)
            for i, o, s in zip((1, *channels), (*channels, 1), (2, 2, 2, 1, 1), strict=True)
        )
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=0.02)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, image: Float[Tensor, "batch 1 x y z"]) -> Float[Tensor, "batch 1 u v w"]:
        """One unbounded number for each neighbourhood, in float32.

        Raises:
            InputError: a size is below 24 voxels.
        """
        if min(image.shape[2:]) < SMALLEST:
            size = "x".join(map(str, image.shape[2:]))
            raise InputError(
                f"a working grid of {size} voxels is too small to judge, {SMALLEST} along each axis are the least; "
                "take a finer --spacing, or leave the discriminator out by --set adversary=false"
            )
        first, *inner, last = self.layers
        x = functional.leaky_relu(convolve(first, image), 0.2)
        for layer in inner:
            x = functional.leaky_relu(normalise(convolve(layer, x), layer.out_channels), 0.2)  # type: ignore[arg-type]
        with torch.autocast(image.device.type, enabled=False):
            return last(x.float())
