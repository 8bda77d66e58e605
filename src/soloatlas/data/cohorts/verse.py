"""VerSe20: CT of the spine, of which OS-MedSeg uses the scans that show the whole thoracic spine."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import numpy as np

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.dataset import Case, Dataset, Found, beside, not_found, search
from soloatlas.data.files import read_labels
from soloatlas.errors import InputError

# 1-7 are C1-C7, 8-19 T1-T12, 20-25 L1-L6, 28 T13.
THORACIC = {value: value - 7 for value in range(8, 20)}

FILES = (
    "<split>/verse###/verse###_CT-<orient>.nii.gz, _seg.nii.gz and _iso-ctd.json (MICCAI)",
    "<split>/rawdata/sub-verse###/..._ct.nii.gz and derivatives/sub-verse###/..._seg-vert_msk.nii.gz (subjects)",
)


def find_verse(data: Path) -> Found:
    """The scans below ``data`` that show T1 to T12, one of each subject: the first by name.

    Whether a vertebra is shown is read from the list of centroids beside the labels, or from the label map
    where there is no list.

    Raises:
        InputError: neither layout is there.
    """
    layout, cases = "subjects", list(_subjects(data))
    if not cases:
        layout, cases = "MICCAI", list(_miccai(data))
    if not cases:
        raise not_found(data, FILES)
    unique = {case.name: case for case in sorted(cases, key=lambda case: case.name)}
    whole, findings = _whole(unique.values())
    first: dict[str, Case] = {}
    for case in whole:
        first.setdefault(subject(case.name), case)
    findings += _told(data, len(cases) - len(unique), len(unique), len(whole), len(first))
    return Found(layout, tuple(first.values()), findings=tuple(findings))


def _whole(cases: Iterable[Case]) -> tuple[list[Case], list[Finding]]:
    """The cases that show T1 to T12, and those of which it cannot be known."""
    whole, findings = [], []
    for case in cases:
        try:
            shown = vertebrae(case)
        except InputError as error:
            where, _, problem = str(error).partition(": ")
            findings.append(Finding("error", where, problem, "what the scan shows is not known"))
            continue
        if case.labels is None:
            problem = "has no label map"
            findings.append(Finding("warning", str(case.image), problem, "left out: what it shows is not known"))
        whole += [case] if shows_thoracic(shown) else []
    return whole, findings


def shows_thoracic(values: Collection[int]) -> bool:
    """Whether T1 to T12 (8 to 19) are all among the label values of a scan."""
    return set(THORACIC) <= set(values)


def vertebrae(case: Case) -> set[int]:
    """Label values of the vertebrae that a scan shows; none where it has no labels."""
    if case.labels is None:
        return set()
    centroids = _centroids(case.labels)
    if centroids is None:
        return set(np.unique(read_labels(case.labels).array).tolist()) - {0}
    try:
        entries = json.loads(centroids.read_text(encoding="utf-8-sig"))
        return {int(entry["label"]) for entry in entries if "label" in entry}
    except (ValueError, TypeError) as error:
        raise InputError(f"{centroids}: not a list of centroids ({error}); copy it again from its source") from error


def _centroids(labels: Path) -> Path | None:
    for ending, other in (("_seg-vert_msk.nii.gz", "_seg-subreg_ctd.json"), ("_seg.nii.gz", "_iso-ctd.json")):
        if labels.name.endswith(ending):
            return beside(labels.with_name(labels.name.removesuffix(ending) + other))
    return None


def subject(name: str) -> str:
    """The subject of a scan: verse400 of ``sub-verse400_split-verse253`` and of ``verse400_CT-ax``."""
    found = re.search(r"verse\d+", name)
    return found.group() if found else name


def _miccai(data: Path) -> Iterator[Case]:
    for path in search(data, "verse*/verse*.nii.gz"):
        stem = path.name.removesuffix(".nii.gz")
        if not stem.endswith("_seg"):
            yield Case(stem, path, beside(path.with_name(f"{stem}_seg.nii.gz")))


def _subjects(data: Path) -> Iterator[Case]:
    for path in search(data, "rawdata/sub-*/sub-*_ct.nii.gz"):
        stem = path.name.removesuffix("_ct.nii.gz")
        drawn = path.parents[2] / "derivatives" / path.parent.name / f"{stem}_seg-vert_msk.nii.gz"
        yield Case(stem, path, beside(drawn))


def _told(data: Path, twice: int, scans: int, whole: int, subjects: int) -> Iterator[Finding]:
    if twice:
        yield Finding("note", str(data), f"scans that lie here twice: {twice}", "each counts once")
    yield Finding("note", str(data), f"scans that show T1 to T12: {whole} of {scans}", "the others are left out")
    if whole > subjects:
        problem = f"of these, further scans of a subject: {whole - subjects}"
        yield Finding("note", str(data), problem, "left out: no subject is in two parts")


VERSE20 = Dataset(
    name="verse20",
    what="CT of the spine, mixed orientation and spacing; the scans that show T1 to T12, 12 vertebrae",
    used="OS-MedSeg, Table I (VerSe)",
    licence="CC BY-SA 4.0",
    ask="the VerSe challenge (MICCAI 2020)",
    files=FILES,
    find=find_verse,
    names={value - 7: f"T{value - 7}" for value in THORACIC},
    mapping=THORACIC,
    changes=(
        "prepare.align=rigid",
        "prepare.spacing=2.0",
        "prepare.crop=labels",
        "prepare.size=[64,96,192]",
        "prepare.normalise=window",
        "prepare.window=[-200,1000]",
    ),
    notes=(
        "which scans OS-MedSeg used is not published; ours are those that show T1 to T12, one of each subject, for "
        "which the centroids of all scans are read, those of the pool too",
        "the window of OS-MedSeg is not published; ours is -200 to 1000 HU, bone",
        "aligned by this program (OS-MedSeg: by ANTs), and scored on each scan's own grid",
        "the paper's atlas is not published; ours is chosen by choose-atlas on the pool",
    ),
)
