"""Rows and published cells of the papers' tables; those of each structure stand in `structures`.

Published figures (on the paper's own data) are shown beside ours as "published".
"""

from __future__ import annotations

from dataclasses import replace

from soloatlas.reproduction.curves import CURVES
from soloatlas.reproduction.published import BCV
from soloatlas.reproduction.readings import READINGS
from soloatlas.reproduction.rows import OURS, RANGE, Row, Table
from soloatlas.reproduction.structures import CANDI_CELLS, CANDI_STRUCTURES, OASIS_CELLS, OASIS_STRUCTURES, cells


def _row(name: str, method: str, stage: str, *published: float | None, atlases: int = 1) -> Row:
    """A method as a whole."""
    return Row(name, (), stage, published, headline=True, method=method, atlases=atlases)


def _cycle(name: str, *kept: str) -> Row:
    """LT-Net with the image cycle and, of its other cycle terms, only those ``kept``."""
    terms = ("transformation", "anatomy", "difference")
    return Row(name, tuple(f"cycle.{term}=0" for term in terms if term not in kept), "register")


# LT-Net without its own terms: the same generator, rate and steps.
VOXELMORPH = Row(
    "VoxelMorph", ("adversary=false", "cycle=false"), "register", (0.760, 0.097, 0.617, 0.801), True, "lt-net"
)
LT_NET = _row("LT-Net", "lt-net", "register", 0.823, 0.025, 0.756, 0.842)

