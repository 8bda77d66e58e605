"""ResUNet on the atlas alone: OS-MedSeg's own segmenter without registration, synthesis and teacher.

He, Zhang, Ren, Sun: "Deep Residual Learning for Image Recognition" (CVPR 2016), in the U-Net of OS-MedSeg's Fig. 3
(row LS of its Table I).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Augment
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
    typical="5-20 min, 2-3 GB",
    stages=("student",),
    pool="none",
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct.

    The paper presets change the atlas as IV-B says, by rotation, shear, translation and scaling, in ranges that
    it does not print; the others also by elastic and intensity changes, without which nothing is learnt about
    other scans.
    """
    residual = presets.student(name)
    if not name.startswith("paper"):
        return Settings(presets.prepare(name), Augment(), residual)
    affine = Augment(translation=0.1, elastic=0.0, gamma=0.0, contrast=0.0, bias=0.0, noise=0.0)
    # A pass over one atlas is one step: 200 passes of 100 draws.
    return Settings(presets.prepare(name), affine, replace(residual, steps=20_000))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train the student on random changes of the atlas."""
    from soloatlas.segmenter import changed_pairs, learn_segmentation

    pairs = changed_pairs(lambda _: (material.atlas, material.classes), settings, material, session.seed)
    return {"student": learn_segmentation(pairs, 1, material.class_count, settings.student, session)}
