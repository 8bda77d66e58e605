"""What the papers claim, as data: each claim is one or more comparisons of rows of a table.

`verdicts` tests them on recorded results. Sentences are ours; the source says where the paper makes the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from soloatlas.reproduction.rows import OURS
from soloatlas.reproduction.tables import LT_NET, VOXELMORPH


@dataclass(frozen=True)
class Comparison:
    """A weighted sum of rows' scores that is positive where the claim holds.

    Attributes:
        name: what is compared, in words.
        weights: (row's name, weight); the difference of two rows has the weights 1 and -1.
    """

    name: str
    weights: tuple[tuple[str, float], ...]


Measure = Literal["dice", "hd95_mm", "small", "sd", "low"]


@dataclass(frozen=True)
class Claim:
    """What a paper says of its results, and what would show it.

    Attributes:
        id: the paper, a colon and a name.
        sentence: the claim.
        source: where the paper makes it.
        tables: that hold the rows; of those recorded on a cohort the one with the most seeds is read.
        comparisons: all of them must hold.
        measure: mean DSC, mean HD95 (mm, less is better), mean DSC of the small structures
            (`structures.small_structures`), standard deviation (less is better) of DSC over scans, or its mean over
            the lowest quarter of them.
        direction: ``above``: each comparison is positive; ``not below``: none is below -margin; ``within``: all lie
            between -margin and margin.
        margin, reason: what still counts as no difference, in units of the measure, and why.
        cohorts: names of those that the claim speaks of; empty: all.
    """

    id: str
    sentence: str
    source: str
    tables: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    measure: Measure = "dice"
    direction: Literal["above", "not below", "within"] = "above"
    margin: float = 0.0
    reason: str = ""
    cohorts: tuple[str, ...] = ()


def _above(better: str, *worse: str) -> tuple[Comparison, ...]:
    """One row beside each of the others."""
    return tuple(Comparison(f"{better} against {other}", ((better, 1.0), (other, -1.0))) for other in worse)


def _each_above(better: Sequence[str], worse: Sequence[str]) -> tuple[Comparison, ...]:
    """Every row of one group beside every row of another."""
    return tuple(comparison for one in better for comparison in _above(one, *worse))


# Groups of Table I, by its column "Type".
LS = ("U-Net", "ResUNet")
ABS = ("VoxelMorph-1", "VoxelMorph-2", "TransMorph", "CLMorph")
LRLS = ("DataAug", "BRBS", OURS.name)

CT = ("headneck_openkbp", "bcv", "abdomenctct", "btcv", "verse20")

_METHODS = ("os-medseg:table-1", "os-medseg:table-2")  # the same runs
_NETWORKS = ("VoxelMorph-1's network", "VoxelMorph-2's network", "TransMorph's network", "CLMorph's network", "SyN")
_LEVELS = tuple(f"hint.levels = {number}" for number in (0, 1, 3, 4, 5))
_OTHER_WEIGHTS = ("0", "0.01", "0.1", "10", "100")
_BESIDE = ("lt-net:table-5", "lt-net:table-4")
_WHOLE = (*_BESIDE, "lt-net:ablations")
_PERCENT = (20, 40, 60, 80, 100)
_NO_SCANS = "OS-MedSeg and BRBS, 0 % (ResUNet)"
_BASE = "Baseline (L_GAN + L_cyc)"
_BOTH = "+ L_trans + L_anatomy_cyc"

_OS_MEDSEG = (
    Claim(
        "os-medseg:lrls-above-abs",
        "Methods that learn to segment from registered pairs (LRLS) score above networks that only register (ABS).",
        "Zhou et al. 2024, IV-D, Table I",
        _METHODS,
        _each_above(LRLS, ABS),
    ),
    Claim(
        "os-medseg:lrls-above-ls",
        "LRLS methods score above networks that learn from the augmented atlas alone (LS).",
        "Zhou et al. 2024, IV-D, Table I",
        _METHODS,
        _each_above(LRLS, LS),
    ),
    Claim(
        "os-medseg:syn-above-abs-on-ct",
        "On CT, with its large deformations, SyN scores above the networks that register (ABS).",
        "Zhou et al. 2024, IV-D, Table I (BCV and VerSe)",
        _METHODS,
        _above("SyN", *ABS),
        cohorts=CT,
    ),
    Claim(
        "os-medseg:ls-poor-on-small",
        "LS networks fail on small structures, where ABS networks do not.",
        "Zhou et al. 2024, IV-D, Table II",
        _METHODS,
        _each_above(ABS, LS),
        measure="small",
    ),
    Claim(
        "os-medseg:ls-poor-in-hd95",
        "LS networks have a high HD95, above that of ABS networks.",
        "Zhou et al. 2024, IV-D, Table I",
        _METHODS,
        _each_above(ABS, LS),
        measure="hd95_mm",
    ),
    Claim(
        "os-medseg:above-lrls",
        "OS-MedSeg has a higher DSC than DataAug and BRBS.",
        "Zhou et al. 2024, IV-D, Table I",
        _METHODS,
        _above(OURS.name, "DataAug", "BRBS"),
    ),
    Claim(
        "os-medseg:above-lrls-in-hd95",
        "OS-MedSeg has a lower HD95 than DataAug and BRBS.",
        "Zhou et al. 2024, IV-D, Table I",
        _METHODS,
        _above(OURS.name, "DataAug", "BRBS"),
        measure="hd95_mm",
    ),
    Claim(
        "os-medseg:teacher-helps",
        "On synthetic images and labels the student gains DSC by the teacher.",
        "Zhou et al. 2024, IV-E.1, Table III (Ours and M2)",
        ("os-medseg:table-3",),
        _above(OURS.name, "M2 (student, SI+SL)"),
    ),
    Claim(
        "os-medseg:teacher-helps-in-hd95",
        "On synthetic images and labels the teacher lowers the student's HD95.",
        "Zhou et al. 2024, IV-E.1, Table III (Ours and M2)",
        ("os-medseg:table-3",),
        _above(OURS.name, "M2 (student, SI+SL)"),
        measure="hd95_mm",
    ),
    Claim(
        "os-medseg:synthetic-above-real",
        "With the teacher and without, synthetic images suit the synthetic labels better than real ones do.",
        "Zhou et al. 2024, IV-E.1, Table III (Ours and M3, M2 and M1)",
        ("os-medseg:table-3",),
        _above(OURS.name, "M3 (student, teacher, RI+SL)") + _above("M2 (student, SI+SL)", "M1 (student, RI+SL)"),
    ),
    Claim(
        "os-medseg:segmentation-loss-helps",
        "The segmentation loss helps.",
        "Zhou et al. 2024, IV-E.2, Table IV",
        ("os-medseg:table-4",),
        _above(OURS.name, "hint + recon"),
    ),
    Claim(
        "os-medseg:hint-helps",
        "The hint loss helps.",
        "Zhou et al. 2024, IV-E.2, Table IV",
        ("os-medseg:table-4",),
        _above(OURS.name, "seg + recon"),
    ),
    Claim(
        "os-medseg:reconstruction-helps",
        "The reconstruction loss helps.",
        "Zhou et al. 2024, IV-E.2, Table IV",
        ("os-medseg:table-4",),
        _above(OURS.name, "seg + hint"),
    ),
    Claim(
        "os-medseg:cosine-above-l2",
        "The cosine is a better distance of features than L2.",
        "Zhou et al. 2024, IV-E.2, Table V",
        ("os-medseg:table-5",),
        _above("Cosine similarity loss", "L2 loss"),
    ),
    Claim(
        "os-medseg:two-levels-best",
        "Hints at the last two levels are better than at any other number of levels.",
        "Zhou et al. 2024, IV-E.3, Fig. 7b",
        ("os-medseg:figure-7b",),
        _above("hint.levels = 2", *_LEVELS),
    ),
    Claim(
        "os-medseg:hint-weight-1-best",
        "A weight of 1 is the best for the hint loss.",
        "Zhou et al. 2024, IV-E.3, Fig. 7a",
        ("os-medseg:figure-7a",),
        _above("hint.weight = 1", *(f"hint.weight = {weight}" for weight in _OTHER_WEIGHTS)),
    ),
    Claim(
        "os-medseg:reconstruction-weight-1-best",
        "A weight of 1 is the best for the reconstruction loss.",
        "Zhou et al. 2024, IV-E.3, Fig. 7a",
        ("os-medseg:figure-7a",),
        _above("teacher.weight = 1", *(f"teacher.weight = {weight}" for weight in _OTHER_WEIGHTS)),
    ),
    Claim(
        "os-medseg:a-fifth-of-the-pool-helps",
        "A fifth of the unlabelled scans already lifts OS-MedSeg above a network that has seen none.",
        "Zhou et al. 2024, IV-E.3, Fig. 7c",
        ("os-medseg:figure-7c",),
        _above("OS-MedSeg, 20 %", _NO_SCANS),
    ),
    Claim(
        "os-medseg:more-of-the-pool-adds-less",
        "The first fifth of the unlabelled scans helps, and on average each further one brings less than half as much.",
        "Zhou et al. 2024, IV-E.3, Fig. 7c (rapid up to 20 %, then slower; half is our measure of slower)",
        ("os-medseg:figure-7c",),
        (
            *_above("OS-MedSeg, 20 %", _NO_SCANS),
            Comparison(
                "half of the first fifth's gain against the mean gain of the other four",
                (("OS-MedSeg, 20 %", 0.5 + 0.25), (_NO_SCANS, -0.5), ("OS-MedSeg, 100 %", -0.25)),
            ),
        ),
    ),
    Claim(
        "os-medseg:above-brbs-at-every-share",
        "OS-MedSeg scores above BRBS, however many unlabelled scans there are.",
        "Zhou et al. 2024, IV-E.3, Fig. 7c",
        ("os-medseg:figure-7c",),
        tuple(one for n in _PERCENT for one in _above(f"OS-MedSeg, {n} %", f"BRBS, {n} %")),
    ),
    Claim(
        "os-medseg:any-network-serves",
        "Pairs may come from any registration network: none leaves OS-MedSeg much worse than its own does.",
        "Zhou et al. 2024, III-A.1",
        ("os-medseg:networks",),
        tuple(Comparison(f"{name} against its own", ((name, 1.0), ("its own network", -1.0))) for name in _NETWORKS),
        direction="not below",
        margin=0.02,
        reason="registrations of Table I differ by 0.016 among themselves on OASIS (SyN 0.784, VoxelMorph-2 0.800); a "
        "framework that any of them serves should not widen that",
    ),
)

_LT_NET = (
    Claim(
        "lt-net:above-voxelmorph-and-dataaug",
        "LT-Net scores above VoxelMorph and DataAug.",
        "Wang et al. 2020, 6.5, Tables 4 and 5",
        _BESIDE,
        _above(LT_NET.name, VOXELMORPH.name, "DataAug"),
    ),
    Claim(
        "lt-net:adversary-helps",
        "An adversarial loss on the warped atlas helps VoxelMorph.",
        "Wang et al. 2020, 6.2, Table 1",
        ("lt-net:table-1",),
        _above("+ L_GAN", VOXELMORPH.name),
    ),
    Claim(
        "lt-net:image-cycle-adds-little",
        "Consistency of the images after the way back adds little to that.",
        "Wang et al. 2020, 6.2, Table 1",
        ("lt-net:table-1",),
        _above("+ L_GAN + L_cyc", "+ L_GAN"),
        direction="within",
        margin=0.009,
        reason="the smallest gain that the paper counts as one is 0.9 points (L_diff_cyc, 6.3); it finds 0.2 here",
    ),
    Claim(
        "lt-net:transformation-cycle-helps",
        "Consistency of the fields helps, alone and beside that of the labels.",
        "Wang et al. 2020, 6.3, Table 2",
        ("lt-net:table-2",),
        _above("+ L_trans", _BASE) + _above(_BOTH, "+ L_anatomy_cyc"),
    ),
    Claim(
        "lt-net:anatomy-cycle-helps",
        "Consistency of the labels helps, alone and beside that of the fields.",
        "Wang et al. 2020, 6.3, Table 2",
        ("lt-net:table-2",),
        _above("+ L_anatomy_cyc", _BASE) + _above(_BOTH, "+ L_trans"),
    ),
    Claim(
        "lt-net:difference-cycle-helps",
        "Consistency of the anatomical differences helps beside the two others.",
        "Wang et al. 2020, 6.3, Table 2",
        ("lt-net:table-2",),
        _above("+ L_trans + L_anatomy_cyc + L_diff_cyc (LT-Net)", _BOTH),
    ),
    Claim(
        "lt-net:one-atlas-above-mabmis",
        "With one atlas LT-Net scores above MABMIS with two to five.",
        "Wang et al. 2020, 6.4, Table 3",
        ("lt-net:table-3",),
        _above(LT_NET.name, *(f"MABMIS, {number} atlases" for number in (2, 3, 4, 5))),
    ),
    Claim(
        "lt-net:near-the-bound",
        "LT-Net reaches at least 95 % of the DSC of a U-Net trained on true labels.",
        "Wang et al. 2020, 6.5, Table 5",
        _BESIDE,
        (Comparison("LT-Net against 95 % of the upper bound", ((LT_NET.name, 1.0), ("U-Net (upper bound)", -0.95))),),
    ),
    Claim(
        "lt-net:steadier-than-voxelmorph",
        "With LT-Net the DSC varies less from scan to scan than with VoxelMorph.",
        "Wang et al. 2020, Tables 1 and 5",
        _WHOLE,
        _above(LT_NET.name, VOXELMORPH.name),
        measure="sd",
    ),
    Claim(
        "lt-net:steadier-than-the-bound",
        "With LT-Net the DSC varies less from scan to scan than with the upper bound and with DataAug.",
        "Wang et al. 2020, 6.5, Table 5",
        _BESIDE,
        _above(LT_NET.name, "U-Net (upper bound)", "DataAug"),
        measure="sd",
    ),
    Claim(
        "lt-net:better-worst-case",
        "The worst scans of LT-Net score above those of VoxelMorph.",
        "Wang et al. 2020, Tables 1 and 5 (the lowest DSC; a single scan tests nothing, so we take the lowest quarter)",
        _WHOLE,
        _above(LT_NET.name, VOXELMORPH.name),
        measure="low",
    ),
)

CLAIMS: dict[str, Claim] = {claim.id: claim for claim in (*_OS_MEDSEG, *_LT_NET)}
