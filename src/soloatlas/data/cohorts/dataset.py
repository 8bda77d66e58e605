"""What a public data set is, what of it was found in a folder, and how its scans are shared out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soloatlas.data.check import Finding
from soloatlas.errors import InputError

SPLITS = Path(__file__).with_name("splits.json")
UNSTATED = "not recorded here; read the terms where you ask for it"


@dataclass(frozen=True)
class Case:
    """One scan of a data set.

    Attributes:
        name: that no other scan has; files made from the scan are called by it.
        image: the scan.
        labels: its label map, or None.
    """

    name: str
    image: Path
    labels: Path | None = None


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Attributes:
        layout: which of the data set's layouts it is.
        cases: in the order of their names; each scan once, however often it is listed.
        held_out: names of cases that must not be in a pool, since they are meant for scoring.
        changes: settings that follow from the files.
        names: label names, where the files tell them.
        title: what the cohort is called, where a data set is several (a task of the Decathlon).
        findings: what is the matter with the files, as far as the layout shows it.
    """

    layout: str
    cases: tuple[Case, ...]
    held_out: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()
    names: Mapping[int, str] = field(default_factory=dict)
    title: str = ""
    findings: tuple[Finding, ...] = ()

    @property
    def labelled(self) -> tuple[Case, ...]:
        """The cases that have labels."""
        return tuple(case for case in self.cases if case.labels is not None)


@dataclass(frozen=True)
class Dataset:
    """A public data set as a user gets it.

    Attributes:
        name: on the command line.
        what: one line.
        used: by which paper, and how.
        licence: as far as it is known here.
        ask: where a user gets it.
        files: what is expected on disk, one entry for each layout.
        find: reads a folder; raises InputError where none of the layouts is there.
        names: label value to name, after ``mapping``.
        mapping: file value to label value, all others being background; None: as they are.
        changes: settings of the preparation.
        shape: voxels of every scan along the file's axes, where they are all the same.
        labelled, unlabelled: how many scans of each there are, where that is known.
        bad: scans that others found to be bad, and who says so.
        notes: where our preparation or split departs from the paper, or goes beyond what it says.
    """

    name: str
    what: str
    used: str
    licence: str
    ask: str
    files: tuple[str, ...]
    find: Callable[[Path], Found]
    names: Mapping[int, str] = field(default_factory=dict)
    mapping: Mapping[int, int] | None = None
    changes: tuple[str, ...] = ()
    shape: tuple[int, int, int] | None = None
    labelled: int | None = None
    unlabelled: int | None = None
    bad: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def search(data: Path, pattern: str) -> list[Path]:
    """Files of ``pattern`` below ``data``, or below one of its folders, sorted; hidden ones are passed over."""
    found = sorted(data.glob(pattern)) or sorted(data.glob(f"*/{pattern}"))
    return [path for path in found if not path.name.startswith(".")]


def beside(path: Path) -> Path | None:
    """``path`` if there is such a file."""
    return path if path.is_file() else None


def not_found(data: Path, files: Sequence[str]) -> InputError:
    """The error of a folder that has none of the layouts."""
    what = "holds none of the expected files" if data.is_dir() else "no such folder"
    return InputError(f"{data}: {what}; expected {', or '.join(files)}")


def splits_of(name: str) -> dict[str, dict[str, Any]]:
    """The splits of a data set by name, the default first, as they stand in splits.json."""
    content: dict[str, dict[str, Any]] = json.loads(SPLITS.read_text(encoding="utf-8"))["splits"][name]
    return content


def parts(found: Found, split: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the cases under ``pool`` (the atlas among them), ``dev`` and ``test``; no case is in two.

    Rules (the key ``rule`` of a split):

    - ``in order``: of the labelled scans in the order of their names, the last ``test`` are test scans and the
      ``dev`` before them dev scans; the first ``pool`` of all others are the pool.
    - ``every fifth``: every fifth labelled scan is a test scan, up to ``test``; the others are the pool.
    - ``listed``: the names stand in the split.

    A case that is held out is never in the pool. A count of null means all.

    Raises:
        InputError: too few scans for a pool with a labelled atlas and a test scan.
    """
    rules = {"in order": _in_order, "every fifth": _every_fifth, "listed": _listed}
    dev, test = rules[split["rule"]]([case.name for case in found.labelled], split)
    rest = [case.name for case in found.cases if case.name not in {*dev, *test, *found.held_out}]
    asked = split["pool"]
    pool = [name for name in rest if name in asked] if isinstance(asked, list) else rest[:asked]
    if len(pool) < 2 or not test or not {case.name for case in found.labelled} & set(pool):
        have = f"{len(found.labelled)} scans with labels, {len(found.cases) - len(found.labelled)} without"
        raise InputError(f"{have}: too few for an atlas, an unlabelled scan and a test scan; complete the data set")
    return {"pool": pool, "dev": dev, "test": test}


def _in_order(labelled: list[str], split: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    first_test = max(0, len(labelled) - split["test"])
    first_dev = max(0, first_test - split["dev"])
    return labelled[first_dev:first_test], labelled[first_test:]


def _every_fifth(labelled: list[str], split: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    return [], labelled[4::5][: split["test"]]


def _listed(labelled: list[str], split: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    dev, test = ([name for name in labelled if name in split[part]] for part in ("dev", "test"))
    return dev, test


def wanted(split: Mapping[str, Any]) -> dict[str, int | None]:
    """How many scans the split has in each part when the data set is complete; None: as many as there are."""
    counts = {part: split[part] for part in ("pool", "dev", "test")}
    return {part: len(count) if isinstance(count, list) else count for part, count in counts.items()}
