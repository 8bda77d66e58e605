"""What distinguishes OS-MedSeg: aligned features, a hint with a gradient, a teacher that can be left out."""

import csv
from dataclasses import replace

import pytest
import torch

from soloatlas.errors import InputError
from soloatlas.methods import os_medseg
from soloatlas.registration import PoolFields, predict_field, registration_network
from soloatlas.segmenter import fit_to_memory
from soloatlas.settings import PRESETS, override


@pytest.fixture
def settings():
    small = (
        "registration.steps=3",
        "registration.channels=[4,4,4,4]",
        "student.steps=3",
        "student.channels=[4,4,8,8,8]",
        "student.batch=1",
        "loop.precision=float32",
    )
    return override(os_medseg.preset("quick"), small)


def fields_of(material, settings, session):
    network = registration_network(settings.registration, 0, session.device).eval()
    return PoolFields(network, material, settings.registration, "float32", 1e9)


def student_after(material, settings, session, name):
    there = replace(session, folder=session.folder / name)
    nets = os_medseg.train(material, settings, there)
    return torch.cat([p.detach().flatten() for p in nets["student"].parameters()])


def test_a_teacher_without_hint_cannot_reach_the_student(material, settings, session):
    alone = student_after(material, override(settings, ["teacher=false"]), session, "m2")
    beside = student_after(material, override(settings, ["hint.weight=0"]), session, "no-hint")
    hinted = student_after(material, settings, session, "ours")
    assert torch.equal(alone, beside)
    assert not torch.equal(alone, hinted)


def test_the_same_seed_gives_the_same_student(material, settings, session):
    first = student_after(material, settings, session, "one")
    assert torch.equal(first, student_after(material, settings, session, "two"))
    other = student_after(material, settings, replace(session, seed=1), "three")
    assert not torch.equal(first, other)


def test_teacher_and_student_see_the_same_positions(material, settings, session):
    # With a scan equal to the atlas, a zero field and no change of intensity, equal networks must have equal
    # features at every position, whatever the spatial change.
    settings = override(settings, ["augment.gamma=0", "augment.contrast=0", "augment.bias=0", "augment.noise=0"])
    settings = override(settings, ["synthesis.appearance=none"])
    alike = replace(material, pool=material.atlas.half(), names=("a",), atlas=material.atlas.half().float())
    pool_fields = fields_of(alike, settings, session)
    pool_fields.kept = [torch.zeros(1, 3, *material.shape)]
    inputs, _, real = os_medseg.training_pairs(alike, pool_fields, settings, 0)(0, [0])
    torch.testing.assert_close(inputs, real, atol=1e-5, rtol=0)
    assert not torch.equal(real, alike.scans([0])), "the pair was moved"
    student = os_medseg.build_student(settings, 3, session)
    teacher = os_medseg.build_teacher(settings, session)
    trunk = {k: v for k, v in student.state_dict().items() if not k.startswith("head.1")}
    teacher.load_state_dict({**teacher.state_dict(), **trunk})
    for ours, theirs in zip(student(inputs)[1], teacher(real)[1], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("stop", [False, True])
def test_the_hint_reaches_the_student_and_the_teacher_only_if_asked(material, settings, session, stop):
    settings = override(settings, [f"hint.stop_gradient={str(stop).lower()}", "teacher.weight=0"])
    student = os_medseg.build_student(settings, 3, session)
    teacher = os_medseg.build_teacher(settings, session)
    pool_fields = fields_of(material, settings, session)
    pairs = os_medseg.training_pairs(material, pool_fields, settings, 0)(0, [0])
    os_medseg.distillation_terms(student, teacher, pairs, settings)["hint"].backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in student.parameters())
    reached = any(p.grad is not None and p.grad.abs().max() > 0 for p in teacher.parameters())
    assert reached is not stop


def test_every_term_of_equation_12_has_its_own_switch(material, settings, session):
    student = os_medseg.build_student(settings, 3, session)
    teacher = os_medseg.build_teacher(settings, session)
    pairs = os_medseg.training_pairs(material, fields_of(material, settings, session), settings, 0)(0, [0])

    def terms(*changes):
        return set(os_medseg.distillation_terms(student, teacher, pairs, override(settings, changes)))

    assert terms() == {"cross entropy", "dice", "reconstruction", "hint"}
    assert terms("student.weight=0") == {"reconstruction", "hint"}
    assert terms("teacher.weight=0") == {"cross entropy", "dice", "hint"}
    assert terms("hint.weight=0") == {"cross entropy", "dice", "reconstruction"}
    assert terms("student.dice=0") == {"cross entropy", "reconstruction", "hint"}
    assert set(os_medseg.distillation_terms(student, None, pairs, settings)) == {"cross entropy", "dice"}


def test_real_image_pairs_give_the_student_the_scan(material, settings, session):
    settings = override(settings, ["augment=false", "synthesis.pairs=real"])
    inputs, _, real = os_medseg.training_pairs(material, fields_of(material, settings, session), settings, 0)(0, [1])
    assert torch.equal(inputs, real)
    assert torch.equal(real, material.scans([1]))


