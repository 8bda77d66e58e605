"""ResUNet on the atlas alone: OS-MedSeg's own segmenter without registration, synthesis and teacher.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition" (CVPR 2016), in the U-Net of OS-MedSeg's Fig. 3
(row LS of its Table I).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Segmenting as Settings

if TYPE_CHECKING:
    from torch import nn

    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="resunet",
    family="LS",
    paper="He et al. 2016, Deep Residual Learning for Image Recognition (in a U-Net)",
    needs="one labelled atlas; the pool is not looked at",
    typical="5-20 min, 1-3 GB",
    stages=("student",),
    pool="none",
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct; see `presets.atlas_alone`."""
    return presets.atlas_alone(name, presets.student(name))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train the student on random changes of the atlas."""
    from soloatlas.segmenter import learn_from_atlas

    return {"student": learn_from_atlas(material, settings, session)}
