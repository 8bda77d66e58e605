"""VoxelMorph-2: the U-Net of the TMI paper, with 16 filters at the finest scales.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca: "VoxelMorph: A Learning Framework for Deformable Medical Image
Registration" (IEEE TMI 2019), 301 411 parameters. ``registration.integration_steps=7`` makes it the diffeomorphic
one (Dalca, Balakrishnan, Guttag, Sabuncu: MICCAI 2018), without its Gaussian;
``registration.network=voxelmorph-pooled`` is the trunk of the authors' PyTorch code.
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
    name="voxelmorph-2",
    family="ABS",
    paper="Balakrishnan et al. 2019, VoxelMorph: A Learning Framework for Deformable Medical Image Registration",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="1-10 min, 1-3 GB",
    stages=("register",),
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct.

    Similarity, smoothness, rate and length are those of every method of Table I of OS-MedSeg.
    """
    registration = replace(presets.registration(name), network="voxelmorph", channels=(16, 32, 32, 32), beta=0.0)
    return Settings(presets.prepare(name), registration)


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
