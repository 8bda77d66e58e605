"""The main job from end to end on a cohort that needs no data of one's own."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from soloatlas import pipeline
from soloatlas.evaluation import score_study
from soloatlas.reporting.overview import draw_overview
from soloatlas.tables import METRICS, mean_scores, text_table

if TYPE_CHECKING:
    from soloatlas.data.study import Study
    from soloatlas.training import Progress

log = logging.getLogger("soloatlas")

# On the simulated cohort: a few minutes on 2 cores. On the real one: the quick preset as it is.
SIMULATED = ("registration.steps=200", "student.steps=650")
SPACING = 4.0  # mm: coarse, so that a step takes half a second


def demonstrate(cohort: str, output: Path, seed: int, progress: Progress | None = None) -> str:
    """Make or find the cohort, train, segment its test scans, evaluate, report.

    Returns:
        What the command prints: the score table and where the report is.
    """
    output = output / (cohort if seed == 0 else f"{cohort}-seed{seed}")
    study, origin, changes = _cohort(cohort, output, seed)
    run = output / "run"
    log.warning("%s", origin)
    pipeline.train(study, run, changes=changes, seed=seed, resume=(run / "run.json").exists(), progress=progress)
    rows = score_stages(run, study, output, progress)
    pipeline.write_report(run, [output / "scores-register", output / "scores-student"])
    scan = study.test_images[0]
    picture = draw_overview(run, scan, output / "segmentations-student" / scan.name, output / "overview.png")
    table = text_table(["what", *METRICS], rows)
    return f"{origin}\n\n{table}\n\npicture: {picture.resolve()}\nreport: {(run / 'report.html').resolve()}"


def score_stages(run: Path, study: Study, output: Path, progress: Progress | None = None) -> list[list[str]]:
    """Segment and score the study's test scans by the warped atlas and by the student; one row each."""
    rows = []
    for stage, name in (("register", "atlas labels warped"), ("student", "student")):
        folder = output / f"segmentations-{stage}"
        pipeline.segment(run, study.test_images, folder, stage, progress=progress)
        result = score_study(folder, study, output=output / f"scores-{stage}")
        rows.append([name, *mean_scores(result)])
    return rows


def _cohort(name: str, output: Path, seed: int) -> tuple[Study, str, tuple[str, ...]]:
    if name == "simulated":
        from soloatlas.data.demo import simulate_cohort

        study = simulate_cohort(output / "cohort", seed=seed, spacing=SPACING)
        origin = (
            "SIMULATED cohort: the MNI152 template deformed at random, with random contrast, bias and noise. "
            "It shows that the program works, not how well it does on patients."
        )
        return study, origin, SIMULATED
    from soloatlas.data.cohorts import fetch_hippocampus

    study = fetch_hippocampus()
    return (
        study,
        f"Hippocampus cohort (Medical Segmentation Decathlon, Task04): {study.atlas.parent.parent}",
        (),
    )
