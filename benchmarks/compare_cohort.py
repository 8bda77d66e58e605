"""``soloatlas compare`` on a shared cohort: every method, the same data, seed and minutes for each.

    python benchmarks/compare_cohort.py --cohort hippocampus --unlabelled 60 --minutes 6

The bound and the multi-atlas method get labels of the pool, no other method does. Runs lie in
runs/<cohort>/compare; what is finished there is not run again. Writes results/<cohort>/compare.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Compare the methods asked for on one cohort and record the table."""
    from soloatlas.atomic import write_json
    from soloatlas.comparison import Request, compare_methods
    from soloatlas.data.study import with_pool_labels
    from soloatlas.progress import shown_progress
    from soloatlas.reproduction.recipes import cohort_recipe, cohort_study

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cohort", default="hippocampus")
    parser.add_argument("--unlabelled", type=int, help="scans of the pool; default: as reproduce")
    parser.add_argument("--minutes", type=float, default=0.0, help="of training of each method; default: all its steps")
    parser.add_argument("--methods", default="all", metavar="A,B,C")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    options = parser.parse_args()
    recipe, study = cohort_recipe(options.cohort), cohort_study(options.cohort, "test", options.unlabelled)
    study = with_pool_labels(study, study.atlas_labels.parent)
    names = None if options.methods == "all" else options.methods.split(",")
    request = Request(
        changes=recipe.changes,
        seeds=tuple(options.seeds),
        minutes=options.minutes,
        scoring=recipe.scoring,
    )
    output = Path("runs") / options.cohort / "compare"
    with shown_progress() as progress:
        print(compare_methods(study, names, output, request, progress))
    record = json.loads((output / "compare.json").read_text(encoding="utf-8"))
    write_json(Path("results") / options.cohort / "compare.json", record)


if __name__ == "__main__":
    main()
