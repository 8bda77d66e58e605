"""Every method learns: on a small simulated cohort it beats what it starts from, by a clear margin.

Scans are aligned by their centres alone, so that there is something to learn at a coarse spacing, and the scans that
are scored are the pool, whose labels no method sees: a hundred visits to each are then enough. Registering methods
(ABS, Trad) must beat the atlas's labels as that alignment leaves them; methods that learn from the unlabelled pool
(LRLS) must beat the student that sees the atlas alone, with the same network and steps.
"""

from dataclasses import replace

import pytest

from soloatlas import pipeline
from soloatlas.data import demo
from soloatlas.evaluation import evaluate

CENTRE = "prepare.align=centre"
FIELD = (
    "registration.steps=200",
    "registration.batch=1",
    "registration.window=5",
    "registration.learning_rate=3e-3",
)
WIDTHS = {
    "transmorph": "registration.channels=[16,32,64,128]",
    "clmorph": "registration.channels=[8,16,32,64]",
}
NARROW = "registration.channels=[16,16,16,16]"
MORE = {
    "lt-net": ("cycle.transformation=0.001",),  # so steep fields are held back by a way home that 200 steps do not find
    "dataaug": ("appearance.steps=50",),
    "brbs": ("student.steps=250",),  # of both networks together, where the others have 200 and 150
}
STUDENT = ("student.steps=150", "student.channels=[8,16,32,32,32]")
MARGIN = 0.03  # of DSC
OF_STUDENTS = 0.01  # after so few steps; later the student that sees the atlas alone catches up on this easy cohort


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Coarse, and with larger differences of shape than the demo's: at 6 mm those would be within a voxel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "FIELD_MAX_MM", (14.0, 18.0))
        made = demo.simulate_cohort(tmp_path_factory.mktemp("cohort"), pool=1, test=2, spacing=6.0)
    return replace(made, unlabelled=made.test_images)


@pytest.fixture(scope="module")
def dice(study, tmp_path_factory):
    """Mean DSC of a method on the test scans; each method is trained once."""
    found: dict[str, float] = {}

    def score(method: str, *changes: str) -> float:
        if (key := " ".join((method, *changes))) not in found:
            folder = tmp_path_factory.mktemp(method)
            pipeline.train(study, folder / "run", method, changes=(CENTRE, *changes))
            pipeline.segment(folder / "run", study.test_images, folder / "maps")
            found[key] = evaluate(folder / "maps", study.test_labels, folder / "scores")["mean_dice"]
        return found[key]

    return score


@pytest.fixture(scope="module")
def identity(dice):
    """The atlas's labels after alignment alone: a registration that has not learnt anything."""
    return dice("voxelmorph-1", "registration.steps=1", "registration.learning_rate=1e-12")


@pytest.mark.parametrize("method", ["voxelmorph-1", "voxelmorph-2", "transmorph", "clmorph", "lt-net"])
def test_a_learnt_registration_beats_alignment_alone(method, dice, identity):
    assert dice(method, *FIELD, WIDTHS.get(method, NARROW), *MORE.get(method, ())) > identity + MARGIN


def test_an_optimised_registration_beats_alignment_alone(dice, identity):
    assert dice("syn") > identity + MARGIN


@pytest.mark.parametrize("method", ["os-medseg", "dataaug", "brbs"])
def test_learning_from_the_pool_beats_learning_from_the_atlas_alone(method, dice):
    assert dice(method, *FIELD, NARROW, *STUDENT, *MORE.get(method, ())) > dice("resunet", *STUDENT) + OF_STUDENTS
