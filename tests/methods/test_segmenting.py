"""U-Net and ResUNet on the atlas alone, and the supervised bound: what each looks at."""

import csv
from dataclasses import replace

import pytest
import torch

from soloatlas.methods import os_medseg, resunet, supervised, unet
from soloatlas.segmenter import (
    changed_pair,
    drawn_slices,
    fit_to_memory,
    learn_segmentation,
    segmentation_terms,
    segmentation_weights,
    segmenter,
)
from soloatlas.settings import PRESETS, Augment, override

SMALL = ("student.steps=2", "student.channels=[4,4,8,8,8]", "student.batch=1", "loop.precision=float32")


def count(network):
    return sum(p.numel() for p in network.parameters())


def small(method):
    return override(method.preset("quick"), SMALL)


def test_the_u_net_has_no_residual_connection_and_fewer_parameters(material, session):
    nets = [m.train(material, small(m), replace(session, folder=session.folder / m.__name__)) for m in (unet, resunet)]
    assert count(nets[0]["student"]) < count(nets[1]["student"])
    for name in PRESETS:
        assert not unet.preset(name).student.residual and not unet.preset(name).student.decoder_residual
        assert resunet.preset(name).student.residual


@pytest.mark.parametrize("method", [unet, resunet])
def test_learning_from_the_atlas_alone_looks_at_no_other_scan(material, session, method):
    assert method.METHOD.pool == "none"
    blind = replace(material, pool=torch.full_like(material.pool, float("nan")))
    network = method.train(blind, small(method), session)["student"]
    assert all(torch.isfinite(p).all() for p in network.parameters())


def test_the_bound_has_the_students_network_augmentation_loss_and_steps():
    for name in PRESETS:
        bound, ours = supervised.preset(name), os_medseg.preset(name)
        assert (bound.student, bound.augment, bound.prepare) == (ours.student, ours.augment, ours.prepare)
    assert supervised.METHOD.pool == "labelled"


def test_the_bound_learns_from_the_labels_of_the_pool(material, session):
    # Labels of the pool that contradict the atlas's: the student follows the many.
    settings = override(small(supervised), ["student.steps=60", "augment=false", "student.learning_rate=1e-2"])
    wrong = torch.where(material.pool > 0.5, 2, 0).to(torch.int16)
    network = supervised.train(replace(material, pool_classes=wrong), settings, session)["student"]
    with torch.inference_mode():
        found = network(material.scans([0]))[0].argmax(1)
    inside = wrong[0, 0] == 2
    assert (found[0][inside] == 2).float().mean() > 0.9
    assert (found == 1).float().mean() < 0.02


def test_a_student_learns_and_is_found_again(material, session):
    settings = override(resunet.preset("quick"), [*SMALL, "student.steps=20", "student.learning_rate=1e-2"])
    network = learn_segmentation(
        lambda step, items: (material.atlas, material.classes), 1, 3, settings.student, session
    )
    with (session.folder / "metrics.csv").open() as file:
        losses = [float(row["value"]) for row in csv.DictReader(file) if row["term"] == "total"]
    assert losses[-1] < 0.9 * losses[0]
    again = segmenter(settings, lambda name: network.state_dict(), 3, session)
    with torch.inference_mode():
        assert torch.equal(again(material.atlas)[0], network(material.atlas)[0])


def test_a_warm_up_takes_its_share_of_the_steps_and_of_the_draws(material, session):
    seen = []

    def pairs(step, items):
        seen.append(step)
        return material.atlas, material.classes

    settings = override(resunet.preset("quick"), [*SMALL, "student.steps=6", "student.warm_up=0.5"])
    learn_segmentation(pairs, 1, 3, settings.student, session)
    assert seen == [0, 1, 2, 3, 4, 5], "no draw is repeated"
    with (session.folder / "metrics.csv").open() as file:
        terms = {(row["stage"], row["term"]) for row in csv.DictReader(file) if row["term"] != "total"}
    assert terms == {("warm-up", "log labels"), ("segment", "cross entropy"), ("segment", "dice")}


def test_dice_can_stand_alone(material):
    settings = override(resunet.preset("quick"), ["student.cross_entropy=0"]).student
    logits = torch.zeros(1, 3, *material.shape)
    assert set(segmentation_terms(logits, material.classes, settings)) == {"dice"}
    assert segmentation_weights(settings) == {"cross entropy": 0.0, "dice": 1.0}
    assert segmentation_terms(logits, material.classes, replace(settings, weight=0.0)) == {}


def test_slices_are_drawn_without_repetition_and_with_their_labels():
    volume = torch.arange(40.0).expand(2, 1, 3, 4, 40)
    images, labels = drawn_slices(volume, volume.short(), 16, 0, 5)
    assert images.shape == labels.shape == (2, 1, 3, 4, 16)
    assert torch.equal(images, labels.float())
    assert len(set(images[0, 0, 0, 0].tolist())) == 16
    assert not torch.equal(images, drawn_slices(volume, volume, 16, 0, 6)[0])
    assert drawn_slices(volume, volume, 50, 0, 5)[0].shape == volume.shape


def test_a_network_of_slices_needs_no_patch():
    settings = override(resunet.preset("quick"), ["student.network=slices"])
    assert fit_to_memory(settings, (256, 256, 256), 40, room=1e9) == settings
    assert fit_to_memory(resunet.preset("quick"), (256, 256, 256), 40, room=1e9).student.patch


def test_image_and_labels_undergo_the_same_change(material):
    augment = replace(Augment(), gamma=0.0, contrast=0.0, bias=0.0, noise=0.0)
    as_image = material.classes.float() / 2
    image, classes = changed_pair(as_image, material.classes, augment, (), material.spacing, 0, 3)
    assert not torch.equal(classes, material.classes)
    assert ((image * 2).round() == classes).float().mean() > 0.97
    again, _ = changed_pair(as_image, material.classes, augment, (), material.spacing, 0, 3)
    assert torch.equal(image, again)
    patch, its = changed_pair(as_image, material.classes, augment, (16, 16, 32), material.spacing, 0, 3)
    assert patch.shape == its.shape == (1, 1, 16, 16, 32)
