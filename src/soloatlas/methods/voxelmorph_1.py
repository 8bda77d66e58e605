"""VoxelMorph-1: the U-Net of the CVPR paper, with 8 filters at the finest scales.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca: "An Unsupervised Learning Model for Deformable Medical Image
Registration" (CVPR 2018). The variant of 274 387 parameters that comparisons call VoxelMorph-1; the paper's own has 16
filters at the first scale (``form=original``).
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


def original(name: str) -> Settings:
    """The CVPR paper's network; batch and length of the authors' code, which trains 1500 times 100 steps."""
    r = replace(
        presets.registration(name),
        half_resolution=False,
        network="voxelmorph-short",  # decoder widths 32, 32, 32, 32, 8, 8 (CVPR 2018)
        channels=(16, 32, 32, 32),
        similarity="cc",
        smoothness="diffusion",
        alpha=1.0,  # recommended beside local correlation
        beta=0.0,
        batch=1,
    )
    if name.startswith("paper"):
        r = replace(r, steps=150_000, learning_rate=1e-4)
    return Settings(presets.prepare(name), r, form="original")


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
