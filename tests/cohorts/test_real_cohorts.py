"""Small but genuine runs on real scans; skipped, with the reason, where the cohorts are missing."""

from dataclasses import replace

import numpy as np
import pytest

from soloatlas import pipeline
from soloatlas.data.check import check_study
from soloatlas.data.cohorts import shared_cohort
from soloatlas.evaluation import evaluate
from soloatlas.prepare import prepare_study
from soloatlas.reproduction.recipes import COHORTS
from soloatlas.settings import Prepare, override

pytestmark = pytest.mark.cohort


def test_hippocampus_from_one_label_to_scored_segmentations(cohorts, tmp_path):
    study = shared_cohort("hippocampus", 12, "dev", root=cohorts)
    study = replace(study, test_images=study.test_images[:5], test_labels=study.test_labels[:5])
    changes = ["registration.steps=120", "student.steps=150"]
    run = pipeline.train(study, tmp_path / "run", changes=changes, cache=tmp_path / "cache")
    means = {}
    for stage in ("register", "student"):
        pipeline.segment(run, study.test_images, tmp_path / stage, stage)
        means[stage] = evaluate(tmp_path / stage, study.test_labels, None)["mean_dice"]
    # Centred without alignment, the recorded atlas's labels reach about 0.5 on dev scans.
    assert means["register"] > 0.62
    assert means["student"] > 0.60


@pytest.mark.parametrize("name", list(COHORTS))
def test_every_cohort_reads_without_an_error(cohorts, name):
    study = shared_cohort(name, None, "dev", root=cohorts)
    study = replace(study, unlabelled=study.unlabelled[:4], test_images=(), test_labels=())
    assert [f for f in check_study(study) if f.level == "error"] == []


def test_a_brain_is_prepared_onto_the_atlas(cohorts, tmp_path):
    study = shared_cohort("brain_malf", 1, "dev", root=cohorts)
    settings = override(Prepare(), ["spacing=4.0"])
    prepared = prepare_study(study, settings, workers=1)
    (scan,) = prepared.scans
    assert scan.aligned and scan.score > 0.8
    assert prepared.table.classes == 39
    body = prepared.atlas.image > 0
    assert np.corrcoef(scan.image[body].astype(float), prepared.atlas.image[body].astype(float))[0, 1] > 0.6
