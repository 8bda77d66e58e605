"""What distinguishes LT-Net: a reversible pair of fields, a discriminator that takes turns, every term a switch."""

from dataclasses import replace

import pytest
import torch

from soloatlas import fields
from soloatlas.errors import InputError
from soloatlas.losses.cycle import class_boxes
from soloatlas.methods import lt_net
from soloatlas.settings import PRESETS, override

TERMS = {"similarity", "smoothness", "adversarial", "image cycle", "transformation", "anatomy cycle"}


@pytest.fixture
def settings():
    small = (
        "registration.steps=3",
        "registration.channels=[4,4,4,4]",
        "registration.half_resolution=false",
        "adversary.channels=[2,4,4,4]",
        "loop.precision=float32",
    )
    return override(lt_net.preset("quick"), small)


def turns(material, settings, session):
    networks = {"registration": lt_net._generator(settings, session, "registration")}
    if settings.cycle.enabled:
        networks["backward"] = lt_net._generator(settings, session, "backward")
    rival = lt_net._discriminator(settings, session) if settings.adversary.enabled else None
    boxes = class_boxes(material.classes, material.class_count)
    return lt_net.play(material, [0, 1], boxes, networks, rival, settings), networks, rival


@pytest.mark.parametrize(
    ("changes", "terms"),
    [
        ((), TERMS | {"anatomy difference"}),
        (("adversary=false", "cycle=false"), {"similarity", "smoothness"}),
        (("cycle=false",), {"similarity", "smoothness", "adversarial"}),
        (("cycle.difference=0",), TERMS),
        (("cycle.anatomy=0", "cycle.difference=0"), TERMS - {"anatomy cycle"}),
        (("cycle.transformation=0", "cycle.difference=0"), TERMS - {"transformation"}),
    ],
)
def test_every_term_of_equation_11_has_its_own_switch(material, settings, session, changes, terms):
    played, _, rival = turns(material, override(settings, changes), session)
    if rival is not None:
        assert set(next(played)) == {"discriminator", "D(real)", "D(warped)", "D right"}
    assert set(next(played)) == terms


def test_the_discriminators_turn_leaves_the_generators_alone(material, settings, session):
    played, networks, rival = turns(material, settings, session)
    next(played)["discriminator"].backward()
    assert all(p.grad is None for net in networks.values() for p in net.parameters())
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in rival.parameters())


def test_the_way_back_reaches_both_generators(material, settings, session):
    played, networks, _ = turns(material, override(settings, ["adversary=false"]), session)
    terms = next(played)
    for name in ("image cycle", "transformation", "anatomy cycle", "anatomy difference"):
        for network in networks.values():
            network.zero_grad()
        terms[name].backward(retain_graph=True)
        for network in networks.values():
            assert any(p.grad is not None and p.grad.abs().max() > 0 for p in network.parameters()), name


def test_before_it_is_pulled_the_forward_generator_learns_from_its_own_terms_alone(material, settings, session):
    _, networks, _ = turns(material, settings, session)
    boxes = class_boxes(material.classes, material.class_count)
    terms = next(lt_net.play(material, [0], boxes, networks, None, settings, pull=0.0))
    (terms["transformation"] + terms["anatomy cycle"] + terms["image cycle"]).backward()
    assert all(p.grad is None or not p.grad.any() for p in networks["registration"].parameters())
    assert any(p.grad is not None and p.grad.any() for p in networks["backward"].parameters())


def test_a_pull_scales_what_the_way_back_teaches_the_forward_generator_alone(material, settings, session):
    _, networks, _ = turns(material, settings, session)
    boxes = class_boxes(material.classes, material.class_count)
    learnt = []
    for pull in (1.0, 0.01):
        for network in networks.values():
            network.zero_grad()
        terms = next(lt_net.play(material, [0], boxes, networks, None, settings, pull))
        (terms["transformation"] + terms["anatomy cycle"] + terms["image cycle"]).backward()
        learnt.append({k: torch.cat([p.grad.ravel() for p in n.parameters()]) for k, n in networks.items()})
    assert learnt[0]["registration"].norm() > 0
    torch.testing.assert_close(learnt[1]["registration"], 0.01 * learnt[0]["registration"], rtol=1e-3, atol=1e-10)
    torch.testing.assert_close(learnt[1]["backward"], learnt[0]["backward"])


