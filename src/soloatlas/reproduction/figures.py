"""The papers' figures that show scans; those that plot numbers are `tables.TABLES` with a drawing."""

from __future__ import annotations

from dataclasses import replace

from soloatlas.reproduction.rows import OURS, Pictures, Row
from soloatlas.reproduction.structures import CANDI_STRUCTURES
from soloatlas.reproduction.tables import LT_NET, ONE_SHOT, TABLES, VOXELMORPH


def _row_of(table: str, name: str) -> Row:
    return next(row for row in TABLES[table].rows if row.name == name)


_OURS = replace(OURS, name="OS-MedSeg")

FIGURES: dict[str, Pictures] = {
    "lt-net:figure-3": Pictures(
        title="The atlas warped to scans of the pool, and led back",
        source="Wang et al. 2020, Fig. 3",
        method="lt-net",
        drawing="warps",
        rows=(VOXELMORPH, LT_NET),
        scans=3,
        planes=("coronal",),
        remark="The paper shows LT-Net's warped images alone.",
    ),
    "lt-net:figure-4": Pictures(
        title="Segmentations beside the expert's",
        source="Wang et al. 2020, Fig. 4",
        method="lt-net",
        drawing="overlays",
        rows=(
            VOXELMORPH,
            _row_of("lt-net:table-5", "DataAug"),
            _row_of("lt-net:table-5", "U-Net (upper bound)"),
            LT_NET,
        ),
        scans=3,
        planes=("coronal",),
        structures=CANDI_STRUCTURES,
        remark="The paper's red arrows are its authors' choice; here the expert's outline shows every flaw.",
    ),
    "os-medseg:figure-5": Pictures(
        title="Segmentations of one scan, method by method",
        source="Zhou et al. 2024, Fig. 5",
        method="os-medseg",
        drawing="overlays",
        rows=(*(row for row in ONE_SHOT if row.name != OURS.name), _OURS),
        scans=1,
        planes=("axial", "coronal", "sagittal"),
        remark="The paper's Fig. 1 shows four of these columns: CLMorph, DataAug, BRBS and OS-MedSeg. Its yellow boxes "
        "mark where OS-MedSeg is better; here the expert's outline shows every flaw.",
    ),
    "os-medseg:figure-6": Pictures(
        title="Feature maps of the last levels: teacher, student, and a student without teacher",
        source="Zhou et al. 2024, Fig. 6",
        method="os-medseg",
        drawing="feature_maps",
        rows=(_OURS, Row("student without teacher", ("teacher=false",))),
        scans=1,
        planes=("axial",),
        remark="The paper's ResUNet is the student without teacher. Its red boxes mark maps that look alike; here "
        "every map of a student bears its cosine with the teacher's of the same channel.",
    ),
}
