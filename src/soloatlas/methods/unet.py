"""U-Net on the atlas alone: what can be learnt from one labelled scan and random changes of it.

Ronneberger, Fischer, Brox: "U-Net: Convolutional Networks for Biomedical Image Segmentation" (MICCAI 2015), in three
dimensions: the trunk of OS-MedSeg's Fig. 3 without its residual connections (row LS of its Table I).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Segmenting as Settings

if TYPE_CHECKING:
    from torch import nn

    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="unet",
    family="LS",
    paper="Ronneberger et al. 2015, U-Net: Convolutional Networks for Biomedical Image Segmentation",
    needs="one labelled atlas; the pool is not looked at",
    typical="5-20 min, 1-3 GB",
    stages=("student",),
    pool="none",
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct; see `presets.atlas_alone`."""
    return presets.atlas_alone(name, replace(presets.student(name), residual=False, decoder_residual=False))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train the student on random changes of the atlas."""
    from soloatlas.segmenter import learn_from_atlas

    return {"student": learn_from_atlas(material, settings, session)}
