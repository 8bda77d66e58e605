"""Cells of OS-MedSeg's Table I on the data sets other than OASIS, and which of them a cohort is shown beside.

Only cells whose row is certain: the text of the paper at hand has lost some, and four DSC have lost their row.
"""

from __future__ import annotations

from dataclasses import replace

from soloatlas.reproduction.records import form_of
from soloatlas.reproduction.rows import OURS, Table

Cells = dict[str, tuple[float | None, float | None]]  # row -> DSC, HD95 in mm

# Zhou et al. 2024, Table I. CLMorph's DSC on BCV is the last point of Fig. 7c.
BCV: Cells = {
    "Fully supervised": (0.919, 4.932),
    "Affine": (None, 13.569),
    "SyN": (None, 11.914),
    "CLMorph": (0.726, None),
    "DataAug": (None, 11.006),
    "BRBS": (None, 14.282),
    OURS.name: (0.846, 10.779),
}
VERSE: Cells = {
    "Fully supervised": (0.964, 1.302),
    "U-Net": (None, 56.783),
    "ResUNet": (None, 28.691),
    "Rigid": (0.532, 3.689),
    "Affine": (0.633, 3.870),
    "SyN": (0.830, 1.794),
    "VoxelMorph-1": (None, 2.223),
    "VoxelMorph-2": (None, 2.113),
    "TransMorph": (None, 2.667),
    "CLMorph": (None, 2.176),
    "DataAug": (None, 2.593),
    "BRBS": (None, 2.754),
    OURS.name: (0.924, 1.593),
}
# Cohorts of CT beside the paper's data of the same kind: several organs, or vertebrae.
_BESIDE = {
    "bcv": ("BCV", BCV),
    "abdomenctct": ("BCV", BCV),
    "btcv": ("BCV", BCV),
    "headneck_openkbp": ("BCV", BCV),
    "verse20": ("VerSe", VERSE),
}


def beside(key: str, table: Table, cohort: str) -> Table:
    """The table with the published cells of the data set that is most like the cohort; Table I alone has others.

    Args:
        key: the table's id; ``cohort`` its name, which may have a suffix ("bcv-code").
    """
    known = form_of(cohort, _BESIDE)
    if key != "os-medseg:table-1" or known is None:
        return table
    on, cells = _BESIDE[known]
    rows = tuple(replace(row, published=cells.get(row.name, ())) for row in table.rows)
    return replace(table, published_on=on, rows=rows)
