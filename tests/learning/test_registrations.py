"""Registering methods (ABS, Trad) beat, by a clear margin, the atlas's labels as alignment by centres leaves them."""

import pytest

WIDTHS = {"transmorph": "[16,32,64,128]", "clmorph": "[8,16,32,64]"}
# So steep fields are held back by a way home that 200 steps do not find.
MORE = {"lt-net": ("cycle.transformation=0.001",)}
MARGIN = 0.03  # of DSC


@pytest.fixture(scope="module")
def identity(dice):
    """A registration that has not learnt anything."""
    return dice("voxelmorph-1", "registration.steps=1", "registration.learning_rate=1e-12")


@pytest.mark.parametrize("method", ["voxelmorph-1", "voxelmorph-2", "transmorph", "clmorph", "lt-net"])
def test_a_learnt_registration_beats_alignment_alone(method, dice, identity, field):
    settings = field(WIDTHS[method]) if method in WIDTHS else field()
    assert dice(method, *settings, *MORE.get(method, ())) > identity + MARGIN


# Mean squares, on scans of other contrasts, learn less in as many steps than local correlation.
ORIGINAL_MARGIN = {"voxelmorph-1": MARGIN, "voxelmorph-2": 0.01, "transmorph": MARGIN, "clmorph": 0.01}


@pytest.mark.parametrize("method", ORIGINAL_MARGIN)
def test_a_registration_in_its_authors_form_beats_alignment_alone(method, dice, identity, steps):
    narrow = ("registration.channels=[16,32,64,128]",) if method == "transmorph" else ()
    assert dice(method, "form=original", *steps, *narrow) > identity + ORIGINAL_MARGIN[method]


def test_an_optimised_registration_beats_alignment_alone(dice, identity):
    assert dice("syn") > identity + MARGIN
