"""Every problem of a study at once, and what the program will do about each.

Training refuses on "error"; a "warning" may spoil the result; a "note" says what happens silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from soloatlas.data.compare import (
    Role,
    ScanFacts,
    axis_codes,
    duplicates,
    mirrored,
    scan_facts,
    unlike,
)
from soloatlas.data.files import mm_per_unit, read_labels, read_volume
from soloatlas.data.labels import LabelTable, Names, evenness, label_table, looks_drawn, read_label_names
from soloatlas.data.study import Study, as_study
from soloatlas.data.volume import Grid, Volume, fault_of
from soloatlas.errors import InputError

Level = Literal["error", "warning", "note"]

_REFUSED = "training refuses until it is repaired or removed"
_DRAWN = "looks like a label map: whole numbers, the same over large parts"
_MANY, _SPECKLED = 20, 0.3  # more values than this, fewer equal neighbours: no label map (`labels.evenness`)
_ISLAND = 0.1  # a piece smaller than this share of the label's largest piece is an island


@dataclass(frozen=True)
class Finding:
    """One problem of a study.

    Attributes:
        level: "error" (training refuses), "warning" (the result may suffer) or "note".
        where: the file, and the label if it concerns one.
        problem: what is the matter.
        consequence: what the program will do about it, or what to do.
    """

    level: Level
    where: str
    problem: str
    consequence: str


def check_study(study: Study | str | Path, progress: Callable[[int, int], None] | None = None) -> list[Finding]:
    """Read every file of ``study`` and report all problems at once, errors first.

    Reported: unreadable or missing files, NaN and infinite values, 4-D files, constant images, labels that do
    not lie on their image's grid, values that are not whole numbers, labels without name, islands, labels cut
    by the border, scans unlike the rest, duplicates, and what was left out when the study was put together.

    Args:
        study: as `soloatlas.data.study.read_study` and `make_study` give it, or its folder.
        progress: called with (scans done, scans in all).

    Returns:
        Findings; training refuses when one of them is an "error".
    """
    study = as_study(study)
    roles: list[tuple[Role, Path]] = [("atlas", study.atlas)]
    roles += [("atlas", image) for image, _ in study.more_atlases]
    roles += [("unlabelled", path) for path in study.unlabelled]
    roles += [("test", path) for path in study.test_images]
    findings = [Finding("note", study.name, note, "nothing needs to be done") for note in study.notes]
    facts: list[ScanFacts] = []
    for done, (role, path) in enumerate(roles, start=1):
        found, fact = _check_scan(role, path)
        findings += found
        facts += [fact] if fact else []
        if progress:
            progress(done, len(roles))
    findings += _check_pool(study, findings)
    findings += _check_labels(study, {fact.path: fact.grid for fact in facts})
    findings += _compare(facts)
    return sorted(findings, key=lambda finding: ("error", "warning", "note").index(finding.level))


def _check_pool(study: Study, findings: Sequence[Finding]) -> list[Finding]:
    """The finding for a pool that holds nothing, or, by what was found on each scan, nothing but label maps."""
    if not study.unlabelled:
        return [Finding("error", study.name, "no unlabelled scan", "training refuses: add some")]
    drawn = {finding.where for finding in findings if finding.problem == _DRAWN}
    if drawn.issuperset(map(str, study.unlabelled)) and str(study.atlas) not in drawn:
        where, problem = str(study.unlabelled[0].parent), "every unlabelled scan looks like a label map"
        return [Finding("error", where, problem, "training refuses: are these the labels, not the scans?")]
    return []


def _check_scan(role: Role, path: Path) -> tuple[list[Finding], ScanFacts | None]:
    try:
        scan = read_volume(path)
    except InputError as error:
        return [_refusal(path, error)], None
    fault = fault_of(scan)
    if fault:
        return [Finding("error", str(path), fault, _REFUSED)], None
    findings = _check_header(scan)
    if looks_drawn(scan.array):
        findings.append(Finding("warning", str(path), _DRAWN, "taken as a scan; remove it if it is none"))
    return findings, scan_facts(role, path, scan)


def _refusal(path: Path, error: InputError) -> Finding:
    """The finding for a file that reading refused; its message begins with the path."""
    return Finding("error", str(path), str(error).removeprefix(f"{path}: "), _REFUSED)


def _check_header(scan: Volume) -> list[Finding]:
    """Whether a NIfTI header says where the patient lies, and says it once."""
    header = scan.header
    if not hasattr(header, "get_sform"):
        return []
    if not (header["sform_code"] or header["qform_code"]):
        problem = "its header does not say how the scan lies in the patient (sform and qform code 0)"
        return [Finding("warning", str(scan.path), problem, "its first axis is taken to run to the left")]
    if header["sform_code"] and header["qform_code"]:
        other = Grid(scan.grid.shape, np.diag([mm_per_unit(header)] * 3 + [1.0]) @ header.get_qform())
        if not scan.grid.matches(other, tolerance_mm=0.1 * max(scan.grid.spacing)):
            return [Finding("warning", str(scan.path), "its sform and qform differ", "the sform is used")]
    return []


def _check_labels(study: Study, grids: dict[Path, Grid]) -> list[Finding]:
    names, findings = _names(study)
    labels, found = _labels_on(study.atlas_labels, grids.get(study.atlas))
    findings += found
    table: LabelTable | None = None
    if labels is not None:
        table = label_table(np.unique(labels.array).tolist(), names)
        findings += _check_atlas_labels(study.atlas_labels, labels, table, names)
    for image, path in study.more_atlases:
        drawn, found = _labels_on(path, grids.get(image))
        findings += found
        if drawn is not None:
            findings += _check_atlas_labels(path, drawn, label_table(np.unique(drawn.array).tolist(), names), names)
            findings += _check_values(path, drawn, table, "error", _REFUSED)
    for image, path in zip(study.unlabelled, study.pool_labels, strict=False):
        drawn, found = _labels_on(path, grids.get(image))
        findings += found
        if drawn is not None:
            findings += _check_values(path, drawn, table, "error", _REFUSED)
    for image, path in zip(study.test_images, study.test_labels, strict=False):
        truth, found = _labels_on(path, grids.get(image))
        findings += found
        if truth is not None:
            findings += _check_values(path, truth, table, "warning", "they are never predicted and score 0")
    return findings


def _names(study: Study) -> tuple[Names | None, list[Finding]]:
    if study.label_names is None:
        called = "structures are called by their value, as in 'label 17'"
        return None, [Finding("note", study.name, "no label names given", called)]
    try:
        return read_label_names(study.label_names), []
    except InputError as error:
        return None, [_refusal(study.label_names, error)]


def _labels_on(path: Path, image: Grid | None) -> tuple[Volume | None, list[Finding]]:
    """The label map at ``path`` and, if it does not lie on the grid of its image, the finding."""
    try:
        labels = read_labels(path)
    except InputError as error:
        return None, [_refusal(path, error)]
    if image is None or labels.grid.matches(image):
        return labels, []
    problem = f"not on its image's grid: {labels.grid.difference(image, 'the image')}"
    return labels, [Finding("error", str(path), problem, _REFUSED)]


def _check_atlas_labels(path: Path, labels: Volume, table: LabelTable, names: Names | None) -> Iterator[Finding]:
    """Findings on the values, the pieces and the border of an atlas's labels."""
    where = str(path)
    if table.classes > _MANY and evenness(labels.array) < _SPECKLED:
        problem = f"{table.classes - 1} values that change from voxel to voxel: a scan, not a label map"
        yield Finding("error", where, problem, "training refuses: are the scan and its labels swapped?")
        return
    if table.classes == 1:
        yield Finding("error", where, "holds no label, only background", _REFUSED)
    if names is not None:
        for value in sorted(set(table.values[1:]) - set(names)):
            yield Finding("warning", where, f"value {value} has no name", f"it is called 'label {value}'")
        yield from _check_twin_names(where, table)
        for value in sorted(set(names) - set(table.values)):
            problem = f"'{names[value][0]}' ({value}) is named but not drawn"
            yield Finding("note", where, problem, "it cannot be learnt and is left out")
    yield from _islands_and_borders(where, labels, table)


