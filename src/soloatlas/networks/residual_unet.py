"""The residual U-Net that teacher and student share (Zhou 2024, section III-B, Fig. 3).

Convolutions are 3x3x3; down by max-pooling, up by transposed convolutions; skips are concatenated. Where
the figure, the text and the withdrawn code disagree, the defaults are: residual blocks in encoder and decoder
(the figure), instance norm without scale and shift before the activation (the code), a linear last layer for
both heads (a normalised output cannot take the values of an image).

K. He et al., "Deep residual learning for image recognition", CVPR 2016.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from soloatlas.errors import InputError
from soloatlas.networks.layers import convolve, max_pool, normalise, prelu

Norm = Literal["instance", "instance_affine", "layer"]
Order = Literal["NDA", "ADN"]


class Style(NamedTuple):
    """What follows each convolution: the kind of normalisation and its order with the activation.

    "NDA": norm, then PReLU. "ADN": PReLU, then norm (the paper's figure). There is no dropout.
    """

    norm: Norm = "instance"
    order: Order = "NDA"


class Block(nn.Module):
    """One convolution with its normalisation and PReLU; ``up``: transposed, doubling the size."""

    def __init__(self, inputs: int, outputs: int, style: Style, up: bool = False) -> None:
        super().__init__()
        # A constant added before instance norm is subtracted again: no bias there.
        bias = style != Style("instance", "NDA")
        if up:
            self.conv: nn.Module = nn.ConvTranspose3d(
                inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=bias
            )
        else:
            self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=bias)
        self.slope = nn.Parameter(torch.full((1,), 0.25))
        self.groups = 1 if style.norm == "layer" else outputs
        self.order = style.order
        if style.norm != "instance":
            self.scale = nn.Parameter(torch.ones(outputs))
            self.shift = nn.Parameter(torch.zeros(outputs))
        self.affine = style.norm != "instance"

    def forward(self, x: Float[Tensor, "batch i a b c"]) -> Float[Tensor, "batch o d e f"]:
        """Convolve, then normalise and activate in the order of the style."""
        x = convolve(self.conv, x)
        if self.order == "NDA":
            return prelu(self._norm(x), self.slope)
        return self._norm(prelu(x, self.slope))

    def _norm(self, x: Tensor) -> Tensor:
        x = normalise(x, self.groups)
        if not self.affine:
            return x
        scale, shift = (p.to(x.dtype).reshape(-1, 1, 1, 1) for p in (self.scale, self.shift))
        return torch.addcmul(shift, x, scale)


class Residual(nn.Module):
    """Two blocks and a shortcut around them (1x1x1 where channels change), summed after the activation."""

    def __init__(self, inputs: int, outputs: int, style: Style) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(inputs, outputs, style), Block(outputs, outputs, style))
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "batch i a b c"]) -> Float[Tensor, "batch o a b c"]:
        """Return the blocks' output plus the shortcut's."""
        return self.blocks(x) + self.shortcut(x)


class ResidualUNet(nn.Module):
    """Residual U-Net with one output head and its decoder's features.

    Args:
        out_channels: classes of a student, 1 for a teacher.
        in_channels: channels of the image.
        channels: width at each scale from the full size down; each step halves the size.
        residual: residual blocks in the encoder; False: two plain blocks (the withdrawn student).
        decoder_residual: residual blocks in the decoder; False: one plain block a scale, two at full size.
        norm: "instance" (no scale and shift), "instance_affine" or "layer" (over channels and voxels).
        order: see `Style`.
        head: "linear": a block, then a plain 1x1x1 convolution. "paper": a single convolution, PReLU and norm
            (Fig. 3's reconstruction head, kept for comparison: its output always has mean 0 and variance 1).
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int = 1,
        channels: tuple[int, ...] = (16, 32, 64, 128, 256),
        residual: bool = True,
        decoder_residual: bool = True,
        norm: Norm = "instance",
        order: Order = "NDA",
        head: Literal["linear", "paper"] = "linear",
    ) -> None:
        super().__init__()
        style = Style(norm, order)
        *scales, bottom = channels
        self.multiple = 2 ** len(scales)
        self.encoder = nn.ModuleList(
            _stage(i, o, style, residual, plain_blocks=2) for i, o in zip([in_channels, *scales], scales, strict=False)
        )
        self.bottleneck = Block(scales[-1], bottom, style)
        self.up = nn.ModuleList(
            Block(i, o, style, up=True) for i, o in zip(channels[:0:-1], channels[-2::-1], strict=True)
        )
        self.decoder = nn.ModuleList(
            _stage(2 * scales[n], scales[n], style, decoder_residual, plain_blocks=1 if n else 2)
            for n in reversed(range(len(scales)))
        )
        if head == "paper":
            self.head: nn.Module = Block(scales[0], out_channels, Style(norm, "ADN"))
        else:
            first = Block(scales[0], scales[0], style)
            self.head = nn.Sequential(first, nn.Conv3d(scales[0], out_channels, 1))

    def forward(
        self, image: Float[Tensor, "batch c x y z"]
    ) -> tuple[Float[Tensor, "batch out x y z"], list[Float[Tensor, "batch _ _ _ _"]]]:
        """Return the head's output and the features from the one nearest the head backwards.

        With the default channels the features are 16 at full size, 32 at 1/2, 64 at 1/4, 128 at 1/8 and the
        bottleneck's 256 at 1/16: hint level k of the paper's Fig. 7b takes the first k.

        Raises:
            InputError: a size of the image is no multiple of 2 to the number of halvings.
        """
        require_multiple(image, self.multiple, "ResidualUNet")
        skips = []
        x = image
        for stage in self.encoder:
            skips.append(stage(x))
            x = max_pool(skips[-1])
        x = self.bottleneck(x)
        features = [x]
        for up, stage, skip in zip(self.up, self.decoder, reversed(skips), strict=True):
            x = up(x)
            features.append(x)
            x = stage(torch.cat([x, skip], 1))
        features[-1] = x  # the full-size level ends at the tensor that enters the head
        return self.head(x), features[::-1]


def require_multiple(image: Tensor, multiple: int, network: str) -> None:
    """Refuse an image (batch, channel, x, y, z) with a size that is no positive multiple of ``multiple``.

    Raises:
        InputError: naming the shape and the shape to pad to.
    """
    size = tuple(image.shape[2:])
    padded = tuple(max(1, -(-n // multiple)) * multiple for n in size)
    if size != padded:
        raise InputError(
            f"{network}: image size {size} is not a multiple of {multiple} on every axis; pad it to {padded}"
        )


def _stage(inputs: int, outputs: int, style: Style, residual: bool, plain_blocks: int) -> nn.Module:
    if residual:
        return Residual(inputs, outputs, style)
    first = Block(inputs, outputs, style)
    return nn.Sequential(first, *(Block(outputs, outputs, style) for _ in range(plain_blocks - 1)))
