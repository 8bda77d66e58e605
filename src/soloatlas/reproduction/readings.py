"""What the papers leave open, one setting apart: run on the dev scans, to choose the defaults of ``quick``.

Where paper, figure and withdrawn code disagree or say nothing, a row is a reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from soloatlas.reproduction.rows import RANGE, Row, Table
from soloatlas.settings import Augment

# The paper's pairs: no augmentation, the atlas's own intensities.
PLAIN = ("augment=false", "synthesis.appearance=none")

# The changes that methods of the atlas alone make.
WHOLE = tuple(
    f"augment.{name}={getattr(Augment(), name)}" for name in ("rotation", "scale", "shear", "translation", "elastic")
)

# Rows of LT-Net: without its own terms, without the way back, and what the discriminator may not judge by.
NO_ADVERSARY, NO_CYCLE = ("adversary=false",), ("cycle=false",)
CONTRAST, GRAIN = ("adversary.appearance=histogram",), ("adversary.noise=0.1",)


def _weights(image: float, other: float, pull: float = 1.0) -> tuple[str, ...]:
    """Weights of the cycle: of Eq. 7, and of Eqs. 8 to 10; and how much of it the forward generator feels."""
    terms = ("transformation", "anatomy", "difference")
    return (f"cycle.image={image}", *(f"cycle.{term}={other}" for term in terms), f"cycle.pull={pull}")


def _printed(pull: float = 1.0) -> tuple[str, ...]:
    """lambda_1 and lambda_2 as printed."""
    return _weights(10.0, 3.0, pull)


def _warped(rows: Sequence[tuple[str, tuple[str, ...]]], common: tuple[str, ...] = ()) -> tuple[Row, ...]:
    """Rows of LT-Net, each a name and settings beside the ``common`` ones."""
    return tuple(Row(name, (*common, *changes), "register") for name, changes in rows)


READINGS: dict[str, Table] = {
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
            Row("hint at one level", ("hint.levels=1",)),
            Row("hints at four levels", ("hint.levels=4",)),
            Row("hint weight 1, as in the paper", ("hint.weight=1.0",)),
            Row("nearest label warp", ("synthesis.label_warp=nearest",)),
            Row("atlas's own intensities", ("synthesis.appearance=none",)),
            Row("teacher trained first", ("teacher.schedule=pretrain",)),
            Row("teacher trained first, then frozen", ("teacher.schedule=freeze",)),
            # What the teacher is for: closing the gap between synthetic and real scans. Here nothing else closes it.
            Row("plain pairs", PLAIN),
            Row("plain pairs, no teacher", (*PLAIN, "teacher=false")),
            Row("plain pairs, hint weight 1", (*PLAIN, "hint.weight=1.0")),
        ),
    ),
    # The weight of smoothness, of a registration as a method and of the one that makes the pairs.
    "os-medseg:alpha-alone": Table(
        title="How much the smoothness of a field counts",
        source="ours",
        method="voxelmorph-2",
        published_on="-",
        reference="alpha = 1",
        rows=tuple(
            Row(f"alpha = {alpha}", (f"registration.alpha={alpha}",), "register")
            for alpha in ("0.5", "1", "2", "4", "8")
        ),
    ),
    "os-medseg:alpha": Table(
        title="How much the smoothness of the fields counts that make the pairs",
        source="ours",
        method="os-medseg",
        published_on="-",
        reference="alpha = 1",
        rows=tuple(
            Row(f"alpha = {alpha}{what}", (f"registration.alpha={alpha}",), stage)
            for alpha in ("1", "2", "4")
            for what, stage in (("", "student"), (", atlas labels warped", "register"))
        ),
    ),
    "os-medseg:augment": Table(
        title="How much the pairs are changed at random",
        source="ours",
        method="os-medseg",
        published_on="-",
        reference="half",
        rows=(
            Row("not at all", ("augment=false",)),
            Row("half"),
            Row("as the atlas alone", WHOLE),
            Row("the atlas alone", method="resunet"),
        ),
    ),
    "os-medseg:balance": Table(
        title="How far cross entropy evens out the sizes of classes",
        source="ours",
        method="os-medseg",
        published_on="-",
        reference="every voxel counts the same",
        rows=(
            Row("every voxel counts the same", ("student.balance=0",)),
            Row("between", ("student.balance=0.5",)),
            Row("every class counts the same", ("student.balance=1",)),
            Row("between, without Dice", ("student.balance=0.5", "student.dice=0")),
        ),
    ),
    "lt-net:readings": Table(
        title="Readings of the paper, one setting apart",
        source="ours",
        method="lt-net",
        published_on="-",
        reference="VoxelMorph",
        measures=RANGE,
        rows=_warped(
            (
                ("VoxelMorph", (*NO_ADVERSARY, *NO_CYCLE)),
                ("default", ()),
                ("L_GAN of weight 1", (*NO_CYCLE, "adversary.weight=1.0")),
                ("L_GAN", NO_CYCLE),
                ("L_GAN, one contrast", (*NO_CYCLE, *CONTRAST)),
                ("L_GAN, one contrast, noise", (*NO_CYCLE, *CONTRAST, *GRAIN)),
                ("L_GAN of weight 0.1, one contrast, noise", (*NO_CYCLE, *CONTRAST, *GRAIN, "adversary.weight=0.1")),
                ("cycle alone", NO_ADVERSARY),
                ("cycle alone, printed weights", (*NO_ADVERSARY, *_printed())),
                ("cycle alone, a tenth of them", (*NO_ADVERSARY, *_weights(1.0, 0.3))),
                ("cycle alone, a tenth, the way back first", (*NO_ADVERSARY, *_weights(1.0, 0.3), "cycle.warm_up=0.3")),
                ("L_anatomy_cyc pooled over classes", ("cycle.average=pooled",)),
                ("background as a class", ("cycle.background=true",)),
            )
        ),
    ),
    # Where gradients suddenly grow, as when a field takes off, Adam steps (1 - beta1) / sqrt(1 - beta2) rates far: 16
    # with CycleGAN's betas, which has thrown a field off for good; 1 with these.
    "lt-net:weights": Table(
        title="How strongly each loss may pull, with an optimiser that does not leap",
        source="ours",
        method="lt-net",
        published_on="-",
        reference="VoxelMorph",
        measures=RANGE,
        rows=(
            Row("VoxelMorph, CycleGAN's betas", ("betas=[0.5,0.999]", *NO_ADVERSARY, *NO_CYCLE), "register"),
            *_warped(
                (
                    ("VoxelMorph", (*NO_ADVERSARY, *NO_CYCLE)),
                    ("L_GAN of weight 0.01", (*NO_CYCLE, "adversary.weight=0.01")),
                    ("L_GAN of weight 0.003", (*NO_CYCLE, "adversary.weight=0.003")),
                    ("LT-Net, small cycle", (*_weights(0.03, 0.01), "adversary.weight=0.01")),
                    # The way back has its smoothness and these terms alone: small ones leave it at 0.
                    *(
                        (f"LT-Net, printed cycle, pull {pull}", (*_printed(pull), "adversary.weight=0.01"))
                        for pull in (0.003, 0.01, 0.03)
                    ),
                    (
                        "LT-Net, printed cycle, pull 0.003, L_GAN of weight 0.003",
                        (*_printed(0.003), "adversary.weight=0.003"),
                    ),
                    ("printed cycle alone, pull 0.003", (*_printed(0.003), *NO_ADVERSARY)),
                ),
                common=("betas=[0.9,0.99]",),
            ),
        ),
    ),
}