TABLES: dict[str, Table] = {
    "os-medseg:table-1": Table(
        title="The methods of the paper",
        source="Zhou et al. 2024, Table I",
        method="os-medseg",
        published_on="OASIS",
        reference=OURS.name,
        rows=(
            _row("Fully supervised", "supervised", "student", 0.906, 1.346),
            _row("U-Net", "unet", "student", 0.684, 14.373),
            _row("ResUNet", "resunet", "student", 0.724, 8.237),
            _row("Rigid", "rigid", "register", 0.597, 4.163),
            _row("Affine", "affine", "register", 0.601, 4.131),
            _row("SyN", "syn", "register", 0.784, 2.627),
            _row("VoxelMorph-1", "voxelmorph-1", "register", 0.793, 3.085),
            _row("VoxelMorph-2", "voxelmorph-2", "register", 0.800, 3.220),
            _row("TransMorph", "transmorph", "register", 0.796, 2.654),
            _row("CLMorph", "clmorph", "register", 0.799, 3.214),
            _row("DataAug", "dataaug", "student", 0.823, 2.732),
            _row("BRBS", "brbs", "student", 0.811, 3.099),
            OURS,
        ),
    ),
    "os-medseg:main": Table(
        title="The student beside the registration row of the same run",
        source="Zhou et al. 2024, Table I (CLMorph and Ours)",
        method="os-medseg",
        published_on="OASIS",
        reference=OURS.name,
        rows=(Row("Atlas labels warped", stage="register", published=(0.799, 3.214), headline=True), OURS),
    ),
    # III-A holds that any registration serves: each network of Table I, and SyN, in place of the paper's. A network
    # brings its own widths and rate (`presets.of_network`).
    "os-medseg:networks": Table(
        title="Registration networks that make the pairs",
        source="ours",
        method="os-medseg",
        published_on="-",
        reference="its own network",
        rows=(
            Row("its own network"),
            Row("VoxelMorph-1's network", ("registration.network=voxelmorph", "registration.channels=[8,32,32,32]")),
            Row("VoxelMorph-2's network", ("registration.network=voxelmorph",)),
            Row("TransMorph's network", ("registration.network=transmorph",)),
            Row("CLMorph's network", ("registration.network=clmorph",)),
            Row("SyN", ("registration.network=syn",)),
        ),
    ),
    "os-medseg:table-3": Table(
        title="Components of the model",
        source="Zhou et al. 2024, Table III",
        method="os-medseg",
        published_on="OASIS",
        reference=OURS.name,
        rows=(
            # The paper's baseline is the CLMorph row of its Table I; here it is OS-MedSeg's own registration
            # network, whose fields make the synthetic pairs.
            Row("Baseline (atlas labels warped)", stage="register", published=(0.799, 3.214)),
            Row(
                "M1 (student, RI+SL)",
                ("teacher=false", "synthesis.pairs=real"),
                published=(0.788, 3.964),
            ),
            Row("M2 (student, SI+SL)", ("teacher=false",), published=(0.806, 3.825)),
            Row("M3 (student, teacher, RI+SL)", ("synthesis.pairs=real",), published=(0.817, 2.718)),
            OURS,
        ),
    ),
    "os-medseg:table-4": Table(
        title="Terms of the distillation loss (Eq. 12)",
        source="Zhou et al. 2024, Table IV",
        method="os-medseg",
        published_on="OASIS",
        reference=OURS.name,
        rows=(
            Row("hint + recon", ("student.weight=0",), published=(0.003, None)),
            Row("seg + recon", ("hint.weight=0",), published=(0.806, 3.825)),
            Row("seg + hint", ("teacher.weight=0",), published=(0.826, 2.973)),
            OURS,
        ),
    ),
    "os-medseg:table-5": Table(
        title="Distance of the hint loss",
        source="Zhou et al. 2024, Table V",
        method="os-medseg",
        published_on="OASIS",
        reference="Cosine similarity loss",
        rows=(
            Row("L2 loss", ("hint.distance=l2",), published=(0.811, 2.992)),
            Row("Cosine similarity loss", ("hint.distance=cosine",), published=(0.854, 1.716)),
        ),
    ),
    "lt-net:table-1": Table(
        title="Adversarial and cycle-consistency loss over VoxelMorph",
        source="Wang et al. 2020, Table 1",
        method="lt-net",
        published_on="CANDI",
        structures=CANDI_STRUCTURES,
        reference="VoxelMorph",
        measures=RANGE,
        rows=(
            VOXELMORPH,
            Row("+ L_GAN", ("cycle=false",), "register", (0.790, 0.031, 0.727, 0.819)),
            replace(_cycle("+ L_GAN + L_cyc"), published=(0.792, 0.028, 0.727, 0.821)),
        ),
    ),
    "lt-net:table-2": Table(
        title="Supervision in the transformation and the label space",
        source="Wang et al. 2020, Table 2",
        method="lt-net",
        published_on="CANDI",
        structures=CANDI_STRUCTURES,
        reference="Baseline (L_GAN + L_cyc)",
        measures=RANGE,
        rows=(
            replace(_cycle("Baseline (L_GAN + L_cyc)"), published=(0.792, 0.028, 0.727, 0.821)),
            replace(_cycle("+ L_trans", "transformation"), published=(0.809, 0.027, 0.736, 0.832)),
            replace(_cycle("+ L_anatomy_cyc", "anatomy"), published=(0.805, 0.025, 0.742, 0.831)),
            replace(
                _cycle("+ L_trans + L_anatomy_cyc", "transformation", "anatomy"),
                published=(0.814, 0.026, 0.744, 0.838),
            ),
            # No headline: the same runs are one in "ablations".
            replace(LT_NET, name="+ L_trans + L_anatomy_cyc + L_diff_cyc (LT-Net)", headline=False),
        ),
    ),
    "lt-net:table-3": Table(
        title="Beside a multi-atlas method with more and more atlases",
        source="Wang et al. 2020, Table 3",
        method="mabmis",
        published_on="CANDI",
        structures=CANDI_STRUCTURES,
        reference=LT_NET.name,
        measures=(*RANGE, "segment_s"),
        rows=(
            # Seconds: 6.4; MABMIS with two atlases on a Core i3 (about 14 minutes), LT-Net on a Tesla P40 (about 4 s).
            _row("MABMIS, 2 atlases", "mabmis", "register", 0.704, 0.044, 0.630, 0.759, 840.0, atlases=2),
            _row("MABMIS, 3 atlases", "mabmis", "register", 0.745, 0.052, 0.632, 0.804, atlases=3),
            _row("MABMIS, 4 atlases", "mabmis", "register", 0.778, 0.039, 0.720, 0.825, atlases=4),
            _row("MABMIS, 5 atlases", "mabmis", "register", 0.811, 0.036, 0.760, 0.856, atlases=5),
            replace(LT_NET, published=(*LT_NET.published, 4.0)),
        ),
    ),
    "lt-net:table-5": Table(
        title="Beside VoxelMorph, DataAug and the upper bound",
        source="Wang et al. 2020, Table 5",
        method="lt-net",
        published_on="CANDI",
        structures=CANDI_STRUCTURES,
        reference=LT_NET.name,
        measures=RANGE,
        rows=(
            VOXELMORPH,
            replace(_row("DataAug", "dataaug", "student", 0.804, 0.043, 0.738, 0.840), changes=("form=original",)),
            LT_NET,
            replace(
                _row("U-Net (upper bound)", "supervised", "student", 0.865, 0.063, 0.837, 0.892),
                changes=("student.residual=false", "student.decoder_residual=false"),
            ),
        ),
    ),
}

