"""How far alignment alone carries the atlas's labels, on dev scans: what the default of ``prepare.align`` rests on.

    python benchmarks/alignment.py --cohort hippocampus

The recorded atlas is aligned to each dev scan in every way that `prepare.align` knows, and its labels are carried over
by that transform, nothing else. Writes results/<cohort>/alignment-dev.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

if TYPE_CHECKING:
    from soloatlas.data.study import Study
    from soloatlas.evaluation import Scoring
    from soloatlas.settings import Align


def carried_dice(study: Study, how: Align, scoring: Scoring) -> dict[str, float]:
    """DSC of each test scan of ``study``, mean over structures."""
    from soloatlas.data.files import read_labels, read_volume, scan_name
    from soloatlas.data.volume import Volume
    from soloatlas.evaluation import evaluate_case
    from soloatlas.prepare import align, finite, resample

    atlas, labels = finite(read_volume(study.atlas)), read_labels(study.atlas_labels)
    found = {}
    for scan_path, truth_path in zip(study.test_images, study.test_labels, strict=True):
        scan, truth = finite(read_volume(scan_path)), read_labels(truth_path)
        transform, _, _ = align(scan, atlas, how, labels)
        matrix = np.linalg.inv(transform @ atlas.grid.affine) @ scan.grid.affine
        carried = resample(labels.array, matrix, scan.grid.shape, order=0).astype(np.int64)
        values = scoring.labels or sorted({*np.unique(labels.array), *np.unique(truth.array)} - {0})
        scores = evaluate_case(
            Volume(carried, scan.grid), truth, values, not_contoured_if_absent=scoring.not_contoured_if_absent
        )
        dice = [row["dice"] for row in scores.values() if row["dice"] is not None]
        found[scan_name(scan_path)] = float(np.mean(dice))
    return found


def main() -> None:
    """Align, score and record one cohort."""
    from soloatlas.atomic import write_json
    from soloatlas.machine import about_machine
    from soloatlas.reproduction.recipes import cohort_recipe, cohort_study
    from soloatlas.runs import command_line, versions
    from soloatlas.settings import Align

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", default="hippocampus")
    options = parser.parse_args()
    study, scoring = cohort_study(options.cohort, "dev"), cohort_recipe(options.cohort).scoring
    rows = {how: carried_dice(study, how, scoring) for how in get_args(Align)}
    record = {
        "id": "alignment",
        "cohort": options.cohort,
        "split": "dev",
        "atlas": study.atlas.name,
        "mean_dice": {how: float(np.mean(list(cases.values()))) for how, cases in rows.items()},
        "case_dice": rows,
        "command": command_line(),
        "machine": about_machine(),
        "versions": versions(),
    }
    write_json(Path("results") / options.cohort / "alignment-dev.json", record)
    print(options.cohort, {how: round(value, 3) for how, value in record["mean_dice"].items()})


if __name__ == "__main__":
    main()
