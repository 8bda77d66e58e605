"""Blocks that compute again: the same values and gradients, less kept."""

import pytest
import torch
from torch import nn

from soloatlas.networks.choice import build
from soloatlas.networks.recomputation import blocks_of, recompute_activations
from soloatlas.networks.residual_unet import ResidualUNet


def image(seed=0):
    return torch.rand(1, 1, 32, 32, 32, generator=torch.Generator().manual_seed(seed))


def gradients(network, *inputs):
    """Gradients of all parameters, and bytes that the forward pass has kept for the backward pass."""
    network.zero_grad()
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = network(*inputs)
    output = output if isinstance(output, torch.Tensor) else output[0]
    output.square().mean().backward()
    return [p.grad.clone() for p in network.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize(
    ("make", "inputs"),
    [
        (lambda: ResidualUNet(3, channels=(8, 8, 16, 16, 16)), 1),
        (lambda: build("siamese", channels=(8, 8, 8, 8)), 2),
        (lambda: build("voxelmorph", channels=(8, 8, 8, 8), half_resolution=True), 2),
        (lambda: build("transmorph", channels=(16, 32, 64, 128)), 2),
    ],
    ids=["residual", "siamese", "voxelmorph", "transmorph"],
)
def test_gradients_stay_and_less_is_kept(make, inputs):
    network, images = make(), [image(n) for n in range(inputs)]
    before, kept = gradients(network, *images)
    recompute_activations(network)
    recompute_activations(network)  # once is enough
    after, kept_now = gradients(network, *images)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert kept_now < 0.8 * kept
    assert list(network.state_dict()) == list(make().state_dict())


def test_what_moves_twice_or_keeps_little_is_left_alone():
    counted = nn.Sequential(nn.Conv3d(1, 4, 3), nn.BatchNorm3d(4))
    assert list(blocks_of(nn.ModuleDict({"one": nn.Conv3d(1, 4, 3), "two": counted}))) == []
    unet = ResidualUNet(2, channels=(4, 4, 8, 8, 8))
    found = list(blocks_of(unet))
    assert unet.bottleneck in found and unet.head in found and unet.up[0] in found
    assert not any(isinstance(block, nn.Conv3d) for block in found)
