"""Rigid: rotation and translation by ANTs (row Trad of OS-MedSeg's Table I)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from soloatlas.classical import Ants
from soloatlas.classical import AntsSettings as Settings
from soloatlas.methods import Method, check_settings

if TYPE_CHECKING:
    from torch import nn

    from soloatlas.classical import Transferred
    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="rigid",
    family="Trad",
    paper="Avants et al. 2011, A reproducible evaluation of ANTs similarity metric performance",
    needs="one labelled atlas; nothing is learnt, the pool is not looked at",
    learns=False,
    typical="none; 0.2-5 s a scan, 1-2 GB",
    stages=("register",),
    pool="none",
    modules=("ants",),
)


def preset(name: str) -> Settings:
    """The same in every preset: the papers give no settings; ANTsPy's own defaults."""
    return Settings(ants=Ants(transform="Rigid"))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Nothing to learn."""
    return {}


def transfer(atlas: Any, labels: Any, scan: Any, settings: Settings, fields: bool = False) -> Transferred:
    """The atlas's labels on the scan's own grid; volumes as read from their files."""
    from soloatlas.classical import ants_transfer

    return ants_transfer(atlas, labels, scan, settings.ants, fields)
