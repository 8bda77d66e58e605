"""SyN: symmetric diffeomorphic registration by ANTs, after an affine stage (row Trad of OS-MedSeg's Table I).

Avants, Epstein, Grossman, Gee: "Symmetric diffeomorphic image registration with cross-correlation" (Medical Image
Analysis 2008).
"""

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
    name="syn",
    family="Trad",
    paper="Avants et al. 2008, Symmetric diffeomorphic image registration with cross-correlation",
    needs="one labelled atlas; nothing is learnt, the pool is not looked at",
    learns=False,
    typical="none; 0.4-120 s a scan, 1-2 GB",
    stages=("register",),
    pool="none",
    modules=("ants",),
)


def preset(name: str) -> Settings:
    """The same in every preset: the papers give no settings; ANTsPy's own defaults."""
    return Settings(ants=Ants(transform="SyN"))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Nothing to learn."""
    return {}


def transfer(atlas: Any, labels: Any, scan: Any, settings: Settings, fields: bool = False) -> Transferred:
    """The atlas's labels on the scan's own grid; volumes as read from their files."""
    from soloatlas.classical import ants_transfer

    return ants_transfer(atlas, labels, scan, settings.ants, fields)
