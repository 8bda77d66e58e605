"""Accuracy against minutes of training: ours, and the published schedule in the published form, for as long.

    python benchmarks/accuracy_minutes.py --cohort hippocampus

Ours is OS-MedSeg's preset quick, whose schedule follows the limit of time. The published form is the preset paper in
float32: its networks, losses and constant rates, no augmentation. Each point is a training of its own from the same
seed with ``loop.minutes``; preparing the scans does not count. A run that is there is not trained again. Writes
results/<cohort>/accuracy-minutes.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from soloatlas.data.study import Study
    from soloatlas.reproduction.recipes import Recipe

FORMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": ("quick", ()),
    "published form": ("paper", ("loop.precision=float32",)),
}
MINUTES = {"ours": (1, 2, 4, 8, 16), "published form": (5, 10, 20, 40, 80)}
FIFTH = 5.0  # times sooner that ours is to be as good
ALIKE = 0.005  # DSC by which trainings differ from seed to seed


def point(study: Study, recipe: Recipe, form: str, minutes: float, runs: Path, *more: str) -> dict[str, Any]:
    """Train for so many minutes, segment the test scans, score them."""
    from soloatlas import pipeline
    from soloatlas.evaluation import kept_scores, score_study
    from soloatlas.runs import read_record

    preset, changes = FORMS[form]
    folder = runs / f"{preset}-{minutes:g}"
    settings = (*recipe.changes, *changes, *more, f"loop.minutes={minutes:g}")
    pipeline.train(study, folder, preset=preset, changes=settings, resume=True)
    pipeline.segment(folder, study.test_images, folder / "test")
    scores = score_study(folder / "test", study, recipe.scoring)
    seconds = read_record(folder)["seconds"]["learn"]
    cases = kept_scores(scores)["case_dice"]
    return {"form": form, "minutes": minutes, "seconds": seconds, "dice": scores["mean_dice"], "case_dice": cases}


def times_sooner(points: list[dict[str, Any]]) -> float | None:
    """How many times sooner ours is as good as the published form at its best; None where it never is.

    Its best are all its points within `ALIKE` of the highest: the least number counts, so that a long training that
    gained next to nothing does not flatter ours.
    """
    ours, theirs = ([p for p in points if (p["form"] == "ours") == mine] for mine in (True, False))
    best = max(p["dice"] for p in theirs)
    if best > max(p["dice"] for p in ours):
        return None
    near = [p for p in theirs if p["dice"] >= best - ALIKE]
    return min(p["seconds"] / min(o["seconds"] for o in ours if o["dice"] >= p["dice"]) for p in near)


def main() -> None:
    """Measure every point of a cohort and record them."""
    from soloatlas.atomic import write_json
    from soloatlas.machine import about_machine
    from soloatlas.reproduction.recipes import cohort_recipe, cohort_study
    from soloatlas.runs import command_line, versions

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="hippocampus")
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, nargs="*", help="of both forms; default: ours 1 to 16, theirs 5 to 80")
    options = parser.parse_args()
    recipe, study = cohort_recipe(options.cohort), cohort_study(options.cohort, "test")
    runs = Path("runs") / options.cohort / "accuracy-minutes"
    points = []
    for form in FORMS:
        for minutes in options.minutes or MINUTES[form]:
            points.append(point(study, recipe, form, minutes, runs, *options.changes))
            print("{form}, {minutes:g} min: DSC {dice:.3f}".format(**points[-1]), flush=True)
    found = times_sooner(points)
    record = {
        "id": "accuracy-minutes",
        "cohort": options.cohort,
        "scans": len(study.test_images),
        "unlabelled": len(study.unlabelled),
        "seed": 0,
        "points": points,
        "times_sooner": found,
        "target": FIFTH,
        "met": found is not None and found >= FIFTH,
        "changes": [*recipe.changes, *options.changes],
        "command": command_line(),
        "machine": about_machine(),
        "versions": versions(),
    }
    write_json(Path("results") / options.cohort / "accuracy-minutes.json", record)


if __name__ == "__main__":
    main()
