"""Every method learns: on a small simulated cohort it beats what it starts from, by a clear margin.

Registering methods (ABS, Trad) must beat the atlas's labels as the alignment leaves them; methods that learn from the
unlabelled pool (LRLS) must beat the student that sees the atlas alone, with the same network and steps.
"""

import pytest

from soloatlas import pipeline
from soloatlas.data.demo import simulate_cohort
from soloatlas.evaluation import evaluate

FIELD = (
    "registration.steps=150",
    "registration.half_resolution=false",
    "registration.channels=[8,16,16,16]",
    "registration.learning_rate=2e-3",
)
STUDENT = ("student.steps=150", "student.channels=[8,16,32,32,32]")
MARGIN = 0.03  # of DSC


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate_cohort(tmp_path_factory.mktemp("cohort"), pool=6, test=2, spacing=6.0)


@pytest.fixture(scope="module")
def dice(study, tmp_path_factory):
    """Mean DSC of a method on the test scans; each method is trained once."""
    found: dict[str, float] = {}

    def score(method: str, *changes: str) -> float:
        if (key := " ".join((method, *changes))) not in found:
            folder = tmp_path_factory.mktemp(method)
            pipeline.train(study, folder / "run", method, changes=changes)
            pipeline.segment(folder / "run", study.test_images, folder / "maps")
            found[key] = evaluate(folder / "maps", study.test_labels)["mean"]["dice"]
        return found[key]

    return score


@pytest.fixture(scope="module")
def identity(dice):
    """The atlas's labels after alignment alone: a registration that has not learnt anything."""
    return dice("voxelmorph-1", "registration.steps=1", "registration.learning_rate=1e-12")


@pytest.mark.parametrize("method", ["voxelmorph-1", "voxelmorph-2", "transmorph", "clmorph", "lt-net"])
def test_a_learnt_registration_beats_alignment_alone(method, dice, identity):
    assert dice(method, *FIELD) > identity + MARGIN


@pytest.mark.parametrize("method", ["syn", "greedy"])
def test_an_optimised_registration_beats_alignment_alone(method, dice, identity):
    assert dice(method) > identity + MARGIN


@pytest.mark.parametrize("method", ["os-medseg", "dataaug", "brbs"])
def test_learning_from_the_pool_beats_learning_from_the_atlas_alone(method, dice):
    assert dice(method, *FIELD, *STUDENT) > dice("resunet", *STUDENT) + MARGIN