def _check_twin_names(where: str, table: LabelTable) -> Iterator[Finding]:
    """Findings on structures that share a name, which no table of results could tell apart."""
    first: dict[str, int] = {}
    for value, name in zip(table.values[1:], table.names[1:], strict=True):
        if first.setdefault(name, value) != value:
            problem = f"values {first[name]} and {value} are both called '{name}'"
            yield Finding("warning", where, problem, "they stay two structures; give each a name of its own")


def _islands_and_borders(where: str, labels: Volume, table: LabelTable) -> Iterator[Finding]:
    from scipy.ndimage import find_objects, label

    classes = table.encode(labels.array)
    for index, box in enumerate(find_objects(classes), start=1):
        if box is None:
            continue
        place = f"{where}, {table.names[index]} ({table.values[index]})"
        pieces, _ = label(classes[box] == index, np.ones((3, 3, 3)))  # pieces that touch at a corner are one
        sizes = np.bincount(pieces.ravel())[1:]
        small = sizes[sizes < _ISLAND * sizes.max()]
        if small.size:
            count = f"{small.size} islands" if small.size > 1 else "an island"
            problem = f"{count}, {small.sum()} of {sizes.sum()} voxels"
            yield Finding("warning", place, problem, "kept and learnt as drawn; remove them if they are slips")
        faces = _faces(box, labels.grid)
        if faces:
            problem = f"touches the {' and '.join(faces)} border of the scan"
            yield Finding("warning", place, problem, "kept; beyond the border the structure is unknown")


