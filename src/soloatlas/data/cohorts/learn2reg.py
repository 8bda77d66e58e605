"""What the Learn2Reg challenge's present data sets share: one folder, described by a JSON file.

``<NAME>_dataset.json`` beside ``imagesTr``, ``labelsTr`` and ``imagesTs``; a scan and its labels are both called
``<NAME>_####_0000.nii.gz``. The subjects of the validation pairs (``registration_val``) stand in imagesTr, and in
the list ``training`` too: they are held out here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.dataset import Case, Found, beside, not_found, search
from soloatlas.data.files import scan_name

VALIDATION = 20  # subjects, the last of imagesTr, where the file that names them is missing


def find_learn2reg(data: Path, name: str, files: Sequence[str], with_tests: bool) -> tuple[Found, dict[str, Any]]:
    """The data set ``name`` in ``data`` and the content of its JSON file ({} where there is none).

    Args:
        data: the folder that holds imagesTr, or the one above it.
        name: ``OASIS`` or ``AbdomenCTCT``.
        files: what is expected, for the message.
        with_tests: take the scans of imagesTs, which have no public labels, as unlabelled ones.

    Raises:
        InputError: no such scans.
    """
    images = search(data, f"imagesTr/{name}_*_0000.nii.gz")
    if not images:
        raise not_found(data, files)
    folder = images[0].parents[1]
    content, findings = _description(folder / f"{name}_dataset.json")
    cases = [Case(_case(path), path, beside(folder / "labelsTr" / path.name)) for path in images]
    if with_tests:
        cases += [Case(_case(path), path) for path in search(folder, f"imagesTs/{name}_*_0000.nii.gz")]
    validation = _validation(content)
    if not content:
        validation = {case.name for case in cases if case.labels}
        validation = set(sorted(validation)[-VALIDATION:])
    findings += [*_missing(folder, content), *_twice(folder, content, validation)]
    unique = {case.name: case for case in cases}
    ordered = tuple(unique[name] for name in sorted(unique))
    return Found("Learn2Reg", ordered, held_out=frozenset(validation), findings=tuple(findings)), content


def _case(path: Path | str) -> str:
    return scan_name(path).removesuffix("_0000")


def _description(path: Path) -> tuple[dict[str, Any], list[Finding]]:
    if not path.is_file():
        consequence = f"the last {VALIDATION} labelled scans are taken for the validation subjects"
        return {}, [Finding("warning", str(path), "is missing", consequence)]
    try:
        return dict(json.loads(path.read_text(encoding="utf-8-sig"))), []
    except (ValueError, TypeError) as error:
        problem = f"is not the description of a data set ({error})"
        return {}, [Finding("error", str(path), problem, "copy it again from its source")]


def _entries(content: Mapping[str, Any], *lists: str) -> Iterator[tuple[str, str]]:
    """(key, file) of the entries of these lists, such as ("image", "./imagesTr/OASIS_0001_0000.nii.gz")."""
    for name in lists:
        for entry in content.get(name) or []:
            yield from entry.items() if isinstance(entry, dict) else [("image", str(entry))]


def _validation(content: Mapping[str, Any]) -> set[str]:
    return {_case(file) for _, file in _entries(content, "registration_val")}


def _missing(folder: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    """Scans and labels that the JSON file lists and the folder lacks; masks are not needed."""
    listed = [file for key, file in _entries(content, "training", "registration_val") if key != "mask"]
    for file in sorted({str(Path(file)) for file in listed}):
        if not (folder / file).is_file():
            yield Finding("error", str(folder / file), "is listed, but missing", "unpack the data set again")


def _twice(folder: Path, content: Mapping[str, Any], validation: set[str]) -> Iterator[Finding]:
    both = sorted(validation & {_case(file) for key, file in _entries(content, "training") if key == "image"})
    if both:
        named = f"{both[0]} to {both[-1]}" if len(both) > 1 else both[0]
        problem = f"subjects listed under training and under registration_val, too: {len(both)} ({named})"
        yield Finding("note", str(folder), problem, "each counts once, and none is put into a pool")


def named_values(content: Mapping[str, Any]) -> dict[str, int]:
    """Label names in lower case to values, from a ``labels`` entry of whatever depth; {} where there is none."""
    found: dict[str, int] = {}

    def walk(entry: Any) -> None:
        for key, item in entry.items() if isinstance(entry, dict) else ():
            if isinstance(item, dict):
                walk(item)
            elif str(key).isdecimal() and isinstance(item, str):
                found[item.strip().lower()] = int(key)
            elif str(item).isdecimal():
                found[str(key).strip().lower()] = int(item)

    walk(content.get("labels"))
    return found
