"""Segmenting a large CT into 133 classes: whether its memory is bounded. Nothing is timed."""

from __future__ import annotations

from harness import ALONE, Case, Item, Part, Place

STRUCTURES = 132
SETTINGS = ("prepare.align=none", "prepare.crop=none", "prepare.normalise=window", "student.patch=[96,96,96]")


def write_files(place: Place) -> None:
    """A made-up CT in Hounsfield units, and a run on it with sliding windows."""
    import numpy as np

    from inputs import scans, structures, write
    from soloatlas.data.volume import Grid, Volume
    from study_runs import write_run

    grid = Grid(place.shape, np.diag([0.8, 0.8, 1.0, 1.0]))
    image, labels = scans(place)[0][0, 0], structures(place, STRUCTURES + 1)[0, 0]
    ct = Volume((image.numpy() * 400 - 160).astype(np.int16), grid)
    write(place.folder / "scan.nii.gz", ct)
    write_run(place.folder / "run", ct, Volume(labels.numpy().astype(np.int32), grid), SETTINGS)


def build(place: Place) -> Case:
    """From file to file."""
    from soloatlas import pipeline

    run, scan, output = (place.folder / name for name in ("run", "scan.nii.gz", "segmentations"))
    return Case(lambda: pipeline.segment(run, [scan], output))


ITEM = Item(
    "segment-ct",
    "peak memory of segmenting one CT of 512x512x300 voxels into 133 classes, file to file",
    [
        Part(
            "file to file",
            build,
            {ALONE: {"cpu": {"process_gb": 6}}},
            {"tiny": (48, 48, 32), "large": (512, 512, 300)},
            write_files,
            (0, 0),
            devices=("cpu",),
        )
    ],
)
