"""OS-MedSeg's Fig. 7: weights and levels of the hint, and how much unlabelled data is needed.

Published cells were read off the plots. Our preset ``quick`` has another weight of the hint than the paper's 1, so
its own point is a row too.
"""

from __future__ import annotations

from collections.abc import Sequence

from soloatlas.reproduction.rows import Row, Table

_WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
_PERCENT = (20, 40, 60, 80, 100)


def _curve(setting: str, values: Sequence[float], published: Sequence[float]) -> tuple[Row, ...]:
    """A row for each value of a setting."""
    return tuple(
        Row(f"{setting} = {value:g}", (f"{setting}={value:g}",), published=(cell,))
        for value, cell in zip(values, published, strict=True)
    )


def _with_share(name: str, method: str, stage: str, published: Sequence[float | None]) -> tuple[Row, ...]:
    """A row for each share of the pool."""
    return tuple(
        Row(f"{name}, {percent} %", (), stage, (cell,), method=method, share=percent / 100)
        for percent, cell in zip(_PERCENT, published, strict=True)
    )


CURVES: dict[str, Table] = {
    "os-medseg:figure-7a-hint": Table(
        title="Weight of the hint loss",
        source="Zhou et al. 2024, Fig. 7a",
        method="os-medseg",
        published_on="OASIS",
        reference="hint.weight = 0",
        measures=("dice",),
        rows=_curve("hint.weight", _WEIGHTS, (0.806, 0.835, 0.841, 0.854, 0.830, 0.825)),
    ),
    "os-medseg:figure-7a-reconstruction": Table(
        title="Weight of the reconstruction loss",
        source="Zhou et al. 2024, Fig. 7a",
        method="os-medseg",
        published_on="OASIS",
        reference="teacher.weight = 1",
        measures=("dice",),
        rows=_curve("teacher.weight", _WEIGHTS, (0.826, 0.831, 0.840, 0.854, 0.848, 0.830)),
    ),
    "os-medseg:figure-7b": Table(
        title="Levels of features in the hint loss",
        source="Zhou et al. 2024, Fig. 7b",
        method="os-medseg",
        published_on="OASIS",
        reference="hint.levels = 2",
        measures=("dice",),
        rows=_curve("hint.levels", range(6), (0.806, 0.831, 0.854, 0.827, 0.835, 0.829)),
    ),
    # Without unlabelled scans OS-MedSeg and BRBS are a segmenter learnt from the atlas alone; CLMorph is nothing.
    "os-medseg:figure-7c": Table(
        title="Share of the unlabelled scans",
        source="Zhou et al. 2024, Fig. 7c",
        method="os-medseg",
        published_on="BCV",
        reference="OS-MedSeg, 100 %",
        measures=("dice",),
        rows=(
            Row("OS-MedSeg and BRBS, 0 % (ResUNet)", published=(0.61,), method="resunet"),
            *_with_share("OS-MedSeg", "os-medseg", "student", (0.745, 0.785, 0.787, 0.815, 0.846)),
            *_with_share("BRBS", "brbs", "student", (None,) * 5),
            *_with_share("CLMorph", "clmorph", "register", (0.645, 0.67, 0.70, 0.70, 0.726)),
        ),
    ),
}