# The rows of Tables 1 and 2 in one: what each loss is worth beside VoxelMorph, and the whole beside it.
TABLES["lt-net:ablations"] = replace(
    TABLES["lt-net:table-1"],
    title="Every loss of the paper over VoxelMorph",
    source="Wang et al. 2020, Tables 1 and 2",
    rows=(*TABLES["lt-net:table-1"].rows, *TABLES["lt-net:table-2"].rows[1:-1], LT_NET),
)
TABLES["os-medseg:table-2"] = replace(
    TABLES["os-medseg:table-1"],
    title="The methods of the paper, structure by structure (DSC)",
    source="Zhou et al. 2024, Table II",
    measures=(*OASIS_STRUCTURES, "dice"),
    structures=OASIS_STRUCTURES,
    all_structures=False,
    drawing="structures",
    rows=tuple(replace(row, published=cells(OASIS_CELLS[row.name])) for row in TABLES["os-medseg:table-1"].rows),
)
# Our reading of "SOTA one-shot MIS methods": deformable registration, and what learns to segment from it.
ONE_SHOT = tuple(
    row
    for row in TABLES["os-medseg:table-1"].rows
    if row.method not in ("supervised", "unet", "resunet", "rigid", "affine")
)
TABLES["os-medseg:figure-4"] = replace(
    TABLES["os-medseg:table-1"],
    title="One-shot methods, structure by structure",
    source="Zhou et al. 2024, Fig. 4",
    published_on="BCV",
    drawing="structures",
    rows=tuple(replace(row, published=BCV.get(row.name, ())) for row in ONE_SHOT),
)
TABLES["lt-net:table-4"] = replace(
    TABLES["lt-net:table-5"],
    title="Beside VoxelMorph, DataAug and the upper bound, structure by structure (DSC)",
    source="Wang et al. 2020, Table 4",
    measures=CANDI_STRUCTURES,
    unite_sides=True,
    rows=tuple(replace(row, published=cells(CANDI_CELLS[row.name])) for row in TABLES["lt-net:table-5"].rows),
)
# With the changes that IV-B names and no others. Those of ``quick`` are elastic and of intensity, too, as its own
# student's are: what OS-MedSeg is compared with is the student of the atlas alone at its best.
_AFFINE_ALONE = tuple(f"augment.{change}=0" for change in ("elastic", "gamma", "contrast", "bias", "noise"))
TABLES["os-medseg:table-1"] = replace(
    TABLES["os-medseg:table-1"],
    rows=(
        *TABLES["os-medseg:table-1"].rows,
        Row("ResUNet, affine changes alone", (*_AFFINE_ALONE, "augment.translation=0.1"), method="resunet"),
    ),
)
TABLES = dict(sorted({**TABLES, **CURVES, **READINGS}.items()))