def test_a_frozen_teacher_stays_as_pretrained(material, settings, session):
    settings = override(settings, ["teacher.schedule=freeze"])
    teacher = os_medseg.build_teacher(settings, session)
    student = os_medseg.build_student(settings, 3, session)
    os_medseg.learn_reconstruction(teacher, material, settings, session)
    before = [p.detach().clone() for p in teacher.parameters()]
    os_medseg.distil(student, teacher, material, fields_of(material, settings, session), settings, session)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))


def test_a_teacher_visited_now_and_then_is_logged_over_its_visits(material, settings, session):
    settings = override(settings, ["teacher.every=2", "student.steps=4", "teacher.weight=0"])
    session = replace(session, loop=replace(session.loop, log_steps=1))
    os_medseg.train(material, settings, session)
    with (session.folder / "metrics.csv").open() as file:
        rows = [(row["term"], row["step"]) for row in csv.DictReader(file) if row["stage"] == "distil"]
    assert [step for term, step in rows if term == "hint"] == ["1", "3"]
    assert [step for term, step in rows if term == "dice"] == ["1", "2", "3", "4"]


def test_without_a_segmentation_loss_the_teacher_is_visited_at_each_step(material, settings, session):
    settings = override(settings, ["teacher.every=2", "student.steps=2", "student.weight=0"])
    nets = os_medseg.train(material, settings, session)
    assert all(torch.isfinite(p).all() for p in nets["student"].parameters())


def test_patches_train_and_keep_the_pair_together(material, settings, session):
    settings = override(settings, ["student.patch=[16,32,16]"])
    pairs = os_medseg.training_pairs(material, fields_of(material, settings, session), settings, 0)
    inputs, classes, real = pairs(0, [0, 1])
    assert inputs.shape == classes.shape == real.shape == (2, 1, 16, 32, 16)


def test_registration_learns_to_move_the_atlas(material, settings, session):
    settings = override(settings, ["registration.steps=60", "registration.learning_rate=3e-3"])
    from soloatlas.fields import warp
    from soloatlas.losses.similarity import local_cross_correlation
    from soloatlas.registration import learn_registration

    network = learn_registration(material, settings.registration, session)
    scan = material.scans([0])
    field = predict_field(network, material.atlas, scan, settings.registration, "float32")
    before = local_cross_correlation(scan, material.atlas)
    assert local_cross_correlation(scan, warp(material.atlas, field)) < before - 0.01


def test_fields_kept_and_fields_computed_anew_agree(material, settings, session):
    network = registration_network(settings.registration, 0, session.device).eval()
    kept = PoolFields(network, material, settings.registration, "float32", 1e9)
    anew = PoolFields(network, material, settings.registration, "float32", 0)
    assert kept.kept is not None and anew.kept is None
    torch.testing.assert_close(kept[1], anew[1], atol=1e-3, rtol=1e-3)


def test_presets_say_what_they_are():
    paper = os_medseg.preset("paper")
    assert (paper.registration.epochs, paper.student.epochs) == (500, 200)
    assert (paper.registration.learning_rate, paper.student.learning_rate) == (1e-4, 1e-3)
    assert not paper.augment.enabled and paper.student.dice == 0
    ct = os_medseg.preset("paper-ct")
    assert (ct.registration.similarity, ct.registration.smoothness, ct.hint.weight) == ("mi", "bending", 10)
    assert all(os_medseg.preset(name).teacher.enabled for name in PRESETS)


def test_a_grid_that_does_not_fit_is_trained_in_patches():
    settings = os_medseg.preset("paper")
    assert fit_to_memory(settings, (160, 192, 224), 36, 1e12) == settings
    patch = fit_to_memory(settings, (160, 192, 224), 36, 8e9).student.patch
    assert len(patch) == 3 and all(32 <= n < 160 and n % 16 == 0 for n in patch)
    asked = override(settings, ["student.patch=[64,64,64]"])
    assert fit_to_memory(asked, (160, 192, 224), 36, 1e6) == asked


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("student.patch=[32]", "three multiples of 16"),
        ("student.patch=[20,20,20]", "three multiples of 16"),
        ("student.channels=[8,16]", "five widths"),
        ("hint.levels=6", "levels 1 to 5"),
        ("student.batch=0", "at least 1"),
        ("teacher.every=0", "at least 1"),
        ("registration.steps=-5", "0 or more"),
        ("registration.window=8", "odd"),
        ("registration.channels=[0,4,4,4]", "at least 1"),
        ("student.learning_rate=0", "above 0"),
        ("augment.noise=-0.1", "0 or more"),
        ("prepare.percentiles=[99,1]", "the first must be below the second"),
        ("prepare.window=[240,-160]", "the first must be below the second"),
    ],
)
def test_settings_that_cannot_be_trained_are_refused_up_front(change, message):
    with pytest.raises(InputError, match=message):
        os_medseg.validate(override(os_medseg.preset("quick"), [change]))


def test_a_loss_without_terms_is_refused():
    with pytest.raises(InputError, match="no other term"):
        os_medseg.validate(override(os_medseg.preset("quick"), ["student.weight=0", "teacher=false"]))
    os_medseg.validate(override(os_medseg.preset("quick"), ["student.weight=0"]))
