"""A table on the paper's own data: from a user's copy of a public data set to the study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from soloatlas.atomic import read_json
from soloatlas.data.cohorts.catalogue import find_dataset
from soloatlas.data.cohorts.dataset import Dataset, splits_of
from soloatlas.data.cohorts.laying_out import lay_out, record_atlas
from soloatlas.data.cohorts.shared import Split, cohort_changes, shared_cohort
from soloatlas.errors import InputError
from soloatlas.progress import counting

if TYPE_CHECKING:
    from soloatlas.data.study import Study
    from soloatlas.training import Progress

RULE = "choose-atlas --by ncc on the labelled scans of the pool"


def public_cohort(
    dataset: Dataset,
    data: Path,
    output: Path,
    split: str | None = None,
    atlas: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Lay out a data set as a cohort (`lay_out`) and settle its atlas, once.

    Args:
        dataset: which one.
        data: the user's copy.
        output: holds cohorts.
        split: of the data set; None: its default.
        atlas: id of a labelled scan of the pool; None: the one settled before, or the one most like the other
            labelled scans of the pool, since neither paper names its own.
        progress: told how far it is.

    Returns:
        The cohort's folder.

    Raises:
        InputError: see `lay_out`; or the atlas is not a labelled scan of the pool.
    """
    folder = lay_out(dataset, data, output, split, counting(progress, "lay out"))
    settled = read_json(folder / "split.json")
    if atlas is not None:
        record_atlas(folder, atlas, "named by --atlas")
    elif "atlas" not in settled:
        record_atlas(folder, _most_alike(folder, set(settled["pool"]) - set(dataset.bad), progress), RULE)
    return folder


def _most_alike(folder: Path, pool: set[str], progress: Progress | None) -> str:
    from soloatlas.prepare import choose_atlas

    labelled = [name for name in sorted(pool) if (folder / "labels" / f"{name}.nii.gz").is_file()]
    if len(labelled) == 1:
        return labelled[0]
    scans = [folder / "images" / f"{name}.nii.gz" for name in labelled]
    return choose_atlas(scans, progress=counting(progress, "choose-atlas"))[0][0]


def public_study(
    cohort: str, data: Path, output: Path, split: Split, progress: Progress | None = None
) -> tuple[Study, tuple[str, ...]]:
    """The study of a public data set, and the settings that prepare it.

    Args:
        cohort: name of the data set; ``<data set>-<split>`` for a split that is not its default (oasis-code).
        data: the user's copy.
        output: holds cohorts.
        split: which labelled scans become the test scans.
        progress: told how far it is.

    Raises:
        InputError: no such data set, or see `public_cohort`.
    """
    name, _, ending = cohort.rpartition("-")
    of_split = bool(name) and _is_split(name, ending)
    dataset = find_dataset(name if of_split else cohort)
    folder = public_cohort(dataset, data, output, ending if of_split else None, progress=progress)
    return shared_cohort(folder.name, split=split, root=output), cohort_changes(folder)


def _is_split(name: str, ending: str) -> bool:
    try:
        return ending in splits_of(find_dataset(name).name)
    except InputError:
        return False
