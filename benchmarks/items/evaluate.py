"""Scoring 38 structures at 1 mm (DSC, HD95, ASSD, NSD) beside MONAI and DeepMind's surface-distance, on one core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from harness import ALONE, Agreement, Case, Item, Part, Place

STRUCTURES, TOLERANCE_MM = 38, 1.0
CASES = 8  # as many as two processes are worth to `evaluate`
Scores = dict[int, tuple[float, ...]]  # label value -> DSC, HD95, ASSD, NSD


def write_files(place: Place) -> None:
    """The simulated atlas's labels as truth; the same a little deformed as prediction."""
    import torch

    from inputs import brains, displacement, divided, write
    from soloatlas import fields
    from soloatlas.data.volume import Volume

    (_, labels), _ = brains(place)
    truth = divided(labels, 5 if place.size == "tiny" else STRUCTURES)
    classes = torch.from_numpy(truth.array.astype(np.int16))[None, None]
    moved = fields.warp_labels(classes, 1.5 * displacement(place).cpu())[0, 0].numpy()
    write(place.folder / "truth.nii.gz", truth)
    write(place.folder / "prediction.nii.gz", Volume(moved.astype(np.int32), truth.grid))


def build(place: Place) -> Case:
    """From two files to the scores of every structure."""
    from soloatlas.evaluation import evaluate

    files = place.folder / "prediction.nii.gz", place.folder / "truth.nii.gz"
    return Case(
        ours=lambda: evaluate(*files, None, tolerance_mm=TOLERANCE_MM, workers=1),
        peers={
            "MONAI, HD95 alone": lambda: monai(*files, only_hd95=True),
            "MONAI, all four": lambda: monai(*files),
            "surface-distance, all four": lambda: surface_distance(*files),
        },
        agree=lambda: agreement(*files),
    )


def ours(prediction: Path, truth: Path) -> Scores:
    """The program's scores of the only case."""
    from soloatlas.evaluation import METRICS, evaluate

    (case,) = evaluate(prediction, truth, None, tolerance_mm=TOLERANCE_MM, workers=1)["cases"].values()
    return {int(value): tuple(row[metric] for metric in METRICS) for value, row in case.items()}


def monai(prediction: Path, truth: Path, only_hd95: bool = False) -> Scores:
    """MONAI's metrics on one-hot maps."""
    import torch
    from monai import metrics
    from monai.networks import one_hot

    (predicted, spacing), (true, _) = _read(prediction), _read(truth)
    count = int(true.max()) + 1
    pair = [one_hot(torch.from_numpy(x)[None, None], count) for x in (predicted, true)]
    columns: list[Any] = [metrics.compute_hausdorff_distance(*pair, percentile=95, spacing=spacing)]
    if not only_hd95:
        dice = metrics.compute_dice(*pair, include_background=False)
        assd = metrics.compute_average_surface_distance(*pair, symmetric=True, spacing=spacing)
        nsd = metrics.compute_surface_dice(*pair, class_thresholds=[TOLERANCE_MM + 1e-4] * (count - 1), spacing=spacing)
        columns = [dice, columns[0], assd, nsd]
    return {value: tuple(float(c[0, value - 1]) for c in columns) for value in range(1, count)}


def surface_distance(prediction: Path, truth: Path) -> Scores:
    """DeepMind's metrics, which weigh pieces of surface by area, structure by structure."""
    import surface_distance as sd

    (predicted, spacing), (true, _) = _read(prediction), _read(truth)
    scores: Scores = {}
    for value in range(1, int(true.max()) + 1):
        masks = true == value, predicted == value
        apart = sd.compute_surface_distances(*masks, spacing)
        scores[value] = (
            sd.compute_dice_coefficient(*masks),
            sd.compute_robust_hausdorff(apart, 95),
            float(np.mean(sd.compute_average_surface_distance(apart))),
            sd.compute_surface_dice_at_tolerance(apart, TOLERANCE_MM),
        )
    return scores


def agreement(prediction: Path, truth: Path) -> Agreement:
    """MONAI's definitions are ours. Surface-distance's surfaces lie half a voxel outside and are weighed by area.

    With it, distances agree to about a voxel and the overlap of surfaces not at all.
    """
    mine, theirs, others = (score(prediction, truth) for score in (ours, monai, surface_distance))
    voxel = max(_read(truth)[1])
    found = {}
    for name, right, limits in (
        ("MONAI", theirs, (1e-4, 1e-4, 1e-4, 1e-4)),
        ("surface-distance", others, (1e-4, 2 * voxel, voxel)),
    ):
        for column, (metric, limit) in enumerate(zip(("DSC", "HD95 mm", "ASSD mm", "NSD"), limits, strict=False)):
            apart = max(abs(mine[value][column] - right[value][column]) for value in mine)
            found[f"{metric}, {name}"] = (float(apart), limit)
    return found


def _read(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    import nibabel

    image: Any = nibabel.load(path)
    return np.asarray(image.dataobj), tuple(float(x) for x in image.header.get_zooms())


def cohort(place: Place) -> Case:
    """Copies of the case, in as many processes as there are cores, beside one process."""
    import shutil

    from soloatlas.evaluation import evaluate

    predictions, truths = place.folder / "predictions", place.folder / "truths"
    for folder in (predictions, truths):
        folder.mkdir(exist_ok=True)
        for number in range(CASES):
            shutil.copy(place.folder / f"{folder.name[:-1]}.nii.gz", folder / f"case_{number}.nii.gz")

    def score(workers: int | None) -> dict[str, Any]:
        return evaluate(predictions, truths, None, tolerance_mm=TOLERANCE_MM, workers=workers)

    def agree() -> Agreement:
        return {"cases that differ": (float(score(None)["cases"] != score(1)["cases"]), 0)}

    return Case(lambda: score(None), {"one process": lambda: score(1)}, agree)


SHAPES = {"tiny": (32, 32, 32), "large": (160, 192, 224)}
ITEM = Item(
    "evaluate",
    "DSC, HD95, ASSD and NSD of 38 structures at 1 mm, from files, one core",
    [
        Part(
            "one case",
            build,
            {ALONE: {"cpu": {"seconds": 2, "process_gb": 0.5}}},
            SHAPES,
            write_files,
            (3, 15),
            threads=1,
            devices=("cpu",),
        ),
        Part(
            f"{CASES} cases, all cores",
            cohort,
            {},
            SHAPES,
            write_files,
            (2, 5),
            threads=1,
            memory=False,
            devices=("cpu",),
        ),
    ],
)
