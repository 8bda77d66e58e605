"""VoxelMorph-1: the U-Net of the CVPR paper, with 8 filters at the finest scales.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca: "An Unsupervised Learning Model for Deformable Medical Image
Registration" (CVPR 2018). The variant of 274 387 parameters that comparisons call VoxelMorph-1.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Registering as Settings

if TYPE_CHECKING:
    from torch import nn

    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="voxelmorph-1",
    family="ABS",
    paper="Balakrishnan et al. 2018, An Unsupervised Learning Model for Deformable Medical Image Registration",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="1-10 min, 1-3 GB",
    stages=("register",),
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct.

    Similarity, smoothness, rate and length are those of every method of Table I of OS-MedSeg.
    """
    registration = replace(presets.registration(name), network="voxelmorph", channels=(8, 32, 32, 32), beta=0.0)
    return Settings(presets.prepare(name), registration)


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
