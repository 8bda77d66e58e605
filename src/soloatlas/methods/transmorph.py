"""TransMorph: a Swin transformer encodes both images, convolutions decode the field.

Chen, Frey, He, Segars, Li, Du: "TransMorph: Transformer for unsupervised medical image registration" (Medical Image
Analysis 2022). ``form=original`` trains as the authors do.
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
    name="transmorph",
    family="ABS",
    paper="Chen et al. 2022, TransMorph: Transformer for unsupervised medical image registration",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="5-40 min, 1-8 GB",
    stages=("register",),
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct.

    Similarity, smoothness, rate and length are those of every method of Table I of OS-MedSeg.
    """
    own = presets.of_network("transmorph", name)
    registration = replace(presets.registration(name), network="transmorph", beta=0.0, **own)
    return Settings(presets.prepare(name), registration)


def original(name: str) -> Settings:
    """As the authors' code trains on IXI: batch of 1, AMSGrad, a rate that falls by (1 - part)^0.9."""
    made = preset(name)
    r = replace(
        made.registration,
        half_resolution=False,
        similarity="cc",
        smoothness="diffusion",
        alpha=1.0,
        batch=1,
        schedule="poly",
        amsgrad=True,
    )
    if name.startswith("paper"):
        r = replace(r, epochs=500, learning_rate=1e-4)
    return replace(made, registration=r, form="original")


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
