"""Greedy: fast diffeomorphic registration, a quicker relative of SyN that is in neither paper.

Yushkevich, Pluta, Wang, Wisse, Das, Wolk: "Fast automatic segmentation of hippocampal subfields and medial temporal
lobe subregions in 3 Tesla and 7 Tesla T2-weighted MRI" (Alzheimer's & Dementia 2016).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from soloatlas.classical import Greedy
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Loop, Prepare

if TYPE_CHECKING:
    from torch import nn

    from soloatlas.classical import Transferred
    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="greedy",
    family="Trad",
    paper="Yushkevich et al. 2016, greedy diffeomorphic registration",
    needs="one labelled atlas; nothing is learnt, the pool is not looked at",
    learns=False,
    typical="none; 0.3-30 s a scan, 1-2 GB",
    stages=("register",),
    pool="none",
    modules=("picsl_greedy",),
)


@dataclass(frozen=True)
class Settings:
    """What greedy is told; ``prepare`` and ``loop`` only shape what a run records of its atlas."""

    prepare: Prepare = field(default_factory=Prepare)
    greedy: Greedy = field(default_factory=Greedy)
    loop: Loop = field(default_factory=Loop)


def preset(name: str) -> Settings:
    """The same in every preset: settings of greedy's own tutorial."""
    return Settings()


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Nothing to learn."""
    return {}


def transfer(atlas: Any, labels: Any, scan: Any, settings: Settings, fields: bool = False) -> Transferred:
    """The atlas's labels on the scan's own grid; volumes as read from their files."""
    from soloatlas.classical import greedy_transfer

    return greedy_transfer(atlas, labels, scan, settings.greedy, fields)
