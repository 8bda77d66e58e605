import pytest
import torch

from soloatlas.errors import InputError
from soloatlas.networks.choice import REGISTRATION_NETWORKS, build
from soloatlas.networks.registration import (
    RegistrationOutput,
    SiameseRegistration,
    VoxelMorph,
    double_field,
)

SMALL = (4, 6, 6, 6)


def images(batch: int, *size: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def network() -> SiameseRegistration:
    torch.manual_seed(0)
    net = SiameseRegistration(SMALL)
    torch.nn.init.normal_(net.decoder.flow.weight, std=0.1)  # fields worth comparing
    return net


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def convolution(inputs: int, outputs: int) -> int:
    return 27 * inputs * outputs + outputs


def test_number_of_parameters():
    encoder = convolution(1, 32) + convolution(32, 64) + 2 * convolution(64, 64)
    decoder = convolution(128, 64) + 2 * convolution(192, 64) + convolution(128, 64)
    full_size = convolution(66, 64) + convolution(64, 32) + convolution(32, 32) + convolution(32, 3)
    heads = 2 * (64 * 64 + 64)
    assert count(SiameseRegistration()) == encoder + decoder + full_size + heads == 1_591_779
    assert count(SiameseRegistration(half_resolution=True)) == 1_591_779


def test_voxelmorph_has_the_width_of_the_tmi_paper():
    encoder = convolution(2, 16) + convolution(16, 32) + 2 * convolution(32, 32)
    decoder = convolution(32, 32) + 2 * convolution(64, 32) + convolution(48, 32)
    full_size = convolution(34, 32) + convolution(32, 16) + convolution(16, 16) + convolution(16, 3)
    assert count(VoxelMorph()) == encoder + decoder + full_size == 301_411


@pytest.mark.parametrize("half_resolution", [False, True])
def test_voxelmorph_registers_one_atlas_to_a_batch(half_resolution):
    torch.manual_seed(0)
    network = VoxelMorph(SMALL, half_resolution)
    torch.nn.init.normal_(network.decoder.flow.weight, std=0.1)
    atlas, scans = images(1, 16, 32, 16), images(2, 16, 32, 16, seed=1)
    output = network(atlas, scans)
    assert output.field.shape == (2, 3, 16, 32, 16) and output.fixed_features is None
    torch.testing.assert_close(output.field[1:], network(atlas, scans[1:]).field)
    with pytest.raises(InputError, match="16"):
        network(atlas[:, :, :10], scans[:, :, :10])


def test_undoubled_network_has_heads_of_its_own_size():
    output = SiameseRegistration((16, 32, 32, 32))(images(1, 16, 16, 16), images(1, 16, 16, 16, seed=1))
    assert output.fixed_features.shape == output.moving_features.shape == (1, 32)


@pytest.mark.parametrize("half_resolution", [False, True])
@pytest.mark.parametrize("batch", [1, 2])
def test_output(half_resolution, batch):
    network = SiameseRegistration(half_resolution=half_resolution)
    output = network(images(batch, 16, 32, 48), images(batch, 16, 32, 48, seed=1))
    assert isinstance(output, RegistrationOutput)
    assert output.field.shape == (batch, 3, 16, 32, 48)
    assert output.fixed_features.shape == output.moving_features.shape == (batch, 64)
    for features in (output.fixed_features, output.moving_features):
        torch.testing.assert_close(features.norm(dim=1), torch.ones(batch))


def test_starts_from_the_identity():
    field = SiameseRegistration()(images(1, 16, 16, 16), images(1, 16, 16, 16, seed=1)).field
    assert 0 < field.abs().max() < 1e-3


def test_one_atlas_serves_the_whole_batch(network):
    atlas, scans = images(1, 16, 16, 32), images(3, 16, 16, 32, seed=1)
    shared, repeated = network(atlas, scans), network(atlas.expand(3, 1, 16, 16, 32), scans)
    for a, b in zip(shared, repeated, strict=True):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(shared.field[1:2], network(atlas, scans[1:2]).field)


def test_encoder_is_shared_and_heads_are_not(network):
    scan = images(1, 16, 16, 16)
    output = network(scan, scan)
    assert not torch.allclose(output.fixed_features, output.moving_features)
    network.project_moving.load_state_dict(network.project_fixed.state_dict())
    output = network(scan, scan)
    assert torch.equal(output.fixed_features, output.moving_features)


def test_moving_image_comes_first(network):
    a, b = images(1, 16, 16, 16), images(1, 16, 16, 16, seed=1)
    assert not torch.allclose(network(a, b).field, network(b, a).field)


@pytest.mark.parametrize("half_resolution", [False, True])
def test_every_parameter_learns_in_bf16(half_resolution):
    torch.manual_seed(0)
    network = SiameseRegistration(SMALL, half_resolution).to(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images(1, 16, 16, 32), images(2, 16, 16, 32, seed=1))
    assert all(x.dtype == torch.float32 for x in output[:3])
    weights = torch.randn(output.fixed_features.shape, generator=torch.Generator().manual_seed(0))
    loss = output.field.sum() + (weights * (output.fixed_features + output.moving_features)).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_doubled_field_moves_the_same_distance():
    # A field that grows by half a voxel per voxel does so on both grids; in full voxels it is twice as long.
    ramp = 0.5 * torch.arange(6.0).reshape(1, 1, 6, 1, 1).expand(1, 3, 6, 4, 4)
    doubled = double_field(ramp)
    assert doubled.shape == (1, 3, 12, 8, 8)
    torch.testing.assert_close(doubled[:, :, 1:-1].diff(dim=2), torch.full((1, 3, 9, 8, 8), 0.5))
    torch.testing.assert_close(doubled.mean(), 2 * ramp.mean())


@pytest.mark.parametrize("size", [(16, 24, 16), (16, 16, 1)])
def test_refuses_sizes_it_cannot_halve(network, size):
    with pytest.raises(InputError, match=r"image size \(16, .* pad it to \(16, (32|16), 16\)"):
        network(images(1, *size), images(1, *size))


def test_build():
    assert count(build("siamese")) == 1_591_779
    assert build("siamese", channels=SMALL, half_resolution=True).decoder.half_resolution
    with pytest.raises(InputError, match="did you mean 'siamese'") as error:
        build("siamesse")
    assert all(name in str(error.value) for name in REGISTRATION_NETWORKS)
