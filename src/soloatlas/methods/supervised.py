"""The upper bound: the student trained on true labels of the whole pool. Not one-shot.

Row "Fully supervised" of OS-MedSeg's Table I and "U-Net (upper bound)" of LT-Net's Tables 4 and 5. Network,
augmentation, loss and steps are those of OS-MedSeg's student, so that only the labels differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from soloatlas import presets
from soloatlas.methods import Method, check_settings
from soloatlas.settings import Segmenting as Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from soloatlas.material import Material
    from soloatlas.training import Session

METHOD = Method(
    name="supervised",
    family="supervised",
    paper="Zhou et al. 2024 (OS-MedSeg), upper bound: its student on true labels of every scan",
    needs="labels of the whole pool: not one-shot",
    typical="5-20 min, 1-3 GB",
    stages=("student",),
    pool="labelled",
)


def preset(name: str) -> Settings:
    """The settings of a preset: quick, standard, paper or paper-ct; OS-MedSeg's student in each."""
    return Settings(presets.prepare(name), presets.augment(name), presets.student(name))


validate = check_settings


def train(material: Material, settings: Settings, session: Session) -> dict[str, nn.Module]:
    """Train the student on every scan of the pool with its own labels, and on the atlas."""
    from soloatlas.segmenter import changed_pairs, learn_segmentation

    assert material.pool_classes is not None
    labels, scans = material.pool_classes, len(material.names)

    def scan_of(item: int) -> tuple[Tensor, Tensor]:
        if item == scans:
            return material.atlas, material.classes
        return material.scans([item]), labels[[item]].to(material.device)

    pairs = changed_pairs(scan_of, settings, material, session.seed)
    return {"student": learn_segmentation(pairs, scans + 1, material.class_count, settings.student, session)}
