"""The cohort on which every method learns, and how well it did there.

Scans are aligned by their centres alone, so that there is something to learn at a coarse spacing, and the scans that
are scored are the pool, whose labels no method sees: a hundred visits to each are then enough.
"""

from dataclasses import replace

import pytest

from soloatlas import pipeline
from soloatlas.data import demo
from soloatlas.evaluation import evaluate

CENTRE = "prepare.align=centre"
STEPS = (
    "registration.steps=200",
    "registration.batch=1",
    "registration.window=5",
    "registration.learning_rate=3e-3",
)


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


@pytest.fixture
def steps():
    """Settings of a registration that learns within seconds, but for its channels."""
    return STEPS


@pytest.fixture
def field():
    """Settings of a registration that learns within seconds: its steps, and its channels unless others are given."""
    return lambda channels="[16,16,16,16]": (*STEPS, f"registration.channels={channels}")
