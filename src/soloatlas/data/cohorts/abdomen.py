"""Abdominal CT: the Learn2Reg challenge's two releases of the BTCV scans, and BTCV itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from soloatlas.data.check import Finding
from soloatlas.data.cohorts.dataset import UNSTATED, Case, Dataset, Found, beside, not_found, search
from soloatlas.data.cohorts.learn2reg import find_learn2reg, named_values

# The four organs of OS-MedSeg's BCV task, and the thirteen of BTCV, from which Learn2Reg made them.
FOUR_ORGANS = {1: "liver", 2: "spleen", 3: "right kidney", 4: "left kidney"}
BTCV_ORGANS = {
    1: "spleen",
    2: "right kidney",
    3: "left kidney",
    4: "gallbladder",
    5: "oesophagus",
    6: "liver",
    7: "stomach",
    8: "aorta",
    9: "inferior vena cava",
    10: "portal and splenic veins",
    11: "pancreas",
    12: "right adrenal gland",
    13: "left adrenal gland",
}
TO_FOUR = {6: 1, 1: 2, 2: 3, 3: 4}

TASK1_FILES = ("L2R_Task1_CT/img####_bcv_CT.nii.gz and seg####_bcv_CT.nii.gz",)
CTCT_FILES = ("AbdomenCTCT_dataset.json, imagesTr/, labelsTr/ and imagesTs/AbdomenCTCT_####_0000.nii.gz",)
BTCV_FILES = ("RawData/Training/img/img####.nii.gz, Training/label/label####.nii.gz, Testing/img/img####.nii.gz",)

_WINDOW = "the window of OS-MedSeg is not published; ours is -160 to 240 HU, soft tissue (prepare.window)"
_ATLAS = "the paper's atlas is not published; ours is chosen by choose-atlas on the labelled scans of the pool"


def find_task1(data: Path) -> Found:
    """Scans of BCV in the folder of Learn2Reg 2021, task 1; its other CT scans (tcia) are passed over.

    Raises:
        InputError: none is there.
    """
    images = search(data, "img*_bcv_CT.nii.gz")
    if not images:
        raise not_found(data, TASK1_FILES)
    cases = [
        Case(path.name.removesuffix(".nii.gz"), path, beside(path.with_name(f"seg{path.name[3:]}"))) for path in images
    ]
    return Found("Learn2Reg 2021 task 1", tuple(cases))


def find_ctct(data: Path) -> Found:
    """Scans of AbdomenCTCT; those of imagesTs, which have no public labels, are unlabelled ones.

    Raises:
        InputError: none is there.
    """
    found, content = find_learn2reg(data, "AbdomenCTCT", CTCT_FILES, with_tests=True)
    return replace(found, findings=(*found.findings, *_other_order(data, content)))


def _other_order(data: Path, content: Mapping[str, Any]) -> Iterator[Finding]:
    """Whether the data set's own table of labels has the four organs where `TO_FOUR` takes them from."""
    values = named_values(content)
    for value in sorted(TO_FOUR):
        organ = BTCV_ORGANS[value]
        if values.get(organ, value) != value:
            problem = f"its table of labels gives {organ} the value {values[organ]}, not {value}"
            yield Finding("error", str(data), problem, "this release has another order of labels; do not use it here")


def find_btcv(data: Path) -> Found:
    """Scans of BTCV as handed out; those of Testing have no public labels.

    Raises:
        InputError: none is there.
    """
    training = search(data, "Training/img/img*.nii.gz")
    if not training:
        raise not_found(data, BTCV_FILES)
    cases = [
        Case(path.name.removesuffix(".nii.gz"), path, beside(path.parents[1] / "label" / f"label{path.name[3:]}"))
        for path in training
    ]
    testing = search(training[0].parents[2], "Testing/img/img*.nii.gz")
    cases += [Case(path.name.removesuffix(".nii.gz"), path) for path in testing]
    return Found("RawData", tuple(sorted(cases, key=lambda case: case.name)))


BCV = Dataset(
    name="bcv",
    what="abdominal CT, 50 scans, 192 x 160 x 192 at 2 mm, 4 organs",
    used="OS-MedSeg, Table I, Figs. 4 and 7c (BCV)",
    licence=UNSTATED,
    ask="the Learn2Reg challenge 2021, task 1 (auxiliary CT)",
    files=TASK1_FILES,
    find=find_task1,
    names=FOUR_ORGANS,
    changes=("prepare.align=affine", "prepare.crop=none", "prepare.normalise=window"),
    shape=(192, 160, 192),
    labelled=50,
    bad={"img0036_bcv_CT": "another project leaves it out as bad data"},
    notes=(_WINDOW, _ATLAS, "aligned by this program, and scored on each scan's own grid"),
)

ABDOMENCTCT = replace(
    BCV,
    name="abdomenctct",
    what="abdominal CT, 30 labelled and 20 unlabelled scans, 192 x 160 x 256 at 2 mm, HU, 4 of 13 organs",
    used="by neither paper in this form; the 4 organs stand in for bcv",
    ask="the Learn2Reg challenge, task AbdomenCTCT",
    files=CTCT_FILES,
    find=find_ctct,
    mapping=TO_FOUR,
    shape=(192, 160, 256),
    labelled=30,
    unlabelled=20,
    bad={},
    notes=(*BCV.notes, "OS-MedSeg used the release of 2021, 192 x 160 x 192"),
)

BTCV = replace(
    BCV,
    name="btcv",
    what="abdominal CT at full resolution, 30 labelled and 20 unlabelled scans, HU, 13 organs",
    used="by neither paper in this form; bcv and abdomenctct were made from it",
    ask="the challenge Multi-Atlas Labeling Beyond the Cranial Vault, abdomen, RawData",
    files=BTCV_FILES,
    find=find_btcv,
    names=BTCV_ORGANS,
    changes=("prepare.spacing=2.0", "prepare.align=affine", "prepare.normalise=window"),
    shape=None,
    labelled=30,
    unlabelled=20,
    bad={},
)
