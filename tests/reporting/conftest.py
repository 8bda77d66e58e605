"""A small run folder made by hand, and an evaluation of two cases."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from soloatlas.data.files import write_volume
from soloatlas.data.labels import LabelTable
from soloatlas.data.volume import Grid
from soloatlas.evaluation import evaluate

SHAPE = (12, 16, 10)
GRID = Grid(SHAPE, np.diag([2.0, 1.0, 1.5, 1.0]))
TABLE = LabelTable((0, 3, 7), ("background", "left <core>", "shell"), ((0, 0, 0), (255, 0, 0), (0, 0, 255)))


def image(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 100, SHAPE).astype(np.float32)


def labels(shift: int = 0) -> np.ndarray:
    array = np.zeros(SHAPE, np.int32)
    array[2:10, 3 + shift : 13 + shift, 2:8] = 7
    array[4:8, 5 + shift : 10 + shift, 3:7] = 3
    return array


def record(folder: Path) -> dict[str, Any]:
    def entry(name: str) -> dict[str, str]:
        return {"path": str(folder / name), "sha256": "0123456789abcdef" * 4}

    return {
        "format": 1,
        "state": "finished",
        "method": "os-medseg",
        "preset": "quick",
        "seed": 5,
        "study": "toy",
        "settings": {
            "prepare": {"align": "affine", "normalise": "percentile"},
            "registration": {
                "channels": [16, 32, 32, 32],
                "half_resolution": True,
                "similarity": "cc",
                "window": 9,
                "smoothness": "bending",
                "steps": 60,
            },
            "student": {"steps": 80, "dice": 1.0},
            "teacher": {"enabled": False},
        },
        "inputs": {
            "atlas": entry("atlas.nii.gz"),
            "atlas_labels": entry("labels.nii.gz"),
            "unlabelled": [entry("a.nii.gz"), entry("b.nii.gz")],
        },
        "label_names": "",
        "command": "soloatlas train --output run",
        "machine": {"system": "Linux", "processor": "a chip", "cores": 2, "python": "3.11.9"},
        "versions": {"soloatlas": "0.1.0", "torch": "2.13.0"},
        "seconds": {"prepare": 30.0, "learn": 90.0},
        "parameters": {"student": 1_500_000},
        "grid": {"shape": list(SHAPE), "affine": GRID.affine.tolist()},
        "pool": [
            {"name": "a", "similarity": 0.9, "aligned": True},
            {"name": "b", "similarity": 0.2, "aligned": False},
        ],
        "ceiling": {"mean_dice": 0.975, "dice": {"left <core>": 0.96, "shell": 0.99}},
        "peak_memory_gb": 1.25,
        "device": "cpu",
        "precision": "float32",
    }


def write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def make_run(folder: Path) -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(record(folder)))
    (folder / "labels.json").write_text(json.dumps(TABLE.to_json()))
    write_volume(folder / "atlas.nii.gz", image(0), GRID)
    write_volume(folder / "atlas_labels.nii.gz", labels(), GRID)
    curves = [["register", s, t, 1 / s] for s in range(10, 70, 10) for t in ("similarity", "smoothness", "total")]
    curves += [["distil", s, t, 2 / s] for s in range(10, 90, 10) for t in ("cross entropy", "dice")]
    write_table(folder / "metrics.csv", ["stage", "step", "term", "value"], curves)
    header = [
        "scan",
        "folding_percent",
        "sd_log_jacobian",
        "mean_displacement_mm",
        "similarity_before",
        "similarity_after",
    ]
    write_table(folder / "fields.csv", header, [["a", 0.5, 0.2, 1.5, 0.1, 0.4], ["b", 1.5, 0.3, 2.5, 0.2, 0.3]])
    jacobian = np.ones(SHAPE, np.float16)
    jacobian[:6] = -1
    sample = {"real_0": image(1).astype(np.uint8), "synthetic_0": image(2).astype(np.uint8)}
    np.savez_compressed(
        folder / "samples.npz", classes_0=TABLE.encode(labels()).astype(np.int16), jacobian_0=jacobian, **sample
    )
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "run")


def scored(tmp_path: Path, stage: str, shifts: tuple[int, int]) -> Path:
    """Two cases segmented with labels moved by ``shifts`` voxels of 1 mm, and their evaluation."""
    predictions, truths = tmp_path / f"pred-{stage}", []
    cases = []
    for number, shift in enumerate(shifts):
        name = f"case{number}.nii.gz"
        write_volume(tmp_path / "images" / name, image(10 + number), GRID)
        write_volume(tmp_path / "truth" / name, labels(), GRID)
        write_volume(predictions / name, labels(shift), GRID)
        truths.append(tmp_path / "truth" / name)
        cases.append(
            {"case": f"case{number}", "input": str(tmp_path / "images" / name), "output": name, "seconds": 2.0}
        )
    (predictions / "segment.json").write_text(json.dumps({"stage": stage, "cases": cases}))
    evaluate(predictions, truths, tmp_path / f"scores-{stage}", workers=1)
    return tmp_path / f"scores-{stage}"


def make_evaluations(tmp_path: Path) -> list[Path]:
    return [scored(tmp_path, "register", (2, 1)), scored(tmp_path, "student", (0, 1))]


@pytest.fixture
def evaluations(tmp_path: Path) -> list[Path]:
    return make_evaluations(tmp_path)


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The page of a finished run with its evaluations, made once."""
    from soloatlas.reporting import render_report

    place = tmp_path_factory.mktemp("rendered")
    evaluations = make_evaluations(place)
    return render_report(make_run(place / "run"), evaluations), evaluations
