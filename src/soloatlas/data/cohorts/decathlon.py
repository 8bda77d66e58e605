"""The Medical Segmentation Decathlon: ten tasks of one layout."""

from __future__ import annotations

import json
from pathlib import Path

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.dataset import Case, Dataset, Found, beside, not_found
from soloatlas.data.labels import read_label_names

FILES = ("Task##_<Name>/dataset.json, imagesTr/ and labelsTr/<case>.nii.gz",)


def find_task(data: Path) -> Found:
    """The labelled scans of one task; ``data`` is its folder. Those of imagesTs are passed over.

    Raises:
        InputError: no task is there, or its dataset.json tells no labels.
    """
    images = [p for p in sorted((data / "imagesTr").glob("*.nii.gz")) if not p.name.startswith(".")]
    if not images or not (data / "dataset.json").is_file():
        raise not_found(data, FILES)
    cases = [Case(p.name.removesuffix(".nii.gz"), p, beside(data / "labelsTr" / p.name)) for p in images]
    names = {value: name for value, (name, _) in read_label_names(data / "dataset.json").items() if value > 0}
    announced = json.loads((data / "dataset.json").read_text(encoding="utf-8-sig")).get("numTraining")
    findings = []
    if isinstance(announced, int) and announced != len(cases):
        problem = f"{len(cases)} scans in imagesTr, where dataset.json announces {announced}"
        findings.append(Finding("warning", str(data), problem, "unpack the task again"))
    return Found("Decathlon", tuple(cases), names=names, title=data.resolve().name, findings=tuple(findings))


MSD = Dataset(
    name="msd",
    what="any task of the Medical Segmentation Decathlon whose scans have one channel",
    used="by neither paper; the shared hippocampus cohort is its task 4",
    licence="CC BY-SA 4.0",
    ask="the Medical Segmentation Decathlon; task 4 is fetched by soloatlas demo --cohort hippocampus",
    files=FILES,
    find=find_task,
    notes=("the scans of imagesTs are not used",),
)
