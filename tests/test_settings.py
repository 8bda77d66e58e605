"""Settings: overrides, nearest names, types, round trips."""

import pytest

from soloatlas.errors import InputError
from soloatlas.methods import os_medseg
from soloatlas.settings import describe, from_dict, override, to_dict


def test_assignments_reach_nested_settings_with_their_types():
    changed = override(
        os_medseg.preset("paper"),
        ["hint.levels=3", "hint.distance=l2", "student.channels=[8, 16, 32, 64, 128]", "prepare.spacing=2"],
    )
    assert (changed.hint.levels, changed.hint.distance) == (3, "l2")
    assert changed.student.channels == (8, 16, 32, 64, 128)
    assert changed.prepare.spacing == 2.0 and isinstance(changed.prepare.spacing, float)
    assert override(changed, ["prepare.spacing=none"]).prepare.spacing is None


def test_a_section_with_a_switch_can_be_turned_off_as_a_whole():
    assert override(os_medseg.preset("quick"), ["teacher=false"]).teacher.enabled is False


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("hint.wieght=1", "did you mean 'weight'"),
        ("tacher=false", "did you mean 'teacher'"),
        ("hint.distance=manhattan", "not one of cosine, l2"),
        ("hint.levels=two", "expected a whole number"),
        ("hint.levels=true", "expected a whole number"),
        ("hint=1", "is a section"),
        ("hint.weight", "expected key=value"),
        ("student.channels=8", "expected a list"),
        ("prepare.percentiles=[1, 2, 3]", "expected 2 numbers in a list"),
    ],
)
def test_a_wrong_assignment_is_answered_in_one_line(assignment, message):
    with pytest.raises(InputError, match=message) as caught:
        override(os_medseg.preset("quick"), [assignment])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["quick", "standard", "paper", "paper-ct"])
def test_presets_survive_the_way_through_a_dictionary(name):
    settings = os_medseg.preset(name)
    assert from_dict(os_medseg.Settings, to_dict(settings)) == settings


def test_description_names_every_setting_once():
    names = [name for name, _ in describe(os_medseg.preset("quick"))]
    assert len(names) == len(set(names))
    assert "student.channels" in names and "registration.alpha" in names


@pytest.mark.parametrize("change", ["hint.weight=nan", "prepare.spacing=inf", "loop.minutes=inf"])
def test_numbers_are_finite(change):
    with pytest.raises(InputError, match="must be a number, and finite"):
        os_medseg.validate(override(os_medseg.preset("quick"), [change]))