def _faces(box: tuple[slice, ...], grid: Grid) -> list[str]:
    """Anatomical names of the scan's faces that a box of voxels touches."""
    opposite = dict(zip("LRPAIS", "RLAPSI", strict=True))
    words = dict(zip("LRPAIS", ("left", "right", "posterior", "anterior", "inferior", "superior"), strict=True))
    found = []
    for extent, length, letter in zip(box, grid.shape, axis_codes(grid), strict=True):
        found += [words[opposite[letter]]] if extent.start == 0 else []
        found += [words[letter]] if extent.stop == length else []
    return found


def _check_values(
    path: Path, labels: Volume, table: LabelTable | None, level: Level, consequence: str
) -> Iterator[Finding]:
    """The finding for values that the first atlas has not, as far as its labels could be read."""
    unknown = sorted(set(np.unique(labels.array).tolist()) - set(table.values if table else ()))
    if table is not None and unknown:
        shown = ", ".join(map(str, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        yield Finding(level, str(path), f"label values {shown} are not in the atlas", consequence)


def _compare(facts: Sequence[ScanFacts]) -> Iterator[Finding]:
    """Findings on scans beside each other."""
    for fact, twin in duplicates(facts):
        level: Level = "warning"
        consequence = "kept: the scan counts twice; remove one"
        if fact.role == "test" and twin.role == "atlas":
            level, consequence = "error", "training refuses: the scan learnt from would be scored"
        elif twin.role == "atlas" and fact.role == "unlabelled":
            consequence = "kept: the atlas is registered to itself; remove it from the unlabelled scans"
        elif fact.role == "test" and twin.role == "unlabelled":
            consequence = "trained on and scored: its score is not that of an unseen scan"
        yield Finding(level, str(fact.path), f"duplicate: the same voxels as {twin.path}", consequence)
    for fact, why in unlike(facts):
        consequence = "kept and prepared as the others; remove it if it does not belong"
        yield Finding("warning", str(fact.path), f"unlike the rest: {why}", consequence)
    for fact in mirrored(facts):
        problem = f"stored as {axis_codes(fact.grid)}, the other handedness than most scans"
        consequence = "turned as its header says; if that is wrong, left and right are swapped"
        yield Finding("note", str(fact.path), problem, consequence)
