"""Everything that is wrong with a user's copy of a public data set, at once.

Scans are known by their headers alone here, so that hundreds take seconds; one label map is read for its values.
What lies in the scans themselves is for `soloatlas check` on the cohort that is made of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.dataset import Dataset, Found, parts, splits_of, wanted
from soloatlas.data.files import read_labels
from soloatlas.data.volume import Grid
from soloatlas.errors import InputError

_AGAIN = "copy it again from its source"
_SHOWN = 5


def check_dataset(dataset: Dataset, data: Path) -> tuple[Found | None, list[Finding]]:
    """What was found in ``data`` (None: nothing) and every problem with it (`problems`)."""
    try:
        found = dataset.find(data)
    except InputError as error:
        where, _, problem = str(error).partition(": ")
        return None, [Finding("error", where, problem, "nothing can be read")]
    return found, problems(dataset, found, data)


def problems(dataset: Dataset, found: Found, data: Path) -> list[Finding]:
    """Every problem of what was found in ``data``, errors first.

    Reported: files listed but missing, unreadable, of another size than expected or with
    labels on another grid; counts other than expected; scans without labels; known bad scans; subjects listed
    twice; label values that are not the data set's; splits that do not fit.
    """
    findings = [*found.findings, *_counts(dataset, found, data)]
    for case in found.cases:
        findings += _headers(dataset, case.image, case.labels)
        if case.name in dataset.bad:
            findings.append(Finding("warning", str(case.image), dataset.bad[case.name], "kept: look at it"))
    findings += _values(dataset, found)
    findings += _splits(dataset, found, data)
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _counts(dataset: Dataset, found: Found, data: Path) -> Iterator[Finding]:
    bare = [case.name for case in found.cases if case.labels is None]
    expected = dataset.labelled
    if expected is not None and len(found.labelled) != expected:
        problem = f"scans with labels: {len(found.labelled)}, expected: {expected}"
        yield Finding("warning", str(data), problem, "splits are made of those that are there")
    if expected is not None and len(bare) != (dataset.unlabelled or 0):
        named = ", ".join(bare[:_SHOWN]) + (f" and {len(bare) - _SHOWN} more" if len(bare) > _SHOWN else "")
        problem = f"scans without labels: {len(bare)}, expected: {dataset.unlabelled or 0}"
        yield Finding("warning", str(data), f"{problem} ({named})" if bare else problem, "they can only be in a pool")


def _headers(dataset: Dataset, image: Path, labels: Path | None) -> Iterator[Finding]:
    grids = {}
    for path in (image, labels):
        if path is not None:
            try:
                grids[path] = _grid(path)
            except InputError as error:
                yield Finding("error", str(path), str(error), _AGAIN)
    own = grids.get(image)
    if own is not None and dataset.shape not in (None, own.shape):
        sizes = [" x ".join(map(str, shape)) for shape in (own.shape, dataset.shape or ())]
        yield Finding("warning", str(image), f"{sizes[0]} voxels, {sizes[1]} are expected", "is it another release?")
    if own is not None and labels in grids and not grids[labels].matches(own):
        yield Finding("error", str(labels), "not on the grid of its scan", "repair it, or leave the scan out")


def _grid(path: Path) -> Grid:
    """The grid that a NIfTI header tells; nothing else is read.

    Raises:
        InputError: what is wrong, without the path.
    """
    import nibabel

    try:
        image = nibabel.load(path)
        shape, affine = tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=np.float64)
    except FileNotFoundError as error:
        raise InputError("is missing") from error
    except Exception as error:  # a broken file can fail a parser in any way
        raise InputError(f"cannot be read ({path.stat().st_size} bytes)") from error
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise InputError(f"has {len(shape)} axes ({' x '.join(map(str, shape))}); only scans of one channel are read")
    return Grid((shape[0], shape[1], shape[2]), affine)


def _values(dataset: Dataset, found: Found) -> Iterator[Finding]:
    """Whether the first label map that can be read has the values that are expected."""
    expected = set(dataset.mapping or found.names or dataset.names)
    for case in found.labelled:
        assert case.labels is not None
        try:
            values = set(np.unique(read_labels(case.labels).array).tolist()) - {0}
        except InputError:
            continue  # reported by its header, or by check
        unknown = sorted(values - expected) if dataset.mapping is None else []
        if unknown:
            problem = f"label values {', '.join(map(str, unknown[:10]))} are not the data set's"
            yield Finding("error", str(case.labels), problem, "is it another label map, or another release?")
        if not values & expected:
            yield Finding("error", str(case.labels), "holds no label of the data set", _AGAIN)
        return


def _splits(dataset: Dataset, found: Found, data: Path) -> Iterator[Finding]:
    for name, split in splits_of(dataset.name).items():
        try:
            made: dict[str, Any] = parts(found, split)
        except InputError as error:
            yield Finding("error", str(data), f"split {name}: {error}", "no cohort can be made")
            continue
        short = [
            f"{len(made[p])} of {n} in {p}" for p, n in wanted(split).items() if n is not None and len(made[p]) < n
        ]
        if short:
            consequence = "the cohort is smaller than it should be"
            yield Finding("warning", str(data), f"split {name} is short: {', '.join(short)}", consequence)
