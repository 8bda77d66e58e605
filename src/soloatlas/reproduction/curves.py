"""OS-MedSeg's Fig. 7: weights and levels of the hint, and how much unlabelled data is needed.

Published cells were read off the plots. The paper's two curves of Fig. 7a meet where both weights are 1; our preset
``quick`` has another weight of the hint, so that the rows of the second name it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from soloatlas.reproduction.rows import Curve, Row, Table

_WEIGHTS = (0.0, 0.01, 0.1, 1.0, 10.0, 100.0)
_PERCENT = (20, 40, 60, 80, 100)


def _line(name: str, places: Sequence[float], rows: Sequence[Row]) -> Curve:
    """A line through rows."""
    return Curve(name, tuple((float(place), row.name) for place, row in zip(places, rows, strict=True)))


def _by_setting(
    title: str,
    figure: str,
    setting: str,
    values: Sequence[float],
    published: Sequence[float],
    reference: float,
    *others: str,
) -> Table:
    """A row of OS-MedSeg for each value of a setting, all on one line; ``others`` are settings of all of them."""
    rows = tuple(
        Row(f"{setting} = {value:g}", (*others, f"{setting}={value:g}"), published=(cell,))
        for value, cell in zip(values, published, strict=True)
    )
    return Table(
        title=title,
        source=f"Zhou et al. 2024, Fig. {figure}",
        method="os-medseg",
        published_on="OASIS",
        reference=f"{setting} = {reference:g}",
        measures=("dice",),
        rows=rows,
        drawing="curves",
        axis=title.lower(),
        curves=(_line("OS-MedSeg", values, rows),),
    )


def _with_share(name: str, method: str, stage: str, published: Sequence[float | None]) -> tuple[Row, ...]:
    """A row for each share of the pool."""
    return tuple(
        Row(f"{name}, {percent} %", (), stage, (cell,), method=method, share=percent / 100)
        for percent, cell in zip(_PERCENT, published, strict=True)
    )


# Without unlabelled scans OS-MedSeg and BRBS are a segmenter learnt from the atlas alone; CLMorph is nothing.
_NOTHING = Row("OS-MedSeg and BRBS, 0 % (ResUNet)", published=(0.61,), method="resunet")
_OURS = _with_share("OS-MedSeg", "os-medseg", "student", (0.745, 0.785, 0.787, 0.815, 0.846))
_BRBS = _with_share("BRBS", "brbs", "student", (None,) * 5)
_CLMORPH = _with_share("CLMorph", "clmorph", "register", (0.645, 0.67, 0.70, 0.70, 0.726))

_HINT = _by_setting(
    "Weight of the hint loss", "7a", "hint.weight", _WEIGHTS, (0.806, 0.835, 0.841, 0.854, 0.830, 0.825), 1
)
_RECONSTRUCTION = _by_setting(
    "Weight of the reconstruction loss",
    "7a",
    "teacher.weight",
    _WEIGHTS,
    (0.826, 0.831, 0.840, 0.854, 0.848, 0.830),
    1,
    "hint.weight=1",
)

CURVES: dict[str, Table] = {
    "os-medseg:figure-7a": replace(
        _HINT,
        title="Weights of the hint and of the reconstruction loss",
        rows=(*_HINT.rows, *_RECONSTRUCTION.rows),
        axis="weight",
        curves=(_line("hint", _WEIGHTS, _HINT.rows), _line("reconstruction", _WEIGHTS, _RECONSTRUCTION.rows)),
    ),
    "os-medseg:figure-7b": _by_setting(
        "Levels of features in the hint loss",
        "7b",
        "hint.levels",
        range(6),
        (0.806, 0.831, 0.854, 0.827, 0.835, 0.829),
        2,
    ),
    "os-medseg:figure-7c": Table(
        title="Share of the unlabelled scans",
        source="Zhou et al. 2024, Fig. 7c",
        method="os-medseg",
        published_on="BCV",
        reference="OS-MedSeg, 100 %",
        measures=("dice",),
        rows=(_NOTHING, *_OURS, *_BRBS, *_CLMORPH),
        drawing="curves",
        axis="share of the unlabelled scans, %",
        curves=(
            _line("OS-MedSeg", (0, *_PERCENT), (_NOTHING, *_OURS)),
            _line("BRBS", (0, *_PERCENT), (_NOTHING, *_BRBS)),
            replace(_line("CLMorph", _PERCENT, _CLMORPH), begins_at_0=True),
        ),
    ),
}
