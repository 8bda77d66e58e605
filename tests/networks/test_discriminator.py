"""The PatchGAN: size, receptive field, refusal of tiny grids."""

from itertools import pairwise

import pytest
import torch

from soloatlas.errors import InputError
from soloatlas.networks.discriminator import PatchDiscriminator


def test_number_of_parameters_and_output_size():
    network = PatchDiscriminator()
    widths = [1, 64, 128, 256, 512, 1]
    expected = sum(64 * i * o + o for i, o in pairwise(widths))
    assert sum(p.numel() for p in network.parameters()) == expected == 11_047_873
    assert PatchDiscriminator((4, 4, 8, 8))(torch.rand(2, 1, 32, 48, 64)).shape == (2, 1, 2, 4, 6)


def test_an_output_sees_seventy_voxels():
    network = PatchDiscriminator((2, 2, 2, 2)).double()
    for layer in network.layers:
        torch.nn.init.constant_(layer.weight, 0.1)  # positive, so that nothing cancels
    image = torch.rand(1, 1, 96, 24, 24, dtype=torch.float64, requires_grad=True)
    # Instance norm makes every output depend on the whole volume; without it the layers' own field is left.
    x = image
    for layer in network.layers:
        x = layer(x)
    middle = x.shape[2] // 2
    x[0, 0, middle].sum().backward()
    touched = image.grad[0, 0].abs().sum((1, 2)).nonzero()
    assert int(touched[-1] - touched[0]) + 1 == 70


def test_smallest_grid():
    assert PatchDiscriminator((2, 2, 2, 2))(torch.rand(1, 1, 24, 24, 24)).shape == (1, 1, 1, 1, 1)
    with pytest.raises(InputError, match="too small to judge"):
        PatchDiscriminator((2, 2, 2, 2))(torch.rand(1, 1, 16, 32, 32))
