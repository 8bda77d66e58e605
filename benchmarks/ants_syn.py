"""ANTs SyN as a peer: the recorded atlas registered to each scan, its labels warped, scored natively.

    python benchmarks/ants_syn.py --cohort hippocampus

ANTsPy's default SyN (affine first, Mattes MI, iterations 40, 20, 0) on the scans as they are; labels by
genericLabel; one thread and a fixed seed, so that it repeats. Writes results/<cohort>/ants-syn.json.
"""

from __future__ import annotations

import argparse
import os
import time
from importlib import metadata
from pathlib import Path

os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")


def warp_labels(
    atlas: Path, labels: Path, scan: Path, target: Path, iterations: tuple[int, ...] = (40, 20, 0)
) -> float:
    """Register the atlas to the scan, write its labels on the scan's grid, return the seconds it took.

    ``iterations`` of SyN, from coarse to fine.
    """
    import ants

    start = time.perf_counter()
    # The only way to a seed: `registration` takes a random_seed and ignores it (ANTsPy 0.6.3).
    ants.config.set_ants_deterministic(on=False, seed_value=1)
    fixed, moving, moving_labels = (ants.image_read(str(path)) for path in (scan, atlas, labels))
    found = ants.registration(fixed, moving, type_of_transform="SyN", reg_iterations=iterations)
    warped = ants.apply_transforms(fixed, moving_labels, found["fwdtransforms"], interpolator="genericLabel")
    ants.image_write(warped, str(target))
    return time.perf_counter() - start


def main() -> None:
    """Register, score and record one cohort."""
    from soloatlas.atomic import write_json
    from soloatlas.evaluation import kept_scores, score_study
    from soloatlas.machine import about_machine
    from soloatlas.reproduction.recipes import cohort_recipe, cohort_study
    from soloatlas.runs import command_line, versions

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cohort", default="hippocampus")
    parser.add_argument("--split", default="test", choices=["dev", "test"])
    options = parser.parse_args()
    study = cohort_study(options.cohort, options.split)
    folder = Path("runs") / options.cohort / f"ants-syn-{options.split}"
    folder.mkdir(parents=True, exist_ok=True)
    seconds = [
        warp_labels(study.atlas, study.atlas_labels, scan, folder / f"{scan.name.split('.')[0]}.nii.gz")
        for scan in study.test_images
    ]
    scores = score_study(folder, study, cohort_recipe(options.cohort).scoring)
    record = {
        "id": "ants-syn",
        "cohort": options.cohort,
        "split": options.split,
        "atlas": study.atlas.name,
        **kept_scores(scores),
        "seconds_per_scan": sum(seconds) / len(seconds),
        "settings": "ANTsPy SyN defaults, seed 1, 1 thread, genericLabel",
        "command": command_line(),
        "machine": about_machine(),
        "versions": {**versions(), "antspyx": metadata.version("antspyx")},
    }
    suffix = "" if options.split == "test" else "-dev"
    write_json(Path("results") / options.cohort / f"ants-syn{suffix}.json", record)
    print(f"{options.cohort}: SyN DSC {scores['mean_dice']:.3f}, {record['seconds_per_scan']:.1f} s a scan")


if __name__ == "__main__":
    main()