def test_training_makes_the_fields_inverse_of_each_other(material, settings, session):
    # The forward field is given, and the way back is learnt from its terms alone.
    settings = override(settings, ["adversary=false", "cycle.difference=0"])
    backward = lt_net._generator(settings, session, "backward")
    forward = torch.tensor([1.0, -0.5, 0.0]).view(1, 3, 1, 1, 1).expand(1, 3, 32, 32, 32)
    warped = fields.warp(material.atlas, forward)
    boxes = class_boxes(material.classes, material.class_count)
    optimiser = torch.optim.Adam(backward.parameters(), lr=3e-3)
    seen = []
    for _ in range(25):
        smoothness, terms = lt_net.cycle_terms(material, boxes, backward, warped, forward, settings)
        optimiser.zero_grad()
        (sum(terms.values()) + smoothness).backward()
        optimiser.step()
        seen.append({name: term.item() for name, term in terms.items()})
    for name, share in (("transformation", 0.5), ("anatomy cycle", 0.5), ("image cycle", 0.8)):
        assert seen[-1][name] < share * seen[0][name]


def test_a_killed_game_resumes_to_the_same_networks(material, settings, session):
    class KilledError(Exception):
        pass

    def die(task, done, total, note=""):
        if done == 4:
            raise KilledError

    settings = override(settings, ["registration.steps=6", "loop.checkpoint_minutes=0"])
    session = replace(session, loop=replace(session.loop, checkpoint_minutes=0))
    whole = lt_net.train(material, settings, replace(session, folder=session.folder / "whole"))
    cut = replace(session, folder=session.folder / "cut", progress=die)
    with pytest.raises(KilledError):
        lt_net.train(material, settings, cut)
    resumed = lt_net.train(material, settings, replace(cut, progress=None))
    for name, network in whole.items():
        for a, b in zip(network.parameters(), resumed[name].parameters(), strict=True):
            assert torch.equal(a, b)
    rows = [(session.folder / name / "metrics.csv").read_text() for name in ("whole", "cut")]
    assert rows[0] == rows[1]


def test_the_printed_form_trains_too(material, settings, session):
    nets = lt_net.train(material, override(settings, ["adversary.form=printed"]), session)
    assert all(torch.isfinite(p).all() for net in nets.values() for p in net.parameters())


def test_a_run_without_the_way_back_has_no_reverser(material, settings, session):
    settings = override(settings, ["cycle=false"])
    assert set(lt_net.train(material, settings, session)) == {"registration"}
    assert lt_net.reverser(settings, {}.__getitem__, session) is None


def test_presets_say_what_they_are():
    paper = lt_net.preset("paper")
    assert (paper.registration.learning_rate, paper.registration.batch) == (2e-4, 1)
    assert (paper.cycle.image, paper.cycle.transformation, paper.registration.alpha) == (10, 3, 3)
    assert paper.registration.network == "voxelmorph" and paper.registration.window == 9
    assert all(lt_net.preset(name).adversary.enabled and lt_net.preset(name).cycle.enabled for name in PRESETS)


def test_the_discriminator_can_be_kept_from_judging_by_contrast(material):
    forward = torch.zeros(2, 3, *material.shape)
    forward[:, 0] = 1.0
    scans = torch.cat([material.atlas**2, material.atlas * 0.5])
    warped = fields.warp(material.atlas.expand_as(scans), forward)
    plain = lt_net.shown_atlas(material.atlas, scans, forward, warped, lt_net.Adversary())
    shown = lt_net.shown_atlas(material.atlas, scans, forward, warped, lt_net.Adversary(appearance="histogram"))
    assert plain is warped
    # These scans are the atlas under another contrast: matched and warped, it is each of them, moved.
    assert (shown - fields.warp(scans, forward)).abs().mean() < 0.002
    assert (plain - fields.warp(scans, forward)).abs().mean() > 0.1


def test_noise_hides_grain_from_the_discriminator_and_is_the_same_in_a_resumed_run(material, settings, session):
    played, _, _ = turns(material, override(settings, ["adversary.noise=0.1"]), session)
    again, _, _ = turns(material, override(settings, ["adversary.noise=0.1"]), session)
    drawn = []
    for one in (played, again):
        torch.manual_seed(1)
        drawn.append(next(one)["D(real)"])
    assert drawn[0] == drawn[1]
    images = torch.full((1, 1, 32, 32, 32), 0.5)
    assert lt_net.with_noise(images, 0.0) is images
    spread = (lt_net.with_noise(images, 0.2) - images).std()
    assert 0.19 < spread < 0.21


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("adversary.channels=[8]", "four widths"),
        ("registration.channels=[8]", "four widths"),
        ("cycle.warm_up=2", "share of the steps"),
        ("cycle.pull=1.5", "share of the gradient"),
        ("adversary.noise=-0.1", "0 or more"),
        ("registration.batch=0", "at least 1"),
        ("betas=[0.9,1.0]", "betas=.* both must be below 1"),
        ("adversary.betas=[1.5,0.9]", "adversary.betas=.* both must be below 1"),
        ("prepare.multiple=8", "networks halve four times; give 16 or 32"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_up_front(change, said):
    with pytest.raises(InputError, match=said):
        lt_net.validate(override(lt_net.preset("quick"), [change]))
