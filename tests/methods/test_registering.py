"""VoxelMorph, TransMorph, CLMorph: what each is, any size, and that it learns."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from soloatlas import presets
from soloatlas.augmentation import smooth_displacement
from soloatlas.errors import InputError
from soloatlas.fields import folding_fraction, warp
from soloatlas.losses.similarity import local_cross_correlation
from soloatlas.methods import clmorph, os_medseg, settings_of, transmorph, voxelmorph_1, voxelmorph_2
from soloatlas.networks.choice import REGISTRATION_NETWORKS, build
from soloatlas.networks.registration import RegistrationOutput, VoxelMorph
from soloatlas.networks.transmorph import relative_positions
from soloatlas.registration import field_of, predict_field, registration_network
from soloatlas.settings import PRESETS, override

METHODS = {"voxelmorph-1": voxelmorph_1, "voxelmorph-2": voxelmorph_2, "transmorph": transmorph, "clmorph": clmorph}
NARROW = {"transmorph": "[16,32,64,128]", "clmorph": "[4,8,8,16]"}
every_method = pytest.mark.parametrize("name", METHODS)


def count(network):
    return sum(p.numel() for p in network.parameters())


def images(batch, *size, seed=0):
    return torch.rand(batch, 1, *size, generator=torch.Generator().manual_seed(seed))


@every_method
def test_all_share_similarity_and_smoothness_with_os_medseg(name):
    assert METHODS[name].METHOD.name == name
    for preset in PRESETS:
        theirs, ours = METHODS[name].preset(preset).registration, os_medseg.preset(preset).registration
        for part in ("similarity", "smoothness", "alpha", "window", "steps", "epochs", "batch"):
            assert getattr(theirs, part) == getattr(ours, part), part
        assert bool(theirs.beta) is (name == "clmorph"), "the contrastive term is CLMorph's and ours"


def test_numbers_of_parameters():
    def of(name):
        r = METHODS[name].preset("paper").registration
        return count(build(r.network, channels=r.channels, half_resolution=r.half_resolution))

    assert of("voxelmorph-1") == 274_387
    assert of("voxelmorph-2") == 301_411
    assert count(VoxelMorph(pooled=True)) == 327_331
    assert 46.0e6 < of("transmorph") < 47.5e6  # 46.77 million in the paper


def test_voxelmorph_equals_monais_with_the_same_weights():
    from monai.networks.nets import VoxelMorphUNet

    theirs = VoxelMorphUNet(
        spatial_dims=3,
        in_channels=2,
        unet_out_channels=32,
        channels=(16, 32, 32, 32, 32, 32, 32, 32),
        final_conv_channels=(16, 16),
        use_maxpool=True,
    ).eval()
    ours = VoxelMorph(pooled=True).eval()
    assert count(theirs) == count(ours)
    convolutions = [m for m in theirs.modules() if isinstance(m, torch.nn.Conv3d)]
    own = [*(layer.conv for layer in ours.encoder), *(layer.conv for layer in ours.decoder.levels)]
    own += [*(layer.conv for layer in ours.decoder.refine), ours.decoder.flow]
    by_shape = [tuple(c.weight.shape) for c in convolutions]
    assert sorted(by_shape) == sorted(tuple(c.weight.shape) for c in own)
    downs, ups = _in_order_of_use(theirs, convolutions)
    torch.nn.init.normal_(ours.decoder.flow.weight, std=0.1)
    joining = {layer.conv for layer in (*ours.decoder.levels[1:], ours.decoder.refine[0])}
    for mine, its in zip(own, [*downs, *ups], strict=True):
        weight = mine.weight.data
        if mine in joining:  # MONAI puts the skip first, we the 32 channels from below
            weight = torch.cat([weight[:, 32:], weight[:, :32]], 1)
        its.load_state_dict({"weight": weight, "bias": mine.bias.data})
    moving, fixed = images(1, 32, 48, 32), images(1, 32, 48, 32, seed=1)
    with torch.inference_mode():
        torch.testing.assert_close(
            ours(moving, fixed).field, theirs(torch.cat([moving, fixed], 1)), atol=1e-4, rtol=1e-4
        )


def _in_order_of_use(network, convolutions):
    """The convolutions in the order in which a forward pass meets them, split after the fourth."""
    seen = []
    hooks = [c.register_forward_pre_hook(lambda module, _: seen.append(module)) for c in convolutions]
    with torch.inference_mode():
        network(torch.zeros(1, 2, 32, 32, 32))
    for hook in hooks:
        hook.remove()
    return seen[:4], seen[4:]


@pytest.mark.parametrize("half_resolution", [False, True])
@pytest.mark.parametrize(("name", "size"), [("transmorph", (33, 40, 50)), ("clmorph", (17, 24, 30))])
def test_any_size(name, size, half_resolution):
    network = build(name, channels=tuple(json.loads(NARROW[name])), half_resolution=half_resolution).eval()
    torch.nn.init.normal_(network.flow.weight, std=0.1)
    output = network(images(1, *size), images(2, *size, seed=1))
    assert output.field.shape == (2, 3, *size)
    assert torch.isfinite(output.field).all() and output.field.abs().max() > 0


def test_offsets_within_a_window_have_biases_of_their_own_also_in_small_maps():
    from monai.networks.nets.swin_unetr import WindowAttention

    monais = WindowAttention(8, 2, (5, 6, 7)).relative_position_index
    assert np.array_equal(relative_positions((5, 6, 7), (5, 6, 7)), monais.numpy())
    small = relative_positions((2, 6, 3), (5, 6, 7))
    voxels = np.indices((2, 6, 3)).reshape(3, -1)
    rows = {}
    for i, one in enumerate(voxels.T):
        for j, other in enumerate(voxels.T):
            rows.setdefault(tuple(one - other), set()).add(int(small[i, j]))
    assert all(len(found) == 1 for found in rows.values()), "equal offsets, one bias"
    assert len(set.union(*rows.values())) == len(rows) == 3 * 11 * 5, "and each its own"
    network = build("transmorph", channels=(8, 16, 32, 64))
    kept = set(network.state_dict())
    network(images(1, 32, 64, 96), images(1, 32, 64, 96, seed=1))
    assert network.stages[3].blocks[0].attn.relative_position_index.shape == (6, 6)  # of a map of 1x2x3
    assert set(network.state_dict()) == kept and not [key for key in kept if "relative_position_index" in key]


def test_stages_of_a_transformer_double():
    with pytest.raises(InputError, match="each twice the one before"):
        build("transmorph", channels=(16, 32, 32, 32))


@every_method
def test_learns_to_move_the_atlas(material, session, name):
    rate = "1e-3" if name == "transmorph" else "3e-3"
    changes = ["registration.steps=40", f"registration.learning_rate={rate}", "loop.precision=float32"]
    changes += [f"registration.channels={NARROW[name]}"] if name in NARROW else []
    settings = override(METHODS[name].preset("quick"), changes)
    network = METHODS[name].train(material, settings, session)["registration"]
    scan = material.scans([0])
    field = predict_field(network, material.atlas, scan, settings.registration, "float32")
    before = local_cross_correlation(scan, material.atlas)
    assert local_cross_correlation(scan, warp(material.atlas, field)) < before - 0.01


def test_a_velocity_can_be_integrated_at_half_size():
    settings = override(voxelmorph_2.preset("paper"), ["registration.integration_steps=7"]).registration
    half = replace(settings, integration_grid="half")
    steady = torch.full((1, 3, 16, 17, 20), 1.5)
    torch.testing.assert_close(field_of(RegistrationOutput(steady), half), steady, atol=1e-4, rtol=0)
    smooth = smooth_displacement((32, 32, 32), 2.0, 16, torch.Generator().manual_seed(0))
    rough = torch.randn(1, 3, 32, 32, 32, generator=torch.Generator().manual_seed(0))

    def apart(velocity):
        found = [field_of(RegistrationOutput(velocity), s) for s in (settings, half)]
        return float((found[0] - found[1]).abs().mean() / found[0].abs().mean())

    assert apart(smooth) < 0.05 < 0.3 < apart(rough)


def test_an_integrated_velocity_does_not_fold_where_a_displacement_would():
    settings = voxelmorph_2.preset("paper").registration
    diffeomorphic = replace(settings, integration_steps=7)
    rough = RegistrationOutput(smooth_displacement((32, 32, 32), 8.0, 8, torch.Generator().manual_seed(0)))
    assert folding_fraction(field_of(rough, settings)) > 0.02
    assert folding_fraction(field_of(rough, diffeomorphic)) == 0


@pytest.mark.parametrize(("name", "network"), [("transmorph", "transmorph"), ("clmorph", "clmorph-gaussian")])
def test_networks_that_draw_learn_the_same_twice(material, session, name, network):
    changes = ["registration.steps=3", f"registration.network={network}", f"registration.channels={NARROW[name]}"]
    settings = override(METHODS[name].preset("quick"), [*changes, "loop.precision=float32"])
    found = []
    for k in range(2):
        torch.rand(k + 1)  # another state of torch's own generator
        nets = METHODS[name].train(material, settings, replace(session, folder=session.folder / str(k)))
        found.append(torch.cat([p.detach().flatten() for p in nets["registration"].parameters()]))
    assert torch.equal(*found)


def test_a_network_brings_its_own_widths_and_rate_wherever_it_serves():
    def of(*changes, preset="quick", method=os_medseg):
        return settings_of(method, preset, changes).registration

    for name, method in METHODS.items():
        for preset in PRESETS:
            own = method.preset(preset).registration
            found = of(f"registration.network={own.network}", preset=preset)
            same = own.channels if name != "voxelmorph-1" else (16, 32, 32, 32)  # two methods, one network
            assert (found.channels, found.learning_rate) == (same, own.learning_rate), (name, preset)
    assert of("registration.network='transmorph'", "registration.learning_rate=2e-3").learning_rate == 2e-3
    assert of("registration.channels=[8,16,32,64]", "registration.network=transmorph").channels == (8, 16, 32, 64)
    assert of("registration.network=siamese", method=voxelmorph_1) == replace(
        voxelmorph_1.preset("quick").registration, network="siamese", channels=(16, 32, 32, 32)
    )
    assert set(REGISTRATION_NETWORKS) == {n for n in REGISTRATION_NETWORKS if presets.of_network(n, "paper")}


@pytest.mark.parametrize("network", [n for n in REGISTRATION_NETWORKS if n != "siamese"])
def test_any_registration_network_serves_os_medseg(material, session, network):
    channels = NARROW.get(network.removesuffix("-gaussian"), "[4,4,4,4]")
    settings = override(
        os_medseg.preset("quick"),
        [f"registration.network={network}", f"registration.channels={channels}", "registration.steps=1",
         "student.steps=1", "student.channels=[4,4,8,8,8]", "loop.precision=float32"],
    )  # fmt: skip
    os_medseg.validate(settings)
    nets = os_medseg.train(material, settings, session)
    fresh = registration_network(settings.registration, 0, session.device)
    assert count(nets["registration"]) == count(fresh)
