"""How each shared cohort is prepared and scored; chosen on its dev scans."""

from __future__ import annotations

from dataclasses import dataclass

from soloatlas.data.cohorts.shared import Split, shared_cohort
from soloatlas.data.study import Study
from soloatlas.errors import InputError
from soloatlas.evaluation import EVERY_LABEL, Scoring
from soloatlas.reproduction.records import form_of


@dataclass(frozen=True)
class Recipe:
    """What a cohort asks for, whatever the method.

    Attributes:
        unlabelled: scans of its pool that are used, the first ones; None: all.
        changes: settings of every method.
        scoring: of its dev and test scans.
    """

    unlabelled: int | None = None
    changes: tuple[str, ...] = ()
    scoring: Scoring = EVERY_LABEL


_CONTOURED = (1, 3, 4, 7)
CT_LOSSES = ("registration.similarity=mi", "registration.smoothness=bending")

COHORTS: dict[str, Recipe] = {
    "hippocampus": Recipe(unlabelled=100),
    "brain_malf": Recipe(changes=("prepare.spacing=2.0",)),
    "headneck_openkbp": Recipe(
        # Stored values are HU + 1024: a window of -200 to 500 HU, soft tissue and bone. The losses are the paper's
        # for CT (III-C).
        changes=(
            "prepare.spacing=4.0",
            "prepare.normalise=window",
            "prepare.window=[824.0, 1524.0]",
            *CT_LOSSES,
        ),
        scoring=Scoring(_CONTOURED, not_contoured_if_absent=_CONTOURED),
    ),
    "mouse_fvb": Recipe(),
}


def cohort_recipe(name: str) -> Recipe:
    """The recipe of a shared cohort.

    Raises:
        InputError: there is none.
    """
    if name not in COHORTS:
        raise InputError(f"--cohort {name}: not one of {', '.join(COHORTS)}; a public data set needs --data too")
    return COHORTS[name]


# OS-MedSeg's recipe for BCV (III-C, IV-C) is that of CT here; VerSe had the other one.
_CT = ("headneck_openkbp", "bcv", "abdomenctct", "btcv")


def paper_preset(cohort: str) -> str:
    """The preset that is the paper's own for such scans."""
    return "paper-ct" if form_of(cohort, _CT) else "paper"


def cohort_study(name: str, split: Split, unlabelled: int | None = None) -> Study:
    """A shared cohort as its recipe uses it: the recorded atlas, the pool, and the scans of a split.

    Args:
        unlabelled: scans of the pool, where not as many as the recipe says.

    Raises:
        InputError: no such cohort, or its data are missing.
    """
    return shared_cohort(name, unlabelled or cohort_recipe(name).unlabelled, split)
