"""OASIS: the release of the Neurite project, which OS-MedSeg uses, and the one of the Learn2Reg challenge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from soloatlas.data.cohorts.dataset import UNSTATED, Case, Dataset, Found, beside, not_found, search
from soloatlas.data.cohorts.learn2reg import find_learn2reg
from soloatlas.data.cohorts.sides import side_names

# The rows of OS-MedSeg's Table II and the label values of their sides: 1 to 10 and that plus 19, three in the
# middle, 14 to 19 and that plus 16.
OASIS_ROWS: dict[str, tuple[int, ...]] = {
    "Cerebral-WM": (1, 20),
    "Cerebral-CX": (2, 21),
    "Lateral-Vent": (3, 22),
    "Inf-Lat-Vent": (4, 23),
    "Cerebellum-WM": (5, 24),
    "Cerebellum-CX": (6, 25),
    "Thalamus": (7, 26),
    "Caudate": (8, 27),
    "Putamen": (9, 28),
    "Pallidum": (10, 29),
    "3rd-Vent": (11,),
    "4th-Vent": (12,),
    "Brain-Stem": (13,),
    "Hippocampus": (14, 30),
    "Amygdala": (15, 31),
    "Accumbens": (16, 32),
    "VentralDC": (17, 33),
    "Vessel": (18, 34),
    "Choroid-Plexus": (19, 35),
}

NEURITE_FILES = ("OASIS_OAS1_####_MR1/aligned_norm.nii.gz and aligned_seg35.nii.gz (Neurite)",)
LEARN2REG_FILES = ("OASIS_dataset.json, imagesTr/ and labelsTr/OASIS_####_0000.nii.gz (Learn2Reg)",)


def find_neurite(data: Path) -> Found:
    """The subjects of the Neurite release below ``data``; a case is called as its folder.

    Raises:
        InputError: none is there.
    """
    folders = [path for path in search(data, "OASIS_OAS1_*_MR1") if path.is_dir()]
    cases = [Case(f.name, f / "aligned_norm.nii.gz", beside(f / "aligned_seg35.nii.gz")) for f in folders]
    if not cases:
        raise not_found(data, NEURITE_FILES)
    return Found("Neurite", tuple(cases))


def _find_learn2reg(data: Path) -> Found:
    found, _ = find_learn2reg(data, "OASIS", LEARN2REG_FILES, with_tests=False)
    return found


OASIS = Dataset(
    name="oasis",
    what="brain MR (T1), 414 subjects, skull-stripped and in one space, 160 x 192 x 224 at 1 mm, 35 structures",
    used="OS-MedSeg, Tables I to V (OASIS)",
    licence=UNSTATED,
    ask="the Neurite project's OASIS v1.0 (GitHub: adalca/medical-datasets), one tar of 6.6 GB with the md5 "
    "081392a8150ff99ab7a64a9ded377835",
    files=NEURITE_FILES,
    find=find_neurite,
    names=side_names(OASIS_ROWS),
    # Scans are aligned, cropped and scaled as they are handed out, and the papers use them so.
    changes=(
        "prepare.align=none",
        "prepare.crop=none",
        "prepare.normalise=window",
        "prepare.window=[0,1]",
    ),
    shape=(160, 192, 224),
    labelled=414,
    notes=("the paper's atlas is not published; ours is chosen by choose-atlas on the pool",),
)

OASIS_L2R = replace(
    OASIS,
    name="oasis-l2r",
    what="brain MR (T1), the OASIS subjects as the Learn2Reg challenge hands them out, 35 structures",
    used="by neither paper in this form; it stands in for oasis",
    ask="the Learn2Reg challenge, task OASIS",
    files=LEARN2REG_FILES,
    find=_find_learn2reg,
    changes=("prepare.align=none", "prepare.crop=none"),
    labelled=None,
    notes=(*OASIS.notes, "OS-MedSeg used the Neurite release"),
)
