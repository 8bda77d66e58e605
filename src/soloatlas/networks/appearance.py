"""What must be added to the atlas so that it looks like a scan.

A. Zhao et al., "Data augmentation using learned transformations for one-shot medical image segmentation", CVPR 2019:
the U-Net of its appearance model, one convolution a level.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.networks.layers import convolve, max_pool

ENCODER, DECODER = (16, 32, 32, 32, 32, 32), (64, 64, 32, 32, 32, 16, 16)
MULTIPLE = 2 ** (len(ENCODER) - 1)


class AppearanceNetwork(nn.Module):
    """Additive change of intensity on the atlas's grid, from the atlas and a scan brought onto it.

    LeakyReLU(0.2), no normalisation; five halvings by max-pooling. Images of any size are padded with zeros to a
    multiple of 32, and the change is cropped. It starts near 0.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(_conv(i, o) for i, o in zip((2, *ENCODER), ENCODER, strict=False))
        up, rest = DECODER[: len(ENCODER) - 1], DECODER[len(ENCODER) - 1 :]
        below = (ENCODER[-1], *up)
        self.up = nn.ModuleList(_conv(b + skip, o) for b, skip, o in zip(below, ENCODER[-2::-1], up, strict=False))
        self.rest = nn.ModuleList(_conv(i, o) for i, o in zip((up[-1], *rest), rest, strict=False))
        self.change = nn.Conv3d(rest[-1], 1, 3, padding=1)
        nn.init.normal_(self.change.weight, std=1e-5)
        nn.init.zeros_(self.change.bias)  # type: ignore[arg-type]

    def forward(
        self, atlas: Float[Tensor, "batch 1 x y z"], scan: Float[Tensor, "batch 1 x y z"]
    ) -> Float[Tensor, "batch 1 x y z"]:
        """The change to add to ``atlas``; ``scan`` lies on the atlas's grid. In float32."""
        x, y, z = atlas.shape[2:]
        pad = [n for size in (z, y, x) for n in (0, -size % MULTIPLE)]
        out = functional.pad(torch.cat([atlas, scan], 1), pad)
        skips: list[Tensor] = []
        for level, conv in enumerate(self.encoder):
            out = _act(conv, max_pool(out) if level else out)
            skips.append(out)
        for conv, skip in zip(self.up, skips[-2::-1], strict=True):
            out = _act(conv, torch.cat([functional.interpolate(out, scale_factor=2), skip], 1))
        for conv in self.rest:
            out = _act(conv, out)
        with torch.autocast(out.device.type, enabled=False):
            return self.change(out.float())[:, :, :x, :y, :z]


def _conv(inputs: int, outputs: int) -> nn.Module:
    return nn.Conv3d(inputs, outputs, 3, padding=1)


def _act(conv: nn.Module, x: Tensor) -> Tensor:
    return functional.leaky_relu(convolve(conv, x), 0.2)
