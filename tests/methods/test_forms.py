"""Two forms of a method: Table I's rule, and its authors' own."""

import pytest
import torch

from soloatlas import pipeline
from soloatlas.comparison import Request, changes_for
from soloatlas.data.demo import simulate_cohort
from soloatlas.errors import InputError
from soloatlas.inference import student_probabilities, warped_atlas_probabilities
from soloatlas.methods import available_methods, load_method, settings_of
from soloatlas.registration import registrar
from soloatlas.runs import open_run
from soloatlas.segmenter import segmenter
from soloatlas.settings import PRESETS, describe, from_dict, to_dict

FORMED = ("brbs", "clmorph", "dataaug", "transmorph", "voxelmorph-1", "voxelmorph-2")
every_form = pytest.mark.parametrize("name", FORMED)

SMALL = (
    "form=original", "registration.steps=2", "registration.channels=[4,4,4,4]", "student.steps=2",
    "student.channels=[4,4,8,8,8]", "student.batch=1", "appearance.steps=2", "loop.precision=float32",
)  # fmt: skip


def original(name, preset="paper", *changes):
    return settings_of(load_method(name), preset, ["form=original", *changes])


def small(name):
    """The authors' own form, narrowed where the method has the setting."""
    known = {key for key, _ in describe(load_method(name).preset("quick"))}
    wider = ["registration.channels=[16,32,64,128]"] if name == "transmorph" else []
    changes = [change for change in (*SMALL, *wider) if change.partition("=")[0] in known]
    return settings_of(load_method(name), "quick", changes)


def test_methods_with_two_forms_are_known():
    assert tuple(n for n in available_methods() if hasattr(load_method(n), "original")) == FORMED


@every_form
@pytest.mark.parametrize("preset", PRESETS)
def test_the_form_is_another_set_of_settings(name, preset):
    module = load_method(name)
    table, own = module.preset(preset), original(name, preset)
    assert settings_of(module, preset) == settings_of(module, preset, ["form=table"]) == table
    assert own.form == "original" and table.form == "table"
    assert own.registration != table.registration
    assert (own.prepare, own.loop) == (table.prepare, table.loop)
    assert from_dict(module.Settings, to_dict(own)) == own, "run.json holds all of it"
    module.validate(own)


def test_other_changes_win_wherever_they_stand():
    for changes in (["registration.alpha=3", "form=original"], ["form=original", "registration.alpha=3"]):
        found = settings_of(load_method("voxelmorph-2"), "quick", changes)
        assert found.registration.alpha == 3 and found.registration.similarity == "mse"
    back = settings_of(load_method("voxelmorph-2"), "quick", ["form=original", "form=table"])
    assert back.registration.similarity == "cc"


def test_methods_with_one_form_refuse_another():
    with pytest.raises(InputError, match="unknown setting 'form'"):
        original("os-medseg")
    with pytest.raises(InputError, match="not one of table, original"):
        settings_of(load_method("brbs"), "quick", ["form=own"])


def test_a_comparison_takes_the_form_where_there_is_one():
    request = Request(changes=("form=original",))
    assert changes_for("dataaug", request) == ["form=original"]
    assert changes_for("os-medseg", request) == []


def test_numbers_of_the_authors():
    """Those of the paper presets that Table I's rule overrides, as our sources give them."""
    r = original("voxelmorph-2").registration
    assert (r.similarity, r.alpha, r.integration_steps, r.integration_grid) == ("mse", 0.02, 7, "half")
    assert (r.steps, r.batch, r.learning_rate) == (1500 * 100, 1, 1e-4)
    r = original("transmorph").registration
    assert (r.similarity, r.alpha, r.schedule, r.amsgrad, r.batch, r.epochs) == ("cc", 1.0, "poly", True, 1, 500)
    r = original("clmorph").registration
    assert (r.similarity, r.divergence, r.beta, r.batch, r.learning_rate) == ("mse", 0.01, 0.01, 8, 3e-3)
    s = original("dataaug")
    assert (s.registration.alpha, s.registration.window, s.registration.batch, s.registration.epochs) == (1, 9, 1, 500)
    assert (s.appearance.similarity, s.appearance.smoothness, s.appearance.epochs) == (50, 1, 20)
    assert (s.student.slices, s.student.amsgrad, s.student.learning_rate) == (16, True, 1e-4)
    assert s.student.warm_up * s.student.epochs == 500
    assert not s.augment.enabled and s.sampling.label_warp == "nearest" and s.sampling.pairs == "independent"
    s = original("brbs")
    assert (s.joint.semantic, s.joint.inverse, s.joint.mix, s.joint.beta) == (100, 0.1, 0.01, 0.3)
    assert (s.augment.rotation, s.augment.scale, s.augment.shear, s.augment.elastic) == (20, 0.25, 0, 0)
    assert s.student.steps == 200 * 200 and s.student.learning_rate == s.registration.learning_rate == 1e-4
    assert (s.student.cross_entropy, s.student.dice, s.registration.beta) == (0, 1, 0)


@every_form
def test_the_authors_form_trains_and_segments(material, session, name):
    module, settings = load_method(name), small(name)
    module.validate(settings)
    nets = module.train(material, settings, session)
    assert all(torch.isfinite(p).all() for net in nets.values() for p in net.parameters())
    states = {key: net.state_dict() for key, net in nets.items()}
    field = registrar(settings, states.__getitem__, session)(material.atlas, material.scans([0]))
    maps = warped_atlas_probabilities(material.classes, field, material.class_count)
    if "student" in nets:
        student = segmenter(settings, states.__getitem__, material.class_count, session)
        maps = student_probabilities(student, material.scans([0]), precision="float32")
    assert maps.shape == (3, *material.shape)
    torch.testing.assert_close(maps.float().sum(0), torch.ones(material.shape), atol=2e-3, rtol=0)


def test_a_run_of_the_authors_form_is_opened_and_segments(tmp_path):
    study = simulate_cohort(tmp_path / "study", pool=2, test=1, seed=0, spacing=8.0)
    changes = [*SMALL, "prepare.align=centre"]
    run = pipeline.train(study, tmp_path / "run", "dataaug", "quick", changes, cache=tmp_path / "cache")
    opened = open_run(run)
    assert opened.record["settings"]["form"] == "original"
    assert opened.settings.student.network == "slices"
    pipeline.segment(run, study.test_images, tmp_path / "out")
    assert (tmp_path / "out" / study.test_images[0].name).exists()
    assert "own authors (form=original)" in (run / "report.html").read_text(encoding="utf-8")


def test_networks_of_other_methods_are_refused_where_they_cannot_serve():
    for change in ("student.network=group", "student.warm_up=0.5", "student.amsgrad=true"):
        with pytest.raises(InputError, match=change.partition("=")[0]):
            load_method("os-medseg").validate(settings_of(load_method("os-medseg"), "quick", [change]))
    with pytest.raises(InputError, match="brbs takes residual or group"):
        load_method("brbs").validate(original("brbs", "quick", "student.network=slices"))
    with pytest.raises(InputError, match="whole slices"):
        load_method("dataaug").validate(original("dataaug", "quick", "student.patch=[32,32,32]"))
    with pytest.raises(InputError, match="nothing is left to learn from"):
        load_method("brbs").validate(original("brbs", "quick", "student.dice=0"))
    with pytest.raises(InputError, match=r"student\.warm_up"):
        load_method("dataaug").validate(original("dataaug", "quick", "student.warm_up=1.5"))
