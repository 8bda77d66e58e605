"""Cohorts by name, in one layout.

A cohort is ``<root>/<name>/images/<id>.nii.gz``, ``labels/<id>.nii.gz``, ``labels.json`` and
``split.json`` ({"pool": [...], "dev": [...], "test": [...]}). The atlas is one of the pool; the others, in
the listed order, are the unlabelled scans. ``dev`` is for choosing defaults, ``test`` for reported results.
``split.json`` may also name the ``atlas`` and hold ``changes`` of settings and ``notes``, as that of a public
data set does (`soloatlas.data.cohorts.laying_out`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Literal

from soloatlas.data.study import Study
from soloatlas.errors import InputError

Split = Literal["dev", "test"]

_PARTS = ("pool", "dev", "test")
_EXPECTED = "expected lists of ids under pool, dev and test"

ATLASES = Path(__file__).parents[2] / "reproduction" / "atlases.json"


def data_root() -> Path | None:
    """The folder of shared cohorts, or None where there is none.

    SOLOATLAS_DATA if it is set, else ``shared/data`` beside the repository or the working directory.

    Raises:
        InputError: SOLOATLAS_DATA names no folder.
    """
    given = os.environ.get("SOLOATLAS_DATA")
    if given:
        if not Path(given).is_dir():
            raise InputError(f"SOLOATLAS_DATA={given}: no such folder; correct or unset it")
        return Path(given)
    places = [base.parent / "shared" / "data" for base in (Path(__file__).resolve().parents[4], Path.cwd())]
    return next((place for place in places if place.is_dir()), None)


def recorded_atlas(name: str) -> str | None:
    """Id of the atlas recorded for the cohort ``name`` in `ATLASES` ({name: {"atlas": id, ...}}), or None."""
    record = json.loads(ATLASES.read_text(encoding="utf-8")) if ATLASES.is_file() else {}
    return record[name]["atlas"] if name in record else None


def shared_cohort(
    name: str,
    unlabelled: int | None = None,
    split: Split = "test",
    atlas: str | None = None,
    root: Path | None = None,
) -> Study:
    """The study of a shared cohort.

    Args:
        name: folder of the cohort.
        unlabelled: how many of the pool, in the listed order without the atlas; None: all.
        split: which labelled scans become the test scans.
        atlas: id of the atlas; None: the one that split.json names, or the recorded one.
        root: folder of the cohorts; None: `data_root`.

    Raises:
        InputError: no such cohort or atlas, no atlas recorded, more scans asked for than there are, no scan in
            the split, or a file of it missing.
    """
    folder = _cohort_folder(name, root)
    content = _content(folder / "split.json")
    parts = _parts(content, folder / "split.json")
    chosen = atlas or content.get("atlas") or recorded_atlas(name)
    if chosen is None:
        how = "choose one of the pool (soloatlas choose-atlas ranks scans)"
        raise InputError(f'{folder / "split.json"}: names no atlas; {how} and add "atlas": "its id"')
    if chosen not in parts["pool"]:
        raise InputError(f"{folder}: atlas '{chosen}' is not in the pool of split.json; choose one that is")
    if not parts[split]:
        raise InputError(f"{folder}: split.json has no {split} scans; choose another split")
    pool = [case for case in parts["pool"] if case != chosen]
    if unlabelled is not None and not 0 < unlabelled <= len(pool):
        raise InputError(f"{folder}: {unlabelled} unlabelled scans asked for; 1 to {len(pool)} are possible")
    # A cohort with very many structures has a second set of labels, merged; that is the default target.
    labels = "labels_reduced" if (folder / "labels_reduced").is_dir() else "labels"
    return Study(
        name=name,
        atlas=_scan(folder, "images", chosen),
        atlas_labels=_scan(folder, labels, chosen),
        unlabelled=tuple(_scan(folder, "images", case) for case in pool[:unlabelled]),
        label_names=folder / f"{labels}.json",
        test_images=tuple(_scan(folder, "images", case) for case in parts[split]),
        test_labels=tuple(_scan(folder, labels, case) for case in parts[split]),
        notes=tuple(content.get("notes", ())),
    )


def cohort_changes(folder: Path) -> tuple[str, ...]:
    """Settings with which the cohort in ``folder`` is prepared, as its split.json tells them."""
    return tuple(_content(folder / "split.json").get("changes", ()))


def _cohort_folder(name: str, root: Path | None) -> Path:
    root = root or data_root()
    if root is None:
        raise InputError(f"cohort '{name}': no shared data found; set SOLOATLAS_DATA to their folder")
    if not (root / name / "split.json").is_file():
        known = ", ".join(sorted(place.parent.name for place in root.glob("*/split.json"))) or "none"
        raise InputError(f"{root}: no cohort '{name}'; known: {known}")
    return root / name


def _content(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not a JSON object; {_EXPECTED}") from error


def _parts(content: dict[str, Any], path: Path) -> dict[str, list[str]]:
    for part in _PARTS:
        if not isinstance(content.get(part), list):
            raise InputError(f"{path}: no list of ids under '{part}'; {_EXPECTED}")
    return {part: [str(case) for case in content[part]] for part in _PARTS}


def _scan(folder: Path, kind: str, case: str) -> Path:
    path = folder / kind / f"{case}.nii.gz"
    if not path.is_file():
        raise InputError(f"{path}: no such file, though split.json lists it; complete the cohort")
    return path
