"""CLMorph's own network: one shared U-Net encoder, a joint bottleneck, a field.

L. Liu et al., "Contrastive registration for unsupervised medical image segmentation", IEEE TNNLS 2023. Widths and
layers are those of its code.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from soloatlas.networks.layers import convolve, max_pool
from soloatlas.networks.registration import RegistrationOutput, double_field, embed

START = math.log(0.01)  # of the logarithm of a drawn field's deviation, voxels; not in our sources


class CLMorph(nn.Module):
    """Two convolutions with batch norm and ReLU a level; contrastive features from the deepest shared level.

    A convolution gives the field, initialised near 0. Its batch norm learns from batches of a few scans; running
    means serve afterwards.

    Args:
        channels: widths at full, 1/2 and 1/4 size, and of the bottleneck at 1/8.
        half_resolution: end the decoder at half the size and double the field linearly, sizes and values.
        gaussian: end as the code does: three components with batch norm and a softmax over them; from these one
            convolution gives the mean of the field, another the logarithm of its standard deviation. In training the
            field is drawn from this Gaussian, afterwards it is the mean.
    """

    def __init__(
        self,
        channels: tuple[int, int, int, int] = (16, 32, 64, 256),
        half_resolution: bool = False,
        gaussian: bool = False,
    ) -> None:
        super().__init__()
        a, b, c, deep = channels
        self.half_resolution, self.gaussian = half_resolution, gaussian
        self.encoder = nn.ModuleList([_Two(1, a, a), _Two(a, b, b), _Two(b, c, c)])
        self.bottleneck = _Two(2 * c, deep, 2 * c)
        decoder = [_Two(4 * c, 2 * c, c), _Two(c + 2 * b, c, b), _Two(b + 2 * a, b, a)]
        if half_resolution:
            decoder[1:] = [_Two(c + 2 * b, c, 3, _share) if gaussian else decoder[1]]
        elif gaussian:
            decoder[2] = _Two(b + 2 * a, b, 3, _share)
        self.decoder = nn.ModuleList(decoder)
        self.flow = _near(3 if gaussian else b if half_resolution else a, 0.0)  # training starts from the identity
        if gaussian:
            self.log_deviation = _near(3, START)
        self.project_moving = nn.Linear(c, c)
        self.project_fixed = nn.Linear(c, c)

    def forward(
        self, moving: Float[Tensor, "atlases 1 x y z"], fixed: Float[Tensor, "batch 1 x y z"]
    ) -> RegistrationOutput:
        """Register ``moving`` (one image for the whole batch, or one each) to ``fixed``; any size."""
        shape = fixed.shape[2:]
        pad = [n for size in reversed(shape) for n in (0, -size % 8)]
        # One pass through the shared encoder, so that batch norm sees both images.
        both = torch.cat([moving.expand_as(fixed), fixed])
        levels = self._encode(functional.pad(both, pad))
        joined = [torch.cat(level.chunk(2), 1) for level in levels]
        x = self.bottleneck(max_pool(joined[-1]))
        for block, skip in zip(self.decoder, joined[::-1], strict=False):
            x = functional.interpolate(x, scale_factor=2, mode="trilinear", align_corners=False)
            x = block(torch.cat([x, skip.to(x.dtype)], 1))
        with torch.autocast(fixed.device.type, enabled=False):
            deep_moving, deep_fixed = levels[-1].chunk(2)
            m, f = embed(deep_moving, self.project_moving), embed(deep_fixed, self.project_fixed)
            mean = self.flow(x.float())
            if not self.gaussian:
                return RegistrationOutput(self._full(mean, shape), m, f)
            log_deviation = self.log_deviation(x.float())
        field = mean + log_deviation.exp() * torch.randn_like(mean) if self.training else mean
        return RegistrationOutput(self._full(field, shape), m, f, mean, log_deviation)

    def _full(self, field: Tensor, shape: Sequence[int]) -> Tensor:
        """A field of the decoder on the grid of the images."""
        field = double_field(field) if self.half_resolution else field
        return field[:, :, : shape[0], : shape[1], : shape[2]]

    def _encode(self, image: Tensor) -> list[Tensor]:
        levels: list[Tensor] = []
        for block in self.encoder:
            levels.append(block(max_pool(levels[-1]) if levels else image))
        return levels


def _near(channels: int, value: float) -> nn.Conv3d:
    """A convolution to three components that starts near ``value`` everywhere."""
    convolution = nn.Conv3d(channels, 3, 3, padding=1)
    nn.init.normal_(convolution.weight, std=1e-5)
    nn.init.constant_(convolution.bias, value)  # type: ignore[arg-type]
    return convolution


def _share(x: Tensor) -> Tensor:
    return x.softmax(1)


class _Two(nn.Module):
    """Convolution, batch norm and ReLU, twice; ``last`` takes the place of the second ReLU."""

    def __init__(
        self, inputs: int, middle: int, outputs: int, last: Callable[[Tensor], Tensor] = functional.relu
    ) -> None:
        super().__init__()
        self.steps = (functional.relu, last)
        self.convs = nn.ModuleList([nn.Conv3d(inputs, middle, 3, padding=1), nn.Conv3d(middle, outputs, 3, padding=1)])
        self.norms = nn.ModuleList([nn.BatchNorm3d(middle), nn.BatchNorm3d(outputs)])

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm, step in zip(self.convs, self.norms, self.steps, strict=True):
            x = step(norm(convolve(conv, x)))
        return x
