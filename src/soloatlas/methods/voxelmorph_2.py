"""VoxelMorph-2: the U-Net of the TMI paper, with 16 filters at the finest scales.

Balakrishnan, Zhao, Sabuncu, Guttag, Dalca: "VoxelMorph: A Learning Framework for Deformable Medical Image
Registration" (IEEE TMI 2019), 301 411 parameters. ``registration.integration_steps=7`` makes it the diffeomorphic
one (Dalca, Balakrishnan, Guttag, Sabuncu: MICCAI 2018), without its Gaussian; ``form=original`` is the authors' PyTorch
code.
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


def original(name: str) -> Settings:
    """The authors' PyTorch code with its defaults: pooled trunk, mean squares, a velocity integrated at half size."""
    r = replace(
        presets.registration(name),
        half_resolution=False,
        network="voxelmorph-pooled",
        channels=(16, 32, 32, 32),
        integration_steps=7,
        integration_grid="half",
        similarity="mse",
        smoothness="diffusion",
        alpha=0.02,  # 0.01, times the 2 by which the code multiplies the smoothness of its half-size velocity
        beta=0.0,
        batch=1,
    )
    if name.startswith("paper"):
        r = replace(r, steps=150_000, learning_rate=1e-4)  # 1500 times 100 steps
    return Settings(presets.prepare(name), r, form="original")


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
