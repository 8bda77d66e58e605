"""Rows and published cells of the papers' tables.

A row is a method with settings one step from the others. Published figures (on the paper's own data) are
shown beside ours as "published".
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Row:
    """One row of a table.

    Attributes:
        name: as in the paper, with what it means.
        changes: settings that make it, as given to ``--set``.
        stage: ``student``, or ``register`` for the atlas's labels warped.
        published: the paper's cells, one for each measure of the table; None where one is empty or lost.
        headline: belongs among the main results (a method as a whole, not an ablation).
    """

    name: str
    changes: tuple[str, ...] = ()
    stage: str = "student"
    published: tuple[float | None, ...] = ()
    headline: bool = False


@dataclass(frozen=True)
class Table:
    """A table of a paper.

    Attributes:
        reference: the row that the others are compared with.
        measures: its columns: ``dice``, ``hd95_mm``, or over the test cases ``sd``, ``min`` and ``max`` of DSC.
    """

    title: str
    source: str
    method: str
    published_on: str
    reference: str
    rows: tuple[Row, ...]
    measures: tuple[str, ...] = ("dice", "hd95_mm")


RANGE = ("dice", "sd", "min", "max")

OURS = Row("OS-MedSeg (student, teacher, SI+SL)", published=(0.854, 1.716), headline=True)


def _cycle(name: str, *kept: str) -> Row:
    """LT-Net with the image cycle and, of its other cycle terms, only those ``kept``."""
    terms = ("transformation", "anatomy", "difference")
    return Row(name, tuple(f"cycle.{term}=0" for term in terms if term not in kept), "register")


TABLES: dict[str, Table] = {
    "os-medseg:main": Table(
        title="The student beside the registration row of the same run",
        source="Zhou et al. 2024, Table I (CLMorph and Ours)",
        method="os-medseg",
        published_on="OASIS",
        reference=OURS.name,
        rows=(Row("Atlas labels warped", stage="register", published=(0.799, 3.214), headline=True), OURS),
    ),
    # Points where paper, figure and withdrawn code disagree: run on the dev scans to choose the defaults.
    "os-medseg:readings": Table(
        title="Readings of the paper, one setting apart",
        source="ours",
        method="os-medseg",
        published_on="-",
        reference="default",
        rows=(
            Row("default"),
            Row("no teacher", ("teacher=false",)),
            Row("teacher stopped at the hint", ("hint.stop_gradient=true",)),
            Row("cosine at each voxel", ("hint.mode=voxel",)),
            Row("hint weight 1, as in the paper", ("hint.weight=1.0",)),
            Row("nearest label warp", ("synthesis.label_warp=nearest",)),
            Row("atlas's own intensities", ("synthesis.appearance=none",)),
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
        reference=OURS.name,
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
        reference="VoxelMorph",
        measures=RANGE,
        rows=(
            Row("VoxelMorph", ("adversary=false", "cycle=false"), "register", (0.760, 0.097, 0.617, 0.801), True),
            Row("+ L_GAN", ("cycle=false",), "register", (0.790, 0.031, 0.727, 0.819)),
            replace(_cycle("+ L_GAN + L_cyc"), published=(0.792, 0.028, 0.727, 0.821)),
        ),
    ),
    "lt-net:table-2": Table(
        title="Supervision in the transformation and the label space",
        source="Wang et al. 2020, Table 2",
        method="lt-net",
        published_on="CANDI",
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
            replace(
                _cycle("+ L_trans + L_anatomy_cyc + L_diff_cyc (LT-Net)", "transformation", "anatomy", "difference"),
                published=(0.823, 0.025, 0.756, 0.842),
                headline=True,
            ),
        ),
    ),
}
