"""Segmenting one scan into 36 classes, from file to file, beside registration by ANTs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import partial
from pathlib import Path

from harness import ALONE, Agreement, Case, Clocked, Item, Part, Place

STRUCTURES = 35
WHOLE_GRID = ("prepare.crop=none",)  # the network sees all of the scan, not only the brain in it
COMMAND = "from soloatlas.cli import main; main()"


def write_files(place: Place) -> None:
    """Atlas and scan of the simulated cohort, and a run on that atlas."""
    from inputs import brains, divided, write
    from study_runs import write_run

    (atlas, labels), (scan, _) = brains(place)
    structures = divided(labels, STRUCTURES)
    write(place.folder / "atlas.nii.gz", atlas)
    write(place.folder / "labels.nii.gz", structures)
    write(place.folder / "scan.nii.gz", scan)
    write_run(place.folder / "run", atlas, structures, WHOLE_GRID)


def warm(iterations: tuple[int, ...], place: Place) -> Case:
    """With everything imported; weights are read again each time. Beside ANTsPy's SyN with these iterations."""
    from soloatlas import pipeline

    run, scan, output = (place.folder / name for name in ("run", "scan.nii.gz", "segmentations"))
    peers = {}
    if importlib.util.find_spec("ants"):
        from ants_syn import warp_labels

        atlas = (place.folder / "atlas.nii.gz", place.folder / "labels.nii.gz")
        target = place.folder / "warped.nii.gz"
        peers[f"ANTsPy SyN {iterations}"] = lambda: Clocked(warp_labels(*atlas, scan, target, iterations))
    return Case(lambda: pipeline.segment(run, [scan], output), peers, lambda: agreement(run, scan, output))


def agreement(run: Path, scan: Path, output: Path) -> Agreement:
    """The written labels beside those of the same weights in float32 by PyTorch's own layers."""
    from published import plain
    from soloatlas import pipeline
    from soloatlas.data.files import read_labels
    from soloatlas.inference import native_classes, student_probabilities
    from soloatlas.runs import open_run
    from soloatlas.segmentation import Wishes, Worker

    pipeline.segment(run, [scan], output)
    worker = Worker(open_run(run), Wishes(stage="student"))
    ((_, prepared),) = worker.prepared([scan])
    assert worker.student is not None
    student = plain(worker.student)
    probabilities = student_probabilities(student, worker.tensor(prepared.image), precision="float32")
    right = worker.run.table.decode(native_classes(probabilities, prepared.placement))
    differ = (read_labels(output / scan.name).array != right).mean()
    return {"share of voxels, float32": (float(differ), 0.05)}


def cold(place: Place) -> Case:
    """The command in a new process: imports, reading the run, one scan; files are in the system's memory by then."""
    run, scan, output = (str(place.folder / name) for name in ("run", "scan.nii.gz", "segmentations"))
    command = [sys.executable, "-c", COMMAND, "segment", run, scan, "--output", output]
    return Case(lambda: subprocess.run(command, check=True, capture_output=True))


def array(place: Place) -> Case:
    """A prepared scan in memory to labels on its own grid in memory."""
    from soloatlas.inference import native_classes, student_probabilities
    from soloatlas.runs import open_run
    from soloatlas.segmentation import Wishes, Worker

    worker = Worker(open_run(place.folder / "run"), Wishes(stage="student"))
    ((_, prepared),) = worker.prepared([place.folder / "scan.nii.gz"])
    image, student = worker.tensor(prepared.image), worker.student
    assert student is not None
    return Case(lambda: native_classes(student_probabilities(student, image), prepared.placement))


SYN, LONG = (40, 20, 0), (160, 80, 40)  # iterations: ANTsPy's own; the papers'
LIMITS = {"cpu": {"seconds": 8, "process_gb": 3}, "cuda": {"seconds": 1}}
SHAPES = {"tiny": (32, 32, 32), "large": (160, 192, 224)}
ITEM = Item(
    "segment",
    "one scan into 36 classes on its own grid, alignment included",
    [
        Part(
            "file to file, warm",
            partial(warm, SYN),
            {ALONE: LIMITS, f"ANTsPy SyN {SYN}": {"cpu": {"ratio": 5}}},
            SHAPES,
            write_files,
            (2, 5),
        ),
        Part(
            "file to file, once",
            partial(warm, LONG),
            {f"ANTsPy SyN {LONG}": {"cpu": {"ratio": 20}}},
            SHAPES,
            write_files,
            (1, 1),
            memory=False,
            devices=("cpu",),
        ),
        Part("file to file, cold", cold, {ALONE: {"cpu": {"seconds": 14}}}, SHAPES, write_files, (3, 5), memory=False),
        Part("array to array, prepared", array, {ALONE: {"cuda": {"seconds": 0.3}}}, SHAPES, write_files),
    ],
)
