"""CANDIShare: brain MR of children and adolescents, on which LT-Net was measured."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from soloatlas.data.cohorts.dataset import UNSTATED, Case, Dataset, Found, beside, not_found, search
from soloatlas.data.cohorts.sides import side_names
from soloatlas.errors import InputError

# The rows of LT-Net's Table 4 and the label values of their sides: 28 structures.
CANDI_ROWS: dict[str, tuple[int, ...]] = {
    "Cerebral-WM": (2, 41),
    "Cerebral-CX": (3, 42),
    "Lateral-Vent": (4, 43),
    "Cerebellum-WM": (7, 46),
    "Cerebellum-CX": (8, 47),
    "Thalamus-Proper": (10, 49),
    "Caudate": (11, 50),
    "Putamen": (12, 51),
    "Pallidum": (13, 52),
    "3rd-Vent": (14,),
    "4th-Vent": (15,),
    "Brain-Stem": (16,),
    "Hippocampus": (17, 53),
    "Amygdala": (18, 54),
    "CSF": (24,),
    "VentralDC": (28, 60),
}
KEPT = {value: value for values in CANDI_ROWS.values() for value in values}
CROP = (160, 160, 128)  # voxels along the axes of the files, which have 256 x 256 x 128 to 158

FILES = (
    "<ID>_MR/anat/NIfTI/anat.nii.gz and <ID>_MR/<ID>_MR_seg/NIfTI/seg.nii.gz (NITRC)",
    "SchizBull_2008/<group>/<ID>/MNI152_2mm_Linear/<ID>_linear_MRI.nii.gz and _linear_SEG.nii.gz (MNI152, 2 mm)",
)


def find_candi(data: Path) -> Found:
    """The subjects below ``data``, in whichever of the two layouts.

    Raises:
        InputError: neither layout is there.
    """
    cases = sorted(_nitrc(data), key=lambda case: case.name)
    if cases:
        return Found("NITRC", tuple(cases), changes=_cropped(cases[0].image))
    cases = sorted(_linear(data), key=lambda case: case.name)
    if cases:
        # Affinely aligned to one template already, on a grid that is smaller than the crop.
        return Found("MNI152, 2 mm", tuple(cases), changes=("prepare.align=none", "prepare.crop=none"))
    raise not_found(data, FILES)


def _nitrc(data: Path) -> Iterator[Case]:
    for path in search(data, "*_MR/anat/NIfTI/anat.nii.gz"):
        folder = path.parents[2]
        yield Case(
            folder.name.removesuffix("_MR"), path, beside(folder / f"{folder.name}_seg" / "NIfTI" / "seg.nii.gz")
        )


def _linear(data: Path) -> Iterator[Case]:
    for path in search(data, "*/*/MNI152_2mm_Linear/*_linear_MRI.nii.gz"):
        name = path.name.removesuffix("_linear_MRI.nii.gz")
        yield Case(name, path, beside(path.with_name(f"{name}_linear_SEG.nii.gz")))


def _cropped(image: Path) -> tuple[str, ...]:
    """The crop about the brain of LT-Net 6.1; `prepare.size` counts along R, A and S, not along the file's axes."""
    import nibabel

    try:
        axes = nibabel.io_orientation(nibabel.load(image).affine)[:, 0].astype(int)
    except Exception as error:  # a broken file can fail a parser in any way
        raise InputError(f"{image}: cannot be read; copy it again from its source") from error
    size = dict(zip(axes, CROP, strict=True))
    asked = ",".join(str(size[axis]) for axis in range(3))
    return ("prepare.align=centre", "prepare.crop=labels", f"prepare.size=[{asked}]")


CANDI = Dataset(
    name="candi",
    what="brain MR (T1) of children and adolescents, 103 subjects, 256 x 256 x 128 to 158, 28 structures used",
    used="LT-Net, Tables 1 to 5",
    licence=UNSTATED,
    ask="NITRC, CANDIShare, the project cs_schizbull08",
    files=FILES,
    find=find_candi,
    names=side_names(CANDI_ROWS),
    mapping=KEPT,
    labelled=103,
    notes=(
        "structures other than the 28 are background",
        "the crop's centre is that of the atlas's labels; other scans are shifted, so that their centres meet",
        "LT-Net's atlas is not published; ours is chosen by choose-atlas on the pool (LT-Net: closest to the average)",
    ),
)
