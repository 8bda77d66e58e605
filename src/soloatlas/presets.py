"""What methods share in each preset: preparation, registration, augmentation, student.

Table I of OS-MedSeg compares methods under one similarity, one smoothness and one segmenter (IV-B); every
method here therefore starts from the same parts and says in its own file what it changes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from soloatlas.settings import Augment, Prepare, Registration, Segmenter, Segmenting


def prepare(preset: str) -> Prepare:
    """``paper-ct`` takes a window of HU, the others percentiles."""
    return Prepare(normalise="window") if preset == "paper-ct" else Prepare()


def registration(preset: str) -> Registration:
    """The paper's rate and length; ``standard`` and ``quick`` anneal a higher one over fewer steps."""
    if preset == "paper":
        return Registration()
    if preset == "paper-ct":  # the BCV recipe of III-C
        return Registration(similarity="mi", smoothness="bending")
    if preset == "standard":
        return Registration(steps=8000, learning_rate=3e-4, schedule="cosine")
    return Registration(
        channels=(16, 32, 32, 32),  # undoubled
        half_resolution=True,
        steps=600,
        batch=2,  # two scans: each is the other's negative in Eq. 2
        learning_rate=1e-3,
        schedule="cosine",
    )


def of_network(network: str, preset: str) -> dict[str, Any]:
    """What a registration network takes of its own, wherever it serves: its authors' widths, and a rate it can bear.

    Under ``quick`` TransMorph has half its widths, since 47 million parameters are slow on a CPU, and a third of the
    convolutions' rate, which a transformer does not bear. Empty for a network that is not known.
    """
    if network == "siamese":
        return {"channels": registration(preset).channels}
    if network == "transmorph" and preset == "quick":
        return {"channels": (48, 96, 192, 384), "learning_rate": 3e-4}
    return {"channels": WIDTHS[network]} if network in WIDTHS else {}


WIDTHS = {
    "voxelmorph": (16, 32, 32, 32),
    "voxelmorph-pooled": (16, 32, 32, 32),
    "voxelmorph-short": (16, 32, 32, 32),
    "transmorph": (96, 192, 384, 768),
    "clmorph": (16, 32, 64, 256),
    "clmorph-gaussian": (16, 32, 64, 256),
    "group": (16, 32, 64, 128),  # and 256 at 1/16
}


def student(preset: str) -> Segmenter:
    """The paper's network; ``standard`` and ``quick`` add Dice, even out the sizes of classes and anneal the rate.

    In plain cross entropy a structure of a hundred voxels weighs nothing and is never found
    (`reproduction.readings`, os-medseg:balance).
    """
    if preset.startswith("paper"):
        return Segmenter()
    common = Segmenter(dice=1.0, balance=0.5, schedule="cosine")
    if preset == "standard":
        return replace(common, steps=12000)
    # Five times the paper's rate: few steps with a cosine to 0 learn far more than at 1e-3 (dev scans).
    return replace(common, steps=1200, batch=1, learning_rate=5e-3)


def augment(preset: str) -> Augment:
    """Off in the paper presets: the paper describes none for its own student."""
    if preset.startswith("paper"):
        return Augment(enabled=False)
    if preset == "standard":
        return Augment()
    # Half the default changes: scans are aligned to the atlas, and few steps learn less from rare poses.
    return Augment(rotation=7.0, scale=0.08, shear=0.03, translation=0.025, elastic=1.5)


def atlas_alone(name: str, student: Segmenter) -> Segmenting:
    """For a student that sees nothing but random changes of the atlas.

    The paper presets change it as IV-B says, by rotation, shear, translation and scaling, in ranges that it does
    not print; the others also by elastic and intensity changes, without which nothing is learnt about other scans.
    """
    if not name.startswith("paper"):
        return Segmenting(prepare(name), Augment(), student)
    affine = Augment(translation=0.1, elastic=0.0, gamma=0.0, contrast=0.0, bias=0.0, noise=0.0)
    # A pass over one atlas is one step: 200 passes of 100 draws.
    return Segmenting(prepare(name), affine, replace(student, steps=20_000))
