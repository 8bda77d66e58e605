"""A public data set as a cohort: one folder in the layout of `soloatlas.data.cohorts.shared`.

Scans keep their bytes (they are linked, or copied where links cannot be made); label maps are linked too, or
written anew where the values change.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soloatlas.atomic import read_json, replacing, write_json
from soloatlas.data.cohorts.checking import problems
from soloatlas.data.cohorts.dataset import Case, Dataset, Found, parts, splits_of
from soloatlas.data.files import read_labels, write_volume
from soloatlas.data.labels import relabel
from soloatlas.errors import InputError


def lay_out(
    dataset: Dataset,
    data: Path,
    output: Path,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Make the cohort of a split; one that is there already and complete is left as it is.

    Args:
        dataset: which one.
        data: the user's copy.
        output: holds cohorts; the new one is called as the data set (and the split, if it is not the default).
        split: one of the data set's; None: its default.
        progress: called with (scans done, scans in all).

    Returns:
        The cohort's folder: images, labels, labels.json, and split.json, written last, which also tells the
        ``changes`` of settings and the ``notes`` of the data set. Its atlas is not chosen yet.

    Raises:
        InputError: no such split, no known layout, errors in the data, too few scans, or a folder made of other
            data.
    """
    splits = splits_of(dataset.name)
    chosen = split or next(iter(splits))
    if chosen not in splits:
        raise InputError(f"--split {chosen}: {dataset.name} has {', '.join(splits)}")
    found = dataset.find(data)
    name = (found.title or dataset.name) + ("" if chosen == next(iter(splits)) else f"-{chosen}")
    folder, shared = output / name, parts(found, splits[chosen])
    origin = {"dataset": dataset.name, "layout": found.layout, "data": str(data.resolve()), "split": chosen}
    if _complete(folder, origin, shared):
        return folder
    _refuse_errors(dataset, found, data)
    cases = {case.name: case for case in found.cases}
    used = [cases[case] for part in shared.values() for case in part]
    for done, case in enumerate(used, start=1):
        _place(case, folder, dataset)
        if progress:
            progress(done, len(used))
    names = found.names or dataset.names
    write_json(folder / "labels.json", {str(value): name for value, name in names.items()})
    write_json(folder / "split.json", {**origin, **_told(dataset, found, splits[chosen]), **shared})
    return folder


def _told(dataset: Dataset, found: Found, split: dict[str, Any]) -> dict[str, Any]:
    notes = [f"split by the rule '{split['rule']}'; {split['source']}", *dataset.notes]
    return {"changes": [*dataset.changes, *found.changes], "notes": notes}


def _refuse_errors(dataset: Dataset, found: Found, data: Path) -> None:
    errors = [finding for finding in problems(dataset, found, data) if finding.level == "error"]
    if errors:
        first = f"the first: {errors[0].where}: {errors[0].problem}"
        many = f"{len(errors)} errors" if len(errors) > 1 else "an error"
        raise InputError(f"{data}: {many}; see soloatlas datasets {dataset.name} --data {data}; {first}")


def _complete(folder: Path, origin: dict[str, str], shared: dict[str, Any]) -> bool:
    """Whether the folder holds this very cohort.

    Raises:
        InputError: it holds one of other data.
    """
    if not (folder / "split.json").is_file():
        return False
    there = read_json(folder / "split.json")
    if any(there.get(key) != value for key, value in origin.items()):
        raise InputError(f"{folder}: holds a cohort of other data ({there.get('data')}); remove it or name another")
    changed = [part for part, names in shared.items() if there.get(part) != list(names)]
    if changed:
        raise InputError(f"{folder}: was made of a copy with other scans ({changed[0]} differs); remove it")
    return True


def _place(case: Case, folder: Path, dataset: Dataset) -> None:
    _link(case.image, folder / "images" / f"{case.name}.nii.gz")
    target = folder / "labels" / f"{case.name}.nii.gz"
    if case.labels is not None and dataset.mapping is None:
        _link(case.labels, target)
    elif case.labels is not None and dataset.mapping is not None:
        labels = read_labels(case.labels)
        write_volume(target, relabel(labels.array, dataset.mapping), labels.grid, like=labels)


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(source.resolve())
    except OSError:  # a file system or an account without links
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)


def record_atlas(folder: Path, atlas: str, rule: str) -> None:
    """Write down which scan of the cohort's pool is its atlas, and by which rule.

    Raises:
        InputError: it is not in the pool, or has no labels.
    """
    content = read_json(folder / "split.json")
    if atlas not in content["pool"] or not (folder / "labels" / f"{atlas}.nii.gz").is_file():
        raise InputError(f"--atlas {atlas}: not a labelled scan of the pool of {folder}; see its split.json")
    write_json(folder / "split.json", {**content, "atlas": atlas, "atlas_rule": rule})
