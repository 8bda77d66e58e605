import pytest
import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import nn
from torch.nn import functional

from soloatlas.errors import InputError
from soloatlas.networks.residual_unet import Block, Residual, ResidualUNet, Style

SMALL = (4, 6, 8, 10, 12)


def image(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def monai_block(block: Block, order: str = "NDA") -> Convolution:
    """MONAI's block with the same weights; its bias, which instance norm removes again, is made large."""
    conv = block.conv
    up = isinstance(conv, nn.ConvTranspose3d)
    inputs, outputs = conv.in_channels, conv.out_channels
    twin = Convolution(3, inputs, outputs, strides=2 if up else 1, is_transposed=up, adn_ordering=order)
    with torch.no_grad():
        twin.conv.weight.copy_(conv.weight)
        twin.conv.bias.fill_(3) if conv.bias is None else twin.conv.bias.copy_(conv.bias)
        twin.adn.A.weight.copy_(block.slope)
    return twin


def monai_stage(stage: nn.Module) -> nn.Module:
    if not isinstance(stage, Residual):
        return nn.Sequential(*map(monai_block, stage))
    first, second = stage.blocks
    twin = ResidualUnit(3, first.conv.in_channels, first.conv.out_channels)
    twin.conv[0], twin.conv[1] = monai_block(first), monai_block(second)
    twin.residual.load_state_dict(stage.shortcut.state_dict())
    return twin


def monai_forward(net: ResidualUNet, x: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The table of the network, stage by stage, in MONAI's blocks."""
    e0, e1, e2, e3 = map(monai_stage, net.encoder)
    d1, d2, d3, d4 = map(monai_stage, net.decoder)
    up0, up1, up2, up3 = map(monai_block, net.up)
    s0 = e0(x)
    s1 = e1(functional.max_pool3d(s0, 2))
    s2 = e2(functional.max_pool3d(s1, 2))
    s3 = e3(functional.max_pool3d(s2, 2))
    bottom = monai_block(net.bottleneck)(functional.max_pool3d(s3, 2))
    eighth = up0(bottom)
    quarter = up1(d1(torch.cat([eighth, s3], 1)))
    half = up2(d2(torch.cat([quarter, s2], 1)))
    full = d4(torch.cat([up3(d3(torch.cat([half, s1], 1))), s0], 1))
    return net.head[1](monai_block(net.head[0])(full)), [full, half, quarter, eighth, bottom]


@pytest.mark.parametrize(("residual", "decoder_residual"), [(True, True), (False, False), (True, False)])
def test_equals_monais_blocks_weight_for_weight(residual, decoder_residual):
    torch.manual_seed(0)
    net = ResidualUNet(3, channels=SMALL, residual=residual, decoder_residual=decoder_residual)
    x = image(32, 32, 48)
    output, features = net(x)
    expected, expected_features = monai_forward(net, x)
    torch.testing.assert_close(output, expected, rtol=1e-3, atol=1e-3)
    for feature, right in zip(features, expected_features, strict=True):
        torch.testing.assert_close(feature, right, rtol=1e-3, atol=1e-3)


def test_gradients_equal_monais():
    torch.manual_seed(0)
    stage = Residual(3, 5, Style())
    twin = monai_stage(stage)
    x = torch.randn(2, 3, 6, 6, 6)
    weights = torch.randn(2, 5, 6, 6, 6)
    for module in (stage, twin):
        (module(x) * weights).sum().backward()
    for ours, theirs in zip(stage.blocks, twin.conv, strict=True):
        torch.testing.assert_close(ours.conv.weight.grad, theirs.conv.weight.grad, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(ours.slope.grad, theirs.adn.A.weight.grad, rtol=1e-3, atol=1e-3)


def test_paper_order_activates_before_the_norm():
    torch.manual_seed(0)
    block = Block(2, 3, Style("instance", "ADN"))
    x = torch.randn(1, 2, 6, 6, 6)
    torch.testing.assert_close(block(x), monai_block(block, "ADN")(x), rtol=1e-4, atol=1e-4)
    assert block(x).mean((2, 3, 4)).abs().max() < 1e-5


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_number_of_parameters():
    pairs = [(1, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256)]
    encoder = 27 * sum(i * o for i, o in pairs) + 9  # convolutions without bias, one slope each
    up = 27 * (256 * 128 + 128 * 64 + 64 * 32 + 32 * 16) + 4
    decoder = 27 * (256 * 128 + 128 * 64 + 64 * 32 + 32 * 16 + 16 * 16) + 5
    head = 27 * 16 * 16 + 1 + 17 * 36
    plain = ResidualUNet(36, residual=False, decoder_residual=False)
    assert count(plain) == encoder + up + decoder + head == 4_127_527
    shortcuts = 2 * 16 + 17 * 32 + 33 * 64 + 65 * 128
    decoder_shortcuts = 257 * 128 + 129 * 64 + 65 * 32 + 33 * 16
    second = 27 * (128**2 + 64**2 + 32**2) + 3
    assert count(ResidualUNet(36)) == count(plain) + shortcuts + decoder_shortcuts + second


def test_features_from_the_head_backwards():
    output, features = ResidualUNet(7)(image(16, 32, 16, batch=2))
    assert output.shape == (2, 7, 16, 32, 16)
    assert [f.shape[1] for f in features] == [16, 32, 64, 128, 256]
    assert [f.shape[3] for f in features] == [32, 16, 8, 4, 2]


def test_features_keep_their_gradient():
    net = ResidualUNet(2, channels=SMALL)
    _, features = net(image(32, 32, 32))
    for feature in features:
        gradient = torch.autograd.grad(feature.square().sum(), net.encoder[0].blocks[0].conv.weight, retain_graph=True)
        assert gradient[0].abs().sum() > 0


def test_first_feature_enters_the_head():
    net = ResidualUNet(2, channels=SMALL)
    output, features = net(image(16, 16, 16))
    assert torch.equal(net.head(features[0]), output)


@pytest.mark.parametrize("norm", ["instance", "instance_affine", "layer"])
@pytest.mark.parametrize("order", ["NDA", "ADN"])
def test_trains_in_bf16_channels_last(norm, order):
    torch.manual_seed(0)
    net = ResidualUNet(3, channels=SMALL, norm=norm, order=order).to(memory_format=torch.channels_last_3d)
    x = image(16, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        output, features = net(x)
    (output.float().square().mean() + features[1].float().mean()).backward()
    assert output.dtype == torch.bfloat16
    assert all(f.dtype == torch.bfloat16 for f in features)
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())
    exact, _ = net(x)
    assert (output.float() - exact).norm() < 0.05 * exact.norm()


def test_layer_norm_is_over_channels_and_voxels():
    block = Block(2, 3, Style("layer", "ADN"))
    y = block(torch.randn(2, 2, 6, 6, 6, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(y.mean((1, 2, 3, 4)), torch.zeros(2), rtol=0, atol=1e-5)
    assert y.mean((0, 2, 3, 4)).abs().max() > 1e-3


def test_affine_norm_scales_and_shifts():
    block = Block(1, 2, Style("instance_affine", "ADN"))
    with torch.no_grad():
        block.scale.fill_(3)
        block.shift.fill_(5)
    y = block(image(8, 8, 8))
    torch.testing.assert_close(y.mean((2, 3, 4)), torch.full((1, 2), 5.0))
    torch.testing.assert_close(y.std((2, 3, 4), correction=0), torch.full((1, 2), 3.0), rtol=1e-2, atol=0)


def test_linear_head_reaches_any_intensity_and_the_papers_does_not():
    x = image(16, 16, 16)
    paper, _ = ResidualUNet(1, channels=SMALL, head="paper")(x)
    assert paper.mean().abs() < 1e-5
    linear = ResidualUNet(1, channels=SMALL)
    with torch.no_grad():
        linear.head[1].bias.fill_(100)
    assert linear(x)[0].mean() > 50


def test_same_seed_same_bytes():
    outputs = []
    for _ in range(2):
        torch.manual_seed(3)
        outputs.append(ResidualUNet(2, channels=SMALL)(image(16, 16, 16))[0])
    assert torch.equal(*outputs)


@pytest.mark.parametrize("size", [(16, 16, 20), (8, 16, 16)])
def test_refuses_sizes_it_cannot_halve(size):
    with pytest.raises(InputError, match=r"pad it to \(16, 16, (32|16)\)"):
        ResidualUNet(2, channels=SMALL)(image(*size))
