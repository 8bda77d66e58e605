"""Networks of the authors' own forms: their size, and the one property that makes each what it is."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from soloatlas.errors import InputError
from soloatlas.networks.choice import build
from soloatlas.networks.clmorph import CLMorph
from soloatlas.networks.group_unet import GroupRegistration, GroupUNet
from soloatlas.networks.registration import VoxelMorph
from soloatlas.networks.slice_unet import SliceUNet

NARROW = (4, 4, 8, 8)


def images(batch, *size, seed=0):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


def count(network):
    return sum(p.numel() for p in network.parameters())


def convolution(inputs, outputs, kernel=27):
    return kernel * inputs * outputs + outputs


def twice(inputs, outputs, kernel=27):
    return convolution(inputs, outputs, kernel) + convolution(outputs, outputs, kernel)


def test_voxelmorph_1_of_the_cvpr_paper_has_six_decoder_convolutions():
    network = build("voxelmorph-short", channels=(16, 32, 32, 32))
    encoder = convolution(2, 16) + convolution(16, 32) + 2 * convolution(32, 32)
    decoder = convolution(32, 32) + 2 * convolution(64, 32) + convolution(48, 32)
    full_size = convolution(34, 8) + convolution(8, 8) + convolution(8, 3)
    assert count(network) == encoder + decoder + full_size
    widths = [m.out_channels for m in network.decoder.modules() if isinstance(m, nn.Conv3d)]
    assert widths == [32, 32, 32, 32, 8, 8, 3]
    torch.manual_seed(0)
    ours = VoxelMorph(NARROW, half_resolution=True, short=True)
    assert ours(images(1, 16, 16, 32), images(2, 16, 16, 32)).field.shape == (2, 3, 16, 16, 32)


def test_sizes_of_the_group_networks():
    norms = 2 * 2 * (16 + 32 + 64 + 128 + 256) + 2 * 2 * (16 + 32 + 64 + 128)
    down = twice(16, 32) + twice(32, 64) + twice(64, 128) + twice(128, 256)
    up = twice(384, 128) + twice(192, 64) + twice(96, 32) + twice(48, 16)
    assert count(GroupUNet(5)) == twice(1, 16) + down + up + norms + convolution(16, 5, 1) == 5_886_960 + 17 * 5
    assert count(GroupRegistration()) == twice(2, 16) + down + up + norms + convolution(16, 3, 1)


def test_groups_of_four_channels_are_normalised_as_torch_does():
    network = GroupUNet(2, (8, 12))
    first = network.trunk.encoder[0][0]
    with torch.no_grad():
        first.scale.uniform_(0.5, 2), first.shift.uniform_(-1, 1)
    x = images(2, 6, 5, 7)
    plain = functional.group_norm(first.conv(x), 2, first.scale, first.shift)
    torch.testing.assert_close(first(x), functional.leaky_relu(plain, 0.2), atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match="multiples of 4"):
        GroupUNet(2, (6, 8))


@pytest.mark.parametrize("half_resolution", [False, True])
def test_group_registration_takes_any_size_and_starts_from_a_rough_field(half_resolution):
    torch.manual_seed(0)
    network = GroupRegistration((4, 4, 8, 8), half_resolution)
    field = network(images(1, 17, 20, 33), images(2, 17, 20, 33, seed=1)).field
    assert field.shape == (2, 3, 17, 20, 33)
    assert field.abs().max() > 1e-2


def test_size_of_the_network_of_slices():
    down = twice(1, 32, 9) + twice(32, 32, 9) + twice(32, 64, 9) + twice(64, 64, 9) + twice(64, 128, 9)
    down += twice(128, 128, 9)
    up = twice(256, 128, 9) + twice(192, 64, 9) + twice(128, 64, 9) + twice(96, 32, 9) + twice(64, 32, 9)
    assert count(SliceUNet(5)) == down + up + convolution(32, 5, 1) == 1_439_520 + 33 * 5


def test_each_axial_slice_is_seen_by_itself():
    torch.manual_seed(0)
    network = SliceUNet(3, NARROW).eval()
    volume = images(1, 19, 21, 20)  # more slices than pass together
    with torch.inference_mode():
        whole, features = network(volume)
        alone = torch.cat([network(volume[..., [k]])[0] for k in range(20)], 4)
        volume[..., 7] += 1
        changed = network(volume)[0]
    assert whole.shape == (1, 3, 19, 21, 20) and features == []
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=1e-5)
    moved = (changed - whole).abs().amax((0, 1, 2, 3))
    assert moved[7] > 1e-4 and moved[torch.arange(20) != 7].max() < 1e-6


def test_a_layer_of_slices_is_a_plain_2d_convolution():
    layer = SliceUNet(3, NARROW).encoder[0][0]
    x = images(2, 9, 8, 3)
    flat = functional.conv2d(x[..., 1], layer.conv.weight[..., 0], layer.conv.bias, padding=1)
    torch.testing.assert_close(layer(x)[..., 1], functional.leaky_relu(flat, 0.2), atol=1e-6, rtol=1e-5)


def test_sizes_of_clmorphs_network():
    def of(*layers):  # inputs, outputs, kernel: weights and biases
        return sum(i * o * k**3 + o for i, o, k in layers)

    pairs = [(1, 16, 16), (16, 32, 32), (32, 64, 64), (128, 256, 128), (256, 128, 64), (128, 64, 32), (64, 32, 16)]
    blocks = sum(of((i, m, 3), (m, o, 3)) + 2 * (m + o) for i, m, o in pairs)  # two numbers a channel of batch norm
    assert count(CLMorph()) == blocks + of((16, 3, 3)) + 2 * of((64, 64, 1)) == 3_448_147


@pytest.mark.parametrize("half_resolution", [False, True])
def test_clmorph_draws_its_field_in_training_alone(half_resolution):
    torch.manual_seed(0)
    network = CLMorph((4, 8, 8, 16), half_resolution, gaussian=True)
    nn.init.normal_(network.flow.weight, std=0.5)
    atlas, scans = images(1, 16, 24, 16), images(2, 16, 24, 16, seed=1)
    one, other = network(atlas, scans), network(atlas, scans)
    assert not torch.equal(one.field, other.field)
    torch.testing.assert_close(one.mean, other.mean)
    with torch.no_grad():
        network.log_deviation.bias.fill_(-30.0)
    drawn = network(atlas, scans)
    torch.testing.assert_close(drawn.field, network._full(drawn.mean, scans.shape[2:]), atol=1e-6, rtol=0)
    network.eval()
    assert torch.equal(network(atlas, scans).field, network(atlas, scans).field)


def test_the_components_before_clmorphs_gaussian_share_one():
    torch.manual_seed(0)
    network = CLMorph((4, 8, 8, 16), gaussian=True)
    seen = []
    network.flow.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    network(images(1, 16, 16, 16), images(2, 16, 16, 16, seed=1))
    assert seen[0].shape == (2, 3, 16, 16, 16)
    torch.testing.assert_close(seen[0].sum(1), torch.ones(2, 16, 16, 16))
    plain, gaussian = CLMorph(), CLMorph(gaussian=True)
    # The last block ends at 3 components instead of 16, and two 3-to-3 convolutions follow instead of one from 16.
    last = convolution(32, 16) + 2 * 16 + convolution(16, 3)
    assert count(plain) - last == count(gaussian) - (convolution(32, 3) + 2 * 3 + 2 * convolution(3, 3))
