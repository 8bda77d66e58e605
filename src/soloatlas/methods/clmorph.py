"""CLMorph: registration with a contrastive loss between the encoded images.

Liu, Aviles-Rivero, Schönlieb: "Contrastive Registration for Unsupervised Medical Image Segmentation" (IEEE TNNLS
2023). Its own network, with the contrastive term of OS-MedSeg's Eq. 2; OS-MedSeg's variant of it is
``registration.network=siamese``; ``form=original`` draws the field from a Gaussian, as the authors do.
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
    name="clmorph",
    family="ABS",
    paper="Liu et al. 2023, Contrastive Registration for Unsupervised Medical Image Segmentation",
    needs="one labelled atlas, a pool of unlabelled scans",
    typical="3-20 min, 1-4 GB",
    stages=("register",),
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct.

    Similarity, smoothness, rate and length are those of every method of Table I of OS-MedSeg.
    """
    registration = replace(presets.registration(name), network="clmorph", **presets.of_network("clmorph", name))
    return Settings(presets.prepare(name), registration)


def original(name: str) -> Settings:
    """The probabilistic form: a field drawn from a Gaussian, mean squares, and the divergence from N(0, 1).

    Values of the published code but for the contrast, whose weight is the paper's.
    """
    made = preset(name)
    r = replace(
        made.registration,
        half_resolution=False,
        network="clmorph-gaussian",
        similarity="mse",
        alpha=0.0,  # the code's loss has the divergence alone to hold the field
        beta=0.01,  # the paper; its code multiplies by 0.01 twice
        temperature=0.5,
        divergence=0.01,
    )
    if name.startswith("paper"):
        # 201 passes over the 870 ordered pairs of 30 scans, 8 at a time (the code's README); 109 steps a pass.
        r = replace(r, steps=201 * 109, batch=8, learning_rate=3e-3, schedule="step")
    return replace(made, registration=r, form="original")


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Learn to register the atlas to the pool (stage ``register``)."""
    from soloatlas.registration import learn_registration

    return {"registration": learn_registration(material, settings.registration, session)}
