"""Table II of OS-MedSeg and Table 4 of LT-Net: DSC of each structure, left and right as one; the small ones.

A printed cell stands here where its row is certain; the text that the tables were read from lost some, and where a
column kept fewer values than rows nothing says whose they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from soloatlas.data.labels import without_side

# What the papers and the cohorts call the same structure.
_SAME = {
    "thalamus proper": "thalamus",
    "csf other": "csf",
    "accumbens": "accumbens area",
    "ventraldc": "ventral dc",
    "cerebral wm": "cerebral white matter",
    "cerebral cx": "cerebral cortex",
    "lateral vent": "lateral ventricle",
    "cerebellum wm": "cerebellum white matter",
    "cerebellum cx": "cerebellum cortex",
    "3rd vent": "3rd ventricle",
    "4th vent": "4th ventricle",
}

OASIS_STRUCTURES = (
    "cerebral white matter",
    "cerebral cortex",
    "lateral ventricle",
    "inf lat vent",
    "cerebellum white matter",
    "cerebellum cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "3rd ventricle",
    "4th ventricle",
    "brain stem",
    "hippocampus",
    "amygdala",
    "accumbens area",
    "ventral dc",
    "vessel",
    "choroid plexus",
)
"""Columns of Table II."""

CANDI_STRUCTURES = (
    "cerebral white matter",
    "cerebral cortex",
    "lateral ventricle",
    "cerebellum white matter",
    "cerebellum cortex",
    "thalamus",
    "caudate",
    "putamen",
    "pallidum",
    "3rd ventricle",
    "4th ventricle",
    "brain stem",
    "hippocampus",
    "amygdala",
    "csf",
    "ventral dc",
)
"""Columns of Table 4."""


ENOUGH = 6  # with fewer structures a smaller half says more about which they are than about size


def structure_dice(labels: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Mean DSC of each structure, sides taken together, from ``labels`` of `evaluation.evaluate`."""
    found: dict[str, list[float]] = {}
    for label in labels.values():
        if label["mean_dice"] is not None:
            found.setdefault(structure(label["name"]), []).append(label["mean_dice"])
    return {name: float(np.mean(values)) for name, values in found.items()}


def small_structures(
    labels: Mapping[str, Mapping[str, Any]], cases: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> list[str]:
    """The smaller half of the structures by mean true volume, where there are `ENOUGH` of them; sides as one.

    Args:
        labels, cases: of `evaluation.evaluate`.
    """
    volumes: dict[str, list[float]] = {}
    for case in cases.values():
        for value, scores in case.items():
            if scores["volume_truth_ml"] > 0:
                volumes.setdefault(structure(labels[value]["name"]), []).append(scores["volume_truth_ml"])
    ordered = sorted(volumes, key=lambda name: (np.mean(volumes[name]), name))
    return ordered[: len(ordered) // 2] if len(ordered) >= ENOUGH else []


def case_dice_of(
    structures: Collection[str],
    labels: Mapping[str, Mapping[str, Any]],
    cases: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> dict[str, float | None]:
    """Each case's mean DSC over the labels of these ``structures``; None where none of them was scored."""
    found: dict[str, float | None] = {}
    for name, case in cases.items():
        inside = [scores["dice"] for value, scores in case.items() if structure(labels[value]["name"]) in structures]
        scored = [dice for dice in inside if dice is not None]
        found[name] = float(np.mean(scored)) if scored else None
    return found


def structure_case_dice(
    labels: Mapping[str, Mapping[str, Any]], cases: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, dict[str, float | None]]:
    """`case_dice_of` each structure by itself."""
    names = sorted({structure(label["name"]) for label in labels.values()})
    return {name: case_dice_of([name], labels, cases) for name in names}


def dice_without_zeros(cases: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> float | None:
    """Mean DSC by the rule of OS-MedSeg's released notebook: structures with DSC 0 are left out of a case's mean.

    It rewards missing a structure, so nothing is judged by it. Cases without any other structure are left out too.
    """
    hit = [[scores["dice"] for scores in case.values() if scores["dice"]] for case in cases.values()]
    means = [np.mean(dice) for dice in hit if dice]
    return float(np.mean(means)) if means else None


def structure(name: str) -> str:
    """A label's name in small letters without its side, as the tables here call it."""
    stem = " ".join(without_side(name))
    return _SAME.get(stem, stem)


def labels_of(
    structures: Collection[str], names: Mapping[int, tuple[str, Any]], all_of_them: bool = True
) -> tuple[int, ...] | None:
    """Label values of these structures, both sides; None where the names lack one of them.

    Args:
        names: value to (name, colour), of `read_label_names`.
        all_of_them: false: those that the names have will do; None where they have none.
    """
    found = {value: structure(name) for value, (name, _) in names.items()}
    known = set(structures) & set(found.values())
    if not known or (all_of_them and known != set(structures)):
        return None
    return tuple(sorted(value for value, name in found.items() if name in structures))


def cells(text: str) -> tuple[float | None, ...]:
    """Printed cells from a line of text; ``-`` where one is lost."""
    return tuple(None if cell == "-" else float(cell) for cell in re.split(r"\s+", text.strip()))


# Structure by structure, then the mean.
OASIS_CELLS = {
    "Fully supervised": (
        ".970 .944 .957 .791 .959 .964 .961 .948 .951 .932 .923 .915 .969 .935 .923 .894 .929 .523 .764 .906"
    ),
    "U-Net": ".900 .862 .785 .033 .865 .894 - - - - - - .909 .703 - - .611 - .250 .684",
    "ResUNet": ".940 .889 .775 .087 .867 .913 - - - - - - .900 .761 - - .775 - .306 .724",
    "Rigid": ".638 .521 .620 .181 .720 .785 - - .744 - - - .840 .627 .685 - .728 - .199 .597",
    "Affine": ".641 .525 .626 .191 .723 .790 - - .740 - - - .841 .636 .701 - .733 - .205 .601",
    "SyN": ".821 .702 .894 .359 .842 .888 - - .881 - - - .939 .804 .842 - .880 - .525 .784",
    "VoxelMorph-1": ".868 .738 .889 .472 .865 .893 - - .894 - - - - .806 .830 - .878 - .527 .793",
    "VoxelMorph-2": ".874 .747 .893 .503 .870 .897 - - .896 - - - - .815 .835 - .885 - .536 .800",
    "TransMorph": ".866 .725 .882 .492 .863 .887 - - .894 - - - - .813 .839 - .883 - .535 .796",
    "CLMorph": ".875 .748 .890 .498 .872 .898 - - .896 - - - - .811 .832 - .881 - .534 .799",
    "DataAug": "- .836 .918 .459 .900 .918 - - .906 - - - - .840 .864 - .895 - .565 .823",
    "BRBS": "- .844 .907 .352 .925 .928 - - .899 - - - - .793 .770 - .884 - .595 .811",
    "OS-MedSeg (student, teacher, SI+SL)": "- .909 .925 .641 .935 .937 - - .917 - - - - .878 .867 - .894 - .592 .854",
}

CANDI_CELLS = {
    "VoxelMorph": ".817 .871 .767 .740 .863 .847 .796 .833 .740 .629 .698 .871 .592 .665 .509 .766",
    "DataAug": ".905 .933 .875 .823 .932 .873 .813 .828 .737 .663 .722 .905 .725 .692 .633 .803",
    "LT-Net": ".858 .909 .831 .800 .916 .879 .855 .884 .805 .684 .797 .924 .716 .716 .671 .823",
    "U-Net (upper bound)": ".920 .931 .918 .879 .931 .906 .881 .887 .825 .790 .849 .922 .803 .753 .698 .859",
}
