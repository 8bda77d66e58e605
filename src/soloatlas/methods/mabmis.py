"""MABMIS: several labelled atlases, one group of scans, registered along a tree and labelled by each other.

Jia, Yap, Shen: "Iterative multi-atlas-based multi-image segmentation with tree-based registration" (NeuroImage 2012).
Nothing is learnt; one call of `segment` is one group, whose scans also vote for one another. Not one-shot: two
labelled atlases or more.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.errors import InputError
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Groupwise, Loop, Prepare

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from torch import Tensor, nn

    from soloatlas.groupwise import Tell
    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="mabmis",
    family="multi-atlas",
    paper="Jia et al. 2012, Iterative multi-atlas-based multi-image segmentation with tree-based registration",
    needs="two labelled atlases or more; nothing is learnt, the pool is not looked at",
    learns=False,
    typical="none; 9 s-5 min a scan, 1-4 GB",
    stages=("register",),
    pool="none",
    atlases="several",
)


@dataclass(frozen=True)
class Settings:
    """Everything MABMIS can be told; ``loop`` only shapes the record."""

    prepare: Prepare = field(default_factory=Prepare)
    groupwise: Groupwise = field(default_factory=Groupwise)
    loop: Loop = field(default_factory=Loop)


def preset(name: str) -> Settings:
    """The same in every preset but for the preparation: the published program's values."""
    return Settings(presets.prepare(name))


def validate(settings: Settings) -> None:
    """Refuse settings that cannot work, before anything is done.

    Raises:
        InputError: naming the setting and what it may be.
    """
    check_settings(settings)
    g = settings.groupwise
    if len(g.tree_iterations) != 3 or len(g.refine_iterations) != 3 or g.rounds < 1:
        raise InputError("groupwise: tree_iterations and refine_iterations take three numbers, rounds at least 1")


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Nothing to learn."""
    return {}


def group(
    atlases: Sequence[Tensor],
    labels: Sequence[Tensor],
    scans: Sequence[Tensor],
    class_count: int,
    settings: Settings,
    tell: Tell | None = None,
) -> list[np.ndarray]:
    """Class maps of a group of prepared scans; see `soloatlas.groupwise.segment_group`."""
    from soloatlas.groupwise import segment_group

    return segment_group(atlases, labels, scans, class_count, settings.groupwise, tell)
