import pytest
import torch
from torch.nn import functional

from soloatlas.networks.layers import convolve, max_pool, normalise, prelu

LAYOUTS = [torch.contiguous_format, torch.channels_last_3d]


def example(layout, channels=4, size=(3, 4, 5), dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    x = 2 + 3 * torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    return x.to(dtype).contiguous(memory_format=layout).requires_grad_()


def reference(x, groups):
    return functional.instance_norm(x) if groups == x.shape[1] else functional.group_norm(x, groups)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_normalise_equals_torch_in_value_and_gradient(layout, groups):
    x = example(layout)
    weights = torch.randn_like(x.detach()).contiguous()  # not in x's layout
    ours, theirs = normalise(x, groups), reference(x, groups)
    torch.testing.assert_close(ours, theirs)
    (gradient,), (right,) = (torch.autograd.grad((y * weights).sum(), x) for y in (ours, theirs))
    torch.testing.assert_close(gradient, right)
    assert ours.is_contiguous(memory_format=layout) and gradient.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("groups", [1, 4])
def test_normalise_gradcheck(layout, groups):
    assert torch.autograd.gradcheck(lambda x: normalise(x, groups), (example(layout, size=(2, 3, 2)),))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [4, 16, 64])
def test_normalise_keeps_bf16_and_its_accuracy(layout, channels):
    x = example(layout, channels, (8, 8, 16), torch.bfloat16)
    exact = x.detach().double().requires_grad_()
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        ours = normalise(x, channels)
    theirs = reference(exact, channels)
    ours.backward(weights.bfloat16())
    theirs.backward(weights)
    assert ours.dtype == x.grad.dtype == torch.bfloat16
    assert ours.is_contiguous(memory_format=layout)
    # Half a unit in the last of bf16's 8 bits for the value; a few such roundings in the gradient.
    torch.testing.assert_close(ours.double(), theirs, rtol=2**-8, atol=1e-3)
    assert (x.grad.double() - exact.grad).norm() < 0.01 * exact.grad.norm()


def test_statistics_are_float32_where_bf16_sums_would_stop_growing():
    # 32 768 equal-sized terms: a running bf16 sum stalls at 256 of them.
    x = torch.randn(1, 2, 32, 32, 32, generator=torch.Generator().manual_seed(0)).mul_(0.1).add_(8).bfloat16()
    y = normalise(x.requires_grad_(), 2).float()
    assert y.mean((2, 3, 4)).abs().max() < 1e-2
    assert (y.std((2, 3, 4)) - 1).abs().max() < 1e-2


def test_normalise_takes_one_voxel():
    x = torch.ones(1, 3, 1, 1, 1, requires_grad=True)
    y = normalise(x, 3)
    y.sum().backward()
    assert (y == 0).all() and (x.grad == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("slope", [0.25, 0.0, -0.5])
def test_prelu_equals_torch_in_value_and_gradients(layout, slope):
    x = example(layout)
    a = torch.tensor([slope], dtype=torch.float64, requires_grad=True)
    weights = torch.randn_like(x.detach()).contiguous()
    ours, theirs = prelu(x - 2, a), functional.prelu(x - 2, a)
    assert torch.equal(ours, theirs)
    gradients = (torch.autograd.grad((y * weights).sum(), (x, a)) for y in (ours, theirs))
    for gradient, right in zip(*gradients, strict=True):
        torch.testing.assert_close(gradient, right)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_are_the_same_without_gradients(layout):
    x, a = example(layout, dtype=torch.float32), torch.full((1,), 0.3)
    with torch.no_grad():
        plain = prelu(normalise(x, 4), a)
    torch.testing.assert_close(plain, prelu(normalise(x, 4), a).detach())


def test_max_pool_stays_in_bf16_under_autocast():
    x = example(torch.channels_last_3d, size=(4, 4, 6), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        pooled = max_pool(x)
    blocks = x.reshape(2, 4, 2, 2, 2, 2, 3, 2)
    assert pooled.dtype == torch.bfloat16
    assert torch.equal(pooled, blocks.amax((3, 5, 7)))


@pytest.mark.parametrize("size", [(2, 4, 4), (2, 2, 2), (3, 4, 4), (4, 4, 1)])
def test_convolve_has_right_weight_gradients_in_bf16_on_short_axes(size):
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(8, 16, 3, padding=1).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 8, *size).bfloat16().contiguous(memory_format=torch.channels_last_3d)
    weights = torch.randn(1, 16, *size)
    (right,) = torch.autograd.grad((convolution(x.float()) * weights).sum(), convolution.weight)
    litter = [torch.full((61 * k,), torch.nan) for k in range(1, 1000)]  # what uninitialised memory may hold
    del litter
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(convolution, x)
    (gradient,) = torch.autograd.grad((y.float() * weights).sum(), convolution.weight)
    assert y.dtype == torch.bfloat16
    assert (gradient - right).norm() < 0.02 * right.norm()
